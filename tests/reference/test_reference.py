"""The oracle itself, pinned by answers made by hand, by the golden masks and by what holds for any image."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pixelprune import reference
from pixelprune.errors import PixelPruneError
from pixelprune.spec import PRESETS, VisionSpec
from strategies import (
    PIXEL_SPEC,
    SPECS,
    Case,
    Pixels,
    cases,
    distance,
    layouts,
    moved,
    normalise,
    patchify,
    still,
    to_bfloat16,
)

GOLDEN = Path(__file__).parents[1] / "golden"
ENTRIES = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))["images"]
BUDGET_10 = 10 / 255
CLOSED, OPEN = True, False
PREDICTORS = ("pred_2d", "raster", "serpentine", "either")


def pixels(*rows: str) -> Pixels:
    """A grey image of one-pixel tokens, written out."""
    return np.array([[int(value) for value in row.split()] for row in rows], np.uint8)


def check(result: tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64] | None], mask: str, source: str) -> None:
    """Compare one frame's result with a written-out answer such as ``"1 0 / 0 1"``."""
    got_mask, got_source = result
    assert got_source is not None
    assert [[int(bit) for bit in row.split()] for row in mask.split("/")] == got_mask[0].astype(int).tolist()
    assert [int(index) for index in source.split()] == got_source.tolist()
    assert (got_mask.dtype, got_source.dtype) == (np.bool_, np.int64)


# --- Answers made by hand --------------------------------------------------------------------------------

LETTERS = pixels("1 2 3", "1 1 3", "2 1 2")
SHADES = pixels("0 8 16", "8 8 12", "16 20 0")
RUNS = pixels("0 8 16", "24 20 30")


@pytest.mark.parametrize("anchored", [CLOSED, OPEN])
@pytest.mark.parametrize(
    ("method", "mask", "source"),
    [
        # (1, 1): C = A and C != B, so B is predicted, and 1 != 2 although A would have fitted.
        ("pred_2d", "1 1 1 / 0 1 1 / 1 1 1", "0 1 2  0 4 5  6 7 8"),
        # The 1 that opens row 1 follows the 3 that closes row 0.
        ("raster", "1 1 1 / 1 0 1 / 1 1 1", "0 1 2  3 3 5  6 7 8"),
        # Row 1 is read 3, 1, 1: the 3 goes on from row 0, the left 1 has the middle one as its source.
        ("serpentine", "1 1 1 / 0 1 0 / 1 1 1", "0 1 2  4 4 2  6 7 8"),
        # (1, 2) and (2, 1) differ from A and equal B.
        ("either", "1 1 1 / 0 0 0 / 1 0 1", "0 1 2  0 0 2  6 0 8"),
        ("unique", "1 1 1 / 0 0 0 / 0 0 0", "0 1 2  0 0 2  1 0 1"),
    ],
)
def test_methods_at_threshold_0(method: str, anchored: bool, mask: str, source: str) -> None:
    check(reference.prune(LETTERS, PIXEL_SPEC, method=method, anchored=anchored), mask, source)


@pytest.mark.parametrize(
    ("image", "method", "anchored", "mask", "source"),
    [
        # (1, 2) predicts B: its C and A were dropped to 0. (2, 0): its B too.
        (SHADES, "pred_2d", CLOSED, "1 0 1 / 0 0 0 / 1 0 1", "0 0 2  0 0 2  6 6 8"),
        # Only (2, 2) is further than 10 from its prediction, 20; the others' errors add up to 20.
        (SHADES, "pred_2d", OPEN, "1 0 0 / 0 0 0 / 0 0 1", "0 0 0  0 0 0  0 0 8"),
        (RUNS, "raster", CLOSED, "1 0 1 / 0 0 1", "0 0 2  2 2 5"),
        (RUNS, "raster", OPEN, "1 0 0 / 0 0 0", "0 0 0  0 0 0"),
        # The path is 0 8 16 30 20 24.
        (RUNS, "serpentine", CLOSED, "1 0 1 / 0 0 1", "0 0 2  5 5 5"),
        (RUNS, "serpentine", OPEN, "1 0 0 / 0 0 1", "0 0 0  5 5 5"),
        # (1, 1): A and B were both dropped to 0 in the closed loop.
        (pixels("0 8 16", "9 17 25"), "either", CLOSED, "1 0 1 / 0 1 0", "0 0 2  0 4 4"),
        (pixels("0 8 16", "9 17 25"), "either", OPEN, "1 0 0 / 0 0 0", "0 0 0  0 0 0"),
        # (1, 1) is similar to both, and A goes first.
        (pixels("0 15", "20 17"), "either", CLOSED, "1 1 / 1 0", "0 1 2 2"),
        (pixels("0 15", "20 17"), "either", OPEN, "1 1 / 1 0", "0 1 2 2"),
        # Exactly the budget is similar, one more is not.
        (pixels("50 60 49 39"), "pred_2d", CLOSED, "1 0 0 1", "0 0 0 3"),
        (pixels("50 60 49 39"), "pred_2d", OPEN, "1 0 1 0", "0 0 2 2"),
    ],
)
def test_methods_at_a_budget_of_10(image: Pixels, method: str, anchored: bool, mask: str, source: str) -> None:
    result = reference.prune(image, PIXEL_SPEC, method=method, threshold=BUDGET_10, anchored=anchored)
    check(result, mask, source)


@pytest.mark.parametrize(
    ("image", "mask", "source"),
    [
        (pixels("7"), "1", "0"),
        (pixels("7 7 8 8 7"), "1 0 1 0 1", "0 0 2 2 4"),
        (pixels("7", "7", "8", "8", "7"), "1 / 0 / 1 / 0 / 1", "0 0 2 2 4"),
        # C = A != B predicts B; C = B, or C unlike both, predicts A.
        (pixels("1 2", "1 2"), "1 1 / 0 0", "0 1 0 1"),
        (pixels("1 1", "2 2"), "1 0 / 1 0", "0 0 2 2"),
        (pixels("1 2", "3 3"), "1 1 / 1 0", "0 1 2 2"),
        (pixels("1 2", "3 2"), "1 1 / 1 1", "0 1 2 3"),
    ],
)
def test_pred_2d_on_the_smallest_grids(image: Pixels, mask: str, source: str) -> None:
    check(reference.prune(image, PIXEL_SPEC), mask, source)


@pytest.mark.parametrize("method", reference.METHODS)
def test_every_frame_is_a_grid_of_its_own(method: str) -> None:
    first, second = LETTERS, np.ascontiguousarray(LETTERS[::-1])
    mask, source = reference.prune_tokens(np.stack([first, first, second]), method=method)
    mask_1, source_1 = reference.prune(first, PIXEL_SPEC, method=method)
    mask_2, source_2 = reference.prune(second, PIXEL_SPEC, method=method)
    assert source is not None
    assert source_1 is not None
    assert source_2 is not None
    assert mask.tolist() == [mask_1[0].tolist(), mask_1[0].tolist(), mask_2[0].tolist()]
    assert source.tolist() == [*source_1, *(source_1 + 9), *(source_2 + 18)]


def test_similarity_is_of_all_values_of_a_token() -> None:
    # Two tokens of 2 x 2 pixels and three channels; only the last of their 12 values differs.
    image = np.full((2, 4, 3), 9, np.uint8)
    image[1, 3, 2] = 10
    spec = VisionSpec(patch_size=2, merge_size=1)
    check(reference.prune(image, spec), "1 1", "0 1")
    check(reference.prune(image, spec, threshold=1 / 255), "1 0", "0 0")
    check(reference.prune(image, spec, metric="mae", threshold=1 / 255 / 12), "1 0", "0 0")
    check(reference.prune(image, spec, metric="mae", threshold=0.99 / 255 / 12), "1 1", "0 1")


@pytest.mark.parametrize(
    ("metric", "threshold", "n", "expected"),
    [
        ("max", 0.0, 3072, 0),
        ("max", 0.02, 3072, 5),  # 5.1
        ("max", 0.05, 3072, 12),  # 12.75
        ("max", 1.0, 3072, 255),
        ("mae", 0.005, 3072, 3916),  # 3916.8
        ("mae", 1.0, 4, 1020),
        ("rmse", 0.005, 3072, 4993),  # 4993.92
        ("rmse", 1.0, 4, 260100),
    ],
)
def test_budgets(metric: str, threshold: float, n: int, expected: int) -> None:
    assert reference.budget(metric, threshold, n) == expected


def test_a_threshold_of_k_levels_allows_k_levels() -> None:
    for k in range(256):
        budgets = [reference.budget(metric, k / 255, 2352) for metric in reference.METRICS]
        assert budgets == [k, k * 2352, k * k * 2352]


@pytest.mark.parametrize("metric", reference.METRICS)
def test_rounding_of_the_threshold_costs_no_level(metric: str) -> None:
    whole = reference.budget(metric, 51 / 255, 3072)
    assert reference.budget(metric, 51 / 255 * (1 - 1e-10), 3072) == whole
    assert reference.budget(metric, 51 / 255 * (1 - 1e-8), 3072) == whole - 1


@pytest.mark.parametrize(
    ("metric", "level"),  # of 0 0 0 0 and 3 4 0 0: greatest 4, sum 7, sum of squares 25
    [("max", 4.0), ("mae", 7 / 4), ("rmse", 2.5)],
)
def test_metrics(metric: str, level: float) -> None:
    x, y = np.uint8([0, 0, 0, 0]), np.uint8([3, 4, 0, 0])
    for a, b in ((x, y), (y, x)):
        assert reference.similar(a, b, metric, level / 255)
        assert not reference.similar(a, b, metric, (level - 0.01) / 255)
        assert reference.similar(a / np.float32(255), b / np.float32(255), metric, level / 255)
        assert not reference.similar(a / np.float32(255), b / np.float32(255), metric, (level - 0.01) / 255)


@pytest.mark.parametrize(("metric", "slack"), [("max", 1e-6), ("mae", 1e-7), ("rmse", 1e-7)])
def test_floats_have_a_little_slack_above_0_only(metric: str, slack: float) -> None:
    zero = np.zeros(4, np.float32)
    assert reference.similar(zero, np.full(4, 0.1 + 0.8 * slack, np.float32), metric, 0.1)
    assert not reference.similar(zero, np.full(4, 0.1 + 1.2 * slack, np.float32), metric, 0.1)
    assert not reference.similar(zero, np.full(4, 1e-30, np.float32), metric, 0.0)
    assert reference.similar(zero, -zero, metric, 0.0)


def test_first_occurrence_of_equal_floats() -> None:
    tokens = np.float32([[[0.0, -0.0, 1.0, 1.0000001]]])
    check(reference.prune_tokens(tokens, method="unique"), "1 0 1 1", "0 0 2 3")


# --- A callable as the method ----------------------------------------------------------------------------


def test_callable_sees_original_neighbours_once_per_frame() -> None:
    seen = []

    def method(same_left: npt.NDArray[np.bool_], same_up: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        seen.append((same_left.astype(int).tolist(), same_up.astype(int).tolist()))
        return ~(same_left | same_up)

    tokens = np.stack([SHADES, LETTERS])
    mask, source = reference.prune_tokens(tokens, method=method, threshold=BUDGET_10)
    left, up = [[0, 1, 1], [0, 1, 1], [0, 1, 0]], [[0, 0, 0], [1, 1, 1], [1, 0, 0]]
    everything = [[0, 1, 1], [0, 1, 1], [0, 1, 1]], [[0, 0, 0], [1, 1, 1], [1, 1, 1]]
    assert seen == [(left, up), everything]
    assert mask.astype(int).tolist() == [[[1, 0, 0], [0, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]]
    assert source is None


def test_callable_may_give_sources_and_drop_the_first_token() -> None:
    mask, source = reference.prune_tokens(
        np.stack([RUNS, RUNS]),
        method=lambda left, up: (np.array([[False, False, True]] * 2), [2, 2, 2, 5, 5, 5]),
    )
    assert mask.astype(int).tolist() == [[[0, 0, 1], [0, 0, 1]]] * 2
    assert source is not None
    assert source.tolist() == [2, 2, 2, 5, 5, 5, 8, 8, 8, 11, 11, 11]


MASK = np.array([[True, False]])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (~MASK & MASK, "at least one token kept"),
        (MASK[0], "expected bool"),
        (MASK.astype(int), "expected bool"),
        ((MASK, [0]), "expected 2 integers"),
        ((MASK, [0.0, 0.0]), "expected 2 integers"),
        ((MASK, [0, 1]), "source is wrong"),
        ((MASK, [0, 2]), "source is wrong"),
        ((MASK, [0, -1]), "source is wrong"),
        ((~MASK, [0, 0]), "source is wrong"),
    ],
)
def test_callable_with_a_wrong_answer(answer: Any, message: str) -> None:
    with pytest.raises(PixelPruneError, match=message):
        reference.prune(pixels("1 2"), PIXEL_SPEC, method=lambda left, up: answer)


def test_callable_with_a_source_for_some_frames_only() -> None:
    answers = iter([MASK, (MASK, [0, 0])])
    with pytest.raises(PixelPruneError, match="all or none"):
        reference.prune_tokens(np.zeros((2, 1, 2), np.uint8), method=lambda left, up: next(answers))


# --- Baselines -------------------------------------------------------------------------------------------


def test_baselines_keep_as_many_as_pred_2d() -> None:
    tokens = np.stack([SHADES, LETTERS])
    assert reference.baseline_count(tokens) == 8 + 8
    assert reference.baseline_count(tokens, threshold=BUDGET_10) == 4 + 1
    assert reference.baseline_count(tokens, threshold=BUDGET_10, anchored=OPEN) == 2 + 1
    for method in ("random", "conncomp"):
        with pytest.raises(PixelPruneError, match="baseline_count"):
            reference.prune_tokens(tokens, method=method)


# --- Tokens, patches and their order ---------------------------------------------------------------------


def test_image_tokens_by_hand() -> None:
    spec = VisionSpec(patch_size=1, merge_size=2)
    image = np.arange(16, dtype=np.uint8).reshape(2, 4, 2)
    tokens = reference.image_tokens(image, spec)
    assert tokens.shape == (1, 2, 2, 2, 2)
    assert tokens[0, 1].ravel().tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert np.shares_memory(tokens, image)
    assert reference.image_tokens(image[..., 0], spec).shape == (1, 2, 2, 2, 1)
    assert reference.hash_token_bytes(image, spec) == [
        [bytes([0, 1, 2, 3, 8, 9, 10, 11]), bytes([4, 5, 6, 7, 12, 13, 14, 15])]
    ]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("block", [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]),
        # 4 patches a row, 16 a frame: token 3 is the lower right corner, 5 the second frame's upper right.
        ("raster", [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23]),
    ],
)
def test_patch_indices_by_hand(order: Any, expected: list[int]) -> None:
    spec = VisionSpec(patch_size=1, merge_size=2, patch_order=order)
    assert reference.patch_indices([0, 1, 3, 5], (2, 2, 2), spec).tolist() == expected
    for outside in (8, -1):
        with pytest.raises(PixelPruneError, match="expected 0 to 7"):
            reference.patch_indices([outside], (2, 2, 2), spec)


@pytest.mark.parametrize(
    ("order", "layout", "token", "corner"),  # where row 2 of pixel_values belongs in a grid of 1 x 2 tokens
    [
        ("block", "cpp", 0, (2, 0)),  # token 0's lower left patch
        ("block", "ppc", 0, (2, 0)),
        ("raster", "cpp", 1, (0, 0)),  # token 1's upper left patch
        ("raster", "ppc", 1, (0, 0)),
    ],
)
def test_pixel_value_tokens_by_hand(order: Any, layout: Any, token: int, corner: tuple[int, int]) -> None:
    spec = VisionSpec(patch_size=2, merge_size=2, temporal_patch_size=1, patch_order=order, patch_layout=layout)
    values = np.zeros((8, 8), np.uint8)
    values[2] = [1, 2, 3, 4, 101, 102, 103, 104] if layout == "cpp" else [1, 101, 2, 102, 3, 103, 4, 104]
    tokens = reference.pixel_value_tokens(values, (1, 2, 4), spec)
    expected = np.zeros((2, 4, 4, 2), np.uint8)  # token, y, x, channel
    y, x = corner
    expected[token, y : y + 2, x : x + 2] = [[[1, 101], [2, 102]], [[3, 103], [4, 104]]]
    assert tokens.tolist() == expected.reshape(1, 1, 2, 32).tolist()


def test_temporal_copies_by_hand() -> None:
    spec = VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=2)
    row = np.uint8([[1, 2, 101, 102, 201, 202]])  # channel, then frame
    assert reference.pixel_value_tokens(row, (1, 1, 1), spec).ravel().tolist() == [1, 101, 201]
    both = reference.pixel_value_tokens(row, (1, 1, 1), spec, "frames")
    assert both.ravel().tolist() == [1, 101, 201, 2, 102, 202]


@pytest.mark.parametrize("spec", SPECS)
def test_pixel_values_of_a_video_are_its_frames_tokens(spec: VisionSpec) -> None:
    f, px = spec.temporal_patch_size, spec.token_size
    frames = np.random.default_rng(1).integers(0, 256, (2 * f, 2 * px, 3 * px, 3), np.uint8)
    values = patchify(frames, spec)
    grid = (2, 2 * spec.merge_size, 3 * spec.merge_size)
    by_frame = np.stack([reference.image_tokens(frame, spec) for frame in frames])
    first = reference.pixel_value_tokens(values, grid, spec)
    assert np.array_equal(first, by_frame[::f].reshape(2, 2, 3, -1))
    every = reference.pixel_value_tokens(values, grid, spec, "frames")
    grouped = by_frame.reshape(2, f, 2, 3, -1).transpose(0, 2, 3, 1, 4)
    assert np.array_equal(every, grouped.reshape(2, 2, 3, -1))
    # patch_indices names the rows that hold a token, and no others.
    rows = reference.patch_indices([4, 7], (2, 2, 3), spec)
    blank = np.zeros_like(values)
    blank[rows] = values[rows]
    found = reference.pixel_value_tokens(blank, grid, spec).any(axis=-1)
    assert np.flatnonzero(found).tolist() == [4, 7]


def test_temporal_frames_compares_every_copy() -> None:
    spec = VisionSpec(patch_size=1, merge_size=1, mean=(0.5,), std=(0.5,))
    values = np.float32([[1, 2], [1, 3]])  # two tokens, equal in their first frame
    check(reference.prune_pixel_values(values, (1, 1, 2), spec), "1 0", "0 0")
    check(reference.prune_pixel_values(values, (1, 1, 2), spec, temporal="frames"), "1 1", "0 1")


def test_thresholds_of_pixel_values() -> None:
    spec = VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=1, mean=(0.5,), std=(0.25,))
    grid = (1, 1, 2)
    # A step of 0.4 in normalised values is one of 0.1 in [0, 1].
    values = np.float32([[0.2], [0.6]])
    assert reference.prune_pixel_values(values, grid, spec, threshold=0.1)[0].sum() == 1
    assert reference.prune_pixel_values(values, grid, spec, threshold=0.099)[0].sum() == 2
    # uint8 is on the 0-255 scale whatever mean and std say.
    levels = np.uint8([[20], [60]])
    assert reference.prune_pixel_values(levels, grid, spec, threshold=40 / 255)[0].sum() == 1
    assert reference.prune_pixel_values(levels, grid, spec, threshold=39 / 255)[0].sum() == 2


def test_unit_range_is_computed_in_float32_per_channel() -> None:
    spec = PRESETS["qwen2_vl"]
    stored = np.float16([[1.5, -1.5, 0.25, 0.0, 2.0, -1.0]])
    std, mean = [np.float32(v) for v in spec.std], [np.float32(v) for v in spec.mean]
    expected = [np.float32(x) * std[i % 3] + mean[i % 3] for i, x in enumerate(stored[0])]
    result = reference.to_unit_range(stored, spec)
    assert result.dtype == np.float32
    assert result.tolist() == [expected]
    with pytest.raises(PixelPruneError, match="multiple of 3"):
        reference.to_unit_range(stored[:, :4], spec)


def test_bfloat16_bits() -> None:
    spec = replace(PIXEL_SPEC, temporal_patch_size=1)
    bits = np.uint16([[0x3F80], [0xC040], [0x3F80]])  # 1.0, -3.0, 1.0
    tokens = reference.pixel_value_tokens(bits, (1, 1, 3), spec, bfloat16=True)
    assert tokens.dtype == np.float32
    assert tokens.ravel().tolist() == [1.0, -3.0, 1.0]
    assert to_bfloat16(np.float32([1.0, -3.0])).tolist() == [0x3F80, 0xC040]


def test_bfloat16_merges_two_blue_levels_of_clip() -> None:
    spec = PRESETS["qwen2_vl"]
    image = np.full((28, 28 * 256, 3), 200, np.uint8)
    image[..., 2] = np.arange(28 * 256) // 28
    values, grid = still(normalise(image, spec), spec)
    mask, _ = reference.prune_pixel_values(to_bfloat16(values), grid, spec, bfloat16=True)
    assert np.flatnonzero(~mask).tolist() == [254]  # not told from 253
    mask, _ = reference.prune_pixel_values(values.astype(np.float16), grid, spec)
    assert mask.all()


# --- Reconstruction and decoding -------------------------------------------------------------------------


def test_reconstruct_by_hand() -> None:
    _, source = reference.prune(SHADES, PIXEL_SPEC, threshold=BUDGET_10)
    assert source is not None
    assert reference.reconstruct(SHADES, source, PIXEL_SPEC).tolist() == [[0, 0, 16], [0, 0, 16], [16, 16, 0]]
    for wrong in ([0] * 8, [0] * 8 + [9], [0] * 8 + [-1]):
        with pytest.raises(PixelPruneError, match="source has shape"):
            reference.reconstruct(SHADES, wrong, PIXEL_SPEC)
    spec = VisionSpec(patch_size=2, merge_size=1)
    image = np.asfortranarray(np.arange(8, dtype=np.uint8).reshape(2, 4))
    assert reference.reconstruct(image, [1, 1], spec).tolist() == [[2, 3, 2, 3], [6, 7, 6, 7]]
    assert image.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("method", "mask", "kept", "expected"),
    [
        ("pred_2d", "101/000/101", [0, 16, 16, 0], [[0, 0, 16], [0, 0, 16], [16, 16, 0]]),
        ("raster", "101/001/000", [1, 2, 3], [[1, 1, 2], [2, 2, 3], [3, 3, 3]]),
        ("serpentine", "101/001/000", [1, 2, 3], [[1, 1, 2], [3, 3, 3], [3, 3, 3]]),
        ("serpentine", "101/100/000", [1, 2, 3], [[1, 1, 2], [3, 2, 2], [3, 3, 3]]),
    ],
)
def test_decode_by_hand(method: str, mask: str, kept: list[int], expected: list[list[int]]) -> None:
    keep = np.array([[bit == "1" for bit in row] for row in mask.split("/")])
    tokens = np.uint8(kept).reshape(-1, 1, 1, 1)
    for shape in (keep, keep[np.newaxis]):
        image = reference.decode(shape, tokens, PIXEL_SPEC, method=method, threshold=BUDGET_10)
        assert image[..., 0].tolist() == expected


@pytest.mark.parametrize(
    "how",
    [
        {"method": "either"},
        {"method": "unique"},
        {"method": "random"},
        {"method": "conncomp"},
        {"method": lambda left, up: left},
        {"threshold": 0.1, "anchored": OPEN},
        {"method": "raster", "threshold": 0.1, "anchored": OPEN},
        {"method": "serpentine", "threshold": 0.1, "anchored": OPEN},
    ],
)
def test_what_cannot_be_decoded(how: dict[str, Any]) -> None:
    with pytest.raises(PixelPruneError, match="can't be decoded"):
        reference.decode([[True]], np.zeros((1, 1, 1, 3), np.uint8), PIXEL_SPEC, **how)


@pytest.mark.parametrize(
    ("mask", "tokens", "error"),
    [
        ([[False, True]], np.zeros((1, 1, 1, 3), np.uint8), PixelPruneError),
        ([[True, True]], np.zeros((1, 1, 1, 3), np.uint8), PixelPruneError),
        ([[True]], np.zeros((1, 2, 2, 3), np.uint8), PixelPruneError),
        ([[True]], np.zeros((1, 1, 3), np.uint8), PixelPruneError),
        ([[[True]], [[True]]], np.zeros((2, 1, 1, 3), np.uint8), PixelPruneError),
        ([[True]], np.zeros((1, 1, 1, 3), np.float32), TypeError),
        ([[1]], np.zeros((1, 1, 1, 3), np.uint8), TypeError),
    ],
)
def test_decode_refuses_what_does_not_fit(mask: Any, tokens: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        reference.decode(mask, tokens, PIXEL_SPEC)


# --- Errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"threshold": float("nan")},
        {"threshold": -1e-9},
        {"threshold": 1.0001},
        {"threshold": float("inf")},
        {"metric": "l2"},
        {"metric": "exact"},
        {"method": "pred_3d"},
        {"method": "unique", "threshold": 1e-300},
        {"method": "unique", "threshold": 0.1},
    ],
)
def test_settings_out_of_range(how: dict[str, Any]) -> None:
    for image in (pixels("1"), pixels("1 2", "3 4")):  # also where nothing is compared
        with pytest.raises(PixelPruneError, match="expected"):
            reference.prune(image, PIXEL_SPEC, **how)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((32, 32, 3), np.float32), TypeError),
        (np.zeros((32, 32, 3), np.int8), TypeError),
        (np.zeros((32, 33, 3), np.uint8), PixelPruneError),
        (np.zeros((31, 32), np.uint8), PixelPruneError),
        (np.zeros((0, 32, 3), np.uint8), PixelPruneError),
        (np.zeros((32,), np.uint8), PixelPruneError),
        (np.zeros((1, 32, 32, 3), np.uint8), PixelPruneError),
    ],
)
def test_images_that_are_not_tokens(image: npt.NDArray[Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        reference.image_tokens(image, "qwen3_vl")


@pytest.mark.parametrize(
    ("values", "grid", "how", "error"),
    [
        (np.zeros((4, 1536), np.float64), (1, 2, 2), {}, TypeError),
        (np.zeros((4, 1536), np.uint16), (1, 2, 2), {}, TypeError),
        (np.zeros((4, 1536), np.float32), (1, 2, 2), {"bfloat16": True}, TypeError),
        (np.zeros((4, 1535), np.float32), (1, 2, 2), {}, PixelPruneError),
        (np.zeros((5, 1536), np.float32), (1, 2, 2), {}, PixelPruneError),
        (np.zeros((3, 1536), np.float32), (1, 1, 3), {}, PixelPruneError),
        (np.zeros((0, 1536), np.float32), (0, 2, 2), {}, PixelPruneError),
        (np.zeros((4, 1536), np.float32), (1, 2, 2), {"temporal": "first"}, PixelPruneError),
    ],
)
def test_pixel_values_that_do_not_fit(values: Any, grid: Any, how: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        reference.pixel_value_tokens(values, grid, "qwen3_vl", **how)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_compared_values_must_be_finite(bad: float, threshold: float) -> None:
    spec = VisionSpec(patch_size=1, merge_size=1, mean=(0.5,), std=(0.5,))
    for dtype in (np.float32, np.float16):
        for frame in (0, 1):
            values = np.zeros((2, 2), dtype)
            values[1, frame] = bad
            with pytest.raises(PixelPruneError, match="NaN or infinite"):
                reference.prune_pixel_values(values, (1, 1, 2), spec, threshold=threshold, temporal="frames")
    # The second temporal copy is not compared: nobody looks.
    check(reference.prune_pixel_values(values, (1, 1, 2), spec, threshold=threshold), "1 0", "0 0")


def test_tokens_of_another_dtype() -> None:
    with pytest.raises(TypeError, match="expected uint8 or floating point"):
        reference.prune_tokens(np.zeros((1, 1, 1, 3), np.int32))
    with pytest.raises(PixelPruneError, match="non-empty"):
        reference.prune_tokens(np.zeros((1, 0, 1, 3), np.uint8))


HUGE = 10**5000


class Failing:
    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__"):
            return object.__getattribute__(self, name)
        raise ZeroDivisionError(name)


ODD: list[Any] = [
    *(None, 5, -1, HUGE, 10**30, 0.5, float("nan"), float("inf"), True, "", "x", b"x", object(), Failing()),
    *([], [1, 2], [[1], [1, 2]], {}, iter([]), np.zeros(3), np.zeros((0, 3)), np.array(None), np.full((2, 2), np.nan)),
]
TWO = VisionSpec(patch_size=2, merge_size=1, min_pixels=1)
IMAGE = np.zeros((4, 4, 3), np.uint8)
TOKENS = IMAGE.reshape(1, 2, 2, 12)
VALUES = np.zeros((4, 24), np.float32)
HOW: dict[str, Any] = {"metric": "max", "threshold": 0.0, "anchored": True}
PRUNE = {"method": "pred_2d", "protect": "nothing", **HOW}
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "budget": (("max", 0.1, 5), {}),
    "similar": ((TOKENS[0, 0, 0], TOKENS[0, 0, 1], "max", 0.1), {}),
    "neighbour_planes": ((TOKENS[0],), {"metric": "max", "threshold": 0.0}),
    "image_tokens": ((IMAGE, TWO), {}),
    "pixel_value_tokens": ((VALUES, (1, 2, 2), TWO, "repeat"), {"bfloat16": False}),
    "to_unit_range": ((VALUES, TWO), {}),
    "one_colour": ((TOKENS[0, 0, 0], 0.1), {}),
    "prune_tokens": ((TOKENS,), PRUNE),
    "baseline_count": ((TOKENS,), {"protect": "nothing", **HOW}),
    "prune": ((IMAGE, TWO), PRUNE),
    "prune_pixel_values": (
        (VALUES, (1, 2, 2), TWO),
        {"temporal": "repeat", "bfloat16": False, **PRUNE},
    ),
    "reconstruct": ((IMAGE, [0, 0, 0, 0], TWO), {}),
    "decode": (([[True, False]], np.zeros((1, 2, 2, 3), np.uint8), TWO), {"method": "pred_2d", **HOW}),
    "patch_indices": (([0], (1, 2, 2), TWO), {}),
    "hash_token_bytes": ((IMAGE, TWO), {}),
    "resize": ((IMAGE, 3, 3), {}),
    "normalise": ((IMAGE, TWO), {"resample": "torchvision", "dtype": "float32"}),
    "patchify": ((IMAGE, TWO), {"copies": "repeat"}),
    "preprocess": (
        (IMAGE, TWO),
        {"prune": True, "resample": "none", "dtype": "uint8", "copies": "repeat", **PRUNE},
    ),
}


@pytest.mark.parametrize("name", sorted(set(reference.__all__) - {"METHODS", "METRICS", "BASELINES", "PROTECT"}))
def test_any_argument_gives_an_answer_or_a_typed_error(name: str) -> None:
    function = getattr(reference, name)
    arguments, settings = CALLS[name]
    function(*arguments, **settings)
    for odd in ODD:
        for place in [*range(len(arguments)), *settings]:
            changed, how = list(arguments), dict(settings)
            if isinstance(place, int):
                changed[place] = odd
            else:
                how[place] = odd
            with contextlib.suppress(PixelPruneError, TypeError):
                function(*changed, **how)


@pytest.mark.parametrize("wrong", [True, "0.1", np.True_, [0.1], None])
def test_thresholds_of_another_type(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"threshold is .*; expected a number in"):
        reference.prune(pixels("1 2"), PIXEL_SPEC, threshold=wrong)


@pytest.mark.parametrize("wrong", ["no", 0, None])
def test_anchored_of_another_type(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"anchored is .*; expected True or False"):
        reference.prune(pixels("1 2"), PIXEL_SPEC, anchored=wrong)


# --- Golden masks ----------------------------------------------------------------------------------------


def load(entry: dict[str, Any]) -> Pixels:
    with Image.open(GOLDEN / "images" / entry["image"]) as image:
        assert list(image.size) == entry["size"]
        return np.asarray(image.convert("RGB").resize(entry["resized"], Image.Resampling.BICUBIC))


def golden_mask(entry: dict[str, Any], case: dict[str, Any]) -> npt.NDArray[np.bool_]:
    t, h, w = entry["grid_thw"]
    packed = np.frombuffer(bytes.fromhex(case["mask_packed_hex"]), np.uint8)
    return np.unpackbits(packed, count=entry["tokens"]).astype(bool).reshape(t, h // 2, w // 2)


@pytest.fixture(scope="module", params=ENTRIES, ids=lambda entry: Path(entry["image"]).stem)
def golden(request: pytest.FixtureRequest) -> tuple[dict[str, Any], VisionSpec, Pixels]:
    entry = request.param
    return entry, PRESETS[entry["preset"]], load(entry)


Golden = tuple[dict[str, Any], VisionSpec, Pixels]


def how_of(case: dict[str, Any]) -> dict[str, Any]:
    return {name: case[name] for name in ("method", "metric", "threshold", "anchored")}


def test_golden_pixels(golden: Golden) -> None:
    entry, spec, image = golden
    one_frame, grid = still(image, replace(spec, temporal_patch_size=1))
    assert list(grid) == entry["grid_thw"]
    assert hashlib.sha256(one_frame.tobytes()).hexdigest() == entry["patches_u8_sha256"]
    mask, _ = reference.prune(image, spec, method="unique")
    assert (mask.size, mask.sum()) == (entry["tokens"], entry["unique_tokens"])


def test_golden_masks_from_pixels(golden: Golden) -> None:
    entry, spec, image = golden
    for case in entry["cases"]:
        mask, _ = reference.prune(image, spec, **how_of(case))
        assert mask.sum() == case["kept"], how_of(case)
        assert np.array_equal(mask, golden_mask(entry, case)), how_of(case)


def test_golden_masks_from_pixel_values(golden: Golden) -> None:
    entry, spec, image = golden
    values, grid = still(normalise(image, spec), spec)
    for case in entry["cases"]:
        mask, _ = reference.prune_pixel_values(values, grid, spec, **how_of(case))
        assert np.array_equal(mask, golden_mask(entry, case)), how_of(case)


# --- What must hold for any image ------------------------------------------------------------------------

some = settings(max_examples=60, deadline=None)
methods = st.sampled_from(PREDICTORS)
loops = st.sampled_from((CLOSED, OPEN))


def tokens_of(case: Case) -> npt.NDArray[np.uint8]:
    tokens = reference.image_tokens(case.image, case.spec)
    return tokens.reshape(-1, *tokens.shape[2:])


def prune(case: Case, method: str, anchored: bool) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    mask, source = reference.prune(
        case.image, case.spec, method=method, metric=case.metric, threshold=case.threshold, anchored=anchored
    )
    assert source is not None
    return mask, source


@some
@given(cases(), methods, loops)
def test_a_source_is_a_kept_token_and_comes_first(case: Case, method: str, anchored: bool) -> None:
    mask, source = prune(case, method, anchored)
    kept = mask.ravel()
    index = np.arange(mask.size)
    assert kept[0]
    assert kept[source].all()
    assert ((source == index) == kept).all()
    if method != "serpentine":
        assert (source <= index).all()


@some
@given(cases(), methods)
def test_closed_loop_keeps_every_token_within_the_threshold_of_its_source(case: Case, method: str) -> None:
    _, source = prune(case, method, CLOSED)
    tokens = tokens_of(case)
    n, tau = tokens[0].size, case.threshold
    limit = {"max": 255 * tau, "mae": 255 * tau * n, "rmse": (255 * tau) ** 2 * n}[case.metric]
    for token, kept in zip(tokens, tokens[source], strict=True):
        assert distance(token, kept, case.metric) <= limit * (1 + 1e-8)


@some
@given(cases(), st.sampled_from(reference.METHODS), loops)
def test_reconstruction_at_threshold_0_is_the_image(case: Case, method: str, anchored: bool) -> None:
    how: dict[str, Any] = {"method": method, "metric": case.metric, "anchored": anchored}
    mask, source = reference.prune(case.image, case.spec, **how)
    assert source is not None
    assert np.array_equal(reference.reconstruct(case.image, source, case.spec), case.image)
    closed, _ = reference.prune(case.image, case.spec, method=method)
    assert np.array_equal(mask, closed)  # equality is transitive: loop and metric make no difference


@some
@given(cases(), st.sampled_from(("pred_2d", "raster", "serpentine")))
def test_decode_gives_the_reconstruction(case: Case, method: str) -> None:
    mask, source = prune(case, method, CLOSED)
    kept = tokens_of(case)[mask.ravel()]
    how: dict[str, Any] = {"method": method, "metric": case.metric, "threshold": case.threshold}
    decoded = reference.decode(mask, kept, case.spec, **how)
    expected = reference.reconstruct(case.image, source, case.spec)
    assert np.array_equal(decoded.reshape(expected.shape), expected)


@some
@given(cases())
def test_open_loop_pred_2d_is_a_function_of_two_planes(case: Case) -> None:
    mask, _ = prune(case, "pred_2d", OPEN)
    frame = reference.image_tokens(case.image, case.spec)
    left, up = reference.neighbour_planes(frame, metric=case.metric, threshold=case.threshold)
    same = left.copy()  # row 0 predicts A
    same[1:, 0] = up[1:, 0]  # column 0 predicts B
    use_above = up[1:, :-1] & ~left[:-1, 1:]
    same[1:, 1:] = np.where(use_above, up[1:, 1:], left[1:, 1:])
    assert np.array_equal(mask[0], ~same)


@some
@given(cases())
def test_three_equal_edges_of_a_square_make_four(case: Case) -> None:
    left, up = reference.neighbour_planes(reference.image_tokens(case.image, case.spec))
    edges = left[:-1, 1:].astype(int) + left[1:, 1:] + up[1:, :-1] + up[1:, 1:]
    assert not (edges == 3).any()


@some
@given(cases())
def test_unique_keeps_the_first_of_equal_tokens(case: Case) -> None:
    mask, source = reference.prune(case.image, case.spec, method="unique")
    tokens = tokens_of(case)
    assert source is not None
    for i, token in enumerate(tokens):
        equal = [j for j, other in enumerate(tokens) if np.array_equal(token, other)]
        assert source[i] == equal[0]
        assert mask.ravel()[i] == (equal[0] == i)


@some
@given(cases(), st.sampled_from(reference.METHODS), loops)
def test_uint8_pixel_values_give_the_image_s_answer(case: Case, method: str, anchored: bool) -> None:
    how: dict[str, Any] = {"method": method, "metric": case.metric, "anchored": anchored}
    how["threshold"] = 0.0 if method == "unique" else case.threshold
    mask, source = reference.prune(case.image, case.spec, **how)
    values, grid = still(case.image, case.spec)
    for temporal in ("repeat", "frames"):
        mask_2, source_2 = reference.prune_pixel_values(values, grid, case.spec, temporal=temporal, **how)
        assert np.array_equal(mask, mask_2)
        assert np.array_equal(source, source_2)


whole_levels = st.integers(0, 255).map(lambda level: level / 255)


@some
@given(cases(metrics=("max",), thresholds=whole_levels, channels=(3,)), methods, loops)
def test_float_pixel_values_give_the_image_s_answer(case: Case, method: str, anchored: bool) -> None:
    """For the settings at which the slack of the floats can't matter."""
    mask, source = prune(case, method, anchored)
    values, grid = still(normalise(case.image, case.spec), case.spec)
    how: dict[str, Any] = {"method": method, "threshold": case.threshold, "anchored": anchored}
    mask_2, source_2 = reference.prune_pixel_values(values, grid, case.spec, **how)
    assert np.array_equal(mask, mask_2)
    assert np.array_equal(source, source_2)


@some
@given(st.data(), cases(), methods)
def test_layout_in_memory_makes_no_difference(data: st.DataObject, case: Case, method: str) -> None:
    view = data.draw(layouts(case.image))
    assert np.array_equal(view, case.image)
    mask, source = prune(case, method, CLOSED)
    mask_2, source_2 = prune(replace(case, image=view), method, CLOSED)
    assert np.array_equal(mask, mask_2)
    assert np.array_equal(source, source_2)
    rebuilt = reference.reconstruct(view, source, case.spec)
    assert np.array_equal(rebuilt, reference.reconstruct(case.image, source, case.spec))


# --- The strategies do what they say ---------------------------------------------------------------------


@pytest.mark.parametrize("metric", reference.METRICS)
@pytest.mark.parametrize("by", [0, 1, 10, 127])
def test_moved_tokens_are_as_far_away_as_asked(metric: str, by: int) -> None:
    token = np.random.default_rng(2).integers(0, 256, (4, 4, 3), np.uint8)
    for start in (0, 15, 47):
        assert distance(token, moved(token, by, metric, start), metric) == by
