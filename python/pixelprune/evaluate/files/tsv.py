"""The TSV files of VLMEvalKit: images as base64, as the index of another row, or as paths."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from pathlib import Path

from ...arguments import shown
from ...errors import PixelPruneError
from ...files.tsv import REFERENCE, Table, listed, row_at
from ..rows import Blob, Row, file_blob, key_of
from .folders import find_image


def read_tsv(path: Path, images: Path | None = None) -> list[Row]:
    """Read a TSV file. The images stay in the file until they are needed.

    Args:
        path: the file.
        images: the folder that paths of images are relative to; None: the file's own.

    Returns:
        Its rows; those with an empty image are left out, as VLMEvalKit does.

    Raises:
        PixelPruneError: the file is not a TSV, or a row refers to an image that is not there.
        OSError: the file can't be read.
    """
    rows: list[Row] = []
    cells: dict[str, tuple[Blob, ...] | str] = {}
    with path.open("rb") as file:
        table = Table(file, str(path))
        if len(table.columns) < 2:
            raise PixelPruneError(f"{path} has no columns that tabs separate; expected a TSV file of VLMEvalKit")
        for offset, fields in table:
            row_id = fields.get("index") or str(len(rows))
            image = fields.pop("image", None)
            if image is not None:
                if not image:
                    continue
                is_reference = len(image) <= REFERENCE
                cells[row_id] = image if is_reference else _blobs(path, table.columns, offset, image)
            rows.append(Row(row_id, {name: value for name, value in fields.items() if value != ""}, ()))
    return [Row(row.id, row.fields, _images(row, cells, path, images)) for row in rows]


def _images(row: Row, cells: dict[str, tuple[Blob, ...] | str], path: Path, images: Path | None) -> tuple[Blob, ...]:
    cell = cells.get(row.id)
    if isinstance(cell, str):
        other = cells.get(cell)
        if other is None or isinstance(other, str):
            raise PixelPruneError(f"{path}: the image of row {row.id} is {shown(cell)}, which is no row with an image")
        return other
    if cell is None and "image_path" in row.fields:
        names = texts(row.fields["image_path"])
        return tuple(file_blob(find_image(name, [images or path.parent], f"row {row.id} of {path}")) for name in names)
    return cell or ()


def texts(value: object) -> list[str]:
    """Return what a cell lists: the texts of a Python list, or of a cell that is written as one; otherwise itself.

    Args:
        value: a cell.

    Example:
        >>> from pixelprune.evaluate.files.tsv import texts
        >>> texts("['yes', 'no']"), texts("yes"), texts("[yes")
        (['yes', 'no'], ['yes'], ['[yes'])
    """
    if isinstance(value, str):
        return listed(value)
    return [str(item) for item in value] if isinstance(value, Sequence) else [str(value)]


def _blobs(path: Path, columns: list[str], offset: int, cell: str) -> tuple[Blob, ...]:
    return tuple(
        Blob(key_of(part.encode()), functools.partial(_decode, path, columns, offset, at))
        for at, part in enumerate(listed(cell))
    )


def _decode(path: Path, columns: list[str], offset: int, at: int) -> bytes:
    try:
        return base64.b64decode(listed(row_at(path, str(path), columns, offset)["image"])[at])
    except ValueError:
        raise PixelPruneError(f"{path}: an image is not base64") from None
