"""Selection: its parts, patch indices, from_keep, pickling, immutability and equality."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixelprune import reference
from pixelprune.reference import BASELINES, METHODS
from strategies import PIXEL_SPEC, SPECS, Case, cases, still

IMAGE = np.array([[1, 1, 2, 2], [1, 3, 3, 2], [4, 4, 4, 4]], np.uint8)
Keep = list[int]


@st.composite
def kept_tokens(draw: st.DrawFn) -> tuple[pp.VisionSpec, tuple[int, int, int], Keep]:
    """A spec, a grid in tokens and some of its tokens, ascending."""
    spec = draw(st.sampled_from(SPECS))
    t, rows, cols = grid = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    keep = draw(st.sets(st.integers(0, t * rows * cols - 1), min_size=1))
    return spec, grid, sorted(keep)


def in_patches(grid: tuple[int, int, int], spec: pp.VisionSpec) -> tuple[int, int, int]:
    return grid[0], grid[1] * spec.merge_size, grid[2] * spec.merge_size


# --- Parts -----------------------------------------------------------------------------------------------


def test_parts_by_hand() -> None:
    sel = pp.prune(IMAGE, PIXEL_SPEC)
    assert sel.keep.tolist() == [0, 2, 5, 7, 8]
    assert sel.mask.astype(int).tolist() == [[[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]]]
    assert sel.mask.dtype == np.bool_
    assert sel.source is not None
    assert sel.source.tolist() == [0, 0, 2, 2, 0, 5, 5, 7, 8, 8, 8, 8]
    assert (sel.grid_thw, sel.grid, sel.total, sel.kept, sel.retained) == ((1, 3, 4), (1, 3, 4), 12, 5, 5 / 12)
    assert all(type(side) is int for side in (*sel.grid_thw, *sel.grid, sel.total, sel.kept))
    assert repr(sel) == (
        "Selection(kept 5 of 12 tokens, retained 0.417, grid_thw (1, 3, 4), method 'pred_2d', threshold 0)"
    )


def test_grids_count_patches_and_tokens() -> None:
    sel = pp.prune(np.zeros((96, 128, 3), np.uint8), "qwen3_vl")
    assert (sel.grid_thw, sel.grid, sel.total) == ((1, 6, 8), (1, 3, 4), 12)
    sel = pp.prune(np.zeros((84, 28, 3), np.uint8), "qwen2_vl")
    assert (sel.grid_thw, sel.grid, sel.total) == ((1, 6, 2), (1, 3, 1), 3)


def test_mask_is_a_new_array_each_time() -> None:
    sel = pp.prune(IMAGE, PIXEL_SPEC)
    sel.mask[...] = False
    assert sel.mask.sum() == 5


def test_tokens_are_the_kept_ones_in_order() -> None:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 2, (6, 8, 3), np.uint8)
    spec = pp.VisionSpec(patch_size=1, merge_size=2)
    sel = pp.prune(image, spec)
    expected = [image[r * 2 : r * 2 + 2, c * 2 : c * 2 + 2] for r, c in (divmod(i, 4) for i in sel.keep)]
    assert np.array_equal(sel.tokens(image), expected)
    assert sel.tokens(image[..., 0]).shape == (sel.kept, 2, 2, 1)


# --- Patch indices ---------------------------------------------------------------------------------------


@given(kept_tokens())
def test_patch_indices_are_the_reference_s(case: tuple[pp.VisionSpec, tuple[int, int, int], Keep]) -> None:
    spec, grid, keep = case
    for order in ("block", "raster"):
        ordered = replace(spec, patch_order=order)
        found = pp.Selection.from_keep(keep, in_patches(grid, spec), ordered).patch_indices()
        assert np.array_equal(found, reference.patch_indices(keep, grid, ordered))
        assert found.dtype == np.int64


@given(st.lists(kept_tokens(), max_size=4), st.sampled_from(("block", "raster")))
def test_patch_indices_of_several_images_are_rows_of_their_concatenation(
    several: list[tuple[pp.VisionSpec, tuple[int, int, int], Keep]], order: Any
) -> None:
    spec = pp.VisionSpec(patch_size=1, merge_size=2, patch_order=order)
    sels = [pp.Selection.from_keep(keep, in_patches(grid, spec), spec) for _, grid, keep in several]
    found = pp.patch_indices(sels)
    expected: list[int] = []
    first = 0
    for _, grid, keep in several:
        expected += (reference.patch_indices(keep, grid, spec) + first).tolist()
        first += grid[0] * grid[1] * grid[2] * 4
    assert found.tolist() == expected
    assert found.dtype == np.int64


@given(cases(channels=(3,)))
def test_patch_indices_pick_the_kept_tokens_pixels(case: Case) -> None:
    values, grid = still(case.image, case.spec)
    sel = pp.prune(case.image, case.spec, metric=case.metric, threshold=case.threshold)
    rest = values.copy()
    rest[sel.patch_indices()] = 0
    tokens = reference.pixel_value_tokens(rest, grid, case.spec)[0]
    expected = reference.pixel_value_tokens(values, grid, case.spec)[0]
    assert np.array_equal(tokens, np.where(sel.mask[0, ..., np.newaxis], 0, expected))


@pytest.mark.parametrize(
    ("selections", "message"),
    [
        ([1], r"selections\[0\] is a int; expected a Selection"),
        ([pp.Selection.from_keep([0], (1, 2, 2), "qwen3_vl"), None], r"selections\[1\] is a NoneType"),
        ([[pp.Selection.from_keep([0], (1, 2, 2), "qwen3_vl")]], r"selections\[0\] is a list"),
        (np.array([0, 1]), r"selections\[0\] is a int64"),
        (pp.Selection.from_keep([0], (1, 2, 2), "qwen3_vl"), "selections is a Selection; expected a list with one"),
        (None, "selections is a NoneType; expected a list with one Selection per image"),
        (3, "selections is a int"),
        ("ab", r"selections\[0\] is a str"),
    ],
    ids=str,
)
def test_patch_indices_of_anything_but_selections(selections: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pp.patch_indices(selections)


def test_patch_indices_of_any_iterable() -> None:
    sel = pp.Selection.from_keep([1], (1, 2, 4), "qwen3_vl")
    assert pp.patch_indices(iter((sel, sel))).tolist() == [4, 5, 6, 7, 12, 13, 14, 15]  # type: ignore[arg-type]


# --- from_keep -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keep",
    [
        [5, 0, 3],
        (0, 3, 5),
        range(0, 6, 1),
        np.array([5, 3, 0]),
        np.array([[5], [3], [0]]),
        np.uint64([0, 3, 5]),
        np.int8([3, 0, 5]),
        [True, False, False, True, False, True],
        np.array([[True, False, False], [True, False, True]]),
        np.array([[[True, False, False], [True, False, True]]]),
    ],
    ids=str,
)
def test_what_from_keep_takes(keep: Any) -> None:
    sel = pp.Selection.from_keep(keep, [1, 4, 6], "qwen3_vl")
    assert sel.keep.tolist() == ([0, 3, 5] if not isinstance(keep, range) else list(keep))
    assert sel.keep.dtype == np.int64
    assert (sel.source, sel.method, sel.grid_thw, sel.total) == (None, "given", (1, 4, 6), 6)
    assert sel.spec == pp.VisionSpec.preset("qwen3_vl")


def test_from_keep_leaves_its_argument_alone() -> None:
    keep = np.array([5, 0, 3])
    sel = pp.Selection.from_keep(keep, (1, 4, 6), "qwen3_vl")
    assert keep.flags.writeable
    keep[...] = 1
    assert sel.keep.tolist() == [0, 3, 5]


@pytest.mark.parametrize(
    ("keep", "grid_thw", "message"),
    [
        ([], (1, 4, 6), "keep is empty"),
        (np.zeros(6, bool), (1, 4, 6), "keep is empty"),
        ([6], (1, 4, 6), "from 6 to 6; expected from 0 to 5"),
        ([-1, 2], (1, 4, 6), "from -1 to 2"),
        (np.uint64([2**64 - 1]), (1, 4, 6), "expected from 0 to 5"),
        ([1, 1], (1, 4, 6), "twice"),
        (np.ones(5, bool), (1, 4, 6), r"mask of shape \(5,\); expected \(1, 2, 3\), \(2, 3\) or \(6,\)"),
        (np.ones(24, bool), (1, 4, 6), r"mask of shape \(24,\); expected .* \(6,\)"),
        (np.ones((3, 2), bool), (1, 4, 6), r"mask of shape \(3, 2\); expected \(1, 2, 3\), \(2, 3\) or"),
        (np.ones((2, 3, 1), bool), (1, 4, 6), r"mask of shape \(2, 3, 1\)"),
        (np.ones((6, 1), bool), (1, 4, 6), r"mask of shape \(6, 1\)"),
        (np.ones((1, 6), bool), (1, 4, 6), r"mask of shape \(1, 6\)"),
        (np.ones((1, 1, 2, 3), bool), (1, 4, 6), r"mask of shape \(1, 1, 2, 3\)"),
        (np.ones((4, 6), bool), (1, 4, 6), r"mask of shape \(4, 6\)"),
        (np.array(True), (1, 2, 2), r"mask of shape \(\)"),
        (np.ones((3, 2, 2), bool), (2, 4, 6), r"mask of shape \(3, 2, 2\); expected \(2, 2, 3\) or \(12,\)"),
        (np.ones((4, 3), bool), (2, 4, 6), r"mask of shape \(4, 3\)"),
        (5, (1, 4, 6), "keep is a single number"),
        ([0], (1, 4, 5), "merge_size 2"),
        ([0], (1, 0, 6), "at least 1"),
        ([0], (0, 4, 6), "at least 1"),
        ([0], (1, -4, 6), "at least 1"),
        ([0], (4, 6), "three integers"),
        ([0], [(1, 4, 6)], "three integers"),
        ([0], (1.0, 4.0, 6.0), "three integers"),
        ([0], None, "three integers"),
        ([0], "146", "three integers"),
        ([0], (1, 1 << 40, 2), "expected"),
        ([0], (1, 1 << 90, 2), "expected"),
        ([0], ([1], [4, 6], 2), "three integers"),
        ([[0], [1, 2]], (1, 4, 6), "keep"),
    ],
    ids=str,
)
def test_what_from_keep_refuses(keep: Any, grid_thw: Any, message: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=message):
        pp.Selection.from_keep(keep, grid_thw, "qwen3_vl")


@pytest.mark.parametrize("keep", [[0.0], ["0"], None, {0}, b"0", [1j], [None], [2**70], object()], ids=repr)
def test_from_keep_of_another_type(keep: Any) -> None:
    with pytest.raises(TypeError, match="keep"):
        pp.Selection.from_keep(keep, (1, 4, 6), "qwen3_vl")


def test_a_selection_without_source_reconstructs_nothing() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    for sel in (
        pp.Selection.from_keep([0], (1, 4, 6), "qwen3_vl"),
        pp.prune(image, "qwen3_vl", method="random"),
        pp.prune(image, "qwen3_vl", method="conncomp"),
        pp.prune(image, "qwen3_vl", method=lambda left, up: left == up),
    ):
        for call in (sel.reconstruct, lambda pixels, sel=sel: pp.verify(pixels, sel)):
            with pytest.raises(pp.PixelPruneError, match="has no source"):
                call(image)
        assert sel.tokens(image).shape == (sel.kept, 32, 32, 3)


# --- Frozen, picklable, comparable -----------------------------------------------------------------------


def selections() -> list[pp.Selection]:
    return [pp.prune(IMAGE, PIXEL_SPEC, method=method, seed=9) for method in METHODS + BASELINES] + [
        pp.Selection.from_keep([1], (2, 2, 2), "qwen2_vl"),
        pp.prune(IMAGE, PIXEL_SPEC, method=lambda left, up: (left == up, None)),
    ]


def same(sel: pp.Selection) -> pp.Selection:
    return sel


def by_protocol(protocol: int) -> Callable[[pp.Selection], pp.Selection]:
    def there_and_back(sel: pp.Selection) -> pp.Selection:
        result: pp.Selection = pickle.loads(pickle.dumps(sel, protocol))
        return result

    there_and_back.__name__ = f"protocol {protocol}"
    return there_and_back


COPIES = [same, copy.copy, copy.deepcopy, *map(by_protocol, range(pickle.HIGHEST_PROTOCOL + 1))]


@pytest.mark.parametrize("copied", COPIES, ids=lambda f: f.__name__)
def test_copies_are_equal_and_read_only(copied: Callable[[pp.Selection], pp.Selection]) -> None:
    for sel in selections():
        other = copied(sel)
        assert other == sel
        assert hash(other) == hash(sel)
        assert other.__dict__.keys() == sel.__dict__.keys()
        assert np.array_equal(other.mask, sel.mask)
        assert np.array_equal(other.patch_indices(), sel.patch_indices())
        for array in (other.keep, other.source):
            if array is not None:
                assert not array.flags.writeable
                assert array.dtype == np.int64
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 1


@pytest.mark.parametrize("name", ["keep", "source", "grid_thw", "spec", "threshold", "mask", "kept", "new"])
def test_attributes_cannot_be_set(name: str) -> None:
    sel = pp.prune(IMAGE, PIXEL_SPEC)
    with pytest.raises(AttributeError):
        setattr(sel, name, 1)
    with pytest.raises(AttributeError):
        delattr(sel, name)


def test_equality_is_of_everything_that_made_it() -> None:
    sel = pp.prune(IMAGE, PIXEL_SPEC)
    assert sel == pp.prune(IMAGE.copy(), PIXEL_SPEC)
    assert len({sel, pp.prune(IMAGE.copy(), PIXEL_SPEC)}) == 1
    changed = {
        "keep": np.array([0, 2, 5, 7, 9]),
        "source": None,
        "grid_thw": (1, 4, 3),
        "spec": replace(PIXEL_SPEC, max_pixels=10**9),
        "method": "raster",
        "metric": "mae",
        "threshold": 0.5,
        "anchored": False,
        "seed": 1,
        "protect": "content",
    }
    assert set(changed) == {field.name for field in dataclasses.fields(sel)}
    for name, value in changed.items():
        other = replace(sel, **{name: value})
        assert other != sel, name
        assert sel != other, name
    assert sel.source is not None
    source = sel.source.copy()
    source[1] = 2
    assert replace(sel, source=source) != sel
    for other_type in (None, 5, "x", sel.keep.tolist()):
        assert sel != other_type
