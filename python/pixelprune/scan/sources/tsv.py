"""Benchmarks as VLMEvalKit reads them: a TSV file with base64, references to other rows, or paths."""

from __future__ import annotations

import csv
from ast import literal_eval
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ...arguments import escaped, shown
from ...errors import PixelPruneError
from .columns import as_given, check_group, decoded
from .finding import Found
from .item import MAX_BYTES, Given, Item, Reading
from .lines import Lines

REFERENCE = 64
"""The most characters of an image that names another row by its index; base64 is longer."""


def read(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the images of a TSV file; ``member`` is the row's index, and in a list of images ``INDEX/PLACE``.

    Raises:
        PixelPruneError: the header lacks a column, or a row does not fit it.
        OSError: it can't be read.
    """
    csv.field_size_limit(MAX_BYTES)
    name = escaped(found.source)
    with open(found.path, "rb") as file:
        table = _Table(file, name)
        columns = table.columns
        column = reading.column or next((one for one in ("image", "image_path") if one in columns), None)
        if "index" not in columns or column not in columns:
            wanted = "index and image (or image_path)" if reading.column is None else f"index and {reading.column}"
            have = ", ".join(shown(one) for one in columns) or "nothing"
            raise PixelPruneError(f"{name}: the header has {have}; expected tab-separated columns {wanted}")
        check_group(found.source, columns, reading.group_by)
        references = _References(found.path, name, column)
        for offset, row in table:
            index, cell = row["index"], row[column]
            kind = found.kind if reading.group_by is None else row[reading.group_by]
            if column == "image_path":
                images = [partial(_at_path, one, found.path.parent) for one in _entries(cell)]
            else:
                if len(cell) > REFERENCE:
                    references.found(index, offset)
                images = [partial(_encoded, one, references) for one in _entries(cell)]
            for place, take in enumerate(images):
                member = index if len(images) == 1 else f"{index}/{place}"
                yield Item(found.source, member, kind, take, table.offset)


class _Table:
    """Iterates the rows of a TSV file with their offsets."""

    def __init__(self, file: BinaryIO, name: str, columns: list[str] | None = None) -> None:
        self._lines = Lines(file, name)
        self._name = name
        self._rows = csv.reader(self._lines, delimiter="\t")
        self.columns = columns or next(self._rows, [])

    @property
    def offset(self) -> int:
        return self._lines.offset

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        while True:
            offset = self.offset
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise PixelPruneError(f"{self._name}: the row at byte {offset} can't be read ({error})") from None
            if not row:
                continue
            if len(row) != len(self.columns):
                raise PixelPruneError(
                    f"{self._name}: the row at byte {offset} has {len(row)} columns, the header has "
                    f"{len(self.columns)}; expected the same"
                )
            yield offset, dict(zip(self.columns, row, strict=True))


class _References:
    """Finds the rows that other rows name as their image. Remembers where rows are, not what they hold."""

    def __init__(self, path: Path, name: str, column: str) -> None:
        self._path, self._name, self._column = path, name, column
        self._offsets: dict[str, int] = {}
        self._is_complete = False

    def found(self, index: str, offset: int) -> None:
        self._offsets.setdefault(index, offset)

    def image(self, index: str) -> str:
        if index not in self._offsets and not self._is_complete:
            self._is_complete = True
            with open(self._path, "rb") as file:
                for offset, row in _Table(file, self._name):
                    if len(row[self._column]) > REFERENCE:
                        self.found(row["index"], offset)
        if index not in self._offsets:
            raise PixelPruneError(f"the image is {shown(index)}; expected base64, or the index of a row that has it")
        with open(self._path, "rb") as file:
            columns = _Table(file, self._name).columns
            file.seek(self._offsets[index])
            _, row = next(iter(_Table(file, self._name, columns)))
        return row[self._column]


def _entries(cell: str) -> list[str]:
    """Return the images of a cell: one, or those of a Python list written as text."""
    if cell.startswith("[") and cell.endswith("]"):
        try:
            value: Any = literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [cell]
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
    return [cell]


def _at_path(cell: str, folder: Path) -> Given:
    return as_given(cell, folder)


def _encoded(cell: str, references: _References) -> Given:
    if len(cell) <= REFERENCE:
        cell = references.image(cell)
        entries = _entries(cell)
        if len(entries) != 1:
            raise PixelPruneError("the image is a row with several images; expected one")
        cell = entries[0]
    return decoded(cell.partition(",")[2] if cell.startswith("data:") else cell)
