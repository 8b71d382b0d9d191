"""Confidence intervals of differences between answers to the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PixelPruneError

DRAWS = 10_000
_AT_ONCE = 1 << 22
"""Numbers that are held at once."""


class Interval(NamedTuple):
    """A mean and its confidence interval.

    Example:
        >>> from pixelprune.evaluate import Interval
        >>> str(Interval(-0.3, -0.9, 0.4))
        '-0.3 [-0.9, 0.4]'
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{signed(self.mean)} [{signed(self.low, plus=False)}, {signed(self.high, plus=False)}]"


def signed(points: float, *, plus: bool = True) -> str:
    """Return a difference with one digit; zero has no sign.

    Args:
        points: the difference.
        plus: mark what is above zero.

    Example:
        >>> from pixelprune.evaluate.intervals import signed
        >>> signed(0.31), signed(-0.04), signed(-1.26)
        ('+0.3', '0.0', '-1.3')
    """
    text = f"{points:+.1f}" if plus else f"{points:.1f}"
    return "0.0" if float(text) == 0 else text


def paired_intervals(
    differences: ArrayLike,
    clusters: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Interval]:
    """Return bootstrap intervals of mean differences, for several comparisons at once.

    Clusters, not questions, are drawn with replacement: questions about one image are not independent. The interval is
    between percentiles of the means of the draws.

    Args:
        differences: (questions, comparisons): score minus score of the same question.
        clusters: (questions,): equal for questions about one image.
        groups: (questions,): the mean is the mean over groups of their means; None: one group.
        level: of confidence.
        draws: how many.
        seed: of the draws.

    Returns:
        One for each comparison, in the unit of the differences.

    Raises:
        PixelPruneError: there are no questions, or the lengths differ.

    Example:
        >>> from pixelprune.evaluate import paired_intervals
        >>> [interval] = paired_intervals([[1.0], [1.0], [0.0], [0.0]], ["a", "a", "b", "c"])
        >>> interval.mean, interval.low, interval.high
        (0.5, 0.0, 1.0)
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 2 or not len(values) or len(values) != len(clusters) or len(clusters) != len(groups or clusters):
        raise PixelPruneError(
            f"differences have shape {values.shape}, for {len(clusters)} clusters; expected one row for each, and at "
            "least one"
        )
    _, cluster = np.unique(np.asarray(clusters, object).astype(str), return_inverse=True)
    _, group = np.unique(np.asarray(groups or ["" for _ in clusters], object).astype(str), return_inverse=True)
    count, kinds = cluster.max() + 1, group.max() + 1
    sums = np.zeros((count, kinds, values.shape[1]))
    sizes = np.zeros((count, kinds))
    np.add.at(sums, (cluster, group), values)
    np.add.at(sizes, (cluster, group), 1)
    [mean] = _means(np.ones((1, count)), sums, sizes)
    random = np.random.default_rng(seed)
    found = []
    step = max(1, _AT_ONCE // int(count))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        picks = random.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        weights = np.bincount(picks.ravel(), minlength=rows * count).reshape(rows, count)
        found.append(_means(weights.astype(np.float64), sums, sizes))
    tail = 50 * (1 - level)
    low, high = np.percentile(np.concatenate(found), [tail, 100 - tail], axis=0)
    return [Interval(float(m), float(a), float(b)) for m, a, b in zip(mean, low, high, strict=True)]


def _means(weights: NDArray[np.float64], sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (draws, comparisons): the mean over the groups that a draw has of their means."""
    totals = np.einsum("dc,cgk->dgk", weights, sums, optimize=True)
    counts = weights @ sizes
    there = counts > 0
    means = totals / np.where(there, counts, 1)[:, :, None]
    answer: NDArray[np.float64] = (means * there[:, :, None]).sum(1) / there.sum(1)[:, None]
    return answer
