"""Reading a model's processor config: where it is stored, and what its values mean for a `VisionSpec`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import attribute, escaped, shown, text_of
from ..errors import PixelPruneError
from .names import PatchLayout, PatchOrder, ResizeRule


@dataclass(frozen=True, kw_only=True)
class _Processor:
    """Properties of an image processor that are not in its config."""

    patch_order: PatchOrder = "block"
    patch_layout: PatchLayout = "ctpp"
    flat_patches: bool = True
    resize_rule: ResizeRule = "qwen"
    reads_limits: bool = True
    """Whether it reads min_pixels and max_pixels, which override size. Other processors ignore them."""
    reads_resample: bool = True
    """Whether it reads resample. Other processors are always bicubic."""


_GLM = _Processor(resize_rule="glm", reads_limits=False)

_PROCESSORS: dict[str, _Processor] = {
    "Qwen2VLImageProcessor": _Processor(),
    "CohereCompassImageProcessor": _Processor(),
    "Cosmos3EdgeImageProcessor": _Processor(patch_layout="ppc", resize_rule="glm", reads_limits=False),
    "Ernie4_5_VLMoeImageProcessor": _Processor(reads_limits=False),
    "Ernie4_5_VL_MoeImageProcessor": _Processor(reads_limits=False),  # its old name
    "Glm46VImageProcessor": _GLM,
    "Glm4vImageProcessor": _GLM,
    "GlmImageImageProcessor": _Processor(resize_rule="glm_image"),
    "GlmgaImageProcessor": _GLM,
    "HunYuanVLImageProcessor": _Processor(patch_order="raster", reads_resample=False),
    "MiniMaxM3VLImageProcessor": _Processor(),
    "PaddleOCRVLImageProcessor": _Processor(
        patch_order="raster", patch_layout="cpp", flat_patches=False, resize_rule="paddleocr"
    ),
    "VideoLlama3ImageProcessor": _Processor(),
}
"""The image processors that resize to whole tokens, normalise, cut into patches, and do nothing else."""

_REFUSED = {
    "Glm5NextImageProcessor": "it pads images with black",
    "Kimi_K25ImageProcessor": "it pads images with black",
    "MuseGlimmerImageProcessor": "it resamples with Lanczos windows and has the frame before the channel",
}
"""Processors of packed patches whose images a `VisionSpec` can't describe, and why."""

_MINIMAX_UNUSED_SIZE = [672, 672]
_MINIMAX_LIMITS = {"shortest_edge": 4 * 28 * 28, "longest_edge": 451584}
"""The published config of MiniMax-M3-VL has a size that its processor replaces by these limits."""


def read_settings(config: Any) -> dict[str, Any]:
    """Return the arguments of `VisionSpec` that a processor's config stands for; see `VisionSpec.from_config`."""
    try:
        return _settings_of(_config_dict(config))
    except (PixelPruneError, TypeError, OSError, MemoryError):
        raise
    except Exception as error:  # from methods of the mapping or processor
        raise PixelPruneError(
            f"config is a {type(config).__name__} that can't be read: {text_of(error)}; expected a processor's config"
        ) from None


def _settings_of(data: Mapping[str, Any]) -> dict[str, Any]:
    kind = _processor_kind(data)
    if kind not in _PROCESSORS:
        reason = f": {_REFUSED[kind]}" if kind in _REFUSED else ""
        raise PixelPruneError(
            f"the config is of {shown(kind)}, which is not supported{reason}; expected one of {', '.join(_PROCESSORS)}"
        )
    processor = _PROCESSORS[kind]
    _refuse_other_pixels(data, processor)
    size = data.get("size")
    if kind == "MiniMaxM3VLImageProcessor" and size == _MINIMAX_UNUSED_SIZE:
        size = _MINIMAX_LIMITS
    size = size if isinstance(size, Mapping) else {}
    limits = {name: data.get(name) if processor.reads_limits else None for name in ("min_pixels", "max_pixels")}
    values: dict[str, Any] = {
        "patch_size": data.get("patch_size"),
        "merge_size": _first(data.get("merge_size"), data.get("spatial_merge_size")),
        "temporal_patch_size": data.get("temporal_patch_size"),
        "min_pixels": _first(limits["min_pixels"], size.get("shortest_edge")),
        "max_pixels": _first(limits["max_pixels"], size.get("longest_edge")),
        "mean": data.get("image_mean"),
        "std": data.get("image_std"),
    }
    missing = [name for name, value in values.items() if value is None]
    if missing:
        hint = "" if processor.reads_limits else " (this processor takes the limits from size only)"
        raise PixelPruneError(f"the config of {kind!r} has no {', '.join(missing)}{hint}")
    return {
        **values,
        "patch_order": processor.patch_order,
        "patch_layout": processor.patch_layout,
        "flat_patches": processor.flat_patches,
        "resize_rule": processor.resize_rule,
    }


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _config_dict(config: Any) -> Mapping[str, Any]:
    """Return the dict of the image processor itself, wherever it is stored."""
    if isinstance(config, (str, os.PathLike)):
        config = _read_config(Path(os.fsdecode(config)))
    elif not isinstance(config, Mapping):
        own = attribute(config, "image_processor")
        processor = config if own is None else own
        to_dict = attribute(processor, "to_dict")
        if isinstance(processor, type) or not callable(to_dict):
            raise TypeError(
                f"config is a {type(config).__name__}; expected a dict, the path of a JSON file, or a processor"
            )
        config = to_dict()
        if not isinstance(config, Mapping):
            raise PixelPruneError(f"the processor's to_dict() gives a {type(config).__name__}; expected a dict")
        config = dict(config)
        config["image_processor_type"] = type(processor).__name__
    nested = config.get("image_processor")
    return nested if isinstance(nested, Mapping) else config


def _read_config(path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        for name in ("preprocessor_config.json", "processor_config.json"):
            if (path / name).is_file():
                path = path / name
                break
        else:
            raise PixelPruneError(f"{escaped(str(path))} has no preprocessor_config.json and no processor_config.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PixelPruneError(f"{escaped(str(path))} is not JSON: {text_of(error)}") from None
    if not isinstance(data, Mapping):
        raise PixelPruneError(f"{escaped(str(path))} holds a {type(data).__name__}; expected a JSON object")
    return data


def _processor_kind(data: Mapping[str, Any]) -> str:
    kind = data.get("image_processor_type") or data.get("feature_extractor_type")
    if not isinstance(kind, str):
        raise PixelPruneError("the config has no image_processor_type; expected a processor's config")
    # Variants of one processor differ in speed or backend only.
    for suffix in ("Fast", "Pil"):
        kind = kind.removesuffix(suffix)
    return kind


def _refuse_other_pixels(data: Mapping[str, Any], processor: _Processor) -> None:
    """Raise if a setting changes the pixels in a way that a spec can't express."""
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not data.get(name, True):
            raise PixelPruneError(f"the config has {name} = false, which a VisionSpec can't express; expected true")
    resample = data.get("resample", 3)
    # Pillow's number (its enum compares equal to it), or the name that is the value of torchvision's enum.
    if processor.reads_resample and resample != 3 and getattr(resample, "value", resample) != "bicubic":
        raise PixelPruneError(f"the config has resample = {shown(resample)}; expected 3, which is bicubic")
    for name, only in (("rescale_factor", 1 / 255), ("patch_expand_factor", 1)):
        if data.get(name, only) != only:
            raise PixelPruneError(f"the config has {name} = {shown(data[name])}; expected {only!r}")
