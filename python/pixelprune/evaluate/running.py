"""Asking every question under every condition."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import PixelPruneError
from ..files.whole import write_text
from .answers import FILE, AnswerFile
from .conditions import Condition
from .engines import Engine
from .metrics.points import Points
from .metrics.rules import Rules
from .questions import Question, drawn, fingerprint
from .report import Summary
from .requirements import need
from .scoring import Scoring
from .summary import summarize
from .tasks import TASKS


def evaluate(
    task: str,
    questions: Sequence[Question],
    engine: Engine,
    conditions: Sequence[Condition],
    out: Path,
    *,
    rules: Rules = "lmms-eval",
    points: Points = "harness",
    limit: int | None = None,
    length: int | None = None,
    margin: float = 1.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Ask questions under conditions, and compare the answers with the stock model's.

    Answers are written as they come. A run that was stopped goes on where it was, with the same questions and model.

    Args:
        task: a key of `TASKS`.
        questions: as `read_questions` returns them.
        engine: a `Checkpoint` or an `Endpoint`.
        conditions: as `conditions_of` returns them, the stock model first.
        out: the folder for ``answers.jsonl``, ``summary.json`` and ``report.md``; made if there is none.
        rules: the harness whose metric it is.
        points: what coordinates in the answers are.
        limit: ask only so many questions, drawn at random; None: all.
        length: the most tokens of an answer; None: the task's.
        margin: the loss in points that is accepted; see `verdict`.
        seed: of the drawn questions, the random tokens and the intervals.
        progress: called with the number of answers that are there, and of all.

    Raises:
        PixelPruneError: the folder has answers made with something else, the engine can't answer under a condition, or
            an image can't be read.
        ImportError: a package that the benchmark takes is missing.
        OSError: a file can't be read or written.
    """
    if task not in TASKS:
        raise PixelPruneError(f"the task is {task!r}; expected one of {', '.join(TASKS)}")
    if not conditions or conditions[0].kind != "stock":
        raise PixelPruneError("the first condition is not the stock model's; expected it, to compare with")
    if not margin > 0:
        raise PixelPruneError(f"the margin is {margin:g} points; expected more than 0")
    if any(value is not None and value < 1 for value in (limit, length)):
        raise PixelPruneError("limit and length have to be at least 1")
    for package in TASKS[task].packages:  # before anything is asked
        need(package, task)
    engine.check(conditions)
    length = length or TASKS[task].length
    asked = drawn(questions, limit, seed)
    made_with: dict[str, Any] = {
        "task": task,
        "rules": rules,
        "points": points,
        "questions": fingerprint(questions),
        "length": length,
        "seed": seed,
        **engine.identity,
    }
    out.mkdir(parents=True, exist_ok=True)
    with AnswerFile(out / FILE, made_with) as answers:
        wanted = len(asked) * len(conditions)
        have = sum((question.id, one.name) in answers for question in asked for one in conditions)
        for question in asked:
            missing = [condition for condition in conditions if (question.id, condition.name) not in answers]
            if missing:
                for _ in _ask(question, missing, answers, engine, length, seed):
                    have += 1
                    if progress is not None:
                        progress(have, wanted)
        summary = summarize(TASKS[task], asked, conditions, answers, Scoring(rules, points), margin=margin, seed=seed)
    summary.made_with.update(made_with, margin=margin, limit=limit)
    write_text(out / "summary.json", json.dumps(summary.as_dict(), indent=1))
    write_text(out / "report.md", summary.as_markdown() + "\n")
    return summary


def _ask(
    question: Question,
    missing: Sequence[Condition],
    answers: AnswerFile,
    engine: Engine,
    length: int,
    seed: int,
) -> Any:
    """Answer under the conditions, and yield after each."""
    try:
        images = [load() for load in question.images]
    except PixelPruneError as error:
        raise PixelPruneError(f"question {question.id}: {error}") from None
    own_seed = seed ^ zlib.crc32(question.id.encode())
    for condition in missing:
        counts = _counts(question, condition, answers, engine, images)
        answer = engine.answer(question.prompt, images, condition, counts=counts, length=length, seed=own_seed)
        answers.add(question.id, condition.name, answer)
        yield answer


def _counts(
    question: Question, condition: Condition, answers: AnswerFile, engine: Engine, images: Sequence[Image.Image]
) -> tuple[int, ...]:
    """How many tokens a baseline has: those of the pruned images, which were asked about before."""
    if condition.settings is None or condition.kind == "pruned":
        return ()
    pruned = (question.id, Condition("pruned", condition.settings).name)
    tokens = answers[pruned].tokens if pruned in answers else None
    return engine.count(images, condition.settings) if tokens is None else tokens
