"""The settings that a scan compares, and their names: ``"pred_2d@0.05+content"``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from ..arguments import shown
from ..selection.labels import label, parse
from ..selection.settings import MethodName, Protect, PruneSettings

METHODS: tuple[MethodName, ...] = ("pred_2d", "either", "raster", "serpentine")
THRESHOLDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)

DEFAULT_SWEEP: tuple[PruneSettings, ...] = (
    *(
        PruneSettings(method=method, threshold=threshold, protect=protect)
        for method in METHODS
        for protect in get_args(Protect)
        for threshold in THRESHOLDS
    ),
    PruneSettings(method="unique"),
)
"""``"pred_2d"``, ``"either"``, ``"raster"`` and ``"serpentine"``, each at six thresholds, without and with protection
of content; and ``"unique"``."""


def as_sweep(settings: Iterable[PruneSettings | str], name: str) -> tuple[PruneSettings, ...]:
    """Return settings, some of them given by their names, each of them once.

    Raises:
        PixelPruneError: a name that `parse` refuses, a method that is a function.
        TypeError: not a collection of settings.
    """
    if isinstance(settings, (str, PruneSettings)) or not isinstance(settings, Iterable):
        raise TypeError(f"{name} is {shown(settings)}; expected a list of PruneSettings or labels")
    found: dict[str, PruneSettings] = {}
    for one in settings:
        made = one if isinstance(one, PruneSettings) else parse(one)
        found.setdefault(label(made), made)
    return tuple(found.values())
