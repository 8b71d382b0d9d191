"""How model families turn grids into positions: one table row per family, one `ModelSpec` per model."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..arguments import shown
from ..errors import PixelPruneError
from ..spec import PRESETS, VisionSpec

Rope = Literal["mrope", "1d"]
Seam = Literal["flat", "unmarked", "tower"]
TapMode = Literal["bilinear"]


@dataclass(frozen=True, kw_only=True)
class PositionTable:
    """A learned table of ``side`` x ``side`` position embeddings, interpolated over every image.

    Attributes:
        side: rows (and columns) of the table.
        align_corners: the table's corners are at the centres of the corner patches; otherwise at their outer corners.

    Example:
        >>> from pixelprune.plan import PositionTable
        >>> PositionTable(side=48, align_corners=True).side
        48
    """

    side: int
    align_corners: bool


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the models of one ``model_type`` process images. Values that a config may omit are its class's defaults.

    Attributes:
        preset: name of the `VisionSpec` preset.
        image_token_id: placeholder of an image's tokens, unless the config has one.
        video_token_id: placeholder of a video's tokens; None: the model has none.
        video_span: the tokens before and after a video, if its placeholders are those of images; None: videos have
            their own placeholder, or the model takes no videos.
        rope: positions of the language model: ``"mrope"`` (time, row, column) or ``"1d"``.
        seam: ``"flat"``: the model runs on flat grids and given positions; ``"unmarked"``: the same, but what comes
            before or after its vision tower needs legal grids (`VisionPlan.unmarked_grids`); ``"tower"``: its vision
            tower needs the original grids, so it has to be called inside `pixelprune.hf.vision_positions`.
        frames_apart: there is text (a timestamp) between the frames of a video.
        recurrent: some layers of the language model are recurrent.
        table: the vision config's key for the size of the learned position table.
        align_corners: see `PositionTable`.
        window_size: pixels of an attention window of the vision tower, unless the config says otherwise.
        tokens_per_second: positions per second of video, unless the config says otherwise.
        patch_size: pixels of a patch, unless the config says otherwise; None: the preset's.
    """

    preset: str
    image_token_id: int
    video_token_id: int | None
    video_span: tuple[int, int] | None = None
    rope: Rope = "mrope"
    seam: Seam = "flat"
    frames_apart: bool = True
    recurrent: bool = False
    table: Literal["num_position_embeddings", "image_size"] | None = None
    align_corners: bool = True
    window_size: int | None = None
    tokens_per_second: float | None = None
    patch_size: int | None = None


_QWEN3 = Family(preset="qwen3_vl", image_token_id=151655, video_token_id=151656, table="num_position_embeddings")
_QWEN3_5 = replace(_QWEN3, preset="qwen3_5", image_token_id=248056, video_token_id=248057, recurrent=True)
_GLM = Family(preset="glm4v", image_token_id=151343, video_token_id=None, video_span=(151341, 151342), seam="tower")

FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(preset="qwen2_vl", image_token_id=151655, video_token_id=151656, frames_apart=False),
    "qwen2_5_vl": Family(
        preset="qwen2_5_vl",
        image_token_id=151655,
        video_token_id=151656,
        frames_apart=False,
        window_size=112,
        tokens_per_second=4,
    ),
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "cosmos3_omni": _QWEN3,
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "glm4v": _GLM,
    "glm4v_moe": replace(_GLM, image_token_id=151363),
    "glm46v": replace(_GLM, video_span=(151361, 151362)),
    "glm_ocr": replace(_GLM, preset="glm_ocr", image_token_id=59280, video_span=(59258, 59259), seam="unmarked"),
    "paddleocr_vl": Family(
        preset="paddleocr_vl",
        image_token_id=100295,
        video_token_id=None,
        seam="unmarked",
        table="image_size",
        align_corners=False,
    ),
    "qwen4_exp": _QWEN3_5,
    "cohere_compass": replace(_QWEN3, preset="cohere_compass", image_token_id=255031, video_token_id=255032),
    # Its videos lose every other frame between the tower and the language model.
    "ernie4_5_vl_moe": Family(preset="ernie4_5_vl_moe", image_token_id=100295, video_token_id=None, seam="unmarked"),
    "dots3_note": Family(
        preset="dots3_note", image_token_id=151660, video_token_id=151680, rope="1d", frames_apart=False
    ),
    # Its videos have tokens of another size than its images.
    "video_llama_3": Family(
        preset="video_llama_3", image_token_id=151655, video_token_id=None, rope="1d", seam="unmarked", patch_size=16
    ),
}
"""The supported model types."""

_TABLE_DEFAULTS = {"num_position_embeddings": 2304, "image_size": 384}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """How one model turns images into tokens and positions.

    Attributes:
        model_type: the config's ``model_type``, a key of `FAMILIES`.
        vision: how its processor cuts images into patches. Mean and std are used for thresholds above 0 only.
        image_token_id: the placeholder of an image's tokens in ``input_ids``.
        video_token_id: the placeholder of a video's, if the model has one.
        video_span: see `Family`.
        rope: see `Family`.
        seam: see `Family`.
        frames_apart: see `Family`.
        recurrent: see `Family`.
        table: the learned position table of the vision tower, if it has one.
        window_size: pixels of an attention window of the vision tower, if it has them.
        tokens_per_second: positions per second of video, if the model has them.
        advance_past_time: the text after a video starts after its largest position of time, row or column; otherwise
            after its largest row or column position. Releases of transformers differ.
        sliding_window: size in tokens of the sliding window, if some layers of the language model have one.
        whole_seconds: seconds per frame are truncated to integers. Releases of transformers differ.

    Example:
        >>> from pixelprune.plan import ModelSpec
        >>> spec = ModelSpec.from_config({"model_type": "qwen2_5_vl", "vision_config": {"window_size": 56}})
        >>> spec.window_size, spec.vision.token_size, spec.image_token_id
        (56, 28, 151655)
    """

    model_type: str
    vision: VisionSpec
    image_token_id: int
    video_token_id: int | None = None
    video_span: tuple[int, int] | None = None
    rope: Rope = "mrope"
    seam: Seam = "flat"
    frames_apart: bool = True
    recurrent: bool = False
    table: PositionTable | None = None
    window_size: int | None = None
    tokens_per_second: float | None = None
    sliding_window: int | None = None
    advance_past_time: bool = False
    whole_seconds: bool = False

    def __post_init__(self) -> None:
        if self.window_size is not None and self.window_size < self.vision.token_size:
            raise PixelPruneError(
                f"window_size is {self.window_size} pixels; expected at least one token, {self.vision.token_size}"
            )
        if self.image_token_id == self.video_token_id:
            raise PixelPruneError(
                f"image_token_id and video_token_id are both {self.image_token_id}; expected two different ids"
            )

    @property
    def takes_videos(self) -> bool:
        """Whether the model's videos can be pruned."""
        return self.video_token_id is not None or self.video_span is not None

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any] | str | os.PathLike[str] | object,
        processor: VisionSpec | Mapping[str, Any] | str | os.PathLike[str] | object | None = None,
    ) -> ModelSpec:
        """Read the spec from a model's config.

        Args:
            config: the dict of a ``config.json``, the path of that file or of the folder that holds it, a config
                object, or a model. No framework is imported.
            processor: a `VisionSpec`, or what `VisionSpec.from_config` takes; None: the folder's own, if
                ``config`` is a folder that has one, else the family's preset.

        Raises:
            PixelPruneError: the model's family is not supported (the message lists those that are), or model and
                processor cut images into different patches.
            TypeError: ``config`` is none of the above.
            OSError: the file can't be read.

        Example:
            >>> from pixelprune.plan import ModelSpec
            >>> ModelSpec.from_config({"model_type": "qwen3_vl"}).table
            PositionTable(side=48, align_corners=True)
        """
        if isinstance(config, (str, os.PathLike)):
            path = Path(config)
            if processor is None and path.is_dir() and _has_processor(path):
                processor = path
            config = path / "config.json" if path.is_dir() else path
        values = _config_dict(config)
        model_type = values.get("model_type")
        if not isinstance(model_type, str) or model_type not in FAMILIES:
            raise PixelPruneError(f"model_type is {shown(model_type)}; expected one of {', '.join(FAMILIES)}")
        family = FAMILIES[model_type]
        vision_values = values.get("vision_config") or {}
        if not isinstance(vision_values, Mapping):
            raise PixelPruneError(f"the config has vision_config = {shown(vision_values)}; expected a JSON object")
        preset = PRESETS[family.preset]
        patch = _integer(vision_values, "patch_size", family.patch_size or preset.patch_size)
        merge = _integer(vision_values, "spatial_merge_size", preset.merge_size)
        frames = _integer(vision_values, "temporal_patch_size", preset.temporal_patch_size)
        if processor is None:
            vision = replace(preset, patch_size=patch, merge_size=merge, temporal_patch_size=frames)
        else:
            vision = processor if isinstance(processor, VisionSpec) else VisionSpec.from_config(processor)
            _check_agreement(vision, replace(preset, patch_size=patch, merge_size=merge, temporal_patch_size=frames))
        return cls(
            model_type=model_type,
            vision=vision,
            image_token_id=_integer(values, "image_token_id", family.image_token_id),
            video_token_id=None
            if family.video_token_id is None
            else _integer(values, "video_token_id", family.video_token_id),
            video_span=None
            if family.video_span is None
            else (
                _integer(values, "video_start_token_id", family.video_span[0]),
                _integer(values, "video_end_token_id", family.video_span[1]),
            ),
            rope=family.rope,
            seam=family.seam,
            frames_apart=family.frames_apart,
            recurrent=family.recurrent,
            table=_table(family, vision_values, patch),
            window_size=None
            if family.window_size is None
            else _integer(vision_values, "window_size", family.window_size),
            tokens_per_second=None
            if family.tokens_per_second is None
            else _number(vision_values, "tokens_per_second", family.tokens_per_second),
            sliding_window=_sliding_window(values),
        )


def _config_dict(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Path):
        try:
            config = json.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise PixelPruneError(f"{config} is not JSON: {error}") from None
    elif not isinstance(config, Mapping):
        config = getattr(config, "config", config)  # a model has its config under that name
        to_dict = getattr(config, "to_dict", None)
        if to_dict is None:
            raise TypeError(
                f"config is a {type(config).__name__}; expected a dict, a path, a model or its config, or a ModelSpec"
            )
        config = to_dict()
    if not isinstance(config, Mapping):
        raise PixelPruneError(f"the config holds a {type(config).__name__}; expected a JSON object")
    return config


def _has_processor(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))


def _integer(values: Mapping[str, Any], name: str, default: int) -> int:
    value = values.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise PixelPruneError(f"the config has {name} = {shown(value)}; expected an integer")
    return value


def _number(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name)
    if value is None:
        return float(default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise PixelPruneError(f"the config has {name} = {shown(value)}; expected a number")
    return float(value)


def _sliding_window(values: Mapping[str, Any]) -> int | None:
    """Return the window of the layers that have one, in tokens."""
    text = values.get("text_config")
    text = text if isinstance(text, Mapping) else values
    kinds = text.get("layer_types")
    slides = "sliding_attention" in kinds if isinstance(kinds, (list, tuple)) else text.get("use_sliding_window")
    return (_integer(text, "sliding_window", 0) or None) if slides else None


def _table(family: Family, vision_values: Mapping[str, Any], patch_size: int) -> PositionTable | None:
    if family.table is None:
        return None
    size = _integer(vision_values, family.table, _TABLE_DEFAULTS[family.table])
    side = math.isqrt(max(size, 0)) if family.table == "num_position_embeddings" else size // patch_size
    if side < 1:
        raise PixelPruneError(f"the config has {family.table} = {size}; expected a table of at least one embedding")
    return PositionTable(side=side, align_corners=family.align_corners)


def _check_agreement(vision: VisionSpec, model: VisionSpec) -> None:
    for name in ("patch_size", "merge_size", "temporal_patch_size", "patch_order", "patch_layout"):
        ours, theirs = getattr(vision, name), getattr(model, name)
        if ours != theirs:
            raise PixelPruneError(
                f"the processor has {name} {shown(ours)}, the model {shown(theirs)}; expected this model's processor"
            )
