"""Measure what pruning does to a data set, before adopting it.

`scan` measures every image of some sources and writes a row for each; `read` reads the rows back; `measure` measures
one image. Installed by ``pip install 'pixelprune[scan]'``.
"""

from ..selection.labels import label, parse
from .indices import KeepIndices
from .measuring import measure
from .options import ScanOptions
from .reading import Scan, read
from .running import Progress, scan
from .settings import DEFAULT_SWEEP

__all__ = [
    "DEFAULT_SWEEP",
    "KeepIndices",
    "Progress",
    "Scan",
    "ScanOptions",
    "label",
    "measure",
    "parse",
    "read",
    "scan",
]
