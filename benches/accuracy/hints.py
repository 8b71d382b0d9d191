"""Extra losses on the vision tower, which make the tiny model learn within minutes. They are for training only.

Each patch has to tell, before the merger, what it and its right neighbour show. Each kept token, after the merger, has
to be the sum of the embeddings of what it stands for: the word that begins in it, with the number or the state of the
box in its row; the number or box itself; the grey button; its row and its column. So images and text agree on what a
word is, and the language model can look for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .network import VISION
from .pages import COLS, GLYPHS, MERGE, ROWS, Page
from .questions import COLUMN_NAMES, IDS, PAD, ROW_NAMES

WORD, VALUE, BUTTON_AT, ROW, COLUMN = SLOTS = range(5)
NOTHING = 0.1  # the weight of patches that show nothing
WORDS_WEIGH, VALUES_WEIGH = 10.0, 3.0  # against 1 of other tokens


class Hints(nn.Module):
    """The heads, and the merger's input and output of the latest call of a model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.shown = nn.Linear(VISION, 2 * len(GLYPHS))
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._hook = model.model.visual.merger.register_forward_hook(
            lambda _, given, output: self._seen.append((given[0], output))
        )
        self._weights = torch.ones(len(GLYPHS))
        self._weights[0] = NOTHING

    def loss(self, model: Any, pages: Sequence[Page], kept: Sequence[Tensor]) -> Tensor:
        """The loss of both heads, for the tokens that were kept."""
        patches, merged = self._seen.pop()
        shown = self.shown(patches.view(-1, VISION)).view(-1, len(GLYPHS))
        glyphs = torch.cat([glyph_labels(page)[own] for page, own in zip(pages, kept, strict=True)])
        begun = torch.cat([slot_labels(page)[own] for page, own in zip(pages, kept, strict=True)])
        table = model.get_input_embeddings().weight.detach()
        target = (table[begun] * (begun != PAD)[..., None]).sum(1)
        has_value = (begun[:, [VALUE, BUTTON_AT]] != PAD).any(1)
        weight = torch.where(begun[:, WORD] != PAD, WORDS_WEIGH, torch.where(has_value, VALUES_WEIGH, 1.0))
        near = ((merged - target).square().mean(1) * weight).sum() / weight.sum() / table.var()
        return cross_entropy(shown, glyphs.flatten(), self._weights) + near

    def remove(self) -> None:
        """Leave the model."""
        self._hook.remove()


def glyph_labels(page: Page) -> Tensor:
    """What each patch of each token and its right neighbour show: int64 (tokens, MERGE**2, 2)."""
    right = np.pad(page.shown[:, 1:], ((0, 0), (0, 1)))
    both = np.stack([page.shown, right], axis=-1)
    blocks = both.reshape(ROWS, MERGE, COLS, MERGE, 2).swapaxes(1, 2)
    return torch.from_numpy(blocks.reshape(-1, MERGE**2, 2).copy())


def slot_labels(page: Page) -> Tensor:
    """What each token stands for, as ids of the vocabulary, PAD for nothing: int64 (tokens, slots)."""
    labels = torch.full((ROWS, COLS, len(SLOTS)), PAD)
    for line in page.lines:
        row, gui = line.row // MERGE, page.kind == "gui"
        value = ("YES" if line.ticked else "NO") if gui else f"{line.number:02}"
        labels[row, line.column // MERGE, WORD] = IDS[line.word]
        labels[row, [line.column // MERGE, line.right // MERGE], VALUE] = IDS[value]
        if line.grey:
            labels[row, line.button // MERGE, BUTTON_AT] = IDS["GREY"]
    labels[:, :, ROW] = torch.tensor([IDS[name] for name in ROW_NAMES])[:, None]
    labels[:, :, COLUMN] = torch.tensor([IDS[name] for name in COLUMN_NAMES])
    return labels.view(-1, len(SLOTS))
