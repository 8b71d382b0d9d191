"""From images to patches."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..arguments import as_bool, as_int, one_of, shown
from ..arrays import read_array
from ..errors import PixelPruneError
from ..spec import VisionSpec, as_spec, smart_resize
from ..spec.sizes import MAX_SIDE
from .methods import Method, prune_tokens
from .results import patch_indices
from .tokens import Array, Plane, image_tokens, patch_index


def resize(image: npt.ArrayLike, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize as torchvision does with uint8 images: bicubic, antialiased.

    The filter is the cubic convolution of Keys (1981) with a = -1/2, stretched where the image shrinks, so
    that no pixel is passed over. Rows are resized first, and rounded to uint8; then the columns of the result.
    A side that keeps its length is left alone. Weights are rounded to 16-bit integers with as many bits after
    the point as the largest allows, 22 at most.

    Args:
        image: uint8, ``(H, W)`` or ``(H, W, C)``.
        height: pixels, at least 1.
        width: pixels, at least 1.

    Returns:
        uint8 ``(height, width)`` or ``(height, width, C)``.

    Raises:
        PixelPruneError: a side is below 1.
        TypeError: the image is not uint8, or a side not an integer.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.resize(np.uint8([[0, 100, 200]]), 1, 6).tolist()
        [[0, 17, 71, 129, 183, 209]]
    """
    pixels = _uint8(image)
    height, width = (as_int(side, "a side", "an integer number of pixels") for side in (height, width))
    if pixels.ndim not in (2, 3) or pixels.size == 0 or not 1 <= min(height, width) <= max(height, width) <= MAX_SIDE:
        raise PixelPruneError(
            f"image has shape {pixels.shape}, to be {shown(height)} x {shown(width)} (height x width); expected no "
            f"empty side, and at most {MAX_SIDE} pixels a side"
        )
    rows_done = _resize_axis(pixels.swapaxes(0, 1), width).swapaxes(0, 1)
    return _resize_axis(rows_done, height)


def _uint8(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    pixels = read_array(image, "image", "uint8 (H, W, C)")
    if pixels.dtype != np.uint8:
        raise TypeError(f"image has dtype {pixels.dtype}; expected uint8 on the 0-255 scale")
    return pixels


def _resize_axis(pixels: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.uint8]:
    """Resize the first axis."""
    count = len(pixels)
    if count == length:
        return pixels
    scale = count / length
    stretch = max(scale, 1.0)
    exact = np.zeros((length, count))
    for i in range(length):
        center = scale * (i + 0.5)
        first = max(0, int(center - 2 * stretch + 0.5))
        last = min(count, int(center + 2 * stretch + 0.5))
        weights = [_cubic((j - center + 0.5) * (1 / stretch)) for j in range(first, last)]
        total = 0.0
        for weight in weights:  # one by one: some versions of sum() round otherwise
            total += weight
        exact[i, first:last] = [weight / total for weight in weights]
    bits = max(bits for bits in range(23) if math.floor(exact.max() * 2**bits + 0.5) < 2**15)
    rounded = (np.sign(exact) * np.floor(np.abs(exact) * 2**bits + 0.5)).astype(np.int64)
    sums = np.tensordot(rounded, pixels.astype(np.int64), axes=1)
    resized: npt.NDArray[np.uint8] = np.clip((sums + 2 ** (bits - 1)) >> bits, 0, 255).astype(np.uint8)
    return resized


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * -0.5
    return 0.0


def normalise(
    image: npt.ArrayLike, spec: VisionSpec | str, *, resample: str = "torchvision", dtype: str = "float32"
) -> Array:
    """Normalise pixels as the processors do, in float32.

    Args:
        image: uint8 ``(H, W, C)``, one channel for every value of ``spec.mean``.
        spec: a `VisionSpec` or the name of a preset; its mean and std are used.
        resample: ``"pillow"`` rescales to [0, 1] and rounds first, as the Pillow backends do; all others
            take ``(x - 255 mean) / (255 std)``, as the torchvision backends do.
        dtype: ``"float32"``; ``"float16"`` or ``"bfloat16"``, rounded to nearest even; ``"uint8"`` changes nothing.

    Returns:
        ``(H, W, C)`` of that dtype; bfloat16 as its bits, in uint16.

    Raises:
        PixelPruneError: a name is not one of those above, or the image has another number of channels.
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.normalise(np.uint8([[[0, 51, 255]]]), "qwen3_vl").tolist()
        [[[-1.0, -0.6000000238418579, 1.0]]]
    """
    spec = as_spec(spec)
    pixels = _uint8(image)
    if pixels.ndim != 3 or pixels.shape[2] != len(spec.mean):
        raise PixelPruneError(f"image has shape {pixels.shape}; expected (H, W, {len(spec.mean)})")
    one_of(resample, "resample", ("torchvision", "pillow", "pad", "none"))
    one_of(dtype, "dtype", ("float32", "float16", "bfloat16", "uint8"))
    if dtype == "uint8":
        return pixels
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    if resample == "pillow":
        values = ((pixels * (1 / 255)).astype(np.float32) - mean) / std
    else:
        values = (pixels.astype(np.float32) - mean * np.float32(255)) / (std * np.float32(255))
    if dtype == "bfloat16":
        return _round_to_bfloat16(values)
    return values.astype(dtype)


def _round_to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16, the even one of two that are as near. A bfloat16 is half a float32."""
    below = np.ascontiguousarray(values).view(np.uint32) >> 16  # nearer to zero
    above = below + 1
    low, high = ((bits << 16).astype(np.uint32).view(np.float32).astype(np.float64) for bits in (below, above))
    to_low, to_high = np.abs(values - low), np.abs(values - high)
    up = (to_high < to_low) | ((to_high == to_low) & (below % 2 == 1))
    return np.where(up, above, below).astype(np.uint16)


def patchify(values: Array, spec: VisionSpec | str, *, copies: Literal["repeat", "single"] = "repeat") -> Array:
    """Cut a still image into patches.

    Args:
        values: ``(H, W, C)``, both sides multiples of ``spec.token_size``.
        spec: a `VisionSpec` or the name of a preset: patch size, order and layout are used.
        copies: ``"repeat"`` writes the frame ``temporal_patch_size`` times, ``"single"`` once.

    Returns:
        ``(H / patch_size * W / patch_size, *row shape)``, of the dtype of ``values``.

    Raises:
        PixelPruneError: ``values`` has another shape, or ``copies`` is another name.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.patchify(np.zeros((64, 96, 3)), "qwen3_vl").shape
        (24, 1536)
    """
    spec = as_spec(spec)
    values = read_array(values, "values", "(H, W, C)")
    side = spec.token_size
    if values.ndim != 3 or values.size == 0 or values.shape[0] % side or values.shape[1] % side:
        raise PixelPruneError(f"values has shape {values.shape}; expected (H, W, C), sides multiples of {side}")
    one_of(copies, "copies", ("repeat", "single"))
    p = spec.patch_size
    h, w = values.shape[0] // p, values.shape[1] // p
    frames = spec.temporal_patch_size if copies == "repeat" else 1
    rows: list[Any] = [None] * (h * w)
    for y, x in np.ndindex(h, w):
        patch = values[y * p : (y + 1) * p, x * p : (x + 1) * p]
        if spec.patch_layout != "ppc":
            patch = np.stack([patch.transpose(2, 0, 1)] * frames, axis=1)  # channel, frame, y, x
        rows[patch_index(0, y, x, h, w, spec)] = patch.reshape(-1 if spec.flat_patches else spec.patch_shape)
    return np.stack(rows)


def preprocess(
    image: npt.ArrayLike,
    spec: VisionSpec | str,
    *,
    method: Method = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
    protect: str = "nothing",
    prune: bool = True,
    resample: Literal["torchvision", "pillow", "pad", "none"] = "torchvision",
    dtype: str = "float32",
    copies: Literal["repeat", "single"] = "repeat",
) -> tuple[Array, npt.NDArray[np.uint8], Plane]:
    """Turn one image into model-ready patches, as `pixelprune.preprocess` does.

    Args:
        image: uint8 ``(H, W, 3)``.
        spec: a `VisionSpec` or the name of a preset.
        method: see `prune_tokens`.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.
        anchored: closed loop; False = open loop.
        protect: see `prune_tokens`.
        prune: False keeps every token.
        resample: ``"torchvision"`` is `resize` to `smart_resize`'s size, ``"pillow"`` Pillow's own to the same
            size; ``"pad"`` repeats the last row and column up to a multiple of the token side, unless that
            size is outside the spec's limits; ``"none"`` takes the image as it is.
        dtype: see `normalise`.
        copies: see `patchify`.

    Returns:
        The kept rows of ``pixel_values``, in the processor's order; the resized image, uint8
        ``(height, width, 3)``; and the mask, bool ``(1, rows, cols)``.

    Raises:
        PixelPruneError: an argument is out of its range.
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> values, resized, mask = reference.preprocess(np.zeros((250, 300, 3), np.uint8), "qwen3_vl")
        >>> values.shape, resized.shape, mask.shape
        ((4, 1536), (256, 288, 3), (1, 8, 9))
    """
    spec = as_spec(spec)
    pixels = _uint8(image)
    if pixels.ndim != 3 or pixels.size == 0:
        raise PixelPruneError(f"image has shape {pixels.shape}; expected (H, W, 3) without an empty side")
    one_of(resample, "resample", ("torchvision", "pillow", "pad", "none"))
    resized = _bring_to_size(pixels, spec, resample)
    rows = patchify(normalise(resized, spec, resample=resample, dtype=dtype), spec, copies=copies)
    if not as_bool(prune, "prune"):
        side = spec.token_size
        return rows, resized, np.ones((1, resized.shape[0] // side, resized.shape[1] // side), np.bool_)
    tokens = image_tokens(resized, spec)[np.newaxis]
    mask, _ = prune_tokens(
        tokens, method=method, metric=metric, threshold=threshold, anchored=anchored, protect=protect
    )
    t, down, across = mask.shape
    return rows[patch_indices(np.flatnonzero(mask), (t, down, across), spec)], resized, mask


def _bring_to_size(image: npt.NDArray[np.uint8], spec: VisionSpec, resample: str) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    if resample == "none":
        return image
    if resample == "pad":
        down, across = -height % spec.token_size, -width % spec.token_size
        padded = (height + down, width + across)
        if smart_resize(*padded, spec) == padded:  # the processor takes it
            return np.pad(image, ((0, down), (0, across), (0, 0)), "edge")
    target = smart_resize(height, width, spec)
    if resample == "pillow":
        return np.asarray(Image.fromarray(image).resize(target[::-1], Image.Resampling.BICUBIC))
    return resize(image, *target)
