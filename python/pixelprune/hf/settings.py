"""How a processor prunes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..arguments import shown
from ..errors import PixelPruneError
from ..runtime import resolve
from ..selection.pruning import Method, Metric, check_settings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a `PrunedProcessor` prunes; see `pixelprune.prune`.

    Example:
        >>> from pixelprune.hf import Settings
        >>> Settings(threshold=0.02).method
        'pred_2d'
    """

    threshold: float = 0.0
    method: Method = "pred_2d"
    metric: Metric = "max"
    anchored: bool = True
    seed: int = 42
    threads: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """All but the threshold, as keyword arguments."""
        return {name: value for name, value in vars(self).items() if name != "threshold"}

    def __post_init__(self) -> None:
        given = check_settings(self.method, self.metric, self.threshold, self.anchored, self.seed)
        for name, value in zip(("threshold", "anchored", "seed"), given[2:], strict=True):
            object.__setattr__(self, name, value)
        if not 0 <= self.threshold <= 1:
            raise PixelPruneError(f"threshold is {shown(self.threshold)}; expected a number from 0 to 1")
        resolve(self.threads)
