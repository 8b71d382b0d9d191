"""Measuring one image: size, grid, and what every setting of a sweep keeps."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..arguments import escaped, text_of
from ..arrays import as_pixels
from ..errors import PixelPruneError
from ..images.decode import take
from ..images.preprocessing import resized
from ..images.sources import is_array, prepare_image
from ..selection.labels import label
from ..selection.settings import PruneSettings
from ..selection.sweeping import sweep
from . import rows
from .jpeg import quality
from .options import ScanOptions
from .sources.item import Item, Page, limited

UNIQUE = PruneSettings(method="unique")


class Measured(NamedTuple):
    """An image's row, without its place, and the kept tokens that are to be stored."""

    row: dict[str, Any]
    keep: dict[str, NDArray[np.int64]]
    """By label, for the settings in ``options.indices``."""


def measure(image: Any, options: ScanOptions) -> dict[str, Any]:
    """Measure one image.

    Args:
        image: the bytes of an image file, its path, a Pillow image or a uint8 array.
        options: how to measure.

    Returns:
        The columns of a row but ``source``, ``member`` and ``kind`` (see `pixelprune.scan.rows`). If the image can't
        be read, ``error`` says why, and what is not known is None.

    Example:
        >>> import numpy as np
        >>> from pixelprune.scan import ScanOptions, measure
        >>> row = measure(np.zeros((64, 96, 3), np.uint8), ScanOptions(resample="none", sweep=["pred_2d@0"]))
        >>> row["tokens"], row["kept:pred_2d@0"], row["error"]
        (6, 1, None)
        >>> measure(b"no image", ScanOptions())["error"]
        'cannot read the image of 8 bytes: not an image that Pillow can identify (empty, damaged or unknown format)'
    """
    return measure_all(image, options).row


def measure_all(image: Any, options: ScanOptions) -> Measured:
    """Measure one image, and return the kept tokens as well."""
    row: dict[str, Any] = dict.fromkeys(rows.names(options.labels)[3:])
    keep: dict[str, NDArray[np.int64]] = {}
    start = time.perf_counter()
    try:
        _measure(image, options, row, keep)
    except (PixelPruneError, OSError, MemoryError) as error:
        row["error"] = reason(error)
    row["seconds"] = time.perf_counter() - start
    return Measured(row, keep)


def failed(error: Exception, options: ScanOptions) -> Measured:
    """Return the row of an image that could not be read from its source.

    Example:
        >>> from pixelprune.scan import ScanOptions
        >>> from pixelprune.scan.measuring import failed
        >>> failed(FileNotFoundError(2, "No such file or directory"), ScanOptions()).row["error"]
        'No such file or directory'
    """
    return Measured({**dict.fromkeys(rows.names(options.labels)[3:]), "error": reason(error)}, {})


def measure_item(item: Item, options: ScanOptions) -> Measured:
    """Read and measure an image of a source.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from pixelprune.scan import ScanOptions
        >>> from pixelprune.scan.measuring import measure_item
        >>> from pixelprune.scan.sources.item import Item
        >>> Image.new("RGB", (64, 64)).save(file := io.BytesIO(), "PNG")
        >>> measure_item(Item("a.tar", "b.png", "a", file.getvalue, 0), ScanOptions()).row["member"]
        'b.png'
    """
    return taking(item, options)()


def taking(item: Item, options: ScanOptions) -> Callable[[], Measured]:
    """Read an image of a source, and return what measures it."""
    try:
        given = item.take()
    except (PixelPruneError, OSError, MemoryError) as error:
        bad = _placed(item, failed(error, options))
        return lambda: bad
    return lambda: _placed(item, measure_all(given, options))


def _placed(item: Item, measured: Measured) -> Measured:
    measured.row.update(source=item.source, member=item.member, kind=item.kind)
    return measured


def reason(error: Exception) -> str:
    """Return an error's text for a row.

    Example:
        >>> from pixelprune.scan.measuring import reason
        >>> reason(MemoryError())
        'out of memory'
    """
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{escaped(os.fsdecode(error.filename))}: {error.strerror}" if error.filename else error.strerror
    return text_of(error)


def _measure(image: Any, options: ScanOptions, row: dict[str, Any], keep: dict[str, NDArray[np.int64]]) -> None:
    if isinstance(image, Page):
        row |= {"sha256": image.digest, "format": "PDF"}
        image = image.image
    elif isinstance(image, (str, Path)):
        path = Path(image)
        limited(path.stat().st_size, path.name)
        image = path.read_bytes()
    if isinstance(image, (bytes, bytearray, memoryview)):
        _describe(bytes(image), row)
    taken = as_pixels(image) if is_array(image) else take(image)
    prepared, _ = prepare_image(taken, options.preprocessing)
    pixels = resized(prepared, 1)
    spec = options.spec
    row["height"], row["width"] = prepared.original
    row["grid_h"], row["grid_w"] = prepared.height // spec.patch_size, prepared.width // spec.patch_size
    row["tokens"] = row["grid_h"] * row["grid_w"] // spec.merge_size**2
    swept = sweep(pixels, spec, [*options.sweep, UNIQUE], indices=bool(options.indices), threads=1)
    row["unique"] = swept.pop().kept
    for settings, found in zip(options.sweep, swept, strict=True):
        name = label(settings)
        row[rows.kept(name)], row[rows.content(name)] = found.kept, found.dropped_content
        if settings in options.indices and found.keep is not None:
            keep[name] = found.keep


def _describe(data: bytes, row: dict[str, Any]) -> None:
    """Fill in what the file says of itself. That it is damaged is found when it is decoded."""
    row["sha256"] = hashlib.sha256(data).hexdigest()
    row["bytes"] = len(data)
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as opened:
        row["format"] = opened.format
        row["width"], row["height"] = opened.size
        row["quality"] = quality(getattr(opened, "quantization", None))
