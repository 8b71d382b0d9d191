"""TSV files as VLMEvalKit writes them: cells of any length, and lists of Python written as text."""

from __future__ import annotations

import csv
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import PixelPruneError
from .lines import MAX_LINE, Lines

REFERENCE = 64
"""The most characters of an image that names another row by its index; base64 is longer."""


class Table:
    """The rows of a TSV file. Iterating it yields where each begins, in bytes, and its cells by column.

    Args:
        file: opened in binary mode; read from where it is.
        name: its name in messages.
        columns: the names of the columns; None: in the first row.

    Raises:
        PixelPruneError: also when iterated: a row can't be read, or does not fit the columns.

    Example:
        >>> import io
        >>> from pixelprune.files.tsv import Table
        >>> table = Table(io.BytesIO(b"index\\tanswer\\n7\\tyes\\n"), "answers.tsv")
        >>> table.columns, list(table)
        (['index', 'answer'], [(13, {'index': '7', 'answer': 'yes'})])
    """

    def __init__(self, file: BinaryIO, name: str, columns: list[str] | None = None) -> None:
        self._lines = Lines(file, name)
        self._name = name
        self._rows = csv.reader(self._lines, delimiter="\t")
        self.columns = columns or self._next() or []

    @property
    def offset(self) -> int:
        """Where the next row begins, in bytes."""
        return self._lines.offset

    def _next(self) -> list[str] | None:
        try:
            with _long_cells():
                return next(self._rows, None)
        except csv.Error as error:
            raise PixelPruneError(f"{self._name}: line {self._lines.count} can't be read ({error})") from None

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        while True:
            offset = self.offset
            row = self._next()
            if row is None:
                return
            if not row:
                continue
            if len(row) != len(self.columns):
                raise PixelPruneError(
                    f"{self._name}: line {self._lines.count} ends a row of {len(row)} "
                    f"cell{'' if len(row) == 1 else 's'}; expected {len(self.columns)}, as in the header"
                )
            yield offset, dict(zip(self.columns, row, strict=True))


def row_at(path: Path, name: str, columns: list[str], offset: int) -> dict[str, str]:
    """Return the row of a TSV file that begins at an offset.

    Args:
        path: the file.
        name: its name in messages.
        columns: the names of its columns.
        offset: as `Table` yields it.

    Raises:
        PixelPruneError: there is no row, as the file has changed.
        OSError: it can't be read.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.files.tsv import row_at
        >>> _ = Path("answers.tsv").write_bytes(b"index\\tanswer\\n7\\tyes\\n")
        >>> row_at(Path("answers.tsv"), "answers.tsv", ["index", "answer"], 13)["answer"]
        'yes'
    """
    with path.open("rb") as file:
        file.seek(offset)
        for _, row in Table(file, name, columns):
            return row
    raise PixelPruneError(f"{name} has no row at byte {offset} any more; expected a file that does not change")


def listed(cell: str) -> list[str]:
    """Return what a cell lists: the items of a list of Python, or of a cell that is none, itself.

    Example:
        >>> from pixelprune.files.tsv import listed
        >>> listed("['yes', 2]"), listed("yes"), listed("[yes")
        (['yes', '2'], ['yes'], ['[yes'])
    """
    if cell.startswith("["):
        try:
            value = literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [cell]
        if isinstance(value, list):
            return [str(item) for item in value]
    return [cell]


@contextmanager
def _long_cells() -> Iterator[None]:
    """Allow cells as long as images in base64 are. The limit is of the whole process, and set back."""
    before = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)
