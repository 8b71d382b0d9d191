"""Confidence intervals of paired differences, and the verdicts on them."""

from __future__ import annotations

import numpy as np
import pytest
from pixelprune import PixelPruneError, PruneSettings
from pixelprune.evaluate import Interval, paired_intervals, verdict
from pixelprune.evaluate.verdicts import sentence, words


def test_the_mean_is_that_of_the_questions() -> None:
    [one, other] = paired_intervals([[1, 0], [0, 0], [0, -1], [1, 0]], ["a", "a", "b", "c"])
    assert (one.mean, other.mean) == (0.5, -0.25)
    assert one.low <= one.mean <= one.high


def test_clusters_are_drawn_and_not_questions() -> None:
    """Ten questions about each of 20 images that answer alike: as uncertain as 20 questions, not as 200."""
    rng = np.random.default_rng(1)
    per_image = rng.integers(-1, 2, 20).astype(float)
    values = np.repeat(per_image, 10)[:, None]
    images = [str(i) for i in range(20) for _ in range(10)]
    [clustered] = paired_intervals(values, images)
    [as_if_alone] = paired_intervals(values, [str(i) for i in range(200)])
    [of_images] = paired_intervals(per_image[:, None], [str(i) for i in range(20)])
    assert clustered == pytest.approx(of_images)
    assert clustered.high - clustered.low > 2.5 * (as_if_alone.high - as_if_alone.low)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.3, 1, 2000)[:, None]
    [found] = paired_intervals(values, [str(i) for i in range(2000)])
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(3)
    stock = rng.integers(0, 2, 400).astype(float)
    pruned = stock.copy()
    pruned[:4] = 1 - pruned[:4]
    ids = [str(i) for i in range(400)]
    [paired] = paired_intervals((pruned - stock)[:, None], ids)
    [unpaired] = paired_intervals((rng.permutation(pruned) - stock)[:, None], ids)
    assert paired.high - paired.low < 0.25 * (unpaired.high - unpaired.low)


def test_groups_weigh_the_same() -> None:
    values, groups = [[1.0]] * 1 + [[0.0]] * 9, ["small.jsonl"] + ["large.jsonl"] * 9
    [found] = paired_intervals(values, [str(i) for i in range(10)], groups)
    assert found.mean == 0.5
    assert paired_intervals(values, [str(i) for i in range(10)])[0].mean == pytest.approx(0.1)


def test_the_seed_decides() -> None:
    values, ids = np.random.default_rng(4).normal(size=(50, 1)), [str(i) for i in range(50)]
    assert paired_intervals(values, ids, seed=1) == paired_intervals(values, ids, seed=1)
    assert paired_intervals(values, ids, seed=1) != paired_intervals(values, ids, seed=2)


@pytest.mark.parametrize("values", [np.zeros((0, 1)), np.zeros((3, 1)), np.zeros(2)])
def test_other_shapes_are_refused(values: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(PixelPruneError, match="expected one row for each"):
        paired_intervals(values, ["a", "b"][: len(values)])


@pytest.mark.parametrize(
    ("difference", "images", "stock", "margin", "expected"),
    [
        ((-0.3, -0.9, 0.4), 300, 80, 1.0, "adopt"),
        ((-0.3, -1.0, 0.4), 300, 80, 1.0, "adopt"),  # at the margin
        ((-0.3, -0.9, 0.4), 299, 80, 1.0, "too few questions to tell"),  # the rule of three
        ((0.0, 0.0, 0.0), 100, 80, 1.0, "too few questions to tell"),
        ((0.0, 0.0, 0.0), 100, 80, 3.0, "adopt"),
        ((-0.3, -1.1, 0.4), 5000, 80, 1.0, "too few questions to tell"),
        ((-2.0, -3.0, -1.1), 30, 80, 1.0, "do not adopt"),
        ((-2.0, -3.0, -1.0), 30, 80, 1.0, "too few questions to tell"),
        ((-50.0, -50.0, -50.0), 19, 80, 1.0, "too few questions to tell"),
        ((0.0, 0.0, 0.0), 5000, 1.0, 1.0, "too few questions to tell"),  # nothing can be lost
    ],
)
def test_verdicts(
    difference: tuple[float, float, float], images: int, stock: float, margin: float, expected: str
) -> None:
    assert verdict(Interval(*difference), images, stock, margin) == expected


def test_the_verdict_line() -> None:
    settings = PruneSettings(method="either", metric="rmse", threshold=0.05, anchored=False, protect="content")
    assert words(settings) == "either at tau 0.05 (rmse) in the open loop with content protected"
    loss = Interval(-4.21, -6.0, -2.0)
    line = sentence("do not adopt", settings.replace(metric="max", anchored=True), loss, 2.14, Interval(0.5, 0, 1))
    assert line == (
        "do not adopt either at tau 0.05 with content protected: -4.2 points [-6.0, -2.0], 2.1x fewer tokens "
        "(shrunk to equal tokens: +0.5 points)"
    )
    unsure = sentence("too few questions to tell", PruneSettings(), Interval(0.04, -3, 3), None, None)
    assert unsure == "too few questions to tell about pred_2d at tau 0: 0.0 points [-3.0, 3.0]"
