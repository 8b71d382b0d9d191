"""``protect="content"``: only tokens of one colour are dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixelprune import _core, reference
from pixelprune.arrays import as_pixels
from pixelprune.reference import BASELINES, METHODS
from strategies import PIXEL_SPEC, Case, Pixels, cases, normalise, still

TINY = pp.VisionSpec(patch_size=2, merge_size=1)
LEVELS = _core.simd_levels()


def row_of(*tokens: tuple[int, int]) -> Pixels:
    """Grey tokens side by side, each with a dark and a bright column."""
    return np.array([[value for token in tokens for value in token]] * 2, np.uint8)


def several(case: Case, threshold: float) -> npt.NDArray[np.int64]:
    """The tokens that are not of one colour, as the oracle says."""
    tokens = reference.image_tokens(case.image, case.spec)
    rows, cols = tokens.shape[:2]
    return np.flatnonzero([not reference.one_colour(tokens[x], threshold) for x in np.ndindex(rows, cols)])


# --- By hand ---------------------------------------------------------------------------------------------


def test_one_colour_by_hand() -> None:
    token = np.full((2, 2, 3), (10, 200, 30), np.uint8)
    assert reference.one_colour(token)
    token[1, 0] = 10, 205, 30
    assert not reference.one_colour(token)
    assert not reference.one_colour(token, 4.99 / 255)
    assert reference.one_colour(token, 5 / 255)
    token[0, 0] = 5, 200, 30  # another channel spans 5 levels, too
    assert reference.one_colour(token, 5 / 255)
    token[0, 0] = 10, 199, 30
    assert not reference.one_colour(token, 5 / 255)
    assert reference.one_colour(np.uint8([7]))
    assert not reference.one_colour(np.uint8([7, 8]))
    assert reference.one_colour(np.float32([[0.5, 1.0], [0.5, 1.0]]))
    assert not reference.one_colour(np.float32([[0.5, 1.0], [0.6, 1.0]]), 0.09)
    assert reference.one_colour(np.float32([[0.5, 1.0], [0.6, 1.0]]), 0.1)


def test_equal_marks_are_all_kept() -> None:
    image = row_of((9, 9), (9, 9), (0, 9), (0, 9), (9, 9), (0, 9), (9, 9))
    expected = {"pred_2d": [0, 2, 4, 5, 6], "raster": [0, 2, 4, 5, 6], "either": [0, 2, 4, 5, 6], "unique": [0, 2]}
    for method, keep in expected.items():
        assert pp.prune(image, TINY, method=method).keep.tolist() == keep  # type: ignore[arg-type]
        sel = pp.prune(image, TINY, method=method, protect="content")  # type: ignore[arg-type]
        assert sel.keep.tolist() == sorted({*keep, 2, 3, 5})
        assert sel.protect == "content"
        assert "protect 'content'" in repr(sel)


def test_a_protected_token_predicts_its_neighbours() -> None:
    """In closed loop it is its own source; without protection the last token would be too far from the first."""
    image = row_of((0, 12), (8, 20), (16, 16))
    for method in ("pred_2d", "raster", "serpentine", "either"):
        how: Any = {"method": method, "threshold": 10 / 255}
        assert pp.prune(image, TINY, **how).source.tolist() == [0, 0, 2]  # type: ignore[union-attr]
        sel = pp.prune(image, TINY, protect="content", **how)
        assert sel.source is not None
        assert sel.source.tolist() == [0, 1, 1]
        assert np.array_equal(pp.decode(sel.mask, sel.tokens(image), TINY, threshold=10 / 255), sel.reconstruct(image)[
            ..., np.newaxis
        ])  # fmt: skip


def test_names_are_checked() -> None:
    with pytest.raises(pp.PixelPruneError, match=r'protect is "text"; expected .*nothing.*content'):
        pp.PruneSettings(protect="text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"protect is True; expected 'nothing' or 'content'"):
        pp.prune(np.zeros((2, 2), np.uint8), TINY, protect=True)  # type: ignore[arg-type]
    with pytest.raises(pp.PixelPruneError, match="protect is 'text'"):
        reference.prune(np.zeros((2, 2), np.uint8), TINY, protect="text")


def test_tokens_of_one_pixel_are_of_one_colour() -> None:
    image = np.random.default_rng(0).integers(0, 3, (6, 7, 3), np.uint8) // 2
    sel = pp.prune(image, PIXEL_SPEC)
    assert sel.kept < sel.total
    assert pp.prune(image, PIXEL_SPEC, protect="content").keep.tolist() == sel.keep.tolist()


# --- What holds for any image ----------------------------------------------------------------------------


@given(cases())
def test_the_core_says_what_the_oracle_says(case: Case) -> None:
    expected = several(case, case.threshold)
    for level in LEVELS:
        found = _core.content(as_pixels(case.image), case.spec.token_size, case.threshold, level)
        assert np.flatnonzero(found).tolist() == expected.tolist(), level


@given(cases(), st.sampled_from(METHODS + BASELINES), st.booleans())
def test_dropped_content_is_what_the_oracle_says(case: Case, method: Any, anchored: bool) -> None:
    threshold = 0.0 if method == "unique" else case.threshold
    how: Any = {"method": method, "metric": case.metric, "threshold": threshold, "anchored": anchored}
    sel = pp.prune(case.image, case.spec, **how)
    found = sel.dropped_content(case.image)
    assert found.dtype == np.int64
    assert found.tolist() == np.setdiff1d(several(case, threshold), sel.keep).tolist()
    protected = pp.prune(case.image, case.spec, protect="content", **how)
    if method not in BASELINES:
        assert len(protected.dropped_content(case.image)) == 0
        if threshold == 0:
            assert protected.keep.tolist() == sorted([*sel.keep.tolist(), *found.tolist()])


@given(cases(), st.booleans(), st.booleans())
def test_callables(case: Case, with_source: bool, drops_all: bool) -> None:
    def method(left: npt.NDArray[np.bool_], up: npt.NDArray[np.bool_]) -> Any:
        mask = ~(left | up)
        if drops_all:
            mask[:] = np.arange(mask.size).reshape(mask.shape) == 0
        kept = np.flatnonzero(mask)
        before = np.searchsorted(kept, np.arange(mask.size), side="right") - 1
        return (mask, kept[before]) if with_source else mask

    how: Any = {"method": method, "metric": case.metric, "threshold": case.threshold, "protect": "content"}
    mask, source = reference.prune(case.image, case.spec, **how)
    sel = pp.prune(case.image, case.spec, **how)
    assert np.array_equal(sel.mask, mask)
    assert sel.source is None if source is None else np.array_equal(sel.source, source)
    assert len(sel.dropped_content(case.image)) == 0
    assert pp.prune_batch([case.image], case.spec, **how) == [sel]


@given(cases(metrics=("max",), thresholds=st.integers(0, 255).map(lambda level: level / 255), channels=(3,)))
def test_callables_on_pixel_values(case: Case) -> None:
    how: Any = {"method": lambda left, up: ~(left | up), "threshold": case.threshold, "protect": "content"}
    sel = pp.prune(case.image, case.spec, **how)
    for values, grid in (still(normalise(case.image, case.spec), case.spec), still(case.image, case.spec)):
        for temporal in ("repeat", "frames"):
            assert pp.prune_pixel_values(values, [grid], case.spec, temporal=temporal, **how) == [sel]  # type: ignore[arg-type]


def test_dropped_content_needs_the_image() -> None:
    sel = pp.prune(np.zeros((4, 4), np.uint8), TINY)
    with pytest.raises(pp.PixelPruneError, match="expected the image that was pruned"):
        sel.dropped_content(np.zeros((4, 6), np.uint8))
    given = pp.Selection.from_keep([0], (1, 1, 3), TINY)
    assert given.dropped_content(row_of((1, 1), (0, 1), (1, 1))).tolist() == [1]
