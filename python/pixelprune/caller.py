"""Warnings that point at the caller's line."""

from __future__ import annotations

import sys
import warnings

from .errors import PixelPruneWarning

_PACKAGE = __name__.partition(".")[0]


def warn(message: str) -> None:
    """Give a `PixelPruneWarning` that points at the nearest line outside this package, at any call depth."""
    level, frame = 2, sys._getframe(1)
    while str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, PixelPruneWarning, stacklevel=level)
