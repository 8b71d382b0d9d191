"""From answers to shares of right ones, with paired intervals, and to Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pixelprune.evaluate import paired_intervals
from pixelprune.markdown import markdown

from .evaluation import ALL
from .state import Key

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """Right answers to one kind of questions, in per cent, and the change from all tokens, of the same model.

    Attributes:
        kept: the share of tokens that the model got, in per cent.
        right: the mean over pages and seeds; `seeds` has one value a seed.
        change: points gained over all tokens, on the same questions; `low` and `high` bound 95 % of the resamples.
    """

    regime: str
    kind: str
    way: str
    question: str
    kept: float
    right: float
    seeds: tuple[float, ...]
    change: float
    low: float
    high: float


def figures(results: Mapping[Key, Mapping[str, Any]]) -> list[Figure]:
    """All figures; of each kind of pages with those of all tokens only."""
    found = []
    groups: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for (regime, seed, kind, way), result in results.items():
        groups.setdefault((regime, kind, way), {})[seed] = result
    for (regime, kind, way), by_seed in groups.items():
        whole = groups.get((regime, kind, ALL), {})
        seeds = sorted(by_seed.keys() & whole.keys())
        for question in by_seed[seeds[0]]["right"] if seeds else ():
            right = page_shares(by_seed[seed]["right"][question] for seed in seeds)
            change = right - page_shares(whole[seed]["right"][question] for seed in seeds)
            low, high = interval(change.mean(0))
            kept = float(np.mean([by_seed[seed]["kept"] for seed in seeds]))
            found.append(
                Figure(
                    *(regime, kind, way, question),
                    kept=100 * kept,
                    right=100 * float(right.mean()),
                    seeds=tuple(100 * float(share) for share in right.mean(1)),
                    change=100 * float(change.mean()),
                    low=100 * low,
                    high=100 * high,
                )
            )
    return found


def page_shares(answers: Iterable[Sequence[Sequence[int]]]) -> Shares:
    """The share of right answers on each page: (seeds, pages)."""
    return np.array([[np.mean(page) for page in pages] for pages in answers])


def interval(changes: Shares) -> tuple[float, float]:
    """The middle 95 % of means over pages that are drawn again with replacement: paired, as questions of a page are."""
    [found] = paired_intervals(changes[:, None], [str(page) for page in range(len(changes))])
    return found.low, found.high


def tables(found: Sequence[Figure], regimes: Sequence[str], kinds: Sequence[str], ways: Sequence[str]) -> list[str]:
    """A table of the first kind of pages for each regime, with changes, and one of all kinds."""
    by_name: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in found:
        by_name.setdefault((figure.regime, figure.kind, figure.way), []).append(figure)
    shown = []
    for regime in regimes:
        first = [by_name[(regime, kinds[0], way)] for way in ways if (regime, kinds[0], way) in by_name]
        if not first:
            continue
        rows = [[f"trained on {regime}, {kinds[0]} pages", "kept"]]
        for figure in sorted(first[0], key=_question):
            rows[0] += [figure.question, "change, 95 %"]
        for cells in first:
            row = [cells[0].way, f"{cells[0].kept:.0f} %"]
            for figure in sorted(cells, key=_question):
                row += [f"{figure.right:.1f}", "" if figure.way == ALL else _change(figure)]
            rows.append(row)
        shown.append(markdown(rows))
        rows = [[f"trained on {regime}: kept, right answers", *kinds]]
        for way in ways:
            if all((regime, kind, way) in by_name for kind in kinds):
                rows.append([way, *(_cell(by_name[(regime, kind, way)]) for kind in kinds)])
        shown.append(markdown(rows))
    return shown


def _question(figure: Figure) -> int:
    return ("READ", "FIND", "TICK", "GREY").index(figure.question)


def _change(figure: Figure) -> str:
    return f"{figure.change:+.1f} ({figure.low:+.1f} to {figure.high:+.1f})"


def _cell(cells: Sequence[Figure]) -> str:
    right = " / ".join(f"{figure.right:.1f}" for figure in sorted(cells, key=_question))
    return f"{cells[0].kept:.0f} %: {right}"


def as_json(found: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures, rounded, for a record."""
    return [
        {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(figure).items()}
        | {"seeds": [round(share, 2) for share in figure.seeds]}
        for figure in found
    ]
