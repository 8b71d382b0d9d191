"""preprocess against the oracle: which pixels, which rows, where they go, and what is refused."""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import struct
import sys
import threading
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from guard_pages import guarded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pixelprune import _core, reference
from pixelprune.arrays import as_pixels
from pixelprune.images.options import DTYPES
from pixelprune.images.preprocessing import Job, OutputFormat, affine, levels
from pixelprune.selection.settings import CoreSettings
from strategies import layouts
from test_input import arrays, junk

if TYPE_CHECKING:
    from conftest import RunChild

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.bool_]

_core.share_from(0)  # so that threads share small images, too

LEVELS = _core.simd_levels()
METHODS = reference.METHODS + reference.BASELINES
KINDS = ("noise", "extremes", "rows", "flat", "tiles", "page", "one line")


def tiny(patch: int = 2, merge: int = 2, least: int = 1, most: int = 1 << 20, **more: Any) -> pp.VisionSpec:
    return pp.VisionSpec(patch_size=patch, merge_size=merge, min_pixels=least, max_pixels=most, **more)


SMALL = tiny()
SPECS = (
    SMALL,
    tiny(8, 1, 64 * 64, 96 * 96),
    tiny(9, 2, 60 * 60, 60 * 60, patch_order="raster", mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.7)),
    tiny(14, 2, 1, 56 * 56),
    tiny(16, 2, 96 * 96, 1 << 16, temporal_patch_size=3),
    tiny(5, 3, 1, 1 << 12, temporal_patch_size=1, patch_layout="ppc", patch_order="raster"),
    tiny(7, 1, 40 * 150, 1 << 14, temporal_patch_size=1, patch_layout="cpp", flat_patches=False),
    tiny(10, 2, 1, 1 << 14, temporal_patch_size=1, patch_layout="cpp", flat_patches=False, patch_order="raster"),
)


SHRUNK = (SMALL, tiny(4, 2, 60 * 60, 60 * 60, patch_order="raster"), tiny(9, 1, 1, 1 << 12, temporal_patch_size=1))


def paint(height: int, width: int, kind: str, seed: int, channels: int = 3) -> Pixels:
    """An image in which rows and pieces of rows repeat, or just do not."""
    rng = np.random.default_rng(seed)
    shape = (height, width, channels)
    if kind == "noise":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "extremes":
        return rng.integers(0, 2, shape, np.uint8) * np.uint8(255)
    if kind == "rows":  # some of them new, the others like the one above
        chosen = np.cumsum(rng.random(height) < 0.3)
        return rng.integers(0, 256, (int(chosen[-1]) + 1, width, channels), np.uint8)[chosen]
    if kind == "tiles":
        y, x = np.ogrid[:height, :width]
        palette = rng.integers(0, 256, (3, channels), np.uint8)
        plan = rng.integers(0, 3, (height // 8 + 1, width // 8 + 1))
        tiled: Pixels = palette[plan[y // 8, x // 8]]
        return tiled
    image = np.full(shape, rng.integers(0, 256, channels), np.uint8)
    if kind == "page":
        image[height // 2 :, width // 3 :] = rng.integers(0, 256, channels)
        image[: height // 4, width // 2 :] = rng.integers(0, 256, (height // 4, width - width // 2, channels))
    if kind == "one line":
        image[rng.integers(height), rng.integers(width) :] ^= np.uint8(255)
    return image


def settings_of(**how: Any) -> tuple[str, str, float, bool, int]:
    return CoreSettings("pred_2d", "max", 0.0, True, 42, "nothing")._replace(**how)


def run_core(
    image: Pixels,
    spec: pp.VisionSpec,
    size: tuple[int, int],
    chosen: Any = None,
    *,
    pad: bool = False,
    dtype: str = "float32",
    copies: str = "repeat",
    computed: bool = True,
    threads: int = 1,
    level: str | None = None,
) -> tuple[npt.NDArray[Any], list[int]]:
    """One image through the core itself, which may be told the size and the instructions; a guard lies behind."""
    p, m, frames = spec.patch_size, spec.merge_size, spec.temporal_patch_size if copies == "repeat" else 1
    rows, row = size[0] // p * (size[1] // p), 3 * frames * p * p
    bits = np.dtype(np.uint16) if dtype == "float16" else DTYPES[dtype]
    out = np.full(rows * row + 64, 0x5A, bits)
    table = levels(spec.mean, spec.std, dtype, "torchvision").view(bits)
    formulas = affine(spec.mean, spec.std, dtype, "torchvision") if computed else None
    layout = OutputFormat(p, m, frames, spec.patch_layout == "ppc", spec.patch_order)
    jobs = [Job(image, *size, pad, None)]
    how = (formulas, dtype == "bfloat16", threads, level)
    [(keep, _)] = _core.preprocess(jobs, layout, chosen or settings_of(), chosen is not None, (out, table), *how)
    end = len(keep) * m * m * row
    assert (out[end:] == 0x5A).all(), "written behind the last row"
    return out[:end].reshape(-1, row), keep.tolist()


def same_bits(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> bool:
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def in_flat_order(values: npt.NDArray[Any], mask: Plane, spec: pp.VisionSpec) -> npt.NDArray[Any]:
    """The kept rows as a model reads them that takes them for one long row of tokens."""
    if spec.patch_order == "block" or mask.all():
        return values
    m = spec.merge_size
    tokens = [reference.patch_indices([i], mask.shape, spec).reshape(m, m).tolist() for i in np.flatnonzero(mask)]
    flat = [row for line in range(m) for token in tokens for row in token[line]]
    places = {row: place for place, row in enumerate(sorted(flat))}
    return values[[places[row] for row in flat]]


def check(batch: pp.Batch, spec: pp.VisionSpec, expected: list[tuple[npt.NDArray[Any], Pixels, Plane]]) -> None:
    """Everything that a batch says, from what the oracle says of each image."""
    m = spec.merge_size
    rows = [in_flat_order(values, mask, spec) for values, _, mask in expected]
    assert same_bits(batch.pixel_values, np.concatenate(rows))
    assert batch.offsets.tolist() == [sum(map(len, rows[:i])) for i in range(len(rows) + 1)]
    assert batch.resized_sizes.tolist() == [list(resized.shape[:2]) for _, resized, _ in expected]
    grids = [(1, mask.shape[1] * m, mask.shape[2] * m) for _, _, mask in expected]
    assert batch.grid_thw.tolist() == [list(grid) for grid in grids]
    assert batch.flat_grid_thw.tolist() == [
        list(grid) if mask.all() else [-1, -m, int(mask.sum()) * m]
        for grid, (_, _, mask) in zip(grids, expected, strict=True)
    ]
    assert [sel.mask.tolist() for sel in batch.selections] == [mask.tolist() for _, _, mask in expected]
    assert all(sel.grid_thw == grid and sel.spec == spec for sel, grid in zip(batch.selections, grids, strict=True))
    assert batch.pixel_values.flags.c_contiguous
    assert {array.dtype for array in (batch.grid_thw, batch.flat_grid_thw, batch.offsets)} == {np.dtype(np.int64)}
    assert len(batch) == len(expected)


# --- Against the oracle, here and there by hand ----------------------------------------------------------


def test_an_image_done_by_hand() -> None:
    spec = tiny(1, 2, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25), temporal_patch_size=2)
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 2] = (255, 0, 51)
    batch = pp.preprocess([image], spec)
    assert batch.selections[0].keep.tolist() == [0, 1]
    zero = [0.0, 0.0, -1.0, -1.0, -4.0, -4.0]
    first = [1.0, 1.0, -1.0, -1.0, np.float32(51 - 255) / np.float32(63.75)]
    expected = np.array([zero] * 4 + [[*first, first[-1]]] + [zero] * 3, np.float32)
    assert np.array_equal(batch.pixel_values, expected)
    assert (batch.grid_thw.tolist(), batch.flat_grid_thw.tolist()) == ([[1, 2, 4]], [[1, 2, 4]])
    assert (batch.offsets.tolist(), batch.resampled) == ([0, 8], ("none",))
    assert repr(batch) == "Batch(1 images, kept 2 of 2 tokens, pixel_values float32 (8, 6))"


def test_weights_by_hand() -> None:
    """Twice as wide: the cubic of Keys at -7/4 .. 7/4, with 1/128 as unit, edges renormalised."""
    row = np.array([[[0] * 3, [0] * 3, [128] * 3, [0] * 3, [0] * 3]], np.uint8)
    middle = _core.resize(row, 1, 10)[0, :, 0].tolist()
    # Weights of the pixel in the middle: -3/128, -9/128 (clamped to 0), 29/128, 111/128, and back.
    assert middle == [0, 0, 0, 29, 111, 111, 29, 0, 0, 0]
    assert reference.resize(row, 1, 10)[0, :, 0].tolist() == middle


def test_the_oracle_s_preprocess_is_made_of_its_parts() -> None:
    image = paint(50, 70, "tiles", 3)
    values, resized, mask = reference.preprocess(image, SMALL, method="raster", dtype="uint8")
    assert np.array_equal(resized, reference.resize(image, *pp.smart_resize(50, 70, SMALL)))
    expected, _ = reference.prune(resized, SMALL, method="raster")
    assert np.array_equal(mask, expected)
    whole, _, all_kept = reference.preprocess(image, SMALL, prune=False, dtype="uint8")
    assert all_kept.all()
    rows = reference.patch_indices(np.flatnonzero(mask), mask.shape, SMALL)
    assert np.array_equal(values, whole[rows])
    back = reference.pixel_value_tokens(whole, (1, resized.shape[0] // 2, resized.shape[1] // 2), SMALL)
    assert np.array_equal(back.reshape(*mask.shape, 4, 4, 3)[0], reference.image_tokens(resized, SMALL))


@pytest.mark.parametrize("wrong", [(0, 4), (4, 0), (-1, 4)])
def test_the_oracle_refuses_empty_sizes(wrong: tuple[int, int]) -> None:
    with pytest.raises(pp.PixelPruneError, match="no empty side"):
        reference.resize(np.zeros((2, 2, 3), np.uint8), *wrong)
    with pytest.raises(TypeError, match="float64"):
        reference.resize(np.zeros((2, 2, 3)), 4, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_resized_as_the_oracle_does(kind: str) -> None:
    sizes = ((1, 1), (1, 90), (90, 1), (3, 7), (33, 64), (50, 65), (64, 129), (70, 300), (257, 20))
    targets = ((1, 1), (5, 7), (8, 8), (9, 200), (64, 67), (100, 136), (31, 1))
    for i, ((height, width), (to_height, to_width)) in enumerate(product(sizes, targets)):
        image = paint(height, width, kind, i)
        expected = reference.resize(image, to_height, to_width)
        for level in LEVELS:
            found = _core.resize(image, to_height, to_width, 1 + i % 3, level)
            assert np.array_equal(found, expected), (image.shape, expected.shape, level)


@pytest.mark.parametrize("level", LEVELS)
def test_every_number_of_taps(level: str) -> None:
    """Scales from 1/20 to 50 meet every loop of the kernels, with ends at every distance from the edge."""
    for i, target in enumerate((2, 4, 7, 8, 9, 12, 16, 23, 24, 31, 47, 66, 95, 99, 101, 128, 173, 400, 2000)):
        image = paint(3, 100, "noise" if i % 2 else "extremes", i)
        assert np.array_equal(_core.resize(image, 5, target, 1, level), reference.resize(image, 5, target)), target
        tall = np.ascontiguousarray(image.swapaxes(0, 1))
        assert np.array_equal(_core.resize(tall, target, 5, 1, level), reference.resize(tall, target, 5)), target


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.patch_size}x{spec.merge_size}{spec.patch_layout}")
def test_every_level_and_dtype(spec: pp.VisionSpec, dtype: str) -> None:
    side = spec.token_size
    for i, copies in enumerate(("repeat", "single")):
        image = paint(37 + i, 61, "tiles", i)
        size = (side * (2 + i), side * (5 - i))
        resized = reference.resize(image, *size)
        normal = reference.normalise(resized, spec, dtype=dtype)
        whole = reference.patchify(normal, spec, copies=copies)  # type: ignore[arg-type]
        whole = whole.view(np.uint16 if dtype == "float16" else whole.dtype).reshape(len(whole), -1)
        mask, _ = reference.prune(resized, spec)
        keep = np.flatnonzero(mask)
        rows = whole[reference.patch_indices(keep, mask.shape, spec)]
        for level, (computed, threads) in product(LEVELS, ((True, 1), (False, 1), (True, 3))):
            how: Any = {"dtype": dtype, "copies": copies, "computed": computed, "threads": threads, "level": level}
            found, kept = run_core(image, spec, size, settings_of(), **how)
            assert kept == keep.tolist()
            assert same_bits(found, rows)
            assert same_bits(run_core(image, spec, size, **how)[0], whole)


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("metric", reference.METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, metric: str, anchored: bool) -> None:
    """Kept rows are those of prune=False that the selection names; the selection is that of the resized pixels."""
    for (i, spec), tau, protect in product(enumerate(SHRUNK), (0.0, 0.02), reference.PROTECT):
        if method == "unique" and tau:
            continue
        images = [paint(71 + i, 133, "page", i), paint(40, 40, "noise", i) // 8, paint(30, 66, "rows", i)]
        how: Any = {"method": method, "metric": metric, "threshold": tau, "anchored": anchored, "seed": 5}
        how["protect"] = protect
        whole = pp.preprocess(images, spec, prune=False)
        pixels = [reference.preprocess(image, spec, prune=False)[1] for image in images]
        expected = pp.prune_batch(pixels, spec, **how)
        for threads in (1, 2, 4):
            batch = pp.preprocess(images, spec, threads=threads, **how)
            assert batch.selections == expected
            assert same_bits(batch.pixel_values, whole.pixel_values[pp.patch_indices(expected, flat=True)])
            assert (
                batch.offsets.tolist() == np.cumsum([0, *(spec.merge_size**2 * sel.kept for sel in expected)]).tolist()
            )
        assert [sel.method for sel in whole.selections] == ["given"] * 3
        assert all(sel.kept == sel.total for sel in whole.selections)
        assert 1 < expected[0].kept < expected[0].total


@pytest.mark.parametrize("resample", ["torchvision", "pillow", "pad"])
def test_a_callable(resample: Any) -> None:
    images = [paint(71, 133, "page", 0), paint(30, 66, "rows", 1)]
    spec = SHRUNK[1] if resample != "pad" else SHRUNK[0]
    asked: list[tuple[int, ...]] = []

    def first_of_each_run(left: Plane, up: Plane) -> Plane:
        asked.append(left.shape)
        return ~(left | up)

    how: Any = {"resample": resample, "metric": "mae", "threshold": 0.01}
    whole = pp.preprocess(images, spec, resample=resample, prune=False)
    out = np.full_like(whole.pixel_values, 7, shape=(len(whole.pixel_values) + 1, *whole.pixel_values.shape[1:]))
    for room in (None, out):
        asked.clear()
        batch = pp.preprocess(images, spec, method=first_of_each_run, out=room, **how)
        assert asked == [sel.grid[1:] for sel in batch.selections]
        assert {sel.method for sel in batch.selections} == {"first_of_each_run"}
        masks = [reference.preprocess(i, spec, method=lambda left, up: ~(left | up), **how)[2] for i in images]
        assert [sel.mask.tolist() for sel in batch.selections] == [mask.tolist() for mask in masks]
        assert same_bits(batch.pixel_values, whole.pixel_values[pp.patch_indices(batch.selections, flat=True)])
        assert 0 < batch.selections[0].kept < batch.selections[0].total
    assert (out[-1] == 7).all()


@pytest.mark.parametrize("resample", ["torchvision", "pillow", "pad", "none"])
def test_a_callable_has_every_image_resized_once(resample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once before the callable sees it; the core then gets pixels of the final size and has nothing left to resize."""
    sizes = [(71, 133), (30, 66), (24, 40)] if resample != "none" else [(24, 40), (8, 8)]
    images = [paint(*size, "page", seed) for seed, size in enumerate(sizes)]
    spec = SHRUNK[1] if resample in ("torchvision", "pillow") else SHRUNK[0]
    whole = pp.preprocess(images, spec, resample=resample, prune=False)
    resize, preprocess = _core.resize, _core.preprocess
    resized: list[tuple[int, int]] = []
    left: list[Job] = []

    def counted_resize(image: Pixels, height: int, width: int, *rest: Any) -> Pixels:
        resized.append((height, width))
        return resize(image, height, width, *rest)

    def counted_preprocess(jobs: list[Job], *rest: Any) -> Any:
        left.extend(job for job in jobs if job.image.shape[:2] != (job.height, job.width))
        return preprocess(jobs, *rest)

    monkeypatch.setattr(_core, "resize", counted_resize)
    monkeypatch.setattr(_core, "preprocess", counted_preprocess)

    batch = pp.preprocess(images, spec, resample=resample, method=lambda left, up: ~(left | up))
    assert batch.resampled == whole.resampled
    assert resized == (list(map(tuple, batch.resized_sizes)) if resample == "torchvision" else [])
    assert left == []
    kept = pp.patch_indices(batch.selections, flat=True)
    assert 0 < len(kept) < len(whole.pixel_values)
    assert same_bits(batch.pixel_values, whole.pixel_values[kept])


@pytest.mark.parametrize("preset", pp.PRESETS)
def test_every_preset(preset: str) -> None:
    spec = pp.VisionSpec.preset(preset)
    image = paint(150, 131, "tiles", 4)
    image[100:, 40:90] = paint(50, 50, "noise", 5)
    expected = reference.preprocess(image, spec)
    check(pp.preprocess([image], preset), spec, [expected])
    assert pp.preprocess([image], preset).pixel_values.shape[1:] == spec.patch_shape
    single = pp.preprocess([image], preset, copies="single", dtype="bfloat16", prune=False, threads=2)
    check(single, spec, [reference.preprocess(image, spec, prune=False, copies="single", dtype="bfloat16")])


def test_a_grey_and_an_rgba_array_become_rgb() -> None:
    rgba = paint(33, 47, "noise", 1, channels=4)
    rgba[..., 3] = 255
    rgba[:5, :5, 3] = 100
    grey = paint(33, 47, "noise", 2, channels=1)
    expected = [reference.preprocess(np.repeat(grey, 3, axis=2), SMALL)] * 2
    check(pp.preprocess([grey, grey[..., 0]], SMALL), SMALL, expected)
    with pytest.warns(pp.PixelPruneWarning, match="not opaque"):
        batch = pp.preprocess([rgba], SMALL, alpha="drop")
    check(batch, SMALL, [reference.preprocess(rgba[..., :3], SMALL)])
    batch = pp.preprocess([Image.fromarray(rgba)], SMALL)  # on white
    white = np.asarray(pp.load_image(Image.fromarray(rgba), alpha="white"))
    check(batch, SMALL, [reference.preprocess(white, SMALL)])


@pytest.mark.parametrize("threads", [1, 2])
def test_warnings_name_the_image_and_point_at_the_call(threads: int) -> None:
    rgba = np.full((24, 40, 4), 100, np.uint8)
    sources = [Image.fromarray(rgba), paint(33, 47, "noise", 1), Image.fromarray(rgba)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pp.preprocess(sources, SMALL, alpha="drop", threads=threads)
    assert [(w.category, w.filename) for w in caught] == [(pp.PixelPruneWarning, __file__)] * 2
    assert [str(w.message)[:11] for w in caught] == ["images[0]: ", "images[2]: "]


# --- Sizes -----------------------------------------------------------------------------------------------


def test_pad_repeats_the_last_row_and_column() -> None:
    for (height, width), level, threads in product(((1, 1), (4, 4), (5, 3), (7, 9), (1, 21), (40, 2)), LEVELS, (1, 2)):
        image = paint(height, width, "noise", height)
        size = (-(-height // 4) * 4, -(-width // 4) * 4)
        down, across = (np.minimum(np.arange(to), side - 1) for to, side in zip(size, image.shape, strict=False))
        values = reference.patchify(reference.normalise(image[down][:, across], SMALL), SMALL)
        batch = pp.preprocess([image], SMALL, resample="pad", prune=False, threads=threads)
        assert same_bits(batch.pixel_values, values)
        assert batch.original_sizes.tolist() == [[height, width]]
        assert batch.resized_sizes.tolist() == [list(size)]
        assert batch.resampled == ("none" if size == (height, width) else "pad",)
        assert same_bits(run_core(image, SMALL, size, pad=True, level=level, threads=threads)[0], values)


def test_pad_keeps_what_resampling_blurs() -> None:
    page = np.tile(paint(32, 32, "noise", 0), (3, 4, 1))[:90, :120]
    spec = tiny(16, 2)
    assert pp.preprocess([page], spec, resample="pad", method="unique").selections[0].kept < 8
    assert pp.preprocess([page], spec, method="unique").selections[0].kept == 12


def test_pad_outside_the_limits_resizes_and_says_so() -> None:
    spec = tiny(2, 2, 10 * 10, 20 * 20)
    images = [
        paint(height, width, "noise", 0) for height, width in ((9, 9), (12, 12), (20, 20), (17, 18), (21, 5), (24, 24))
    ]
    images += [paint(6, 9, "noise", 0), paint(1, 7, "flat", 0)]
    batch = pp.preprocess(images, spec, resample="pad")
    assert batch.resampled == ("pad", "none", "none", "pad", "pad", "torchvision", "torchvision", "torchvision")
    check(batch, spec, [reference.preprocess(image, spec, resample="pad") for image in images])
    assert batch.resized_sizes[5].tolist() == list(pp.smart_resize(24, 24, spec)) == [20, 20]


def test_pad_follows_the_rule_s_limits() -> None:
    """Those of ``"glm"`` are for all temporal copies of the frame."""
    spec = tiny(2, 2, 2 * 10 * 10, 2 * 20 * 20, resize_rule="glm")
    images = [paint(height, width, "noise", 0) for height, width in ((11, 12), (9, 9), (18, 20), (23, 22))]
    batch = pp.preprocess(images, spec, resample="pad")
    check(batch, spec, [reference.preprocess(image, spec, resample="pad") for image in images])
    assert batch.resampled == ("pad", "pad", "pad", "torchvision")
    assert (batch.resized_sizes.prod(axis=1) * 2 <= spec.max_pixels).all()


def test_none_takes_whole_tokens_only() -> None:
    image = paint(24, 36, "noise", 0)
    spec = tiny(2, 2, 1 << 19)  # far above this image: limits are not looked at
    batch = pp.preprocess([image], spec, resample="none")
    assert batch.resampled == ("none",)
    check(batch, spec, [reference.preprocess(image, spec, resample="none")])
    for wrong in (image[:23], image[:, :35], image[:2, :2]):
        with pytest.raises(
            pp.PixelPruneError, match=r"images\[1\]: .*expected multiples of the token side, 4 pixels, with"
        ):
            pp.preprocess([image, wrong], spec, resample="none")


def test_pillow_is_pillow() -> None:
    spec = SPECS[1]
    for i, (height, width) in enumerate(((33, 47), (200, 90), (64, 64), (1, 40), (150, 1))):
        image = paint(height, width, KINDS[i], i)
        size = pp.smart_resize(height, width, spec)
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
        for source, method in product((image, Image.fromarray(image)), ("pred_2d", "raster")):
            how: Any = {"method": method, "dtype": "uint8"}
            batch = pp.preprocess([source], spec, resample="pillow", **how)
            mask, _ = reference.prune(expected, spec, method=method)
            rows = reference.patchify(expected, spec)[reference.patch_indices(np.flatnonzero(mask), mask.shape, spec)]
            check(batch, spec, [(rows, expected, mask)])
            assert batch.resampled == ("none" if size == (height, width) else "pillow",)
        check(
            pp.preprocess([image], spec, resample="pillow"),
            spec,
            [reference.preprocess(image, spec, resample="pillow")],
        )


def test_the_sizes_that_are_told(tmp_path: Path) -> None:
    """Originals upright, in the order height, width; every kind of source."""
    image = Image.fromarray(paint(20, 31, "noise", 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    data = path.read_bytes()
    upright = np.asarray(pp.load_image(path))
    assert upright.shape == (31, 20, 3)
    with Image.open(path) as lazy:
        batch = pp.preprocess(iter([path, str(path), data, io.BytesIO(data), lazy]), SMALL)
    assert batch.original_sizes.tolist() == [[31, 20]] * 4 + [[20, 31]]
    expected = [reference.preprocess(pixels, SMALL) for pixels in [upright] * 4 + [np.asarray(image)]]
    check(batch, SMALL, expected)


def test_pillow_images_of_any_size() -> None:
    """Their pixels lie four bytes apart, in blocks of 16 MB where there are many."""
    spec = tiny(1, 1, temporal_patch_size=1, most=1 << 24)
    for height, width in (*product((1, 2, 3), range(1, 40)), (2200, 2000)):
        image = paint(height, width, "noise", width)
        how: Any = {"resample": "none", "dtype": "uint8", "prune": False}
        batch = pp.preprocess([Image.fromarray(image)], spec, **how)
        assert np.array_equal(batch.pixel_values, image.reshape(-1, 3))


def test_zero_images() -> None:
    nothings: list[Any] = [[], (), iter([]), np.zeros((0, 8, 8, 3), np.uint8)]
    for nothing in nothings:
        batch = pp.preprocess(nothing, "paddleocr_vl")
        assert len(batch) == 0
        assert batch.pixel_values.shape == (0, 3, 14, 14)
        assert batch.grid_thw.shape == batch.flat_grid_thw.shape == (0, 3)
        assert batch.original_sizes.shape == batch.resized_sizes.shape == (0, 2)
        assert batch.offsets.tolist() == [0]
        assert (batch.selections, batch.resampled) == ([], ())
    out = np.ones((2, 24), np.float32)
    assert pp.preprocess([], SMALL, out=out).pixel_values.shape == (0, 24)
    assert out.all()


def test_a_stacked_array_is_a_batch() -> None:
    stack = paint(3 * 20, 30, "tiles", 0).reshape(3, 20, 30, 3)
    check(pp.preprocess(stack, SMALL), SMALL, [reference.preprocess(image, SMALL) for image in stack])


# --- dtypes ----------------------------------------------------------------------------------------------


def test_halves_round_to_nearest_even() -> None:
    """Values x + 1/2 and x + 1/16 lie in the middle of two bfloat16 and two float16 numbers from 128 on."""
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    for dtype, extra in (("bfloat16", 0.5), ("float16", 0.0625)):
        spec = tiny(8, 2, temporal_patch_size=1, mean=(-extra / 255,) * 3, std=(1 / 255,) * 3)
        exact = pp.preprocess([image], spec).pixel_values.ravel()
        assert set((exact % 1).tolist()) == {extra}
        found = pp.preprocess([image], spec, dtype=dtype).pixel_values  # type: ignore[arg-type]
        if dtype == "float16":
            expected = [struct.unpack("<e", struct.pack("<e", float(v)))[0] for v in exact]
            assert found.ravel().tolist() == expected
        else:
            numbers = (found.ravel().astype(np.uint32) << 16).view(np.float32)
            expected = [nearest_of_8_bits(value) for value in exact.tolist()]
            assert numbers.tolist() == expected


def nearest_of_8_bits(value: float) -> float:
    """The nearest number whose digits fit in 8 bits; of two that are as near, the one whose last bit is 0."""
    unit = 2.0 ** (math.frexp(value)[1] - 8)
    return round(value / unit) * unit  # round() goes to even


@pytest.mark.parametrize(
    "spec", [tiny(7, 2), tiny(16, 1), pp.PRESETS["qwen2_vl"], pp.PRESETS["qwen3_vl"]], ids=["7", "16", "clip", "half"]
)
def test_every_level_of_every_channel(spec: pp.VisionSpec) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    image = np.tile(image, (14, 14, 1))  # 224 pixels: whole tokens of every spec here
    for dtype, resample in product(DTYPES, ("none", "pillow")):
        if resample == "pillow" and pp.smart_resize(224, 224, spec) != (224, 224):
            continue
        found = pp.preprocess([image], spec, dtype=dtype, resample=resample, method="unique")  # type: ignore[arg-type]
        expected = reference.normalise(image, spec, dtype=dtype, resample=resample)
        whole = reference.patchify(expected, spec)
        assert same_bits(found.pixel_values, whole[pp.patch_indices(found.selections)])


def test_what_holds_each_dtype() -> None:
    assert [pp.preprocess([], SMALL, dtype=dtype).pixel_values.dtype for dtype in DTYPES] == [  # type: ignore[arg-type]
        np.float32,
        np.float16,
        np.uint16,
        np.uint8,
    ]


# --- out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("more", [0, 1, 50])
def test_out_is_written_up_to_the_last_kept_row(dtype: Any, more: int) -> None:
    images = [paint(45, 77, "tiles", 0), paint(30, 66, "rows", 1)]
    for spec, method in product((SMALL, SPECS[6]), ("pred_2d", "raster")):
        how: Any = {"dtype": dtype, "method": method}
        fresh = pp.preprocess(images, spec, **how)
        rows = int(fresh.grid_thw.prod(axis=1).sum())
        out = np.full((rows + more, *fresh.pixel_values.shape[1:]), 90, DTYPES[dtype])
        batch = pp.preprocess(images, spec, out=out, **how)
        kept = len(fresh.pixel_values)
        assert kept < rows
        assert batch.pixel_values.base is out or np.shares_memory(batch.pixel_values, out)
        assert batch.pixel_values.ctypes.data == out.ctypes.data
        assert same_bits(batch.pixel_values, fresh.pixel_values)
        assert (out[kept:] == 90).all()
        assert same_bits(pp.preprocess(images, spec, dtype=dtype, prune=False, out=out).pixel_values, out[:rows])


def test_out_that_does_not_fit() -> None:
    image = paint(8, 8, "noise", 0)
    whole = np.full((16, 24), 7.0, np.float32)
    frozen = whole.copy()
    frozen.flags.writeable = False
    shifted = np.zeros(16 * 24 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(16, 24)
    for wrong, message in (
        (whole[:15], r"shape \(15, 24\); expected .*\(16 or more, 24\)"),
        (whole[:0], r"shape \(0, 24\)"),
        (whole[:, :23], r"not C-contiguous"),
        (np.ones((16, 23), np.float32), r"shape \(16, 23\)"),
        (np.ones((16, 25), np.float32), r"shape \(16, 25\)"),
        (whole.reshape(-1), r"shape \(384,\)"),
        (whole.reshape(16, 3, 2, 2, 2), r"shape \(16, 3, 2, 2, 2\)"),
        (np.array(3, np.float32), r"shape \(\)"),
        (whole.astype(np.float64), "dtype float64"),
        (whole.astype(np.float16), "dtype float16"),
        (whole.astype(">f4"), "dtype >f4"),
        (whole.view(np.int32), "dtype int32"),
        (np.asfortranarray(whole), "not C-contiguous"),
        (np.ones((32, 24), np.float32)[::2], "not C-contiguous"),
        (whole[::-1], "not C-contiguous"),
        (frozen, "read-only"),
        (np.broadcast_to(np.float32(1), (16, 24)), "read-only"),
        (shifted, "out"),
    ):
        before = wrong.copy()
        for method in ("pred_2d", lambda left, up: ~(left | up)):
            with pytest.raises(pp.PixelPruneError, match=f"out has .*{message}" if message != "out" else "out has"):
                pp.preprocess([image], SMALL, method=method, out=wrong)
        assert np.array_equal(wrong, before)
    for other in ([[0.0] * 24] * 16, b"0" * 2000, memoryview(b"abcd"), 5, "out", Image.new("RGB", (8, 8))):
        with pytest.raises(TypeError, match="out is a"):
            pp.preprocess([image], SMALL, out=other)  # type: ignore[arg-type]
    with pytest.raises(pp.PixelPruneError, match="out has dtype float32"):
        pp.preprocess([image], SMALL, dtype="uint8", out=whole)
    with pytest.raises(pp.PixelPruneError, match="out has dtype float32"):
        pp.preprocess([image], SMALL, copies="single", dtype="bfloat16", out=whole)
    assert (whole == 7).all()


@pytest.mark.parametrize("prune", [True, False])
def test_out_may_not_be_an_image(prune: bool) -> None:
    spec = tiny(2, 2, temporal_patch_size=1)
    memory = np.zeros(16 * 12 + 64, np.uint8)
    out = memory[: 16 * 12].reshape(16, 12)
    for start in (0, 5, 64):
        pixels = memory[start : start + 192].reshape(8, 8, 3)
        pixels[...] = paint(8, 8, "noise", start)
        before = memory.copy()
        with pytest.raises(pp.PixelPruneError, match="out"):
            pp.preprocess([paint(4, 4, "noise", 0), pixels[:4]], spec, dtype="uint8", out=out, prune=prune)
        assert np.array_equal(memory, before)
    # Beside one another in one piece of memory they may lie.
    beside = np.zeros((2, 8, 8, 3), np.uint8)
    beside[0] = paint(8, 8, "noise", 1)
    batch = pp.preprocess([beside[0]], spec, dtype="uint8", out=beside[1].reshape(16, 12), prune=prune)
    assert same_bits(batch.pixel_values, reference.preprocess(beside[0], spec, dtype="uint8")[0])


def test_a_large_output_ends_where_it_should() -> None:
    """Above some size what is written goes past the caches, in pieces of 16 bytes where it can."""
    for patch, dtype, shift in product((9, 14, 16), ("float32", "bfloat16", "uint8"), (0, 1)):
        spec = tiny(patch, 1, most=1 << 24)
        side = patch * 80
        image = paint(side, side, "noise", patch)
        rows, row = 80 * 80, 6 * patch * patch
        out = np.full((rows + 2, row), 90, DTYPES[dtype])[shift : rows + 1]
        batch = pp.preprocess([image], spec, resample="none", prune=False, dtype=dtype, out=out)  # type: ignore[arg-type]
        table = levels(spec.mean, spec.std, dtype, "torchvision")
        pixels = np.stack([table[c][image[..., c]] for c in range(3)], axis=-1)
        planes = pixels.reshape(80, patch, 80, patch, 3).transpose(0, 2, 4, 1, 3)
        assert np.array_equal(batch.pixel_values.reshape(rows, 3, 2, -1)[:, :, 0], planes.reshape(rows, 3, -1))
        assert np.array_equal(batch.pixel_values.reshape(rows, 3, 2, -1)[:, :, 1], planes.reshape(rows, 3, -1))
        assert (out[rows:] == 90).all()


# --- What is refused -------------------------------------------------------------------------------------


def encoded(kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(paint(size[1], size[0], "noise", 0)).save(file, kind)
    return file.getvalue()


BAD: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "empty file": (lambda tmp: write(tmp / "a.png", b""), pp.PixelPruneError, r"images\[2\]: cannot read .*a\.png"),
    "not an image": (lambda tmp: b"GIF89a or not", pp.PixelPruneError, r"images\[2\]: cannot read the image of 13"),
    "truncated": (lambda tmp: encoded()[:-200], pp.PixelPruneError, r"images\[2\]: cannot read"),
    "truncated JPEG": (lambda tmp: encoded("JPEG")[:-200], pp.PixelPruneError, r"images\[2\]: .*truncated"),
    "lazy and truncated": (
        lambda tmp: Image.open(io.BytesIO(encoded("BMP")[:-50])),
        pp.PixelPruneError,
        r"images\[2\]: cannot read",
    ),
    "closed": (lambda tmp: closed(), pp.PixelPruneError, r"images\[2\]: cannot read"),
    "directory": (lambda tmp: tmp, IsADirectoryError if os.name == "posix" else PermissionError, "."),
    "missing": (lambda tmp: tmp / "none.png", FileNotFoundError, r"none\.png"),
    "no pixels": (lambda tmp: Image.new("RGB", (0, 5)), pp.PixelPruneError, r"images\[2\]"),
    "empty array": (lambda tmp: np.zeros((0, 5, 3), np.uint8), pp.PixelPruneError, r"images\[2\]"),
    "two channels": (lambda tmp: np.zeros((8, 8, 2), np.uint8), pp.PixelPruneError, r"images\[2\].*\(8, 8, 2\)"),
    "batch in a batch": (lambda tmp: np.zeros((1, 8, 8, 3), np.uint8), pp.PixelPruneError, r"images\[2\]"),
    "floats": (lambda tmp: np.zeros((8, 8, 3), np.float32), TypeError, r"images\[2\].*float32"),
    "None": (lambda tmp: None, TypeError, r"images\[2\].*NoneType"),
    "number": (lambda tmp: 5, TypeError, r"images\[2\].*int"),
    "text file": (lambda tmp: io.StringIO("x"), TypeError, r"images\[2\].*StringIO"),
    "too long": (lambda tmp: np.zeros((1, 4000, 3), np.uint8), pp.PixelPruneError, r"images\[2\]: .*aspect ratio"),
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def closed() -> Image.Image:
    image = Image.open(io.BytesIO(encoded()))
    image.close()
    return image


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_late_in_the_batch(name: str, tmp_path: Path) -> None:
    make, error, message = BAD[name]
    good = paint(20, 20, "noise", 0)
    out = np.full((1000, 24), 7.0, np.float32)
    for resample in ("torchvision", "pillow", "pad"):
        if name == "too long" and resample == "pad":
            continue
        with pytest.raises(error, match=message):
            pp.preprocess([good, good, make(tmp_path), good], SMALL, resample=resample, out=out)
    assert (out == 7).all()
    assert len(pp.preprocess([good, good], SMALL, out=out)) == 2


def test_a_decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(size=(60, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(pp.PixelPruneError, match=r"images\[0\]: .*MAX_IMAGE_PIXELS"):
        pp.preprocess([data], SMALL)


def test_an_iterator_s_own_error_passes() -> None:
    def broken() -> Any:
        yield paint(8, 8, "noise", 0)
        raise ZeroDivisionError

    out = np.full((64, 24), 7.0, np.float32)
    with pytest.raises(ZeroDivisionError):
        pp.preprocess(broken(), SMALL, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    "images",
    [None, 5, "page.png", b"\x89PNG", bytearray(4), memoryview(b"ab"), io.BytesIO(b""), Image.new("RGB", (4, 4))]
    + [np.zeros(shape, np.uint8) for shape in ((), (4,), (8, 8), (8, 8, 3))],
    ids=lambda value: type(value).__name__ + str(getattr(value, "shape", "")),
)
def test_what_is_not_a_collection_of_images(images: Any) -> None:
    with pytest.raises(TypeError, match="images is"):
        pp.preprocess(images, SMALL)


WRONG_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"method": "pred_3d"}, "method"),
    ({"metric": "l2"}, "metric"),
    ({"threshold": 7}, "threshold"),
    ({"threshold": -0.1}, "threshold"),
    ({"threshold": float("nan")}, "threshold"),
    ({"method": "unique", "threshold": 0.1}, "unique"),
    ({"method": "\ud800"}, "method"),
    ({"threads": -1}, "threads"),
    ({"threads": 1025}, "threads"),
    ({"resample": "bilinear"}, "resample is 'bilinear'; expected one of 'torchvision', 'pillow', 'pad', 'none'"),
    ({"dtype": "float64"}, "dtype is 'float64'; expected one of 'float32', 'float16', 'bfloat16', 'uint8'"),
    ({"copies": "frames"}, "copies is 'frames'; expected one of 'repeat', 'single'"),
    ({"alpha": "black"}, "alpha"),
    ({"alpha": (0, 0, 256)}, "alpha"),
    ({"spec": "qwen9"}, "preset"),
    ({"spec": tiny(mean=(0.5,), std=(0.5,))}, "1 channels; expected 3"),
    ({"spec": tiny(mean=(0.5,) * 4, std=(0.5,) * 4)}, "4 channels; expected 3"),
]


@pytest.mark.parametrize(("how", "message"), WRONG_VALUES, ids=lambda value: ascii(value)[:40])
def test_settings_out_of_range(how: dict[str, Any], message: str) -> None:
    out = np.full((64, 24), 7.0, np.float32)
    for images, prune in product(([], [paint(8, 8, "noise", 0)]), (True, False)):
        with pytest.raises(pp.PixelPruneError, match=message):
            pp.preprocess(images, **{"spec": SMALL, "prune": prune, "out": out, **how})
    assert (out == 7).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(("resample", "dtype", "copies", "method", "metric"), (None, 5, b"max", ["max"])),
        *[("dtype", value) for value in (np.float32, np.dtype("f4"), float)],
        *product(("prune", "anchored"), ("no", None, np.ones(2))),
        *[("threshold", value) for value in (None, "0.1", [0.1], 1j)],
        *[("threads", value) for value in (1.0, "1", True)],
        *[("seed", value) for value in (None, 1.5)],
        ("spec", None),
        ("spec", {}),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_arguments_of_another_type(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        pp.preprocess([paint(8, 8, "noise", 0)], **{"spec": SMALL, name: value})


def test_everything_but_images_and_spec_is_named() -> None:
    with pytest.raises(TypeError, match="positional"):
        pp.preprocess([paint(8, 8, "noise", 0)], SMALL, "raster")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("function", "how", "error"),
    [
        (lambda left, up: ~(left | up), {"threshold": 7}, pp.PixelPruneError),
        (lambda left, up: ~(left | up), {"metric": "l2"}, pp.PixelPruneError),
        (lambda left, up: left & False, {}, pp.PixelPruneError),
        (lambda left, up: left[:1], {}, pp.PixelPruneError),
        (lambda left, up: (left | True, np.zeros(left.size, int)), {}, pp.PixelPruneError),
        (lambda left, up: 1 / 0, {}, ZeroDivisionError),
    ],
    ids=["threshold", "metric", "keeps nothing", "wrong shape", "wrong source", "raises"],
)
def test_nothing_is_written_when_a_callable_is_refused(function: Any, how: Any, error: Any) -> None:
    out = np.full((64, 24), 7.0, np.float32)
    for images in ([paint(8, 8, "noise", 0)], [np.zeros((8, 8, 3), np.uint8), paint(8, 8, "noise", 0)]):
        with pytest.raises(error):
            pp.preprocess(images, SMALL, method=function, out=out, **how)
        assert (out == 7).all()


def test_images_are_never_written() -> None:
    image = paint(31, 40, "tiles", 0)
    before = image.copy()
    loaded = Image.fromarray(image)
    for resample, method in product(("torchvision", "pillow", "pad"), METHODS):
        pp.preprocess([image, loaded], SMALL, resample=resample, method=method)  # type: ignore[arg-type]
    assert np.array_equal(image, before)
    assert np.array_equal(np.asarray(loaded), before)


# --- The core by itself ----------------------------------------------------------------------------------


def test_the_core_itself_refuses_what_does_not_fit() -> None:
    image, table = paint(8, 8, "noise", 0), np.zeros((3, 256), np.float32)
    layout = OutputFormat(2, 2, 1, False, "block")
    out = np.full(192, 7, np.float32)
    big = (1 << 64) - 1
    good: dict[str, Any] = {
        "jobs": [Job(image, 8, 8, False, None)],
        "format": layout,
        "given": settings_of(),
        "prune": False,
        "output": (out, table),
    }
    assert len(_core.preprocess(**good)) == 1
    out[:] = 7

    def job(*changes: Any) -> dict[str, Any]:
        return {"jobs": [Job(*(image, 8, 8, False, None)[: -len(changes)], *changes)]}

    wrongs: list[dict[str, Any]] = [
        *[
            {"jobs": [Job(image, 4, 4, False, None), Job(image, *size, False, None)]}
            for size in ((0, 8), (8, 0), (6, 8), (8, 9))
        ],
        *[
            job(*size, pad, None)
            for size in ((big - 3, 4), (1 << 40, 1 << 40), (1 << 28, 1 << 28))
            for pad in (False, True)
        ],
        job(4, 8, True, None),
        job(8, 12, False, None),
        {"jobs": [Job(image, 8, 8, False, None)] * 2},
        job(image[:, ::2], 8, 8, False, None),
        job(image[..., 0], 8, 8, False, None),
        job(paint(8, 8, "noise", 0, channels=4), 8, 8, False, None),
        job(image[:0], 8, 8, False, None),
        *[
            job(np.array(keep, np.int64))
            for keep in ([4], [-1], [0, 0], [1, 0], [0, 1, 2, 3, 4], [1 << 62], [-(1 << 63)], [0, -1])
        ],
        *[
            {"format": OutputFormat(*sizes, False, "block")}
            for sizes in ((0, 2, 1), (2, 0, 1), (2, 2, 0), (1025, 2, 1), (big, 2, 1))
        ],
        {"format": layout._replace(frames=2)},
        {"format": layout._replace(frames=2, channels_last=True)},
        {"format": layout._replace(order="Raster")},
        {"given": settings_of(method="pred_3d")},
        {"given": settings_of(method="unique", threshold=0.1)},
        {"given": settings_of(threshold=2.0)},
        {"output": (out[:191], table)},
        {"output": (out[::-1], table)},
        {"output": (out, table[:2])},
        {"output": (out, np.asfortranarray(table))},
        {"level": "avx1024"},
    ]
    for wrong in wrongs:
        with pytest.raises(pp.PixelPruneError):
            _core.preprocess(**{**good, **wrong})
        assert (out == 7).all(), wrong
    for wrong in (
        {"output": (out, table.astype(np.float64))},
        {"output": (out, table.view(np.uint8))},
        {"jobs": [image]},
        {"jobs": [tuple(good["jobs"][0])]},
        {"given": tuple(settings_of())},
        {"format": layout._replace(channels_last=1)},
    ):
        with pytest.raises((TypeError, AttributeError)):
            _core.preprocess(**{**good, **wrong})
    frozen = out.copy()
    frozen.flags.writeable = False
    with pytest.raises(pp.PixelPruneError, match="writable"):
        _core.preprocess(**{**good, "output": (frozen, table)})


def test_a_formula_that_is_not_the_table_s_is_not_used() -> None:
    image = paint(32, 32, "noise", 0)
    table = np.random.default_rng(0).random((3, 256), np.float32)
    for level in LEVELS:
        out = np.empty((16, 3, 8, 8), np.float32)
        _core.preprocess(
            [Job(image, 32, 32, False, None)],
            OutputFormat(8, 1, 1, False, "raster"),
            settings_of(),
            False,
            (out, table),
            [(0.0, 1.0)] * 3,
            level=level,
        )
        pixels = image.reshape(4, 8, 4, 8, 3).transpose(0, 2, 4, 1, 3).reshape(16, 3, 8, 8)
        assert np.array_equal(out, table[np.arange(3)[:, None, None], pixels])


def too_little_memory() -> None:
    """What can't be had is an error, not the end of the process."""
    import resource

    image = paint(8, 8, "noise", 0)
    pp.preprocess([image], SMALL, method="raster", threads=2)
    table = np.zeros((3, 256), np.uint8)
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    spec = tiny(16, 2, 1 << 29, 1 << 30, temporal_patch_size=1)
    calls: list[Callable[[], object]] = [
        lambda: pp.preprocess([image], spec, method="raster", dtype="uint8"),
        lambda: pp.preprocess([image], spec, method=lambda left, up: ~(left | up), dtype="uint8"),
        lambda: pp.preprocess([image], spec),
        lambda: _core.resize(image, 1 << 17, 1 << 17),
        lambda: _core.preprocess(
            [Job(image, 1 << 28, 4, False, None)],
            OutputFormat(2, 2, 1, False, "block"),
            settings_of(),
            False,
            (table, table),
        ),
    ]
    for i, call in enumerate(calls):
        try:
            call()
        except pp.PixelPruneError:
            continue
        except MemoryError:
            continue
        raise AssertionError(f"call {i} was not refused")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_too_little_memory_is_an_error(run_child: RunChild) -> None:
    run_child(too_little_memory)


def preprocess_beside_guard_pages() -> None:
    """Images and output lie between pages that must not be touched."""
    sizes = ((1, 1), (1, 70), (70, 1), (5, 5), (8, 9), (33, 65), (64, 64), (30, 131))
    for ((height, width), slack), at_end in product(product(sizes, (0, 5)), (True, False)):
        stride = width * 3 + slack  # the last row does not fill its stride
        data = guarded((height - 1) * stride + width * 3, at_end)
        image: Pixels = np.ndarray((height, width, 3), np.uint8, data, strides=(stride, 3, 1))
        image[...] = paint(height, width, "noise", width)
        for to in ((1, 1), (4, 7), (28, 84), (90, 140)):
            expected = reference.resize(image.copy(), *to)
            assert all(np.array_equal(_core.resize(image, *to, 1, level), expected) for level in LEVELS)
        for i, (patch, level) in enumerate(product((3, 8, 9, 14), LEVELS)):
            dtype = ("float32", "bfloat16", "float16", "uint8")[i % 4]
            spec = tiny(patch, 1, temporal_patch_size=1 + i % 2)
            size = (-(-height // patch) * patch, -(-width // patch) * patch)
            rows, row = size[0] * size[1] // patch**2, 3 * spec.temporal_patch_size * patch**2
            bits = np.dtype(np.uint16) if dtype == "float16" else DTYPES[dtype]
            out = guarded(rows * row * bits.itemsize, at_end).view(bits)
            table = levels(spec.mean, spec.std, dtype, "torchvision").view(bits)
            formulas = affine(spec.mean, spec.std, dtype, "torchvision")
            layout = OutputFormat(patch, 1, spec.temporal_patch_size, False, "block")
            for part, pad in ((image, True), (image, False), (image[: height // 2 + 1], False)):
                job = Job(part, *size, pad, None)
                how = (formulas, dtype == "bfloat16", 1, level)
                _core.preprocess([job], layout, settings_of(), False, (out, table), *how)
            expected = reference.patchify(
                reference.normalise(reference.resize(image[: height // 2 + 1].copy(), *size), spec, dtype=dtype), spec
            )
            assert out.tobytes() == expected.tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as on Linux")
def test_nothing_is_read_or_written_beyond_the_buffers(run_child: RunChild) -> None:
    run_child(preprocess_beside_guard_pages)


# --- Threads and processes -------------------------------------------------------------------------------


def pages() -> list[Pixels]:
    return [paint(400, 500, kind, i) for i, kind in enumerate(("tiles", "page", "one line"))]


def preprocess_all(threads: int) -> None:
    """Preprocess in every way that uses threads, and compare with one thread."""
    images, spec = pages(), tiny(14, 2)
    for how in (
        {},
        {"method": "raster"},
        {"threshold": 0.01},
        {"resample": "pad"},
        {"prune": False, "dtype": "bfloat16"},
    ):
        one = pp.preprocess(images, spec, threads=1, **how)
        many = pp.preprocess(images, spec, threads=threads, **how)
        assert same_bits(one.pixel_values, many.pixel_values)
        assert one.selections == many.selections


def neither(left: Plane, up: Plane) -> Plane:
    return ~(left & up)


ONE_BY_ONE: list[dict[str, Any]] = [
    {},
    {"method": "either"},
    {"method": "either", "threshold": 0.02, "anchored": False},
    {"method": "either", "protect": "content"},
    {"threshold": 0.02, "protect": "content"},
    {"threshold": 0.02, "anchored": False, "metric": "mae"},
    {"threshold": 0.02},
    {"method": "unique"},
    {"method": neither},
    {"prune": False},
    {"resample": "pad"},
]


@pytest.mark.parametrize("how", ONE_BY_ONE, ids=lambda how: " ".join(how) or "default")
def test_images_that_threads_cut_into_pieces(how: dict[str, Any]) -> None:
    """Large enough for that: flat areas and runs go on from piece to piece, and whole pieces keep nothing."""
    kinds = ("page", "rows", "tiles", "one line", "flat")
    images = [paint(1500, 1100 - 50 * i, kind, i) for i, kind in enumerate(kinds)]
    together = pp.preprocess(images, "qwen3_vl", threads=1, dtype="uint8", **how)
    for threads in (2, 3, 5):
        for first, last in ((0, 5), (0, 1), (1, 3), (4, 5)):
            part = pp.preprocess(images[first:last], "qwen3_vl", threads=threads, dtype="uint8", **how)
            rows = slice(*together.offsets[[first, last]])
            assert same_bits(part.pixel_values, together.pixel_values[rows])
            assert part.selections == together.selections[first:last]


def use_then_start(how: str) -> None:
    preprocess_all(2)
    context: Any = multiprocessing.get_context(how)
    child = context.Process(target=preprocess_all, args=(2,))
    child.start()
    child.join(30)
    hangs = child.is_alive()
    if hangs:
        child.kill()
        child.join()
    assert not hangs, "the child hangs"
    assert child.exitcode == 0
    preprocess_all(3)


@pytest.mark.parametrize("how", [how for how in ("fork", "spawn") if how in multiprocessing.get_all_start_methods()])
def test_used_in_the_parent_and_then_in_a_child(how: str, run_child: RunChild) -> None:
    run_child(use_then_start, how, timeout=90)


def use_from_many_threads() -> None:
    images, spec = pages(), tiny(14, 2)
    expected = pp.preprocess(images, spec)
    errors: list[BaseException] = []
    barrier = threading.Barrier(6)

    def run(number: int) -> None:
        try:
            barrier.wait()
            for turn in range(2):
                batch = pp.preprocess(images, spec, threads=1 + (number + turn) % 3)
                assert same_bits(batch.pixel_values, expected.pixel_values)
                assert batch.selections == expected.selections
        except BaseException as error:
            errors.append(error)
            raise

    workers = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert not any(worker.is_alive() for worker in workers), "hangs"
    assert not errors


def test_many_python_threads_at_once(run_child: RunChild) -> None:
    run_child(use_from_many_threads)


def preprocess_what_another_thread_writes() -> None:
    image, spec = np.zeros((200, 300, 3), np.uint8), tiny(14, 2)
    stop = threading.Event()

    def scribble() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            image[turn % 200] = turn % 251
            image[:, turn % 300] = turn % 7

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        for method, threads, tau in product(METHODS, (1, 2), (0.0, 1 / 255)):
            if method == "unique" and tau:
                continue
            batch = pp.preprocess([image] * 2, spec, method=method, threads=threads, threshold=tau)
            assert batch.offsets[-1] == len(batch.pixel_values) == 4 * sum(sel.kept for sel in batch.selections)
            assert np.isfinite(batch.pixel_values).all()
    finally:
        stop.set()
        writer.join()


def test_an_image_that_another_thread_writes(run_child: RunChild) -> None:
    run_child(preprocess_what_another_thread_writes)


def test_40_megapixels() -> None:
    image = np.full((5000, 8000, 3), 255, np.uint8)
    image[1000:1200, 2000:5000] = paint(200, 3000, "noise", 0)
    image[3000:3001] = 0
    one, two = (
        pp.preprocess([image], "qwen3_vl", dtype="uint8", copies="single", threads=threads) for threads in (1, 2)
    )
    assert same_bits(one.pixel_values, two.pixel_values)
    assert one.selections == two.selections
    height, width = one.resized_sizes[0].tolist()
    assert [height, width] == list(pp.smart_resize(5000, 8000, "qwen3_vl"))
    assert one.selections[0].kept < 0.3 * one.selections[0].total
    # A few columns by the oracle: rows are resized first, so these can stand for all.
    rows = reference.resize(image[2990:3011, :40], 21, 40)
    assert np.array_equal(rows, image[2990:3011, :40])
    column = reference.resize(image[:, :1], height, 1)
    whole = pp.preprocess([image], "qwen3_vl", dtype="uint8", copies="single", prune=False).pixel_values
    first = whole.reshape(height // 32, width // 32, 2, 2, 3, 16, 16)[:, 0, :, 0, :, :, 0]
    assert np.array_equal(first.transpose(0, 1, 3, 2).reshape(height, 3), column[:, 0])


# --- Any images, any arguments --------------------------------------------------------------------------

sides = st.integers(1, 90) | st.sampled_from((1, 2, 7, 8, 9, 63, 64, 65, 66, 127, 129, 131))


@st.composite
def drawn_images(draw: st.DrawFn, channels: tuple[int, ...] = (3, 3, 3, 1)) -> Pixels:
    kind, seed = draw(st.sampled_from(KINDS)), draw(st.integers(0, 1000))
    return draw(layouts(paint(draw(sides), draw(sides), kind, seed, draw(st.sampled_from(channels)))))


@given(drawn_images(channels=(3,)), sides, sides, st.sampled_from(LEVELS), st.integers(1, 4))
def test_resizing_equals_the_oracle(image: Pixels, height: int, width: int, level: str, threads: int) -> None:
    found = _core.resize(as_pixels(image), height, width, threads, level)
    assert np.array_equal(found, reference.resize(image, height, width))


@settings(max_examples=80)
@given(st.data(), st.sampled_from(SPECS), st.lists(drawn_images(), max_size=3))
def test_any_batch_equals_the_oracle(data: st.DataObject, spec: pp.VisionSpec, images: list[Pixels]) -> None:
    how: dict[str, Any] = {
        "resample": data.draw(st.sampled_from(("torchvision", "torchvision", "pad", "pillow"))),
        "dtype": data.draw(st.sampled_from(tuple(DTYPES))),
        "copies": data.draw(st.sampled_from(("repeat", "single"))),
        "prune": data.draw(st.sampled_from((True, True, False))),
        "method": data.draw(st.sampled_from(reference.METHODS)),
    }
    if how["method"] != "unique":
        how["metric"] = data.draw(st.sampled_from(reference.METRICS))
        how["threshold"] = data.draw(st.sampled_from((0.0, 0.0, 1 / 255, 0.02, 0.2, 1.0)))
        how["anchored"] = data.draw(st.booleans())
    how["protect"] = data.draw(st.sampled_from(reference.PROTECT))
    expected, refused = [], False
    for image in images:
        rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        try:
            expected.append(reference.preprocess(rgb, spec, **how))
        except pp.PixelPruneError:
            refused = True
    if refused:
        with pytest.raises(pp.PixelPruneError, match=r"images\[\d\]"):
            pp.preprocess(images, spec, **how)
        return
    out = None
    if data.draw(st.booleans()):
        rows = sum(mask.size for _, _, mask in expected) * spec.merge_size**2
        fresh = pp.preprocess([], spec, dtype=how["dtype"], copies=how["copies"]).pixel_values
        out = np.full((rows + 2, *fresh.shape[1:]), 77, fresh.dtype)
    batch = pp.preprocess(images, spec, threads=data.draw(st.integers(1, 4)), out=out, **how)
    if expected:
        check(batch, spec, expected)
    assert batch.original_sizes.tolist() == [list(image.shape[:2]) for image in images]
    assert out is None or (out[len(batch.pixel_values) :] == 77).all()


hostile_numbers = st.integers(-2, 40) | st.sampled_from(
    (1 << 31, (1 << 32) - 4, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 4)
)
hostile_images = arrays() | st.sampled_from(
    [paint(8, 8, "noise", 0), paint(5, 9, "noise", 1)[::-1], paint(4, 4, "flat", 0, 4)]
)
tables = st.sampled_from([np.zeros((3, 256), dtype) for dtype in ("f4", "u2", "u1", "f8")]) | arrays()
outs = (
    st.sampled_from([(600, "f4"), (600, "u1"), (600, "u2"), (1, "f4"), (0, "f4")]).map(lambda how: np.zeros(*how))
    | arrays()
)


def is_refused(call: Callable[[], object]) -> bool:
    """Whether a call of the core is refused: by an error, not by a panic, which is no `Exception`."""
    try:
        call()
    except (ValueError, TypeError, OverflowError):
        return True
    return False


@settings(max_examples=120)
@given(
    st.lists(
        st.builds(
            Job,
            hostile_images,
            hostile_numbers,
            hostile_numbers,
            st.booleans(),
            st.none() | st.lists(st.integers(-1, 5), max_size=4).map(lambda keep: np.array(keep, np.int64)),
        ),
        max_size=2,
    ),
    st.builds(
        OutputFormat,
        *[st.integers(0, 3) | hostile_numbers] * 3,
        st.booleans(),
        st.sampled_from(("block", "raster", "")),
    ),
    st.builds(
        CoreSettings,
        st.sampled_from((*METHODS, "")),
        st.sampled_from(reference.METRICS),
        st.floats(),
        st.booleans(),
        st.just(0),
    ),
    st.booleans(),
    st.tuples(outs, tables),
    st.none() | st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=2, max_size=3),
    st.integers(0, 3),
)
def test_the_core_is_polite(
    jobs: Any, layout: Any, given_: Any, prune: bool, output: Any, formulas: Any, threads: int
) -> None:
    is_refused(lambda: _core.preprocess(jobs, layout, given_, prune, output, formulas, threads % 2 == 0, threads))


@settings(max_examples=80)
@given(hostile_images, hostile_numbers, hostile_numbers, st.integers(0, 3), st.sampled_from((*LEVELS, "?", None)))
def test_resize_in_core_is_polite(image: Any, height: int, width: int, threads: int, level: Any) -> None:
    assert max(height, width) < 1 << 20 or is_refused(lambda: _core.resize(image, height, width, threads, level))
    if max(height, width) < 1 << 20:
        is_refused(lambda: _core.resize(image, height, width, threads, level))


junk_or: dict[str, st.SearchStrategy[Any]] = {
    "method": st.sampled_from(METHODS) | st.just(lambda left, up: ~(left | up)) | junk,
    "metric": st.sampled_from(reference.METRICS) | junk,
    "threshold": st.floats(0, 1) | junk,
    "anchored": st.booleans() | junk,
    "protect": st.sampled_from(reference.PROTECT) | junk,
    "prune": st.booleans() | junk,
    "resample": st.sampled_from(("torchvision", "pillow", "pad", "none")) | junk,
    "alpha": st.sampled_from(("drop", "white")) | junk,
    "dtype": st.sampled_from(tuple(DTYPES)) | junk,
    "copies": st.sampled_from(("repeat", "single")) | junk,
    "threads": st.integers(0, 3) | junk,
    "out": st.none() | st.just(np.zeros((600, 24), np.float32)) | arrays() | junk,
    "seed": st.integers() | junk,
}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(hostile_images | junk, max_size=3) | junk,
    st.sampled_from((SMALL, tiny(1, 1), SPECS[5])) | junk,
    st.data(),
)
def test_preprocess_is_polite(images: Any, spec: Any, data: st.DataObject) -> None:
    """Any junk for one or two of the arguments."""
    names = data.draw(st.lists(st.sampled_from(sorted(junk_or)), max_size=3, unique=True))
    how: Any = {name: data.draw(junk_or[name]) for name in names}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pp.PixelPruneWarning)
            batch = pp.preprocess(images, spec, **how)
    except (pp.PixelPruneError, TypeError):
        return
    except FileNotFoundError:  # a string is the name of a file
        return
    assert len(batch) == len(batch.selections) == len(batch.resampled) == len(batch.offsets) - 1
    assert batch.offsets[-1] == len(batch.pixel_values)
    assert all(1 <= sel.kept <= sel.total for sel in batch.selections)
