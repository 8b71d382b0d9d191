"""Packages that only a part of pixelprune needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def need(module: str, purpose: str, extra: str) -> Any:
    """Return a module of an optional package.

    Args:
        module: its name.
        purpose: what needs it, for the message.
        extra: what installs it, for the message.

    Raises:
        ImportError: it is not installed; the message names the extra that installs it.

    Example:
        >>> from pixelprune.requirements import need
        >>> need("json", "this example", "scan").dumps([1])
        '[1]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{purpose} needs {package}: pip install 'pixelprune[{extra}]' ({error})", name=error.name
        ) from error
