"""From pages and questions to inputs of the model, pruned or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pixelprune as pp
import torch
from PIL import Image
from pixelprune import PruneSettings
from pixelprune.evaluate import shrink
from pixelprune.hf import prune_inputs
from torch import Tensor

from .pages import MERGE, PATCH, Pixels
from .questions import IMAGE, PAD, SPAN, START, STOP, Question

SPEC = replace(pp.VisionSpec.preset("qwen3_vl"), min_pixels=(PATCH * MERGE) ** 2)


@dataclass(frozen=True)
class Batch:
    """Inputs of the model, and what belongs to them.

    Attributes:
        inputs: keyword arguments of the model.
        answers: int64 (pages, questions).
        kept: the kept tokens of each page, as indices.
        tokens: image tokens of each page before pruning.
    """

    inputs: dict[str, Tensor]
    answers: Tensor
    kept: list[Tensor]
    tokens: list[int]

    @property
    def share(self) -> float:
        """The share of tokens that the model gets."""
        return sum(map(len, self.kept)) / sum(self.tokens)


def make_batch(
    pages: Sequence[Pixels],
    questions: Sequence[Sequence[Question]],
    model: Any,
    settings: PruneSettings | None = None,
    *,
    renumber: bool = False,
) -> Batch:
    """Inputs that ask all questions of a page in one sequence; a question does not see the others.

    Args:
        pages: uint8 (height, width, 3), of whole tokens.
        questions: of each page, as many for each.
        model: the model or its config.
        settings: how to prune; None: not at all.
        renumber: give kept tokens positions without gaps, as if nothing had been dropped.
    """
    prepared = pp.preprocess(pages, SPEC, prune=False)
    grids = torch.from_numpy(prepared.grid_thw)
    tokens = [int(grid.prod()) // MERGE**2 for grid in grids]
    asked = len(questions[0])
    length = max(tokens) + 2 + asked * SPAN
    ids = torch.full((len(pages), length), PAD)
    mask = torch.zeros_like(ids)
    for row, (count, own) in enumerate(zip(tokens, questions, strict=True)):
        text = [token for question in own for token in question.prompt]
        sequence = [START, *[IMAGE] * count, STOP, *text]
        ids[row, length - len(sequence) :] = torch.tensor(sequence)
        mask[row, length - len(sequence) :] = 1
    plain = {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.from_numpy(prepared.pixel_values),
        "image_grid_thw": grids,
    }
    pruned = prune_inputs(plain, model, "all" if settings is None else None, settings=settings)
    kept = [torch.tensor(one.keep) for one in pruned.pixelprune.plan.images.selections]
    inputs = {name: value for name, value in pruned.items() if name != "pixelprune_hf_attach"}
    if renumber:
        whole = prune_inputs(plain, model, "all")
        close_gaps(inputs, whole, kept, grids)
    present = inputs["attention_mask"].bool()
    inputs["position_ids"] = restart(inputs["position_ids"][1:], asked)
    inputs["attention_mask"] = blind(present, asked)
    answers = torch.tensor([[question.answer for question in own] for own in questions])
    return Batch(inputs, answers, kept, tokens)


def restart(positions: Tensor, asked: int) -> Tensor:
    """Let every question start at the position of the first: (3, pages, length)."""
    positions = positions.clone()
    first = positions[:, :, -asked * SPAN, None]
    positions[:, :, -asked * SPAN :] = first + torch.arange(SPAN).repeat(asked)
    return positions


def blind(present: Tensor, asked: int) -> Tensor:
    """What each token sees, bool (pages, 1, length, length): the page, and before it in its own question."""
    length = present.shape[1]
    owner = torch.cat([torch.zeros(length - asked * SPAN), torch.arange(1, asked + 1).repeat_interleave(SPAN)])
    seen = (owner[None, :] == 0) | (owner[None, :] == owner[:, None])
    seen &= torch.ones(length, length, dtype=torch.bool).tril()
    seen = seen[None] & present[:, None, :] | torch.eye(length, dtype=torch.bool)
    return seen[:, None]


def answer_places(asked: int) -> Tensor:
    """Where answers are predicted, counted from the end: int64 (asked), negative."""
    return torch.arange(1, asked + 1) * SPAN - 1 - asked * SPAN


def close_gaps(inputs: dict[str, Tensor], whole: Any, kept: Sequence[Tensor], grids: Tensor) -> None:
    """Number the rows that have kept tokens, and in each row its kept tokens, without gaps; for the tower, too."""
    patches, start = [], 0
    for page, (indices, grid) in enumerate(zip(kept, grids, strict=True)):
        columns = int(grid[2]) // MERGE
        row, column = indices // columns, indices % columns
        used, rank = torch.unique(row, return_inverse=True)
        order = torch.arange(len(indices))
        firsts = torch.searchsorted(row, used)
        place = order - firsts[rank]
        at = inputs["input_ids"][page] == IMAGE
        inputs["position_ids"][2, page, at] += rank - row
        inputs["position_ids"][3, page, at] += place - column
        token = rank * columns + place
        patches.append((start + token[:, None] * MERGE**2 + torch.arange(MERGE**2)).flatten())
        start += int(grid.prod())
    chosen = torch.cat(patches)
    for name in ("image_position_ids", "image_interp_indices", "image_interp_weights"):
        inputs[name] = whole[name][chosen]


def shrunk(pixels: Pixels, tokens: int) -> Pixels:
    """The page resized to at most so many tokens, as `pixelprune eval` shrinks images."""
    return np.asarray(shrink(Image.fromarray(pixels), tokens, SPEC, "pillow"))
