"""A tiny image for a batch without images, so that the vision tower takes part in every step of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..processor import PrunedProcessor
from .rows import IGNORED

KEEP = np.zeros(1, np.int64)
"""What is kept of the image: its first token."""


def has_media(batch: Mapping[str, Any]) -> bool:
    """Whether the vision tower has something to see."""
    return any(batch.get(name) is not None for name in ("pixel_values", "pixel_values_videos"))


def append_image(tokens: dict[str, torch.Tensor], row: int, processor: PrunedProcessor) -> dict[str, torch.Tensor]:
    """Put a tiny image after the last token of a row. No token before it sees it, and it has no label.

    Args:
        tokens: what has one entry per token, (rows, length, ...), ``attention_mask`` where there is padding; changed
            in place.
        row: which row.
        processor: whose image processor makes the pixels.

    Returns:
        The pixels and grid.
    """
    spec = processor.model_spec
    side = spec.vision.patch_size * spec.vision.merge_size
    made = processor.processor.image_processor(images=[Image.new("RGB", (side, side))], return_tensors="pt")
    media = {name: torch.as_tensor(value) for name, value in made.items()}
    count = int(media["image_grid_thw"].prod()) // spec.vision.merge_size**2
    ids = tokens["input_ids"]
    if len(ids) > 1:
        tokens.setdefault("attention_mask", torch.ones_like(ids))
    here = {"input_ids": spec.image_token_id, "attention_mask": 1, "mm_token_type_ids": 1, "labels": IGNORED}
    for name, value in tokens.items():
        more = value.new_full((len(ids), count, *value.shape[2:]), IGNORED if name == "labels" else 0)
        more[row] = here.get(name, 0)
        tokens[name] = torch.cat([value, more], dim=1)
    return media
