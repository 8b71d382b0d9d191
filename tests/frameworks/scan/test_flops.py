"""The counted FLOPs of the report, against those that torch counts while a model runs."""

from __future__ import annotations

from typing import Any

import pytest
from pixelprune import VisionSpec
from pixelprune.scan.report.flops import prefill_flops, vision_flops
from pixelprune.scan.report.models import model_for

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

pytestmark = pytest.mark.frameworks

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "bos_token_id": None,
    "eos_token_id": None,
}
VISION = {"depth": 4, "hidden_size": 64, "intermediate_size": 80, "num_heads": 4, "out_hidden_size": 64}
SIDE = 8  # tokens: whole windows of Qwen2.5-VL, so that its bound is exact


def made(family: str) -> Any:
    """A tiny model with attention that torch counts."""
    if family == "qwen3_vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}
        config = transformers.Qwen3VLConfig(
            text_config={**TEXT, "head_dim": 32, "rope_parameters": rope, "rope_scaling": rope},
            vision_config={**VISION, "patch_size": 16, "deepstack_visual_indexes": [1, 2]},
        )
        kind = transformers.Qwen3VLForConditionalGeneration
    else:
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
        config = transformers.Qwen2_5_VLConfig(
            text_config={**TEXT, "rope_parameters": rope, "rope_scaling": rope},
            vision_config={**VISION, "patch_size": 14, "fullatt_block_indexes": [3], "window_size": 112},
        )
        kind = transformers.Qwen2_5_VLForConditionalGeneration
    return kind._from_config(config, attn_implementation="eager").eval()


def counted(run: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_flops_are_those_that_torch_counts(family: str, tmp_path: Any) -> None:
    model = made(family)
    model.config.save_pretrained(tmp_path)
    sizes = model_for(tmp_path, VisionSpec.preset(family))
    assert sizes is not None
    vision = model.config.vision_config
    grid = torch.tensor([[1, 2 * SIDE, 2 * SIDE]])
    patches = torch.zeros(4 * SIDE * SIDE, 3 * vision.temporal_patch_size * vision.patch_size**2)
    tokens = SIDE * SIDE
    assert counted(lambda: model.model.visual(patches, grid_thw=grid)) == vision_flops(sizes, tokens)

    text = sizes.language
    embeds = torch.zeros(1, tokens, text.width)
    found = counted(lambda: model.model.language_model(inputs_embeds=embeds, use_cache=False))
    # This attention computes all pairs of tokens and masks one half.
    masked = 2 * tokens * (tokens - 1) * text.heads * text.head * text.depth
    assert found - masked == prefill_flops(sizes, tokens)
