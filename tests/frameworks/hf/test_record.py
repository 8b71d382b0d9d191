"""The plan as a tensor among the inputs: written, joined, read, and refused where it is damaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
import torch
from pixelprune import PixelPruneError
from pixelprune.hf.batch import RECORD
from pixelprune.hf.record import read_plan, write_plan
from pixelprune.plan import ModelSpec, Plan, make_plan

SPEC = ModelSpec.from_config({"model_type": "qwen3_vl", "image_token_id": 7, "video_token_id": 8})


def kept(plan: Plan) -> list[Any]:
    return [(s.grid_thw, s.keep.tolist()) for media in (plan.images, plan.videos) for s in media.selections]


def test_a_plan_comes_back() -> None:
    plan = make_plan(SPEC, [[1, 4, 6], [1, 2, 2]], [[0, 2, 5], [0]], video_grid_thw=[[2, 4, 4]], video_keep=[[0, 3, 4]])
    record = write_plan(plan)
    assert record.tolist() == [0, 1, 4, 6, 3, 0, 2, 5, 0, 1, 2, 2, 1, 0, 1, 2, 4, 4, 3, 0, 3, 4]
    assert record.dtype == torch.int64
    for same in (record, record.int(), record.numpy()):
        assert kept(read_plan(same, SPEC)) == kept(plan)
    assert kept(read_plan(write_plan(make_plan(SPEC)), SPEC)) == []


def test_two_plans_are_joined() -> None:
    one = make_plan(SPEC, [[1, 4, 6]], [[1]], video_grid_thw=[[1, 4, 4]], video_keep=[[2]])
    two = make_plan(SPEC, [[1, 2, 4]], [[0]], video_grid_thw=[[2, 2, 2]], video_keep=[[0, 1]])
    joined = read_plan(torch.cat([write_plan(one), write_plan(two)]), SPEC)
    assert kept(joined) == [((1, 4, 6), [1]), ((1, 2, 4), [0]), ((1, 4, 4), [2]), ((2, 2, 2), [0, 1])]


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ([[0, 1, 4, 4, 1, 0]], r"shape \(1, 6\)"),
        ([0.0, 1, 4, 4, 1, 0], "dtype float32"),
        ([0, 1, 4], r"record 0 begins with \[0, 1, 4\]"),
        ([2, 1, 4, 4, 1, 0], r"record 0 begins with \[2,"),
        ([0, 1, 4, 4, 2, 0], r"record 0 begins with \[0, 1, 4, 4, 2\]"),
        ([0, 1, 4, 4, 0], r"record 0 begins with"),
        ([0, 1, 4, 4, 1, 0, 0], "record 1 begins with"),
        ([0, 1, 4, 4, 2, 1, 0], "kept tokens of image 0 do not ascend"),
        ([1, 1, 4, 4, 2, 1, 1], "kept tokens of video 0 do not ascend"),
        ([0, 1, 4, 4, 1, 4], "expected from 0 to 3"),
        ([0, 1, 4, 4, 1, -1], "expected from 0 to 3"),
        ([0, 1, 3, 4, 1, 0], "multiples of merge_size"),
        ([0, -1, -2, 4, 1, 0], "at least 1 each"),
    ],
    ids=str,
)
def test_damaged_tensors_are_refused(numbers: list[Any], why: str) -> None:
    with pytest.raises(PixelPruneError, match=f"can't be read: .*{why}"):
        read_plan(torch.tensor(numbers), SPEC)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_it_is_among_the_inputs(kind: Any) -> None:
    batch = {
        "input_ids": kind([[1, 7, 7, 7, 7, 2]]),
        "pixel_values": kind(np.zeros((16, 1536), np.float32)),
        "image_grid_thw": kind([[1, 4, 4]]),
    }
    inputs = hf.prune_inputs(batch, SPEC, [[0, 3]])
    assert type(inputs[RECORD]) is type(batch["input_ids"])
    assert inputs[RECORD].tolist() == [0, 1, 4, 4, 2, 0, 3]
    assert inputs["image_grid_thw"].tolist() == [[-1, -2, 4]]
    whole = dict(inputs)
    for given in (whole, {**whole, RECORD: None}, {**whole, "image_grid_thw": batch["image_grid_thw"]}):
        plain = {name: value for name, value in given.items() if name != "position_ids"}
        with pytest.raises(PixelPruneError, match="the batch is already pruned"):
            hf.prune_inputs(plain, SPEC)


def test_text_has_none() -> None:
    assert RECORD not in hf.prune_inputs({"input_ids": torch.tensor([[1, 2]])}, SPEC)
