"""Kept tokens that a scan has stored, for the images of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import shown
from ..errors import PixelPruneError
from ..images.decode import load_image
from ..scan.indices import KeepIndices
from ..scan.sources.conversations import image_of
from ..selection.result import Selection
from ..selection.settings import PruneSettings
from ..spec import VisionSpec
from .pixels import resample_of


def check(indices: object, processor: Any, settings: PruneSettings) -> KeepIndices:
    """Return stored indices if they are what a processor would choose.

    Args:
        indices: a `KeepIndices`.
        processor: the processor without pruning.
        settings: how it is to prune.

    Raises:
        PixelPruneError: they were made for another model, another way to resize, or other settings.
        TypeError: not a `KeepIndices`.
    """
    if not isinstance(indices, KeepIndices):
        raise TypeError(f"keep_indices is {shown(indices)}; expected a pixelprune.scan.KeepIndices")
    images = processor.image_processor
    resample = resample_of(type(images))
    if resample is None:
        raise PixelPruneError(
            f"keep_indices is given, but how {type(images).__name__} resizes is not known; expected an image processor "
            "of transformers, or keep"
        )
    spec = VisionSpec.from_config(images)
    indices.check(spec=spec, resample=resample, alpha=indices.alpha, settings=settings)  # `load` loads with it
    return indices


def load(indices: KeepIndices, images: Any) -> tuple[Any, list[Selection]]:
    """Load images as the scan did, so that they are the pixels that it has measured.

    Args:
        indices: the stored tokens.
        images: paths, bytes or dicts of them, in lists of any depth.

    Returns:
        Pillow images, nested as given, and their stored selections in one list.

    Raises:
        PixelPruneError: an image has none, or is given as pixels; the message says which.
        OSError: a file can't be read.
    """
    found: list[Selection] = []

    def one(image: Any) -> Any:
        if isinstance(image, (list, tuple)):
            return [one(part) for part in image]
        try:
            data = indices.file_of(image)
            found.append(indices[data])
        except (PixelPruneError, TypeError) as error:
            raise PixelPruneError(f"images[{len(found)}]: {error}") from None
        return load_image(data, alpha=indices.alpha)

    return one(images), found


def load_conversation(indices: KeepIndices, conversation: Any) -> tuple[list[Any], list[Selection]]:
    """Load the images of a conversation, or of several, as `load` does; return a copy that has them in their parts."""
    parts: list[dict[str, Any]] = []

    def copied(message: Any) -> Any:
        if not isinstance(message, Mapping):
            return [copied(one) for one in message]
        content = message.get("content")
        if isinstance(content, str) or not isinstance(content, Sequence):
            return message
        mine = [dict(part) if isinstance(part, Mapping) else part for part in content]
        parts.extend(part for part in mine if isinstance(part, dict) and part.get("type") == "image")
        return {**message, "content": mine}

    copies = [copied(message) for message in conversation]
    images, found = load(indices, [image_of(part) for part in parts])
    for part, image in zip(parts, images, strict=True):
        part.clear()
        part.update(type="image", image=image)
    return copies, found
