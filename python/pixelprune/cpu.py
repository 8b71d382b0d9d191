"""What the CPU can do."""

from __future__ import annotations

from . import _core


def cpu_features() -> list[str]:
    """Return the vector instruction sets of this CPU that matter here; the best one is used by itself.

    Example:
        >>> import pixelprune as pp
        >>> isinstance(pp.cpu_features(), list)
        True
    """
    return _core.cpu_features()
