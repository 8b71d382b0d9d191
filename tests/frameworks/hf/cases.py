"""Prompts with images and videos, and the results that pruning them must give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from . import oracle, zoo

Mask = npt.NDArray[np.bool_]

TOLERANCE = 5e-6
"""Largest difference between logits of float32 models that add up in a different order."""

STEPS = 6
"""Tokens to decode."""


@dataclass(frozen=True)
class Still:
    """An image of whole tokens."""

    rows: int
    cols: int
    seed: int = 0


@dataclass(frozen=True)
class Clip(Still):
    """A video of 3 frames of patches."""


Part = str | Still
Prompt = tuple[Part, ...]

ONE: Prompt = ("what is ", Still(5, 7), "?")
TWO: Prompt = (Still(6, 4, 1), " or rather ", Still(3, 9, 2), " here")
PLAIN: Prompt = ("no image at all, only words",)
VIDEO: Prompt = ("watch ", Clip(4, 3, 3), " closely")
MIXED: Prompt = ("a ", Still(4, 6, 4), " b ", Clip(3, 5, 5), " c ", Still(5, 5, 6), " d")

PUBLISHED: tuple[Prompt, ...] = (ONE, TWO, (Still(9, 12, 7), " and words"))
"""For the published implementation: no batches, and no videos, which it drops beside an image."""


@dataclass(frozen=True)
class Row:
    """One prompt: the processor's output for it alone, and the masks of its images and videos."""

    alone: Any
    keep: tuple[Mask, ...]
    video_keep: tuple[Mask, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A batch of prompts, and every one of them by itself."""

    family: zoo.Family
    batch: Any
    rows: tuple[Row, ...]

    @property
    def masks(self) -> dict[str, Any]:
        """The masks of all images and of all videos, in batch order, as keyword arguments."""
        return {"keep": self.keep, "video_keep": self.video_keep}

    @property
    def keep(self) -> list[Mask]:
        """The masks of all images."""
        return [mask for row in self.rows for mask in row.keep]

    @property
    def video_keep(self) -> list[Mask]:
        """The masks of all videos."""
        return [mask for row in self.rows for mask in row.video_keep]

    @property
    def how(self) -> dict[str, Any]:
        """What the oracle needs to know about the family."""
        return {"order": self.family.order, "recurrent": self.family.recurrent}

    def truth(self, model: Any) -> list[torch.Tensor]:
        """The logits (kept tokens, vocabulary) of every row by a model, differentiable."""
        return [oracle.truth(model, row.alone, row.keep, row.video_keep, **self.how) for row in self.rows]

    @cached_property
    def expected(self) -> list[torch.Tensor]:
        """The logits (kept tokens, vocabulary) of every row by the family's model."""
        with torch.no_grad():
            return self.truth(zoo.model(self.family))

    @cached_property
    def continuation(self) -> list[list[int]]:
        """The STEPS tokens that greedy decoding by the family's model must give for every row."""
        found = []
        for row in self.rows:
            tokens, lead = oracle.greedy(
                zoo.model(self.family), row.alone, row.keep, row.video_keep, steps=STEPS, **self.how
            )
            assert lead > 4 * TOLERANCE, "the second best token is nearly as good: take another prompt"
            found.append(tokens)
        return found


def text_of(family: zoo.Family, prompt: Prompt) -> str:
    """Return the prompt with placeholders for its images and videos."""
    marks = {Still: family.image, Clip: family.video}
    return "".join(part if isinstance(part, str) else marks[type(part)] for part in prompt)


def images_of(family: zoo.Family, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Return the images and videos of prompts, as keyword arguments of a processor."""
    parts = [part for prompt in prompts for part in prompt]
    images = [zoo.draw_image(family, part.rows, part.cols, part.seed) for part in parts if type(part) is Still]
    clips = [zoo.clip(family, 3, part.rows, part.cols, part.seed) for part in parts if type(part) is Clip]
    given: dict[str, Any] = {}
    if images:
        given["images"] = images
    if clips:
        given["videos"] = [torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in clips]
    return given


def process(family: zoo.Family, prompts: Sequence[Prompt], side: str = "left", **rest: Any) -> Any:
    """Return the stock processor's output for a batch of prompts."""
    texts = [text_of(family, prompt) for prompt in prompts]
    processor = zoo.processor(family, side)
    return processor(text=texts, padding=True, return_tensors="pt", **images_of(family, prompts), **rest)


def some(rows: int, cols: int, seed: int, frames: int = 1) -> Mask:
    """A mask (frames * rows * cols) of about half the tokens; the first stays.

    Whatever lies beyond the fourth row and column goes, so that nothing is left in a window (4 x 4) of attention.
    """
    mask = np.random.default_rng(seed).random((frames, rows, cols)) < 0.5
    mask[:, 4:, 4:] = False
    mask[:, 0, 0] = True
    return mask.ravel()


@cache
def make(family: zoo.Family, prompts: tuple[Prompt, ...], side: str = "left") -> Case:
    """Return a batch of prompts with masks for all their images and videos; the same one at every call."""
    rows = []
    for prompt in prompts:
        keep = tuple(some(p.rows, p.cols, p.seed) for p in prompt if type(p) is Still)
        video_keep = tuple(some(p.rows, p.cols, p.seed, frames=3) for p in prompt if type(p) is Clip)
        rows.append(Row(process(family, [prompt]), keep, video_keep))
    return Case(family, process(family, prompts, side), tuple(rows))


def skip_unless_possible(family: zoo.Family, prompts: Sequence[Prompt]) -> None:
    """Skip a batch that the stock model cannot be given."""
    kinds = {type(part) for prompt in prompts for part in prompt}
    if Clip in kinds and family.videos is None:
        pytest.skip(f"{family} has no videos")
    if kinds >= {Clip, Still} and not family.mixes:
        pytest.skip(f"stock {family} takes the frames of a video for images when a batch has both")


def skip_unless_pruned(family: zoo.Family, prompts: Sequence[Prompt]) -> None:
    """Skip a batch that the stock model cannot be given, or that this version cannot be run pruned with."""
    if family.pruned_since > zoo.VERSION:
        pytest.skip(f"{family} is not pruned before transformers {'.'.join(map(str, family.pruned_since))}")
    skip_unless_possible(family, prompts)
