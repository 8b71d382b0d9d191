"""Sums and distributions by kind of image, for every setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .flops import Model, prefill_flops, vision_flops
from .misfits import keeps_nearly_all
from .rows import Rows

BINS = 20
"""Bins of the distributions, from 0 to 1."""


def by_kind(rows: Rows, model: Model | None) -> list[dict[str, Any]]:
    """Return the figures of all images, then of each kind.

    Args:
        rows: the rows of a scan.
        model: whose FLOPs are counted, if any.

    Returns:
        What JSON can express, for each group: ``name`` (empty for all), ``images``, ``tokens`` and ``unique`` (median
        share of pixel-unique tokens). With one entry a setting: ``kept`` and ``content`` (tokens), ``touched`` (images
        that lose content), ``quartiles`` (of the retained ratios, from the smallest to the largest), ``bins`` (images
        by retained ratio) and ``misfits`` (images that do not pay, and their tokens). With an entry for whole images
        and then one a setting: ``vision`` and ``prefill`` (FLOPs).
    """
    everything = np.arange(len(rows.tokens))
    groups = [("", everything), *((name, np.flatnonzero(rows.kind == i)) for i, name in enumerate(rows.kinds))]
    return [_group(name, rows, where, model) for name, where in groups]


def _group(name: str, rows: Rows, where: NDArray[np.int64], model: Model | None) -> dict[str, Any]:
    tokens = rows.tokens[where]
    kept, content = [[counts[where] for counts in columns] for columns in (rows.kept, rows.content)]
    group = {
        "name": name,
        "images": len(where),
        "tokens": _sum(tokens),
        "unique": round(float(np.median(rows.unique[where] / tokens)), 4) if len(where) else None,
        "kept": [_sum(counts) for counts in kept],
        "content": [_sum(counts) for counts in content],
        "touched": [int(np.count_nonzero(counts)) for counts in content],
        "quartiles": [_quartiles(counts / tokens) for counts in kept] if len(where) else [],
        "bins": [_bins(counts, tokens) for counts in kept],
        "misfits": [_misfits(counts, tokens) for counts in kept],
    }
    if model is not None:
        group["vision"] = [_rounded(vision_flops(model, counts).sum()) for counts in (tokens, *kept)]
        group["prefill"] = [_rounded(prefill_flops(model, counts).sum()) for counts in (tokens, *kept)]
    return group


def _sum(counts: NDArray[np.int32]) -> int:
    return int(counts.sum(dtype=np.int64))


def _quartiles(ratios: NDArray[np.float64]) -> Sequence[float]:
    found: list[float] = np.quantile(ratios, (0, 0.25, 0.5, 0.75, 1)).round(4).tolist()
    return found


def _bins(kept: NDArray[np.int32], tokens: NDArray[np.int32]) -> Sequence[int]:
    # In integers: a ratio in floating point may fall short of the bin it begins.
    bins = np.minimum(kept.astype(np.int64) * BINS // tokens, BINS - 1)
    found: list[int] = np.bincount(bins, minlength=BINS).tolist()
    return found


def _misfits(kept: NDArray[np.int32], tokens: NDArray[np.int32]) -> tuple[int, int]:
    stuck = tokens[keeps_nearly_all(kept, tokens)]
    return len(stuck), _sum(stuck)


def _rounded(value: Any) -> float:
    return float(f"{value:.6g}")
