"""Questions about held-out pages, answered by a trained model on all tokens and on those that pruning leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pixelprune import PruneSettings
from pixelprune.selection.settings import MethodName, Protect

from .batches import Batch, make_batch, shrunk
from .pages import Page, draw_page
from .questions import Question
from .training import answer_logits, questions_for

PAGES_AT_ONCE = 25
HELD_OUT = 7_000_000  # seeds of held-out pages; training has others
PRED_2D = PruneSettings(method="pred_2d")
ALL = "all tokens"
METHODS: tuple[MethodName, ...] = ("pred_2d", "either", "raster", "serpentine", "unique")
PROTECTION: tuple[Protect, ...] = ("nothing", "content")
SWEPT = ("pred_2d", "either")
BASELINES: tuple[MethodName, ...] = ("random", "conncomp")


@dataclass(frozen=True)
class Way:
    """How pages are given to a model.

    Attributes:
        settings: how they are pruned; None: not at all.
        renumber: kept tokens get positions without gaps.
        shrink: pages are not pruned but resized, to the tokens that the settings would keep.
        everywhere: evaluated on pages of every kind, others on mixed pages only.
    """

    settings: PruneSettings | None
    renumber: bool = False
    shrink: bool = False
    everywhere: bool = False


def ways() -> dict[str, Way]:
    """Every way, by the name that tables show."""
    found = {ALL: Way(None, everywhere=True)}
    for method in METHODS:
        for threshold in (0.0, 0.05, 0.1) if method in SWEPT else (0.0,):
            for protect in PROTECTION:
                settings = PruneSettings(method=method, threshold=threshold, protect=protect)
                protected = ", protected" if protect == "content" else ""
                everywhere = method == "pred_2d" or (method in ("either", "unique") and threshold == 0)
                found[f"{method}, tau {threshold:g}{protected}"] = Way(settings, everywhere=everywhere)
    for baseline in BASELINES:
        settings = replace(PRED_2D, method=baseline)
        found[f"{baseline}, as many as pred_2d"] = Way(settings, everywhere=baseline == "random")
    found["shrunk, as many as pred_2d"] = Way(PRED_2D, shrink=True, everywhere=True)
    found["pred_2d, tau 0, positions without gaps"] = Way(PRED_2D, renumber=True)
    return found


def held_out(kind: str, count: int, asked: int) -> tuple[list[Page], list[list[Question]]]:
    """The same pages and questions at every call, whatever the model."""
    pages, questions = [], []
    for number in range(count):
        random = np.random.default_rng([HELD_OUT, *kind.encode(), number])
        pages.append(draw_page(kind, random))
        questions.append(questions_for(pages[-1], random, asked))
    return pages, questions


def batch_for(pages: Sequence[Page], questions: Sequence[Sequence[Question]], model: Any, way: Way) -> Batch:
    """Inputs for pages given in some way."""
    pixels = [page.pixels for page in pages]
    if not way.shrink:
        return make_batch(pixels, questions, model, way.settings, renumber=way.renumber)
    pruned = make_batch(pixels, questions, model, way.settings)
    small = [shrunk(image, len(kept)) for image, kept in zip(pixels, pruned.kept, strict=True)]
    return replace(make_batch(small, questions, model), tokens=pruned.tokens)


def right_answers(model: Any, batch: Batch) -> NDArray[np.bool_]:
    """Whether the likeliest token is the answer: bool (pages, questions)."""
    with torch.inference_mode():
        found = answer_logits(model, batch).argmax(-1)
    return (found == batch.answers).numpy()


def evaluate(model: Any, kind: str, way: Way, count: int, asked: int) -> dict[str, Any]:
    """Which answers are right, by kind of question and page, and the share of tokens that the model got."""
    pages, questions = held_out(kind, count, asked)
    right: dict[str, list[list[int]]] = {}
    shares = []
    for start in range(0, count, PAGES_AT_ONCE):
        some = slice(start, start + PAGES_AT_ONCE)
        batch = batch_for(pages[some], questions[some], model, way)
        shares += [batch.share] * len(batch.kept)
        for own, found in zip(questions[some], right_answers(model, batch), strict=True):
            for name in {question.kind for question in own}:
                answers = [int(ok) for question, ok in zip(own, found, strict=True) if question.kind == name]
                right.setdefault(name, []).append(answers)
    return {"kept": float(np.mean(shares)), "right": right}
