"""Loading images as the model's image processor sees them: as RGB.

`load_image` follows transformers' own loader (``transformers.image_utils.load_image``): decode with
Pillow, apply the EXIF orientation, ``convert("RGB")``. What that does to each kind of image:

========================  ==========================================================================
grey, 1-bit, palette      expanded to RGB, no value changes
alpha, tRNS               dropped, with a warning, unless ``alpha`` names a background colour
16-bit grey (PNG, TIFF)   Pillow *clips* the values to 0..255, so most become white; with a warning
32-bit integers, floats   clipped to 0..255 and truncated; with a warning
16-bit RGB PNG            reduced to 8 bits by Pillow while decoding
CMYK, YCbCr, HSV, LAB     converted by Pillow, if it can; ICC profiles are not applied
GIF, APNG, WebP, MPO ...  the first frame
========================  ==========================================================================

Pillow images are used at their current frame, as they are: no EXIF rotation.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..arguments import escaped, shown
from ..caller import warn
from ..errors import PixelPruneError

Alpha: TypeAlias = "str | tuple[int, int, int]"
"""``"drop"``, ``"white"`` or an RGB triple: what to do with alpha, see `load_image`."""

_ALPHA_MODES = ("LA", "PA", "RGBA", "La", "RGBa")
_WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width

CheckSize: TypeAlias = Callable[[tuple[int, int]], object]
"""Raises `PixelPruneError` for a height and width that can't be processed."""


class Encoded(NamedTuple):
    """An image that any thread may decode, and its name in messages. Made by `take`."""

    name: str
    image: str | bytes | bytearray | memoryview | Image.Image
    """A path, the bytes of a file, or a Pillow image whose pixels are loaded."""


def load_image(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image,
    *,
    alpha: Alpha = "drop",
) -> Image.Image:
    """Load an image as transformers' loader does: upright, 8-bit RGB.

    The module documentation lists what happens to each kind of image. Paths, bytes and file objects are
    rotated by their EXIF orientation; a Pillow image is used as it is.

    Alpha: transformers' loader drops it without compositing, so ``"drop"`` is the default; the colours
    stored under transparent pixels then show, and a `PixelPruneWarning` says so. ``"white"`` is, bit for
    bit, what the image processors of transformers 5.23 do to a Pillow image that still has its alpha
    (those of 4.57 drop it). Opaque images are the same either way.

    Args:
        source: a path; the bytes of an image file; a file object opened in binary mode, which is read from
            start to end and left open; or a Pillow image of any mode, which is not modified.
        alpha: ``"drop"``, ``"white"``, or a background colour to composite onto, as three integers in 0..255.

    Returns:
        A new Pillow image, mode ``"RGB"``.

    Raises:
        PixelPruneError: the image is damaged, empty, of a format or mode that Pillow can't turn into RGB,
            or larger than Pillow's limit against decompression bombs; a file object is closed; or ``alpha`` is
            none of the above.
        OSError: the file can't be opened (`FileNotFoundError`, `PermissionError`, ...) or can't be read
            (`TimeoutError`, ...). Any other exception of a file object's ``read`` passes unchanged, too.
        MemoryError: there is not enough memory for the image.
        TypeError: ``source`` is none of the above.

    Warns:
        PixelPruneWarning: alpha was dropped, or values that do not fit 8 bits were clipped.
        PIL.Image.DecompressionBombWarning: from Pillow, for images above half of its size limit.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from pixelprune import load_image
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30), 200).save(file, "PNG")
        >>> image = load_image(file)
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (40, 30), (200, 200, 200))
    """
    background = background_of(alpha)
    image, notes = decode(take(source), background)
    for note in notes:
        warn(note)
    return image


def take(source: Any, check: CheckSize | None = None) -> Encoded:
    """Do what only one thread at a time may do: read a file object, load the pixels of a lazy Pillow image.

    Several of them may share one open file. ``check`` may refuse the size of a Pillow image before it is loaded.
    """
    name = _name(source)
    if isinstance(source, Image.Image):
        try:
            if check is not None:
                _check_size(source, check, is_turned=False)
            source.load()
        except Exception as error:
            if _is_of_the_image(error, type(source)):
                raise _unreadable(name, error) from error
            raise
        return Encoded(name, source)
    if isinstance(source, (str, os.PathLike)):
        return Encoded(name, os.fsdecode(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Encoded(name, source)
    return Encoded(name, _read(source, name))


def decode(
    source: Encoded, background: tuple[int, int, int] | None, check: CheckSize | None = None
) -> tuple[Image.Image, list[str]]:
    """Load an image as `load_image` does, and return its warnings instead of giving them.

    ``check`` may refuse the size before anything is decoded.
    """
    name, given = source
    try:
        if isinstance(given, Image.Image):
            image, notes = _to_rgb(given, background)
        else:
            with open(given, "rb") if isinstance(given, str) else io.BytesIO(given) as file, Image.open(file) as opened:
                if check is not None:
                    _check_size(opened, check, is_turned=True)
                ImageOps.exif_transpose(opened, in_place=True)
                image, notes = _to_rgb(opened, background)
    except Exception as error:
        if _is_of_the_image(error):
            raise _unreadable(name, error) from error
        raise
    return image, [f"{name}: {note}" for note in notes]


def background_of(alpha: Alpha) -> tuple[int, int, int] | None:
    """The colour to composite on, or None to drop alpha."""
    if isinstance(alpha, str):
        if alpha == "drop":
            return None
        if alpha == "white":
            return (255, 255, 255)
    elif isinstance(alpha, (tuple, list)) and len(alpha) == 3:
        try:
            red, green, blue = (value.__index__() for value in alpha)
        except AttributeError:
            pass
        else:
            if min(red, green, blue) >= 0 and max(red, green, blue) <= 255:
                return red, green, blue
    raise PixelPruneError(f"alpha is {shown(alpha)}; expected 'drop', 'white' or three integers from 0 to 255")


def _name(source: object) -> str:
    """The name of the image in messages."""
    if isinstance(source, (str, os.PathLike)):
        return escaped(os.fsdecode(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"the image of {memoryview(source).nbytes} bytes"
    is_image = isinstance(source, Image.Image)
    if not is_image and (isinstance(source, io.TextIOBase) or not hasattr(source, "read")):
        raise TypeError(
            f"source is a {type(source).__name__}; expected a path, bytes, a file object opened in binary "
            "mode or a Pillow image (arrays need no loading)"
        )
    name = getattr(source, "filename" if is_image else "name", None)
    if isinstance(name, (str, os.PathLike)) and os.fspath(name):
        return escaped(os.fsdecode(name))
    return "the Pillow image" if is_image else "the image"


def _read(file: Any, name: str) -> bytes:
    """All bytes of a file object; its own errors pass unchanged, as they are about the file and not the image."""
    try:
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):  # a pipe is read from where it is
            file.seek(0)
        data = file.read()
    except OSError:
        raise
    except ValueError as error:  # it is closed
        raise _unreadable(name, error) from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"{name}: read() of {type(file).__name__} returned {type(data).__name__}; expected bytes")
    return bytes(data)


def _unreadable(name: str, error: Exception) -> PixelPruneError:
    return PixelPruneError(f"cannot read {name}: {_cause(error)}")


def _is_of_the_image(error: Exception, kind: type | None = None) -> bool:
    """Whether an error is about the bytes of the image; damaged ones make Pillow raise almost any exception.

    ``kind`` is the class of a lazy Pillow image, whose file object may be of any type. Other files are real files.
    """
    if not isinstance(error, OSError):
        return not isinstance(error, (MemoryError, RecursionError, PixelPruneError))
    if error.errno is not None:  # from the system; EINVAL also if damage makes Pillow seek to before the start
        return error.errno == errno.EINVAL
    if kind is None:
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return _package(frame.f_globals.get("__name__", "")) in ("PIL", _package(kind.__module__))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _check_size(image: Image.Image, check: CheckSize, *, is_turned: bool) -> None:
    """Refuse a size that a file's header states, unless it would be valid with height and width swapped."""
    size = image.height, image.width
    if 0 in size:
        return
    try:
        check(size)
    except PixelPruneError as error:
        try:
            check(size[::-1])
        except PixelPruneError as other:
            raise (other if is_turned and _lies_on_its_side(image) else error) from None


def _lies_on_its_side(image: Image.Image) -> bool:
    """Whether the EXIF orientation swaps the height and width that the header states."""
    exif = Image.Image.getexif(image)  # a PNG's own method loads the pixels
    if image.format == "TIFF" and exif.get(ExifTags.Base.ImageWidth) != image.width:
        return False  # Pillow has swapped them (since version 11)
    return exif.get(ExifTags.Base.Orientation) in _SIDEWAYS


def _to_rgb(image: Image.Image, background: tuple[int, int, int] | None) -> tuple[Image.Image, list[str]]:
    """Return the image in RGB, and its warnings."""
    image.load()
    pixels = image.width * image.height
    if pixels == 0:
        raise ValueError(f"it has {image.width} x {image.height} pixels; expected at least 1 x 1")
    notes = []
    transparent = 0
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        transparent = pixels - rgba.getchannel("A").histogram()[255]
    if transparent and background is not None:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        rgb = Image.alpha_composite(canvas, rgba).convert("RGB")
    else:
        rgb = _without_transparency(image).convert("RGB")
        if transparent:
            notes.append(
                f"{_percent(transparent, pixels)} of the pixels are not opaque; their alpha is dropped, as "
                "transformers' loader does (alpha='white' composites them onto white)"
            )
    if image.mode in _WIDE_MODES:
        # Found by comparison, because the conversion of these modes differs between versions of Pillow.
        changed = int(np.count_nonzero(np.asarray(image) != np.asarray(rgb)[..., 0]))
        if changed:
            notes.append(
                f"{_percent(changed, pixels)} of the values, mode {image.mode!r}, do not fit 8 bits and are "
                "clipped or truncated, as Pillow's convert('RGB') does (scale them to 0..255 first to keep them)"
            )
    return rgb, notes


def _without_transparency(image: Image.Image) -> Image.Image:
    """The same image without tRNS, so that Pillow does not give a warning of its own when it drops it."""
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]
    return image


def _percent(part: int, whole: int) -> str:
    return f"{max(0.01, 100 * part / whole):.2f} %"


def _cause(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can identify (empty, damaged or unknown format)"
    cause = escaped(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        cause += (
            f" Pillow refuses above twice PIL.Image.MAX_IMAGE_PIXELS, which is {Image.MAX_IMAGE_PIXELS}; "
            "set it higher (None: no limit) if you trust the file"
        )
    return cause
