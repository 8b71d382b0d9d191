"""Resizing as a model's image processor does it."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from .. import _core
from ..arguments import one_of
from ..arrays import as_pixels
from ..errors import PixelPruneError
from ..runtime import resolve
from ..spec import VisionSpec, smart_resize

Resampling = Literal["torchvision", "pillow"]
"""How an image is resized, see `preprocess`."""


def resize_image(image: Any, spec: VisionSpec | str, *, resample: Resampling = "torchvision") -> Image.Image:
    """Resize an image as the model's processor does, byte for byte.

    ``prune(resize_image(image, spec), spec)`` keeps the tokens that ``preprocess([image], spec)`` keeps.

    Args:
        image: a Pillow image of mode ``"RGB"``, such as `load_image` returns; a uint8 array or tensor (height, width,
            3); or a path or the bytes of an image file, as in `prune`.
        spec: a `VisionSpec` or the name of a preset.
        resample: ``"torchvision"``: as the processors do with torchvision; ``"pillow"``: as their Pillow backends do.

    Returns:
        A new image of the size that `smart_resize` returns, resampled bicubically if the size changes.

    Raises:
        PixelPruneError: the image is not RGB, the processor would refuse its size (see `smart_resize`), or
            ``resample`` is not one of the names above.
        TypeError: ``image`` is none of the above.
        OSError: the file can't be read.

    Example:
        >>> from PIL import Image
        >>> from pixelprune import resize_image
        >>> resize_image(Image.new("RGB", (1920, 1080)), "qwen3_vl").size
        (1920, 1088)
    """
    whole: Image.Image = image if isinstance(image, Image.Image) else Image.fromarray(as_pixels(image))
    if whole.mode != "RGB":
        raise PixelPruneError(f"image has mode {whole.mode!r}; expected 'RGB', as load_image returns")
    one_of(resample, "resample", get_args(Resampling))
    return resize_to(whole, *smart_resize(whole.height, whole.width, spec), resample)


def resize_to(whole: Image.Image, height: int, width: int, resample: Resampling) -> Image.Image:
    """Return an RGB image of another size, resampled bicubically; see `resize_image`."""
    if resample == "torchvision" and whole.size != (width, height):
        return Image.fromarray(_core.resize(np.asarray(whole), height, width, resolve(None)))
    return whole.resize((width, height), Image.Resampling.BICUBIC)
