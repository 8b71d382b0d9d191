"""Files that are there as a whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name and rename it, so that it is there as a whole or not at all.

    Args:
        path: the file.
        fill: writes what it holds.

    Raises:
        OSError: it can't be written.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.files.whole import write_whole
        >>> write_whole(Path("a.txt"), lambda file: file.write(b"text"))
        >>> Path("a.txt").read_text()
        'text'
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        buffer = io.BufferedWriter(io.FileIO(unfinished, "wb"))
        with buffer:
            fill(buffer)
            buffer.flush()
            os.fsync(buffer.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8; see `write_whole`.

    Args:
        path: the file.
        text: what it is to hold.

    Raises:
        OSError: it can't be written.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.files.whole import write_text
        >>> write_text(Path("b.txt"), "text")
        >>> Path("b.txt").read_text()
        'text'
    """
    write_whole(path, lambda file: file.write(text.encode()))
