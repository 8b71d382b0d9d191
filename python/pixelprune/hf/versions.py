"""What the installed transformers supports, checked by running its code on tiny arguments.

Everything that differs between releases is here, apart from the table in `releases`. A model silently ignores arguments
that it does not know, and would then use wrong positions. So everything that is used is tried once, without weights,
and a model that does not behave as expected is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MethodType, ModuleType, SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_outputs import BaseModelOutputWithPast

from ..errors import PixelPruneError
from ..plan import ModelSpec, Plan, VisionPlan, make_plan
from .releases import VERSION, check, refuse

_TOWERS = {"cosmos3_omni": "qwen3_vl", "glm46v": "glm4v"}
"""Families whose vision tower is another family's."""

_TOWER_NAMES = ("visual", "vision_tower", "vision_model")

Way = Literal["kwargs", "methods"]

CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What the installed release calls the cache among arguments and outputs."""


@dataclass(frozen=True)
class Seams:
    """How a model of the installed transformers takes pruned inputs.

    Attributes:
        way: ``"kwargs"``: the vision tower takes positions as keyword arguments (5.9 and later); ``"methods"``: it
            computes them in methods of its own.
        taps: prefix of the arguments for the learned position table; None if there is no table.
        encoder_outputs: the model takes encoded vision features (5.18 and later).
        deltas_count_padding: what the model stores as ``rope_deltas`` is relative to the row's length with padding
            (before 5.4); else to the tokens alone.
        kinds: ``get_rope_index`` needs ``mm_token_type_ids`` (5.4 and later).
    """

    way: Way
    taps: Literal["interp", "bilinear"] | None
    encoder_outputs: bool
    deltas_count_padding: bool = False
    kinds: bool = False


@lru_cache(maxsize=64)
def resolve(spec: ModelSpec) -> tuple[ModelSpec, Seams]:
    """Return the spec with the rules of the installed release, and the seams.

    Raises:
        PixelPruneError: the installed transformers can't run this model on pruned inputs.
    """
    check(spec.model_type)
    tower = _TOWERS.get(spec.model_type, spec.model_type)
    module, own = (
        importlib.import_module(f"transformers.models.{name}.modeling_{name}") for name in (tower, spec.model_type)
    )
    model_class = _model_class(own)
    if importlib.util.find_spec("transformers.vision_utils") is None:
        _require(VERSION < (5, 9), spec, "transformers.vision_utils is missing")
        seams = Seams("methods", "interp" if spec.table else None, False)
    else:
        seams = _try_kwargs(spec, module, model_class)
    if seams.taps == "interp" and seams.way == "kwargs":
        spec = _match_table(spec, module)
    if spec.rope == "mrope":
        spec = _match_positions(spec, model_class)
        seams = _match_deltas(spec, seams, model_class)
    return spec, seams


def takes_positions(spec: ModelSpec, seams: Seams) -> bool:
    """Return whether the model's ``forward`` takes all positions as arguments."""
    return seams.way == "kwargs" and spec.seam != "tower"


def side_inputs(media: VisionPlan, prefix: str, seams: Seams) -> dict[str, torch.Tensor]:
    """Return the vision tower's extra arguments, with ``prefix`` before each name."""
    arrays: dict[str, Any] = {"position_ids": media.position_ids, "cu_seqlens": media.cu_seqlens}
    if seams.taps == "interp":
        arrays |= {"interp_indices": media.interp_indices, "interp_weights": media.interp_weights}
    elif seams.taps == "bilinear":
        arrays |= _bilinear(media)
    if media.window_index is not None:
        arrays |= {"window_index": media.window_index, "cu_window_seqlens": media.cu_window_seqlens}
    return {f"{prefix}{name}": torch.as_tensor(array) for name, array in arrays.items()}


def side_names(spec: ModelSpec, seams: Seams) -> list[str]:
    """Return the names of the vision tower's extra arguments, as `side_inputs` gives them."""
    names = ["position_ids", "cu_seqlens"]
    if seams.taps is not None:
        names += [f"{seams.taps}_indices", f"{seams.taps}_weights"]
    if spec.window_size is not None:
        names += ["window_index", "cu_window_seqlens"]
    return names


def _bilinear(media: VisionPlan) -> dict[str, torch.Tensor]:
    """Return the taps as releases before 5.15 compute them, which differ in the last bits."""
    from transformers import vision_utils

    assert media.spec.table is not None
    taps = vision_utils.get_vision_bilinear_indices_and_weights(
        torch.as_tensor(media.grids), media.spec.table.side, media.spec.vision.merge_size
    )
    rows = torch.as_tensor(media.patch_indices)
    return {name: tap[:, rows] for name, tap in zip(("bilinear_indices", "bilinear_weights"), taps, strict=True)}


def vision_tower(model: Any) -> tuple[Any, Any]:
    """Return the module that encodes images, and its vision tower.

    The model may be wrapped, as adapters and parallel training do.
    """
    for module in model.modules():
        for name in _TOWER_NAMES:
            tower = module._modules.get(name)
            if tower is not None and hasattr(module, "get_image_features"):
                return module, tower
    raise PixelPruneError(f"the model, a {type(model).__name__}, has no vision tower; expected a vision-language model")


def _model_class(module: ModuleType) -> Any:
    """Return the model class without the head, which encodes images and computes positions."""
    for value in vars(module).values():
        if inspect.isclass(value) and value.__module__ == module.__name__ and "get_image_features" in vars(value):
            return value
    raise PixelPruneError(f"{module.__name__} has no class with get_image_features; expected a vision-language model")


def _require(condition: bool, spec: ModelSpec, what: str) -> None:
    if not condition:
        refuse(spec.model_type, f"its code is not as expected: {what}")


class _Reached(Exception):
    """Raised by a stub of a vision tower; holds the keyword arguments that it received."""


def _try_kwargs(spec: ModelSpec, module: ModuleType, model_class: Any) -> Seams:
    """Check that arguments of the model reach the tower, and that the tower uses them."""
    from transformers import vision_utils

    grid = torch.tensor([[1, 2, 2]])
    helpers: list[tuple[str, tuple[str, ...], tuple[Any, ...]]] = [
        ("get_vision_position_ids", ("position_ids",), (grid, 2)),
    ]
    attention = "get_vision_attention_seqlens"
    if not hasattr(vision_utils, attention):
        helpers.append(("get_vision_cu_seqlens", ("cu_seqlens",), (grid,)))
    if spec.window_size is not None:
        helpers.append(("get_vision_window_index", ("window_index", "cu_window_seqlens"), (grid, 2, 112, 14)))
    taps: Literal["interp", "bilinear"] | None = None
    if spec.table is not None:
        if hasattr(vision_utils, "get_vision_interpolation_indices_and_weights"):
            taps = "interp"
            helpers.append(
                (
                    "get_vision_interpolation_indices_and_weights",
                    ("interp_indices", "interp_weights"),
                    (grid, 4),
                )
            )
        else:
            taps = "bilinear"
            helpers.append(
                (
                    "get_vision_bilinear_indices_and_weights",
                    ("bilinear_indices", "bilinear_weights"),
                    (grid, 4, 2),
                )
            )
    for name, keys, arguments in helpers:
        helper = getattr(vision_utils, name, None)
        _require(helper is not None and hasattr(module, name), spec, f"its vision tower does not use {name}")
        given = {key: torch.zeros(1) for key in keys}
        answer = helper(*arguments, kwargs=dict(given))  # type: ignore[misc]
        answer = answer if isinstance(answer, tuple) else (answer,)
        taken = len(answer) == len(keys) and all(a is g for a, g in zip(answer, given.values(), strict=True))
        _require(taken, spec, f"{name} does not take {' and '.join(keys)}")
    if hasattr(vision_utils, attention):
        _require(hasattr(module, attention), spec, f"its vision tower does not use {attention}")
        config = SimpleNamespace(_attn_implementation="eager")
        given = {"cu_seqlens": torch.tensor([0, 4], dtype=torch.int32)}
        answer = getattr(vision_utils, attention)(grid, config, kwargs=dict(given))
        _require(answer[0] is given["cu_seqlens"], spec, f"{attention} does not take cu_seqlens")
    _try_prefix(spec, model_class)
    parameters = inspect.signature(model_class.forward).parameters
    return Seams("kwargs", taps, "mm_encoder_outputs" in parameters)


def _try_prefix(spec: ModelSpec, model_class: Any) -> None:
    """Check that ``image_position_ids`` given to the model arrives as ``position_ids`` at the tower."""

    class Tower:
        dtype = torch.float32
        spatial_merge_size = 2

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            raise _Reached(kwargs)

    mark = torch.zeros(1)
    stub = SimpleNamespace(
        **{name: Tower() for name in _TOWER_NAMES}, config=SimpleNamespace(return_dict=True, use_return_dict=True)
    )
    arguments = {"image_position_ids": mark}
    if "image_merge_sizes" in inspect.signature(model_class.get_image_features).parameters:
        arguments["image_merge_sizes"] = torch.tensor([1])
    received: dict[str, Any] = {}
    try:
        model_class.get_image_features(stub, torch.zeros(4, 4), torch.tensor([[1, 2, 2]]), **arguments)
    except _Reached as reached:
        received = reached.args[0]
    _require(received.get("position_ids") is mark, spec, "get_image_features does not forward image_position_ids")


def _match_table(spec: ModelSpec, module: ModuleType) -> ModelSpec:
    """Return the spec with ``align_corners`` as in the model's own tower."""
    assert spec.table is not None
    found = {
        (getattr(part, "interpolation_mode", None), getattr(part, "interpolation_align_corners", None))
        for part in _tower_parts(spec, module)
    } - {(None, None)}
    known = found in ({("bilinear", True)}, {("bilinear", False)})
    _require(known, spec, f"its position table is interpolated by {found or 'means unknown'}, not bilinearly")
    [(_, corners)] = found
    return replace(spec, table=replace(spec.table, align_corners=bool(corners)))


def _tower_parts(spec: ModelSpec, module: ModuleType) -> list[torch.nn.Module]:
    """Return all modules of a vision tower of one layer, without weights."""
    try:
        config_class = _model_class(module).config_class.sub_configs["vision_config"]
        config = config_class()
        for name in ("depth", "num_hidden_layers"):
            if hasattr(config, name):
                setattr(config, name, 1)
        classes: list[Any] = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and value.__module__ == module.__name__ and hasattr(value, "config_class")
        ]
        with torch.device("meta"):
            towers = [value(config) for value in classes if value.config_class is config_class]
    except Exception as error:
        _require(False, spec, f"its vision tower can't be made from its config ({type(error).__name__}: {error})")
        raise
    return [part for tower in towers for part in tower.modules()]


def _match_positions(spec: ModelSpec, model_class: Any) -> ModelSpec:
    """Return the spec with the rules for videos that reproduce the model's own positions.

    Where they are reproduced for images only, the spec takes no videos.
    """
    try:
        return _match_example(spec, model_class)
    except PixelPruneError as error:
        reason = error
    if spec.takes_videos:
        with suppress(PixelPruneError):
            return _match_example(replace(spec, video_token_id=None, video_span=None), model_class)
    refuse(spec.model_type, f"its code is not as expected: {reason}", can_be_allowed=True)
    return spec


def _match_example(spec: ModelSpec, model_class: Any) -> ModelSpec:
    """Return the spec with the rules that reproduce the model's own positions of an example."""
    plan, prompt, kinds = _example(spec)
    theirs, _ = _stock_positions(spec, model_class, plan, prompt, kinds)
    for past_time in (False, True):
        for whole in (False, True):
            rules = replace(spec, advance_past_time=past_time, whole_seconds=whole)
            seconds = [1.5] * len(plan.videos)
            ours = make_plan(rules, plan.images.grids, video_grid_thw=plan.videos.grids).positions(
                prompt, second_per_grid=seconds
            )
            if np.array_equal(ours.position_ids[1:], theirs):
                return rules
    raise PixelPruneError("get_rope_index gives other positions")


def _match_deltas(spec: ModelSpec, seams: Seams, model_class: Any) -> Seams:
    """Return the seams with what the model's own code does about padding and kinds of tokens."""
    seams = replace(seams, kinds="mm_token_type_ids" in inspect.signature(model_class.get_rope_index).parameters)
    plan, prompt, kinds = _example(spec)
    padded = [np.concatenate([np.zeros((1, 1), np.int64), part], axis=1) for part in (prompt, kinds)]
    padded[0][0, 0] = _text_id(spec)
    try:
        _, whole = _stock_positions(spec, model_class, plan, prompt, kinds)
        _, with_padding = _stock_positions(spec, model_class, plan, padded[0], padded[1], padding=1)
        if with_padding not in (whole, whole - 1):
            raise PixelPruneError("get_rope_index gives other deltas for padded prompts")
    except PixelPruneError as error:
        refuse(spec.model_type, f"its code is not as expected: {error}", can_be_allowed=True)
        return replace(seams, deltas_count_padding=VERSION < (5, 4))
    return replace(seams, deltas_count_padding=with_padding != whole)


def _example(spec: ModelSpec) -> tuple[Plan, NDArray[np.int64], NDArray[np.int64]]:
    """Return an example with text, two images, and a video if the model takes videos.

    A plan, the prompt (1, length), and 0, 1 or 2 per token for text, image or video."""
    merge = spec.vision.merge_size
    images = [[1, 2 * merge, 3 * merge], [1, 4 * merge, 1 * merge]]
    videos = [[3, 2 * merge, 2 * merge]] if spec.takes_videos else []
    plan = make_plan(spec, images, video_grid_thw=videos)
    text = _text_id(spec)
    around = spec.video_span or (text, text)
    prompt, kinds = [text], [0]
    for grid in images:
        prompt += [text + 1, *[spec.image_token_id] * (grid[1] * grid[2] // merge**2), text]
        kinds += [0, *[1] * (grid[1] * grid[2] // merge**2), 0]
    token = spec.image_token_id if spec.video_token_id is None else spec.video_token_id
    for t, h, w in videos:
        runs, each = (t, h * w // merge**2) if spec.frames_apart else (1, t * h * w // merge**2)
        prompt += [around[0], *[text + 1, *[token] * each, text] * runs, around[1]]
        kinds += [0, *[0, *[2] * each, 0] * runs, 0]
    return plan, np.array([[*prompt, text, text]]), np.array([[*kinds, 0, 0]])


def _text_id(spec: ModelSpec) -> int:
    """Return the first of two ids without a meaning to the model; the example starts images with the second."""
    return max(spec.image_token_id, spec.video_token_id or 0, *(spec.video_span or (0,))) + 1


def _stock_positions(
    spec: ModelSpec,
    model_class: Any,
    plan: Plan,
    prompt: NDArray[np.int64],
    kinds: NDArray[np.int64],
    padding: int = 0,
) -> tuple[NDArray[Any], int]:
    """Return the positions (3, 1, length) of the whole prompt and its delta, by the model's own code.

    The first ``padding`` tokens of the prompt are padding.
    """
    vision = SimpleNamespace(
        spatial_merge_size=spec.vision.merge_size,
        temporal_patch_size=spec.vision.temporal_patch_size,
        temporal_merge_size=1,  # for videos, but read for images too
        tokens_per_second=int(spec.tokens_per_second) if spec.tokens_per_second else None,
    )
    config = SimpleNamespace(
        vision_config=vision,
        image_token_id=spec.image_token_id,
        video_token_id=spec.video_token_id,
        vision_start_token_id=_text_id(spec) + 1,
    )
    stub = SimpleNamespace(config=config)
    if hasattr(model_class, "get_vision_position_ids"):
        stub.get_vision_position_ids = MethodType(model_class.get_vision_position_ids, stub)
    arguments: dict[str, Any] = {
        "image_grid_thw": torch.as_tensor(plan.images.grids),
        "video_grid_thw": torch.as_tensor(plan.videos.grids) if len(plan.videos) else None,
        "attention_mask": (torch.arange(prompt.shape[1]) >= padding).long()[None],
    }
    names = inspect.signature(model_class.get_rope_index).parameters
    if "mm_token_type_ids" in names:
        arguments["mm_token_type_ids"] = torch.as_tensor(kinds)
    if "second_per_grid_ts" in names and len(plan.videos):
        arguments["second_per_grid_ts"] = [1.5] * len(plan.videos)
    try:
        positions, deltas = model_class.get_rope_index(stub, torch.as_tensor(prompt), **arguments)
    except Exception as error:
        raise PixelPruneError(f"get_rope_index fails on an example ({type(error).__name__}: {error})") from error
    return np.asarray(positions), int(deltas)
