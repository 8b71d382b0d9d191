"""What the answers come to: a line for each condition, and the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .answers import AnswerFile
from .conditions import Condition
from .intervals import Interval, paired_intervals
from .questions import Answer, Question
from .report import Line, Summary
from .scoring import Scoring
from .tasks import Task
from .verdicts import Verdict, sentence, verdict

Scores = NDArray[np.float64]


def summarize(
    task: Task,
    questions: Sequence[Question],
    conditions: Sequence[Condition],
    answers: AnswerFile,
    how: Scoring,
    *,
    margin: float = 1.0,
    seed: int = 0,
) -> Summary:
    """Score the answers.

    Args:
        task: the benchmark.
        questions: those asked.
        conditions: those asked under, the stock model first.
        answers: one for each question and condition.
        how: what the metric needs.
        margin: as in `verdict`.
        seed: of the intervals.
    """
    values, clusters, groups, kinds, missing = _scores(task, questions, conditions, answers, how)
    images = len({question.cluster for question in questions})
    intervals: list[Interval] = []
    if len(values):
        differences = 100 * (values[:, 1:] - values[:, :1])
        intervals = paired_intervals(differences, clusters, groups, seed=seed) if differences.shape[1] else []
    said = {one.name: [answers[question.id, one.name] for question in questions] for one in conditions}
    lines: list[Line] = []
    for at, condition in enumerate(conditions):
        own = said[condition.name]
        score = _mean(values[:, at], groups)
        difference = intervals[at - 1] if at and intervals else None
        found = None
        if difference is not None and lines[0].score is not None:
            found = verdict(difference, len(set(clusters)), lines[0].score, margin)
        lines.append(_line(condition.name, own, said["stock"], score, difference, found, values[:, at], kinds))
    return Summary(
        task=task.name,
        metric=task.metric,
        questions=len(questions),
        images=images,
        scored=len(values),
        not_scored=(missing, task.unscored),
        lines=lines,
        verdict=_verdict_line(conditions, lines, margin, task),
    )


def _scores(
    task: Task,
    questions: Sequence[Question],
    conditions: Sequence[Condition],
    answers: AnswerFile,
    how: Scoring,
) -> tuple[Scores, list[str], list[str], list[str], int]:
    """Return (scores, conditions), and of each score the cluster, group and kind; and how many can't be told."""
    rows: list[list[float]] = []
    clusters, groups, kinds, missing = [], [], [], 0
    for question in questions:
        scored = [task.score(question, answers[question.id, condition.name], how) for condition in conditions]
        for parts in zip(*scored, strict=True):
            values = [part.value for part in parts if part.value is not None]
            if len(values) < len(parts):
                missing += 1
                continue
            rows.append(values)
            clusters.append(question.cluster)
            groups.append(parts[0].group)
            kinds.append(question.kind or parts[0].group)
    return np.array(rows).reshape(len(rows), len(conditions)), clusters, groups, kinds, missing


def _line(
    name: str,
    own: Sequence[Answer],
    stock: Sequence[Answer],
    score: float | None,
    difference: Interval | None,
    found: Verdict | None,
    values: Scores,
    kinds: Sequence[str],
) -> Line:
    same = [one.text.strip() == other.text.strip() for one, other in zip(own, stock, strict=True)]
    tokens, stock_tokens = _tokens(own), _tokens(stock)
    prompts, stock_prompts = _prompts(own), _prompts(stock)
    fewer = stock_tokens / tokens if tokens and stock_tokens else None
    if fewer is None and prompts and stock_prompts:
        fewer = stock_prompts / prompts
    prefills = [one.prefill for one in own if one.prefill is not None]
    peaks = [one.peak_bytes for one in own if one.peak_bytes is not None]
    split = {kind: 100 * float(np.mean(values[[k == kind for k in kinds]])) for kind in set(kinds) if kind}
    return Line(
        name=name,
        score=score,
        difference=difference,
        agreement=statistics.fmean(same),
        tokens=tokens,
        prompt_tokens=prompts,
        fewer=fewer,
        prefill=statistics.median(prefills) if prefills else None,
        seconds=statistics.median(one.seconds for one in own),
        peak_bytes=max(peaks) if peaks else None,
        unfinished=sum(not one.finished for one in own),
        kinds=split,
        verdict=found,
    )


def _mean(values: Scores, groups: Sequence[str]) -> float | None:
    if not len(values):
        return None
    names = np.array(groups)
    return 100 * float(np.mean([values[names == name].mean() for name in set(groups)]))


def _tokens(answers: Sequence[Answer]) -> float | None:
    counts = [sum(one.tokens) for one in answers if one.tokens is not None]
    return statistics.fmean(counts) if len(counts) == len(answers) else None


def _prompts(answers: Sequence[Answer]) -> float | None:
    counts = [one.prompt_tokens for one in answers if one.prompt_tokens is not None]
    return statistics.fmean(counts) if len(counts) == len(answers) else None


def _verdict_line(conditions: Sequence[Condition], lines: Sequence[Line], margin: float, task: Task) -> str:
    """The verdict on the setting to adopt, or without one on that which loses least."""
    by_name = {line.name: line for line in lines}
    stock = lines[0].score
    if stock is None:
        return f"no verdict: nothing could be scored ({task.unscored})"
    if stock <= margin:
        return (
            f"no verdict: the stock model scores {stock:.1f}, no more than the margin of {margin:g}, so that "
            "nothing can be lost"
        )
    asked = [one for one in conditions if one.kind == "pruned"] or [one for one in conditions if one.kind == "shrunk"]
    if not asked:
        return f"no verdict: only the stock model was asked, which scores {stock:.1f}"

    def worth(condition: Condition) -> tuple[bool, bool, float]:
        line = by_name[condition.name]
        adopt = line.verdict == "adopt"
        value = (line.fewer or 0.0) if adopt else line.difference.mean if line.difference else 0.0
        return adopt, line.verdict != "do not adopt", value

    best = max(asked, key=worth)
    line = by_name[best.name]
    assert line.verdict is not None
    assert line.difference is not None
    assert best.settings is not None
    other = by_name.get(Condition("shrunk", best.settings).name) if best.kind == "pruned" else None
    text = sentence(line.verdict, best.settings, line.difference, line.fewer, other.difference if other else None)
    return text if best.kind == "pruned" else f"shrinking to the tokens of {best.name.partition(':')[2]}: {text}"
