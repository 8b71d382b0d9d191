"""The command line: ``pixelprune show`` draws what is pruned, ``scan`` measures what pruning does to a data set,
``eval`` compares answers, ``bench`` measures time, ``info`` prints what is installed.

Exit codes:
    0: done.
    1: an image, a file or a value is invalid; one line on stderr says which and why.
    2: invalid usage, such as an unknown option.
    130: interrupted (Ctrl-C).
    141: the output was closed early, as ``| head`` does.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from .._core import version
from ..errors import PixelPruneError, PixelPruneWarning
from .console import reason, standard_output, write, write_error
from .values import name_of

COMMANDS = {
    "show": "prune an image, print figures and draw what is kept",
    "scan": "measure what pruning does to a data set",
    "eval": "compare a model's answers with and without pruning on a benchmark",
    "bench": "measure preprocessing on your own images",
    "info": "print the version, the CPU features and the number of threads",
}
"""Each is a module beside this one, which is imported when its command is run."""
_IN_OPTIONS = (
    (re.compile(r"alpha='white'"), "--alpha white"),
    (re.compile(r" Pillow refuses above twice PIL\.Image\.MAX_IMAGE_PIXELS.*"), ""),
    (re.compile(r"\bgroup_by="), "--group-by"),
    (re.compile(r"\b(column|exclude)="), r"--\1"),
    (re.compile(r"\bresume=True"), "--resume"),
    (re.compile(r"\bengine='ray'"), "--engine ray"),
    (re.compile(r"^threads (?=is)"), "--threads "),
    (re.compile(r"^(address|dpi|sweep|indices|model) (?=is|has)"), r"--\1 "),
)
"""Parts of messages that speak of Python, and what the command line says instead."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; None for those of the process.

    Returns:
        The exit code, as this module's documentation lists them.

    Example:
        >>> from pixelprune.cli import main
        >>> main(["info", "--help"])  # doctest: +ELLIPSIS
        usage: pixelprune info [-h] [--json]
        ...
        0
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", PixelPruneWarning)
            warnings.showwarning = _show_warning
            return _run(argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        return _fail(f"{name_of(error.filename)}: {reason(error)}" if error.filename else reason(error))
    except PixelPruneError as error:
        return _fail(str(error))
    except ImportError as error:  # the package of an extra
        return _fail(str(error))
    except MemoryError:
        return _fail("out of memory; expected a smaller image")


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    try:
        args = _parser(words).parse_args(words)
    except SystemExit as stop:  # after --help, --version or a usage error
        return stop.code if isinstance(stop.code, int) else 0
    standard_output()  # checked before any work
    args.run(args)
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser that prints errors on one line, and fails if its help can't be printed."""

    def error(self, message: str) -> NoReturn:
        write_error(f"pixelprune: error: {message} (see {self.prog} --help)")
        self.exit(2)

    def print_help(self, file: Any = None) -> None:
        write(self.format_help().rstrip("\n"))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        write(f"pixelprune {version()}")
        parser.exit()


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pixelprune",
        description="Drop the image patches that a vision-language model does not need to see.",
        epilog="Exit codes: 0 done, 1 invalid image or value, 2 invalid usage, 130 interrupted, 141 output closed.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chosen = next((word for word in words if word in COMMANDS), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == chosen:
            import_module(f".{name}", __package__).add_to(command)
    return parser


def _in_options(message: str) -> str:
    for words, option in _IN_OPTIONS:
        message = words.sub(option, message)
    return message


def _fail(message: str) -> int:
    write_error(f"pixelprune: error: {_in_options(message)}")
    return 1


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    write_error(f"pixelprune: warning: {_in_options(str(message))}")
