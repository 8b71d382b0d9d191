"""The models whose FLOPs the report counts: presets, and checkpoints by their ``config.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...arguments import escaped, shown, text_of
from ...errors import PixelPruneError
from ...spec import VisionSpec
from .flops import Language, Model, Vision


def _qwen3(name: str, vision: tuple[int, int, int], language: Language) -> Model:
    depth, width, mlp = vision
    return Model(name, Vision(depth, width, mlp, False, 16, 2, 2, 4, 0, depth), language)


def _qwen2_5(name: str, language: Language) -> Model:
    return Model(name, Vision(32, 1280, 3420, True, 14, 2, 2, 1, 64, 4), language)


PRESETS = {
    "qwen3_vl_2b": _qwen3("Qwen3-VL-2B", (24, 1024, 4096), Language(28, 2048, 6144, 16, 8, 128)),
    "qwen3_vl_4b": _qwen3("Qwen3-VL-4B", (24, 1024, 4096), Language(36, 2560, 9728, 32, 8, 128)),
    "qwen3_vl_8b": _qwen3("Qwen3-VL-8B", (27, 1152, 4304), Language(36, 4096, 12288, 32, 8, 128)),
    "qwen2_5_vl_3b": _qwen2_5("Qwen2.5-VL-3B", Language(36, 2048, 11008, 16, 2, 128)),
    "qwen2_5_vl_7b": _qwen2_5("Qwen2.5-VL-7B", Language(28, 3584, 18944, 28, 4, 128)),
}
"""The models by name, with the sizes of their published configs."""

_SUPPORTED = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")


def model_for(model: str | os.PathLike[str] | None, spec: VisionSpec) -> Model | None:
    """Return the model whose FLOPs are counted; it must see images as ``spec`` does.

    Args:
        model: a name of `PRESETS`, the folder of a checkpoint, or None: the smallest preset with the tokens of
            ``spec``.
        spec: the spec that the images were scanned with.

    Returns:
        The model; None if none was asked for and no preset has the tokens of ``spec``.

    Raises:
        PixelPruneError: an unknown name, a config that can't be used, or a model with other tokens than ``spec``.
        TypeError: ``model`` is neither a name nor a path.
        OSError: the config can't be read.

    Example:
        >>> from pixelprune import VisionSpec
        >>> from pixelprune.scan.report.models import model_for
        >>> model_for(None, VisionSpec.preset("qwen2_5_vl")).name
        'Qwen2.5-VL-3B'
    """
    if model is None:
        return next((known for known in PRESETS.values() if _fits(known, spec)), None)
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model is {shown(model)}; expected a name or the folder of a checkpoint")
    if isinstance(model, str) and model in PRESETS:
        found = PRESETS[model]
    elif Path(model).is_dir():
        found = _of_config(Path(model) / "config.json")
    else:
        raise PixelPruneError(
            f"model is {shown(os.fspath(model))}; expected a folder with a config.json, or one of {', '.join(PRESETS)}"
        )
    if not _fits(found, spec):
        vision = found.vision
        raise PixelPruneError(
            f"{found.name} has patches of {vision.patch_size} pixels and merges {vision.merge_size} x "
            f"{vision.merge_size}; the images were scanned with {spec.patch_size} pixels and {spec.merge_size} x "
            f"{spec.merge_size}; expected the same: scan with the model's spec, or name another model"
        )
    return found


def _fits(model: Model, spec: VisionSpec) -> bool:
    vision = model.vision
    return (vision.patch_size, vision.merge_size) == (spec.patch_size, spec.merge_size)


def _of_config(path: Path) -> Model:
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise PixelPruneError(f"{escaped(str(path))} is not JSON: {text_of(error)}") from None
    if not isinstance(config, Mapping) or config.get("model_type") not in _SUPPORTED:
        kind = config.get("model_type") if isinstance(config, Mapping) else None
        raise PixelPruneError(
            f"{escaped(str(path))} has model_type {shown(kind)}, whose FLOPs are not known; expected one of "
            f"{', '.join(_SUPPORTED)}"
        )
    try:
        return _read(path.resolve().parent.name, config)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PixelPruneError(
            f"{escaped(str(path))} lacks a size or has one that is not a positive integer ({text_of(error)}); "
            f"expected the config of a {config['model_type']} checkpoint"
        ) from None


def _read(name: str, config: Mapping[str, Any]) -> Model:
    vision = config["vision_config"]
    text = config.get("text_config", config)  # older configs of Qwen2.5-VL have the text sizes at the top
    depth, patch = _size(vision, "depth"), _size(vision, "patch_size")
    windows = config["model_type"] == "qwen2_5_vl"
    width, heads = _size(text, "hidden_size"), _size(text, "num_attention_heads")
    mlp = _size(text, "intermediate_size")
    if config["model_type"] == "qwen3_vl_moe":
        mlp = _size(text, "num_experts_per_tok") * _size(text, "moe_intermediate_size")
    return Model(
        name,
        Vision(
            depth,
            _size(vision, "hidden_size"),
            _size(vision, "intermediate_size"),
            windows,
            patch,
            _size(vision, "spatial_merge_size"),
            _size(vision, "temporal_patch_size"),
            1 if windows else 1 + len(vision["deepstack_visual_indexes"]),
            (_size(vision, "window_size") // patch) ** 2 if windows else 0,
            len(vision["fullatt_block_indexes"]) if windows else depth,
        ),
        Language(
            _size(text, "num_hidden_layers"),
            width,
            mlp,
            heads,
            _size(text, "num_key_value_heads"),
            _size(text, "head_dim") if text.get("head_dim") is not None else width // heads,
        ),
    )


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {shown(value)}")
    return value
