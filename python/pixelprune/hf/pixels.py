"""What a call of an image processor asks for, in the terms of pixelprune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..errors import PixelPruneError
from ..images.options import Resample
from ..images.resizing import Resampling
from ..spec import VisionSpec, smart_resize

Call = Mapping[str, Any]
"""The settings of one call, defaults included, under the names that the image processor has for them."""

_BACKENDS: dict[str, Resampling] = {
    "TorchvisionBackend": "torchvision",
    "BaseImageProcessorFast": "torchvision",  # its former name
    "PilBackend": "pillow",
}
"""Base classes of image processors that `preprocess` reproduces bit for bit, and the ``resample`` to do it with."""

MERGE_SIZES = "image_merge_sizes"
_OUTPUT = {"pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", MERGE_SIZES}
"""The output keys that are supported here."""

_ANY_SIZE = {"shortest_edge": 1, "longest_edge": 1 << 40}
"""Limits that every image is between, so that one whose sides are whole tokens keeps its size."""

_SIZES = ("patch_size", "temporal_patch_size", "merge_size")


_STEPS = (
    "preprocess",
    "_preprocess",
    "process_image",
    "_process_image",
    "convert_to_rgb",
    "resize",
    "rescale",
    "normalize",
    "rescale_and_normalize",
    "patchify",
)
"""Methods of image processors (not all have each) for which `preprocess` stands in."""


class Exact(NamedTuple):
    """The arguments with which `preprocess` makes the pixels that the image processor would."""

    images: list[Any]
    spec: VisionSpec
    resample: Resample


def type_of(kind: type[Any]) -> str:
    """Return the name of the supported image processor that a class is or is derived from.

    Raises:
        PixelPruneError: it is none of those that `VisionSpec.from_config` supports.
    """
    error = None
    for base in kind.__mro__[:-1]:
        try:
            _spec(base.__name__, dict.fromkeys(_SIZES, 1), [0.0], [1.0])
        except PixelPruneError as reason:
            error = error or reason
        else:
            return base.__name__
    raise error or PixelPruneError(f"{kind.__name__} is no image processor")


def resample_of(kind: type[Any]) -> Resampling | None:
    """Return how image processors of a class resize, as in `preprocess`; None if that is not known."""
    bases = {base.__name__ for base in kind.__mro__}
    return next((name for base, name in _BACKENDS.items() if base in bases), None)


def exact(processor: Any, kind: type[Any], images: Sequence[Any], call: Call) -> Exact | str:
    """Return the arguments for `preprocess`, or why the image processor has to do the call itself.

    Args:
        processor: an image processor, which converts the images that are not plain RGB.
        kind: its class in transformers.
        images: valid images in one list.
        call: the settings of the call.
    """
    resample = resample_of(kind)
    if resample is None or not kind.__module__.startswith("transformers.models."):
        return f"the class {kind.__name__} is not reproduced"
    replaced = [name for name in _STEPS if name in vars(processor) or not _is_original(getattr(kind, name, None))]
    if replaced:
        return f"{', '.join(replaced)} of {kind.__name__} is replaced"
    if not _OUTPUT.issuperset(kind.model_input_names):
        return f"{kind.__name__} returns other keys"
    if not images:
        return "there are no images"
    if call.get("device") not in (None, "cpu", torch.device("cpu")):
        return f"the device is {call['device']}"
    try:
        spec = VisionSpec.from_config(_config(kind, call))
    except PixelPruneError as error:
        return str(error)
    pixels = []
    for image in images:
        if _is_plain(image):
            height, width = image.height, image.width
        else:
            # As the image processor does it: releases differ in alpha and palettes.
            [image] = processor._prepare_image_like_inputs(
                [image], do_convert_rgb=call.get("do_convert_rgb"), input_data_format=call.get("input_data_format")
            )
            if str(image.dtype).rpartition(".")[2] != "uint8" or image.ndim != 3 or image.shape[0] != 3:
                return f"an image is {image.dtype} of shape {tuple(image.shape)}"
            if isinstance(image, torch.Tensor) and image.device.type != "cpu":
                return f"an image is on {image.device}"
            height, width = image.shape[1:]
        if spec.resize_rule == "glm" and min(height, width) < spec.token_size:
            return "an image has a side below a token, which older releases refuse"
        try:
            target = smart_resize(height, width, spec)
        except PixelPruneError as error:
            return str(error)
        if not call.get("do_resize") and target != (height, width):
            return f"an image of {height} x {width} is not to be resized"
        pixels.append(image)
    return Exact(pixels, spec, resample)


def cut(kind: type[Any], call: Call, values: Any, images: Sequence[Any]) -> VisionSpec:
    """Return the `VisionSpec` of the rows that an image processor has made.

    Its mean and std bring the values back to fractions of full scale: 255, or 1 for floats that are not rescaled.

    Args:
        kind: the class of the image processor.
        call: the settings of the call.
        values: its ``pixel_values``.
        images: the images, in one list.

    Raises:
        PixelPruneError: the class is not supported, or a `VisionSpec` can't express the settings.
    """
    channels = math.prod(values.shape[1:]) // (call["temporal_patch_size"] * call["patch_size"] ** 2)
    if call.get("do_rescale"):
        scale = 255 * call["rescale_factor"]
    else:
        floats = {_is_float(image) for image in images}
        if len(floats) > 1:
            raise PixelPruneError(
                "do_rescale is False for images of integers and of floats, whose full scale is 255 and 1; expected "
                "one of the two"
            )
        scale = 1.0 if floats == {True} else 255.0
    mean, std = (call["image_mean"], call["image_std"]) if call.get("do_normalize") else (0.0, 1.0)
    mean, std = (np.broadcast_to(np.asarray(levels, np.float64) / scale, channels) for levels in (mean, std))
    return _spec(type_of(kind), call, mean.tolist(), std.tolist())


def flat_list(images: Any) -> list[Any]:
    """Return all images of nested lists in one list."""
    if isinstance(images, (list, tuple)):
        return [image for part in images for image in flat_list(part)]
    return [images]


def _spec(name: str, call: Call, mean: list[float], std: list[float]) -> VisionSpec:
    """Return the spec of an image processor for images of any size."""
    sizes = {size: call[size] for size in _SIZES}
    return VisionSpec.from_config(
        {"image_processor_type": name, "size": _ANY_SIZE, "image_mean": mean, "image_std": std, **sizes}
    )


def _config(kind: type[Any], call: Call) -> dict[str, Any]:
    """Return the config with which an image processor would do all its calls as it has to do this one."""
    names = ("rescale_factor", "image_mean", "image_std", *_SIZES)
    config = {name: call.get(name) for name in names}
    switches: dict[str, Any] = {name: bool(call.get(name)) for name in ("do_rescale", "do_normalize")}
    if call.get("do_resize"):
        size = {edge: _entry(call.get("size"), edge) for edge in _ANY_SIZE}
        resample = call["interpolation"] if "interpolation" in call else call.get("resample")  # its name before 5
        switches |= {"size": size, "resample": resample}
    else:
        switches |= {"size": _ANY_SIZE}
    return {"image_processor_type": kind.__name__, **config, **switches}


def _entry(size: Any, edge: str) -> Any:
    return size.get(edge) if isinstance(size, Mapping) else getattr(size, edge, None)


def _is_original(method: Any) -> bool:
    return method is None or method.__module__.startswith("transformers.")


def _is_plain(image: Any) -> bool:
    """Whether converting an image to RGB changes nothing, whatever the release."""
    return isinstance(image, Image.Image) and image.mode == "RGB" and "transparency" not in image.info


def _is_float(image: Any) -> bool:
    if isinstance(image, Image.Image):
        return image.mode == "F"
    return "float" in str(getattr(image, "dtype", ""))
