"""From what a caller passes as an image to RGB pixels and the size they will be resized to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import _core
from ..arguments import attribute
from ..arrays import ARRAYS, as_pixels
from ..caller import warn
from ..errors import PixelPruneError, about_image
from ..frames import Frames, holds_all
from ..spec import VisionSpec, smart_resize
from .decode import CheckSize, Encoded, decode, take
from .options import PreprocessOptions, Resample
from .workers import Task, in_order

WHITE = (255, 255, 255)
AHEAD = 8
"""Images per thread that may be read ahead: enough that one large image does not hold up the other threads."""

_CHANNELS = (1, 3, 4)

Taken: TypeAlias = "NDArray[np.uint8] | Encoded"
"""An image that any thread may pass to `prepare_image`. Made by `Intake.take`."""


class PreparedImage(NamedTuple):
    """RGB pixels and the size that they will have."""

    pixels: NDArray[np.uint8]
    """(height, width, 3): of the original size, or of the final one if Pillow has resized them already."""
    original: tuple[int, int]
    """Height and width as loaded."""
    height: int
    width: int
    resampled: str
    """What changes the size: ``"torchvision"``, ``"pillow"``, ``"pad"`` or ``"none"``."""


def iterate(images: Any) -> Iterable[Any]:
    """Return ``images``, refusing what is a single image and not a collection of them."""
    single = isinstance(images, (str, bytes, bytearray, memoryview)) or hasattr(images, "read")
    if single or hasattr(images, "getbands") or not hasattr(images, "__iter__"):
        raise TypeError(f"images is a {type(images).__name__}; expected a sequence of images")
    if is_array(images) and len(shape := images.shape) < 4 and images.dtype != object:
        raise TypeError(f"images is one array of shape {tuple(shape)}; expected a sequence of images: put it in a list")
    return images  # type: ignore[no-any-return]


class Intake:
    """Takes images in the thread that iterates them, and leaves to workers what any thread may do.

    Args:
        sources: the collection of images. If it holds all of them at the same time (`holds_all`), they are borrowed.
        options: how they are preprocessed.
        waits: whether further images are taken before the work on one is finished.
    """

    def __init__(self, sources: Any, options: PreprocessOptions, *, waits: bool) -> None:
        self._check = _size_check(options)
        self._channels_first = options.channels_first
        self._copies = waits and not holds_all(sources)
        self._frames = Frames()

    def take(self, source: Any) -> Taken:
        """Return what a worker can decode: a copy if the source may change before that."""
        if is_array(source):
            first = self._channels_first
            pixels = as_pixels(source, is_channels_first(source) if first is None else first)
            return pixels.copy() if self._copies else pixels
        self._frames.meet(source)
        taken = take(source, self._check)
        if self._copies:
            if isinstance(taken.image, Image.Image):
                return taken._replace(image=taken.image.copy())
            if isinstance(taken.image, (bytearray, memoryview)):
                return taken._replace(image=bytes(taken.image))
        return taken


def prepare_images(sources: Iterable[Any], options: PreprocessOptions, threads: int) -> list[PreparedImage]:
    """Decode images, several at a time; errors and warnings name the image.

    The error is that of the first bad image; no image after it is started. Warnings are given in the calling
    thread, because warning filters are shared by all threads.
    """
    intake = Intake(sources, options, waits=True)
    if isinstance(sources, (list, tuple)) and sum(not is_array(source) for source in sources) < 2:
        threads = 1

    def tasks() -> Iterator[Task[tuple[PreparedImage, list[str]]]]:
        for i, source in enumerate(sources):
            try:
                taken = intake.take(source)
            except (TypeError, PixelPruneError) as error:
                raise about_image(i, error) from error
            yield partial(prepared, i, taken)

    def prepared(i: int, taken: Taken) -> tuple[PreparedImage, list[str]]:
        try:
            return prepare_image(taken, options)
        except (TypeError, PixelPruneError) as error:
            raise about_image(i, error) from error

    with contextlib.closing(in_order(tasks(), threads, AHEAD * threads)) as results:
        images = list(results)
    for i, (_, notes) in enumerate(images):
        for note in notes:
            warn(f"images[{i}]: {note}")
    return [image for image, _ in images]


def prepare_image(taken: Taken, options: PreprocessOptions) -> tuple[PreparedImage, list[str]]:
    """Return the image, decoded but not resized (unless by Pillow), and its warnings."""
    image, notes = _rgb(taken, options)
    original = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
    height, width, resampled = _target_size(original, options.spec, options.resample)
    if resampled == "pillow":
        whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image = whole.resize((width, height), Image.Resampling.BICUBIC)
    pixels = _core.pixels_of_pillow(image) if isinstance(image, Image.Image) else image
    return PreparedImage(np.asarray(image) if pixels is None else pixels, original, height, width, resampled), notes


def is_array(source: Any) -> bool:
    """Whether an image is given as pixels (an array or a tensor), not as something to decode."""
    if isinstance(source, (np.ndarray, Image.Image, bytes)):
        return isinstance(source, np.ndarray)
    return any(hasattr(source, name) for name in ARRAYS)  # on a Pillow image, reading the first would copy its pixels


def is_channels_first(image: Any) -> bool:
    """Decide by the shape, as the processors of transformers do: the first dimension that is 1, 3 or 4 is channels.

    Raises:
        PixelPruneError: neither the first nor the last dimension is.

    Warns:
        PixelPruneWarning: both are.
    """
    shape = tuple(attribute(image, "shape") or ())
    if len(shape) != 3:
        return False
    first, last = shape[0] in _CHANNELS, shape[2] in _CHANNELS
    if first and last:
        warn(
            f"an array has shape {shape}: its first and its last dimension could both be channels; the first is taken, "
            "as in transformers (channels_first=False takes the last)"
        )
    if not (first or last):
        raise PixelPruneError(f"an array has shape {shape}; expected 1, 3 or 4 channels, first or last")
    return first


def _rgb(taken: Taken, options: PreprocessOptions) -> tuple[Image.Image | NDArray[np.uint8], list[str]]:
    """Return the image in three channels, and its warnings."""
    if isinstance(taken, np.ndarray):
        if taken.ndim == 3 and taken.shape[2] == 3:
            return taken, []
        if taken.size and taken.ndim == 3 and taken.shape[2] == 4:
            if options.background == WHITE:
                rgb, opacity = taken[:, :, :3], taken[:, :, 3:]
                opaque = (opacity == 255).all()
                by_alpha = _on_white(options.resample == "pillow")
                return np.ascontiguousarray(rgb) if opaque else by_alpha[opacity, rgb], []
            taken = Encoded("the array", Image.fromarray(np.ascontiguousarray(taken)))
            return decode(taken, options.background)
        return np.repeat(taken.reshape(*taken.shape[:2], 1), 3, axis=2), []
    image = taken.image
    if isinstance(image, Image.Image) and image.mode == "RGB" and "transparency" not in image.info:
        return image, []  # nothing to convert
    return decode(taken, options.background, _size_check(options))


@lru_cache(maxsize=2)
def _on_white(rounded: bool) -> NDArray[np.uint8]:
    """Return (256, 256), indexed by alpha and level: the level on white, as the processors compute it for arrays.

    Their Pillow backends round to nearest. With torchvision they scale to float32 and back, and truncate. (Pillow
    images are composited by Pillow in both, which rounds in a third way.)
    """
    opacity, x = np.ogrid[:256, :256]
    mixed: NDArray[Any]
    share: NDArray[Any]
    if rounded:
        share = opacity / 255
        mixed = np.round(share * x + (1 - share) * 255)
    else:
        one, unit = np.float32(1), np.float32(1 / 255)
        share = opacity.astype(np.float32) * unit
        mixed = (x.astype(np.float32) * unit * share + (one - share)) * np.float32(255 + 1 - 1e-3)
    return mixed.astype(np.uint8)


def _size_check(options: PreprocessOptions) -> CheckSize:
    """Return a check that refuses the heights and widths that `_target_size` refuses."""
    return partial(_target_size, spec=options.spec, resample=options.resample)


def _target_size(original: tuple[int, int], spec: VisionSpec, resample: Resample) -> tuple[int, int, str]:
    """Return the height and width that an image is resized to, and what resizes it."""
    height, width = original
    if min(original) < 1:
        raise PixelPruneError(f"the image is {height} x {width} (height x width); expected at least 1 x 1 pixels")
    if resample in ("none", "pad"):
        side = spec.token_size
        padded = (-(-height // side) * side, -(-width // side) * side)
        if resample == "none" and padded != original:
            raise PixelPruneError(
                f"the image is {height} x {width} (height x width); expected multiples of the token side, {side} "
                "pixels, with resample='none'"
            )
        if resample == "none" or smart_resize(*padded, spec) == padded:
            return *padded, "none" if padded == original else "pad"
        resample = "torchvision"
    target = smart_resize(height, width, spec)
    return *target, "none" if target == original else resample
