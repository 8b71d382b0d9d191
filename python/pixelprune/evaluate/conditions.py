"""What every question is asked under: the stock model, pruned, and the baselines at the same number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..arguments import shown
from ..errors import PixelPruneError
from ..selection.labels import label, parse
from ..selection.settings import PruneSettings

Kind = Literal["stock", "pruned", "random", "shrunk"]
Baseline = Literal["random", "shrunk"]
BASELINES: tuple[Baseline, ...] = ("random", "shrunk")


@dataclass(frozen=True)
class Condition:
    """One way to ask.

    Attributes:
        kind: ``"stock"``; ``"pruned"`` with the settings; ``"random"``: as many tokens, drawn at random; or
            ``"shrunk"``: images that are shrunk to at most as many tokens.
        settings: those whose number of tokens counts; None for the stock model.

    Example:
        >>> from pixelprune.evaluate.conditions import conditions_of
        >>> [condition.name for condition in conditions_of("pred_2d@0.02")]
        ['stock', 'pred_2d@0.02', 'random:pred_2d@0.02', 'shrunk:pred_2d@0.02']
    """

    kind: Kind
    settings: PruneSettings | None = None

    @property
    def name(self) -> str:
        """As in tables and files: the label of the settings, after the kind if that is a baseline."""
        if self.settings is None:
            return self.kind
        return label(self.settings) if self.kind == "pruned" else f"{self.kind}:{label(self.settings)}"


def conditions_of(settings: str, baselines: Sequence[str] = BASELINES, *, pruned: bool = True) -> list[Condition]:
    """Return the stock model's condition, then those of each setting.

    Args:
        settings: labels of settings with commas between them.
        baselines: those wanted.
        pruned: False leaves out the conditions that prune.

    Raises:
        PixelPruneError: a label names no settings or is there twice, or a baseline is unknown.

    Example:
        >>> from pixelprune.evaluate.conditions import conditions_of
        >>> [one.name for one in conditions_of("pred_2d@0, either@0.05+content", [])]
        ['stock', 'pred_2d@0', 'either@0.05+content']
    """
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise PixelPruneError(f"{shown(unknown[0])} is no baseline; expected {', '.join(BASELINES)}")
    found = [parse(text.strip()) for text in settings.split(",")]
    for i, one in enumerate(found):
        if one in found[:i]:
            raise PixelPruneError(f"the settings {label(one)} are there twice; expected each once")
    kinds: list[Kind] = [*(["pruned"] if pruned else []), *(kind for kind in BASELINES if kind in baselines)]  # type: ignore[list-item]
    return [Condition("stock"), *(Condition(kind, one) for one in found for kind in kinds)]
