"""Kept patches and their flat grid: a model that merges patches by that grid gets the tokens of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from pixelprune.plan import FAMILIES, ModelSpec, make_plan

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Patch = tuple[int, int]
Sizes = tuple[tuple[int, int], ...]

SIZES: Sizes = ((4, 5), (3, 7), (2, 2), (5, 4), (1, 3), (6, 1))
"""Rows and columns of images in tokens; everything is kept of the third."""


def numbered(spec: pp.VisionSpec, rows: int, cols: int) -> Pixels:
    """An image whose patches are each of one colour, which tells the patch's row and column."""
    m, p = spec.merge_size, spec.patch_size
    colours = np.full((rows * m, cols * m, 3), 7, np.uint8)
    colours[..., 0] = np.arange(rows * m)[:, None]
    colours[..., 1] = np.arange(cols * m)
    return colours.repeat(p, axis=0).repeat(p, axis=1)


def patches_of(values: npt.NDArray[Any], spec: pp.VisionSpec) -> list[Patch]:
    """Row and column of every patch of ``pixel_values`` that were made of `numbered` images."""
    flat = values.reshape(len(values), -1)
    by_channel = flat.reshape(len(values), -1, 3)[:, 0] if spec.patch_layout == "ppc" else None
    colours = flat.reshape(len(values), 3, -1)[:, :, 0] if by_channel is None else by_channel
    assert (colours[:, 2] == 7).all()
    return [(int(row), int(col)) for row, col in colours[:, :2]]


def merged(rows: list[Patch], grid: list[int], spec: pp.VisionSpec) -> list[list[Patch]]:
    """The patches that a model joins into each token: those side by side, or those of a square of the grid."""
    m = spec.merge_size
    t, h, w = map(abs, grid)
    assert len(rows) == t * h * w
    if spec.patch_order == "block":
        return [rows[i : i + m * m] for i in range(0, len(rows), m * m)]
    tokens = []
    for frame in range(t):
        for top in range(0, h, m):
            for left in range(0, w, m):
                places = [(frame * h + top + dy) * w + left + dx for dy in range(m) for dx in range(m)]
                tokens.append([rows[place] for place in places])
    return tokens


def of_token(token: int, cols: int, spec: pp.VisionSpec) -> list[Patch]:
    """The patches of one token of an image, row by row."""
    m = spec.merge_size
    row, col = divmod(token, cols)
    return [(row * m + dy, col * m + dx) for dy in range(m) for dx in range(m)]


class Draw:
    """A method that keeps all tokens of the third image it is asked about, and some of every other."""

    def __init__(self) -> None:
        self.masks: list[Mask] = []

    def __call__(self, same_left: Mask, same_up: Mask) -> Mask:
        mask = np.random.default_rng(len(self.masks)).random(same_left.shape) < 0.5
        mask[-1, -1] = True
        if len(self.masks) % len(SIZES) == 2:
            mask[:] = True
        self.masks.append(mask)
        return mask


def check(values: npt.NDArray[Any], grids: npt.ArrayLike, masks: list[Mask], spec: pp.VisionSpec) -> None:
    """Merge as the model does, and compare with the kept tokens of the images."""
    patches, first = patches_of(values, spec), 0
    rows_of_grids = np.asarray(grids).tolist()
    assert len(rows_of_grids) == len(masks)
    for grid, mask in zip(rows_of_grids, masks, strict=True):
        assert all(side < 0 for side in grid[:2]) == (not mask.all())  # marked: no image has such a grid
        assert grid[2] > 0
        count = int(np.prod(grid))
        found = merged(patches[first : first + count], grid, spec)
        assert found == [of_token(int(token), mask.shape[1], spec) for token in np.flatnonzero(mask)]
        first += count
    assert first == len(patches)


RAW: Any = {"resample": "none", "dtype": "uint8", "copies": "single"}


def images_of(spec: pp.VisionSpec) -> list[Pixels]:
    return [numbered(spec, *size) for size in SIZES]


def by_preprocess(spec: pp.VisionSpec, draw: Draw) -> pp.Batch:
    return pp.preprocess(images_of(spec), spec, method=draw, **RAW)


def by_out(spec: pp.VisionSpec, draw: Draw) -> pp.Batch:
    whole = pp.preprocess(images_of(spec), spec, prune=False, **RAW).pixel_values
    out = np.full((len(whole) + 3, *whole.shape[1:]), 250, np.uint8)
    batch = pp.preprocess(images_of(spec), spec, method=draw, out=out, **RAW)
    assert batch.pixel_values.base is out
    assert (out[len(whole) :] == 250).all()
    return batch


def by_concatenation(spec: pp.VisionSpec, draw: Draw) -> pp.Batch:
    images = images_of(spec)
    return pp.Batch.concatenate(
        pp.preprocess(part, spec, method=draw, **RAW) for part in (images[:2], images[2:3], images[3:])
    )


def by_stream(spec: pp.VisionSpec, draw: Draw) -> pp.Batch:
    results = pp.preprocess_stream(images_of(spec), spec, method=draw, threads=1, **RAW)
    batches = [result.batch for result in results]
    return pp.Batch.concatenate([batch for batch in batches if batch is not None])


@pytest.mark.parametrize("make", [by_preprocess, by_out, by_concatenation, by_stream], ids=lambda make: make.__name__)
@pytest.mark.parametrize("preset", pp.PRESETS)
def test_pixel_values_of_a_batch_fit_its_flat_grids(preset: str, make: Callable[[Any, Draw], pp.Batch]) -> None:
    spec, draw = pp.VisionSpec.preset(preset), Draw()
    batch = make(spec, draw)
    assert any(not mask.all() for mask in draw.masks)
    check(batch.pixel_values, batch.flat_grid_thw, draw.masks, spec)
    assert batch.flat_grid_thw.dtype == np.int64
    whole = pp.preprocess(images_of(spec), spec, prune=False, **RAW).pixel_values
    rows = pp.patch_indices(batch.selections, flat=True)
    assert np.array_equal(batch.pixel_values, whole[rows])
    assert np.array_equal(np.sort(rows), pp.patch_indices(batch.selections))


@pytest.mark.parametrize("preset", pp.PRESETS)
def test_without_pruning_everything_stays_in_place(preset: str) -> None:
    """The processor's own order, and a grid that fits it."""
    spec = pp.VisionSpec.preset(preset)
    batch = pp.preprocess(images_of(spec), spec, prune=False, **RAW)
    everything = [np.ones(size, np.bool_) for size in SIZES]
    check(batch.pixel_values, batch.flat_grid_thw, everything, spec)
    check(batch.pixel_values, batch.grid_thw, everything, spec)


@pytest.mark.parametrize("preset", pp.PRESETS)
def test_features_of_an_image_processor_fit_their_grids(preset: str) -> None:
    spec, draw = pp.VisionSpec.preset(preset), Draw()
    features = pp.ImageProcessor(spec, method=draw, **RAW)(images_of(spec))
    check(features.pixel_values, features.image_grid_thw, draw.masks, spec)
    assert features.pixel_values is features.batch.pixel_values


@pytest.mark.parametrize("preset", pp.PRESETS)
def test_rows_of_a_processor_s_output_fit_the_flat_grids(preset: str) -> None:
    """With nothing but selections: what they say of rows and grids."""
    spec, draw = pp.VisionSpec.preset(preset), Draw()
    whole = pp.preprocess(images_of(spec), spec, prune=False, **RAW).pixel_values
    selections = pp.prune_batch(images_of(spec), spec, method=draw, threads=1)
    rows = pp.patch_indices(selections, flat=True)
    check(whole[rows], [sel.flat_grid_thw for sel in selections], draw.masks, spec)
    assert all(type(side) is int for sel in selections for side in sel.flat_grid_thw)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_rows_of_a_plan_fit_its_flat_grids(model_type: str) -> None:
    model = ModelSpec.from_config({"model_type": model_type})
    spec, draw = model.vision, Draw()
    whole = pp.preprocess(images_of(spec), spec, prune=False, **RAW)
    selections = pp.prune_batch(images_of(spec), spec, method=draw, threads=1)
    for keep in (selections, draw.masks, [np.flatnonzero(mask) for mask in draw.masks]):
        images = make_plan(model, whole.grid_thw, keep).images
        check(whole.pixel_values[images.patch_indices], images.flat_grids, draw.masks, spec)
        assert images.position_ids.tolist() == [
            list(patch) for patch in patches_of(whole.pixel_values[images.patch_indices], spec)
        ]


def test_the_order_of_a_plan_is_the_model_s() -> None:
    """Selections that were made with another order of patches name the same tokens."""
    model = ModelSpec.from_config({"model_type": "paddleocr_vl"})
    spec, draw = model.vision, Draw()
    whole = pp.preprocess(images_of(spec), spec, prune=False, **RAW)
    selections = pp.prune_batch(images_of(spec), "qwen2_vl", method=draw, threads=1)
    images = make_plan(model, whole.grid_thw, selections).images
    check(whole.pixel_values[images.patch_indices], images.flat_grids, draw.masks, spec)


@pytest.mark.parametrize(
    ("keep", "rows", "grid"),
    [
        ([0, 1, 4], [0, 1, 2, 3, 14, 15, 6, 7, 8, 9, 20, 21], (-1, -2, 6)),
        ([4], [14, 15, 20, 21], (-1, -2, 2)),
        ([3, 4, 5], [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23], (-1, -2, 6)),
        (range(6), range(24), (1, 4, 6)),
    ],
    ids=str,
)
def test_raster_order_by_hand(keep: Any, rows: Any, grid: tuple[int, int, int]) -> None:
    """Of an image of 4 x 6 patches, 2 x 3 tokens."""
    sel = pp.Selection.from_keep(list(keep), (1, 4, 6), "paddleocr_vl")
    assert sel.patch_indices(flat=True).tolist() == list(rows)
    assert sel.patch_indices().tolist() == sorted(rows)
    assert sel.flat_grid_thw == grid
