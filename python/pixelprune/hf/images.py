"""An image processor that prunes, used by a processor in place of its own during one call."""

from __future__ import annotations

import copy
from typing import Any

from transformers import BatchFeature

from ..errors import PixelPruneError
from ..plan import ModelSpec, VisionPlan
from ..selection.settings import PruneSettings
from .batch import RECORD
from .image_processor import PrunedImageProcessor

_CUT = ("patch_size", "merge_size", "patch_order")
"""The fields of a `VisionSpec` that decide which pixels belong to which token, and the order of rows."""


class PruningImages:
    """Replaces an image processor during one call of a processor.

    It returns what a `PrunedImageProcessor` does, so that the processor writes one placeholder per kept token into the
    prompt, and keeps what it dropped. All other attributes are the image processor's.

    Attributes:
        media: the kept tokens of all images; None until the processor has asked for images.
    """

    def __init__(self, stock: Any, spec: ModelSpec, settings: PruneSettings, threads: int | None = None) -> None:
        self.stock = stock
        self.media: VisionPlan | None = None
        self._spec = spec
        self._twin: Any = PrunedImageProcessor(stock, settings=settings, threads=threads)

    def __getattr__(self, name: str) -> Any:
        if name == "stock":  # not set yet, as in a copy: looking it up here would recurse
            raise AttributeError(name)
        return getattr(self.stock, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return copy.copy, (self.stock,)  # a copy outlives the call, so it is one of the image processor

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """Return the image processor's output for the kept patches."""
        if self.media is not None:
            raise PixelPruneError("the processor calls its image processor twice; expected one call for all images")
        out: BatchFeature = self._twin(images, *args, **kwargs)
        selections = tuple(out.selections)
        found = selections[0].spec if selections else self._spec.vision
        for name in _CUT:
            if getattr(found, name) != getattr(self._spec.vision, name):
                raise PixelPruneError(
                    f"the image processor cuts images with {name} {getattr(found, name)}; expected the model's, "
                    f"{getattr(self._spec.vision, name)}"
                )
        self.media = VisionPlan(self._spec, selections)
        del out[RECORD]
        return out
