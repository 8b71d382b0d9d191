"""Pictures of any kind on their way to patches: decoded, made RGB, and the size they are to have."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import _core
from .arrays import as_pixels
from .errors import PixelPruneError, PixelPruneWarning
from .load import read_image
from .spec import VisionSpec, smart_resize
from .steps import Resample, Steps

WHITE = (255, 255, 255)


class Picture(NamedTuple):
    """RGB pixels, the size they are to have, and how they get there."""

    pixels: NDArray[np.uint8]
    original: tuple[int, int]
    height: int
    width: int
    resampled: str


def iterate(images: Any) -> Iterable[Any]:
    """Return ``images`` if it is a collection of pictures and not a single one."""
    single = isinstance(images, (str, bytes, bytearray, memoryview)) or hasattr(images, "read")
    if single or hasattr(images, "getbands") or not hasattr(images, "__iter__"):
        raise TypeError(f"images is a {type(images).__name__}; expected a sequence of pictures")
    if isinstance(images, np.ndarray) and images.dtype != object and images.ndim < 4:
        raise TypeError(
            f"images is one array of shape {images.shape}; expected a sequence of pictures: put it in a list"
        )
    return images  # type: ignore[no-any-return]


def open_pictures(sources: list[Any], steps: Steps, threads: int) -> list[Picture]:
    """Decode pictures, several at a time; errors and warnings name the one they are about.

    Warnings are given to the caller's caller, by the thread that asks: their filters belong to all threads together.
    """

    def opened(i: int) -> tuple[Picture, list[str]]:
        try:
            return open_picture(sources[i], steps)
        except (TypeError, PixelPruneError) as error:
            raise type(error)(f"images[{i}]: {error}") from error

    # One object, one decoding: two threads that read the same file or Pillow image would disturb each other.
    first: dict[int, int] = {}
    for i, source in enumerate(sources):
        first.setdefault(id(source), i)
    if threads > 1 and sum(not is_array(sources[i]) for i in first.values()) > 1:
        with ThreadPoolExecutor(min(threads, len(first))) as executor:
            pictures = list(executor.map(opened, first.values()))
    else:
        pictures = [opened(i) for i in first.values()]
    for i, (_, notes) in zip(first.values(), pictures, strict=True):
        for note in notes:
            warnings.warn(f"images[{i}]: {note}", PixelPruneWarning, stacklevel=3)
    by_id = {key: picture for key, (picture, _) in zip(first, pictures, strict=True)}
    return [by_id[id(source)] for source in sources]


def open_picture(source: Any, steps: Steps) -> tuple[Picture, list[str]]:
    """The picture's pixels, decoded but not resized (unless by Pillow), and what its owner should know about them."""
    image, notes = _rgb(source, steps)
    original = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
    height, width, resampled = _target_size(original, steps.spec, steps.resample)
    if resampled == "pillow":
        whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image = whole.resize((width, height), Image.Resampling.BICUBIC)
    pixels = _core.pixels_of_pillow(image) if isinstance(image, Image.Image) else image
    return Picture(np.asarray(image) if pixels is None else pixels, original, height, width, resampled), notes


def is_array(source: Any) -> bool:
    """Whether a picture is given as pixels, not as something to decode."""
    if isinstance(source, (np.ndarray, Image.Image, bytes)):
        return isinstance(source, np.ndarray)
    return hasattr(source, "__array_interface__")  # of a Pillow image this would be all of its pixels


def _is_plain_rgb(source: Any) -> TypeGuard[Image.Image]:
    """Whether a picture is a Pillow image that has nothing to convert."""
    return isinstance(source, Image.Image) and source.mode == "RGB" and "transparency" not in source.info


def _rgb(source: Any, steps: Steps) -> tuple[Image.Image | NDArray[np.uint8], list[str]]:
    """The picture in three channels."""
    if is_array(source):
        pixels = as_pixels(source)
        if pixels.ndim == 3 and pixels.shape[2] == 3:
            return pixels, []
        if pixels.size and pixels.ndim == 3 and pixels.shape[2] == 4:
            if steps.background == WHITE:
                rgb, opacity = pixels[:, :, :3], pixels[:, :, 3:]
                opaque = (opacity == 255).all()
                by_alpha = _on_white(steps.resample == "pillow")
                return np.ascontiguousarray(rgb) if opaque else by_alpha[opacity, rgb], []
            return read_image(Image.fromarray(np.ascontiguousarray(pixels)), steps.background)
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2), []
    if _is_plain_rgb(source):
        with contextlib.suppress(Exception):  # read_image finds the words for it
            source.load()
            return source, []
    return read_image(source, steps.background)


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


def _target_size(original: tuple[int, int], spec: VisionSpec, resample: Resample) -> tuple[int, int, str]:
    """Return the height and width that a picture gets, and what has to be done to it."""
    height, width = original
    if resample in ("none", "pad"):
        side = spec.token_size
        padded = (max(1, -(-height // side)) * side, max(1, -(-width // side)) * side)
        if resample == "none" and padded != original:
            raise PixelPruneError(
                f"the picture is {height} x {width} (height x width); expected multiples of the token side, {side} "
                "pixels, with resample='none'"
            )
        if resample == "none" or smart_resize(*padded, spec) == padded:
            return *padded, "none" if padded == original else "pad"
        resample = "torchvision"
    target = smart_resize(height, width, spec)
    return *target, "none" if target == original else resample
