"""Batches of other collators, pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...errors import PixelPruneError
from ...plan import TEXT, Plan, kinds_of
from ..apply import starts_again
from ..batch import NOT_PER_TOKEN, PrunedInputs
from ..inputs import prune_inputs
from ..processor import PrunedProcessor
from . import dummy
from .examples import KEEP
from .packing import cut
from .rows import IGNORED, check_labels
from .stored import PRUNED_KEYS

_POSITIONS = ("position_ids", "rope_deltas")
"""They are computed anew."""
_PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


def prune(
    collator: Callable[[list[Any]], Any],
    examples: Sequence[Mapping[str, Any]],
    processor: PrunedProcessor,
    max_length: int | None,
    dummy_image: bool,
) -> PrunedInputs:
    """Prune what another collator makes of the examples.

    Raises:
        PixelPruneError: its batch is none of the processor's, is pruned or packed; ``max_length`` would cut an image.
    """
    for i, example in enumerate(examples):
        for name in KEEP.values():
            if isinstance(example, Mapping) and example.get(name) is not None:
                raise PixelPruneError(f"examples[{i}] has {name}, which an inner collator would ignore; expected none")
    batch = _read(collator(list(examples)))
    settings = processor.settings
    how: dict[str, Any] = {
        "settings": settings,
        "threads": processor.threads,
        "padding_side": _side(batch),
        "pad_token_id": getattr(processor.processor.tokenizer, "pad_token_id", None),
    }
    keep: dict[str, Any] = {}
    if max_length is not None:
        plan = prune_inputs(batch, processor.model_spec, **how).pixelprune.plan  # type: ignore[union-attr]
        keep = {"keep": list(plan.images.selections), "video_keep": list(plan.videos.selections)}
        _cut(batch, plan, max_length)
    if dummy_image and not dummy.has_media(batch):
        tokens = {name: value for name, value in batch.items() if _is_per_token(name, value, batch)}
        fewest = int(tokens["attention_mask"].sum(dim=1).argmin()) if "attention_mask" in tokens else 0
        batch |= dummy.append_image(tokens, fewest, processor) | tokens
        keep = {"keep": [dummy.KEEP]}
    return prune_inputs(batch, processor.model_spec, **keep, **how)


def _read(batch: Any) -> dict[str, Any]:
    """The batch without positions."""
    if not isinstance(batch, Mapping):
        raise PixelPruneError(f"inner returned a {type(batch).__name__}; expected a dict of tensors")
    if getattr(batch, "pixelprune", None) is not None or any(batch.get(name) is not None for name in PRUNED_KEYS):
        raise PixelPruneError(
            "inner returned a batch that is pruned already; expected the stock one: make the inner collator with the "
            "processor without pruning (PrunedProcessor.processor)"
        )
    ids = batch.get("input_ids")
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        raise PixelPruneError("inner returned no input_ids of shape (rows, length); expected a batch of tensors")
    if "seq_lengths" not in batch and (any(name in batch for name in _PACKED) or _is_packed(batch, ids)):
        raise PixelPruneError(
            "inner packs several sequences into a row; expected one per row, or their lengths under seq_lengths"
        )
    return {name: value for name, value in batch.items() if name not in (*_POSITIONS, *_PACKED)}


def _is_packed(batch: Mapping[str, Any], ids: torch.Tensor) -> bool:
    positions, mask = batch.get("position_ids"), batch.get("attention_mask")
    return positions is not None and starts_again(
        positions, torch.ones_like(ids).bool() if mask is None else mask.bool()
    )


def _side(batch: Mapping[str, Any]) -> str:
    """Where rows are padded; on the right if none is: then no first token is foretold by padding, as in the batch."""
    mask = batch.get("attention_mask")
    return "right" if mask is None or bool(mask[:, :1].all()) else "left"


def _is_per_token(name: str, value: Any, batch: Mapping[str, Any]) -> bool:
    return name not in NOT_PER_TOKEN and tuple(getattr(value, "shape", ()))[:2] == tuple(batch["input_ids"].shape)


def _cut(batch: dict[str, Any], plan: Plan, max_length: int) -> None:
    """Take the end of rows that are too long for padding."""
    if "seq_lengths" in batch:
        raise PixelPruneError("max_length can't cut packed sequences; expected a shorter limit of the inner collator")
    ids = batch["input_ids"]
    mask = batch.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    present = mask.bool().numpy()
    kept = plan.token_mask(ids, mask)
    media = kinds_of(ids.numpy(), present, plan.spec) != TEXT
    dropped = torch.zeros(ids.shape, dtype=torch.bool)
    for row, here in enumerate(present):
        try:
            end = cut(kept[row][here], media[row][here], max_length)
            columns = np.flatnonzero(here)[end:]
            if "labels" in batch and len(columns):
                check_labels(batch["labels"][row : row + 1], int(columns[0]))
        except PixelPruneError as error:
            raise PixelPruneError(f"row {row} of inner's batch: {error}") from None
        dropped[row, columns] = True
    _fill(batch, dropped, torch.as_tensor(~present))
    batch["attention_mask"] = mask.masked_fill(dropped, 0)


def _fill(batch: dict[str, Any], dropped: torch.Tensor, padding: torch.Tensor) -> None:
    """Give dropped tokens the values of padding, which rows are padded with again: the batch's own, or 0 and -100."""
    for name, value in batch.items():
        if _is_per_token(name, value, batch):
            filled = torch.as_tensor(value).clone()
            own = filled[padding][:1]
            filled[dropped] = own if len(own) else IGNORED if name == "labels" else 0
            batch[name] = filled
