"""An image processor that prunes, used by a processor in place of its own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature

from ..errors import PixelPruneError
from ..images.options import Resample
from ..images.preprocessing import preprocess
from ..plan import ModelSpec, VisionPlan
from ..selection.pruning import prune_pixel_values
from ..selection.settings import PruneSettings
from ..spec import VisionSpec
from .apply import take_patches

_BACKENDS: dict[str, Resample] = {
    "TorchvisionBackend": "torchvision",
    "BaseImageProcessorFast": "torchvision",  # its former name
    "PilBackend": "pillow",
}
"""Base classes of image processors that `preprocess` reproduces bit for bit, and the ``resample`` to do it with."""

_PLAIN_MODES = ("RGB", "L")
"""Image modes that every release converts to RGB in the same way: no alpha, no palette."""

_MERGE_SIZES = "image_merge_sizes"
_OUTPUT = {"pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", _MERGE_SIZES}
"""The output keys that are supported here."""

_CUT = ("patch_size", "merge_size", "patch_order")
"""The fields of a `VisionSpec` that decide which pixels belong to which token, and the order of rows."""

_WITHOUT_EFFECT = ("return_tensors", "disable_grouping", "do_convert_rgb")


class PruningImages:
    """Replaces an image processor during one call of a processor.

    It returns kept patches and flat grids, so that the processor writes one placeholder per kept token into the
    prompt. Images go through `pixelprune.preprocess` where that gives the image processor's own pixels bit for bit;
    otherwise through the image processor, whose output is then pruned. All other attributes are the image
    processor's. A processor returns flat grids only, so the original ones stay here, in ``media``.

    Attributes:
        media: the kept tokens of all images; None until the processor has asked for images.
    """

    def __init__(self, stock: Any, spec: ModelSpec, settings: PruneSettings, threads: int | None = None) -> None:
        self.stock = stock
        self.media: VisionPlan | None = None
        self._spec = spec
        self._settings = settings
        self._threads = threads

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
        flat_images = _flatten(images)
        vision, resample = self._same_pixels(flat_images, args, kwargs)
        if vision is not None and resample is not None:
            batch = preprocess(flat_images, vision, resample=resample, settings=self._settings, threads=self._threads)
            self.media = VisionPlan(self._spec, tuple(batch.selections))
            features = {
                "pixel_values": torch.from_numpy(batch.pixel_values),
                "image_grid_thw": torch.from_numpy(batch.flat_grid_thw),
            }
            if _MERGE_SIZES in self.stock.model_input_names:
                features[_MERGE_SIZES] = torch.full((len(batch),), vision.merge_size)
            return BatchFeature(features)
        out: BatchFeature = self.stock(images, *args, **kwargs)
        values, grids = out["pixel_values"], np.asarray(out["image_grid_thw"])
        values = values if isinstance(values, torch.Tensor) else np.asarray(values)
        selections = prune_pixel_values(
            values, grids, self._spec.vision, settings=self._settings, threads=self._threads
        )
        self.media = VisionPlan(self._spec, tuple(selections))
        flat = self.media.flat_grids
        like_tensor = isinstance(out["image_grid_thw"], torch.Tensor)
        out["pixel_values"] = take_patches(values, self.media)
        out["image_grid_thw"] = torch.from_numpy(flat) if like_tensor else flat
        return out

    def _same_pixels(
        self, flat_images: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[VisionSpec | None, Resample | None]:
        """Return the arguments with which `preprocess` makes the image processor's own pixels; None, None if unsure."""
        stock = self.stock
        bases = {base.__name__ for base in type(stock).__mro__}
        resample = next((name for base, name in _BACKENDS.items() if base in bases), None)
        own = type(stock).__module__.startswith("transformers.models.")
        plain = all(
            isinstance(image, Image.Image) and image.mode in _PLAIN_MODES and "transparency" not in image.info
            for image in flat_images
        )
        changed = any(
            value is not None and name not in _WITHOUT_EFFECT and value != getattr(stock, name, None)
            for name, value in kwargs.items()
        )
        known = _OUTPUT.issuperset(stock.model_input_names)
        if resample is None or not own or not plain or not known or changed or args or not flat_images:
            return None, None
        try:
            vision = VisionSpec.from_config(stock)
        except PixelPruneError:
            return None, None
        if any(getattr(vision, name) != getattr(self._spec.vision, name) for name in _CUT):
            return None, None
        return vision, resample


def _flatten(images: Any) -> list[Any]:
    """Return all images of nested lists in one list, as processors do."""
    if isinstance(images, (list, tuple)):
        return [image for part in images for image in _flatten(part)]
    return [images]
