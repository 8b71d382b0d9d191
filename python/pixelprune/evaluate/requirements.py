"""Packages that only some files and benchmarks need."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def need(module: str, what: str) -> Any:
    """Import a package of the extra ``eval``.

    Args:
        module: its name.
        what: what needs it, for the message.

    Raises:
        ImportError: it is missing; the message names the extra that installs it.

    Example:
        >>> from pixelprune.evaluate.requirements import need
        >>> need("json", "this example").dumps([])
        '[]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{what} needs {package}: pip install 'pixelprune[eval]' ({error})", name=package) from error
