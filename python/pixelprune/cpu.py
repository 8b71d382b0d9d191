"""What the CPU can do."""

from __future__ import annotations

from . import _core


def cpu_features() -> list[str]:
    """Return the names of vector instruction sets that this CPU has, for example to print them beside measurements.

    The list is for information only: the kernels are chosen automatically, and not every set in it has one.

    Example:
        >>> import pixelprune as pp
        >>> isinstance(pp.cpu_features(), list)
        True
    """
    return _core.cpu_features()
