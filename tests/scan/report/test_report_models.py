"""The models whose FLOPs are counted: presets, configs, what is refused. Elsewhere torch counts, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pixelprune import PixelPruneError, VisionSpec
from pixelprune.scan.report.flops import prefill_flops, vision_flops
from pixelprune.scan.report.models import PRESETS, model_for

QWEN3 = VisionSpec.preset("qwen3_vl")
QWEN2_5 = VisionSpec.preset("qwen2_5_vl")

# What the published config.json of the models say.
QWEN3_VL_8B: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "text_config": {
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "out_hidden_size": 4096,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}
QWEN2_5_VL_7B: dict[str, Any] = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}


def checkpoint(folder: Path, config: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def changed(config: dict[str, Any], part: str | None, **values: Any) -> dict[str, Any]:
    own = config if part is None else config[part]
    new = {key: value for key, value in {**own, **values}.items() if value is not ...}
    return new if part is None else {**config, part: new}


@pytest.mark.parametrize(
    ("config", "preset", "spec"),
    [(QWEN3_VL_8B, "qwen3_vl_8b", QWEN3), (QWEN2_5_VL_7B, "qwen2_5_vl_7b", QWEN2_5)],
)
def test_config_gives_the_sizes_of_the_preset(config: object, preset: str, spec: VisionSpec, tmp_path: Path) -> None:
    model = model_for(checkpoint(tmp_path / "mine", config), spec)
    assert model == PRESETS[preset]._replace(name="mine")
    assert model_for(preset, spec) == PRESETS[preset]


def test_sizes_of_a_text_config_are_read_where_it_is(tmp_path: Path) -> None:
    text = {key: value for key, value in QWEN2_5_VL_7B.items() if key != "vision_config"}
    new = {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": QWEN2_5_VL_7B["vision_config"]}
    model = model_for(checkpoint(tmp_path / "new", new), QWEN2_5)
    assert model == PRESETS["qwen2_5_vl_7b"]._replace(name="new")


def test_of_a_mixture_the_experts_of_a_token_are_counted(tmp_path: Path) -> None:
    config = changed(QWEN3_VL_8B, "text_config", num_experts_per_tok=8, moe_intermediate_size=768, num_experts=128)
    model = model_for(checkpoint(tmp_path / "moe", {**config, "model_type": "qwen3_vl_moe"}), QWEN3)
    assert model is not None
    assert model.language.mlp == 8 * 768


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "has model_type None"),
        ({"model_type": "llava"}, "has model_type 'llava', whose FLOPs are not known; expected one of qwen2_5_vl"),
        ({"model_type": "qwen3_vl"}, "lacks a size .*vision_config"),
        (changed(QWEN3_VL_8B, "vision_config", depth=...), "lacks a size .*depth"),
        (changed(QWEN3_VL_8B, "vision_config", depth="27"), "lacks a size .*depth is '27'"),
        (changed(QWEN3_VL_8B, "text_config", hidden_size=0), "lacks a size .*hidden_size is 0"),
        (changed(QWEN3_VL_8B, "text_config", hidden_size=True), "lacks a size .*hidden_size is True"),
        (changed(QWEN3_VL_8B, "vision_config", deepstack_visual_indexes=3), "lacks a size"),
        (changed(QWEN3_VL_8B, "vision_config", patch_size=14), "mine has patches of 14 pixels .* expected the same"),
    ],
)
def test_configs_that_are_refused(config: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(PixelPruneError, match=message):
        model_for(checkpoint(tmp_path / "mine", config), QWEN3)


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        model_for(tmp_path, QWEN3)


def test_flops_of_an_image_grow_faster_than_its_tokens() -> None:
    model = PRESETS["qwen3_vl_2b"]
    for count in (vision_flops, prefill_flops):
        one, two, none = count(model, [1000, 2000, 0])
        assert two > 2.05 * one
        assert none == 0
        assert count(model, np.ones((2, 3))).shape == (2, 3)


def test_windows_bound_what_a_patch_attends_to() -> None:
    model = PRESETS["qwen2_5_vl_7b"]
    vision = model.vision
    whole = model._replace(vision=vision._replace(window=0))
    extra = 4 * (vision.depth - vision.whole) * vision.width * (4000 * 4000 - 4000 * 64)
    assert float(vision_flops(whole, 1000) - vision_flops(model, 1000)) == extra
    assert vision_flops(whole, 16) == vision_flops(model, 16)  # one window holds 64 patches
