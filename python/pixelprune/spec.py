"""What a model's image processor does to a picture, as far as pruning has to know it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import PixelPruneError

PatchOrder = Literal["block", "raster"]
PatchLayout = Literal["ctpp", "cpp", "ppc"]
ResizeRule = Literal["qwen"]

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)

MAX_SIDE = 1 << 31
MAX_ASPECT_RATIO = 200
"""The processors refuse pictures that are more than this many times longer than wide (or wider than long)."""


@dataclass(frozen=True, kw_only=True)
class VisionSpec:
    """The geometry and value range of one model family's image input.

    Attributes:
        patch_size: side of a patch (one ViT input) in pixels.
        merge_size: a token is ``merge_size`` x ``merge_size`` patches.
        temporal_patch_size: frames in one patch; a still image is repeated that many times.
        patch_order: order of the rows of ``pixel_values``: ``"block"`` (the patches of a token side by
            side, tokens row-major; the Qwen family) or ``"raster"`` (all patches row-major).
        patch_layout: order of the values of one row: ``"ctpp"`` (channel, frame, y, x), ``"cpp"``
            (channel, y, x; one frame) or ``"ppc"`` (y, x, channel; one frame).
        min_pixels: pictures with fewer pixels are scaled up to it.
        max_pixels: pictures with more pixels are scaled down to it.
        resize_rule: how the size is chosen; ``"qwen"`` is the rule of Qwen2-VL's processor.
        mean: per-channel mean that the processor subtracts, in [0, 1].
        std: per-channel deviation that the processor divides by, in [0, 1].

    Raises:
        PixelPruneError: a value is out of its range.

    Example:
        >>> import pixelprune as pp
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> spec.patch_size, spec.merge_size, spec.token_size
        (16, 2, 32)
    """

    patch_size: int
    merge_size: int
    temporal_patch_size: int = 2
    patch_order: PatchOrder = "block"
    patch_layout: PatchLayout = "ctpp"
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    resize_rule: ResizeRule = "qwen"
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF

    def __post_init__(self) -> None:
        for name, top in (
            ("patch_size", 1024),
            ("merge_size", 64),
            ("temporal_patch_size", 1024),
            ("min_pixels", 1 << 40),
            ("max_pixels", 1 << 40),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= top:
                raise PixelPruneError(f"{name} is {value!r}; expected an integer from 1 to {top}")
        for name, allowed in (
            ("patch_order", ("block", "raster")),
            ("patch_layout", ("ctpp", "cpp", "ppc")),
            ("resize_rule", ("qwen",)),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise PixelPruneError(f"{name} is {value!r}; expected one of {', '.join(map(repr, allowed))}")
        if self.patch_layout != "ctpp" and self.temporal_patch_size != 1:
            raise PixelPruneError(
                f"patch_layout {self.patch_layout!r} holds one frame, "
                f"but temporal_patch_size is {self.temporal_patch_size}; expected 1"
            )
        if self.min_pixels > self.max_pixels:
            raise PixelPruneError(
                f"min_pixels is {self.min_pixels}, above max_pixels {self.max_pixels}; expected at most that"
            )
        for name in ("mean", "std"):
            value = getattr(self, name)
            try:
                value = tuple(float(v) for v in value)
            except (TypeError, ValueError, OverflowError):
                raise PixelPruneError(f"{name} is {value!r}; expected one number per channel") from None
            if not value or not all(map(math.isfinite, value)) or (name == "std" and min(value) <= 0):
                raise PixelPruneError(f"{name} is {value!r}; expected one finite number per channel, std above 0")
            object.__setattr__(self, name, value)
        if len(self.mean) != len(self.std):
            raise PixelPruneError(f"mean has {len(self.mean)} channels, std has {len(self.std)}; expected the same")

    @property
    def token_size(self) -> int:
        """Side of a token in pixels: ``patch_size * merge_size``."""
        return self.patch_size * self.merge_size

    @staticmethod
    def preset(name: str) -> VisionSpec:
        """Return the spec of a model family, as the family's published processor configs have it.

        Args:
            name: one of `pixelprune.PRESETS`, for example ``"qwen3_vl"``.

        Raises:
            PixelPruneError: there is no such preset; the message lists those there are.

        Example:
            >>> import pixelprune as pp
            >>> pp.VisionSpec.preset("qwen2_5_vl").token_size
            28
        """
        try:
            return PRESETS[name]
        except (KeyError, TypeError):
            raise PixelPruneError(f"no preset {name!r}; expected one of {', '.join(PRESETS)}") from None

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | os.PathLike[str] | object) -> VisionSpec:
        """Read the spec from a model's own processor config.

        Args:
            config: the dict of a ``preprocessor_config.json`` (or ``processor_config.json``), the path of
                that file or of the folder that holds it, or a processor object (an image processor, or a
                processor that has one). No framework is imported for any of them.

        Raises:
            PixelPruneError: the config is of a processor that is not supported, or lacks a needed value.
            TypeError: ``config`` is none of the above.
            OSError: the file can't be read.

        Example:
            >>> import pixelprune as pp
            >>> spec = pp.VisionSpec.from_config({
            ...     "image_processor_type": "Qwen2VLImageProcessor",
            ...     "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2,
            ...     "size": {"shortest_edge": 65536, "longest_edge": 16777216},
            ...     "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            ... })
            >>> spec == pp.VisionSpec.preset("qwen3_vl")
            True
        """
        data = _config_dict(config)
        kind = _processor_kind(data)
        try:
            order, layout, default_temporal = _PROCESSORS[kind]
        except KeyError:
            raise PixelPruneError(
                f"the config is of {kind!r}, which is not supported; expected one of {', '.join(_PROCESSORS)}"
            ) from None
        _refuse_switched_off(data)
        size = data.get("size")
        size = size if isinstance(size, Mapping) else {}
        values: dict[str, Any] = {
            "patch_size": data.get("patch_size"),
            "merge_size": data.get("merge_size", data.get("spatial_merge_size")),
            "temporal_patch_size": data.get("temporal_patch_size", default_temporal),
            # The older pair of keys wins over size, as it does in the processors.
            "min_pixels": _first(data.get("min_pixels"), size.get("shortest_edge")),
            "max_pixels": _first(data.get("max_pixels"), size.get("longest_edge")),
            "mean": data.get("image_mean"),
            "std": data.get("image_std"),
        }
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise PixelPruneError(f"the config of {kind!r} has no {', '.join(missing)}")
        return cls(patch_order=order, patch_layout=layout, **values)


PRESETS: dict[str, VisionSpec] = {
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_5_vl"),
        VisionSpec(
            patch_size=14,
            merge_size=2,
            min_pixels=56 * 56,
            max_pixels=28 * 28 * 16384,
            mean=_CLIP_MEAN,
            std=_CLIP_STD,
        ),
    ),
    **dict.fromkeys(
        ("qwen3_vl", "qwen3_5"),
        VisionSpec(patch_size=16, merge_size=2, min_pixels=65536, max_pixels=16777216),
    ),
}
"""The presets by name. The pixel limits are those of the families' published configs, not class defaults."""

_PROCESSORS: dict[str, tuple[PatchOrder, PatchLayout, int | None]] = {
    "Qwen2VLImageProcessor": ("block", "ctpp", None),
    "CohereCompassImageProcessor": ("block", "ctpp", None),
    "Ernie4_5_VLMoeImageProcessor": ("block", "ctpp", None),
    "Ernie4_5_VL_MoeImageProcessor": ("block", "ctpp", None),  # its former name
    "HunYuanVLImageProcessor": ("raster", "ctpp", None),
    "MiniMaxM3VLImageProcessor": ("block", "ctpp", None),
    "VideoLlama3ImageProcessor": ("block", "ctpp", None),
}
"""Image processors whose resizing is smart_resize: patch order, patch layout, default temporal_patch_size."""


def smart_resize(height: int, width: int, spec: VisionSpec | str) -> tuple[int, int]:
    """Return the size that the model's processor resizes a picture to.

    Each side goes to the nearest multiple of the token side (half to even); then both are scaled so that
    the area lies between ``spec.min_pixels`` and ``spec.max_pixels``. This is the rule of Qwen2-VL's
    image processor.

    Args:
        height: pixels, at least 1.
        width: pixels, at least 1.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        ``(height, width)``, both multiples of ``spec.token_size``.

    Raises:
        PixelPruneError: a side is below 1 or above 2**31, or more than 200 times the other.
        TypeError: a side is not an integer.

    Example:
        >>> import pixelprune as pp
        >>> pp.smart_resize(1080, 1920, "qwen3_vl")
        (1088, 1920)
    """
    spec = as_spec(spec)
    for name, side in (("height", height), ("width", width)):
        try:
            value = side.__index__()
        except AttributeError:
            raise TypeError(f"{name} is {side!r}; expected an integer number of pixels") from None
        if value < 1:
            raise PixelPruneError(f"{name} is {value}; expected at least 1 pixel")
    height, width = int(height), int(width)
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise PixelPruneError(
            f"the picture is {height} x {width} (height x width), an aspect ratio of about "
            f"{max(height, width) // min(height, width)}; expected at most {MAX_ASPECT_RATIO}"
        )
    if max(height, width) > MAX_SIDE:
        raise PixelPruneError(
            f"the picture is {height} x {width} (height x width); expected at most {MAX_SIDE} pixels a side"
        )
    factor = spec.token_size
    rows, cols = round(height / factor), round(width / factor)
    if rows * cols * factor * factor > spec.max_pixels:
        scale = math.sqrt((height * width) / spec.max_pixels)
        rows = max(1, math.floor(height / scale / factor))
        cols = max(1, math.floor(width / scale / factor))
    elif rows * cols * factor * factor < spec.min_pixels:
        scale = math.sqrt(spec.min_pixels / (height * width))
        rows = math.ceil(height * scale / factor)
        cols = math.ceil(width * scale / factor)
    return max(1, rows) * factor, max(1, cols) * factor


def as_spec(spec: VisionSpec | str) -> VisionSpec:
    """Return ``spec`` itself, or the preset of that name."""
    if isinstance(spec, VisionSpec):
        return spec
    if isinstance(spec, str):
        return VisionSpec.preset(spec)
    raise TypeError(f"spec is a {type(spec).__name__}; expected a VisionSpec or the name of a preset")


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _config_dict(config: Any) -> Mapping[str, Any]:
    """The image processor's own dict, wherever it is kept."""
    if isinstance(config, (str, os.PathLike)):
        config = _read_config(Path(config))
    elif not isinstance(config, Mapping):
        processor = getattr(config, "image_processor", None) or config
        to_dict = getattr(processor, "to_dict", None)
        if to_dict is None:
            raise TypeError(
                f"config is a {type(config).__name__}; expected a dict, the path of a JSON file, or a processor"
            )
        config = dict(to_dict())
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
            raise PixelPruneError(f"{path} has no preprocessor_config.json and no processor_config.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PixelPruneError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, Mapping):
        raise PixelPruneError(f"{path} holds a {type(data).__name__}; expected a JSON object")
    return data


def _processor_kind(data: Mapping[str, Any]) -> str:
    kind = data.get("image_processor_type") or data.get("feature_extractor_type")
    if not isinstance(kind, str):
        raise PixelPruneError("the config has no image_processor_type; expected a processor's config")
    # Variants of one processor differ in speed or backend only.
    for suffix in ("Fast", "Pil"):
        kind = kind.removesuffix(suffix)
    return kind


def _refuse_switched_off(data: Mapping[str, Any]) -> None:
    """A processor that skips a step makes other pixels than the spec says: better none than a wrong one."""
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if data.get(name) is False:
            raise PixelPruneError(f"the config has {name} = false, which a VisionSpec can't express; expected true")
