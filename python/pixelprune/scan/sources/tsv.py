"""Benchmarks as VLMEvalKit reads them: a TSV file with base64, references to other rows, or paths."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...arguments import escaped, shown
from ...errors import PixelPruneError
from ...files.tsv import REFERENCE, Table, listed, row_at
from .columns import as_given, check_group, decoded
from .finding import Found
from .item import Given, Item, Reading


def read(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the images of a TSV file; ``member`` is the row's index, and in a list of images ``INDEX/PLACE``.

    Raises:
        PixelPruneError: the header lacks a column, or a row does not fit it.
        OSError: it can't be read.
    """
    name = escaped(found.source)
    with open(found.path, "rb") as file:
        table = Table(file, name)
        columns = table.columns
        column = reading.column or next((one for one in ("image", "image_path") if one in columns), None)
        if "index" not in columns or column not in columns:
            wanted = "index and image (or image_path)" if reading.column is None else f"index and {reading.column}"
            have = ", ".join(shown(one) for one in columns) or "nothing"
            raise PixelPruneError(f"{name}: the header has {have}; expected tab-separated columns {wanted}")
        check_group(found.source, columns, reading.group_by)
        references = _References(found.path, name, columns, column)
        for offset, row in table:
            index, cell = row["index"], row[column]
            kind = found.kind if reading.group_by is None else row[reading.group_by]
            if column == "image_path":
                images = [partial(_at_path, one, found.path.parent) for one in listed(cell)]
            else:
                if len(cell) > REFERENCE:
                    references.found(index, offset)
                images = [partial(_encoded, one, references) for one in listed(cell)]
            for place, take in enumerate(images):
                member = index if len(images) == 1 else f"{index}/{place}"
                yield Item(found.source, member, kind, take, table.offset)


class _References:
    """Finds the rows that other rows name as their image. Remembers where rows are, not what they hold."""

    def __init__(self, path: Path, name: str, columns: list[str], column: str) -> None:
        self._path, self._name, self._columns, self._column = path, name, columns, column
        self._offsets: dict[str, int] = {}
        self._is_complete = False

    def found(self, index: str, offset: int) -> None:
        self._offsets.setdefault(index, offset)

    def image(self, index: str) -> str:
        if index not in self._offsets and not self._is_complete:
            self._is_complete = True
            with open(self._path, "rb") as file:
                for offset, row in Table(file, self._name):
                    if len(row[self._column]) > REFERENCE:
                        self.found(row["index"], offset)
        if index not in self._offsets:
            raise PixelPruneError(f"the image is {shown(index)}; expected base64, or the index of a row that has it")
        return row_at(self._path, self._name, self._columns, self._offsets[index])[self._column]


def _at_path(cell: str, folder: Path) -> Given:
    return as_given(cell, folder)


def _encoded(cell: str, references: _References) -> Given:
    if len(cell) <= REFERENCE:
        cell = references.image(cell)
        entries = listed(cell)
        if len(entries) != 1:
            raise PixelPruneError("the image is a row with several images; expected one")
        cell = entries[0]
    return decoded(cell.partition(",")[2] if cell.startswith("data:") else cell)
