"""Run unchanged Hugging Face models on pruned inputs: processors, inference, generation and training.

Importing this module imports torch and transformers; `pixelprune` itself does not. If one of them is missing, an
`ImportError` says how to install it.

Example:
    >>> import torch
    >>> from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
    >>> from pixelprune.hf import generate, prune_inputs
    >>> layers = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
    ...           "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3]}}
    >>> tower = {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 16}
    >>> tokens = {"vocab_size": 32, "intermediate_size": 16, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    >>> ids = {"image_token_id": 7, "video_token_id": 8}
    >>> config = Qwen2VLConfig(text_config={**layers, **tokens}, vision_config=tower, **ids)
    >>> model = Qwen2VLForConditionalGeneration(config).eval()
    >>> batch = {"input_ids": torch.tensor([[1, 7, 7, 7, 7, 2]]), "pixel_values": torch.zeros(16, 1176),
    ...          "image_grid_thw": torch.tensor([[1, 4, 4]])}
    >>> inputs = prune_inputs(batch, model)
    >>> inputs.pixelprune
    Pruned(1 images, 3 of 6 tokens)
    >>> generate(model, inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False).shape
    torch.Size([1, 5])
"""

from . import requirements as _requirements

_requirements.check()

from .attach import attach, attached, detach
from .batch import Pruned, PrunedInputs
from .caches import reusable
from .collate.collator import PrunedCollator
from .encoding import encode
from .generation import forward, generate
from .image_processor import PrunedImageProcessor
from .inputs import prune_inputs
from .processor import PrunedProcessor
from .tower import vision_positions

__all__ = [
    "Pruned",
    "PrunedCollator",
    "PrunedImageProcessor",
    "PrunedInputs",
    "PrunedProcessor",
    "attach",
    "attached",
    "detach",
    "encode",
    "forward",
    "generate",
    "prune_inputs",
    "reusable",
    "vision_positions",
]
