"""One batch of several rows, each of one example or of several, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...errors import PixelPruneError
from ..batch import NOT_PER_TOKEN
from .rows import IGNORED, Row


def join(rows: Sequence[Row], groups: Sequence[Sequence[int]], tokenizer: Any) -> dict[str, Any]:
    """Return a batch with a row for every group: its examples one after the other, padded as the tokenizer says.

    Raises:
        PixelPruneError: a key that only some of the rows have.
    """
    first = rows[0].tokens
    for i, row in enumerate(rows):
        odd = sorted(first.keys() ^ row.tokens.keys())
        if odd:
            having, lacking = (0, i) if odd[0] in first else (i, 0)
            raise PixelPruneError(
                f"examples[{lacking}] has no {odd[0]}; expected it, because examples[{having}] has it"
            )
    pad = getattr(tokenizer, "pad_token_id", None)
    left = getattr(tokenizer, "padding_side", "left") == "left"
    values = {"labels": IGNORED, "input_ids": 0 if pad is None else pad}
    batch: dict[str, Any] = {}
    for name in first:
        joined = [torch.cat([rows[i].tokens[name] for i in group], dim=1) for group in groups]
        batch[name] = _padded(joined, values.get(name, 0), left)
    lengths = [sum(len(rows[i]) for i in group) for group in groups]
    batch["attention_mask"] = _padded([first["input_ids"].new_ones((1, length)) for length in lengths], 0, left)
    for name in NOT_PER_TOKEN:
        parts = [rows[i].media[name] for group in groups for i in group if name in rows[i].media]
        if parts:
            batch[name] = torch.cat(parts)
    return batch


def _padded(rows: Sequence[torch.Tensor], value: int, left: bool) -> torch.Tensor:
    longest = max(row.shape[1] for row in rows)
    padded = []
    for row in rows:
        padding = row.new_full((1, longest - row.shape[1], *row.shape[2:]), value)
        padded.append(torch.cat([padding, row] if left else [row, padding], dim=1))
    return torch.cat(padded)


def filler(like: Row, length: int, tokenizer: Any) -> Row:
    """A sequence of padding with the keys of a row, nothing of which is learned: it fills a packed row."""
    pad = getattr(tokenizer, "pad_token_id", None)
    values = {"labels": IGNORED, "input_ids": 0 if pad is None else pad}
    tokens = {
        name: value.new_full((1, length, *value.shape[2:]), values.get(name, 0)) for name, value in like.tokens.items()
    }
    return Row(tokens, {}, {})
