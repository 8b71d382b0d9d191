"""The plan against slow, obvious code that computes the whole image and takes the kept rows."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixelprune.plan import FAMILIES, ModelSpec, PositionTable, make_plan

IMAGE, VIDEO, TEXT, START, END = 900, 901, 5, 902, 903
IDS = {"image_token_id": IMAGE, "video_token_id": VIDEO}
BLOCK = sorted(name for name in FAMILIES if name != "paddleocr_vl")
Mask = npt.NDArray[np.bool_]


def spec_of(model_type: str, **vision: Any) -> ModelSpec:
    return ModelSpec.from_config({"model_type": model_type, "vision_config": vision, **IDS})


@st.composite
def kept_images(draw: st.DrawFn, frames: int = 1) -> tuple[list[list[int]], list[Mask]]:
    """Grids in patches (merge 2), and masks of their tokens with one kept in every frame."""
    grids, masks = [], []
    for _ in range(draw(st.integers(1, 3))):
        t, rows, cols = draw(st.integers(1, frames)), draw(st.integers(1, 6)), draw(st.integers(1, 7))
        mask = np.array(draw(st.lists(st.booleans(), min_size=t * rows * cols, max_size=t * rows * cols)))
        mask.reshape(t, -1)[:, draw(st.integers(0, rows * cols - 1))] = True
        grids.append([t, 2 * rows, 2 * cols])
        masks.append(mask)
    return grids, masks


# --- The patches ------------------------------------------------------------------------------------------


def patches_in_order(grid: list[int], merge: int, order: str) -> list[tuple[int, int, int]]:
    """(frame, row, column) of every patch of an image in the processor's order."""
    t, h, w = grid
    if order == "raster":
        return [(f, y, x) for f in range(t) for y in range(h) for x in range(w)]
    return [
        (f, r * merge + dy, c * merge + dx)
        for f in range(t)
        for r in range(h // merge)
        for c in range(w // merge)
        for dy in range(merge)
        for dx in range(merge)
    ]


def is_kept(patch: tuple[int, int, int], grid: list[int], mask: Mask, merge: int) -> bool:
    frame, row, col = patch
    rows, cols = grid[1] // merge, grid[2] // merge
    return bool(mask[(frame * rows + row // merge) * cols + col // merge])


@given(kept_images(frames=3))
def test_patches_and_their_positions_in_block_order(case: tuple[list[list[int]], list[Mask]]) -> None:
    grids, masks = case
    images = make_plan(spec_of("qwen3_vl"), grids, masks).images
    indices, positions, segments = [], [], [0]
    first = 0
    for grid, mask in zip(grids, masks, strict=True):
        patches = patches_in_order(grid, 2, "block")
        kept = [i for i, patch in enumerate(patches) if is_kept(patch, grid, mask, 2)]
        indices += [first + i for i in kept]
        positions += [patches[i][1:] for i in kept]
        for frame in range(grid[0]):
            segments.append(segments[-1] + sum(patches[i][0] == frame for i in kept))
        first += len(patches)
    assert images.patch_indices.tolist() == indices
    assert [tuple(p) for p in images.position_ids.tolist()] == positions
    assert images.cu_seqlens.tolist() == segments
    assert images.cu_seqlens.dtype == np.int32
    counts = [int(mask.sum()) for mask in masks]
    whole = [mask.all() for mask in masks]
    assert images.flat_grids.tolist() == [
        grid if all_kept else [-1, -2, 2 * count] for grid, all_kept, count in zip(grids, whole, counts, strict=True)
    ]
    assert images.unmarked_grids.tolist() == [[1, 2, 2 * count] for count in counts]
    assert np.array_equal(images.patch_indices, pp.patch_indices(images.selections))


@given(kept_images())
def test_patches_in_raster_order_lie_as_the_flat_grid_says(case: tuple[list[list[int]], list[Mask]]) -> None:
    """Read as its flat grid, an image's patches fall into blocks of 2 x 2 that are its kept tokens in order."""
    grids, masks = case
    images = make_plan(spec_of("paddleocr_vl"), grids, masks).images
    first = taken = 0
    for grid, mask, flat in zip(grids, masks, images.unmarked_grids.tolist(), strict=True):
        patches = patches_in_order(grid, 2, "raster")
        count = math.prod(flat)
        numbers = images.patch_indices[taken : taken + count] - first
        rows = numbers.reshape(flat[1] // 2, 2, flat[2] // 2, 2)
        tokens = [rows[r, :, c].ravel() for r in range(flat[1] // 2) for c in range(flat[2] // 2)]
        for token, block in zip(np.flatnonzero(mask), tokens, strict=True):
            row, col = divmod(int(token), grid[2] // 2)
            corner = [(0, 2 * row + dy, 2 * col + dx) for dy in range(2) for dx in range(2)]
            assert [patches[i] for i in block] == corner
        assert [patches[i][1:] for i in numbers] == [
            tuple(p) for p in images.position_ids[taken : taken + count].tolist()
        ]
        assert flat == (grid if mask.all() else [1, 2, 2 * int(mask.sum())])
        first, taken = first + len(patches), taken + count
    assert taken == len(images.patch_indices)


def test_a_frame_without_kept_tokens_is_no_segment() -> None:
    keep = np.array([True, False, False, False, True, True])
    images = make_plan(spec_of("qwen2_vl"), video_grid_thw=[[3, 2, 4]], video_keep=[keep]).videos
    assert images.tokens_per_frame[0].tolist() == [1, 0, 2]
    assert images.cu_seqlens.tolist() == [0, 4, 12]


# --- The position table -----------------------------------------------------------------------------------


def stretched(table: npt.NDArray[np.float64], height: int, width: int, align_corners: bool) -> npt.NDArray[np.float64]:
    """Bilinear interpolation of a square table, entry by entry."""
    side = len(table)
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            at = []
            for i, size in ((y, height), (x, width)):
                if align_corners:
                    place = i * (side - 1) / (size - 1) if size > 1 else 0.0
                else:
                    place = min(max((i + 0.5) * side / size - 0.5, 0.0), side - 1.0)
                at.append(place)
            r, c = (min(int(place), side - 2) for place in at)
            dy, dx = at[0] - r, at[1] - c
            top = table[r, c] * (1 - dx) + table[r, c + 1] * dx
            bottom = table[r + 1, c] * (1 - dx) + table[r + 1, c + 1] * dx
            out[y, x] = top * (1 - dy) + bottom * dy
    return out


@pytest.mark.parametrize(("model_type", "vision"), [
    ("qwen3_vl", {"num_position_embeddings": 25}),
    ("paddleocr_vl", {"image_size": 70}),
])  # fmt: skip
@given(case=kept_images())
def test_taps_stretch_the_table_over_the_whole_image(
    model_type: str, vision: dict[str, Any], case: tuple[list[list[int]], list[Mask]]
) -> None:
    grids, masks = case
    spec = spec_of(model_type, **vision)
    assert spec.table == PositionTable(side=5, align_corners=model_type == "qwen3_vl")
    images = make_plan(spec, grids, masks).images
    table = np.random.default_rng(0).random((5, 5))
    indices, weights = images.interp_indices, images.interp_weights
    assert indices is not None
    assert weights is not None
    assert weights.dtype == np.float32
    found = (table.ravel()[indices] * weights).sum(axis=1)
    counts = images.kept * 4
    for i, (grid, first) in enumerate(zip(grids, np.cumsum(counts) - counts, strict=True)):
        whole = stretched(table, grid[1], grid[2], spec.table.align_corners)
        rows, cols = images.position_ids[first : first + counts[i]].T
        assert np.allclose(found[first : first + counts[i]], whole[rows, cols], atol=1e-5)


def test_a_model_without_a_table_or_windows_has_none() -> None:
    images = make_plan(spec_of("qwen2_vl"), [[1, 2, 2]]).images
    assert (images.interp_indices, images.interp_weights) == (None, None)
    assert (images.window_index, images.cu_window_seqlens) == (None, None)


# --- Windows ----------------------------------------------------------------------------------------------


@given(kept_images(frames=2), st.sampled_from([28, 56, 112]))
def test_windows_hold_the_kept_tokens_of_the_whole_images_windows(
    case: tuple[list[list[int]], list[Mask]], size: int
) -> None:
    grids, masks = case
    images = make_plan(spec_of("qwen2_5_vl", window_size=size), grids, masks).images
    side = size // 28
    order, ends = [], [0]
    first = 0
    for (t, h, w), mask in zip(grids, masks, strict=True):
        rows, cols = h // 2, w // 2
        rank = np.cumsum(mask) - 1
        for frame in range(t):
            for top in range(0, rows, side):
                for left in range(0, cols, side):
                    inside = [
                        (frame * rows + r) * cols + c
                        for r in range(top, min(top + side, rows))
                        for c in range(left, min(left + side, cols))
                    ]
                    kept = [first + int(rank[i]) for i in inside if mask[i]]
                    if kept:
                        order += kept
                        ends.append(ends[-1] + 4 * len(kept))
        first += int(mask.sum())
    assert images.window_index is not None
    assert images.cu_window_seqlens is not None
    assert images.window_index.tolist() == order
    assert images.cu_window_seqlens.tolist() == ends
    assert images.cu_window_seqlens.dtype == np.int32


# --- Tokens and positions ----------------------------------------------------------------------------------


def prompt_of(spec: ModelSpec, images: list[list[int]], videos: list[list[int]]) -> list[int]:
    """Text, then every image and video in marks."""
    ids = [TEXT] * 3
    for token, grids in ((IMAGE, images), (VIDEO, videos)):
        for t, h, w in grids:
            apart = token == VIDEO and spec.frames_apart
            for _ in range(t if apart else 1):
                ids += [START] + [token] * (h * w // 4 * (1 if apart else t)) + [END, TEXT]
    return ids


def whole_positions(
    spec: ModelSpec, ids: list[int], images: list[list[int]], videos: list[list[int]], seconds: list[float]
) -> tuple[list[tuple[int, int, int]], int]:
    """(time, row, column) of every token of a whole prompt, and the position after it."""
    queue = {IMAGE: [(1.0, grid) for grid in images], VIDEO: []}
    for second, (t, h, w) in zip(seconds, videos, strict=True):
        step = 1.0
        if spec.tokens_per_second is not None:
            step = spec.tokens_per_second * (int(second) if spec.whole_seconds else second)
        queue[VIDEO] += [(1.0, [1, h, w])] * t if spec.frames_apart else [(step, [t, h, w])]
    found: list[tuple[int, int, int]] = []
    at = i = 0
    while i < len(ids):
        if ids[i] not in queue:
            found.append((at, at, at))
            at, i = at + 1, i + 1
            continue
        step, (t, h, w) = queue[ids[i]].pop(0)
        block = [(at + int(f * step), at + r, at + c) for f in range(t) for r in range(h // 2) for c in range(w // 2)]
        found += block
        i += len(block)
        at = max(max(place) for place in block) + 1 if spec.advance_past_time else at + max(h, w) // 2
    return found, max(max(place) for place in found) + 1


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v", "paddleocr_vl"])
@given(data=st.data())
def test_positions_are_those_of_the_whole_prompt(model_type: str, data: st.DataObject) -> None:
    spec = spec_of(model_type)
    grids, masks = data.draw(kept_images())
    videos, video_masks = [], []
    if spec.video_token_id is not None:
        videos, video_masks = data.draw(kept_images(frames=4))
        rules = {"advance_past_time": data.draw(st.booleans()), "whole_seconds": data.draw(st.booleans())}
        spec = pickle.loads(pickle.dumps(ModelSpec(**{**vars(spec), **rules})))
    seconds = [data.draw(st.sampled_from([0.25, 1.0, 1.5, 2.0])) for _ in videos]
    plan = make_plan(spec, grids, masks, video_grid_thw=videos, video_keep=video_masks)

    ids = np.array(prompt_of(spec, grids, videos))
    kept = np.ones(len(ids), bool)
    kept[ids == IMAGE] = np.concatenate(masks)
    kept[ids == VIDEO] = np.concatenate([np.empty(0, bool), *video_masks])
    assert np.array_equal(plan.token_mask(ids[None])[0], kept)

    found, following = whole_positions(spec, ids.tolist(), grids, videos, seconds)
    positions = plan.positions(ids[kept][None], second_per_grid=seconds)
    assert positions.position_ids.shape == (4, 1, kept.sum())
    assert positions.position_ids[0, 0].tolist() == list(range(kept.sum()))
    assert positions.position_ids[1:, 0].T.tolist() == np.array(found)[kept].tolist()
    assert positions.rope_deltas.tolist() == [[following - kept.sum()]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_rows_in_a_batch(side: str) -> None:
    spec = spec_of("qwen3_vl")
    rows = [prompt_of(spec, [[1, 4, 4]], []), prompt_of(spec, [[1, 2, 2], [1, 2, 6]], []), [TEXT] * 2]
    length = max(map(len, rows))
    ids = np.full((3, length), IMAGE)  # padding that looks like an image, but for the mask
    mask = np.zeros((3, length), np.int64)
    for i, row in enumerate(rows):
        where = slice(length - len(row), None) if side == "left" else slice(None, len(row))
        ids[i, where], mask[i, where] = row, 1
    plan = make_plan(spec, [[1, 4, 4], [1, 2, 2], [1, 2, 6]], [[1, 2], [0], [2]])
    kept = plan.token_mask(ids, mask)
    assert kept[mask == 0].all()
    assert kept.sum() == mask.size - 4  # 2 of 4, 1 of 1 and 1 of 3 tokens stay
    kept &= mask == 1
    rest = kept.sum(axis=1)
    pruned, present = np.zeros((3, rest.max()), np.int64), np.zeros((3, rest.max()), np.int64)
    for i in range(3):
        where = slice(rest.max() - rest[i], None) if side == "left" else slice(None, rest[i])
        pruned[i, where], present[i, where] = ids[i, kept[i]], 1
    batch = plan.positions(pruned, present)
    for i, (grids, keep) in enumerate((([[1, 4, 4]], [[1, 2]]), ([[1, 2, 2], [1, 2, 6]], [[0], [2]]), ([], []))):
        alone = make_plan(spec, grids, keep).positions(ids[i, kept[i]][None])
        assert np.array_equal(batch.position_ids[:, i, present[i] == 1], alone.position_ids[:, 0])
        assert batch.rope_deltas[i] == alone.rope_deltas[0]
        assert (batch.position_ids[:, i, present[i] == 0] == 0).all()


def test_positions_restart_with_each_packed_sequence() -> None:
    spec = spec_of("qwen3_vl")
    grids, keep = [[1, 4, 4], [1, 2, 6]], [[0, 3], [1]]
    plan = make_plan(spec, grids, keep)
    parts = [[TEXT, IMAGE, IMAGE, TEXT], [TEXT, TEXT, IMAGE, TEXT]]
    packed = plan.positions([parts[0] + parts[1]], lengths=[[4, 4]])
    alone = [make_plan(spec, [g], [k]).positions([p]) for g, k, p in zip(grids, keep, parts, strict=True)]
    assert np.array_equal(packed.position_ids, np.concatenate([one.position_ids for one in alone], axis=2))
    with pytest.raises(pp.PixelPruneError, match=r"lengths\[0\] is \[4, 3\]; expected .* tokens of the row, 8"):
        plan.positions([parts[0] + parts[1]], lengths=[[4, 3]])
    with pytest.raises(pp.PixelPruneError, match="lengths has 2 entries"):
        plan.positions([parts[0] + parts[1]], lengths=[[8], [8]])


def test_one_dimensional_positions_are_places_in_the_whole_prompt() -> None:
    spec = ModelSpec(model_type="qwen2_vl", vision=pp.VisionSpec.preset("qwen2_vl"), image_token_id=IMAGE, rope="1d")
    plan = make_plan(spec, [[1, 2, 6]], [[0, 2]])
    positions = plan.positions([[TEXT, IMAGE, IMAGE, TEXT]])
    assert positions.position_ids.tolist() == [[0, 1, 3, 4]]
    assert positions.rope_deltas.tolist() == [[1]]


# --- What it refuses ----------------------------------------------------------------------------------------


def test_placeholders_that_do_not_match_the_grids() -> None:
    plan = make_plan(spec_of("qwen3_vl"), [[1, 4, 4], [1, 2, 4]])
    with pytest.raises(pp.PixelPruneError, match=r"5 image placeholders, the grids have 6 tokens; .*truncating"):
        plan.token_mask([[TEXT] + [IMAGE] * 5])
    with pytest.raises(pp.PixelPruneError, match="row 0 of input_ids has 3 image placeholders"):
        plan.token_mask([[IMAGE] * 3 + [TEXT], [IMAGE] * 3 + [TEXT]])
    with pytest.raises(pp.PixelPruneError, match="7 image placeholders"):
        plan.token_mask([[TEXT] + [IMAGE] * 7])
    with pytest.raises(pp.PixelPruneError, match="2 video placeholders, the grids have 0"):
        plan.token_mask([[VIDEO] * 2 + [IMAGE] * 6])


def test_pruned_prompts_that_do_not_match_the_kept_tokens() -> None:
    plan = make_plan(spec_of("qwen3_vl"), [[1, 4, 4], [1, 2, 4]], [[0, 1, 2], [1]])
    with pytest.raises(pp.PixelPruneError, match="2 consecutive image placeholders; expected 3"):
        plan.positions([[TEXT, IMAGE, IMAGE, TEXT, IMAGE]])
    with pytest.raises(pp.PixelPruneError, match="1 consecutive image placeholders; expected no more"):
        plan.positions([[IMAGE] * 3 + [TEXT, IMAGE, TEXT, IMAGE]])
    with pytest.raises(pp.PixelPruneError, match="1 runs of image placeholders are missing"):
        plan.positions([[IMAGE] * 3 + [TEXT]])


def test_a_frame_with_placeholders_of_its_own_has_to_keep_a_token() -> None:
    plan = make_plan(spec_of("qwen3_vl"), video_grid_thw=[[2, 2, 4]], video_keep=[[0, 1]])
    with pytest.raises(pp.PixelPruneError, match="frame 1 of video 0 keeps no token"):
        plan.positions([[VIDEO, VIDEO]])


@pytest.mark.parametrize(("keep", "error", "match"), [
    ([[0]], pp.PixelPruneError, "keep has 1 entries; expected one per image, 2"),
    ([[0], [7]], pp.PixelPruneError, r"keep\[1\]: keep has token indices"),
    ([[0], [0.5]], TypeError, r"keep\[1\]: keep has dtype float64"),
    ([[0], np.ones(3, bool)], pp.PixelPruneError, r"keep\[1\]: keep is a mask of shape \(3,\); expected \(1, 1, 2\)"),
    ("all", TypeError, "keep is a str"),
    (3, TypeError, "keep is a int"),
])  # fmt: skip
def test_invalid_keep(keep: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make_plan(spec_of("qwen3_vl"), [[1, 4, 4], [1, 2, 4]], keep)


def test_a_selection_of_another_grid_or_model() -> None:
    spec = spec_of("qwen3_vl")
    page = pp.Selection.from_keep([0], (1, 4, 4), "qwen3_vl")
    assert make_plan(spec, [[1, 4, 4]], [page]).images.selections == (page,)
    with pytest.raises(pp.PixelPruneError, match=r"is of grid_thw \(1, 4, 4\).*expected \(1, 2, 8\)"):
        make_plan(spec, [[1, 2, 8]], [page])
    with pytest.raises(pp.PixelPruneError, match="14 px patches"):
        make_plan(spec, [[1, 4, 4]], [pp.Selection.from_keep([0], (1, 4, 4), "qwen2_vl")])


@pytest.mark.parametrize("grid", [[[1, 3, 4]], [[0, 4, 4]], [[1, 4]], [1, 4, 4], [[1.5, 4, 4]]])
def test_invalid_grids(grid: Any) -> None:
    with pytest.raises(pp.PixelPruneError, match="grid_thw"):
        make_plan(spec_of("qwen3_vl"), grid)


def test_media_that_a_model_does_not_take() -> None:
    with pytest.raises(pp.PixelPruneError, match="videos of paddleocr_vl can't be pruned"):
        make_plan(spec_of("paddleocr_vl"), video_grid_thw=[[1, 2, 2]])
    with pytest.raises(pp.PixelPruneError, match="image 0 has 2 frames; paddleocr_vl"):
        make_plan(spec_of("paddleocr_vl"), [[2, 2, 2]])


# --- Specs --------------------------------------------------------------------------------------------------


def test_config_dicts_paths_and_objects_give_one_spec(tmp_path: Path) -> None:
    config = {"model_type": "qwen2_5_vl", **IDS, "vision_config": {"window_size": 56, "tokens_per_second": 2}}
    spec = ModelSpec.from_config(config)
    assert (spec.window_size, spec.tokens_per_second, spec.vision.patch_size) == (56, 2.0, 14)
    (tmp_path / "config.json").write_text(json.dumps(config))

    class Config:
        def to_dict(self) -> dict[str, Any]:
            return config

    class Model:
        config = Config()

    for source in (tmp_path, str(tmp_path / "config.json"), Config(), Model()):
        assert ModelSpec.from_config(source) == spec
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2,
        "size": {"shortest_edge": 784, "longest_edge": 7840}, "image_mean": [0.1] * 3, "image_std": [0.2] * 3,
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert ModelSpec.from_config(tmp_path).vision == pp.VisionSpec.from_config(processor)
    with pytest.raises(pp.PixelPruneError, match="the processor has patch_size 16, the model 14"):
        ModelSpec.from_config(config, {**processor, "patch_size": 16})


def test_unsupported_models_are_named() -> None:
    for model_type in ("llava_next", "internvl", None, 3):
        with pytest.raises(pp.PixelPruneError, match=r"model_type is .*; expected one of qwen2_vl, "):
            ModelSpec.from_config({"model_type": model_type})
    with pytest.raises(TypeError, match="config is a int"):
        ModelSpec.from_config(3)
    with pytest.raises(pp.PixelPruneError, match="image_token_id = 'x'"):
        ModelSpec.from_config({"model_type": "qwen3_vl", "image_token_id": "x"})


@pytest.mark.parametrize(("model_type", "vision", "found"), [
    ("qwen2_5_vl", {"tokens_per_second": "x"}, "tokens_per_second = 'x'; expected a number"),
    ("qwen2_5_vl", {"tokens_per_second": True}, "tokens_per_second = True"),
    ("qwen2_5_vl", {"tokens_per_second": float("nan")}, "tokens_per_second = nan"),
    ("qwen2_5_vl", {"tokens_per_second": float("inf")}, "tokens_per_second = inf"),
    ("qwen2_5_vl", {"window_size": 0}, "window_size is 0"),
    ("qwen2_5_vl", [1], r"vision_config = \[1\]; expected a JSON object"),
    ("qwen3_vl", "x", "vision_config = 'x'"),
    ("qwen3_vl", {"num_position_embeddings": 0}, "num_position_embeddings = 0; expected .* at least one"),
    ("qwen3_vl", {"num_position_embeddings": -1}, "num_position_embeddings = -1"),
    ("paddleocr_vl", {"image_size": 13}, "image_size = 13"),
])  # fmt: skip
def test_configs_with_odd_values(model_type: str, vision: Any, found: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=found):
        ModelSpec.from_config({"model_type": model_type, "vision_config": vision})


def test_configs_that_omit_values() -> None:
    for name in ("tokens_per_second", "window_size", "patch_size"):
        config = {"model_type": "qwen2_5_vl", "vision_config": {name: None}}
        assert ModelSpec.from_config(config) == ModelSpec.from_config({"model_type": "qwen2_5_vl"})
    assert ModelSpec.from_config({"model_type": "qwen3_vl", "vision_config": None}).table == PositionTable(
        side=48, align_corners=True
    )


@pytest.mark.parametrize(("lengths", "error", "found"), [
    (3, TypeError, "lengths is a int"),
    ([[4], [0]], pp.PixelPruneError, "lengths has 2 entries; expected one per row, 1"),
    ([4], pp.PixelPruneError, r"lengths\[0\] is 4; expected a list of integers"),
    ([[2.0, 2.0]], pp.PixelPruneError, r"lengths\[0\] is \[2.0, 2.0\]; expected a list of integers"),
    ([[[4]]], pp.PixelPruneError, r"lengths\[0\]"),
    ([[3]], pp.PixelPruneError, r"lengths\[0\] is \[3\]; expected .* add up to .* 4"),
    ([[5, -1]], pp.PixelPruneError, r"lengths\[0\] is \[5, -1\]"),
])  # fmt: skip
def test_invalid_lengths(lengths: Any, error: type[Exception], found: str) -> None:
    plan = make_plan(spec_of("qwen3_vl"), [[1, 2, 4]], [[0]])
    ids = [[TEXT, TEXT, IMAGE, TEXT]]
    with pytest.raises(error, match=found):
        plan.positions(ids, lengths=lengths)
    assert plan.positions(ids, lengths=[[1, 3]]).position_ids[0].tolist() == [[0, 0, 1, 2]]


@pytest.mark.parametrize("seconds", [
    [float("nan")], [float("inf")], [-1.0], [1e30], ["x"], [None], [1j], [[1.0]], [True], 3, 1.5, "1", object(),
], ids=repr)  # fmt: skip
def test_invalid_seconds(seconds: Any) -> None:
    plan = make_plan(spec_of("qwen2_5_vl"), video_grid_thw=[[2, 2, 2]])
    with pytest.raises(pp.PixelPruneError, match=r"second_per_grid .*; expected"):
        plan.positions([[TEXT, VIDEO, VIDEO, TEXT]], second_per_grid=seconds)


@pytest.mark.parametrize("seconds", [[0.5], (0.5,), np.array([0.5]), [np.float32(0.5)]], ids=repr)
def test_seconds_of_any_kind(seconds: Any) -> None:
    plan = make_plan(spec_of("qwen2_5_vl"), video_grid_thw=[[2, 2, 2]])
    found = plan.positions([[TEXT, VIDEO, VIDEO, TEXT]], second_per_grid=seconds).position_ids[1]
    assert found.tolist() == [[0, 1, 3, 2]]


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_family_reads_a_bare_config(model_type: str) -> None:
    spec = ModelSpec.from_config({"model_type": model_type})
    assert spec.model_type == model_type
    assert (spec.vision.patch_order == "block") == (model_type in BLOCK)
    assert hash(spec) == hash(ModelSpec.from_config({"model_type": model_type}))


@pytest.mark.parametrize(
    ("values", "window"),
    [
        ({}, None),
        ({"text_config": {"sliding_window": 9}}, None),
        ({"text_config": {"sliding_window": 9, "use_sliding_window": False}}, None),
        ({"use_sliding_window": True, "sliding_window": 9}, 9),
        ({"text_config": {"sliding_window": 9, "layer_types": ["full_attention"]}, "use_sliding_window": True}, None),
        ({"text_config": {"sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"]}}, 9),
        ({"text_config": {"sliding_window": None, "layer_types": ["sliding_attention"]}}, None),
    ],
)
def test_sliding_windows_of_a_config(values: dict[str, Any], window: int | None) -> None:
    assert ModelSpec.from_config({"model_type": "qwen2_vl", **values}).sliding_window == window


def test_plans_are_picklable_and_read_only_in_name() -> None:
    plan = make_plan(spec_of("qwen3_vl"), [[1, 4, 4]], [[0, 3]])
    before = plan.images.interp_weights
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert again.images.interp_weights is not None
    assert np.array_equal(again.images.interp_weights, before)
    with pytest.raises(AttributeError):
        plan.spec = spec_of("qwen2_vl")  # type: ignore[misc]


def test_no_framework_is_imported() -> None:
    import subprocess
    import sys

    code = "import sys, pixelprune.plan; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
