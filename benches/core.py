"""Selection against one memcpy of the same image, interleaved in one run.

    python benches/core.py --data IMAGES [--published FOLDER] [--rounds 15] [--record] [--readme]

Every figure is a ratio to ``numpy.copyto`` of the same bytes (1.00 = as long as copying the image once),
each the median over the rounds; the table gives the median and the worst over the images. ``--record``
writes the figures to ``benches/records``; ``--readme`` puts the table into docs/performance.md.

Before anything is timed, the tokens that it keeps are compared with those of `pixelprune.reference`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
from images import load
from numpy.typing import NDArray
from pixelprune import reference
from pixelprune.cli.tables import cpu_name

HERE = Path(__file__).resolve().parent
LARGE = 3_000_000  # bytes; below, fixed costs decide
CASES: dict[str, dict[str, Any]] = {
    "pred_2d, tau 0": {},
    "either, tau 0": {"method": "either"},
    "unique": {"method": "unique"},
    "pred_2d, max, tau 0.02": {"threshold": 0.02},
    "pred_2d, max, tau 0.05": {"threshold": 0.05},
    "pred_2d, max, tau 0.1": {"threshold": 0.1},
    "pred_2d, max, tau 0.3": {"threshold": 0.3},
    "either, max, tau 0.05": {"method": "either", "threshold": 0.05},
    "pred_2d, mae, tau 0.02": {"metric": "mae", "threshold": 0.02},
    "pred_2d, rmse, tau 0.02": {"metric": "rmse", "threshold": 0.02},
    "pred_2d, max, tau 0.05, open loop": {"threshold": 0.05, "anchored": False},
    "raster, tau 0": {"method": "raster"},
    "serpentine, tau 0": {"method": "serpentine"},
}


def check(image: NDArray[np.uint8], spec: pp.VisionSpec, case: str, works: dict[str, Callable[[], Any]]) -> None:
    """Stop unless every work keeps the tokens of the image that the reference keeps."""
    mask, _ = reference.prune(image, spec, **CASES[case])
    for name, work in works.items():
        if not np.array_equal(work(), np.flatnonzero(mask)):
            raise SystemExit(f"{name} does not keep the tokens of the reference, {case}")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turns so that a slow moment hits all of them."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(timed(work))
    return {name: statistics.median(t) for name, t in times.items()}


def keep_numpy(image: NDArray[np.uint8], side: int) -> NDArray[np.intp]:
    """pred_2d at tau 0 in plain numpy, for comparison."""
    rows, cols = image.shape[0] // side, image.shape[1] // side
    tiles = np.ascontiguousarray(image.reshape(rows, side, cols, side * 3).swapaxes(1, 2)).reshape(rows, cols, -1)
    left = np.zeros((rows, cols), bool)
    up = np.zeros((rows, cols), bool)
    left[:, 1:] = (tiles[:, 1:] == tiles[:, :-1]).all(-1)
    up[1:] = (tiles[1:] == tiles[:-1]).all(-1)
    use_up = np.zeros((rows, cols), bool)
    use_up[1:, 1:] = up[1:, :-1] & ~left[:-1, 1:]
    use_up[:, 0] = True
    return np.flatnonzero(~np.where(use_up, up, left))


def pixel_values(image: NDArray[np.uint8], spec: pp.VisionSpec) -> NDArray[np.float32]:
    """The processor's output for an image: float32, block order, the frame twice."""
    p, m = spec.patch_size, spec.merge_size
    h, w = image.shape[0] // p, image.shape[1] // p
    patches = image.reshape(h // m, m, p, w // m, m, p, 3).transpose(0, 3, 1, 4, 6, 2, 5).reshape(h * w, 3, 1, p, p)
    values = (patches.astype(np.float32) / 255 - 0.5) / 0.5
    return np.repeat(values, spec.temporal_patch_size, axis=2).reshape(h * w, -1)


def published_selector(folder: Path) -> Any:
    """The published selectors, loaded under another name than their own."""
    init = folder / "pixelprune" / "methods" / "__init__.py"
    sys.modules["published"] = package = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("published", None)  # type: ignore[arg-type]
    )
    package.__path__ = [str(folder / "pixelprune")]
    spec = importlib.util.spec_from_file_location(
        "published.methods", init, submodule_search_locations=[str(init.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["published.methods"] = methods = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(methods)
    return methods.get_selector


def uint8_times(image: NDArray[np.uint8], spec: pp.VisionSpec, rounds: int) -> dict[str, float]:
    copy = np.empty_like(image)
    works: dict[str, Callable[[], object]] = {"memcpy": lambda: np.copyto(copy, image)}
    for case, settings in CASES.items():
        works[case] = partial(prune_keep, image, spec, settings)
        check(image, spec, case, {case: works[case]})
    return interleaved(works, rounds)


def prune_keep(image: NDArray[np.uint8], spec: pp.VisionSpec, settings: dict[str, Any]) -> NDArray[np.int64]:
    return pp.prune(image, spec, **settings).keep


def prune_values_keep(
    values: NDArray[np.float32], grid: list[list[int]], spec: pp.VisionSpec, settings: dict[str, Any]
) -> NDArray[np.int64]:
    return pp.prune_pixel_values(values, grid, spec, **settings)[0].keep


def float_times(image: NDArray[np.uint8], spec: pp.VisionSpec, rounds: int, published: Path | None) -> dict[str, float]:
    """``pixel_values`` against a memcpy of the values that are compared: the first frame of every patch."""
    values = pixel_values(image, spec)
    grid = [[1, image.shape[0] // spec.patch_size, image.shape[1] // spec.patch_size]]
    read = np.ascontiguousarray(values[:, : values.shape[1] // spec.temporal_patch_size])
    copy = np.empty_like(read)
    cases = {"pixel_values, tau 0": "pred_2d, tau 0", "pixel_values, max, tau 0.05": "pred_2d, max, tau 0.05"}
    works: dict[str, Callable[[], object]] = {"float memcpy": lambda: np.copyto(copy, read)}
    for name, case in cases.items():
        works[name] = partial(prune_values_keep, values, grid, spec, CASES[case])
        check(image, spec, case, {name: works[name]})
    times = interleaved(works, max(3, rounds // 2))
    if published is not None:
        import torch

        selector = published_selector(published)("pred_2d", method="max", threshold=0.0)
        tensor, grids = torch.from_numpy(values), torch.tensor(grid)
        theirs = {"published, tau 0": lambda: selector.select(tensor, grids)[0].numpy()}
        check(image, spec, "pred_2d, tau 0", theirs)
        times |= interleaved(theirs, 3)
    return times


def measure(data: Path | None, rounds: int, published: Path | None) -> dict[str, dict[str, Any]]:
    spec = pp.VisionSpec.preset("qwen3_vl")
    found: dict[str, dict[str, Any]] = {}
    for name, image in load(data, spec):
        times = uint8_times(image, spec, rounds)
        by_hand = {"numpy, tau 0": partial(keep_numpy, image, spec.token_size)}
        check(image, spec, "pred_2d, tau 0", by_hand)
        times |= interleaved(by_hand, 3)
        times |= float_times(image, spec, rounds, published)
        found[name] = {"bytes": image.nbytes, "retained": pp.prune(image, spec).retained, "seconds": times}
        ours, copy = times["pred_2d, tau 0"] * 1e3, times["memcpy"] * 1e3
        print(f"{name}: memcpy {copy:.2f} ms, pred_2d {ours:.2f} ms", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    names = [name for name in next(iter(found.values()))["seconds"] if "memcpy" not in name]
    lines = ["| selection | median | worst above 3 MB |", "|---|---|---|"]
    for name in names:
        base = "float memcpy" if name.startswith("pixel_values") else "memcpy"
        ratios = [(e["seconds"][name] / e["seconds"][base], e["bytes"], n) for n, e in found.items()]
        large = [ratio for ratio, size, _ in ratios if size > LARGE] or [0.0]
        lines.append(f"| {name} | {statistics.median(r for r, _, _ in ratios):.2f} | {max(large):.2f} |")
    return "\n".join(lines)


def threads_table(data: Path | None) -> str:
    """How much faster two threads are, on a batch and on large images."""
    spec = pp.VisionSpec.preset("qwen3_vl")
    images = [image for _, image in load(data, spec)]
    large = [image for image in images if image.nbytes > 20_000_000]
    lines = ["| two threads against one | times as fast |", "|---|---|"]

    def gain(call: Callable[..., Any], what: Any, settings: dict[str, Any]) -> float:
        works = {str(n): partial(call, what, spec, threads=n, **settings) for n in (1, 2)}
        one, two = (result if isinstance(result := work(), list) else [result] for work in works.values())
        if not all(np.array_equal(a.keep, b.keep) for a, b in zip(one, two, strict=True)):
            raise SystemExit("two threads keep other tokens than one")
        times = interleaved(works, 11)
        return times["1"] / times["2"]

    halves = np.array_split(np.concatenate([image.ravel() for image in images])[: 1 << 28].view(np.uint64), 2)

    def read(pool: ThreadPoolExecutor) -> None:
        list(pool.map(np.bitwise_or.reduce, halves))

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:
        times = interleaved({"1": partial(read, one), "2": partial(read, two)}, 11)
    lines.append(f"| what the memory allows: plain reading | {times['1'] / times['2']:.2f} |")
    for case in ("pred_2d, tau 0", "pred_2d, max, tau 0.05"):
        lines.append(f"| batch of {len(images)} images, {case} | {gain(pp.prune_batch, images, CASES[case]):.2f} |")
    for case in ("pred_2d, tau 0", "unique") if large else ():
        gains = [gain(pp.prune, image, CASES[case]) for image in large]
        spread = f"{statistics.median(gains):.2f} (from {min(gains):.2f} to {max(gains):.2f})"
        lines.append(f"| one image, {len(large)} above 20 MB, {case} | {spread} |")
    return "\n".join(lines)


def small_table(rounds: int) -> str:
    """What a call costs beyond a copy where the image is small."""
    spec = pp.VisionSpec.preset("qwen3_vl")
    flat = np.full((224, 224, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, flat.shape, np.uint8)
    lines = ["| 224 x 224 | microseconds more than copyto |", "|---|---|"]
    for name, image in (("flat", flat), ("noise", noise)):
        copy = np.empty_like(image)
        works: dict[str, Callable[[], object]] = {"copy": partial(np.copyto, copy, image)}
        for case in ("pred_2d, tau 0", "either, tau 0", "unique", "pred_2d, max, tau 0.05"):
            works[case] = partial(prune_keep, image, spec, CASES[case])
            check(image, spec, case, {case: works[case]})
        times = interleaved(works, 100 * rounds)
        lines += [f"| {name}, {case} | {(times[case] - times['copy']) * 1e6:.1f} |" for case in works if case != "copy"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images (default: a few drawn ones)")
    parser.add_argument("--published", type=Path, help="folder that holds the published package")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--readme", action="store_true")
    arguments = parser.parse_args()

    found = measure(arguments.data, arguments.rounds, arguments.published)
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    machine = f"{cpu_name()}, {os.cpu_count()} cores, {', '.join(pp.cpu_features())}; {versions}"
    tables = [table(found), threads_table(arguments.data), small_table(arguments.rounds)]
    text = f"{len(found)} images, {machine}.\n\n" + "\n\n".join(tables) + "\n"
    print(text)
    today = datetime.date.today().isoformat()
    if arguments.record:
        record = {"date": today, "machine": machine, "version": pp.__version__, "tables": tables, "images": found}
        target = HERE / "records" / f"core-{today}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(record, indent=1) + "\n")
        print(f"wrote {target.name}")
    if arguments.readme:
        readme = HERE.parent / "docs" / "performance.md"
        before, rest = readme.read_text().split("<!-- bench:begin -->")
        after = rest.split("<!-- bench:end -->")[1]
        readme.write_text(f"{before}<!-- bench:begin -->\n{text}<!-- bench:end -->{after}")


if __name__ == "__main__":
    main()
