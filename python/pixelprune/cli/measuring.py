"""How long preprocessing takes beside what else does it: the measuring behind ``pixelprune bench``.

Everything runs on the same decoded images in one process, on one thread, in turns, so that a slow moment of the
machine hits all alike; a figure is the median over the rounds. Three jobs are measured (`jobs`):

* ``"patches"``: from a decoded RGB image to ``pixel_values``;
* ``"file"``: from the bytes of an image file to ``pixel_values``, beside Pillow's decoding of them alone;
* ``"selection"``: `prune` alone on the resized image, beside one copy of it.
"""

from __future__ import annotations

import importlib
import io
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..arguments import as_int, escaped, shown
from ..errors import PixelPruneError, PixelPruneWarning
from ..images.batch import Batch
from ..images.decode import load_image, resize_image
from ..images.preprocessing import preprocess
from ..selection.pruning import prune
from ..selection.result import patch_indices
from ..selection.settings import PruneSettings
from ..spec import VisionSpec, smart_resize

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "thread": time.thread_time,
    "process": time.process_time,
}
"""Wall-clock time; processor time of the calling thread; processor time of all threads. On a machine that others use
too, processor time is the steadier one. That of the calling thread says nothing about work done in a pool."""

FAST = "transformers, torchvision"
PLAIN = "transformers, Pillow"
HAND = "Pillow and numpy, by hand"
DECODE = "decoding alone, Pillow"
COPY = "one copy of the picture"
_SLOW_ROUNDS = 3

Work = Callable[[], Any]
Name = TypeVar("Name", bound=Hashable)


class Sample(NamedTuple):
    """Pictures for one call: their name, the bytes of their files, and the decoded RGB images."""

    name: str
    files: list[bytes]
    images: list[Image.Image]


@dataclass(frozen=True)
class Contestant:
    """Something that does a job.

    Attributes:
        make: given a sample, returns the work to be timed; what it does itself is not timed.
        slow: few rounds are enough.
        pool: works in threads of its own.
    """

    make: Callable[[Sample], Work]
    slow: bool = False
    pool: bool = False


Jobs = dict[str, dict[str, Contestant]]


@dataclass(frozen=True)
class Measured:
    """What a sample took.

    Attributes:
        name: the sample's.
        pixels: of all its images, as decoded.
        kept: share of the tokens that `prune` keeps at threshold 0.
        seconds: for each job the median seconds of each contestant.
        equal: for each contestant of ``"patches"`` whether its values are the first contestant's, bit for bit
            (those of the patches that it keeps); None where it gives another type.
    """

    name: str
    pixels: int
    kept: float
    seconds: dict[str, dict[str, float]]
    equal: dict[str, bool | None]


# --- contestants -----------------------------------------------------------------------------------------


def jobs(spec: VisionSpec, thresholds: Sequence[float] = (0.0,)) -> tuple[Jobs, str]:
    """Return the contestants of each job, and why transformers is not among them ("" if it is).

    The first contestant of a job is the one that the others are compared with.

    Args:
        spec: what the images are prepared for.
        thresholds: to prune with.

    Raises:
        PixelPruneError: a threshold is not in [0, 1].
        TypeError: a threshold is not a number.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> contestants, _ = bench.jobs(pp.VisionSpec.preset("paddleocr_vl"))
        >>> list(contestants["patches"])[0], list(contestants["selection"])
        ('Pillow and numpy, by hand', ['one copy of the picture', 'pixelprune, threshold 0'])
    """
    for threshold in thresholds:
        PruneSettings(threshold=threshold)
    stock, reason = stock_processors(spec)
    found: Jobs = {"patches": {}, "file": {DECODE: Contestant(_decoding)}, "selection": {}}
    patches, file = found["patches"], found["file"]
    found["selection"][COPY] = Contestant(partial(_copying, spec))
    for name, processor in stock.items():
        patches[name] = Contestant(partial(_stock, processor), slow=name == PLAIN)
    patches[HAND] = by_hand(spec, _resize_by_pillow)
    if stock:
        file[FAST] = Contestant(partial(_stock_file, stock[FAST]))
    patches["pixelprune, nothing pruned"] = ours(spec, prune=False)
    patches["pixelprune, nothing pruned, `out` reused"] = ours(spec, reuse=True, prune=False)
    for threshold in thresholds:
        name = f"pixelprune, threshold {threshold:g}"
        patches[name] = ours(spec, threshold=threshold)
        file[name] = ours(spec, file=True, threshold=threshold)
        found["selection"][name] = Contestant(partial(_selecting, spec, threshold))
    patches["pixelprune, threshold 0, `out` reused"] = ours(spec, reuse=True)
    patches["pixelprune, threshold 0, bfloat16"] = ours(spec, dtype="bfloat16")
    return found, reason


def ours(spec: VisionSpec, *, reuse: bool = False, file: bool = False, **settings: Any) -> Contestant:
    """Return `preprocess` on one thread, with the settings given.

    Args:
        spec: what the images are prepared for.
        reuse: write into the same ``out`` every time.
        file: start from the files' bytes.
        **settings: of `preprocess`.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> sample = bench.Sample("white", [], [Image.new("RGB", (640, 480), "white")])
        >>> bench.ours(spec, threshold=0.05).make(sample)()
        Batch(1 images, kept 1 of 300 tokens, pixel_values float32 (4, 1536))
    """

    def make(sample: Sample) -> Work:
        given = {"threads": 1, **settings}
        if reuse:
            sizes = [smart_resize(image.height, image.width, spec) for image in sample.images]
            rows = sum(height * width for height, width in sizes) // spec.patch_size**2
            given["out"] = np.empty((rows, *spec.patch_shape), np.float32)
        return partial(preprocess, sample.files if file else sample.images, spec, **given)

    return Contestant(make)


def by_hand(
    spec: VisionSpec, resize: Callable[[Image.Image, int, int], NDArray[np.uint8]], *, pool: bool = False
) -> Contestant:
    """Return what a program does without a processor: some library's resizing, the rest in numpy.

    Args:
        spec: what the images are prepared for.
        resize: given an image, height and width, returns its pixels (height, width, 3).
        pool: `resize` works in threads of its own.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> def resize(image, height, width):
        ...     return np.asarray(image.resize((width, height)))
        >>> hand = bench.by_hand(pp.VisionSpec.preset("qwen3_vl"), resize)
        >>> hand.make(bench.Sample("white", [], [Image.new("RGB", (640, 481))]))().shape
        (1200, 1536)
    """

    def make(sample: Sample) -> Work:
        def work() -> NDArray[np.float32]:
            parts = []
            for image in sample.images:
                parts.append(to_patches(resize(image, *smart_resize(image.height, image.width, spec)), spec))
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

        return work

    return Contestant(make, slow=True, pool=pool)


def to_patches(pixels: NDArray[np.uint8], spec: VisionSpec) -> NDArray[np.float32]:
    """Return the ``pixel_values`` of a resized image, in plain numpy.

    Args:
        pixels: uint8 (height, width, channels), sides multiples of the token side.
        spec: how they are normalised and cut.

    Returns:
        float32 (patches, *spec.patch_shape).

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> pixels = np.arange(64 * 96 * 3, dtype=np.uint8).reshape(64, 96, 3)
        >>> batch = pp.preprocess([pixels], "qwen3_vl", prune=False, resample="none")
        >>> np.array_equal(bench.to_patches(pixels, pp.VisionSpec.preset("qwen3_vl")), batch.pixel_values)
        True
    """
    values = pixels.astype(np.float32)
    values -= np.float32(255) * np.asarray(spec.mean, np.float32)
    values /= np.float32(255) * np.asarray(spec.std, np.float32)
    return cut_patches(values, spec)


def cut_patches(values: NDArray[np.float32], spec: VisionSpec) -> NDArray[np.float32]:
    """Return the patches of a normalised image.

    Args:
        values: float32 (height, width, channels), sides multiples of the token side.
        spec: how it is cut.

    Returns:
        float32 (patches, *spec.patch_shape).

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> bench.cut_patches(np.zeros((64, 96, 3), np.float32), pp.VisionSpec.preset("qwen3_vl")).shape
        (24, 1536)
    """
    p, m = spec.patch_size, spec.merge_size
    height, width, channels = values.shape
    cut = values.reshape(height // (p * m), m, p, width // (p * m), m, p, channels)
    order = (0, 1, 3, 4) if spec.patch_order == "raster" else (0, 3, 1, 4)
    if spec.patch_layout == "ppc":
        return cut.transpose(*order, 2, 5, 6).reshape(-1, *spec.patch_shape)
    blocks = cut.transpose(*order, 6, 2, 5)
    patches = np.empty((*blocks.shape[:5], spec.temporal_patch_size, p, p), np.float32)
    patches[:] = blocks[..., None, :, :]
    return patches.reshape(-1, *spec.patch_shape)


def stock_processors(spec: VisionSpec) -> tuple[dict[str, Any], str]:
    """Return the image processors of transformers for a spec, by name, or none and the reason.

    Args:
        spec: their settings.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> bench.stock_processors(pp.VisionSpec.preset("hunyuan_vl"))
        ({}, 'its comparison knows the Qwen families only, which this spec is not of')
    """
    if (spec.resize_rule, spec.patch_order, spec.patch_layout) != ("qwen", "block", "ctpp"):
        return {}, "its comparison knows the Qwen families only, which this spec is not of"
    try:
        importlib.import_module("torchvision")
        transformers = importlib.import_module("transformers")
        plain = "Qwen2VLImageProcessorPil" if hasattr(transformers, "Qwen2VLImageProcessorPil") else None
        names = {
            FAST: "Qwen2VLImageProcessor" if plain else "Qwen2VLImageProcessorFast",
            PLAIN: plain or "Qwen2VLImageProcessor",
        }
        settings = {
            "patch_size": spec.patch_size,
            "merge_size": spec.merge_size,
            "temporal_patch_size": spec.temporal_patch_size,
            "size": {"shortest_edge": spec.min_pixels, "longest_edge": spec.max_pixels},
            "image_mean": list(spec.mean),
            "image_std": list(spec.std),
        }
        return {name: getattr(transformers, kind)(**settings) for name, kind in names.items()}, ""
    except (ImportError, AttributeError, RuntimeError) as error:  # missing, too old, or not made for each other
        return {}, f"it can't be used here: {' '.join(str(error).split())[:200]}"


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch, where it has been imported, use that many threads.

    Args:
        count: of them.

    Example:
        >>> from pixelprune.cli import measuring as bench
        >>> with bench.torch_threads(1):
        ...     pass
    """
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    try:
        if torch:
            torch.set_num_threads(count)
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


def _stock(processor: Any, sample: Sample) -> Work:
    return lambda: processor(images=sample.images, return_tensors="pt")["pixel_values"]


def _stock_file(processor: Any, sample: Sample) -> Work:
    # Not every release of transformers lays alpha on white itself, so all contestants get images that are opaque.
    return lambda: processor(images=[load_image(data, alpha="white") for data in sample.files], return_tensors="pt")[
        "pixel_values"
    ]


def _decoding(sample: Sample) -> Work:
    def decode() -> list[Image.Image]:
        return [Image.open(io.BytesIO(data)).convert("RGB") for data in sample.files]

    return decode


def _resize_by_pillow(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _resized(sample: Sample, spec: VisionSpec) -> NDArray[np.uint8]:
    return np.array(resize_image(sample.images[0], spec))


def _copying(spec: VisionSpec, sample: Sample) -> Work:
    pixels = _resized(sample, spec)
    return partial(np.copyto, np.empty_like(pixels), pixels)


def _selecting(spec: VisionSpec, threshold: float, sample: Sample) -> Work:
    return partial(prune, _resized(sample, spec), spec, threshold=threshold, threads=1)


# --- measuring -------------------------------------------------------------------------------------------


def find_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files in a folder and below it, sorted, or the one file that it is.

    Args:
        folder: a folder or an image.

    Raises:
        PixelPruneError: there is no image in it.
        OSError: it does not exist.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.cli import measuring as bench
        >>> Image.new("RGB", (64, 64)).save("black.png")
        >>> [path.name for path in bench.find_pictures(".")]
        ['black.png']
        >>> Path("black.png").unlink()
    """
    top = Path(folder)
    if top.is_file():
        return [top]
    os.scandir(top).close()  # raises what is wrong with it
    found = [path for path in sorted(top.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise PixelPruneError(
            f"{escaped(str(top))}: no images; expected files named {', '.join('*' + s for s in SUFFIXES)}"
        )
    return found


def read_sample(name: str, source: Path | bytes) -> Sample:
    """Return the sample of one image.

    Args:
        name: what to call it.
        source: the file, or its bytes.

    Raises:
        PixelPruneError: the image can't be read.
        OSError: the file can't be read.

    Example:
        >>> from pixelprune.cli import measuring as bench
        >>> file = io.BytesIO()
        >>> Image.new("L", (64, 32)).save(file, "PNG")
        >>> bench.read_sample("black", file.getvalue()).images[0].mode
        'RGB'
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Sample(name, [data], [load_image(data, alpha="white")])  # as `preprocess` does by default
        except PixelPruneError as error:
            raise PixelPruneError(f"{escaped(name)}: {error}") from error


def measure(
    sample: Sample, spec: VisionSpec, contestants: Jobs, *, rounds: int, clock: str = "wall", pause: float = 0.0
) -> Measured:
    """Measure all contestants on one sample, in turns.

    Args:
        sample: the images.
        spec: what they are prepared for.
        contestants: of each job, as `jobs` returns them.
        rounds: times that each is run and timed; the slow ones fewer times.
        clock: one of `CLOCKS`.
        pause: seconds to wait before each run.

    Raises:
        PixelPruneError: `preprocess` can't work with an image; the message names it.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> sample = bench.Sample("white", [], [Image.new("RGB", (256, 256), "white")])
        >>> found = bench.measure(sample, spec, {"patches": {"ours": bench.ours(spec)}}, rounds=1)
        >>> found.kept, list(found.seconds["patches"])
        (0.015625, ['ours'])
    """
    with warnings.catch_warnings(), torch_threads(1):
        warnings.simplefilter("ignore")  # of alpha and the like: it is about time here
        try:
            kept = preprocess(sample.images, spec, dtype="uint8", copies="single", threads=1).selections
        except PixelPruneError as error:
            raise PixelPruneError(f"{escaped(sample.name)}: {error}") from error
        works = {(job, name): c.make(sample) for job, members in contestants.items() for name, c in members.items()}
        equal = _warm_up(works)
        counts = {(j, n): min(rounds, _SLOW_ROUNDS) if contestants[j][n].slow else rounds for j, n in works}
        medians = take_turns(works, counts, clock, pause)
    seconds: dict[str, dict[str, float]] = {job: {} for job in contestants}
    for (job, name), median in medians.items():
        seconds[job][name] = median
    pixels = sum(image.height * image.width for image in sample.images)
    share = sum(s.kept for s in kept) / sum(s.total for s in kept)
    return Measured(sample.name, pixels, share, seconds, equal)


def measure_all(
    pictures: Sequence[tuple[str, Path | bytes]],
    spec: VisionSpec,
    contestants: Jobs,
    *,
    rounds: int,
    clock: str = "wall",
) -> Iterator[Measured]:
    """Measure images one after the other; those that can't be worked with are left out, with a warning.

    Args:
        images: their names, and their files or the bytes of those.
        spec: what they are prepared for.
        contestants: of each job, as `jobs` returns them.
        rounds: as for `measure`.
        clock: as for `measure`.

    Raises:
        PixelPruneError: none of them can be worked with (the last one's error, without a warning if there is one only).
        OSError: a file can't be read.

    Warns:
        PixelPruneWarning: an image is left out.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.cli import measuring as bench
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (256, 256)).save(file, "PNG")
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> contestants = {"patches": {"ours": bench.ours(spec)}}
        >>> [one.name for one in bench.measure_all([("black", file.getvalue())], spec, contestants, rounds=1)]
        ['black']
    """
    failed, good = None, 0
    for name, source in pictures:
        try:
            measured = measure(read_sample(name, source), spec, contestants, rounds=rounds, clock=clock)
        except PixelPruneError as error:
            if len(pictures) == 1:
                raise
            failed = error
            warnings.warn(f"left out: {error}", PixelPruneWarning, stacklevel=2)
        else:
            good += 1
            yield measured
    if failed and not good:
        raise failed


def take_turns(
    works: Mapping[Name, Work], rounds: Mapping[Name, int], clock: str = "wall", pause: float = 0.0
) -> dict[Name, float]:
    """Return the median seconds of each work, run in turns.

    Args:
        works: what to run.
        rounds: how often each.
        clock: one of `CLOCKS`.
        pause: seconds to wait before each run, for what the one before left running in other threads.

    Raises:
        PixelPruneError: there is no such clock, or a number of rounds is below 1.
        TypeError: a number of rounds is not an integer.

    Example:
        >>> from pixelprune.cli import measuring as bench
        >>> sorted(bench.take_turns({"a": list, "b": dict}, {"a": 3, "b": 1}))
        ['a', 'b']
    """
    if clock not in CLOCKS:
        raise PixelPruneError(f"clock is {shown(clock)}; expected one of {', '.join(CLOCKS)}")
    for name in works:
        if as_int(rounds[name], "rounds", "an integer of at least 1") < 1:
            raise PixelPruneError(f"rounds is {shown(rounds[name])}; expected at least 1")
    now = CLOCKS[clock]
    times: dict[Name, list[float]] = {name: [] for name in works}
    for turn in range(max(rounds[name] for name in works)):
        for name, work in works.items():
            if turn < rounds[name]:
                time.sleep(pause)
                start = now()
                result = work()
                times[name].append(now() - start)
                del result  # not timed
    return {name: statistics.median(taken) for name, taken in times.items()}


def _warm_up(works: dict[tuple[str, str], Work]) -> dict[str, bool | None]:
    """Run each work once, and compare the patches with those of the first contestant."""
    expected: NDArray[Any] | None = None
    equal: dict[str, bool | None] = {}
    for (job, name), work in works.items():
        result = work()
        if job == "patches":
            if expected is None:
                expected = _values(result)
            equal[name] = _same(result, expected)
    return equal


def _values(result: Any) -> NDArray[Any]:
    return result.pixel_values if isinstance(result, Batch) else np.asarray(result)


def _same(result: Any, expected: NDArray[Any]) -> bool | None:
    values = _values(result)
    if values.dtype != expected.dtype:
        return None
    if isinstance(result, Batch) and len(values) < len(expected):
        expected = expected[patch_indices(result.selections, flat=True)]
    return np.array_equal(values, expected)
