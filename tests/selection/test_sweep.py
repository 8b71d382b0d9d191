"""`sweep`: many settings on one image, each with the outcome of `prune`."""

from __future__ import annotations

import io
from itertools import product
from typing import Any, get_args

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pixelprune import _core
from pixelprune.arrays import as_pixels
from pixelprune.selection.settings import MethodName, Metric, Protect
from strategies import THRESHOLDS, Case, Pixels, cases, images

SPEC = pp.VisionSpec(patch_size=2, merge_size=2)
LEVELS = _core.simd_levels()


def every(*thresholds: float, seed: int = 42) -> list[pp.PruneSettings]:
    """All settings with these thresholds."""
    return [
        pp.PruneSettings(
            method=method,
            metric=metric,
            threshold=0.0 if method == "unique" else threshold,
            anchored=anchored,
            seed=seed,
            protect=protect,
        )
        for threshold, method, metric, anchored, protect in product(
            thresholds, get_args(MethodName), get_args(Metric), (True, False), get_args(Protect)
        )
    ]


def assert_as_prune(swept: list[pp.Swept], image: Pixels, spec: pp.VisionSpec, chosen: list[pp.PruneSettings]) -> None:
    assert len(swept) == len(chosen)
    for found, one in zip(swept, chosen, strict=True):
        selection = pp.prune(image, spec, settings=one)
        assert found.keep is not None
        assert found.keep.tolist() == selection.keep.tolist(), one
        assert found.kept == selection.kept, one
        assert found.dropped_content == len(selection.dropped_content(image)), one


@settings(max_examples=60)
@given(cases(), st.lists(THRESHOLDS, max_size=2), st.integers(0, 5))
def test_every_method_metric_loop_and_protection(case: Case, others: list[float], seed: int) -> None:
    chosen = every(case.threshold, *others, seed=seed)
    assert_as_prune(pp.sweep(case.image, case.spec, chosen, indices=True), case.image, case.spec, chosen)


@settings(max_examples=40)
@given(cases(specs=(SPEC,), max_side=9), st.randoms(use_true_random=False))
def test_the_order_of_the_settings_does_not_matter(case: Case, random: Any) -> None:
    """What is remembered from one of them must be right for all others."""
    chosen = every(*(case.threshold * share for share in (0.0, 0.5, 1.0)))
    expected = [found.kept for found in pp.sweep(case.image, SPEC, chosen)]
    order = list(range(len(chosen)))
    random.shuffle(order)
    swept = pp.sweep(case.image, SPEC, [chosen[i] for i in order], indices=True)
    assert [found.kept for found in swept] == [expected[i] for i in order]
    assert_as_prune(swept[:20], case.image, SPEC, [chosen[i] for i in order][:20])


@settings(max_examples=40)
@given(cases(), st.data())
def test_simd_levels(case: Case, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(every(case.threshold, 0.02)), max_size=12))
    given = [one.core for one in chosen]
    pixels = as_pixels(case.image)
    expected = [
        (found.keep.tolist(), found.dropped_content)
        for found in pp.sweep(case.image, case.spec, chosen, indices=True)
        if found.keep is not None
    ]
    for level in LEVELS:
        swept = _core.sweep(pixels, case.spec.token_size, given, 1, level)
        assert [(keep.tolist(), content) for keep, content in swept] == expected, level


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_large_images_and_threads(channels: int) -> None:
    """Large enough to be shared by the threads; a noisy page, so that many sources compete for what is remembered."""
    rng = np.random.default_rng(channels)
    base = rng.integers(100, 110, (50, 40, channels), np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    image = base + rng.integers(0, 3, base.shape, np.uint8)
    image[::7, 300:700] = rng.integers(0, 256, (229, 400, channels))
    image[800:1200] = 255
    chosen = [
        pp.PruneSettings(method=method, metric=metric, threshold=levels / 255, protect=protect)
        for method, metric, levels, protect in product(
            ("pred_2d", "serpentine", "conncomp"), get_args(Metric), (0, 2, 3, 5, 8, 60), get_args(Protect)
        )
    ]
    swept = pp.sweep(image, "qwen3_vl", chosen, indices=True, threads=1)
    assert_as_prune(swept, image, pp.PRESETS["qwen3_vl"], chosen)
    assert len({found.kept for found in swept}) > 20
    for threads in (2, 3):
        shared = pp.sweep(image, "qwen3_vl", chosen, indices=True, threads=threads)
        assert [(s.kept, s.dropped_content) for s in shared] == [(s.kept, s.dropped_content) for s in swept]
        for a, b in zip(shared, swept, strict=True):
            np.testing.assert_array_equal(a.keep, b.keep)


def test_thresholds_at_the_ends() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    noise[:4, :4], noise[:4, 4:8] = 0, 255
    chosen = every(0.0, 1e-9, 0.5 / 255, 254 / 255, np.nextafter(1, 0), 1.0)
    assert_as_prune(pp.sweep(noise, SPEC, chosen, indices=True), noise, SPEC, chosen)


def test_by_hand() -> None:
    """Tokens 0, 2 and 5 levels bright; the last has a mark."""
    image = np.repeat(np.uint8([[0, 2, 5, 5]]), 4, axis=0).repeat(4, axis=1)
    image[0, -1] = 6
    chosen = [
        pp.PruneSettings(threshold=2 / 255),  # 0 stands for 2, 5 for itself and, one level off, for the last
        pp.PruneSettings(threshold=3 / 255, anchored=False),
        pp.PruneSettings(threshold=5 / 255),  # the last is 6 levels from 0
        pp.PruneSettings(threshold=6 / 255),
        pp.PruneSettings(threshold=0.004, metric="mae"),  # about one level, on average
        pp.PruneSettings(threshold=1 / 255, protect="content"),
        pp.PruneSettings(),
    ]
    swept = pp.sweep(image, SPEC, chosen, indices=True)
    assert [found.keep.tolist() for found in swept if found.keep is not None] == [
        [0, 2],
        [0],
        [0, 3],
        [0],
        [0, 1, 2],
        [0, 1, 2],
        [0, 1, 2, 3],
    ]
    assert [found.kept for found in swept] == [2, 1, 2, 1, 3, 3, 4]
    assert [found.dropped_content for found in swept] == [0, 0, 0, 0, 0, 0, 0]


def test_dropped_content_is_counted_within_the_threshold_of_each() -> None:
    token = np.uint8([[0, 4, 0, 4]] * 4)
    image = np.hstack([token] * 5)
    chosen = [pp.PruneSettings(threshold=levels / 255) for levels in (0, 3, 4)]
    assert [tuple(found) for found in pp.sweep(image, SPEC, chosen)] == [(1, 4, None), (1, 4, None), (1, 0, None)]
    protected = [one.replace(protect="content") for one in chosen]
    assert [tuple(found) for found in pp.sweep(image, SPEC, protected)] == [(5, 0, None), (5, 0, None), (1, 0, None)]


@given(images(SPEC, 3, "max", 0.05))
def test_duplicates_and_nothing(image: Pixels) -> None:
    assert pp.sweep(image, SPEC, []) == []
    one = pp.PruneSettings(threshold=0.05)
    first, *others = pp.sweep(image, SPEC, (one for _ in range(3)))
    assert first.keep is None
    assert others == [first, first]


def test_the_image_may_be_a_file_or_channels_first() -> None:
    page = np.full((64, 96, 3), 255, np.uint8)
    page[:32, 32:64] = 9  # the next token repeats the one above it, but not the left one
    file = io.BytesIO()
    Image.fromarray(page).save(file, "PNG")
    chosen = [pp.PruneSettings(), pp.PruneSettings(method="either")]
    expected = pp.sweep(page, "qwen3_vl", chosen)
    assert [found.kept for found in expected] == [4, 3]
    assert pp.sweep(page.transpose(2, 0, 1), "qwen3_vl", chosen, channels_first=True) == expected
    assert pp.sweep(file.getvalue(), "qwen3_vl", chosen) == expected
    assert pp.sweep(Image.open(file), "qwen3_vl", chosen) == expected


# --- What is refused -------------------------------------------------------------------------------------


def test_functions_are_refused() -> None:
    chosen = [pp.PruneSettings(), pp.PruneSettings(method=lambda left, up: ~left)]
    with pytest.raises(pp.PixelPruneError, match=r"settings\[1\] has a function as its method; expected a name"):
        pp.sweep(np.zeros((8, 8), np.uint8), SPEC, chosen)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (pp.PruneSettings(), "settings is PruneSettings.*; expected a list of PruneSettings"),
        (None, "settings is None; expected a list of PruneSettings"),
        (3, "settings is 3; expected a list of PruneSettings"),
        ([pp.PruneSettings(), {"threshold": 0.1}], r"settings\[1\] is .*; expected a PruneSettings"),
        ("raster", r"settings\[0\] is 'r'; expected a PruneSettings"),
    ],
)
def test_other_things_than_settings_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pp.sweep(np.zeros((8, 8), np.uint8), SPEC, wrong)


def test_images_are_checked_even_if_nothing_is_asked() -> None:
    with pytest.raises(pp.PixelPruneError):
        pp.sweep(np.zeros((8, 9), np.uint8), SPEC, [])
    with pytest.raises(TypeError):
        pp.sweep(np.zeros((8, 8), np.float32), SPEC, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="indices"):
        pp.sweep(np.zeros((8, 8), np.uint8), SPEC, [], indices=1)  # type: ignore[arg-type]
