"""`pixelprune.Batch` for a model: its patches and flat grids beside the positions of a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pixelprune as pp
import pixelprune.hf as hf
import torch
from pixelprune.plan import make_plan

from . import cases, zoo
from .cases import ONE, TWO
from .conftest import Close
from .test_logits import unpad


def test_a_batch_is_what_the_model_takes(family: zoo.Family, model: Any, close: Close) -> None:
    """With the pixels and grids of a `Batch` the logits are the oracle's, as with pruned inputs."""
    prompts = (ONE, TWO)
    cases.skip_unless_pruned(family, prompts)
    case = cases.make(family, prompts)
    images, masks = cases.images_of(family, prompts)["images"], iter(case.keep)
    vision = pp.VisionSpec.from_config(zoo.processor(family))
    batch = pp.preprocess(images, vision, method=lambda left, up: next(masks).reshape(left.shape))
    assert [sel.mask.ravel().tolist() for sel in batch.selections] == [mask.tolist() for mask in case.keep]

    inputs = hf.prune_inputs(case.batch, model, batch.selections)
    plan = inputs.pixelprune.plan
    assert np.array_equal(batch.flat_grid_thw, plan.images.flat_grids)
    if inputs["image_grid_thw"].tolist() != plan.images.grids.tolist():  # it takes the flat grids itself
        inputs["image_grid_thw"] = torch.from_numpy(batch.flat_grid_thw)
    expected = inputs["pixel_values"]
    inputs["pixel_values"] = torch.from_numpy(batch.pixel_values).reshape(expected.shape)
    with torch.no_grad():
        found = unpad(hf.forward(model, inputs).logits, inputs)
    close(found, case.expected)
    assert torch.equal(inputs["pixel_values"], expected)


def test_another_order_of_the_rows_is_seen() -> None:
    """The processor's own order of the kept rows does not fit the flat grid of PaddleOCR-VL."""
    family = zoo.BY_NAME["paddleocr_vl"]
    cases.skip_unless_pruned(family, (ONE,))
    case, model = cases.make(family, (ONE,)), zoo.model(family)
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    plan = make_plan(inputs.pixelprune.plan.spec, case.batch["image_grid_thw"], case.keep).images
    rows = pp.patch_indices(plan.selections)
    inputs["pixel_values"] = case.batch["pixel_values"][torch.from_numpy(rows)]
    with torch.no_grad():
        found = unpad(hf.forward(model, inputs).logits, inputs)
    worst = max(float((a - b).abs().max()) for a, b in zip(found, case.expected, strict=True))
    assert worst > 1000 * cases.TOLERANCE
