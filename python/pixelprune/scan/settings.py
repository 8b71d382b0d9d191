"""The settings that a scan compares, and their names: ``"pred_2d@0.05+content"``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args

from ..arguments import shown
from ..errors import PixelPruneError
from ..selection.settings import DEFAULT, MethodName, Protect, PruneSettings

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

_LABEL = re.compile(
    r"(?P<method>\w+)@(?P<threshold>[^+/]+)(?P<content>\+content)?(?:/(?P<metric>mae|rmse))?(?P<open>/open)?"
    r"(?:/seed=(?P<seed>\d+))?"
)


def label(settings: PruneSettings) -> str:
    """Return the name of settings: method, threshold, and what differs from the defaults.

    Args:
        settings: whose ``method`` is a name.

    Returns:
        A string that `parse` reads: ``"pred_2d@0.05"``, with protection ``"pred_2d@0.05+content"``; another metric,
        open loop and another seed are appended, as in ``"random@0.05/rmse/open/seed=7"``.

    Raises:
        PixelPruneError: the method is a function.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.scan import label
        >>> label(pp.PruneSettings(threshold=0.05, protect="content")), label(pp.PruneSettings(metric="rmse"))
        ('pred_2d@0.05+content', 'pred_2d@0/rmse')
    """
    if callable(settings.method):
        raise PixelPruneError(f"method is the function {settings.core.method}; expected the name of a method")
    threshold = repr(settings.threshold).removesuffix(".0")
    text = f"{settings.method}@{threshold}"
    text += "+content" if settings.protect == "content" else ""
    text += "" if settings.metric == DEFAULT.metric else f"/{settings.metric}"
    text += "" if settings.anchored else "/open"
    return text if settings.seed == DEFAULT.seed else f"{text}/seed={settings.core.seed}"


def parse(label: str) -> PruneSettings:
    """Return the settings that a name stands for; the inverse of `label`.

    Args:
        label: as `label` returns.

    Raises:
        PixelPruneError: it is not such a name, or its settings are not allowed.
        TypeError: it is no string.

    Example:
        >>> from pixelprune.scan import parse
        >>> parse("either@0.02+content").protect
        'content'
    """
    if not isinstance(label, str):
        raise TypeError(f"label is {shown(label)}; expected a string like 'pred_2d@0.05+content'")
    found = _LABEL.fullmatch(label)
    try:
        threshold = float(found["threshold"]) if found else 0.0
    except ValueError:
        found = None
    if found is None:
        raise PixelPruneError(
            f"label is {shown(label)}; expected METHOD@THRESHOLD with +content, /mae or /rmse, /open and /seed=N as "
            "needed, like 'pred_2d@0.05+content'"
        )
    method: Any = found["method"]
    metric: Any = found["metric"] or DEFAULT.metric
    return PruneSettings(
        method=method,
        metric=metric,
        threshold=threshold,
        anchored=found["open"] is None,
        seed=DEFAULT.seed if found["seed"] is None else int(found["seed"]),
        protect="nothing" if found["content"] is None else "content",
    )


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
