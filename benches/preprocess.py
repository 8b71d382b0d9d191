"""Preprocessing, from images to `pixel_values`, beside everything else that does it, in turns in one run.

    python benches/preprocess.py --data IMAGES [--rounds 9] [--every N] [--clock wall] [--record] [--readme]

The measuring is that of `pixelprune bench`; here the other packages join in (each where it is installed:
`pip install torch torchvision transformers hf-processors-rs kornia-rs opencv-python-headless cykooz-resizer`), batches,
two threads, and the memory that the largest image takes. `--clock process` counts processor time: steadier where
others use the machine, too; threads are always compared by the wall clock. `--record` writes the figures to
`benches/records`; `--readme` puts the tables into docs/performance.md.

Before an image is timed, the rows that pixelprune makes of it, by every contestant, are compared with those of
transformers, bit for bit; so is resizing alone with torchvision.
"""

from __future__ import annotations

import os

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # read by kornia-rs when it is imported

import argparse
import datetime
import importlib
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import images
import numpy as np
import pixelprune as pp
from numpy.typing import NDArray
from PIL import Image
from pixelprune import _core
from pixelprune.cli import contestants, timing
from pixelprune.cli.contestants import FAST, PLAIN, Contestant, Jobs, Work
from pixelprune.cli.samples import Sample, read_sample
from pixelprune.cli.tables import COMPARED, groups, machine, table
from pixelprune.cli.timing import Measured
from pixelprune.markdown import markdown

HERE = Path(__file__).resolve().parent
SPEC = pp.VisionSpec.preset("qwen3_vl")
OTHERS = ("hf-processors-rs", "kornia-rs", "opencv-python-headless", "cykooz-resizer")
UNPRUNED, REUSED = "pixelprune, nothing pruned", "pixelprune, nothing pruned, `out` reused"
PRUNED, HALF = "pixelprune, threshold 0", "pixelprune, threshold 0, bfloat16"
RUST = "hf-processors-rs"
BATCH, BATCH_PIXELS = 8, 16_000_000  # images, and pixels of all of them, at most
PAUSE = 0.005  # seconds in which the threads of torch go to sleep
Resize = Callable[[Image.Image, int, int], NDArray[np.uint8]]


# --- other packages --------------------------------------------------------------------------------------


def module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"without {name}: {error}", file=sys.stderr)
        return None


def resizers() -> dict[str, tuple[Resize, bool]]:
    """Bicubic resizing by others: uint8 to uint8, antialiased unless named otherwise; whether it is done in a pool."""
    found: dict[str, tuple[Resize, bool]] = {}
    if torchvision := module("torchvision.transforms.v2.functional"):

        def by_torchvision(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
            pixels = torchvision.pil_to_tensor(image)
            bicubic = torchvision.InterpolationMode.BICUBIC
            resized = torchvision.resize(pixels, [height, width], interpolation=bicubic, antialias=True)
            return np.asarray(resized.permute(1, 2, 0))

        found["torchvision"] = by_torchvision, False
    found["Pillow"] = lambda image, height, width: np.asarray(image.resize((width, height), 3)), False
    if kornia := module("kornia_rs"):
        resize = kornia.imgproc.resize
        found["kornia-rs"] = lambda image, *size: resize(np.asarray(image), size, "bicubic", antialias=True), True
    if cv2 := module("cv2"):
        cv2.setNumThreads(1)
        cubic = cv2.INTER_CUBIC
        found["OpenCV, not antialiased"] = (
            lambda image, height, width: cv2.resize(np.asarray(image), (width, height), interpolation=cubic),
            False,
        )
    if cykooz := module("cykooz_resizer"):
        resizer = cykooz.Resizer()
        options = cykooz.ResizeOptions(cykooz.ResizeAlg.convolution(cykooz.FilterType.catmull_rom))

        def by_cykooz(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
            resized = Image.new("RGB", (width, height))
            resizer.resize_pil(image, resized, options)
            return np.asarray(resized)

        found["cykooz-resizer"] = by_cykooz, False
    return found


def others() -> dict[str, Contestant]:
    """Whole jobs by other packages: images to `pixel_values`."""
    found = {}
    for name, (resize, pool) in resizers().items():
        if name not in ("torchvision", "Pillow"):  # measured as part of transformers, and by pixelprune bench
            found[f"{name}, and numpy"] = contestants.by_hand(SPEC, resize, pool=pool)
    if kornia := module("kornia_rs"):
        found["kornia-rs, bilinear and normalised at once, and numpy"] = Contestant(
            partial(_kornia_fused, kornia.pipeline.resize_normalize_to_tensor), slow=True, pool=True
        )
    if rust := module("hf_processors_rs"):
        found[RUST] = Contestant(partial(_rust, rust, 1, False), pool=True)
    return found


def _rust(package: Any, threads: int, file: bool, sample: Sample) -> Work:
    config = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": SPEC.patch_size,
        "merge_size": SPEC.merge_size,
        "temporal_patch_size": SPEC.temporal_patch_size,
        "size": {"shortest_edge": SPEC.min_pixels, "longest_edge": SPEC.max_pixels},
        "image_mean": SPEC.mean,
        "image_std": SPEC.std,
    }
    processor = package.Qwen2VLImageProcessor.from_dict(config)
    given = sample.files if file else sample.images
    return lambda: processor(given, num_threads=threads)["pixel_values"]


def _kornia_fused(fused: Callable[..., Any], sample: Sample) -> Work:
    def work() -> list[NDArray[np.float32]]:
        parts = []
        for image in sample.images:
            size = pp.smart_resize(image.height, image.width, SPEC)
            planes = fused(np.asarray(image), size, SPEC.mean, SPEC.std)
            parts.append(contestants.cut_patches(planes.transpose(1, 2, 0), SPEC))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)  # type: ignore[return-value]

    return work


def resizing() -> dict[str, Contestant]:
    """Resizing alone."""

    def by(resize: Resize) -> Callable[[Sample], Work]:
        def make(sample: Sample) -> Work:
            [image] = sample.images
            return partial(resize, image, *pp.smart_resize(image.height, image.width, SPEC))

        return make

    found = {name: Contestant(by(resize), pool=pool) for name, (resize, pool) in resizers().items()}
    found["pixelprune"] = Contestant(by(lambda image, *size: _core.resize(np.asarray(image), *size, 1)))
    return found


# --- answers ---------------------------------------------------------------------------------------------


def check(sample: Sample, jobs: Jobs, expected: NDArray[np.float32]) -> None:
    """Stop unless every contestant of ours makes the rows of transformers, of all tokens or of those that it keeps.

    What transformers makes of the file must be those rows, too: else the contestants do not do the same job.
    """
    if "file" in jobs and not np.array_equal(jobs["file"][FAST].make(sample)(), expected):
        raise SystemExit(f"{sample.name}: transformers makes other rows of the file than of the decoded image")
    ours = ((name, c) for members in jobs.values() for name, c in members.items() if name.startswith("pixelprune"))
    for name, contestant in ours:
        batch = contestant.make(sample)()
        if isinstance(batch, pp.Batch):  # not a selection alone
            rows = expected
            if len(batch.pixel_values) < len(rows):
                rows = rows[pp.patch_indices(batch.selections)]
            if not np.array_equal(batch.pixel_values, rows_as(rows, batch.pixel_values.dtype)):
                raise SystemExit(f"{sample.name}: {name} does not make the rows of transformers")


def rows_as(rows: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """float32 rows in the type of ours: themselves, or the bits of bfloat16."""
    if dtype == np.float32:
        return rows
    import torch

    return torch.from_numpy(rows).bfloat16().view(torch.uint16).numpy()  # type: ignore[no-any-return]


def check_resizing(sample: Sample, resizers: dict[str, Contestant]) -> None:
    """Stop unless ours resizes as torchvision."""
    ours, theirs = (resizers[name].make(sample)() for name in ("pixelprune", "torchvision"))
    if not np.array_equal(ours, theirs):
        raise SystemExit(f"{sample.name}: pixelprune does not resize as torchvision")


# --- one run ---------------------------------------------------------------------------------------------


def single_jobs(clock: str) -> Jobs:
    jobs, reason = contestants.jobs(SPEC, (0.0, 0.05))
    if reason:
        raise SystemExit(f"transformers is what everything is compared with, but {reason}")
    patches = jobs["patches"]
    jobs["patches"] = {name: patches.pop(name) for name in (FAST, PLAIN)} | others() | patches
    if rust := module("hf_processors_rs"):
        jobs["file"][RUST] = Contestant(partial(_rust, rust, 1, True), pool=True)
    if clock == "thread":  # which does not see what a pool does
        jobs = {job: {name: c for name, c in members.items() if not c.pool} for job, members in jobs.items()}
    return jobs


def thread_jobs() -> Jobs:
    """One thread and two of the same contestants."""
    stock = contestants.stock_processors(SPEC)[0][FAST]
    found: Jobs = {"one": {}, "two": {}}
    for job, threads in (("one", 1), ("two", 2)):
        members = {
            "what the machine allows: two calls that share nothing": Contestant(partial(_twice, threads)),
            FAST: Contestant(lambda sample: lambda: stock(images=sample.images, return_tensors="pt")),
            UNPRUNED: contestants.ours(SPEC, prune=False, threads=threads),
            PRUNED: contestants.ours(SPEC, threads=threads),
        }
        if rust := module("hf_processors_rs"):
            members[RUST] = Contestant(partial(_rust, rust, threads, False))
        found[job] = {name: replace(c, make=partial(_with_torch, c.make, threads)) for name, c in members.items()}
    return found


def _with_torch(make: Callable[[Sample], Work], threads: int, sample: Sample) -> Work:
    work = make(sample)

    def run() -> Any:
        with timing.torch_threads(threads):
            return work()

    return run


def _twice(threads: int, sample: Sample) -> Work:
    """What the machine allows: two calls that have nothing to do with each other."""
    work = contestants.ours(SPEC, prune=False).make(sample)

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: work(), range(2)))

    return run


class Run(NamedTuple):
    """What was measured: of single images, of batches, and with threads."""

    single: list[Measured]
    batches: list[Measured]
    resized: list[Measured]
    full: list[Measured]
    threads: list[Measured]
    thread_batches: list[Measured]


def run(folder: Path, rounds: int, every: int, clock: str) -> Run:
    found = Run([], [], [], [], [], [])
    single, double = single_jobs(clock), thread_jobs()
    many = {"patches": {name: c for name, c in single["patches"].items() if not c.slow and "reused" not in name}}
    alone = {"resize": {name: c for name, c in resizing().items() if clock != "thread" or not c.pool}}
    worth = {"worth": {name: single["patches"][name] for name in (UNPRUNED, PRUNED)}}
    stock = single["patches"][FAST]

    def measure(sample: Sample, jobs: Jobs, rounds: int = rounds) -> Measured:
        return timing.measure(sample, SPEC, jobs, rounds=rounds, clock=clock)

    def measure_threads(sample: Sample) -> Measured:
        return timing.measure(sample, SPEC, double, rounds=rounds, pause=PAUSE)

    def check_all(sample: Sample, *jobs: Jobs) -> None:
        expected = np.asarray(stock.make(sample)())
        for some in jobs:
            check(sample, some, expected)

    def measure_batch(parts: list[Sample]) -> None:
        together = Sample(f"batch {len(found.batches)}", [], [image for part in parts for image in part.images])
        check_all(together, many, double)
        found.batches.append(measure(together, many))
        found.thread_batches.append(measure_threads(together))

    waiting: list[Sample] = []
    for sample in images.samples(folder, every):
        [image] = sample.images
        check_all(sample, single, double)
        one = measure(sample, single)
        found.single.append(one)
        found.threads.append(measure_threads(sample))
        if pp.smart_resize(image.height, image.width, SPEC) != (image.height, image.width):
            check_resizing(sample, alone["resize"])
            found.resized.append(measure(sample, alone))
        if one.kept == 1:
            found.full.append(measure(sample, worth, 3 * rounds))
        ratio = one.seconds["patches"][FAST] / one.seconds["patches"][PRUNED]
        print(f"{sample.name}: kept {one.kept:.2f}, {ratio:.1f} times as fast", file=sys.stderr, flush=True)
        if one.pixels <= BATCH_PIXELS:
            if len(waiting) == BATCH or one.pixels + sum(map(area, waiting)) > BATCH_PIXELS:
                measure_batch(waiting)
                waiting = []
            waiting.append(sample)
    if waiting:
        measure_batch(waiting)
    return found


def area(sample: Sample) -> int:
    return sum(image.height * image.width for image in sample.images)


# --- memory ----------------------------------------------------------------------------------------------


def memory_table(path: Path) -> tuple[str, dict[str, Any]]:
    """The memory that one call takes beside the decoded image, each in a process of its own."""
    names = [FAST, PLAIN, UNPRUNED, PRUNED, HALF]
    if module("hf_processors_rs"):
        names.insert(2, RUST)
    with Image.open(path) as image:
        size = f"{image.width} x {image.height}"
    peaks: dict[str, Any] = {}
    for name in names:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks[name] = pool.submit(peak, name, path).result()
    rows = [[f"an image of {size} pixels", "memory taken", "of which `pixel_values`"]]
    rows += [[name, f"{most / 1e6:.0f} MB", f"{kept / 1e6:.0f} MB"] for name, (most, kept) in peaks.items()]
    return markdown(rows), {"image": path.name, "size": size, "bytes": peaks}


def peak(name: str, path: Path) -> tuple[int, int]:
    """The bytes by which a call raises the resident memory at its highest, and those of its result.

    Linux only: VmHWM, set back before the call. `ru_maxrss` can't be set back, and a new process inherits its parent's.
    """
    patches = single_jobs("wall")["patches"]
    small = Sample("small", [], [Image.new("RGB", (320, 320), "white")])
    patches[name].make(small)()  # imports what is imported late
    work = patches[name].make(read_sample(path.name, path))
    with timing.torch_threads(1):
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        result = work()
    return resident("VmHWM") - before, (result.pixel_values if isinstance(result, pp.Batch) else result).nbytes


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


# --- telling ---------------------------------------------------------------------------------------------


def ratios(found: Sequence[Measured], above: tuple[str, str], below: tuple[str, str]) -> list[float]:
    """For each image the seconds of one (job, contestant) over those of another."""
    return [one.seconds[above[0]][above[1]] / one.seconds[below[0]][below[1]] for one in found]


def threads_table(found: Run) -> str:
    columns = {"one image": found.threads, f"batches of up to {BATCH}": found.thread_batches}
    columns = {heading: column for heading, column in columns.items() if column}
    rows = [["two threads, times as fast as one", *columns]]
    for name in found.threads[0].seconds["one"]:
        gains = [statistics.median(ratios(column, ("one", name), ("two", name))) for column in columns.values()]
        rows.append([name, *(f"{gain:.2f} x" for gain in gains)])
    return markdown(rows)


def photographs(found: Sequence[Measured]) -> list[Measured]:
    return [one for one in found if Path(one.name).parts[0] == "natural"]


def targets(found: Run) -> list[dict[str, Any]]:
    """What we want to reach, and what we did."""
    fast, pruned, fresh = ("patches", FAST), ("patches", PRUNED), ("patches", UNPRUNED)
    low = [one for one in found.single if one.kept < 0.7]
    wanted = [
        ("threshold 0 / transformers, keep < 70 %", ratios(low, pruned, fast), 1 / 8),
        ("threshold 0 / transformers, photographs", ratios(photographs(found.single), pruned, fast), 1 / 3.5),
        ("nothing pruned / transformers", ratios(found.single, fresh, fast), 1 / 4),
        ("nothing pruned, `out` reused / transformers", ratios(found.single, ("patches", REUSED), fast), 1 / 5),
        ("bfloat16 / float32, threshold 0", ratios(found.single, ("patches", HALF), pruned), 1.0),
        ("file to kept patches / decoding", ratios(found.single, ("file", PRUNED), ("file", contestants.DECODE)), 1.5),
        ("pruning / not, nothing to drop", ratios(found.full, ("worth", PRUNED), ("worth", UNPRUNED)), 1.03),
        ("two threads / one, one image", ratios(found.threads, ("two", PRUNED), ("one", PRUNED)), 1 / 1.7),
        ("two threads / one, batches", ratios(found.thread_batches, ("two", PRUNED), ("one", PRUNED)), 1 / 1.7),
    ]
    return [
        {"what": what, "median": statistics.median(values), "wanted": limit, "worst": max(values), "of": len(values)}
        for what, values, limit in wanted
        if values
    ]


def told(found: Run) -> str:
    """The two ratios that need no table."""
    half = statistics.median(ratios(found.single, ("patches", HALF), ("patches", PRUNED)))
    text = f"bfloat16 takes {half:.2f} of the time of float32."
    if found.full:
        cost = statistics.median(ratios(found.full, ("worth", PRUNED), ("worth", UNPRUNED)))
        text += (
            f" Where nothing can be dropped ({len(found.full)} images), pruning takes {cost:.2f} of the time without."
        )
    return text


def tables(found: Run) -> list[str]:
    columns = groups(found.single)
    if natural := photographs(found.single):
        columns[f"{len(natural)} photographs"] = natural
    batched = {f"{len(found.batches)} batches": found.batches} if found.batches else {}
    shown = [table("patches", {**columns, **batched}), table("file", columns), threads_table(found)]
    if found.resized:
        resized = {f"the {len(found.resized)} that are resized": found.resized}
        shown.append(table("resize", resized, "resizing alone, bicubic, times as fast", faster=True))
    return [*shown, told(found)]


def write_readme(text: str) -> None:
    readme = HERE.parent / "docs" / "performance.md"
    before, rest = readme.read_text().split("<!-- preprocess:begin -->")
    after = rest.split("<!-- preprocess:end -->")[1]
    readme.write_text(f"{before}<!-- preprocess:begin -->\n{text}<!-- preprocess:end -->{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of images; photographs in its folder natural")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--every", type=int, default=1, help="take every Nth image only")
    parser.add_argument("--clock", choices=timing.CLOCKS, default="wall")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--readme", action="store_true")
    arguments = parser.parse_args()

    found = run(arguments.data, arguments.rounds, arguments.every, arguments.clock)
    memory, peaks = memory_table(arguments.data / max(found.single, key=lambda one: one.pixels).name)
    made_with = machine((*COMPARED, *OTHERS))
    clock = {"wall": "wall-clock time", "thread": "processor time of the thread", "process": "processor time"}
    how = f"{len(found.single)} images for qwen3_vl, {arguments.rounds} rounds, {clock[arguments.clock]}."
    shown = [*tables(found), memory]
    text = "\n\n".join([f"{how}\n{made_with}.", *shown]) + "\n"
    print(text)
    reached = targets(found)
    rows = [["target", "median", "wanted", "", "worst", "of"]]
    for goal in reached:
        verdict = "met" if goal["median"] <= goal["wanted"] else "MISSED"
        figures = [f"{goal[key]:.3f}" for key in ("median", "wanted", "worst")]
        rows.append([goal["what"], *figures[:2], verdict, figures[2], str(goal["of"])])
    print(markdown(rows))
    today = datetime.date.today().isoformat()
    if arguments.record:
        record = {
            "date": today,
            "version": pp.__version__,
            "machine": made_with,
            "clock": arguments.clock,
            "threads_clock": "wall",
            "rounds": arguments.rounds,
            "every": arguments.every,
            "tables": shown,
            "targets": reached,
            "memory": peaks,
            "measured": {name: [asdict(one) for one in column] for name, column in found._asdict().items()},
        }
        target = HERE / "records" / f"preprocess-{today}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(record, indent=1) + "\n")
        print(f"wrote {target.name}")
    if arguments.readme:
        write_readme(text)


if __name__ == "__main__":
    main()
