"""What answers the questions: a checkpoint on this machine, or an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from PIL import Image

from ...selection.settings import PruneSettings
from ..conditions import Condition
from ..metrics.points import Points
from ..questions import Answer


class Engine(Protocol):
    """A model that answers.

    Attributes:
        identity: what the answers depend on; answers of another identity are not mixed with its own.
        device: where it runs, for people.
        points: what coordinates in its answers are; None if that is not known.
    """

    identity: Mapping[str, Any]
    device: str
    points: Points | None

    def check(self, conditions: Sequence[Condition]) -> None:
        """Raise `PixelPruneError` for a condition that it can't answer under."""

    def count(self, images: Sequence[Image.Image], settings: PruneSettings) -> tuple[int, ...]:
        """Return how many tokens the settings keep of each image."""

    def answer(
        self,
        prompt: str,
        images: Sequence[Image.Image],
        condition: Condition,
        *,
        counts: Sequence[int] = (),
        length: int,
        seed: int = 0,
    ) -> Answer:
        """Answer one question.

        Args:
            prompt: the text after the images.
            images: Pillow images of mode ``"RGB"``.
            condition: how.
            counts: tokens of each image, for the baselines.
            length: the most tokens of the answer.
            seed: of the random tokens.
        """
