"""prune and prune_batch on uint8 images, against the oracle and against themselves."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from conftest import RunChild
from guard_pages import guarded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pixelprune import _core, reference
from pixelprune.arrays import as_pixels
from pixelprune.reference import BASELINES, METHODS, METRICS, PROTECT
from pixelprune.selection.pruning import _row_layout
from pixelprune.selection.settings import CoreSettings
from strategies import PIXEL_SPEC, Case, Pixels, cases, images, layouts

LEVELS = _core.simd_levels()
PREDICTORS = ("pred_2d", "raster", "serpentine", "either")
Selected = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]

methods = st.sampled_from(METHODS)
loops = st.booleans()
protections = st.sampled_from(PROTECT)


def core(image: Any, px: int, method: str, how: dict[str, Any], threads: int, level: str) -> Selected:
    given = CoreSettings(
        method,
        how.get("metric", "max"),
        how.get("threshold", 0.0),
        how.get("anchored", True),
        42,
        how.get("protect", "nothing"),
    )
    return _core.prune(as_pixels(image), px, given, threads, level)


def how_of(case: Case, method: str, anchored: bool, protect: str) -> dict[str, Any]:
    threshold = 0.0 if method == "unique" else case.threshold
    return {"metric": case.metric, "threshold": threshold, "anchored": anchored, "protect": protect}


def spec_of(px: int) -> pp.VisionSpec:
    return pp.VisionSpec(patch_size=px, merge_size=1)


# --- The oracle's answer ---------------------------------------------------------------------------------


@settings(max_examples=300)
@given(cases(), methods, loops, protections)
def test_equals_the_reference_at_every_simd_level(case: Case, method: str, anchored: bool, protect: str) -> None:
    how = how_of(case, method, anchored, protect)
    mask, source = reference.prune(case.image, case.spec, method=method, **how)
    sel = pp.prune(case.image, case.spec, method=method, **how)
    assert np.array_equal(sel.mask, mask)
    assert np.array_equal(sel.source, source)
    for level, threads in product(LEVELS, (1, 2)):
        keep, found = core(case.image, case.spec.token_size, method, how, threads, level)
        assert np.array_equal(keep, sel.keep), (level, threads)
        assert np.array_equal(found, source), (level, threads)


@st.composite
def odd_cases(draw: st.DrawFn) -> Case:
    """Token sides around the vector widths, 1 to 4 tokens a side."""
    px = draw(st.sampled_from((1, 3, 4, 5, 6, 7, 8, 10, 11, 15, 16, 17, 20, 21, 22, 28, 31, 32, 33, 43)))
    metric, channels = draw(st.sampled_from(METRICS)), draw(st.sampled_from((1, 3, 4)))
    threshold = draw(st.sampled_from((0.0, 1 / 255, 0.02, 0.05, 0.5)))
    image = draw(images(spec_of(px), channels, metric, threshold, max_side=4))
    return Case(image, spec_of(px), metric, threshold)


@settings(max_examples=200)
@given(odd_cases(), methods, loops, protections)
def test_equals_the_reference_at_odd_token_sides(case: Case, method: str, anchored: bool, protect: str) -> None:
    how = how_of(case, method, anchored, protect)
    mask, source = reference.prune(case.image, case.spec, method=method, **how)
    for level in LEVELS:
        keep, found = core(case.image, case.spec.token_size, method, how, 1, level)
        assert np.array_equal(keep, np.flatnonzero(mask)), level
        assert np.array_equal(found, source), level


@given(st.data(), cases(), methods, loops, protections)
def test_layout_in_memory_makes_no_difference(
    data: st.DataObject, case: Case, method: str, anchored: bool, protect: str
) -> None:
    view = data.draw(layouts(case.image))
    how = how_of(case, method, anchored, protect)
    expected = pp.prune(case.image, case.spec, method=method, **how)
    assert pp.prune(view, case.spec, method=method, **how) == expected
    if case.image.ndim == 3:
        planes = np.ascontiguousarray(case.image.transpose(2, 0, 1))
        turned = pp.prune(planes, case.spec, method=method, channels_first=True, **how)
        assert turned == expected


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(32, 32), (32, 320), (320, 32), (64, 96, 1), (96, 64, 4)])
def test_an_image_repeated_along_one_side_is_one_token(shape: tuple[int, ...], threads: int) -> None:
    token = np.random.default_rng(3).integers(0, 256, (32, 32, *shape[2:]), np.uint8)
    image = np.tile(token, (shape[0] // 32, shape[1] // 32, *(1 for _ in shape[2:])))
    for method in METHODS:
        sel = pp.prune(image, "qwen3_vl", method=method, threads=threads)
        assert sel.keep.tolist() == [0]
        assert sel.grid_thw == (1, shape[0] // 16, shape[1] // 16)
        assert sel.source is not None
        assert not sel.source.any()


# --- One byte --------------------------------------------------------------------------------------------


def single_byte_differences(px: int, channels: int) -> list[tuple[int, int]]:
    """(row, byte of the row): every row at a vector's ends, every byte of the first, a middle and the last row."""
    segment = px * channels
    ends = {place for place in (0, 15, 16, 31, 32, 47, segment - 1) if place < segment}
    full = {0, px // 2, px - 1}
    return [(row, at) for row in range(px) for at in (range(segment) if row in full else sorted(ends))]


def pairs(px: int, channels: int, by: int) -> Pixels:
    """Tokens (2k, px, px * channels): a base, and after each a variant with one byte ``by`` away."""
    rng = np.random.default_rng(px * channels)
    base = rng.integers(60, 190, (px, px * channels), np.uint8)
    places = single_byte_differences(px, channels)
    tokens = np.repeat(base[np.newaxis], 2 * len(places), axis=0)
    for k, (row, at) in enumerate(places):
        tokens[2 * k + 1, row, at] = int(base[row, at]) + (by if k % 2 else -by)
    return tokens


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("px", [1, 6, 10, 20, 28, 32, 33])
def test_one_byte_at_every_place_of_a_token(px: int, channels: int) -> None:
    n = px * px * channels
    # Just above the budgets of one byte that is 9 levels away.
    taus = {"max": 9.5 / 255, "mae": 9.5 / n / 255, "rmse": sqrt(81.5 / n) / 255}
    for by, (metric, tau) in product((1, 9, 10), {"exact": 0.0, **taus}.items()):
        within = by <= 9 and metric != "exact"
        tokens = pairs(px, channels, by)
        count = len(tokens)
        wide = np.ascontiguousarray(tokens.transpose(1, 0, 2)).reshape(px, count * px, channels)
        tall = tokens.reshape(count * px, px, channels)
        for level in LEVELS:
            name = "max" if metric == "exact" else metric
            left, up = _core.planes(wide, px, name, tau, level)
            assert left.tolist() == [False] + [within] * (count - 1), (metric, by, level)
            assert not up.any()
            left, up = _core.planes(tall, px, name, tau, level)
            assert up.tolist() == [False] + [within] * (count - 1), (metric, by, level)
            assert not left.any()
            how = {"metric": name, "threshold": tau}
            for method, image in product(("pred_2d", "raster", "either"), (wide, tall)):
                keep, _ = core(image, px, method, how, 1, level)
                assert len(keep) == (1 if within else count), (method, metric, by, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_budget_of_one_value(metric: str, level: str) -> None:
    """Tokens of one grey pixel, 0 and k for every k: similar at k / 255, not below."""
    for k in range(1, 256):
        image = np.array([[0, k]], np.uint8)
        for tau, kept in ((k / 255, 1), ((k - 0.001) / 255, 2)):
            keep, _ = core(image, 1, "pred_2d", {"metric": metric, "threshold": tau}, 1, level)
            assert len(keep) == kept, (k, tau)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("metric", METRICS)
def test_the_largest_distances_do_not_overflow(metric: str, level: str) -> None:
    for px, channels in ((32, 3), (33, 4), (512, 4)):
        image = np.zeros((px, 2 * px, channels), np.uint8)
        image[:, px:] = 255
        for tau, kept in ((1.0, 1), (254.9 / 255, 2)):
            for anchored in (True, False):
                how = {"metric": metric, "threshold": tau, "anchored": anchored}
                assert len(core(image, px, "pred_2d", how, 1, level)[0]) == kept
        image[-1, -1, -1] = 254  # one level less than the most
        keep, _ = core(image, px, "raster", {"metric": metric, "threshold": 1 - 1e-12}, 1, level)
        assert len(keep) == 1


# --- Threads and bands -----------------------------------------------------------------------------------


def mosaic(rows: int, cols: int, px: int, channels: int, seed: int) -> Pixels:
    """Tokens of three kinds and near copies of them, in runs along both sides."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 250, (3, px, px, channels), np.uint8)
    palette = np.concatenate([palette, palette])
    palette[3:, px // 2, -1] += 5
    kinds = np.repeat(np.repeat(rng.integers(0, 6, (rows, cols)), 2, axis=0), 3, axis=1)[:rows, :cols]
    return palette[kinds].transpose(0, 2, 1, 3, 4).reshape(rows * px, cols * px, channels)


SHAPES = {
    "square": (33, 33, 32, 3),
    "one row": (1, 1100, 32, 3),
    "two rows": (2, 600, 32, 3),
    "one column": (1100, 1, 32, 3),
    "prime": (41, 37, 28, 4),
    "grey": (67, 41, 32, 1),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bands_make_no_difference(shape: tuple[int, int, int, int]) -> None:
    image = mosaic(*shape, seed=5)
    assert image.size > 2 << 20  # enough for bands
    for method, metric, tau, anchored in product(
        METHODS + BASELINES, METRICS, (0.0, 4.9 / 255, 5 / 255), (True, False)
    ):
        how: dict[str, Any] = {"method": method, "metric": metric, "threshold": tau, "anchored": anchored}
        if tau and method == "unique":
            continue
        one = pp.prune(image, spec_of(shape[2]), threads=1, **how)
        assert 1 < one.kept < one.total or (tau and metric != "max")
        for threads in (2, 3, 7):
            assert pp.prune(image, spec_of(shape[2]), threads=threads, **how) == one, (threads, how)


@pytest.mark.parametrize("method", METHODS)
def test_bands_give_the_reference_s_answer(method: str) -> None:
    image = mosaic(35, 33, 32, 3, seed=6)
    mask, source = reference.prune(image, "qwen3_vl", method=method)
    for level in LEVELS:
        keep, found = core(image, 32, method, {}, 3, level)
        assert np.array_equal(keep, np.flatnonzero(mask))
        assert np.array_equal(found, source)


def test_bands_of_a_crop_and_of_a_single_changed_byte() -> None:
    frame = mosaic(36, 35, 32, 3, seed=7)
    crop = frame[17 : 17 + 34 * 32, 5 : 5 + 33 * 32]
    whole = crop.copy()
    assert pp.prune(crop, "qwen3_vl", threads=3) == pp.prune(whole, "qwen3_vl")
    flat = np.zeros((35 * 32, 33 * 32, 3), np.uint8)
    for row in range(0, 35, 2):  # at the edges of whatever bands there are
        flat[row * 32 + 31, -1, -1] = 1
        sel = pp.prune(flat, "qwen3_vl", threads=3, method="either")
        assert sel.keep.tolist() == [0, row * 33 + 32]
        flat[row * 32 + 31, -1, -1] = 0


# --- What must hold for any image ------------------------------------------------------------------------


@given(cases())
def test_three_equal_edges_of_a_square_make_four(case: Case) -> None:
    rows, cols = (side // case.spec.token_size for side in case.image.shape[:2])
    for level in LEVELS:
        planes = _core.planes(as_pixels(case.image), case.spec.token_size, case.metric, 0.0, level)
        left, up = (plane.reshape(rows, cols) for plane in planes)
        edges = left[:-1, 1:].astype(int) + left[1:, 1:] + up[1:, :-1] + up[1:, 1:]
        assert not (edges == 3).any()
        assert not left[:, 0].any()
        assert not up[0].any()


@given(cases())
def test_planes_are_the_reference_s(case: Case) -> None:
    frame = reference.image_tokens(case.image, case.spec)
    expected = reference.neighbour_planes(frame, metric=case.metric, threshold=case.threshold)
    for level in LEVELS:
        found = _core.planes(as_pixels(case.image), case.spec.token_size, case.metric, case.threshold, level)
        for plane, wanted in zip(found, expected, strict=True):
            assert np.array_equal(plane, wanted.ravel())


@given(cases(), methods, loops, protections)
def test_the_selection_says_what_it_was_made_with(case: Case, method: str, anchored: bool, protect: str) -> None:
    how = how_of(case, method, anchored, protect)
    sel = pp.prune(case.image, case.spec, method=method, seed=7, **how)
    assert (sel.method, sel.metric, sel.threshold, sel.anchored, sel.protect, sel.seed, sel.spec) == (
        method,
        how["metric"],
        how["threshold"],
        anchored,
        protect,
        7,
        case.spec,
    )
    assert sel.total == sel.mask.size
    assert sel.kept == len(sel.keep) == sel.mask.sum()
    assert sel.keep.dtype == np.int64
    assert sel.source is not None
    assert sel.source.dtype == np.int64
    assert np.array_equal(np.unique(sel.source), sel.keep)
    assert np.array_equal(sel.source[sel.keep], sel.keep)


@given(cases(), loops)
def test_unique_counts_distinct_tokens(case: Case, anchored: bool) -> None:
    sel = pp.prune(case.image, case.spec, method="unique", anchored=anchored, metric=case.metric)
    tokens = reference.image_tokens(case.image, case.spec).reshape(sel.total, -1)
    assert sel.kept == len(np.unique(tokens, axis=0))


def test_unique_finds_copies_that_are_far_apart() -> None:
    """Equal tokens that are no neighbours, beside tokens that are equal in their middle rows only."""
    rng = np.random.default_rng(8)
    palette = rng.integers(0, 256, (1, 32, 32, 3), np.uint8).repeat(40, axis=0)
    palette[:, 0, 0, 0] = np.arange(40)  # all differ, in the first byte
    palette[20:, 0, 0, 0] = 40
    palette[20:, -1, -1, -1] = np.arange(20) * 5  # or in the last
    kinds = rng.permutation(np.arange(40).repeat(30)).reshape(30, 40)
    image = palette[kinds].transpose(0, 2, 1, 3, 4).reshape(30 * 32, 40 * 32, 3)
    _, first, inverse = np.unique(kinds.ravel(), return_index=True, return_inverse=True)
    for threads in (1, 2):
        sel = pp.prune(image, "qwen3_vl", method="unique", threads=threads)
        assert np.array_equal(sel.keep, np.sort(first))
        assert np.array_equal(sel.source, first[inverse])


def test_negative_zero_is_a_threshold_of_zero() -> None:
    image = mosaic(3, 4, 4, 3, seed=1)
    assert pp.prune(image, spec_of(4), threshold=-0.0) == pp.prune(image, spec_of(4))
    pp.prune(image, spec_of(4), method="unique", threshold=-0.0)


def test_errors_add_up_in_open_loop_only() -> None:
    ramp = np.arange(0, 250, 10, dtype=np.uint8)[np.newaxis]
    assert pp.prune(ramp, PIXEL_SPEC, threshold=10 / 255, anchored=False).keep.tolist() == [0]
    assert pp.prune(ramp, PIXEL_SPEC, threshold=10 / 255).keep.tolist() == list(range(0, 25, 2))
    assert pp.prune(ramp, PIXEL_SPEC, threshold=9.99 / 255, anchored=False).kept == 25


# --- Batches ---------------------------------------------------------------------------------------------


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Pixels], Case]:
    first = draw(cases())
    rest = draw(
        st.lists(
            st.sampled_from((1, 3, 4)).flatmap(
                lambda depth: images(first.spec, depth, first.metric, first.threshold, 3)
            ),
            max_size=4,
        )
    )
    return [first.image, *rest], first


@given(batches(), st.sampled_from(METHODS + BASELINES), loops, protections, st.sampled_from((1, 2, 3)))
def test_a_batch_is_its_images(
    batch: tuple[list[Pixels], Case], method: str, anchored: bool, protect: str, threads: int
) -> None:
    batch_images, case = batch
    how = how_of(case, method, anchored, protect)
    one_by_one = [pp.prune(image, case.spec, method=method, **how) for image in batch_images]
    assert pp.prune_batch(batch_images, case.spec, method=method, threads=threads, **how) == one_by_one
    for level in LEVELS:
        given = CoreSettings(method, how["metric"], how["threshold"], anchored, 42, how["protect"])
        found = _core.prune_batch(
            [as_pixels(image) for image in batch_images], case.spec.token_size, given, threads, level
        )
        for (keep, source), sel in zip(found, one_by_one, strict=True):
            assert np.array_equal(keep, sel.keep)
            assert (source is None) == (sel.source is None)
            assert source is None or np.array_equal(source, sel.source)


def test_a_batch_with_large_images_in_bands() -> None:
    batch_images = [mosaic(33, 33, 32, 3, seed) for seed in range(3)] + [mosaic(1, 2, 32, 3, 4)]
    expected = [pp.prune(image, "qwen3_vl") for image in batch_images]
    for threads in (1, 2, 5):
        assert pp.prune_batch(batch_images, "qwen3_vl", threads=threads) == expected


def test_an_iterator_s_images_are_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a Pillow image makes a copy; an array could change until its turn, and has to be copied."""
    array = mosaic(2, 3, 32, 3, 1)
    read: list[Pixels] = []
    pruned: list[Pixels] = []
    prune_batch = _core.prune_batch

    def reading(image: Any, channels_first: bool) -> Pixels:
        read.append(as_pixels(image, channels_first))
        return read[-1]

    def pruning(images: list[Pixels], *rest: Any) -> Any:
        pruned.extend(images)
        return prune_batch(images, *rest)

    monkeypatch.setattr("pixelprune.selection.pruning.as_pixels", reading)
    monkeypatch.setattr(_core, "prune_batch", pruning)
    expected, same = pp.prune_batch(iter([Image.fromarray(array), array]), "qwen3_vl")
    assert expected == same
    assert pruned[0] is read[0]
    assert not np.shares_memory(pruned[1], array)


def test_what_a_batch_may_be() -> None:
    stack = np.stack([mosaic(2, 3, 32, 3, seed) for seed in range(3)])
    expected = [pp.prune(image, "qwen3_vl") for image in stack]
    assert pp.prune_batch(stack, "qwen3_vl") == expected
    assert pp.prune_batch(tuple(stack), "qwen3_vl") == expected
    assert pp.prune_batch((image for image in stack), "qwen3_vl") == expected
    assert pp.prune_batch([Image.fromarray(image) for image in stack], "qwen3_vl") == expected
    planes = np.ascontiguousarray(stack.transpose(0, 3, 1, 2))
    assert pp.prune_batch(planes, "qwen3_vl", channels_first=True) == expected
    for threads in (1, 2):
        assert pp.prune_batch([], "qwen3_vl", threads=threads) == []
        assert pp.prune_batch(iter(()), "qwen3_vl", method=lambda left, up: left, threads=threads) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_batch_names_the_first_wrong_image(threads: int) -> None:
    good = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(pp.PixelPruneError, match=r"images\[1\].*33 x 64"):
        pp.prune_batch([good, good[:33], good[:31], good], "qwen3_vl", threads=threads)
    with pytest.raises(TypeError, match=r"images\[2\].*float32"):
        pp.prune_batch([good, good, good.astype(np.float32)], "qwen3_vl", threads=threads)
    with pytest.raises(pp.PixelPruneError, match=r"images\[0\].*shape \(5,\)"):
        pp.prune_batch([np.zeros(5, np.uint8)], "qwen3_vl", threads=threads)


# --- A callable ------------------------------------------------------------------------------------------


@given(cases())
def test_a_callable_gets_the_planes_and_its_answer_is_taken(case: Case) -> None:
    def corners(left: npt.NDArray[np.bool_], up: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        return ~(left & up)

    how: dict[str, Any] = {"metric": case.metric, "threshold": case.threshold}
    mask, source = reference.prune(case.image, case.spec, method=corners, **how)
    sel = pp.prune(case.image, case.spec, method=corners, **how)
    assert np.array_equal(sel.mask, mask)
    assert source is None
    assert sel.source is None
    assert sel.method == "corners"
    assert pp.prune_batch([case.image] * 2, case.spec, method=corners, **how) == [sel, sel]


def test_a_callable_may_give_sources() -> None:
    image = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    mask = np.array([[False, True, False], [False, False, True]])
    for source in ([1, 1, 1, 5, 5, 5], np.uint8([1, 1, 1, 5, 5, 5]).reshape(2, 3)):
        sel = pp.prune(image, PIXEL_SPEC, method=lambda left, up, s=source: (mask, s))
        assert sel.keep.tolist() == [1, 5]
        assert sel.source is not None
        assert sel.source.tolist() == [1, 1, 1, 5, 5, 5]
        assert sel.source.dtype == np.int64
        assert sel.reconstruct(image).tolist() == [[2, 2, 2], [6, 6, 6]]


def test_a_callable_object_and_its_own_errors() -> None:
    class KeepAll:
        def __call__(self, left: Any, up: Any) -> Any:
            return np.ones_like(left)

    image = np.zeros((2, 3), np.uint8)
    assert pp.prune(image, PIXEL_SPEC, method=KeepAll()).method == "KeepAll"
    assert pp.prune(image, PIXEL_SPEC, method=KeepAll()).kept == 6

    def broken(left: Any, up: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pp.prune(image, PIXEL_SPEC, method=broken)


MASK = np.array([[True, False]])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "returned a mask of dtype object"),
        (~MASK & MASK, "keeps no token"),
        (MASK[0], "expected bool"),
        (MASK.T, "expected bool"),
        (MASK.astype(int), "expected bool"),
        ([[True], [True, False]], "mask"),
        ((), "mask"),
        ((MASK, None, None), "mask"),
        ((MASK, [0]), "expected 2 integers"),
        ((MASK, [[0], [0, 0]]), "source"),
        ((MASK, [0.0, 0.0]), "expected 2 integers"),
        ((MASK, [0, 1]), "not kept"),
        ((MASK, [0, 2]), "not kept"),
        ((MASK, [0, -1]), "not kept"),
        ((MASK, np.uint64([0, 2**64 - 1])), "not kept"),
        ((~MASK, [0, 0]), "not kept"),
        ((MASK | True, [1, 0]), "own index"),
    ],
)
def test_a_callable_with_a_wrong_answer(answer: Any, message: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=message):
        pp.prune(np.array([[1, 2]], np.uint8), PIXEL_SPEC, method=lambda left, up: answer)


# --- Baselines -------------------------------------------------------------------------------------------


@given(cases(), st.sampled_from(BASELINES), loops, protections, st.integers(-(2**70), 2**70))
def test_baselines_keep_as_many_as_pred_2d(case: Case, method: str, anchored: bool, protect: str, seed: int) -> None:
    how = how_of(case, method, anchored, protect)
    tokens = reference.image_tokens(case.image, case.spec)[np.newaxis]
    sel = pp.prune(case.image, case.spec, method=method, seed=seed, **how)
    assert sel.kept == reference.baseline_count(tokens, **how)
    assert (np.diff(sel.keep) > 0).all()
    assert 0 <= sel.keep[0] <= sel.keep[-1] < sel.total
    assert sel.source is None
    assert pp.prune(case.image, case.spec, method=method, seed=seed, **how) == sel


@pytest.mark.parametrize("method", BASELINES)
def test_baselines_draw_by_their_seed(method: str) -> None:
    image = np.zeros((8, 8), np.uint8)
    image[::2] = np.arange(8) * 30  # half of the tokens are copies
    draws = [pp.prune(image, PIXEL_SPEC, method=method, seed=seed) for seed in range(200)]
    count = pp.prune(image, PIXEL_SPEC).kept
    often = np.sum([sel.mask for sel in draws], axis=0)
    assert {sel.kept for sel in draws} == {count}
    assert len({tuple(sel.keep) for sel in draws}) > 150
    assert often.min() > 0
    # A seed counts modulo 2**64, and all 64 bits of it do.
    assert not np.array_equal(pp.prune(image, PIXEL_SPEC, method=method, seed=2**40 + 3).keep, draws[3].keep)
    assert np.array_equal(pp.prune(image, PIXEL_SPEC, method=method, seed=2**64 + 3).keep, draws[3].keep)


def test_random_draws_every_token_alike() -> None:
    image = np.zeros((4, 8), np.uint8)
    image[0] = np.arange(8)
    image[1:] = 9
    kept = pp.prune(image, PIXEL_SPEC).kept
    runs = 2000
    often = np.sum([pp.prune(image, PIXEL_SPEC, method="random", seed=s).mask for s in range(runs)], axis=0)
    mean, deviation = runs * kept / 32, sqrt(runs * kept / 32 * (1 - kept / 32))
    assert (abs(often - mean) < 5 * deviation).all()


def components(left: npt.NDArray[np.bool_], up: npt.NDArray[np.bool_]) -> list[list[int]]:
    """The tokens of every component of similar neighbours, each ascending, in the order of their first."""
    rows, cols = left.shape
    owner = list(range(rows * cols))
    for (r, c), i in np.ndenumerate(np.arange(rows * cols).reshape(rows, cols)):
        for joined, other in ((left[r, c], i - 1), (up[r, c], i - cols)):
            if joined:
                low, high = sorted((owner[i], owner[other]))
                owner = [low if o == high else o for o in owner]
    return [[i for i, o in enumerate(owner) if o == first] for first in sorted(set(owner))]


@given(cases(), loops, protections, st.integers(0, 2**64 - 1))
def test_conncomp_thins_components_and_then_meets_the_count(
    case: Case, anchored: bool, protect: str, seed: int
) -> None:
    how = how_of(case, "conncomp", anchored, protect)
    frame = reference.image_tokens(case.image, case.spec)
    parts = components(*reference.neighbour_planes(frame, metric=case.metric, threshold=case.threshold))
    sel = pp.prune(case.image, case.spec, method="conncomp", seed=seed, **how)
    skip = 1 - sel.kept / sel.total
    wanted = [max(1, len(part) - round(len(part) * skip)) for part in parts]
    kept = [int(np.isin(part, sel.keep).sum()) for part in parts]
    excess = [k - w for k, w in zip(kept, wanted, strict=True)]
    # Tokens are added, or removed, but never both.
    assert sum(map(abs, excess)) == abs(sel.kept - sum(wanted))


@given(cases(channels=(3,)), st.floats(0, 1))
def test_conncomp_evenly_spaced_at_a_given_share(case: Case, skip: float) -> None:
    frame = reference.image_tokens(case.image, case.spec)
    rows, cols = frame.shape[:2]
    parts = components(*reference.neighbour_planes(frame, metric=case.metric, threshold=case.threshold))
    expected = []
    for part in parts:
        wanted = max(1, len(part) - round(len(part) * skip))
        expected += [part[k * (len(part) - 1) // max(1, wanted - 1)] for k in range(wanted)]
    spec = replace(case.spec, patch_size=case.spec.token_size, merge_size=1, temporal_patch_size=1)
    values = np.ascontiguousarray(frame).reshape(rows * cols, -1)
    layout = _row_layout(spec, "repeat", values.shape[1], True)
    given = CoreSettings("conncomp", case.metric, case.threshold, True, 1, "nothing")
    [(keep, source)] = _core.prune_pixel_values(values, [(1, rows, cols)], layout, given, sampled=False, skip=skip)
    assert keep.tolist() == sorted(expected)
    assert source is None


# --- Memory ----------------------------------------------------------------------------------------------


def prune_beside_guard_pages() -> None:
    """Everything reads buffers that lie between two pages which must not be touched."""
    sizes = ((1, 1), (2, 3), (5, 1), (5, 3), (6, 3), (8, 4), (10, 3), (16, 1), (16, 3), (20, 3), (21, 3))
    sizes += ((28, 1), (28, 3), (28, 4), (31, 1), (32, 1), (32, 3), (32, 4), (33, 1), (33, 3))
    for (px, channels), slack, at_end in product(sizes, (0, 7), (True, False)):
        rows, cols = 2, 3
        stride = cols * px * channels + slack  # the last row does not fill its stride
        size = (rows * px - 1) * stride + cols * px * channels
        data = guarded(size, at_end)
        data[...] = 77
        image: Pixels = np.ndarray((rows * px, cols * px, channels), np.uint8, data, strides=(stride, channels, 1))
        spec = spec_of(px)
        assert as_pixels(image) is image
        for level, method, metric, tau in product(LEVELS, METHODS + BASELINES, METRICS, (0.0, 0.02)):
            if method == "unique" and tau:
                continue
            keep, _ = core(image, px, method, {"metric": metric, "threshold": tau}, 1, level)
            assert len(keep) == 1, (px, channels, method)
        assert len(np.unique(pp.hash_tokens(image, spec))) == 1
        sel = pp.prune(image, spec, threshold=0.02)
        assert pp.verify(image, sel).holds
        kept = guarded(px * px * channels, at_end).reshape(1, px, px, channels)
        kept[...] = 77
        assert (pp.decode(sel.mask, kept, spec, threshold=0.02) == 77).all()
        for dtype in (np.uint8, np.float16, np.uint16, np.float32):
            row = 3 * px * px
            values = guarded(6 * row * np.dtype(dtype).itemsize, at_end).view(dtype).reshape(6, row)
            values[...] = 1
            flat = replace(spec, temporal_patch_size=1)
            for method, tau in (("unique", 0.0), ("pred_2d", 0.0), ("pred_2d", 0.02)):
                [found] = pp.prune_pixel_values(values, [(1, 2, 3)], flat, method=method, threshold=tau)
                assert found.kept == 1


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as on Linux")
def test_nothing_is_read_beyond_the_buffer(run_child: RunChild) -> None:
    run_child(prune_beside_guard_pages)


def prune_200_megapixels() -> None:
    import resource

    side = 442 * 32
    image = np.full((side, side), 3, np.uint8)
    image[side // 2, side // 2] = 4
    pp.prune(image[:32, :32], "qwen3_vl")

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before = peak()
    middle = 221 * 442 + 221
    for method, threads in product(METHODS, (1, 2)):
        sel = pp.prune(image, "qwen3_vl", method=method, threads=threads)
        assert sel.total == 442 * 442
        # pred_2d also misses the tokens right of and below the odd one.
        assert {0, middle} <= set(sel.keep.tolist())
        assert sel.kept <= 4
    sel = pp.prune(image, "qwen3_vl", threshold=1 / 255, metric="rmse")
    assert sel.keep.tolist() == [0]
    grown = peak() - before
    assert grown < 64 << 20, f"{grown >> 20} MiB more for an image of {image.nbytes >> 20} MiB"


@pytest.mark.large
@pytest.mark.skipif(sys.platform != "linux", reason="getrusage in kibibytes")
def test_200_megapixels_take_no_copy(run_child: RunChild) -> None:
    run_child(prune_200_megapixels)


@pytest.mark.parametrize("px", [1, 2])
def test_grids_of_many_small_tokens(px: int) -> None:
    image = np.zeros((1023 * px, 1000 * px), np.uint8)  # an odd number of rows: both paths end at the last token
    image[-1, -1] = 1
    for method in METHODS:
        sel = pp.prune(image, spec_of(px), method=method, threads=2)
        assert sel.keep.tolist() == [0, 1023 * 1000 - 1]


@given(cases(max_side=3), methods)
@example(Case(np.zeros((1, 1), np.uint8), PIXEL_SPEC, "max", 0.0), "unique")
def test_images_are_never_written(case: Case, method: str) -> None:
    before = case.image.copy()
    case.image.flags.writeable = True
    pp.prune(case.image, case.spec, method=method)
    assert np.array_equal(case.image, before)
    assert case.image.flags.writeable
