"""Detects another package with the same import name: the paper's published code is also called pixelprune."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from .errors import PixelPruneWarning

_OWN = Path(__file__).resolve().parent
# Files that only the published package has.
_FOREIGN_FILES = ("core.py", "dedup.py", "methods", "patches")


def check() -> None:
    """Raise if the other package's files are mixed into this one; warn if it is on the path.

    Raises:
        ImportError: the folder of this package holds files of the other one.
    """
    mixed = [name for name in _FOREIGN_FILES if (_OWN / name).exists()]
    if mixed:
        raise ImportError(
            f"{_OWN} holds files of another package that is also called pixelprune ({', '.join(mixed)}). Run "
            "'pip uninstall pixelprune' until it finds nothing more, delete that folder, and install this package "
            "again."
        )
    for entry in sys.path:
        if not isinstance(entry, str):  # the import system ignores other types as well
            continue
        found = os.path.join(entry or os.curdir, "pixelprune")
        if any(os.path.exists(os.path.join(found, name)) for name in _FOREIGN_FILES):
            warnings.warn(
                f"another package that is also called pixelprune is at {found}; which of the two is imported depends "
                "on the order of sys.path. To remove it run 'pip uninstall pixelprune' until it finds nothing more "
                "(or delete that folder), and install this package again. pixelprune.compat has the functions of "
                "the published code.",
                PixelPruneWarning,
                stacklevel=3,
            )
            return
