"""Lines of text files whose place in the file is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ..errors import PixelPruneError

MAX_LINE = 1 << 30
"""The most bytes of a line."""


class Lines:
    """Iterates the lines of a UTF-8 file.

    Args:
        file: opened in binary mode; read from where it is.
        name: its name in messages.

    Raises:
        PixelPruneError: when iterated: a line is not UTF-8, or too long.

    Example:
        >>> import io
        >>> from pixelprune.files.lines import Lines
        >>> lines = Lines(io.BytesIO(b"a\\nb\\n"), "letters")
        >>> next(lines), lines.offset, lines.count
        ('a\\n', 2, 1)
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.offset = file.tell()
        """Where the next line begins, in bytes."""
        self.count = 0
        """Lines that have been read."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE + 1)
        if not line:
            raise StopIteration
        if len(line) > MAX_LINE:
            raise PixelPruneError(f"{self._name}: a line is longer than {MAX_LINE} bytes")
        encoding = "utf-8-sig" if self.offset == 0 else "utf-8"
        self.offset += len(line)
        self.count += 1
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            raise PixelPruneError(f"{self._name}: line {self.count} is not UTF-8 text") from None
