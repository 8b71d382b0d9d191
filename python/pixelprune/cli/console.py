"""Output of the command line: one-line errors, and outputs that are closed or full."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from ..arguments import escaped
from ..errors import PixelPruneError

_LONGEST_LINE = 2000
"""Most characters of an error or a warning."""


def write(text: str) -> None:
    """Print to standard output; characters that its encoding lacks are escaped.

    Raises:
        BrokenPipeError: the reader has closed it.
        PixelPruneError: it is closed, or full.

    Example:
        >>> from pixelprune.cli.console import write
        >>> write("kept 783 of 1989 tokens")
        kept 783 of 1989 tokens
    """
    out = standard_output()
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=out, flush=True)
    except OSError as error:
        _discard(out)
        if isinstance(error, BrokenPipeError):
            raise
        raise PixelPruneError(f"can't write to standard output: {reason(error)}") from None


def standard_output() -> TextIO:
    """Return standard output.

    Raises:
        PixelPruneError: it is closed, as by ``pixelprune show >&-``.

    Example:
        >>> from pixelprune.cli.console import standard_output
        >>> standard_output().writable()
        True
    """
    out = sys.stdout
    if out is None or getattr(out, "closed", False):
        raise PixelPruneError("standard output is closed; expected a file or a terminal to print to")
    return out


def write_error(text: str) -> None:
    """Print one line to standard error; does nothing if that is closed or full.

    Example:
        >>> from pixelprune.cli.console import write_error
        >>> write_error("pixelprune: warning: nothing was dropped")
    """
    err = sys.stderr
    if err is None or getattr(err, "closed", False):
        return
    line = escaped(text)
    try:
        print(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}...", file=err, flush=True)
    except OSError:
        _discard(err)


def is_terminal() -> bool:
    """Return whether standard error is a terminal.

    Example:
        >>> from pixelprune.cli.console import is_terminal
        >>> is_terminal() in (True, False)
        True
    """
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False) and sys.stderr.isatty()


def show_status(text: str) -> None:
    """Draw a line over the last one on standard error, if that is a terminal; an empty one removes it.

    Example:
        >>> from pixelprune.cli.console import show_status
        >>> show_status("3 of 8 images")
    """
    if is_terminal():
        print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)


def reason(error: OSError) -> str:
    """Return the operating system's reason for an error.

    Example:
        >>> from pixelprune.cli.console import reason
        >>> reason(FileNotFoundError(2, "No such file or directory", "page.png"))
        'No such file or directory'
    """
    return error.strerror or str(error)


def _discard(stream: TextIO) -> None:
    """Send what is left in a stream's buffer to the null device, so that Python does not fail when it exits."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
