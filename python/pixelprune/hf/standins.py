"""What stands in for parts of a processor during one call: a tokenizer, and an image processor for given tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from ..errors import PixelPruneError
from ..plan import ModelSpec, VisionPlan, make_plan
from ..selection.settings import PruneSettings
from .apply import Padding, take_patches
from .images import PruningImages

_NO_LIMIT = 10**20
"""A tokenizer's ``model_max_length`` above this means that there is none."""


class ChosenImages(PruningImages):
    """A `PruningImages` whose kept tokens are chosen by a function of the image processor's output."""

    def __init__(self, stock: Any, spec: ModelSpec, choose: Callable[[Any], Sequence[Any] | None]) -> None:
        super().__init__(stock, spec, PruneSettings())
        self._choose = choose

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """Return the image processor's output for the kept patches."""
        out: BatchFeature = self.stock(images, *args, **kwargs)
        grids = out["image_grid_thw"]
        self.media = make_plan(self._spec, np.asarray(grids), self._choose(out)).images
        flat = self.media.flat_grids
        out["pixel_values"] = take_patches(out["pixel_values"], self.media)
        out["image_grid_thw"] = torch.from_numpy(flat) if isinstance(grids, torch.Tensor) else flat
        return out


class RecordingTokenizer:
    """A tokenizer that remembers how it is asked to pad, and does not cut an image in two.

    Its class is derived from that of the given tokenizer, with which it shares its state.
    """

    __slots__ = ("_asked", "_images")

    _asked: dict[str, Any]
    _images: PruningImages

    def __new__(cls, tokenizer: Any, images: PruningImages) -> RecordingTokenizer:
        """Derive a tokenizer from the given one; ``images`` has what the prompts' images kept."""
        made: Any = object.__new__(_recording_class(type(tokenizer)))  # type: ignore[arg-type]
        made.__dict__ = tokenizer.__dict__
        made._asked = {}
        made._images = images
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the tokenizer's output."""
        self._asked = kwargs
        out = super().__call__(*args, **kwargs)  # type: ignore[misc]
        if self._images.media is not None:
            self._check(out["input_ids"], self._images.media)
        return out

    def _check(self, prompts: Any, media: VisionPlan) -> None:
        if self._asked.get("truncation") in (None, False, "do_not_truncate"):
            return
        left = sum(int((np.asarray(row) == media.spec.image_token_id).sum()) for row in prompts)
        total = int(media.kept.sum())
        if left < total:
            raise PixelPruneError(
                f"truncation to {self._limit} tokens cuts an image: {left} of the images' {total} kept tokens are "
                "left; expected a larger max_length, shorter text, fewer images or a higher threshold"
            )

    @property
    def _limit(self) -> int | None:
        """The ``max_length`` that is in force; None if there is none."""
        limit = self._asked.get("max_length")
        limit = self.model_max_length if limit is None else limit  # type: ignore[attr-defined]
        return None if limit > _NO_LIMIT else int(limit)

    @property
    def padding_of_call(self) -> Padding:
        """How prompts are padded as in its last call."""
        length, multiple = 0, 1
        if self._asked.get("padding") not in (None, False, "do_not_pad"):
            multiple = self._asked.get("pad_to_multiple_of") or 1
        if self._asked.get("padding") == "max_length":
            length = self._limit or 0
        own: Any = self
        return Padding(self._asked.get("padding_side") or own.padding_side, own.pad_token_id, length, multiple)


@functools.cache
def _recording_class(kind: type[Any]) -> Any:
    """Return a class of the same name derived from a tokenizer's: transformers looks at both."""
    return type(kind.__name__, (RecordingTokenizer, kind), {"__slots__": (), "__init__": lambda self, *_: None})
