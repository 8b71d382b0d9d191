"""Whether a loss is small enough to adopt pruning, too large, or not known well enough."""

from __future__ import annotations

import math
from typing import Literal

from ..selection.settings import DEFAULT, PruneSettings
from .intervals import Interval, signed

Verdict = Literal["adopt", "do not adopt", "too few questions to tell"]
LEAST_IMAGES = 20
"""With fewer images no verdict is given: bootstrap intervals of so few are too narrow."""


def verdict(difference: Interval, images: int, stock: float, margin: float = 1.0) -> Verdict:
    """Return what a difference to the stock model says: a test of non-inferiority.

    * ``"do not adopt"``: the whole interval is below ``-margin``.
    * ``"adopt"``: the whole interval is at or above ``-margin``, and there are 3 / ``margin`` images, ``margin`` as a
      share: with fewer, a loss of that size may not show at all (the rule of three; 300 images for 1 point).
    * ``"too few questions to tell"``: otherwise, and always with fewer than 20 images, or where the stock model's
      score is no more than ``margin``: what can't be lost says nothing.

    Args:
        difference: to the stock model, in points of 100.
        images: how many the questions are about.
        stock: the stock model's score in points.
        margin: the loss in points that is accepted, above 0.

    Example:
        >>> from pixelprune.evaluate import Interval, verdict
        >>> verdict(Interval(-0.3, -0.9, 0.4), 500, 80.0), verdict(Interval(-0.3, -0.9, 0.4), 100, 80.0)
        ('adopt', 'too few questions to tell')
        >>> verdict(Interval(-4.0, -6.0, -2.0), 100, 80.0)
        'do not adopt'
    """
    if images < LEAST_IMAGES or stock <= margin:
        return "too few questions to tell"
    if difference.high < -margin:
        return "do not adopt"
    enough = images >= math.ceil(300 / margin)
    return "adopt" if enough and difference.low >= -margin else "too few questions to tell"


def words(settings: PruneSettings) -> str:
    """Return settings as a sentence has them.

    Args:
        settings: whose method is a name.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.evaluate.verdicts import words
        >>> words(pp.PruneSettings(threshold=0.02, protect="content"))
        'pred_2d at tau 0.02 with content protected'
    """
    text = f"{settings.method} at tau {settings.threshold:g}"
    if settings.metric != DEFAULT.metric:
        text += f" ({settings.metric})"
    if not settings.anchored:
        text += " in the open loop"
    return text if settings.protect == DEFAULT.protect else f"{text} with {settings.protect} protected"


def sentence(
    found: Verdict, settings: PruneSettings, difference: Interval, fewer: float | None, shrunk: Interval | None
) -> str:
    """Return the verdict on one setting as a line.

    Args:
        found: as `verdict` returns it.
        settings: the setting.
        difference: to the stock model, in points.
        fewer: tokens of the stock model over those left; None if not known.
        shrunk: the difference of the images that are shrunk to as many tokens; None if they were not asked about.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.evaluate import Interval
        >>> from pixelprune.evaluate.verdicts import sentence
        >>> sentence("adopt", pp.PruneSettings(threshold=0.02), Interval(-0.3, -0.9, 0.4), 2.1, None)
        'adopt pred_2d at tau 0.02: -0.3 points [-0.9, 0.4], 2.1x fewer tokens'
    """
    name = words(settings)
    head = f"{found} about {name}" if found == "too few questions to tell" else f"{found} {name}"
    low, high = signed(difference.low, plus=False), signed(difference.high, plus=False)
    text = f"{head}: {signed(difference.mean)} points [{low}, {high}]"
    if fewer is not None:
        text += f", {fewer:.1f}x fewer tokens"
    return text if shrunk is None else f"{text} (shrunk to equal tokens: {signed(shrunk.mean)} points)"
