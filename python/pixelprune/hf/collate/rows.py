"""Whole prompts of single examples: tensors without padding, with labels and what is kept of their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from ...arguments import shown
from ...errors import PixelPruneError
from ...plan import IMAGE, VIDEO, kinds_of, read_keep
from ..apply import starts_again
from ..batch import NOT_PER_TOKEN, RECORD
from ..processor import PrunedProcessor
from .examples import KEEP, Tokens, read_example, with_stored
from .rendering import LEARNED, render
from .stored import is_pruned, plan_of, restore

Labels = Literal["all", "assistant"] | None

IGNORED = -100
"""The label of a token that is not to be learned."""

_KINDS = {"image": IMAGE, "video": VIDEO}


@dataclass
class Row:
    """A whole prompt without padding.

    Attributes:
        tokens: what has one entry per token: ``input_ids`` (1, length) and others, (1, length, ...).
        media: pixels, grids and what else belongs to images and videos.
        keep: under ``"image"`` and ``"video"``, one entry per image as in `prune_inputs`.
    """

    tokens: dict[str, torch.Tensor]
    media: dict[str, torch.Tensor] = field(default_factory=dict)
    keep: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.tokens["input_ids"].shape[1])

    def count(self, kind: str) -> int:
        """How many images, or videos, it has."""
        return len(self.media.get(f"{kind}_grid_thw", ()))

    def cut(self, length: int) -> None:
        """Leave the first tokens."""
        self.tokens = {name: value[:, :length] for name, value in self.tokens.items()}


def make_row(example: Mapping[str, Any], processor: PrunedProcessor, labels: Labels) -> Row:
    """Make the whole prompt of an example in one of the layouts of `PrunedCollator`.

    Raises:
        PixelPruneError: see `PrunedCollator`.
    """
    form = read_example(example)
    stock, spec = processor.processor, processor.model_spec
    stored = None
    if processor.keep_indices is not None and not isinstance(form, Tokens) and example.get(KEEP["image"]) is None:
        form, stored = with_stored(form, processor.keep_indices)
    pruned = isinstance(form, Tokens) and is_pruned(example)
    plan = plan_of(example, spec) if pruned else None
    if isinstance(form, Tokens):
        features = {name: value for name, value in form.features.items() if not (pruned and _is_position(name))}
    else:
        features = render(form, stock, marked=labels == "assistant")
    row = _split(features)
    if pruned:
        _check_unpacked(example, row)
    if plan is not None:
        restore(row.tokens, row.media, plan)
    _check_places(row, processor)
    for kind, name in KEEP.items():
        given = example.get(name)
        if kind == "image" and stored is not None:
            given = stored
        if plan is not None:
            if given is not None:
                raise PixelPruneError(f"the example is pruned already; expected no {name}")
            media = plan.images if kind == "image" else plan.videos
            given = list(media.selections)
        row.keep[kind] = read_keep(given, row.count(kind), kind)
    _label(row, processor, labels)
    return row


def _is_position(name: str) -> bool:
    """Whether pruning adds a key of this name, for the tower or the language model."""
    of_media = name.startswith(("image_", "video_")) and name not in NOT_PER_TOKEN
    return of_media or name in ("position_ids", "use_cache", RECORD)


def _check_unpacked(example: Mapping[str, Any], row: Row) -> None:
    """Positions are computed anew, so that they may not tell sequences of a row apart."""
    given = example.get("position_ids")
    if given is None:
        return
    positions, mask = torch.as_tensor(given), example.get("attention_mask")
    flat = positions.reshape(-1, 1, positions.shape[-1])
    present = torch.ones(flat.shape[-1]).bool() if mask is None else torch.as_tensor(mask).bool().reshape(-1)
    if len(present) != flat.shape[-1] or int(present.sum()) != len(row):
        raise PixelPruneError(f"position_ids has shape {tuple(positions.shape)}; expected {len(row)} positions")
    if starts_again(flat, present[None]):
        raise PixelPruneError(
            "the example has packed sequences, whose positions start again; expected one sequence per row"
        )


def _split(features: Mapping[str, Any]) -> Row:
    """Tell apart what has one entry per token, without padding, and the rest."""
    one = {name: _tensor(value, name) for name, value in features.items() if value is not None}
    if one["input_ids"].ndim == 1:
        length = len(one["input_ids"])
        one = {
            name: value[None] if name not in NOT_PER_TOKEN and value.shape[:1] == (length,) else value
            for name, value in one.items()
        }
    shape = one["input_ids"].shape
    if len(shape) != 2 or shape[0] != 1:
        raise PixelPruneError(f"input_ids has shape {tuple(shape)}; expected one prompt")
    mask = one.pop("attention_mask", None)
    row = Row({})
    for name, value in one.items():
        if name in NOT_PER_TOKEN:
            row.media[name] = value
            continue
        if value.shape[:2] != shape:
            raise PixelPruneError(
                f"the example has {name} of shape {tuple(value.shape)}; expected images, videos and what has one entry "
                f"per token, {tuple(shape)}"
            )
        row.tokens[name] = value if mask is None or bool(mask.all()) else value[:, mask[0].bool()]
    return row


def _tensor(value: Any, name: str) -> torch.Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise PixelPruneError(
            f"{name} is {shown(value)}; expected numbers, one entry per token: remove the column"
        ) from None


def _check_places(row: Row, processor: PrunedProcessor) -> None:
    """Every image has its placeholders, and all placeholders have an image."""
    spec = processor.model_spec
    ids = row.tokens["input_ids"].numpy()
    kinds = kinds_of(ids, np.ones(ids.shape, np.bool_), spec)
    for kind, number in _KINDS.items():
        grids = row.media.get(f"{kind}_grid_thw")
        expected = 0 if grids is None else int(grids.prod(dim=1).sum()) // spec.vision.merge_size**2
        found = int((kinds == number).sum())
        if found != expected:
            raise PixelPruneError(
                f"the prompt has {found} {kind} placeholders, its {row.count(kind)} {kind}s have {expected} tokens; "
                f"expected as many: one {kind} for each place in the text, with the model's own marks, and no "
                "truncation (max_length of the collator cuts after pruning)"
            )


def _label(row: Row, processor: PrunedProcessor, labels: Labels) -> None:
    """Add labels, or take the given ones; the first token, which nothing predicts, has none."""
    learned = row.tokens.pop(LEARNED, None)
    if labels is not None and "labels" not in row.tokens:
        made = row.tokens["input_ids"].clone()
        spec = processor.model_spec
        for token in (spec.image_token_id, spec.video_token_id):
            if token is not None:
                made[made == token] = IGNORED
        if labels == "assistant":
            if learned is None or not bool(learned.any()):
                raise PixelPruneError(
                    "no token is marked as the assistant's; expected messages with an assistant's turn and a chat "
                    "template that marks it ({% generation %}), or prompt and completion"
                )
            made[learned == 0] = IGNORED
        row.tokens["labels"] = made
    if "labels" in row.tokens:
        row.tokens["labels"] = row.tokens["labels"].clone()
        row.tokens["labels"][:, :1] = IGNORED


def check_labels(labels: torch.Tensor | None, end: int) -> None:
    """Raise if a cut leaves nothing to learn of a prompt that had something."""
    if labels is not None and bool((labels[:, end:] != IGNORED).any()) and not bool((labels[:, :end] != IGNORED).any()):
        raise PixelPruneError(
            "max_length leaves no token that is to be learned; expected a larger one, smaller images or a "
            "higher threshold"
        )
