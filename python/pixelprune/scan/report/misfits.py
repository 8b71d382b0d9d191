"""The images that do not pay: those that retain nearly every token, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rows import Rows

PAYS = 0.95
"""An image that retains at least this does not pay."""

_SMALL = 16
"""Tokens of an image that is called small."""
_REPEATS = 0.8
"""Below this share of pixel-unique tokens, tokens repeat although their neighbours do not predict them."""
_LOOSER = 0.15
"""If the largest threshold retains less by at least this, neighbours are alike but not equal."""

_MOST_GROUPS, _MOST_NAMES = 40, 5

REASONS = (
    "Protected: the tokens that could be dropped carry content.",
    "Small: there is little to drop.",
    "Tokens repeat, but not beside each other, so that neighbours do not predict them.",
    "JPEG noise: flat areas differ by a few levels; a larger threshold drops them.",
    "Noise or gradients: neighbours are alike but not equal; a larger threshold drops them.",
    "Photograph, scan or texture: even the largest threshold keeps most tokens.",
)
"""Reasons, the first that applies to an image."""


class Variant(NamedTuple):
    """What a setting of the sweep is."""

    name: str
    """Its method, with a metric and a loop other than the default."""
    protect: bool
    threshold: float


def keeps_nearly_all(kept: NDArray[np.int32], tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which images do not pay, of their kept tokens and all their tokens."""
    found: NDArray[np.bool_] = kept >= PAYS * tokens
    return found


def misfits(rows: Rows, variants: Sequence[Variant]) -> list[list[dict[str, Any]]]:
    """Return, for each setting, the images that retain nearly everything, grouped by kind, format and reason.

    Args:
        rows: the rows of a scan.
        variants: the settings of the sweep.

    Returns:
        For each setting the groups with most tokens, as JSON can express them: ``kind`` (an index of the kinds),
        ``format``, ``quality`` (a band of JPEG qualities, or empty), ``reason`` (an index of `REASONS`), ``images``,
        ``tokens``, ``retained`` and ``loosest`` (medians, at this setting and at the largest threshold of its method)
        and a few ``names``.
    """
    forms, form = np.unique(np.array(rows.formats, object), return_inverse=True)
    band = np.array([-1 if quality is None else min(quality // 10, 9) for quality in rows.qualities], np.int64)
    found = []
    for number in range(len(variants)):
        twin, loosest = _relatives(variants, number)
        where = np.flatnonzero(keeps_nearly_all(rows.kept[number], rows.tokens))
        reason = _reasons(rows, where, number, twin, loosest)
        keys = np.stack([rows.kind[where], form[where], band[where], reason], axis=1)
        unique, group = np.unique(keys, axis=0, return_inverse=True)
        groups = [(key, where[group.ravel() == i]) for i, key in enumerate(unique.tolist())]
        groups.sort(key=lambda item: -int(rows.tokens[item[1]].sum()))
        found.append(
            [
                {
                    "kind": key[0],
                    "format": str(forms[key[1]]),
                    "quality": _quality(key[2]),
                    "reason": key[3],
                    "images": len(of),
                    "tokens": int(rows.tokens[of].sum()),
                    "retained": _median(rows, number, of),
                    "loosest": _median(rows, loosest, of),
                    "names": [rows.names[i] for i in of[:_MOST_NAMES]],
                }
                for key, of in groups[:_MOST_GROUPS]
            ]
        )
    return found


def _relatives(variants: Sequence[Variant], number: int) -> tuple[int, int]:
    """The same setting without protection, and with the largest threshold; itself if the sweep has neither."""
    own = variants[number]
    same = [i for i, other in enumerate(variants) if other.name == own.name]
    plain = [i for i in same if not variants[i].protect and variants[i].threshold == own.threshold]
    alike = [i for i in same if variants[i].protect == own.protect]
    return (plain or [number])[0], max(alike, key=lambda i: variants[i].threshold)


def _reasons(rows: Rows, where: NDArray[np.int64], number: int, twin: int, loosest: int) -> NDArray[np.int64]:
    tokens = rows.tokens[where]
    looser = rows.kept[number][where] - rows.kept[loosest][where] >= _LOOSER * tokens
    jpeg = np.array([rows.formats[i] == "JPEG" for i in where], np.bool_)
    applies = [
        ~keeps_nearly_all(rows.kept[twin][where], tokens),
        tokens <= _SMALL,
        rows.unique[where] < _REPEATS * tokens,
        looser & jpeg,
        looser,
    ]
    return np.select(applies, range(len(applies)), len(applies)).astype(np.int64)


def _median(rows: Rows, number: int, of: NDArray[np.int64]) -> float:
    return round(float(np.median(rows.kept[number][of] / rows.tokens[of])), 4)


def _quality(band: int) -> str:
    return "" if band < 0 else f"{10 * band}\N{EN DASH}{100 if band == 9 else 10 * band + 9}"
