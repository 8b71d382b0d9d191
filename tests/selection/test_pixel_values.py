"""prune_pixel_values: every type, order, layout, several images and frames, against the oracle and against prune."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixelprune import _core, reference
from pixelprune.arrays import as_pixel_values
from pixelprune.reference import BASELINES, METHODS, METRICS, PROTECT
from pixelprune.selection.pruning import _row_layout
from pixelprune.selection.settings import CoreSettings
from strategies import PIXEL_SPEC, SPECS, THRESHOLDS, Case, Pixels, cases, images, normalise, patchify, still
from strategies import to_bfloat16 as bfloat16_bits

LEVELS = _core.simd_levels()
QWEN3 = pp.VisionSpec.preset("qwen3_vl")
Values = npt.NDArray[Any]
Grid = tuple[int, int, int]

TYPES = ("float32", "float16", "bfloat16", "uint8")


def stored(frames: Pixels, spec: pp.VisionSpec, dtype: str) -> Values:
    """What a processor makes of frames ``(n, H, W, 3)``."""
    if dtype == "uint8":
        return patchify(frames, spec)
    values = patchify(normalise(frames, spec), spec)
    return bfloat16_bits(values) if dtype == "bfloat16" else values.astype(dtype)


@st.composite
def videos(draw: st.DrawFn, spec: pp.VisionSpec, metric: str, threshold: float) -> Pixels:
    """Frames ``(t * temporal_patch_size, H, W, 3)``: copies of one image, some of them moved by a token."""
    image = draw(images(spec, 3, metric, threshold, max_side=3))
    count = draw(st.integers(1, 3)) * spec.temporal_patch_size
    shifts = draw(st.lists(st.sampled_from((0, 0, 1)), min_size=count, max_size=count))
    axis = draw(st.integers(0, 1))
    frames = np.stack([np.roll(image, shift * spec.token_size, axis) for shift in shifts])
    if draw(st.booleans()):  # one value of one frame a little off
        at = tuple(draw(st.integers(0, side - 1)) for side in frames.shape)
        frames[at] ^= 1
    return frames


Batch = tuple[list[Pixels], pp.VisionSpec, str, float]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    spec, metric, threshold = draw(st.sampled_from(SPECS)), draw(st.sampled_from(METRICS)), draw(THRESHOLDS)
    return draw(st.lists(videos(spec, metric, threshold), min_size=1, max_size=3)), spec, metric, threshold


def grid_of(frames: Pixels, spec: pp.VisionSpec) -> Grid:
    count, height, width, _ = frames.shape
    return count // spec.temporal_patch_size, height // spec.patch_size, width // spec.patch_size


# --- The oracle's answer ---------------------------------------------------------------------------------


@settings(max_examples=250)
@given(
    batches(),
    st.sampled_from(METHODS),
    st.booleans(),
    st.sampled_from(PROTECT),
    st.sampled_from(TYPES),
    st.sampled_from(("repeat", "frames")),
)
def test_equals_the_reference_at_every_simd_level(
    batch: Batch, method: str, anchored: bool, protect: str, dtype: str, temporal: Any
) -> None:
    batch_images, spec, metric, threshold = batch
    threshold = 0.0 if method == "unique" else threshold
    how: dict[str, Any] = {
        "method": method,
        "metric": metric,
        "threshold": threshold,
        "anchored": anchored,
        "protect": protect,
        "temporal": temporal,
    }
    parts = [stored(frames, spec, dtype) for frames in batch_images]
    grids = [grid_of(frames, spec) for frames in batch_images]
    values = np.concatenate(parts)
    found = pp.prune_pixel_values(values, grids, spec, **how)
    assert [sel.grid_thw for sel in found] == grids
    for part, grid, sel in zip(parts, grids, found, strict=True):
        mask, source = reference.prune_pixel_values(part, grid, spec, bfloat16=dtype == "bfloat16", **how)
        assert np.array_equal(sel.mask, mask)
        assert np.array_equal(sel.source, source)
    for level, threads in product(LEVELS, (1, 2)):
        again = core(values, grids, spec, how, threads, level, dtype == "bfloat16")
        for (keep, source), sel in zip(again, found, strict=True):
            assert np.array_equal(keep, sel.keep), (level, threads)
            assert np.array_equal(source, sel.source), (level, threads)


def core(
    values: Values,
    grids: Sequence[Grid],
    spec: pp.VisionSpec,
    how: dict[str, Any],
    threads: int,
    level: str,
    bfloat16: bool = False,
) -> list[Any]:
    layout = _row_layout(spec, how["temporal"], values.shape[1], values.dtype == np.uint8, bfloat16)
    given = CoreSettings(
        how["method"], how["metric"], how["threshold"], how["anchored"], 42, how.get("protect", "nothing")
    )
    bits = values.view(np.uint16) if values.dtype.itemsize == 2 else values
    return _core.prune_pixel_values(bits, grids, layout, given, threads, level)


@given(cases(channels=(3,)), st.sampled_from(METHODS + BASELINES), st.booleans(), st.sampled_from(PROTECT))
def test_uint8_values_give_the_image_s_answer(case: Case, method: str, anchored: bool, protect: str) -> None:
    how: dict[str, Any] = {"method": method, "metric": case.metric, "anchored": anchored, "protect": protect}
    how["threshold"] = 0.0 if method == "unique" else case.threshold
    sel = pp.prune(case.image, case.spec, **how)
    values, grid = still(case.image, case.spec)
    for temporal in ("repeat", "frames"):
        assert pp.prune_pixel_values(values, [grid], case.spec, temporal=temporal, **how) == [sel]


whole_levels = st.integers(0, 255).map(lambda level: level / 255)


@given(
    cases(metrics=("max",), thresholds=whole_levels, channels=(3,)),
    st.sampled_from(METHODS + BASELINES),
    st.booleans(),
    st.sampled_from(PROTECT),
)
def test_float32_values_give_the_image_s_answer(case: Case, method: str, anchored: bool, protect: str) -> None:
    """For the settings at which the slack of the floats can't matter."""
    threshold = 0.0 if method == "unique" else case.threshold
    how: dict[str, Any] = {"method": method, "threshold": threshold, "anchored": anchored, "protect": protect}
    sel = pp.prune(case.image, case.spec, **how)
    values, grid = still(normalise(case.image, case.spec), case.spec)
    for temporal in ("repeat", "frames"):
        assert pp.prune_pixel_values(values, [grid], case.spec, temporal=temporal, **how) == [sel]


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels: int) -> None:
    spec = replace(PIXEL_SPEC, mean=(0.5,) * channels, std=(0.25,) * channels)
    image = np.random.default_rng(1).integers(0, 3, (5, 6, channels), np.uint8) * 40
    values, grid = still(normalise(image, spec), spec)
    for threshold in (0.0, 40 / 255):
        expected = pp.prune(image, spec, threshold=threshold)
        assert 1 < expected.kept < 30
        assert pp.prune_pixel_values(values, [grid], spec, threshold=threshold) == [expected]


def test_bfloat16_merges_two_blue_levels_of_clip() -> None:
    spec = pp.VisionSpec.preset("qwen2_vl")
    image = np.full((28, 28 * 256, 3), 200, np.uint8)
    image[..., 2] = np.arange(28 * 256) // 28
    values, grid = still(normalise(image, spec), spec)
    [sel] = pp.prune_pixel_values(bfloat16_bits(values), [grid], spec)
    assert sorted(set(range(256)) - set(sel.keep.tolist())) == [254]  # not told from 253
    for dtype in (np.float16, np.float32):
        [sel] = pp.prune_pixel_values(values.astype(dtype), [grid], spec)
        assert sel.kept == 256


def test_every_half_and_bfloat16_value_is_read_right() -> None:
    """All finite bit patterns, in tokens of one value, against numpy's own conversion."""
    spec = pp.VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=1, mean=(0.0,), std=(1.0,))
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)
    brains = (bits.astype(np.uint32) << 16).view(np.float32)
    for values, numbers in ((halves, halves), (bits, brains)):
        finite = np.isfinite(numbers)
        row, wide = values[finite], numbers[finite].astype(np.float64)
        # Next to each number a 0, so that every comparison is of the number and 0.
        pairs = np.zeros((row.size, 2), row.dtype)
        pairs[:, 0] = row
        for tau in (0.0, 0.25, 1.0):
            [sel] = pp.prune_pixel_values(pairs.reshape(-1, 1), [(1, row.size, 2)], spec, threshold=tau,
                                          method="raster", anchored=False)  # fmt: skip
            similar = abs(wide) <= (tau + 1e-6 if tau else 0)
            assert np.array_equal(~sel.mask[0, :, 1], similar), tau


# --- Order of patches, images, frames --------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.patch_size}x{s.merge_size}-{s.patch_order}")
@pytest.mark.parametrize("dtype", TYPES)
def test_one_changed_value_is_found_in_its_token(spec: pp.VisionSpec, dtype: str) -> None:
    """A value of every kind of place, in any of two images of several frames, changes that token only."""
    rng = np.random.default_rng(2)
    m = spec.merge_size
    grids = [(2, 2 * m, 3 * m), (1, 3 * m, m)]
    rows = [t * h * w for t, h, w in grids]
    n = 3 * spec.temporal_patch_size * spec.patch_size**2
    values = np.full((sum(rows), n), 0 if dtype == "bfloat16" else 1, dtype.replace("bfloat16", "uint16"))
    for _ in range(40):
        row, at = int(rng.integers(sum(rows))), int(rng.integers(n))
        before = values[row, at]
        values[row, at] = 3 if dtype != "bfloat16" else 0x4000
        image, own = (0, row) if row < rows[0] else (1, row - rows[0])
        t, h, w = grids[image]
        if spec.patch_order == "block":
            token = own // (m * m)
        else:
            token = own // w // m * (w // m) + own % w // m
        # Its first frame is compared in any case.
        first = spec.temporal_patch_size == 1 or at // spec.patch_size**2 % spec.temporal_patch_size == 0
        for temporal in ("repeat", "frames"):
            sels = pp.prune_pixel_values(values, grids, spec, temporal=temporal, method="unique")
            frame = token - token % (h // m * (w // m))
            found = sels[image].source
            assert found is not None
            changed = first or temporal == "frames"
            expected = {f * (h // m * (w // m)) for f in range(t)}
            if changed:
                # The first of its frame that is not this one stands for the rest.
                expected |= {token} if token != frame else {token, token + 1} - {t * h * w // m**2}
            assert set(sels[image].keep.tolist()) == expected, (row, at, temporal)
            assert sels[1 - image].kept == grids[1 - image][0]
        values[row, at] = before


def test_a_batch_in_bands_across_frames() -> None:
    """Images large enough for bands whose edges lie within, and between, frames."""
    rng = np.random.default_rng(3)
    spec = replace(QWEN3, temporal_patch_size=1)
    grids = [(7, 6, 14), (1, 26, 30), (1, 2, 2)]
    pieces = []
    for t, h, w in grids:
        kinds = rng.integers(0, 3, (t, h // 2, w // 2)).ravel()
        kinds = np.where(rng.random(kinds.size) < 0.6, kinds[0], kinds)
        pieces.append(np.repeat(kinds, 4)[:, None] + np.zeros(768))
    values = np.concatenate(pieces).astype(np.float32)
    assert values[: 7 * 6 * 14].nbytes > 1 << 20
    for method, tau, metric in product(METHODS + BASELINES, (0.0, 0.6), METRICS):
        if method == "unique" and tau:
            continue
        for anchored in (True, False):
            how: dict[str, Any] = {"method": method, "metric": metric, "threshold": tau, "anchored": anchored}
            one = pp.prune_pixel_values(values, grids, spec, **how)
            for threads in (2, 3, 7):
                assert pp.prune_pixel_values(values, grids, spec, threads=threads, **how) == one
            start = 0
            for (t, h, w), sel in zip(grids, one, strict=True):  # each image by itself
                own = values[start : start + t * h * w]
                assert pp.prune_pixel_values(own, [(t, h, w)], spec, **how) == [sel]
                start += t * h * w


def test_frames_are_grids_of_their_own() -> None:
    spec = replace(PIXEL_SPEC, temporal_patch_size=1, mean=(0.5,), std=(0.5,))
    values = np.float32([1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]).reshape(-1, 1)
    for method in METHODS:
        [sel] = pp.prune_pixel_values(values, [(3, 2, 2)], spec, method=method)
        assert sel.grid == (3, 2, 2)
        assert sel.keep.tolist() == [0, 4, 8]
        assert sel.source is not None
        assert sel.source.tolist() == [0] * 4 + [4] * 4 + [8] * 4


def test_a_callable_is_asked_frame_by_frame() -> None:
    seen = []

    def method(left: npt.NDArray[np.bool_], up: npt.NDArray[np.bool_]) -> Any:
        seen.append((left.astype(int).tolist(), up.astype(int).tolist()))
        mask = ~(left | up)
        return mask, np.where(mask.ravel(), np.arange(4), np.flatnonzero(mask.ravel())[0])

    spec = replace(PIXEL_SPEC, temporal_patch_size=1, mean=(0.5,), std=(0.5,))
    values = np.float32([1, 1, 1, 2, 5, 6, 5, 7, 1]).reshape(-1, 1)
    first, second = pp.prune_pixel_values(values, [(2, 2, 2), (1, 1, 1)], spec, method=lambda a, b: ~(a | b))
    assert (first.keep.tolist(), second.keep.tolist()) == ([0, 3, 4, 5, 7], [0])
    [sel] = pp.prune_pixel_values(values[:8], [(2, 2, 2)], spec, method=method)
    assert seen == [([[0, 1], [0, 0]], [[0, 0], [1, 0]]), ([[0, 0], [0, 0]], [[0, 0], [1, 0]])]
    assert sel.source is not None
    assert sel.source.tolist() == [0, 0, 0, 3, 4, 5, 4, 7]
    answers = iter([np.ones((2, 2), bool), (np.ones((2, 2), bool), range(4))])
    with pytest.raises(pp.PixelPruneError, match="all or none"):
        pp.prune_pixel_values(values[:8], [(2, 2, 2)], spec, method=lambda a, b: next(answers))


def test_temporal_copies() -> None:
    """Rows hold (channel, frame, y, x): the first copy alone decides, unless all frames are compared."""
    values = np.zeros((2 * 4, 3 * 2 * 256), np.float32)
    values[4 + 1, 256:512] = 1  # second copy of a channel
    [still_image] = pp.prune_pixel_values(values, [(1, 2, 4)], QWEN3)
    [video] = pp.prune_pixel_values(values, [(1, 2, 4)], QWEN3, temporal="frames")
    assert (still_image.kept, video.kept) == (1, 2)
    values[4 + 1, 512 + 255] = 1  # first copy of the next
    assert pp.prune_pixel_values(values, [(1, 2, 4)], QWEN3)[0].kept == 2
    # All frames count in the mean.
    spec = replace(PIXEL_SPEC, mean=(0.0,), std=(1.0,))
    pair = np.float32([[0, 0], [0.5, 0]])
    for temporal, kept in (("repeat", 2), ("frames", 1)):
        [sel] = pp.prune_pixel_values(pair, [(1, 1, 2)], spec, temporal=temporal, metric="mae", threshold=0.25)
        assert sel.kept == kept


# --- Values ----------------------------------------------------------------------------------------------


def test_values_are_compared_as_stored_at_0_and_as_pixels_above() -> None:
    spec = pp.VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=1, mean=(0.5,), std=(0.25,))
    grid = [(1, 1, 2)]
    values = np.float32([[0.2], [0.6]])  # 0.1 apart once un-normalised
    assert pp.prune_pixel_values(values, grid, spec, threshold=0.1)[0].kept == 1
    assert pp.prune_pixel_values(values, grid, spec, threshold=0.099)[0].kept == 2
    next_up = np.nextafter(np.float32(0.2), np.float32(1))
    assert pp.prune_pixel_values(np.array([[0.2], [next_up]], np.float32), grid, spec)[0].kept == 2
    levels = np.uint8([[20], [60]])  # uint8 is on the 0-255 scale whatever mean and std say
    assert pp.prune_pixel_values(levels, grid, spec, threshold=40 / 255)[0].kept == 1
    assert pp.prune_pixel_values(levels, grid, spec, threshold=39 / 255)[0].kept == 2


@st.composite
def loose_values(draw: st.DrawFn) -> tuple[Values, Grid, float]:
    """Tokens of 2 x 2 x 3 float32 values around 8-bit levels, copies of them, and near copies."""
    threshold = draw(st.integers(1, 60).map(lambda level: level / 255) | st.floats(0.001, 0.3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    palette = [rng.integers(0, 256, 12).astype(np.float64)]
    for _ in range(draw(st.integers(1, 3))):
        step = draw(st.sampled_from((0.0, 0.5, 0.9, 0.999, 1.0, 1.001, 1.1))) * 255 * threshold
        signs = rng.choice((-1, 1), 12) * (rng.random(12) < draw(st.sampled_from((0.1, 0.5, 1.0))))
        palette.append(palette[-1] + signs * (round(step) if draw(st.booleans()) else step))
    # So much off the level, in levels: what float16 and what float32 may be, and more.
    jitter = draw(st.sampled_from((0.0, 0.0, 1e-4, 0.002, 0.05, 0.2)))
    rows, cols = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    tokens = np.stack(palette)[rng.integers(0, len(palette), rows * cols)]
    tokens += jitter * rng.uniform(-1, 1, tokens.shape) * (rng.random(rows * cols) < 0.5)[:, np.newaxis]
    values = ((tokens / 255 - 0.5) / 0.5).astype(np.float32)
    return values, (1, rows, cols), threshold


@settings(max_examples=200)
@given(
    loose_values(),
    st.sampled_from(METRICS),
    st.sampled_from(("pred_2d", "raster", "serpentine", "either")),
    st.booleans(),
    st.sampled_from(PROTECT),
    st.sampled_from(("float32", "float16", "bfloat16")),
)
def test_values_that_are_no_levels(
    case: tuple[Values, Grid, float], metric: str, method: str, anchored: bool, protect: str, dtype: str
) -> None:
    values, grid, threshold = case
    spec = pp.VisionSpec(patch_size=2, merge_size=1, temporal_patch_size=1)
    values = bfloat16_bits(values) if dtype == "bfloat16" else values.astype(dtype)
    how: dict[str, Any] = {
        "method": method,
        "metric": metric,
        "threshold": threshold,
        "anchored": anchored,
        "protect": protect,
    }
    [sel] = pp.prune_pixel_values(values, [grid], spec, **how)
    mask, source = reference.prune_pixel_values(values, grid, spec, bfloat16=dtype == "bfloat16", **how)
    assert np.array_equal(sel.mask, mask)
    assert np.array_equal(sel.source, source)
    for level in LEVELS:
        [(keep, _)] = core(values, [grid], spec, {**how, "temporal": "repeat"}, 2, level, dtype == "bfloat16")
        assert np.array_equal(keep, sel.keep), level


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_level_beside_a_value_that_is_none(dtype: type[np.floating[Any]], metric: Any) -> None:
    """Only where both tokens are 8-bit levels are they compared as such; here they are compared as they stand."""
    spec = pp.VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=1, mean=(0.5,), std=(0.5,))
    for level in range(0, 200, 7):
        values = np.array([[level / 127.5 - 1], [(level + 40.4) / 127.5 - 1]]).astype(dtype)
        low, high = values[:, 0].astype(np.float32) * np.float32(0.5) + np.float32(0.5)
        for tau, kept in ((float(high - low), 1), (float(high - low) - 2e-6, 2)):
            [sel] = pp.prune_pixel_values(values, [(1, 1, 2)], spec, metric=metric, threshold=tau)
            assert sel.kept == kept, (level, tau)
            mask, _ = reference.prune_pixel_values(values, (1, 1, 2), spec, metric=metric, threshold=tau)
            assert mask.sum() == kept, (level, tau)


@pytest.mark.parametrize("method", METHODS)
def test_zero_equals_minus_zero(method: str) -> None:
    spec = replace(PIXEL_SPEC, temporal_patch_size=1, mean=(0.5,), std=(0.5,))
    for dtype in (np.float32, np.float16):
        values = np.array([[0.0], [-0.0], [1.0], [-0.0]], dtype)
        [sel] = pp.prune_pixel_values(values, [(1, 1, 4)], spec, method=method)
        assert sel.keep.tolist() == ([0, 2] if method == "unique" else [0, 2, 3])
    bits = np.uint16([[0], [0x8000], [0x3F80]])
    assert pp.prune_pixel_values(bits, [(1, 1, 3)], spec, method=method)[0].keep.tolist() == [0, 2]


NOT_FINITE = {
    "float32": (np.nan, np.inf, -np.inf),
    "float16": (np.nan, np.inf, -np.inf),
    "bfloat16": (0x7FC0, 0x7F80, 0xFF80, 0x7F81),
}


@pytest.mark.parametrize("dtype", NOT_FINITE)
@pytest.mark.parametrize("threads", [1, 2])
def test_nan_and_infinity_among_the_compared_values(dtype: str, threads: int) -> None:
    grids = [(1, 4, 4), (1, 2, 6)]
    p2 = 256
    for bad, (method, tau) in product(NOT_FINITE[dtype], (("pred_2d", 0.0), ("raster", 0.1), ("unique", 0.0))):
        how: dict[str, Any] = {"method": method, "threshold": tau, "threads": threads}
        for row, (channel, frame), inside in product((0, 15, 16, 27), product(range(3), range(2)), (0, 255)):
            values = np.zeros((28, 6 * p2), dtype.replace("bfloat16", "uint16"))
            values[row, (channel * 2 + frame) * p2 + inside] = bad
            with pytest.raises(pp.PixelPruneError, match=rf"NaN or an infinity in row {row};"):
                pp.prune_pixel_values(values, grids, QWEN3, temporal="frames", **how)
            if frame == 0:
                with pytest.raises(pp.PixelPruneError, match=rf"in row {row};"):
                    pp.prune_pixel_values(values, grids, QWEN3, **how)
            else:  # the second copy of a still image is not compared: nobody looks
                assert [sel.kept for sel in pp.prune_pixel_values(values, grids, QWEN3, **how)] == [1, 1]
        with pytest.raises(pp.PixelPruneError, match="NaN"):
            pp.prune_pixel_values(
                values, grids, QWEN3, temporal="frames", method=lambda left, up: left == up, threshold=tau
            )


def test_the_first_of_several_rows_that_are_not_finite_is_named() -> None:
    values = np.zeros((1024, 1536), np.float32)
    values[[900, 300, 70, 3]] = np.nan
    quarters: list[Grid] = [(1, 16, 16)] * 4
    for threads, grids, _ in product((1, 2, 7), ([(1, 32, 32)], [(1, 8, 8), (1, 24, 40)], quarters), range(5)):
        with pytest.raises(pp.PixelPruneError, match="in row 3;"):
            pp.prune_pixel_values(values, grids, QWEN3, threads=threads)


@pytest.mark.parametrize("method", METHODS + BASELINES)
@pytest.mark.parametrize("grid", [(1, 2, 2), (1, 2, 4), (2, 2, 2)])
def test_tokens_that_no_other_is_compared_with_are_looked_at_too(method: Any, grid: Grid) -> None:
    for row, threshold in product(range(grid[0] * grid[1] * grid[2]), (0.0, 0.1)):
        values = np.zeros((grid[0] * grid[1] * grid[2], 1536), np.float32)
        values[row, 1024 + 255] = np.inf
        if method == "unique" and threshold:
            continue
        with pytest.raises(pp.PixelPruneError, match=f"in row {row};"):
            pp.prune_pixel_values(values, [grid], QWEN3, method=method, threshold=threshold)


@pytest.mark.parametrize("metric", METRICS)
def test_values_that_overflow_when_unnormalised_are_no_pixels(metric: str) -> None:
    """Stored values are finite, but infinite on the scale of the threshold: their distance is NaN."""
    spec = pp.VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=1, mean=(0.5,), std=(4.0,))
    values = np.float32([[3e38], [2e38]])
    with pytest.raises(pp.PixelPruneError, match="finite"):
        pp.prune_pixel_values(values, [(1, 1, 2)], spec, metric=metric, threshold=0.1)
    assert pp.prune_pixel_values(values, [(1, 1, 2)], spec)[0].kept == 2


@pytest.mark.parametrize("metric", METRICS)
def test_floats_that_are_no_pixels_are_far_apart(metric: Any) -> None:
    values = np.zeros((8, 1536), np.float32)
    for size in (10.0, 1e5, 1e10, 1e20, 1e30, 3.4e38):
        values[:4], values[4:] = size, -size
        for tau in (0.0, 1.0):
            [sel] = pp.prune_pixel_values(values, [(1, 2, 4)], QWEN3, metric=metric, threshold=tau)
            assert sel.kept == 2, (size, tau)


# --- Types and memory ------------------------------------------------------------------------------------


class Exporter:
    """An array that offers DLPack only, as a tensor of some framework."""

    def __init__(self, array: Values, **attributes: Any) -> None:
        self.array = array
        self.__dict__.update(attributes)

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class BrainTensor:
    """A bfloat16 tensor: a DLPack capsule made by hand, as numpy has no such type."""

    dtype = "framework.bfloat16"

    def __init__(
        self, bits: npt.NDArray[np.uint16], code: int = 4, strides: bool = True, destructor: Any = None
    ) -> None:
        self.bits, self.destructor, ndim = bits, destructor, bits.ndim
        self.shape = (ctypes.c_int64 * ndim)(*bits.shape)
        self.strides = (ctypes.c_int64 * ndim)(*(step // 2 for step in bits.strides))

        class Managed(ctypes.Structure):  # DLManagedTensor of dlpack.h
            _fields_ = [
                ("data", ctypes.c_void_p),
                ("device", ctypes.c_int32 * 2),
                ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8),
                ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16),
                ("shape", ctypes.c_void_p),
                ("strides", ctypes.c_void_p),
                ("byte_offset", ctypes.c_uint64),
                ("manager", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p),
            ]

        self.managed = Managed(
            bits.ctypes.data - 2,
            (1, 0),
            ndim,
            code,
            16,
            1,
            ctypes.addressof(self.shape),
            ctypes.addressof(self.strides) if strides else None,
            2,  # byte_offset
        )

    def __dlpack__(self, **_: Any) -> Any:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor", self.destructor)


def sample(dtype: str) -> Values:
    rng = np.random.default_rng(4)
    values = np.repeat(rng.integers(0, 2, 12), 4).astype(np.float32)[:, np.newaxis] + np.zeros(1536)
    return bfloat16_bits(values.astype(np.float32)) if dtype == "bfloat16" else values.astype(dtype)


GRID = [(1, 6, 8)]


@pytest.mark.parametrize("dtype", TYPES)
def test_what_pixel_values_may_be(dtype: str) -> None:
    values = sample(dtype)
    expected = pp.prune_pixel_values(values, GRID, QWEN3)
    assert 1 < expected[0].kept < 12
    read_only = values.copy()
    read_only.flags.writeable = False
    wide = np.zeros((48, 2 * 1536), values.dtype)
    wide[:, ::2] = values
    for same in (
        read_only,
        np.asfortranarray(values),
        wide[:, ::2],
        values[::-1][::-1],
        values.reshape(48, 3, 2, 16, 16),
        SimpleNamespace(__array_interface__=values.__array_interface__),
        values.astype(values.dtype.newbyteorder(">")) if dtype == "uint8" else values,
    ):
        assert pp.prune_pixel_values(same, GRID, QWEN3) == expected
    if dtype != "bfloat16":
        assert pp.prune_pixel_values(Exporter(values), GRID, QWEN3) == expected
    else:
        assert pp.prune_pixel_values(BrainTensor(values), GRID, QWEN3) == expected
        assert pp.prune_pixel_values(BrainTensor(values, strides=False), GRID, QWEN3) == expected
        assert pp.prune_pixel_values(BrainTensor(wide[:, ::2]), GRID, QWEN3) == expected


@pytest.mark.parametrize("dtype", TYPES)
def test_contiguous_values_are_borrowed(dtype: str) -> None:
    values = sample(dtype)
    borrowed, bfloat16 = as_pixel_values(values)
    assert np.shares_memory(borrowed, values)
    assert bfloat16 == (dtype == "bfloat16")
    tensor = BrainTensor(values) if bfloat16 else Exporter(values)
    assert np.shares_memory(as_pixel_values(tensor)[0], values)


def misaligned(values: Values, kind: str, folder: Path) -> Values:
    """The same values at an odd address."""
    data = b"\0" + values.tobytes()
    if kind == "frombuffer":
        return np.frombuffer(data, values.dtype, offset=1).reshape(values.shape)
    if kind == "memmap":
        (folder / "values").write_bytes(data)
        return np.memmap(folder / "values", values.dtype, "r", offset=1, shape=values.shape)
    packed = np.dtype([("tag", "u1"), ("values", values.dtype, values.shape)])
    found: Values = np.frombuffer(data, packed)[0]["values"]
    return found


@pytest.mark.parametrize("kind", ["frombuffer", "memmap", "packed field"])
@pytest.mark.parametrize("dtype", TYPES)
def test_misaligned_values_are_copied(dtype: str, kind: str, tmp_path: Path) -> None:
    """The core borrows them as slices of numbers, which have to be aligned."""
    values = sample(dtype)
    odd = misaligned(values, kind, tmp_path)
    assert odd.flags.c_contiguous
    assert odd.flags.aligned == (dtype == "uint8")
    given, _ = as_pixel_values(odd)
    assert given.flags.aligned
    assert given.flags.c_contiguous
    assert np.shares_memory(given, odd) == (dtype == "uint8")
    for method, threshold in (("pred_2d", 0.0), ("unique", 0.0), ("pred_2d", 0.1)):
        how: dict[str, Any] = {"method": method, "threshold": threshold}
        assert pp.prune_pixel_values(odd, GRID, QWEN3, **how) == pp.prune_pixel_values(values, GRID, QWEN3, **how)


def test_functions_of_the_whole_process_are_not_changed() -> None:
    """`ctypes.pythonapi` is shared by the whole process."""
    function = ctypes.pythonapi.PyCapsule_GetPointer
    before = function.restype, function.argtypes
    as_pixel_values(BrainTensor(sample("bfloat16")))
    assert (function.restype, function.argtypes) == before


def test_a_borrowed_tensor_is_held_as_long_as_its_memory() -> None:
    freed = []
    destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(freed.append)
    borrowed, _ = as_pixel_values(BrainTensor(sample("bfloat16"), destructor=destructor))
    view = borrowed[3:]
    del borrowed
    assert not freed
    del view
    assert len(freed) == 1


@pytest.mark.parametrize(
    "grid_thw",
    [GRID, [[1, 6, 8]], ((1, 6, 8),), np.array(GRID), np.array(GRID, np.int32), np.array(GRID, np.uint64)],
)
def test_what_grid_thw_may_be(grid_thw: Any) -> None:
    [sel] = pp.prune_pixel_values(sample("float32"), grid_thw, "qwen3_vl")
    assert sel.grid_thw == (1, 6, 8)
    assert all(type(side) is int for side in sel.grid_thw)


def test_no_images() -> None:
    empty = np.zeros((0, 1536), np.float32)
    for grid_thw in ([], (), np.zeros((0, 3), np.int64)):
        for threads in (1, 2):
            assert pp.prune_pixel_values(empty, grid_thw, QWEN3, threads=threads) == []
        assert pp.prune_pixel_values(empty, grid_thw, QWEN3, method=lambda left, up: left) == []


# --- Errors ----------------------------------------------------------------------------------------------

FLOATS = np.zeros((16, 1536), np.float32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (FLOATS.astype(np.float64), "dtype float64.*astype"),
        (FLOATS.astype(np.int8), "dtype int8"),
        (FLOATS.astype(np.int64), "dtype int64"),
        (FLOATS.astype(bool), "dtype bool"),
        (FLOATS.astype(np.complex64), "dtype complex64"),
        (FLOATS.astype(object), "dtype object"),
        (FLOATS.astype(">f4" if sys.byteorder == "little" else "<f4"), "dtype [<>]f4"),
        (None, "NoneType"),
        ("pixels", "str"),
        (b"pixels", "bytes"),
        (FLOATS.tolist(), "list"),
        ({"pixel_values": FLOATS}, "dict"),
        (Exporter(FLOATS.astype(np.int32)), "dtype int32"),
        (Exporter(FLOATS, device=SimpleNamespace(type="cuda")), r"\.cpu\(\)"),
        (BrainTensor(FLOATS.astype(np.uint16), code=2), r"\.cpu\(\)"),
    ],
    ids=lambda value: value if isinstance(value, str) and value != "pixels" else "",
)
def test_values_of_another_type(values: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pp.prune_pixel_values(values, [(1, 4, 4)], QWEN3)


def raising(error: Exception) -> Any:
    class Tensor:
        def __dlpack__(self, **_: Any) -> Any:
            raise error

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    return Tensor()


@pytest.mark.parametrize(
    "error",
    [BufferError("layout is not strided"), RuntimeError("type is not supported")],
    ids=lambda error: type(error).__name__,
)
def test_tensors_that_cannot_be_exported(error: Exception) -> None:
    with pytest.raises(TypeError, match="pixel_values"):
        pp.prune_pixel_values(raising(error), [(1, 4, 4)], QWEN3)


@pytest.mark.parametrize(
    ("shape", "grid_thw", "message"),
    [
        ((16,), [(1, 4, 4)], r"shape \(16,\); expected \(patches"),
        ((), [(1, 4, 4)], "shape"),
        ((16, 1535), [(1, 4, 4)], "1535 values in a row; expected 1536"),
        ((16, 768), [(1, 4, 4)], "768 values in a row; expected 1536"),
        ((16, 0), [(1, 4, 4)], "0 values in a row"),
        ((1, 16, 1536), [(1, 4, 4)], "24576 values in a row"),
        ((15, 1536), [(1, 4, 4)], "asks for 16 rows, but pixel_values has 15"),
        ((17, 1536), [(1, 4, 4)], "has 17 rows; grid_thw asks for 16"),
        ((16, 1536), [(1, 4, 4), (1, 2, 2)], "asks for 4 rows.* has 0 left of 16"),
        ((16, 1536), [], "has 16 rows; grid_thw asks for 0"),
        ((0, 1536), [(1, 2, 2)], "asks for 4 rows"),
        ((16, 1536), (1, 4, 4), r"shape \(3,\); expected \(images, 3\)"),
        ((16, 1536), [[1, 4]], r"shape \(1, 2\)"),
        ((16, 1536), [[[1, 4, 4]]], "expected"),
        ((16, 1536), [(1, 2, 8.0)], "integers"),
        ((16, 1536), [(1, 3, 4)], "merge_size 2"),
        ((16, 1536), [(1, 4, 5)], "merge_size 2"),
        ((16, 1536), [(0, 4, 4)], "at least 1"),
        ((16, 1536), [(1, -4, -4)], "at least 1"),
        ((16, 1536), [(1, 4, 0)], "at least 1"),
        ((16, 1536), [(1 << 62, 4, 4)], "expected"),
        ((16, 1536), [(1 << 30, 1 << 30, 1 << 30)], "expected"),
        ((16, 1536), [(1 << 70, 4, 4)], "expected"),
        ((16, 1536), [(1, 1 << 20, 1 << 19)], "rows"),
        ((16, 1536), [(1 << 63, 4, 4)], "expected"),
        ((16, 1536), "grid", "expected"),
        ((16, 1536), None, "expected"),
        ((16, 1536), [[1, 4], [4]], "expected"),
        ((16, 1536), [None], "expected"),
        ((16, 1536), [(True, True, True)], "integers"),
    ],
)
def test_shapes_and_grids_that_do_not_fit(shape: tuple[int, ...], grid_thw: Any, message: str) -> None:
    for threads in (1, 2):
        with pytest.raises(pp.PixelPruneError, match=message):
            pp.prune_pixel_values(np.zeros(shape, np.float32), grid_thw, QWEN3, threads=threads)


@pytest.mark.parametrize("temporal", ["still", "", "Repeat", None, 1])
def test_temporal_is_one_of_two_words(temporal: Any) -> None:
    with pytest.raises((pp.PixelPruneError, TypeError), match="temporal"):
        pp.prune_pixel_values(FLOATS, [(1, 4, 4)], QWEN3, temporal=temporal)


@pytest.mark.parametrize("temporal", [["repeat"], np.array([]), np.array(["repeat", "frames"])], ids=repr)
def test_temporal_of_a_type_that_is_no_word(temporal: Any) -> None:
    with pytest.raises((pp.PixelPruneError, TypeError), match="temporal"):
        pp.prune_pixel_values(FLOATS, [(1, 4, 4)], QWEN3, temporal=temporal)
