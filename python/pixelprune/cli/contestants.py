"""What ``pixelprune bench`` measures: each way to do a job, as something that can be called and timed.

There are three jobs (`jobs`), and everyone who does one is given the same images:

* ``"patches"``: from a decoded RGB image to ``pixel_values``;
* ``"file"``: from the bytes of an image file to ``pixel_values``, beside Pillow's decoding of them alone;
* ``"selection"``: `prune` alone on the resized image, beside one copy of it.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.decode import load_image
from ..images.preprocessing import preprocess
from ..images.resizing import resize_image
from ..selection.pruning import prune
from ..selection.settings import PruneSettings
from ..spec import VisionSpec, smart_resize
from .samples import Sample

FAST = "transformers, torchvision"
PLAIN = "transformers, Pillow"
HAND = "Pillow and numpy, by hand"
DECODE = "decoding alone, Pillow"
COPY = "one copy of the image"

Work = Callable[[], Any]


@dataclass(frozen=True)
class Contestant:
    """One way to do a job.

    Attributes:
        make: takes a sample and returns the call that is timed; `make` itself is not timed.
        slow: it is run in fewer rounds.
        pool: it uses threads of its own.
    """

    make: Callable[[Sample], Work]
    slow: bool = False
    pool: bool = False


Jobs = dict[str, dict[str, Contestant]]


def jobs(spec: VisionSpec, thresholds: Sequence[float] = (0.0,)) -> tuple[Jobs, str]:
    """Return the contestants of each job, and why transformers is not among them ("" if it is).

    The first contestant of a job is the one that the others are compared with.

    Args:
        spec: what the images are prepared for.
        thresholds: each is measured.

    Raises:
        PixelPruneError: a threshold is not in [0, 1].
        TypeError: a threshold is not a number.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.cli import contestants
        >>> jobs, _ = contestants.jobs(pp.VisionSpec.preset("paddleocr_vl"))
        >>> list(jobs["patches"])[0], list(jobs["selection"])
        ('Pillow and numpy, by hand', ['one copy of the image', 'pixelprune, threshold 0'])
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
    """Return `preprocess` on one thread, with the given settings.

    Args:
        spec: what the images are prepared for.
        reuse: write into the same ``out`` every time.
        file: start from the files' bytes.
        **settings: of `preprocess`.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.cli import contestants, samples
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> sample = samples.Sample("white", [], [Image.new("RGB", (640, 480), "white")])
        >>> contestants.ours(spec, threshold=0.05).make(sample)()
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
        >>> from pixelprune.cli import contestants, samples
        >>> def resize(image, height, width):
        ...     return np.asarray(image.resize((width, height)))
        >>> hand = contestants.by_hand(pp.VisionSpec.preset("qwen3_vl"), resize)
        >>> hand.make(samples.Sample("white", [], [Image.new("RGB", (640, 481))]))().shape
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
        >>> from pixelprune.cli import contestants
        >>> pixels = np.arange(64 * 96 * 3, dtype=np.uint8).reshape(64, 96, 3)
        >>> batch = pp.preprocess([pixels], "qwen3_vl", prune=False, resample="none")
        >>> np.array_equal(contestants.to_patches(pixels, pp.VisionSpec.preset("qwen3_vl")), batch.pixel_values)
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
        >>> from pixelprune.cli import contestants
        >>> contestants.cut_patches(np.zeros((64, 96, 3), np.float32), pp.VisionSpec.preset("qwen3_vl")).shape
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
        >>> from pixelprune.cli import contestants
        >>> contestants.stock_processors(pp.VisionSpec.preset("hunyuan_vl"))
        ({}, 'the comparison covers the Qwen families only, and this spec is of another one')
    """
    if (spec.resize_rule, spec.patch_order, spec.patch_layout) != ("qwen", "block", "ctpp"):
        return {}, "the comparison covers the Qwen families only, and this spec is of another one"
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
