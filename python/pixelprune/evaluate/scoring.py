"""How the answers of each benchmark are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PixelPruneError
from . import prompts
from .files.tsv import texts
from .metrics import Box, anls, contains, hits, mmlongbench, option, point_of, relaxed_accuracy
from .metrics.pages import check
from .metrics.points import Points
from .metrics.rules import Rules
from .questions import Answer, Question, Score

FORMULAS = ("HME100k", "Handwritten Mathematical Expression Recognition")
"""The data set, and the category of OCRBench, whose answers are formulas."""
JUDGE = "VLMEvalKit has a judge model extract the answer first, which is not done here; --rules lmms-eval needs none"
"""Why MMLongBench-Doc is not scored with VLMEvalKit's rules."""
BOXES = "boxes that leave their image, which VLMEvalKit refuses"
"""Why some questions of ScreenSpot are not scored."""


@dataclass(frozen=True)
class Scoring:
    """What a metric needs beside question and answer.

    Attributes:
        rules: those of a harness.
        points: what coordinates are.
    """

    rules: Rules
    points: Points


def of_anls(question: Question, answer: Answer, _: Scoring) -> list[Score]:
    """ANLS."""
    return [Score(anls(answer.text, question.fields["answers"]))]


def of_numbers(question: Question, answer: Answer, how: Scoring) -> list[Score]:
    """Relaxed accuracy."""
    return [Score(relaxed_accuracy(answer.text, question.fields["answers"], how.rules))]


def of_text(question: Question, answer: Answer, how: Scoring) -> list[Score]:
    """Whether an expected text occurs."""
    names = ("dataset", "category", "question_type")
    formula = next((question.fields[name] in FORMULAS for name in names if name in question.fields), False)
    return [Score(contains(answer.text, question.fields["answers"], how.rules, formula=formula))]


def of_option(question: Question, answer: Answer, how: Scoring) -> list[Score]:
    """Whether the right option is named."""
    options, right = prompts.options(question.fields), prompts.right_option(question.fields)
    return [Score(option(answer.text, options, right, how.rules))]


def of_document(question: Question, answer: Answer, how: Scoring) -> list[Score]:
    """MMLongBench-Doc."""
    if how.rules == "vlmevalkit":
        return [Score(None)]
    fields = question.fields
    return [Score(mmlongbench(answer.text.strip(), fields["answer"], fields["answer_format"]))]


def of_click(question: Question, answer: Answer, how: Scoring) -> list[Score]:
    """Whether the point is in the box."""
    size = answer.sizes[0]
    try:
        box = Box.of(box_numbers(question.fields), size, question.fields["box_form"], how.rules)
    except PixelPruneError:
        return [Score(None)]
    seen = answer.seen[0] if answer.seen else None
    return [Score(hits(point_of(answer.text, size, how.rules, how.points, seen), box))]


def box_numbers(fields: Mapping[str, Any]) -> list[float]:
    """The box of a row.

    Raises:
        ValueError: it has something else than numbers.
    """
    return [float(number) for number in texts(fields["bbox"])]


def of_page(question: Question, answer: Answer, _: Scoring) -> list[Score]:
    """The checks of olmOCR-bench."""
    return [Score(check(test, answer.text), group) for group, test in question.fields["tests"]]
