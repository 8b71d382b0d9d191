"""The table of the conditions, and the verdict below it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..markdown import markdown
from .intervals import Interval
from .verdicts import Verdict


@dataclass(frozen=True)
class Line:
    """One condition.

    Attributes:
        name: of the condition.
        score: the benchmark's, in points of 100; None if nothing could be scored.
        difference: to the stock model, in points, with its interval of 95 %; None for the stock model itself.
        agreement: the share of answers that are the stock model's, but for space at the ends.
        tokens: image tokens of a question, mean; None if not known.
        prompt_tokens: tokens of a prompt, mean; None if not known.
        fewer: image tokens of the stock model over these; prompt tokens where image tokens are not known.
        prefill: seconds to the first token, median; None if not measured.
        seconds: seconds to the last token, median.
        peak_bytes: the most memory on the accelerator; None without one.
        unfinished: answers that were cut at their greatest length.
        kinds: scores in points by the benchmark's own split.
        verdict: on this condition; None for the stock model.
    """

    name: str
    score: float | None
    difference: Interval | None
    agreement: float
    tokens: float | None
    prompt_tokens: float | None
    fewer: float | None
    prefill: float | None
    seconds: float
    peak_bytes: int | None
    unfinished: int
    kinds: dict[str, float]
    verdict: Verdict | None


@dataclass(frozen=True)
class Summary:
    """All conditions.

    Attributes:
        task: the benchmark's name.
        metric: its metric.
        questions: how many were asked.
        images: how many they are about, clusters of the intervals.
        scored: scores of each condition: one for a question, or one for each check of a page.
        not_scored: how many more can't be told, and why.
        lines: one for each condition, the stock model first.
        verdict: the verdict line.
        made_with: what the answers depend on, and the options of this summary.
    """

    task: str
    metric: str
    questions: int
    images: int
    scored: int
    not_scored: tuple[int, str]
    lines: list[Line]
    verdict: str
    made_with: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what `json` writes."""
        found = dataclasses.asdict(self)
        for line, own in zip(found["lines"], self.lines, strict=True):
            line["difference"] = own.difference and own.difference._asdict()
        return found

    def as_markdown(self) -> str:
        """Return a table of the conditions, one of the benchmark's split, and the verdict line."""
        rows = [
            [
                f"{self.task}, {self.metric}",
                "score",
                "to stock [95 %]",
                "same answer",
                "image tokens",
                "fewer",
                "prompt tokens",
                "prefill",
                "answer",
                "memory",
                "verdict",
            ]
        ]
        rows += [_cells(line) for line in self.lines]
        full = [column for column in zip(*rows, strict=True) if any(column[1:])]
        parts = [markdown([list(row) for row in zip(*full, strict=True)])]
        kinds = sorted(self.lines[0].kinds) if self.lines else []
        if len(kinds) > 1:
            table = [["score", *kinds], *([line.name, *(f"{line.kinds[k]:.1f}" for k in kinds)] for line in self.lines)]
            parts.append(markdown(table))
        count, reason = self.not_scored
        about = f"{self.questions} questions about {self.images} images, {self.scored} scores each"
        parts.append(f"{about}; not scored: {count} ({reason})" if count else about)
        cut = sum(line.unfinished for line in self.lines)
        if cut:
            parts.append(f"{cut} answers were cut at their greatest length (--max-new-tokens)")
        return "\n\n".join([*parts, self.verdict])


def _cells(line: Line) -> list[str]:
    return [
        line.name,
        "" if line.score is None else f"{line.score:.1f}",
        "" if line.difference is None else str(line.difference),
        f"{line.agreement:.1%}",
        "" if line.tokens is None else f"{line.tokens:.0f}",
        "" if line.fewer is None else f"{line.fewer:.1f}x",
        "" if line.prompt_tokens is None else f"{line.prompt_tokens:.0f}",
        "" if line.prefill is None else f"{1000 * line.prefill:.0f} ms",
        f"{1000 * line.seconds:.0f} ms",
        "" if line.peak_bytes is None else f"{line.peak_bytes / 2**30:.1f} GiB",
        line.verdict or "",
    ]
