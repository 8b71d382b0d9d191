"""Questions of a benchmark, and the answers to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Question:
    """One prompt with its images, and what its answer is compared with.

    Attributes:
        id: unique in the benchmark.
        prompt: the text after the images.
        images: each returns a Pillow image, 8-bit RGB.
        fields: what the metric needs, as the benchmark's file has it.
        cluster: equal for questions about one image or document.
        kind: the benchmark's own split of its questions, such as ``"human_test"``; empty if it has none.
    """

    id: str
    prompt: str
    images: tuple[Callable[[], Image.Image], ...] = field(compare=False)
    fields: Mapping[str, Any]
    cluster: str
    kind: str = ""


@dataclass(frozen=True)
class Answer:
    """What a model said, and what it cost.

    Attributes:
        text: the answer.
        sizes: (width, height) in pixels of each image of the question.
        tokens: image tokens that the model was given, by image; None if they are not known.
        seen: (width, height) in pixels of each image as the model saw it; None if not known.
        prompt_tokens: tokens of the prompt, image tokens included; None if not known.
        prefill: seconds from the prepared inputs to the first token of the answer; None if not measured.
        seconds: seconds to the last token.
        peak_bytes: the most memory that was allocated on the accelerator; None without one.
        finished: False if the answer was cut at its greatest length.
    """

    text: str
    sizes: tuple[tuple[int, int], ...] = ()
    tokens: tuple[int, ...] | None = None
    seen: tuple[tuple[int, int], ...] | None = None
    prompt_tokens: int | None = None
    prefill: float | None = None
    seconds: float = 0.0
    peak_bytes: int | None = None
    finished: bool = True


@dataclass(frozen=True)
class Score:
    """What an answer is worth.

    Attributes:
        value: from 0 to 1; None if it can't be scored.
        group: the benchmark's score is the mean over groups of their means.
    """

    value: float | None
    group: str = ""


def fingerprint(questions: Sequence[Question]) -> str:
    """Return a text that differs for other questions, images or expected answers.

    Args:
        questions: any.

    Example:
        >>> from pixelprune.evaluate.questions import Question, fingerprint
        >>> one, other = (Question("0", text, (), {"answer": "1"}, "a") for text in ("How many?", "How much?"))
        >>> fingerprint([one]) == fingerprint([other])
        False
    """
    known = hashlib.sha256()
    for one in questions:
        known.update(json.dumps([one.id, one.prompt, one.cluster, one.fields], sort_keys=True, default=str).encode())
    return known.hexdigest()[:16]


def drawn(questions: Sequence[Question], limit: int | None, seed: int) -> list[Question]:
    """Return some of the questions, drawn at random, in their order. A larger limit adds to those of a smaller one.

    Args:
        questions: all.
        limit: how many at most; None: all.
        seed: of the draw.

    Example:
        >>> from pixelprune.evaluate.questions import Question, drawn
        >>> questions = [Question(str(i), "", (), {}, str(i)) for i in range(9)]
        >>> few, more = (drawn(questions, limit, seed=0) for limit in (3, 5))
        >>> {one.id for one in few} < {one.id for one in more}
        True
    """
    if limit is None or limit >= len(questions):
        return list(questions)
    order = np.random.default_rng(seed).permutation(len(questions))
    return [questions[i] for i in sorted(order[:limit])]
