"""Training the tiny model on fresh pages, whole or pruned."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from pixelprune import PruneSettings
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .batches import Batch, answer_places, make_batch
from .hints import Hints
from .network import make_model
from .pages import Page, draw_page
from .questions import Question, ask, kinds_of

REGIMES: dict[str, PruneSettings | None] = {
    "full": None,
    "pred_2d": PruneSettings(method="pred_2d"),
    "protect": PruneSettings(method="pred_2d", protect="content"),
}
"""What models are trained on, by name: all tokens, or those that the settings keep."""

SHARES = {"mixed": 0.3, "stacked": 0.2, "pale": 0.1, "noise": 0.05, "gradient": 0.05, "jpeg": 0.05, "gui": 0.25}
PAGES, ASKED = 16, 14  # of a step, and of each page
PEAK, WARMUP = 2e-3, 60
HINTS = 0.5
Progress = Callable[[str], None]


def questions_for(page: Page, random: Generator, asked: int) -> list[Question]:
    """Questions about a page, half of each kind that suits it; lines may repeat where there are too few."""
    first, second = kinds_of(page)
    found = []
    for kind, count in ((first, asked - asked // 2), (second, asked // 2)):
        order = [line for _ in range(-(-count // len(page.lines))) for line in random.permutation(len(page.lines))]
        found += [ask(kind, page, int(line)) for line in order[:count]]
    return found


def answer_logits(model: Any, batch: Batch) -> Tensor:
    """The logits at the answers: (pages, questions, vocabulary)."""
    places = answer_places(batch.answers.shape[1])
    logits: Tensor = model(**batch.inputs, use_cache=False, logits_to_keep=-int(places.min())).logits
    return logits[:, places]


def rate(step: int, steps: int) -> float:
    """The learning rate, as a part of its peak: it rises, is held, and falls in the last two fifths."""
    return min(1.0, (step + 1) / WARMUP) * min(1.0, (steps - step) / (0.4 * steps))


def train(regime: str, seed: int, steps: int, progress: Progress, every: int = 50) -> Any:
    """A model trained for some steps."""
    model = make_model(seed)
    hints = Hints(model)
    parameters = [one for one in (*model.parameters(), *hints.parameters()) if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.01)
    random = np.random.default_rng([seed, 1])
    start = time.monotonic()
    losses: list[tuple[float, float]] = []
    right: dict[str, list[bool]] = {}
    model.train()
    for step in range(steps):
        kinds = random.choice(list(SHARES), PAGES, p=list(SHARES.values()))
        pages = [draw_page(str(kind), random) for kind in kinds]
        questions = [questions_for(page, random, ASKED) for page in pages]
        batch = make_batch([page.pixels for page in pages], questions, model, REGIMES[regime])
        for group in optimizer.param_groups:
            group["lr"] = PEAK * rate(step, steps)
        logits = answer_logits(model, batch)
        answers = cross_entropy(logits.flatten(0, 1), batch.answers.flatten())
        hint = hints.loss(model, pages, batch.kept)
        optimizer.zero_grad()
        (answers + HINTS * hint).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append((answers.item(), hint.item()))
        for own, found in zip(questions, (logits.argmax(-1) == batch.answers).tolist(), strict=True):
            for question, ok in zip(own, found, strict=True):
                right.setdefault(question.kind, []).append(ok)
        if (step + 1) % every == 0 or step + 1 == steps:
            answer, named = np.mean(losses, axis=0)
            shares = ", ".join(f"{kind} {100 * np.mean(found):.1f} %" for kind, found in sorted(right.items()))
            progress(
                f"{regime}, seed {seed}: step {step + 1} of {steps}, {time.monotonic() - start:.0f} s, "
                f"loss {answer:.3f} + {named:.3f}, {shares}"
            )
            losses, right = [], {}
    hints.remove()
    return model.eval()
