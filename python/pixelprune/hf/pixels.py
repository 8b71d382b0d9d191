"""What a call of an image processor asks for, in the terms of pixelprune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature

from ..errors import PixelPruneError
from ..images.options import Resample
from ..spec import VisionSpec, smart_resize

Call = Mapping[str, Any]
"""The settings of one call, defaults included, under the names that the image processor has for them."""

_BACKENDS: dict[str, Resample] = {
    "TorchvisionBackend": "torchvision",
    "BaseImageProcessorFast": "torchvision",  # its former name
    "PilBackend": "pillow",
}
"""Base classes of image processors that `preprocess` reproduces bit for bit, and the ``resample`` to do it with."""

MERGE_SIZES = "image_merge_sizes"
_OUTPUT = {"pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", MERGE_SIZES}
"""The output keys that are supported here."""

_ANY_SIZE = {"shortest_edge": 1, "longest_edge": 1 << 40}
"""Limits that no image misses, so that one whose sides are whole tokens keeps its size."""


class Exact(NamedTuple):
    """The arguments with which `preprocess` makes the pixels that the image processor would."""

    images: list[Any]
    spec: VisionSpec
    resample: Resample


def exact(processor: Any, kind: type[Any], images: Sequence[Any], call: Call) -> Exact | str:
    """Return the arguments for `preprocess`, or why the image processor has to do the call itself.

    Args:
        processor: an image processor; its own methods make RGB of the images that aren't plain RGB.
        kind: its class in transformers.
        images: valid images in one list.
        call: the settings of the call.
    """
    bases = {base.__name__ for base in kind.__mro__}
    resample = next((name for base, name in _BACKENDS.items() if base in bases), None)
    if resample is None or not kind.__module__.startswith("transformers.models."):
        return f"{kind.__name__} is not an image processor that is known here"
    if not _OUTPUT.issuperset(kind.model_input_names):
        return f"{kind.__name__} returns keys that are not known here"
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
            pixels.append(image)
            continue
        made = processor._prepare_image_like_inputs(
            [image], do_convert_rgb=call.get("do_convert_rgb"), input_data_format=call.get("input_data_format")
        )[0]
        if str(made.dtype).rpartition(".")[2] != "uint8" or made.ndim != 3 or made.shape[0] != 3:
            return f"an image is {made.dtype} of shape {tuple(made.shape)}"
        if isinstance(made, torch.Tensor) and made.device.type != "cpu":
            return f"an image is on {made.device}"
        pixels.append(made)
    for image in pixels:
        height, width = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[1:]
        if spec.resize_rule == "glm" and min(height, width) < spec.token_size:
            return "an image is smaller than a token, which older releases refuse"
        try:
            target = smart_resize(height, width, spec)
        except PixelPruneError as error:
            return str(error)
        if not call.get("do_resize") and target != (height, width):
            return f"an image of {height} x {width} is not to be resized"
    return Exact(pixels, spec, resample)


def _is_plain(image: Any) -> bool:
    """Whether making RGB of an image changes nothing, whatever the release."""
    return isinstance(image, Image.Image) and image.mode == "RGB" and "transparency" not in image.info


def _config(kind: type[Any], call: Call) -> dict[str, Any]:
    """Return the config of an image processor that makes of every image what this call does."""
    size = call.get("size")
    edges = {edge: _entry(size, edge) for edge in ("shortest_edge", "longest_edge")}
    config = {
        "image_processor_type": kind.__name__,
        "size": edges if call.get("do_resize") else _ANY_SIZE,
        "resample": call["interpolation"] if "interpolation" in call else call.get("resample"),
        "do_rescale": bool(call.get("do_rescale")),
        "do_normalize": bool(call.get("do_normalize")),
    }
    names = ("rescale_factor", "image_mean", "image_std", "patch_size", "temporal_patch_size", "merge_size")
    config.update({name: call.get(name) for name in names})
    if not call.get("do_resize"):
        config["resample"] = 3  # without effect
    return config


def _entry(size: Any, edge: str) -> Any:
    return size.get(edge) if isinstance(size, Mapping) else getattr(size, edge, None)


def cut(kind: type[Any], call: Call, values: Any, images: Sequence[Any]) -> VisionSpec:
    """Return the `VisionSpec` of the rows that an image processor has made.

    Its mean and std bring the values back to fractions of full scale: 255, or 1 for floats that are not rescaled.

    Args:
        kind: the class of the image processor.
        call: the settings of the call.
        values: its ``pixel_values``.
        images: the images, in one list.

    Raises:
        PixelPruneError: the class is not supported, or the settings are beyond what a `VisionSpec` expresses.
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
    normalized = call.get("do_normalize")
    mean, std = (call["image_mean"], call["image_std"]) if normalized else (0.0, 1.0)
    mean, std = (np.broadcast_to(np.asarray(levels, np.float64) / scale, channels) for levels in (mean, std))
    config = {
        "image_processor_type": kind.__name__,
        "size": _ANY_SIZE,
        "image_mean": mean.tolist(),
        "image_std": std.tolist(),
        **{name: call[name] for name in ("patch_size", "temporal_patch_size", "merge_size")},
    }
    return VisionSpec.from_config(config)


def _is_float(image: Any) -> bool:
    if isinstance(image, Image.Image):
        return image.mode == "F"
    return "float" in str(getattr(image, "dtype", ""))


def flat_list(images: Any) -> list[Any]:
    """Return all images of nested lists in one list."""
    if isinstance(images, (list, tuple)):
        return [image for part in images for image in flat_list(part)]
    return [images]


def like(features: BatchFeature | Mapping[str, Any], array: Any) -> Any:
    """Return an array as a tensor where ``image_grid_thw`` is one, on its device."""
    grids = features["image_grid_thw"]
    return torch.from_numpy(array).to(grids.device) if isinstance(grids, torch.Tensor) else array
