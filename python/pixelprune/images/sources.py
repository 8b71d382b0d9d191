"""Pictures of any kind on their way to patches: decoded, made RGB, and the size they are to have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import _core
from ..arrays import ARRAYS, as_pixels
from ..caller import warn
from ..errors import PixelPruneError
from ..frames import Frames, holds_all
from ..spec import VisionSpec, smart_resize
from .decode import CheckSize, Encoded, decode, take
from .options import Resample, Steps
from .workers import Task, in_order

WHITE = (255, 255, 255)
AHEAD = 8
"""Images a thread that may be read before their turn: enough that a large one does not hold up the other threads."""

Taken: TypeAlias = "NDArray[np.uint8] | Encoded"
"""An image that any thread may make a `Picture` of. Made by `Intake.take`."""


class Picture(NamedTuple):
    """RGB pixels, the size they are to have, and how they get there."""

    pixels: NDArray[np.uint8]
    original: tuple[int, int]
    height: int
    width: int
    resampled: str


def iterate(images: Any) -> Iterable[Any]:
    """Return ``images`` if it is a collection of images and not a single one."""
    single = isinstance(images, (str, bytes, bytearray, memoryview)) or hasattr(images, "read")
    if single or hasattr(images, "getbands") or not hasattr(images, "__iter__"):
        raise TypeError(f"images is a {type(images).__name__}; expected a sequence of images")
    if is_array(images) and len(shape := images.shape) < 4 and images.dtype != object:
        raise TypeError(f"images is one array of shape {tuple(shape)}; expected a sequence of images: put it in a list")
    return images  # type: ignore[no-any-return]


class Intake:
    """Takes images as they are met, in the thread that iterates them, and leaves to workers what they may do.

    Args:
        sources: what the images come from. Those of a collection that holds them all (`holds_all`) are borrowed.
        steps: what will be done to them.
        waits: whether other images are met before the work on one is done.
    """

    def __init__(self, sources: Any, steps: Steps, *, waits: bool) -> None:
        self._check = _size_check(steps)
        self._channels_first = steps.channels_first
        self._copies = waits and not holds_all(sources)
        self._frames = Frames()

    def take(self, source: Any) -> Taken:
        """Return what a worker decodes: a copy where the source may change before that."""
        if is_array(source):
            pixels = as_pixels(source, self._channels_first)
            return pixels.copy() if self._copies else pixels
        self._frames.meet(source)
        taken = take(source, self._check)
        if self._copies:
            if isinstance(taken.image, Image.Image):
                return taken._replace(image=taken.image.copy())
            if isinstance(taken.image, (bytearray, memoryview)):
                return taken._replace(image=bytes(taken.image))
        return taken


def open_pictures(sources: Iterable[Any], steps: Steps, threads: int) -> list[Picture]:
    """Decode images, several at a time; errors and warnings name the one they are about.

    The error is that of the first bad image, and those after it are not begun. Warnings are given by the
    thread that asks: their filters belong to all threads together.
    """
    intake = Intake(sources, steps, waits=True)
    if isinstance(sources, (list, tuple)) and sum(not is_array(source) for source in sources) < 2:
        threads = 1

    def tasks() -> Iterator[Task[tuple[Picture, list[str]]]]:
        for i, source in enumerate(sources):
            try:
                taken = intake.take(source)
            except (TypeError, PixelPruneError) as error:
                raise _naming(i, error) from error
            yield partial(opened, i, taken)

    def opened(i: int, taken: Taken) -> tuple[Picture, list[str]]:
        try:
            return open_picture(taken, steps)
        except (TypeError, PixelPruneError) as error:
            raise _naming(i, error) from error

    with contextlib.closing(in_order(tasks(), threads, AHEAD * threads)) as results:
        pictures = list(results)
    for i, (_, notes) in enumerate(pictures):
        for note in notes:
            warn(f"images[{i}]: {note}")
    return [picture for picture, _ in pictures]


def _naming(i: int, error: Exception) -> Exception:
    """The same error, saying which of the images it is about."""
    return type(error)(f"images[{i}]: {error}")


def open_picture(taken: Taken, steps: Steps) -> tuple[Picture, list[str]]:
    """The picture's pixels, decoded but not resized (unless by Pillow), and what its owner should know about them."""
    image, notes = _rgb(taken, steps)
    original = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
    height, width, resampled = _target_size(original, steps.spec, steps.resample)
    if resampled == "pillow":
        whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image = whole.resize((width, height), Image.Resampling.BICUBIC)
    pixels = _core.pixels_of_pillow(image) if isinstance(image, Image.Image) else image
    return Picture(np.asarray(image) if pixels is None else pixels, original, height, width, resampled), notes


def is_array(source: Any) -> bool:
    """Whether an image is given as pixels, not as something to decode: an array, or a tensor."""
    if isinstance(source, (np.ndarray, Image.Image, bytes)):
        return isinstance(source, np.ndarray)
    return any(hasattr(source, name) for name in ARRAYS)  # of a Pillow image the first would be all of its pixels


def _rgb(taken: Taken, steps: Steps) -> tuple[Image.Image | NDArray[np.uint8], list[str]]:
    """The image in three channels."""
    if isinstance(taken, np.ndarray):
        if taken.ndim == 3 and taken.shape[2] == 3:
            return taken, []
        if taken.size and taken.ndim == 3 and taken.shape[2] == 4:
            if steps.background == WHITE:
                rgb, opacity = taken[:, :, :3], taken[:, :, 3:]
                opaque = (opacity == 255).all()
                by_alpha = _on_white(steps.resample == "pillow")
                return np.ascontiguousarray(rgb) if opaque else by_alpha[opacity, rgb], []
            taken = Encoded("the array", Image.fromarray(np.ascontiguousarray(taken)))
            return decode(taken, steps.background)
        return np.repeat(taken.reshape(*taken.shape[:2], 1), 3, axis=2), []
    image = taken.image
    if isinstance(image, Image.Image) and image.mode == "RGB" and "transparency" not in image.info:
        return image, []  # with nothing to convert
    return decode(taken, steps.background, _size_check(steps))


@lru_cache(maxsize=2)
def _on_white(rounded: bool) -> NDArray[np.uint8]:
    """Return (256, 256), by alpha and level: what the processors make of an array's level on white.

    Their Pillow backends round; with torchvision they scale to float32 and back and cut fractions off. (For
    a Pillow image both ask Pillow, which rounds in a third way.)
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


def _size_check(steps: Steps) -> CheckSize:
    """What refuses a height and width that `_target_size` refuses."""
    return partial(_target_size, spec=steps.spec, resample=steps.resample)


def _target_size(original: tuple[int, int], spec: VisionSpec, resample: Resample) -> tuple[int, int, str]:
    """Return the height and width that an image gets, and what has to be done to it."""
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
