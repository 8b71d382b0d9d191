"""Short names of settings, such as ``pred_2d@0.05+content``: for tables, file names and command lines."""

from __future__ import annotations

import re
from typing import Any

from ..arguments import shown
from ..errors import PixelPruneError
from .settings import DEFAULT, PruneSettings

_FORM = re.compile(
    r"(?P<method>\w+)@(?P<threshold>[0-9.]+(?:e-[0-9]+)?)"
    r"(?P<protect>\+content)?(?:/(?P<metric>mae|rmse|max))?(?P<loop>/open)?(?:/seed(?P<seed>[0-9]+))?"
)


def label(settings: PruneSettings) -> str:
    """Return the short name of settings.

    It is the method, ``@`` and the threshold; then, where they are not the defaults, ``+content`` for protected
    content, ``/mae`` or ``/rmse`` for the metric, ``/open`` for the open loop, and ``/seed7`` for a seed.

    Args:
        settings: a `PruneSettings` whose method is a name.

    Raises:
        PixelPruneError: the method is a function, which has no short name.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.selection.labels import label
        >>> label(pp.PruneSettings(threshold=0.05, protect="content"))
        'pred_2d@0.05+content'
        >>> label(pp.PruneSettings(method="raster", metric="rmse", anchored=False))
        'raster@0/rmse/open'
    """
    if not isinstance(settings.method, str):
        raise PixelPruneError(f"the method is {shown(settings.method)}; expected a name: a function has no label")
    number = repr(settings.threshold)
    parts = [f"{settings.method}@{number.removesuffix('.0')}"]
    if settings.protect != DEFAULT.protect:
        parts.append(f"+{settings.protect}")
    if settings.metric != DEFAULT.metric:
        parts.append(f"/{settings.metric}")
    if not settings.anchored:
        parts.append("/open")
    if settings.seed != DEFAULT.seed:
        parts.append(f"/seed{settings.seed & 0xFFFF_FFFF_FFFF_FFFF}")
    return "".join(parts)


def parse(text: str) -> PruneSettings:
    """Return the settings that a label names; the inverse of `label`.

    Args:
        text: a label.

    Raises:
        PixelPruneError: it is no label, or its values are not valid.

    Example:
        >>> from pixelprune.selection.labels import parse
        >>> parse("pred_2d@0.05+content").protect
        'content'
    """
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise PixelPruneError(
            f"{shown(text)} names no settings; expected METHOD@THRESHOLD with +content, /mae or /rmse, and /open "
            "after it where wanted, such as pred_2d@0.02 or either@0.05+content"
        )
    try:
        threshold = float(found["threshold"])
    except ValueError:
        raise PixelPruneError(f"{shown(text)}: {shown(found['threshold'])} is not a number") from None
    options: dict[str, Any] = {"method": found["method"], "threshold": threshold, "anchored": not found["loop"]}
    if found["protect"]:
        options["protect"] = "content"
    if found["metric"]:
        options["metric"] = found["metric"]
    if found["seed"]:
        options["seed"] = int(found["seed"])
    try:
        return PruneSettings(**options)
    except PixelPruneError as error:
        raise PixelPruneError(f"{shown(text)}: {error}") from None
