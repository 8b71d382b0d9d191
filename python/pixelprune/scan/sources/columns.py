"""Which column of a table holds the images, and the image that a cell holds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...arguments import escaped, shown
from ...errors import PixelPruneError
from .item import limited

LIKELY = ("image", "images", "img", "jpg", "jpeg", "png", "webp", "screenshot", "page")
"""Names of image columns; the first that a table has is taken where several could be meant."""


def pick(source: str, able: Sequence[str], names: Sequence[str], column: str | None) -> str:
    """Return the column of the images.

    Args:
        source: the table, for messages.
        able: the columns that can hold images.
        names: all columns.
        column: the one that the caller names, if any.

    Raises:
        PixelPruneError: there is none, or which one is meant can't be told.

    Example:
        >>> from pixelprune.scan.sources.columns import pick
        >>> pick("a.parquet", ["image", "mask"], ["image", "mask", "text"], None)
        'image'
    """
    have = f"{escaped(source)} has the columns {', '.join(map(escaped, names))}"
    if column is not None:
        if column not in names:
            raise PixelPruneError(f"{have}; expected {shown(column)} among them")
        if column not in able:
            raise PixelPruneError(f"{have}; {shown(column)} holds no images (bytes, or structs of bytes and path)")
        return column
    if len(able) == 1:
        return able[0]
    found = next((name for name in LIKELY if name in able), None)
    if found is None:
        what = f"several of them hold bytes ({', '.join(map(escaped, able))})" if able else "none of them holds images"
        raise PixelPruneError(f"{have}; {what}: name one with column=")
    return found


def check_group(source: str, names: Sequence[str], group_by: str | None) -> None:
    """Refuse a table without the column whose values are the kinds.

    Raises:
        PixelPruneError: it has no such column.

    Example:
        >>> from pixelprune.scan.sources.columns import check_group
        >>> check_group("a.parquet", ["image", "category"], "category")
    """
    if group_by is not None and group_by not in names:
        raise PixelPruneError(
            f"{escaped(source)} has the columns {', '.join(map(escaped, names))}; expected {shown(group_by)} among "
            "them: group_by= names a column"
        )


def as_given(cell: Any, folder: Path) -> bytes | Path:
    """Return the image of a cell: bytes, a struct of bytes and path, a path, or a data URL.

    Args:
        cell: the value.
        folder: what relative paths are relative to.

    Raises:
        PixelPruneError: it is empty, an address on the net, or something else.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.scan.sources.columns import as_given
        >>> as_given({"bytes": b"...", "path": "a.png"}, Path("data"))
        b'...'
        >>> as_given({"bytes": None, "path": "a.png"}, Path("data")).as_posix()
        'data/a.png'
    """
    if isinstance(cell, dict):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, bytes):
        limited(len(cell), "the image")
        return cell
    if not isinstance(cell, str) or not cell:
        raise PixelPruneError(f"the image is {shown(cell)}; expected bytes or a path")
    if cell.startswith("data:"):
        return decoded(cell.partition(",")[2])
    if "://" in cell[:20] and not cell.startswith("file://"):
        raise PixelPruneError(f"the image is {shown(cell)}; expected a file: nothing is downloaded")
    return folder / cell.removeprefix("file://")


def decoded(text: str) -> bytes:
    """Return the bytes of base64.

    Raises:
        PixelPruneError: it is not base64, or too long.

    Example:
        >>> from pixelprune.scan.sources.columns import decoded
        >>> decoded("aW1hZ2U=")
        b'image'
    """
    limited(len(text) * 3 // 4, "the image")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PixelPruneError(f"the image is {shown(text[:40])}; expected base64") from None
