"""The TSV files of VLMEvalKit: images as base64, as the index of another row, or as paths."""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ...arguments import shown
from ...errors import PixelPruneError
from ..rows import Blob, Row, file_blob, key_of
from .folders import find_image

LONGEST_INDEX = 64
"""A cell of the image column that is not longer is the index of the row whose image it shares."""
_LONGEST_CELL = 2**31 - 1
"""What the C type of the limit holds everywhere."""


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
    for offset, header, values in _records(path):
        fields = dict(zip(header, values, strict=True))
        row_id = fields.get("index") or str(len(rows))
        image = fields.pop("image", None)
        if image is not None:
            if not image:
                continue
            cells[row_id] = image
            if len(image) > LONGEST_INDEX:
                cells[row_id] = _blobs(path, offset, header.index("image"), image)
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
    if isinstance(value, str) and value.startswith("["):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            return [str(value)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(item) for item in value]
    return [str(value)]


def _blobs(path: Path, offset: int, column: int, cell: str) -> tuple[Blob, ...]:
    parts = texts(cell)
    return tuple(
        Blob(key_of(part.encode()), functools.partial(_decode, path, offset, column, at))
        for at, part in enumerate(parts)
    )


def _decode(path: Path, offset: int, column: int, at: int) -> bytes:
    with path.open("rb") as file, _long_fields():
        file.seek(offset)
        cell = next(csv.reader(_Lines(file), delimiter="\t"))[column]
    try:
        return base64.b64decode(texts(cell)[at])
    except binascii.Error:
        raise PixelPruneError(f"{path}: an image is not base64") from None


def _records(path: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield where each row starts, the header, and the row's cells."""
    with path.open("rb") as file, _long_fields():
        lines = _Lines(file)
        reader = csv.reader(lines, delimiter="\t")
        try:
            header = [name.lstrip("\ufeff") for name in next(reader, [])]
            if len(header) < 2:
                raise PixelPruneError(f"{path} has no columns that tabs separate; expected a TSV file of VLMEvalKit")
            while True:
                offset = lines.at
                values = next(reader, None)
                if values is None:
                    return
                if len(values) != len(header):
                    if not values:
                        continue
                    raise PixelPruneError(
                        f"{path}: line {lines.count} ends a row of {len(values)} cells; expected {len(header)}"
                    )
                yield offset, header, values
        except UnicodeDecodeError as error:
            raise PixelPruneError(f"{path}: line {lines.count + 1} is not UTF-8 ({error.reason})") from None
        except csv.Error as error:
            raise PixelPruneError(f"{path}: line {lines.count}: {error}") from None


class _Lines:
    """The lines of a file, and where the next one starts."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.at = file.tell()
        self.count = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        text = line.decode("utf-8")
        self.at += len(line)
        self.count += 1
        return text


@contextmanager
def _long_fields() -> Iterator[None]:
    """Allow cells of any length, as images in base64 are."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)
