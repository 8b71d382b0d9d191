"""The tiny model: stock `Qwen3VLForConditionalGeneration`, started so that it learns within minutes."""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from .pages import MERGE, NUMBERS, PATCH, WORDS
from .questions import COLUMN_NAMES, IDS, IMAGE, PAD, PLACES, ROW_NAMES, START, STOP, VIDEO, VOCABULARY

VISION, LANGUAGE = 96, 128
GAIN = 0.5  # of what attention copies at the start
EMBEDDING = 0.1  # the standard deviation of an embedding at the start
SIDE = 24  # the position table has SIDE x SIDE places, more than a page has in a row or column


def make_model(seed: int) -> Any:
    """A model with fresh weights, float32, attention by sdpa."""
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": LANGUAGE,
            "intermediate_size": 320,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "initializer_range": 0.05,
            "pad_token_id": PAD,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "hidden_size": VISION,
            "intermediate_size": 256,
            "out_hidden_size": LANGUAGE,
            "depth": 3,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "num_position_embeddings": SIDE**2,
            "deepstack_visual_indexes": [1],
            "initializer_range": 0.05,
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=STOP,
        tie_word_embeddings=True,
    )
    config._attn_implementation = "sdpa"
    model = Qwen3VLForConditionalGeneration(config).float()
    with torch.no_grad():
        start_patches(model.model.visual)
        start_names(model.get_input_embeddings().weight)
        start_matching(model.model)
    return as_product(model)


def start_patches(tower: Any) -> None:
    """Patch filters that give zero for one colour and stay as they are; places as sines and cosines.

    Filters that learn lose their mean of zero, so that blank paper outweighs every letter: with them the model has not
    learned letters after several hundred steps.
    """
    filters = tower.patch_embed.proj.weight
    filters -= filters.mean(dim=(1, 2, 3, 4), keepdim=True)
    filters *= 2
    filters.requires_grad_(False)
    tower.pos_embed.weight.copy_(waves(SIDE, VISION))


def start_names(embeddings: Tensor) -> None:
    """Words and numbers as the sum of their signs, places as the sum of a row and a column."""
    embeddings.normal_(0, EMBEDDING)
    for names in (WORDS, NUMBERS):
        size = round(len(names) ** 0.5)
        parts = torch.randn(2, size, LANGUAGE) * EMBEDDING / 2**0.5
        embeddings[_ids(names)] = (parts[0][:, None] + parts[1][None]).flatten(0, 1)
    rows, columns = embeddings[_ids(ROW_NAMES)], embeddings[_ids(COLUMN_NAMES)]
    embeddings[_ids(PLACES)] = (rows[:, None] + columns[None]).flatten(0, 1)


def _ids(names: Iterable[str]) -> Tensor:
    return torch.tensor([IDS[name] for name in names])


def start_matching(model: Any) -> None:
    """Attention that starts by looking for its like and copying what it finds, in the language model."""
    for layer in model.language_model.layers:
        attention = layer.self_attn
        seek, copy = (nn.init.orthogonal_(torch.empty(LANGUAGE, LANGUAGE)) for _ in range(2))
        attention.q_proj.weight.copy_(seek)
        attention.k_proj.weight.copy_(seek)
        attention.v_proj.weight.copy_(GAIN * copy)
        attention.o_proj.weight.copy_(GAIN * copy.T)


def as_product(model: Any) -> Any:
    """Compute the patch embedding as a matrix product: the same values, and several times as fast on a CPU."""

    def product(self: Any, patches: Tensor) -> Tensor:
        return nn.functional.linear(patches.view(len(patches), -1), self.proj.weight.flatten(1), self.proj.bias)

    embedding = model.model.visual.patch_embed
    embedding.forward = MethodType(product, embedding)
    return model


def waves(side: int, width: int) -> Tensor:
    """Sine and cosine of row and column at falling frequencies: float32 (side * side, width)."""
    speeds = torch.pi / 2 ** torch.linspace(0, 5, width // 4)
    angles = torch.arange(side, dtype=torch.float32)[:, None] * speeds
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis.repeat_interleave(side, dim=0), axis.repeat(side, 1)
    return 0.5 * torch.cat([rows, columns], dim=1)
