"""Pruned inputs, from a `PrunedInputs` or any mapping with its keys, as arguments of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import PixelPruneError
from ..plan import FAMILIES, ModelSpec, Plan, make_plan
from . import versions
from .apply import positions_of, starts_again
from .batch import RECORD, VALUES, Pruned, is_flat
from .convert import to_numpy
from .record import read_plan, write_plan


@dataclass(frozen=True)
class Prepared:
    """Arguments of a model that runs on kept patches.

    Attributes:
        plan: the plan of the inputs.
        seams: how the model takes them.
        arguments: the inputs that are arguments of the model, with all positions that it takes as arguments.
        rope_deltas: int64 (rows, 1), see `pixelprune.plan.Positions`; None for packed sequences and embeddings.
    """

    plan: Plan
    seams: versions.Seams
    arguments: dict[str, Any]
    rope_deltas: torch.Tensor | None


def prepare(model: Any, inputs: Mapping[str, Any]) -> Prepared:
    """Return the arguments for ``model``; positions that are missing or don't fit the prompts are computed.

    Raises:
        PixelPruneError: as in `vision_positions`.
        TypeError: the inputs are not tensors.
    """
    plan, seams = resolve_inputs(model, inputs)
    arguments = {name: value for name, value in inputs.items() if name not in (RECORD, "seq_lengths")}
    for name in ("input_ids", "attention_mask", "position_ids", *VALUES.values()):
        if arguments.get(name) is not None and not isinstance(arguments[name], torch.Tensor):
            kind = type(arguments[name]).__name__
            raise TypeError(f"{name} is a {kind}; expected a tensor: give the processor return_tensors='pt'")
    _check_patches(arguments, plan)
    deltas = _complete_positions(inputs, plan, arguments)
    for name in [name for name in arguments if any(is_side_input(name, kind) for kind in VALUES)]:
        del arguments[name]
    arguments |= vision_arguments(plan, seams, arguments)
    return Prepared(plan, seams, arguments, deltas)


def vision_arguments(plan: Plan, seams: versions.Seams, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grids to call the model with, and its vision tower's positions, on the devices of the patches."""
    arguments: dict[str, Any] = {}
    for kind, media in (("image", plan.images), ("video", plan.videos)):
        if len(media):
            device = values[VALUES[kind]].device
            grids = media.unmarked_grids if plan.spec.seam == "unmarked" else media.flat_grids
            arguments[f"{kind}_grid_thw"] = torch.as_tensor(grids).to(device)
            if versions.takes_positions(plan.spec, seams):
                side = versions.side_inputs(media, f"{kind}_", seams)
                arguments |= {name: value.to(device) for name, value in side.items()}
    return arguments


def resolve_inputs(model: Any, inputs: Mapping[str, Any]) -> tuple[Plan, versions.Seams]:
    """Return the plan of the inputs and the model's seams; refuse inputs not pruned, or for another model."""
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}; expected a model of transformers")
    info: Pruned | None = getattr(inputs, "pixelprune", None)
    record = inputs.get(RECORD)
    if info is None and record is None and has_grids(inputs):
        raise PixelPruneError(
            f"the inputs have no plan; expected the output of prune_inputs or a PrunedProcessor, with its key {RECORD}"
        )
    spec = (
        versions.resolve(ModelSpec.from_config(versions.vision_tower(model)[0]))[0] if info is None else info.plan.spec
    )
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type in FAMILIES and model_type != spec.model_type:
        raise PixelPruneError(
            f"the inputs are pruned for {spec.model_type}; the model is a {type(model).__name__} of type "
            f"{model_type}; expected inputs pruned for this model"
        )
    seams = versions.resolve(spec)[1]
    if record is None:
        return make_plan(spec) if info is None else info.plan, seams
    if info is not None and torch.equal(torch.as_tensor(record).cpu(), write_plan(info.plan)):
        return info.plan, seams  # with what it has computed already
    return _with_whole_videos(read_plan(record, spec), inputs), seams


def _with_whole_videos(plan: Plan, inputs: Mapping[str, Any]) -> Plan:
    """Add videos of which the plan knows nothing: those beside images that a `PrunedImageProcessor` has pruned."""
    grids = inputs.get("video_grid_thw")
    if grids is None or len(plan.videos) or is_flat(grids):
        return plan
    images = plan.images
    return make_plan(plan.spec, images.grids, images.selections, video_grid_thw=to_numpy(grids, "video_grid_thw"))


def has_grids(inputs: Mapping[str, Any]) -> bool:
    """Return whether the inputs have images or videos."""
    return any(inputs.get(f"{kind}_grid_thw") is not None for kind in VALUES)


def is_side_input(name: str, kind: str) -> bool:
    """Return whether a key of the inputs is an extra argument of the vision tower."""
    return name.startswith(f"{kind}_") and name not in (f"{kind}_grid_thw", f"{kind}_merge_sizes")


def _check_patches(arguments: Mapping[str, Any], plan: Plan) -> None:
    for (kind, key), media in zip(VALUES.items(), (plan.images, plan.videos), strict=True):
        values = arguments.get(key)
        found = 0 if values is None else len(values)
        expected = int(media.kept.sum()) * plan.spec.vision.merge_size**2
        if found != expected:
            raise PixelPruneError(
                f"{key} has {found} rows; the plan has {len(media)} {kind}s with {expected} kept patches; expected "
                "keys of one batch"
            )


def _complete_positions(inputs: Mapping[str, Any], plan: Plan, arguments: dict[str, Any]) -> torch.Tensor | None:
    """Set ``position_ids`` where they are missing or of another length than the prompts; return the deltas."""
    ids, given = arguments.get("input_ids"), arguments.get("position_ids")
    info: Pruned | None = getattr(inputs, "pixelprune", None)
    lengths = inputs.get("seq_lengths") if info is None else info.lengths
    lengths = lengths.tolist() if isinstance(lengths, torch.Tensor) else lengths
    if ids is None:
        if given is None:
            raise PixelPruneError("the inputs have neither input_ids nor position_ids; expected one of them")
        return None
    fits = given is not None and tuple(given.shape[-2:]) == tuple(ids.shape)
    if given is not None and given.ndim < 3 and plan.spec.rope != "1d" and (len(plan.images) or len(plan.videos)):
        fits = False  # other code has numbered the tokens, which is wrong after an image
    mask = arguments.get("attention_mask")
    packed = lengths is not None or (mask is None and arguments.get("use_cache") is False)
    if given is not None and fits and mask is not None and starts_again(given, mask.bool()):
        raise PixelPruneError(
            "the position_ids are those of packed sequences, and there is an attention_mask, with which the sequences "
            "would see each other; expected the pruned inputs without attention_mask and with use_cache=False"
        )
    if fits and packed:
        return None
    if packed and lengths is None:
        raise PixelPruneError(
            "the inputs have no position_ids for these prompts, which may be packed: they have use_cache=False and no "
            "attention_mask; expected the position_ids of the pruned inputs, or an attention_mask where nothing is "
            "packed"
        )
    if fits and info is not None and len(info.rope_deltas) == len(ids):
        return torch.as_tensor(info.rope_deltas).to(ids.device)
    positions = positions_of(plan, arguments, lengths)
    if not fits:
        arguments["position_ids"] = torch.as_tensor(positions.position_ids).to(ids.device)
    return None if packed else torch.as_tensor(positions.rope_deltas).to(ids.device)
