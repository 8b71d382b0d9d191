"""Inputs that were pruned before: their whole prompts again, with what is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...errors import PixelPruneError
from ...plan import IMAGE, VIDEO, ModelSpec, Plan, VisionPlan, kinds_of, make_plan
from ..batch import RECORD
from ..record import read_plan

_GRIDS = ("image_grid_thw", "video_grid_thw")
PRUNED_KEYS = (RECORD, "image_position_ids", "video_position_ids")
"""Any of them says that a batch is pruned."""


def is_pruned(example: Mapping[str, Any]) -> bool:
    """Tell inputs that were pruned, with or without their plan, or that have positions of their own."""
    keys = ("position_ids", *PRUNED_KEYS)
    return getattr(example, "pixelprune", None) is not None or any(example.get(key) is not None for key in keys)


def plan_of(example: Mapping[str, Any], spec: ModelSpec) -> Plan:
    """Return how the inputs were pruned.

    Raises:
        PixelPruneError: it is not known, or of another model.
    """
    plan = getattr(getattr(example, "pixelprune", None), "plan", None)
    if plan is None and example.get(RECORD) is not None:
        plan = read_plan(torch.as_tensor(example[RECORD]).reshape(-1), spec)
    if plan is None and not any(example.get(key) is not None for key in (*_GRIDS, *PRUNED_KEYS)):
        plan = make_plan(spec)
    if plan is None:
        raise PixelPruneError(
            "the example is pruned already (or has positions of its own), and how is not known; expected images with "
            "messages or text and, so that they are not pruned again, the indices of kept tokens as keep; or what "
            "the processor without pruning returned (PrunedProcessor.processor)"
        )
    # Another release may have filled in other details.
    if not isinstance(plan, Plan) or (plan.spec.model_type, plan.spec.vision) != (spec.model_type, spec.vision):
        raise PixelPruneError(
            "the example was pruned for another model; expected one that the collator's processor made"
        )
    return plan


def restore(tokens: dict[str, torch.Tensor], media: dict[str, torch.Tensor], plan: Plan) -> None:
    """Put the placeholders and patches of dropped tokens back; the patches are zeros, since they are dropped again.

    Args:
        tokens: what has one entry per token, (1, length, ...); changed in place.
        media: pixels and grids; changed in place.
        plan: how the inputs were pruned.
    """
    ids = tokens["input_ids"].numpy()
    kinds = kinds_of(ids, np.ones(ids.shape, np.bool_), plan.spec)[0]
    counts = np.ones(len(kinds), np.int64)
    for kind, name, of_kind in ((IMAGE, "pixel_values", plan.images), (VIDEO, "pixel_values_videos", plan.videos)):
        places = np.flatnonzero(kinds == kind)
        if len(places) != of_kind.kept.sum() or not (of_kind.kept > 0).all():
            raise PixelPruneError(
                f"the pruned prompt has {len(places)} placeholders; expected {int(of_kind.kept.sum())}, those of the "
                "kept tokens of its images: store the whole output of the processor"
            )
        if len(of_kind):
            counts[places] = _spread(of_kind)
            media[name] = _whole_patches(media[name], of_kind)
            media[_GRIDS[kind - IMAGE]] = torch.as_tensor(of_kind.grids)
    for key, value in tokens.items():
        tokens[key] = torch.repeat_interleave(value, torch.as_tensor(counts), dim=1)


def _spread(media: VisionPlan) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For every kept token, how many of the whole image it stands for: itself and the dropped ones up to the next."""
    gaps = []
    for selection in media.selections:
        begins = np.concatenate([[0], selection.keep[1:], [selection.total]])
        gaps.append(np.diff(begins))
    return np.concatenate(gaps)


def _whole_patches(values: torch.Tensor, media: VisionPlan) -> torch.Tensor:
    rows = torch.as_tensor(media.patch_indices)
    if len(rows) != len(values):
        raise PixelPruneError(f"the pruned pixels have {len(values)} rows; expected {len(rows)}, those of the plan")
    whole = values.new_zeros((int(media.grids.prod(axis=1).sum()), *values.shape[1:]))
    whole[rows] = values
    return whole
