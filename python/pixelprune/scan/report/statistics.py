"""The figures of the report: sums and distributions by kind and setting, and the images that do not pay."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .flops import Model, prefill_flops, vision_flops
from .rows import Rows

BINS = 20
"""Bins of the distributions, from 0 to 1."""
PAYS = 0.95
"""An image that retains at least this does not pay."""
NOISE = 0.15
"""If the largest threshold retains less than before by at least this, it is noise that keeps tokens."""
REPEATS = 0.8
"""If fewer tokens are pixel-unique, tokens repeat although none can be predicted from its neighbours."""

_MOST_GROUPS, _MOST_NAMES = 40, 5

REASONS = {
    "photograph": "Photograph or texture: even the largest threshold keeps most tokens.",
    "jpeg": "JPEG noise: flat areas differ by a few levels; a larger threshold drops them.",
    "noise": "Slight noise: neighbours are alike but not equal; a larger threshold drops them.",
    "apart": "Tokens repeat, but not beside each other, so that neighbours do not predict them.",
    "protected": "Protected: the tokens that could be dropped carry content.",
    "small": "A few tokens only: there is little to drop.",
}
_SMALL = 16
"""Tokens of an image that is called small."""


def by_kind(rows: Rows, model: Model | None) -> list[dict[str, Any]]:
    """Return sums and distributions of all images, then of each kind; lists have one entry a setting."""
    flops = _Flops(rows, model)
    groups = [("", np.ones(len(rows.tokens), np.bool_))]
    groups += [(kind, rows.kind == i) for i, kind in enumerate(rows.kinds)]
    return [_group(name, rows, flops, where) for name, where in groups]


class _Flops:
    """FLOPs of every image, whole (in row 0) and with each setting."""

    def __init__(self, rows: Rows, model: Model | None) -> None:
        counts = np.concatenate([rows.tokens[None], rows.kept])
        self.vision = None if model is None else vision_flops(model, counts)
        self.prefill = None if model is None else prefill_flops(model, counts)

    def sums(self, where: NDArray[np.bool_]) -> dict[str, Any]:
        if self.vision is None or self.prefill is None:
            return {}
        return {"vision": _floats(self.vision[:, where].sum(1)), "prefill": _floats(self.prefill[:, where].sum(1))}


def _group(name: str, rows: Rows, flops: _Flops, where: NDArray[np.bool_]) -> dict[str, Any]:
    ratios, content = rows.ratios[:, where], rows.content[:, where]
    bins = np.minimum((ratios * BINS).astype(np.int64), BINS - 1)
    some = ratios.shape[1] > 0
    return {
        "name": name,
        "images": int(where.sum()),
        "tokens": int(rows.tokens[where].sum()),
        "unique": round(float(np.median(rows.unique[where] / rows.tokens[where])), 4) if some else None,
        "kept": rows.kept[:, where].sum(1).tolist(),
        "content": content.sum(1).tolist(),
        "touched": (content > 0).sum(1).tolist(),
        "quartiles": np.quantile(ratios, (0, 0.25, 0.5, 0.75, 1), axis=1).T.round(4).tolist() if some else [],
        "bins": [np.bincount(row, minlength=BINS).tolist() for row in bins],
        **flops.sums(where),
    }


def misfits(rows: Rows, variants: list[tuple[str, bool, float]]) -> list[list[dict[str, Any]]]:
    """Return, for each setting, the images that retain nearly everything, grouped by kind, format and reason.

    Args:
        rows: the rows.
        variants: for each setting its variant, whether it is protected, and its threshold.
    """
    ratios = rows.ratios
    bands = [_quality(quality) for quality in rows.qualities]
    result = []
    for number, (variant, protected, _) in enumerate(variants):
        alike = [i for i, (name, *_) in enumerate(variants) if name == variant]
        plain = [i for i in alike if not variants[i][1]]
        loosest = max(plain or alike, key=lambda i: variants[i][2])
        twin = next((i for i in plain if variants[i][2] == variants[number][2]), number) if protected else number
        groups: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
        for i in np.flatnonzero(ratios[number] >= PAYS).tolist():
            reason = _reason(rows, i, ratios[number, i], ratios[twin, i], ratios[loosest, i])
            groups[rows.kinds[rows.kind[i]], rows.formats[i], bands[i], reason].append(i)
        ordered = sorted(groups.items(), key=lambda item: -int(rows.tokens[item[1]].sum()))
        result.append([_misfit(rows, ratios[number], *item) for item in ordered[:_MOST_GROUPS]])
    return result


def _misfit(rows: Rows, ratios: NDArray[np.float64], key: tuple[str, str, str, str], of: list[int]) -> dict[str, Any]:
    kind, form, quality, reason = key
    return {
        "kind": kind,
        "format": form,
        "quality": quality,
        "reason": reason,
        "images": len(of),
        "tokens": int(rows.tokens[of].sum()),
        "retained": round(float(np.median(ratios[of])), 4),
        "names": [rows.names[i] for i in of[:_MOST_NAMES]],
    }


def _reason(rows: Rows, i: int, ratio: float, unprotected: float, loosest: float) -> str:
    if unprotected < PAYS:
        return "protected"
    if rows.tokens[i] <= _SMALL:
        return "small"
    if rows.unique[i] < REPEATS * rows.tokens[i]:
        return "apart"
    if ratio - loosest >= NOISE:
        return "jpeg" if rows.formats[i] == "JPEG" else "noise"
    return "photograph"


def _quality(quality: int | None) -> str:
    """The band of a JPEG quality: "70-79", "90-100"."""
    if quality is None:
        return ""
    lowest = min(quality // 10 * 10, 90)
    return f"{lowest}-{100 if lowest == 90 else lowest + 9}"


def _floats(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
