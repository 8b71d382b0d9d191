"""A tiny Qwen3-VL with random weights and its processor: the real classes, made without any download.

The examples use it unless they are given ``--model``. It has learned nothing, so its answers are meaningless.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from io import BytesIO
from typing import Any

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> Any:
    """A token for every byte and for every special token."""
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    return transformers.Qwen2TokenizerFast(
        tokenizer_object=backend, unk_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )


def processor() -> Any:
    """Qwen3-VL's processor with the settings of the published models."""
    settings = {
        "patch_size": 16,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    }
    # Before 5.3 the processor that torchvision works for has a name of its own.
    old = tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 3)
    image_processor = transformers.Qwen2VLImageProcessorFast if old else transformers.Qwen2VLImageProcessor
    return transformers.Qwen3VLProcessor(
        image_processor=image_processor(**settings),
        tokenizer=tokenizer(),
        video_processor=transformers.Qwen3VLVideoProcessor(**settings),
        chat_template=TEMPLATE,
    )


def model() -> Any:
    """A Qwen3-VL of four vision and two language layers."""
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": 288,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True},
            "bos_token_id": None,
            "eos_token_id": 258,
            "pad_token_id": 256,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 16,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0, 2],
        },
        image_token_id=261,
        video_token_id=262,
        vision_start_token_id=259,
        vision_end_token_id=260,
    )
    torch.manual_seed(0)
    made = transformers.Qwen3VLForConditionalGeneration(config).eval()
    made.generation_config.pad_token_id = 256
    return made


def load(path: str | None) -> tuple[Any, Any]:
    """Return model and processor of a checkpoint, or the tiny ones."""
    if path is None:
        return model(), processor()
    loaded = transformers.AutoModelForImageTextToText.from_pretrained(path, dtype="auto").eval()
    return loaded, transformers.AutoProcessor.from_pretrained(path)


def page() -> Image.Image:
    """The document page that comes with pixelprune."""
    return Image.open(BytesIO((files("pixelprune") / "data" / "page.png").read_bytes())).convert("RGB")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--model`` and ``--threshold``, which all examples have."""
    parser = argparse.ArgumentParser(description=(description or " ").splitlines()[0])
    parser.add_argument("--model", help="folder or name of a checkpoint; default: a tiny one with random weights")
    parser.add_argument("--threshold", type=float, default=0.0, help="0 (default) drops equal patches only")
    return parser


def png(image: Image.Image) -> bytes:
    """The image as the bytes of a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
