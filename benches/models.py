"""A Qwen3-VL of the 2B model's widths on all tokens and on those that pruning leaves, side by side on one processor.

    python benches/models.py --data IMAGES [--vit-layers 12] [--decoder-layers 12] [--dtype auto] [--threads N]
        [--published FOLDER --overlay FOLDER] [--only first,published,photo,train] [--images page,gui,photo]
        [--resume] [--record] [--readme]

The stock class with random weights. `first`: from the bytes of an image file to the first token (decoding,
preprocessing, vision, prefill), and the memory it takes; `published`: the same with the published implementation in
FOLDER and transformers 4.57.6 in the overlay, which has a stock model of its own beside it; `photo`: stock and pruned
in turns on the photograph, which pruning must not slow down; `train`: forward, backward and step of a smaller model.
Every measurement runs in a process of its own (models_worker.py) after a first call on a small image. Each result is
kept as it comes, and `--resume` goes on after the last. `--record` writes all of them to `benches/records`; `--readme`
puts the tables into docs/performance.md. Linux only, as the memory is read from /proc.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixelprune as pp
from PIL import Image
from pixelprune.cli.tables import machine
from pixelprune.markdown import markdown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
IMAGES = {
    "page": "document/pixelprune-doc.jpg",
    "gui": "gui/omniparser-onenote.png",
    "photo": "natural/imagepng-kodim07.png",
}
TITLES = {"page": "document page", "gui": "GUI, 1080p, many flat areas", "photo": "photograph"}
PARTS = ("first", "published", "photo", "train")
THRESHOLDS = (0.0, 0.05)
STOCK, OURS, PUBLISHED = "stock", "pixelprune", "published"
OLD = "4.57.6"
STATE = ROOT / "target" / "bench-models.json"
VOCABULARY, TRAIN_VOCABULARY = 151936, 32768
Job = dict[str, Any]
Result = dict[str, Any]


class Runner:
    """Runs jobs one by one, each in a fresh process, and keeps what they found in a file."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.settings: Job = {"threads": options.threads}
        self.results: dict[str, Result] = {}
        self.started = time.monotonic()
        if options.dtype == "auto":
            found = self._run({"job": "dtype", "threads": options.threads})
            print(f"{found['matmul']}: {found['dtype']}", file=sys.stderr, flush=True)
            self.settings["dtype"] = found["dtype"]
        else:
            self.settings["dtype"] = options.dtype
        wanted = {
            **self.settings,
            "vit_layers": options.vit_layers,
            "decoder_layers": options.decoder_layers,
            "train_layers": options.train_layers,
        }
        self.kept = {"settings": wanted, "results": self.results}
        if options.resume and options.state.exists():
            kept = json.loads(options.state.read_text())
            if kept["settings"] != wanted:
                raise SystemExit(f"{options.state} was made with {kept['settings']}, now they are {wanted}")
            self.results.update(kept["results"])

    def get(self, part: str, image: str, kind: str, threshold: float = 0.0, **settings: Any) -> Result:
        """The result of one measurement, made now or kept from before."""
        name = " ".join((part, image, kind, *([f"{threshold:g}"] if kind in (OURS, PUBLISHED) else [])))
        if name not in self.results:
            path = self.options.data / IMAGES.get(image, image)
            job = {**self.settings, "image": str(path), "kind": kind, "threshold": threshold, **settings}
            old = part == "published"
            start = time.monotonic()
            self.results[name] = found = {**self._run(job, old), "took": time.monotonic() - start}
            self.options.state.parent.mkdir(parents=True, exist_ok=True)
            self.options.state.write_text(json.dumps(self.kept, indent=1) + "\n")
            seconds = f"{found['seconds']:.1f} s" if "seconds" in found else ""
            passed = time.monotonic() - self.started
            print(f"{passed:6.0f} s  {name}: {seconds}", file=sys.stderr, flush=True)
        return self.results[name]

    def _run(self, job: Job, old: bool = False) -> Result:
        first = [str(self.options.overlay)] if old else []
        if job.get("kind") == PUBLISHED:
            first.insert(0, str(self.options.published))
        path = os.pathsep.join([*first, *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, str(HERE / "models_worker.py"), json.dumps(job)],
            env={**os.environ, "PYTHONPATH": path, "TRANSFORMERS_VERBOSITY": "error"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{job} ended with {done.returncode}:\n{done.stderr}")
        result: Result = json.loads(done.stdout.splitlines()[-1])
        return result


# --- measuring -------------------------------------------------------------------------------------------


def measure(runner: Runner) -> None:
    """All that is wanted, one image after the other."""
    options = runner.options
    size = {"vit_layers": options.vit_layers, "decoder_layers": options.decoder_layers, "vocabulary": VOCABULARY}
    small = {"vit_layers": options.train_layers, "decoder_layers": options.train_layers, "vocabulary": TRAIN_VOCABULARY}
    for image in options.images:
        for part, kind in (("first", OURS), ("published", PUBLISHED)):
            if part in options.only:
                given = {"job": "first_token", **size}
                runner.get(part, image, STOCK, rounds=1, **given)
                for threshold in THRESHOLDS:
                    runner.get(part, image, kind, threshold, rounds=options.rounds if kind == OURS else 1, **given)
        if "train" in options.only and (image != "photo" or options.train_photo):
            runner.get("train", image, STOCK, job="train", rounds=1, **small)
            for threshold in THRESHOLDS:
                runner.get("train", image, OURS, threshold, job="train", rounds=1, **small)
        if "photo" in options.only and image == "photo":
            runner.get("turns", image, "all", job="photo", thresholds=THRESHOLDS, rounds=options.turns, **size)


# --- telling ---------------------------------------------------------------------------------------------


def variants(results: dict[str, Result], part: str, image: str, kind: str) -> Iterator[tuple[str, Result]]:
    """The measured variants of an image: heading and result."""
    for threshold in THRESHOLDS:
        name = f"{part} {image} {kind} {threshold:g}"
        if name in results:
            yield f"{kind}, tau {threshold:g}", results[name]


def title(image: str, folder: Path) -> str:
    with Image.open(folder / IMAGES.get(image, image)) as opened:
        return f"{TITLES.get(image, image)}, {opened.width} x {opened.height}"


def faster(stock: float, seconds: float) -> str:
    return f"{seconds:.1f} s ({stock / seconds:.2f} x)"


def first_table(runner: Runner) -> str:
    """From a file to the first token."""
    rows = [["file to first token", "tokens", "all", "of which model", "memory"]]
    for image in runner.options.images:
        for part, kind, release in (("first", OURS, ""), ("published", PUBLISHED, f", transformers {OLD}")):
            stock = runner.results.get(f"{part} {image} {STOCK}")
            if stock is None:
                continue
            rows.append(
                [
                    f"{title(image, runner.options.data)}: stock{release}",
                    str(stock["tokens"]),
                    f"{stock['seconds']:.1f} s",
                    f"{stock['prefill']:.1f} s",
                    f"{stock['memory'] / 1e6:.0f} MB",
                ]
            )
            for heading, found in variants(runner.results, part, image, kind):
                rows.append(
                    [
                        heading,
                        str(found["tokens"]),
                        faster(stock["seconds"], found["seconds"]),
                        faster(stock["prefill"], found["prefill"]),
                        f"{found['memory'] / 1e6:.0f} MB",
                    ]
                )
    return markdown(rows) if len(rows) > 1 else ""


def train_table(runner: Runner) -> str:
    """A training step."""
    rows = [["training step", "tokens", "time", "memory"]]
    for image in runner.options.images:
        stock = runner.results.get(f"train {image} {STOCK}")
        if stock is None:
            continue
        name = title(image, runner.options.data)
        rows.append(
            [f"{name}: stock", str(stock["tokens"]), f"{stock['seconds']:.1f} s", f"{stock['memory'] / 1e9:.1f} GB"]
        )
        for heading, found in variants(runner.results, "train", image, OURS):
            time_taken = faster(stock["seconds"], found["seconds"])
            rows.append([heading, str(found["tokens"]), time_taken, f"{found['memory'] / 1e9:.1f} GB"])
    return markdown(rows) if len(rows) > 1 else ""


def turns_ratios(results: dict[str, Result]) -> dict[str, float]:
    """How long the pruned photograph takes beside the stock one: the median over the turns, by threshold."""
    if "turns photo all" not in results:
        return {}
    seconds = results["turns photo all"]["all"]
    return {
        name: statistics.median(pruned / stock for pruned, stock in zip(times, seconds[STOCK], strict=True))
        for name, times in seconds.items()
        if name != STOCK
    }


def difference(results: dict[str, Result], image: str) -> float | None:
    """The largest difference to the published implementation, as a part of the largest logit kept."""
    found = []
    for threshold in THRESHOLDS:
        names = (f"first {image} {OURS} {threshold:g}", f"published {image} {PUBLISHED} {threshold:g}")
        if all(name in results for name in names):
            ours, theirs = (results[name]["logits"] for name in names)
            found.append(max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / max(map(abs, theirs)))
    return max(found, default=None)


def told(runner: Runner) -> str:
    """How it was measured, and what needs no table."""
    options, settings = runner.options, runner.settings
    sentences = [
        f"Qwen3-VL with the widths of the 2B model and random weights, {options.vit_layers} vision and "
        f"{options.decoder_layers} language layers, {settings['dtype']}, {settings['threads']} threads; training: "
        f"{options.train_layers} + {options.train_layers} layers, a vocabulary of {TRAIN_VOCABULARY}, plain SGD. "
        f"Each ran once after a warm-up; pixelprune to the first token {options.rounds} times (mean). Memory is what a "
        "call takes beside the model. Factors are relative to the stock model of the same transformers."
    ]
    differences = [value for image in options.images if (value := difference(runner.results, image)) is not None]
    if differences:
        sentences.append(f"The logits differ from those of the published implementation by {max(differences):.0e}.")
    for threshold, ratio in turns_ratios(runner.results).items():
        sentences.append(
            f"The photograph at tau {float(threshold):g} takes {ratio:.3f} of the stock pipeline's time "
            f"(median of {options.turns} turns)."
        )
    return "\n".join(sentences)


def write_readme(text: str) -> None:
    readme = ROOT / "docs" / "performance.md"
    before, rest = readme.read_text().split("<!-- models:begin -->")
    after = rest.split("<!-- models:end -->")[1]
    readme.write_text(f"{before}<!-- models:begin -->\n{text}<!-- models:end -->{after}")


def listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of images")
    parser.add_argument("--vit-layers", type=int, default=12)
    parser.add_argument("--decoder-layers", type=int, default=12)
    parser.add_argument("--train-layers", type=int, default=4, help="of both kinds")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float32"), default="auto", help="auto: the faster one")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--published", type=Path, help="folder that holds the published package")
    parser.add_argument("--overlay", type=Path, default=ROOT / ".venv" / "overlays" / OLD, help=f"transformers {OLD}")
    parser.add_argument("--only", type=listed, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--images", type=listed, default=list(IMAGES), help="page, gui, photo, or paths in --data")
    parser.add_argument("--rounds", type=int, default=2, help="how often pixelprune runs to the first token")
    parser.add_argument("--turns", type=int, default=5, help="how often all take turns on the photograph")
    parser.add_argument("--train-photo", action="store_true", help="train on the photograph, too")
    parser.add_argument("--state", type=Path, default=STATE, help="where results are kept as they come")
    parser.add_argument("--resume", action="store_true", help="go on with the results that were kept")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--readme", action="store_true")
    found = parser.parse_args()
    if unknown := set(found.only) - set(PARTS):
        parser.error(f"--only has {', '.join(sorted(unknown))}; expected some of {', '.join(PARTS)}")
    if found.published is None:
        found.only = [part for part in found.only if part != "published"]
    elif not (found.published / "pixelprune" / "methods").is_dir() or not (found.overlay / "transformers").is_dir():
        parser.error(f"{found.published} or {found.overlay} does not hold the published package or transformers {OLD}")
    found.data, found.overlay = found.data.resolve(), found.overlay.resolve()
    found.published = found.published and found.published.resolve()
    return found


def main() -> None:
    options = arguments()
    runner = Runner(options)
    measure(runner)
    made_with = machine(("torch", "transformers"))
    tables = [shown for shown in (first_table(runner), train_table(runner)) if shown]
    text = "\n\n".join([f"{told(runner)}\n{made_with}.", *tables]) + "\n"
    print(text)
    if options.record:
        today = datetime.date.today().isoformat()
        record = {
            "date": today,
            "version": pp.__version__,
            "machine": made_with,
            **runner.kept,
            "images": {name: IMAGES.get(name, name) for name in options.images},
            "rounds": {"first, pixelprune": options.rounds, "photo, turns": options.turns, "all others": 1},
            "photo_ratios": turns_ratios(runner.results),
            "tables": tables,
        }
        target = HERE / "records" / f"models-{today}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(record, indent=1) + "\n")
        print(f"wrote {target.name}")
    if options.readme:
        write_readme(text)


if __name__ == "__main__":
    main()
