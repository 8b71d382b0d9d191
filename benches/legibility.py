"""What readers still read on pruned pages: OCR of the kept tokens, of the reconstruction and of the page shrunk.

    python benches/legibility.py --data IMAGES [--pages 20] [--screens 10] [--readers tesseract,pp-ocr]
        [--thresholds 0,0.02,0.05,0.1,0.2] [--out FOLDER] [--record] [--readme]

The readers are tesseract (`apt-get install tesseract-ocr`) and PP-OCR (`pip install rapidocr onnxruntime`); each is
left out, with a line that says so, where it is not installed. The pages are the first images, in the order of their
names, in folders named `document` (the screenshots: `gui`) that a reader reads reliably, and the sample page of the
package. Reliably means: it finds at least 200 characters, and it finds the same, but for 5 % (screenshots: 15 %), when
the page is moved by one pixel. Pages of more than 8 megapixels are left out.

Every page has the size that Qwen3-VL's processor gives it. A reader gets
* the kept tokens only: dropped tokens are painted in the page's most frequent colour, which for most pages is its
  paper. Grey would draw boxes that the reader takes for content, and that no model sees.
* the reconstruction, in which the source stands for every dropped token: what the kept tokens determine.
* the page shrunk to as many tokens, as `max_pixels` does it, and enlarged again to its old size, so that the
  readers' preferred size of letters is no disadvantage.

The character error rate (CER) is the edit distance to what the same reader reads on the whole page, divided by the
length of that; runs of white space count as one space. Where a reader takes lines in another order, the CER is large
though little is missing, so the words that are lost are counted, too, in any order. Every reading is kept in FOLDER
(`target/legibility`), by a hash of the pixels, so that a second run goes on where the first was stopped. `--record`
writes the figures, without the text, to `benches/records`, a file for each reader; `--readme` puts the tables into
docs/answers.md.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import images
import numpy as np
import pixelprune as pp
from numpy.typing import NDArray
from PIL import Image
from pixelprune.cli.samples import read_sample
from pixelprune.cli.tables import machine
from pixelprune.markdown import markdown

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "target" / "legibility"
SPEC = pp.VisionSpec.preset("qwen3_vl")
FOLDERS = {"documents": "document", "screenshots": "gui"}
DRAWN = "sample page"
THRESHOLDS = (0.0, 0.02, 0.05, 0.1, 0.2)
METHODS: dict[str, dict[str, Any]] = {
    "pred_2d": {},
    "pred_2d, protected": {"protect": "content"},
    "either": {"method": "either"},
    "either, protected": {"method": "either", "protect": "content"},
    "random": {"method": "random"},  # as many as pred_2d
}
KEPT, RECONSTRUCTION, SHRUNK = "kept tokens only", "reconstruction", "page shrunk"
CHARACTERS, MOST_PIXELS = 200, 8_000_000
UNSTEADY = {"documents": 0.05, "screenshots": 0.15, DRAWN: 0.05}
Pixels = NDArray[np.uint8]


# --- readers ---------------------------------------------------------------------------------------------


class Reader(NamedTuple):
    """Something that reads an image; `key` names it, its version and its settings."""

    name: str
    key: str
    read: Callable[[Pixels], str]


def tesseract() -> Reader | None:
    if not shutil.which("tesseract"):
        print("without tesseract: it is not installed", file=sys.stderr)
        return None
    version = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]

    def read(pixels: Pixels) -> str:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PPM")
        command = ["tesseract", "stdin", "stdout", "-l", "eng", "--dpi", "150"]  # else it guesses, image by image
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(command, input=file.getvalue(), capture_output=True, env=environment, check=True)
        return done.stdout.decode()

    return Reader("tesseract", f"tesseract {version}, eng", read)


def pp_ocr() -> Reader | None:
    try:
        rapidocr = importlib.import_module("rapidocr")
    except ImportError as error:
        print(f"without PP-OCR: {error}", file=sys.stderr)
        return None
    settings = {
        "Global.use_cls": False,  # pages stand upright
        "Global.log_level": "critical",
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    engine = rapidocr.RapidOCR(params=settings)
    config = engine.cfg.Rec
    version = f"{config.ocr_version.value} {config.model_type.value}, rapidocr {metadata.version('rapidocr')}"

    def read(pixels: Pixels) -> str:
        found = engine(np.ascontiguousarray(pixels[..., ::-1]))  # BGR
        return "\n".join(found.txts or ())

    return Reader("pp-ocr", version, read)


READERS = {"tesseract": tesseract, "pp-ocr": pp_ocr}


class Cache:
    """The readings of one reader, each in a file named by a hash of the pixels."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        self.reader = reader
        self.folder = folder / reader.key
        self.folder.mkdir(parents=True, exist_ok=True)
        self.new = 0

    def read(self, pixels: Pixels) -> str:
        """What the reader reads, runs of white space as one space."""
        name = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        file = self.folder / f"{name}.txt"
        if not file.exists():
            text = " ".join(self.reader.read(pixels).split())
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(text, encoding="utf-8")
            part.replace(file)  # a reading is there as a whole or not at all
            self.new += 1
        return file.read_text(encoding="utf-8")


@lru_cache(1024)  # many readings are the same
def edits(first: str, second: str) -> int:
    """The least number of characters to insert, delete or replace (Levenshtein's distance)."""
    codes = np.array([ord(c) for c in second], np.int32)
    steps = np.arange(len(second) + 1)
    row = steps
    for i, character in enumerate(first, 1):
        changed = np.minimum(row[1:] + 1, row[:-1] + (codes != ord(character)))
        row = np.minimum.accumulate(np.concatenate([[i], changed]) - steps) + steps  # insertions
    return int(row[-1])


def cer(reading: str, reference: str) -> float:
    """The character error rate; above 1 where more was read than there is."""
    return edits(reading, reference) / len(reference)


def lost(reading: str, reference: str) -> float:
    """The share of words that are not read any more, in whatever order the others are."""
    words = Counter(reference.split())
    return (words - Counter(reading.split())).total() / words.total()


# --- pages and what is shown of them ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Page:
    """An image as its file holds it, and as the model's processor resizes it."""

    name: str
    original: Image.Image
    pixels: Pixels

    @property
    def tokens(self) -> int:
        return count_tokens(self.pixels)

    @cached_property
    def paper(self) -> Pixels:
        """The most frequent colour, uint8 (3,)."""
        red, green, blue = np.moveaxis(self.pixels.astype(np.int64), -1, 0)
        colour = int(np.bincount((red << 16 | green << 8 | blue).ravel()).argmax())
        return np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.uint8)


def count_tokens(pixels: Pixels) -> int:
    height, width = map(int, pixels.shape[:2])
    return height * width // SPEC.token_size**2


def as_page(name: str, source: Path | bytes) -> Page:
    [image] = read_sample(name, source).images
    return Page(name, image, np.asarray(pp.resize_image(image, SPEC)))


def sample_page() -> Page:
    return as_page(DRAWN, (files("pixelprune") / "data" / "page.png").read_bytes())


def pages(folder: Path, kind: str) -> Iterator[Page]:
    """The images of one kind by name, but for those that are too large and those that can't be read."""
    for name in images.stills(folder):
        if FOLDERS[kind] in name.parts[:-1]:
            try:
                page = as_page(str(name), folder / name)
            except pp.PixelPruneError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            if page.pixels.shape[0] * page.pixels.shape[1] <= MOST_PIXELS:
                yield page


def moved(pixels: Pixels) -> Pixels:
    """The page moved down and to the right by one pixel: how much a reader's answer varies by itself."""
    return np.pad(pixels, ((1, 0), (1, 0), (0, 0)), "edge")[:-1, :-1]


def kept_only(page: Page, selection: pp.Selection) -> Pixels:
    """The page with its dropped tokens painted in the most frequent colour of the page."""
    side = SPEC.token_size
    mask = selection.mask[0].repeat(side, axis=0).repeat(side, axis=1)
    return np.where(mask[..., None], page.pixels, page.paper)


def shrunk(page: Page, kept: int) -> tuple[Pixels, int]:
    """The page at the size of at most `kept` tokens, enlarged again to its own; and how many tokens that were."""
    if kept == page.tokens:
        return page.pixels, kept
    most = kept * SPEC.token_size**2
    small = pp.resize_image(page.original, replace(SPEC, max_pixels=most, min_pixels=min(SPEC.min_pixels, most)))
    height, width = page.pixels.shape[:2]
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)), count_tokens(np.asarray(small))


class Shown(NamedTuple):
    """An image for the readers: what is shown, and of how many tokens it is made."""

    what: str
    method: str
    threshold: float
    tokens: int
    pixels: Pixels


def shown(page: Page, threshold: float) -> Iterator[Shown]:
    """All images that are read of a page at one threshold."""
    for method, settings in METHODS.items():
        selection = pp.prune(page.pixels, SPEC, threshold=threshold, **settings)
        yield Shown(KEPT, method, threshold, selection.kept, kept_only(page, selection))
        if selection.source is not None:
            yield Shown(RECONSTRUCTION, method, threshold, selection.kept, selection.reconstruct(page.pixels))
        small, tokens = shrunk(page, selection.kept)
        yield Shown(SHRUNK, method, threshold, tokens, small)


# --- one run ---------------------------------------------------------------------------------------------


class Rate(NamedTuple):
    """The error rates of one reading: of characters, and of words in any order."""

    what: str
    method: str
    threshold: float
    tokens: int
    cer: float
    lost: float


@dataclass(frozen=True)
class Measured:
    """The figures of one page with one reader."""

    reader: str
    kind: str
    page: str
    tokens: int
    characters: int
    moved: float
    rates: list[Rate]


def steady(cache: Cache, kind: str, page: Page) -> tuple[str, float] | None:
    """What is read on the whole page, and the error rate when it is moved; None if it is not read reliably."""
    reference = cache.read(page.pixels)
    if len(reference) < CHARACTERS:
        return None
    rate = cer(cache.read(moved(page.pixels)), reference)
    return (reference, rate) if rate <= UNSTEADY[kind] else None


def measure(cache: Cache, kind: str, page: Page, thresholds: list[float]) -> Measured | None:
    found = steady(cache, kind, page)
    if found is None:
        return None
    reference, rate = found
    rates = []
    for threshold in thresholds:
        for image in shown(page, threshold):
            reading = cache.read(image.pixels)
            rates.append(Rate(*image[:4], cer(reading, reference), lost(reading, reference)))
    return Measured(cache.reader.key, kind, page.name, page.tokens, len(reference), rate, rates)


def run(cache: Cache, folder: Path, counts: dict[str, int], thresholds: list[float]) -> list[Measured]:
    wanted: list[tuple[str, int, Iterator[Page]]] = [(DRAWN, 1, iter([sample_page()]))]
    wanted += [(kind, count, pages(folder, kind)) for kind, count in counts.items()]
    found = []
    for kind, count, some in wanted:
        done = 0
        while done < count and (page := next(some, None)):
            start, before = time.monotonic(), cache.new
            one = measure(cache, kind, page, thresholds)
            if one is None:
                print(f"{cache.reader.name}, {page.name}: not read reliably", file=sys.stderr, flush=True)
                continue
            done += 1
            found.append(one)
            spent = f"{cache.new - before} new readings, {time.monotonic() - start:.0f} s"
            print(f"{cache.reader.name}, {kind} {done}/{count}, {page.name}: {spent}", file=sys.stderr, flush=True)
    return found


# --- telling ---------------------------------------------------------------------------------------------


def table(found: list[Measured], thresholds: list[float]) -> str:
    """Median and worst error rate on one kind of page."""
    kind = found[0].kind if len(found) > 1 else found[0].kind.removesuffix("s")
    rows = [[f"{len(found)} {kind}", "tau", "tokens", KEPT, "words lost", RECONSTRUCTION, SHRUNK]]
    rows.append(["whole page, moved by a pixel", "", "100 %", cell([one.moved for one in found]), "", "", ""])
    every = [(one.tokens, rate) for one in found for rate in one.rates]
    for method in METHODS:
        for threshold in thresholds:
            of = {
                what: [(total, rate) for total, rate in every if rate[:3] == (what, method, threshold)]
                for what in (KEPT, RECONSTRUCTION, SHRUNK)
            }
            errors = {what: cell([rate.cer for _, rate in some]) for what, some in of.items()}
            tokens = f"{100 * statistics.median(rate.tokens / total for total, rate in of[KEPT]):.0f} %"
            words = cell([rate.lost for _, rate in of[KEPT]])
            row = [method, f"{threshold:g}", tokens, errors[KEPT], words, errors[RECONSTRUCTION], errors[SHRUNK]]
            rows.append(row)
    return markdown(rows)


def cell(rates: list[float]) -> str:
    """Median and worst, in per cent."""
    if not rates:
        return ""
    median = f"{100 * statistics.median(rates):.1f}"
    return median if len(rates) == 1 else f"{median} ({100 * max(rates):.1f})"


def tables(found: list[Measured], thresholds: list[float]) -> str:
    """The tables of one reader, one for each kind of page."""
    kinds = dict.fromkeys(one.kind for one in found)
    parts = [table([one for one in found if one.kind == kind], thresholds) for kind in kinds]
    return "\n\n".join([f"Read by {found[0].reader}. CER in per cent, median (worst):", *parts])


def write_record(reader: Reader, found: list[Measured], text: str, made_with: str) -> None:
    today = datetime.date.today().isoformat()
    record = {
        "date": today,
        "version": pp.__version__,
        "machine": made_with,
        "reader": reader.key,
        "tables": text,
        "measured": [{**asdict(one), "rates": [rate._asdict() for rate in one.rates]} for one in found],
    }
    target = HERE / "records" / f"legibility-{reader.name}-{today}.json"
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.name}")


def write_readme(reader: Reader, text: str) -> None:
    page = HERE.parent / "docs" / "answers.md"
    begin, end = (f"<!-- {reader.name}:{place} -->" for place in ("begin", "end"))
    before, rest = page.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def names(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(READERS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}; expected some of {', '.join(READERS)}")
    return text.split(",")


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images in folders document and gui")
    parser.add_argument("--pages", type=int, default=20, help="how many documents")
    parser.add_argument("--screens", type=int, default=10, help="how many screenshots")
    parser.add_argument("--readers", type=names, default=list(READERS), help="which readers, if they are installed")
    parser.add_argument("--thresholds", type=numbers, default=list(THRESHOLDS))
    parser.add_argument("--out", type=Path, default=OUT, help="folder in which the readings are kept")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--readme", action="store_true")
    arguments = parser.parse_args()

    readers = [reader for name in arguments.readers if (reader := READERS[name]())]
    if not readers:
        raise SystemExit("no reader is installed: apt-get install tesseract-ocr, or pip install rapidocr onnxruntime")
    counts = {"documents": arguments.pages, "screenshots": arguments.screens}
    made_with = machine(("rapidocr", "onnxruntime"))
    for reader in readers:
        found = run(Cache(arguments.out, reader), arguments.data, counts, arguments.thresholds)
        text = f"{made_with}.\n\n{tables(found, arguments.thresholds)}"
        print(f"{text}\n")
        if arguments.record:
            write_record(reader, found, text, made_with)
        if arguments.readme:
            write_readme(reader, text)


if __name__ == "__main__":
    main()
