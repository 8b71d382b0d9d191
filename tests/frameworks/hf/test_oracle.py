"""The oracle itself: on stock models, and against inputs that are pruned by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from . import cases, oracle, zoo
from .cases import MIXED, ONE, TWO, VIDEO


@pytest.mark.parametrize("prompt", [ONE, TWO, VIDEO, MIXED], ids=["one", "two", "video", "mixed"])
def test_masking_nothing_changes_nothing(family: zoo.Family, model: Any, prompt: cases.Prompt) -> None:
    cases.skip_unless_possible(family, [prompt])
    alone = cases.process(family, [prompt])
    everything = [
        [np.ones(int(g.prod()) // 4, bool) for g in alone.get(k, ())] for k in ("image_grid_thw", "video_grid_thw")
    ]
    with torch.no_grad():
        stock = model(**alone).logits[0]
        found = oracle.truth(model, alone, *everything, order=family.order, recurrent=family.recurrent)
    assert torch.equal(found, stock)
    assert stock.std() > 0.3


def test_every_dropped_token_matters(family: zoo.Family, model: Any) -> None:
    """Of two masks that differ in one token, the logits differ in all tokens behind it."""
    alone = cases.process(family, [ONE])
    [mask] = cases.make(family, (ONE,)).keep
    how = {"order": family.order, "recurrent": family.recurrent}
    one_less = mask.copy()
    gone = int(mask.nonzero()[0][-1])
    one_less[gone] = False
    with torch.no_grad():
        with_it = oracle.truth(model, alone, [mask], **how)
        without = oracle.truth(model, alone, [one_less], **how)
    assert len(with_it) == len(without) + 1
    assert (with_it[-2:] - without[-2:]).abs().amax(1).min() > 1e-3


def block_major(rows: int, cols: int) -> torch.Tensor:
    """(h, w) of the patches of rows x cols tokens, token by token."""
    where = [
        (2 * row + y, 2 * col + x) for row in range(rows) for col in range(cols) for y in range(2) for x in range(2)
    ]
    return torch.tensor(where)


def corners(where: torch.Tensor, height: int, width: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The four entries of a learned table of side x side, and their weights, for patches of a height x width grid."""
    at = where.double() * torch.tensor([(side - 1) / (height - 1), (side - 1) / (width - 1)])
    low = at.floor().long()
    high = (low + 1).clamp(max=side - 1)
    (y, x), (up, left), (down, right) = (at - low).T, low.T, high.T
    indices = torch.stack([up * side + left, up * side + right, down * side + left, down * side + right], dim=1)
    weights = torch.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], dim=1)
    return indices, weights.float()


@pytest.mark.skipif(zoo.VERSION < (5, 9), reason="the tower takes no positions before transformers 5.9")
def test_oracle_is_a_model_given_what_is_left() -> None:
    """Qwen3-VL: rows of pixel_values dropped, placeholders dropped, all positions written out by hand."""
    family = zoo.BY_NAME["qwen3_vl"]
    model = zoo.model(family)
    case = cases.make(family, (ONE,))
    [row], [mask] = case.rows, case.keep
    rows, cols = 5, 7
    tokens = torch.from_numpy(mask.nonzero()[0])
    patches = (tokens[:, None] * 4 + torch.arange(4)).flatten()
    ids = row.alone["input_ids"][0]
    first = int((ids == zoo.IDS["<|image_pad|>"]).nonzero()[0])
    tail = len(ids) - first - rows * cols
    left = torch.cat([torch.arange(first), first + tokens, torch.arange(first + rows * cols, len(ids))])
    text = torch.arange(first).expand(3, -1)
    image = torch.stack([torch.full_like(tokens, first), first + tokens // cols, first + tokens % cols])
    rest = (first + max(rows, cols) + torch.arange(tail)).expand(3, -1)
    where = block_major(rows, cols)
    indices, weights = corners(where, 2 * rows, 2 * cols, side=6)
    names = ("interp_indices", "interp_weights")
    if zoo.VERSION < (5, 15):
        names, indices, weights = ("bilinear_indices", "bilinear_weights"), indices.T, weights.T
    cut = (slice(None), patches) if zoo.VERSION < (5, 15) else (patches,)
    with torch.no_grad():
        found = model(
            input_ids=ids[None, left],
            attention_mask=torch.ones(1, len(left), dtype=torch.long),
            position_ids=torch.cat([text, image, rest], dim=1)[:, None],
            pixel_values=row.alone["pixel_values"][patches],
            image_grid_thw=torch.tensor([[1, 2, 2 * len(tokens)]]),
            image_position_ids=where[patches],
            **{f"image_{names[0]}": indices[cut], f"image_{names[1]}": weights[cut]},
        ).logits[0]
        [expected] = case.expected
    assert (found - expected).abs().max() < cases.TOLERANCE
