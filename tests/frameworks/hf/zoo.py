"""Tiny randomly initialised models of the real classes, with real processors. Nothing is downloaded.

Every family shares one tokenizer: the 256 bytes and the special tokens of all families.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

torch.set_num_threads(1)

VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:3])

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|image|>",
    "<|video|>",
    "<|IMAGE_START|>",
    "<|IMAGE_END|>",
    "<|IMAGE_PLACEHOLDER|>",
    "<|VISION_START|>",
    "<|VISION_END|>",
    "<|IMAGE_PAD|>",
    "<|VIDEO_PAD|>",
    "<|imgpad|>",
    "<|audio_comp_pad|>",
)
IDS = {token: 256 + i for i, token in enumerate(SPECIAL)}
VOCABULARY = 288
"""The model's; a few rows more than there are tokens, as in the published models."""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content[0].text }}<|im_end|>{% endgeneration %}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}IMAGE{% elif part.type == 'video' %}VIDEO{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

QWEN_IDS = {
    "image_token_id": IDS["<|image_pad|>"],
    "video_token_id": IDS["<|video_pad|>"],
    "vision_start_token_id": IDS["<|vision_start|>"],
    "vision_end_token_id": IDS["<|vision_end|>"],
}
GLM_IDS = {
    "image_token_id": IDS["<|image|>"],
    "video_token_id": IDS["<|video|>"],
    "image_start_token_id": IDS["<|begin_of_image|>"],
    "image_end_token_id": IDS["<|end_of_image|>"],
    "video_start_token_id": IDS["<|begin_of_video|>"],
    "video_end_token_id": IDS["<|end_of_video|>"],
}
PADDLE_IDS = {
    "image_token_id": IDS["<|IMAGE_PLACEHOLDER|>"],
    "video_token_id": IDS["<|video_pad|>"],
    "vision_start_token_id": IDS["<|IMAGE_START|>"],
    "vision_end_token_id": IDS["<|IMAGE_END|>"],
}

INITIAL = {"initializer_range": 0.05}
"""Wider than the models' own, so that a wrong position moves the logits by far more than rounding does."""

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": IDS["<|im_end|>"],
    "pad_token_id": IDS["<|endoftext|>"],
    "rope_theta": 10000.0,
    "rope_scaling": {"rope_type": "default", "type": "default", "mrope_section": [2, 3, 3]},
    **INITIAL,
}
INTERLEAVED = {"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
RECURRENT = {
    "head_dim": 32,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    # A quarter of head_dim turns, so half of that are the frequencies: 4.
    "rope_scaling": {**INTERLEAVED, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.25, "rope_theta": 10000.0},
}
VISION3 = {
    "depth": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 16,
    "out_hidden_size": 64,
    "num_position_embeddings": 36,
    **INITIAL,
}
DEEPSTACK = {"deepstack_visual_indexes": [0, 2]}


@dataclass(frozen=True, eq=False)
class Family:
    """One model class, and what its tests need to know about it.

    ``since`` is the first version of transformers that has it, ``pruned_since`` the first that it can be run pruned
    with. ``image`` and ``video`` are what stands for one of them in a prompt. ``order`` is that of the processor's
    patches, ``recurrent`` says that the language model has layers to which masking is not the same as pruning,
    ``mixes`` that images and videos may share a prompt, ``unused`` are parts of the processor without use here.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    processor: str
    images: str
    videos: str | None
    size: dict[str, Any]
    since: tuple[int, ...] = (4, 57, 6)
    pruned_since: tuple[int, ...] = (4, 57, 6)
    image: str = "<|vision_start|><|image_pad|><|vision_end|>"
    video: str = "<|vision_start|><|video_pad|><|vision_end|>"
    token: int = 28
    order: str = "block"
    recurrent: bool = False
    mixes: bool = True
    tokenizer: dict[str, Any] = field(default_factory=dict)
    image_settings: dict[str, Any] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def missing(self) -> str | None:
        """Why this version of transformers cannot run it, or None."""
        if self.since > VERSION:
            return f"transformers {transformers.__version__} has no {self.architecture}"
        return None


SIZE = {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 400}
SIZE3 = {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 400}
SETTINGS3 = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
QWEN3 = {
    "processor": "Qwen3VLProcessor",
    "images": "Qwen2VLImageProcessor",
    "videos": "Qwen3VLVideoProcessor",
    "size": SIZE3,
    "token": 32,
    "image_settings": SETTINGS3,
}

VISION_GLM = {
    "depth": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "image_size": 84,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    **INITIAL,
}
GLM = {
    "processor": "Glm4vProcessor",
    "images": "Glm4vImageProcessor",
    "videos": "Glm4vVideoProcessor",
    "size": {"shortest_edge": 28 * 28 * 2 * 4, "longest_edge": 28 * 28 * 2 * 400},
    "image": "<|begin_of_image|><|image|><|end_of_image|>",
    "video": "<|begin_of_video|><|video|><|end_of_video|>",
    "pruned_since": (5, 9),
    "mixes": False,
}
GLM46 = {**GLM, "processor": "Glm46VProcessor", "images": "Glm46VImageProcessor", "videos": "Glm46VVideoProcessor"}

FAMILIES = (
    Family(
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {
            "text_config": TEXT,
            "vision_config": {
                "depth": 3,
                "embed_dim": 32,
                "hidden_size": 64,
                "num_heads": 2,
                "mlp_ratio": 2,
                **INITIAL,
            },
            **QWEN_IDS,
        },
        processor="Qwen2VLProcessor",
        images="Qwen2VLImageProcessor",
        videos="Qwen2VLVideoProcessor",
        size=SIZE,
    ),
    Family(
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": TEXT,
            "vision_config": {
                "depth": 4,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "out_hidden_size": 64,
                "window_size": 112,
                "fullatt_block_indexes": [1, 3],
                "tokens_per_second": 4,
                **INITIAL,
            },
            **QWEN_IDS,
        },
        processor="Qwen2_5_VLProcessor",
        images="Qwen2VLImageProcessor",
        videos="Qwen2VLVideoProcessor",
        size=SIZE,
    ),
    Family(
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": {**TEXT, "head_dim": 16, "rope_scaling": INTERLEAVED},
            "vision_config": {**VISION3, **DEEPSTACK},
            **QWEN_IDS,
        },
        **QWEN3,
    ),
    Family(
        "qwen3_vl_moe",
        "Qwen3VLMoeForConditionalGeneration",
        {
            "text_config": {**TEXT, "head_dim": 16, "rope_scaling": INTERLEAVED, **EXPERTS},
            "vision_config": {**VISION3, **DEEPSTACK},
            **QWEN_IDS,
        },
        **QWEN3,
    ),
    Family(
        "qwen3_5",
        "Qwen3_5ForConditionalGeneration",
        {"text_config": {**TEXT, **RECURRENT}, "vision_config": VISION3, **QWEN_IDS},
        **QWEN3,
        since=(5, 2, 0),
        recurrent=True,
    ),
    Family(
        "qwen3_5_moe",
        "Qwen3_5MoeForConditionalGeneration",
        {
            "text_config": {**TEXT, **RECURRENT, **EXPERTS, "shared_expert_intermediate_size": 32},
            "vision_config": VISION3,
            **QWEN_IDS,
        },
        **QWEN3,
        since=(5, 2, 0),
        recurrent=True,
    ),
    Family(
        "glm4v",
        "Glm4vForConditionalGeneration",
        {"text_config": TEXT, "vision_config": VISION_GLM, **GLM_IDS},
        **GLM,
    ),
    Family(
        "paddleocr_vl",
        "PaddleOCRVLForConditionalGeneration",
        {
            "text_config": {**TEXT, "head_dim": 16, "bos_token_id": 256, "tie_word_embeddings": False},
            "vision_config": {
                "num_hidden_layers": 3,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_attention_heads": 2,
                "image_size": 84,
                **INITIAL,
            },
            **PADDLE_IDS,
            "tie_word_embeddings": False,
        },
        processor="PaddleOCRVLProcessor",
        images="PaddleOCRVLImageProcessor",
        videos=None,
        size=SIZE,
        since=(5, 2, 0),
        pruned_since=(5, 18),
        image="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        order="raster",
        tokenizer={"extra_special_tokens": {"image_token": "<|IMAGE_PLACEHOLDER|>"}},
    ),
)

RELATIVES = (
    Family(
        "glm4v_moe",
        "Glm4vMoeForConditionalGeneration",
        {
            "text_config": {
                **TEXT,
                "head_dim": 16,
                "n_routed_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 1,
                "rope_scaling": {
                    "rope_type": "default",
                    "mrope_section": [2, 1, 1],
                    "partial_rotary_factor": 0.5,
                    "rope_theta": 10000.0,
                },
            },
            "vision_config": VISION_GLM,
            **GLM_IDS,
        },
        **GLM,
    ),
    Family(
        "glm46v",
        "Glm46VForConditionalGeneration",
        {
            "text_config": {"model_type": "glm4v_text", **TEXT},
            "vision_config": {"model_type": "glm4v_vision", **VISION_GLM},
            **GLM_IDS,
        },
        **GLM46,
        since=(5, 2, 0),
    ),
    Family(
        "glm_ocr",
        "GlmOcrForConditionalGeneration",
        {"text_config": {**TEXT, "head_dim": 16}, "vision_config": VISION_GLM, **GLM_IDS},
        **GLM46,
        since=(5, 2, 0),
    ),
    Family(
        "cosmos3_omni",
        "Cosmos3OmniForConditionalGeneration",
        {
            "text_config": {"model_type": "qwen3_vl_text", **TEXT, "head_dim": 16, "rope_scaling": INTERLEAVED},
            "vision_config": {"model_type": "qwen3_vl_vision", **VISION3, **DEEPSTACK},
            **QWEN_IDS,
        },
        **QWEN3,
        since=(5, 18),
        pruned_since=(5, 18),
    ),
    Family(
        "qwen4_exp",
        "Qwen4ExpForConditionalGeneration",
        {
            "text_config": {
                **TEXT,
                **RECURRENT,
                **EXPERTS,
                "shared_expert_intermediate_size": 32,
                "hc_count": 2,
                "hc_lowrank": 8,
                "indexer_n_heads": 2,
                "indexer_kv_heads": 1,
                "indexer_head_dim": 16,
                "indexer_budget": 2048,
                "indexer_compress_ratio": 4,
            },
            "vision_config": VISION3,
            **QWEN_IDS,
        },
        **QWEN3,
        since=(5, 18),
        pruned_since=(5, 18),
        recurrent=True,
    ),
    Family(
        "cohere_compass",
        "CohereCompassForConditionalGeneration",
        {
            "text_config": {
                **{name: value for name, value in TEXT.items() if not name.startswith("rope_")},
                "logit_scale": 1.0,
                "rope_parameters": {"full_attention": {**INTERLEAVED, "rope_theta": 10000.0}},
            },
            "vision_config": {**VISION3, **DEEPSTACK},
            "image_token_id": IDS["<|IMAGE_PAD|>"],
            "video_token_id": IDS["<|VIDEO_PAD|>"],
            "vision_start_token_id": IDS["<|VISION_START|>"],
            "vision_end_token_id": IDS["<|VISION_END|>"],
        },
        processor="CohereCompassProcessor",
        images="CohereCompassImageProcessor",
        videos="CohereCompassVideoProcessor",
        size=SIZE3,
        image="<|VISION_START|><|IMAGE_PAD|><|VISION_END|>",
        video="<|VISION_START|><|VIDEO_PAD|><|VISION_END|>",
        token=32,
        image_settings={"patch_size": 16},
        since=(5, 18),
        pruned_since=(5, 18),
    ),
    Family(
        "ernie4_5_vl_moe",
        "Ernie4_5_VLMoeForConditionalGeneration",
        {
            "text_config": {
                **TEXT,
                "moe_intermediate_size": [32, 16],
                "moe_k": 2,
                "moe_num_experts": 4,
                "moe_num_shared_experts": 1,
                "rope_scaling": {"rope_type": "default", "mrope_section": [3, 3, 2]},
            },
            "vision_config": {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, **INITIAL},
            **GLM_IDS,
        },
        processor="Ernie4_5_VLMoeProcessor",
        images="Ernie4_5_VLMoeImageProcessor",
        videos=None,
        size=SIZE,
        since=(5, 18),
        pruned_since=(5, 18),
        image=GLM["image"],
        unused={"video_processor": "Ernie4_5_VLMoeVideoProcessor"},
        tokenizer={
            "extra_special_tokens": {
                "image_token": "<|image|>",
                "image_start_token": "<|begin_of_image|>",
                "image_end_token": "<|end_of_image|>",
                "video_token": "<|video|>",
                "video_start_token": "<|begin_of_video|>",
                "video_end_token": "<|end_of_video|>",
            }
        },
    ),
    Family(
        "dots3_note",
        "Dots3NoteForConditionalGeneration",
        {
            "text_config": {
                **TEXT,
                "num_key_value_heads": 4,
                "head_dim": 16,
                "q_lora_rank": 24,
                "kv_lora_rank": 16,
                "qk_rope_head_dim": 8,
                "qk_nope_head_dim": 8,
                "v_head_dim": 16,
                "n_routed_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
                "shared_experts_intermediate_size": 32,
                "index_topk": 2048,
                "index_head_dim": 16,
                "index_n_heads": 2,
                "sliding_window": 2048,
                "swa_num_attention_heads": 4,
                "swa_num_key_value_heads": 4,
                "swa_q_lora_rank": 24,
                "swa_kv_lora_rank": 16,
                "swa_head_dim": 16,
                "swa_qk_nope_head_dim": 8,
                "swa_v_head_dim": 16,
                "rope_scaling": None,
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "mlp_layer_types": ["dense"] * 3,
                "adapter_in_dim": 32,
                "adapter_out_dim": 64,
                **INITIAL,
            },
            "audio_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "downsample_hidden_size": 4,
                "adapter_input_size": 16,
                "adapter_out_dim": 64,
            },
            "image_token_id": IDS["<|imgpad|>"],
            "video_token_id": IDS["<|video_pad|>"],
            "audio_token_id": IDS["<|audio_comp_pad|>"],
        },
        processor="Dots3NoteProcessor",
        images="Qwen2VLImageProcessor",
        videos="Qwen2VLVideoProcessor",
        size=SIZE,
        since=(5, 23),
        pruned_since=(5, 23),
        image="<|vision_start|><|imgpad|><|vision_end|>",
        image_settings={"temporal_patch_size": 1},
        unused={"feature_extractor": "Dots3NoteFeatureExtractor"},
    ),
    Family(
        "video_llama_3",
        "VideoLlama3ForConditionalGeneration",
        {
            "text_config": {"model_type": "qwen2", **TEXT, "rope_scaling": {"rope_type": "default"}},
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "patch_size": 14,
                **INITIAL,
            },
            "image_token_id": IDS["<|image_pad|>"],
            "video_token_id": IDS["<|video_pad|>"],
        },
        processor="VideoLlama3Processor",
        images="VideoLlama3ImageProcessor",
        videos=None,
        size={"shortest_edge": 14 * 14, "longest_edge": 14 * 14 * 400},
        since=(5, 18),
        pruned_since=(5, 18),
        token=14,
        unused={"video_processor": "VideoLlama3VideoProcessor"},
    ),
)
"""Families that share the code of one of FAMILIES, for fewer tests."""

BY_NAME = {family.name: family for family in (*FAMILIES, *RELATIVES)}


# --- Models -----------------------------------------------------------------------------------------------


@cache
def model(family: Family) -> Any:
    """Return the family's model in float32, the same one at every call: leave it as it was."""
    architecture = getattr(transformers, family.architecture)
    # Versions before 5 keep references to the dicts they are given.
    config = architecture.config_class(**copy.deepcopy(family.config))
    torch.manual_seed(7)
    made = architecture(config).eval()
    # Sharper attention, so that the next token depends on position and content.
    for name, weight in made.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight.data *= 4
        elif name.endswith("q_norm.weight"):
            weight.data *= 3
    # Special tokens are never the most likely.
    made.lm_head.weight.data[256:] = 0
    made.generation_config.pad_token_id = IDS["<|endoftext|>"]
    made.generation_config.eos_token_id = None  # so that tests decide how many tokens come out
    return made


# --- Processors ---------------------------------------------------------------------------------------------


def tokenizer(family: Family, side: str = "left") -> Any:
    """Return a tokenizer that makes a token of every byte and of every special token."""
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    of_qwen = VERSION < (5,) and family.name.startswith("qwen")  # whose processors insist on it
    kind = transformers.Qwen2TokenizerFast if of_qwen else transformers.PreTrainedTokenizerFast
    made = kind(
        tokenizer_object=backend,
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side=side,
        **family.tokenizer,
    )
    assert made.convert_tokens_to_ids(list(SPECIAL)) == list(IDS.values())
    return made


@cache
def processor(family: Family, side: str = "left") -> Any:
    """Return the family's own processor; small images stay as they are if their sides are whole tokens.

    The same one at every call: leave it as it was.
    """
    images = getattr(transformers, family.images)
    if VERSION < (5, 3):
        images = getattr(transformers, f"{family.images}Fast", images)
    parts = {
        "image_processor": images(size=family.size, **family.image_settings),
        "tokenizer": tokenizer(family, side),
    }
    if family.videos is not None:
        parts["video_processor"] = getattr(transformers, family.videos)(
            size=family.size, do_sample_frames=False, **family.image_settings
        )
    parts |= {part: getattr(transformers, name)() for part, name in family.unused.items()}
    template = TEMPLATE.replace("IMAGE", family.image).replace("VIDEO", family.video)
    return getattr(transformers, family.processor)(**parts, chat_template=template)


# --- Images -------------------------------------------------------------------------------------------------


def draw_image(family: Family, rows: int, cols: int, seed: int = 0) -> Image.Image:
    """An image of whole tokens, many of which are equal to a neighbour."""
    rng = np.random.default_rng(seed)
    side = family.token
    palette = rng.integers(0, 256, (4, side, side, 3))
    palette[0] = 200
    tokens = palette[rng.choice(4, (rows, cols), p=(0.7, 0.1, 0.1, 0.1))]
    return Image.fromarray(tokens.transpose(0, 2, 1, 3, 4).reshape(rows * side, cols * side, 3).astype(np.uint8))


def clip(family: Family, frames: int, rows: int, cols: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A video ``(.., H, W, 3)`` of that many frames of patches; those that share a patch (mostly two) are alike."""
    steps = [np.asarray(draw_image(family, rows, cols, seed + i)) for i in range(frames)]
    return np.repeat(np.stack(steps), family.image_settings.get("temporal_patch_size", 2), axis=0)
