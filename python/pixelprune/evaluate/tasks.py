"""The benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import prompts, scoring
from .metrics.pages import MATH
from .metrics.points import Points
from .metrics.rules import Rules
from .questions import Answer, Question, Score
from .scoring import Scoring


@dataclass(frozen=True)
class Task:
    """A benchmark.

    Attributes:
        name: as in the options of the command line.
        metric: the name of its metric.
        length: the most tokens of an answer, by default.
        needs: fields of a row; of a tuple one is enough.
        prompt: makes the prompt of a row.
        score: scores an answer.
        kinds: fields that split the benchmark, the first that a row has.
        unscored: why some answers are not scored.
        packages: what reading and scoring it takes beside the core.
    """

    name: str
    metric: str
    length: int
    needs: tuple[str | tuple[str, ...], ...]
    prompt: Callable[[Mapping[str, Any], Rules, Points], str]
    score: Callable[[Question, Answer, Scoring], list[Score]]
    kinds: tuple[str, ...] = ()
    unscored: str = ""
    packages: tuple[str, ...] = ()


_QUESTION = ("question", ("answers", "answer"))
_OPTIONS = ("question", "answer", ("options", "A"))

TASKS = {
    task.name: task
    for task in (
        Task("docvqa", "ANLS", 32, _QUESTION, prompts.short, scoring.of_anls),
        Task("infovqa", "ANLS", 32, _QUESTION, prompts.short, scoring.of_anls),
        Task("chartqa", "relaxed accuracy", 16, _QUESTION, prompts.word, scoring.of_numbers, ("split", "type")),
        Task("ai2d", "accuracy", 16, _OPTIONS, prompts.choice, scoring.of_option, ("category",)),
        Task("ocrbench", "accuracy", 128, _QUESTION, prompts.bare, scoring.of_text, ("category", "question_type")),
        Task(
            "screenspot",
            "accuracy",
            128,
            (("instruction", "question"), "bbox"),
            prompts.click,
            scoring.of_click,
            ("data_type",),
            scoring.BOXES,
        ),
        Task(
            "screenspot_pro",
            "accuracy",
            128,
            (("instruction", "question"), "bbox"),
            prompts.click,
            scoring.of_click,
            ("ui_type",),
            scoring.BOXES,
        ),
        Task(
            "mmlongbench",
            "accuracy",
            1024,
            ("question", "answer", "answer_format", "evidence_pages"),
            prompts.document,
            scoring.of_document,
            ("doc_type",),
            scoring.JUDGE,
            ("pypdfium2",),
        ),
        Task(
            "olmocr",
            "pass rate",
            4096,
            ("tests",),
            prompts.page,
            scoring.of_page,
            unscored=MATH,
            packages=("pypdfium2", "rapidfuzz", "fuzzysearch", "bs4"),
        ),
    )
}
