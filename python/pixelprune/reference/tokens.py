"""From pixels to a grid of tokens."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..arguments import as_bool, one_of, shown
from ..arrays import read_array
from ..errors import PixelPruneError
from ..spec import VisionSpec, as_spec

Array = npt.NDArray[Any]
Plane = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

OFF_LEVEL = 1 / 1024
"""How far from a whole level (on the 0-255 scale) float32 rounding can take an 8-bit value, with room to spare."""


def image_tokens(image: npt.ArrayLike, spec: VisionSpec | str) -> npt.NDArray[np.uint8]:
    """Return the tokens of an image, as a view of it.

    Args:
        image: uint8, ``(H, W)`` or ``(H, W, C)``; both sides are multiples of ``spec.token_size``.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        uint8 ``(rows, cols, px, px, C)`` with ``px = spec.token_size``; a grey ``(H, W)`` image has C = 1.

    Raises:
        PixelPruneError: the shape is not that of an image made of whole tokens.
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.image_tokens(np.zeros((64, 96, 3), np.uint8), "qwen3_vl").shape
        (2, 3, 32, 32, 3)
    """
    px = as_spec(spec).token_size
    pixels = read_array(image, "image", "uint8 (H, W) or (H, W, C)")
    if pixels.dtype != np.uint8:
        raise TypeError(f"image has dtype {pixels.dtype}; expected uint8 on the 0-255 scale")
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise PixelPruneError(f"image has shape {pixels.shape}; expected a non-empty (H, W) or (H, W, C)")
    height, width = pixels.shape[:2]
    if height % px or width % px:
        raise PixelPruneError(
            f"image is {height} x {width} (height x width); expected multiples of the token size {px}: "
            f"resize it to smart_resize(height, width, spec) first"
        )
    split = pixels.reshape(height // px, px, width // px, px, -1)  # row, y, column, x, channel
    return split.transpose(0, 2, 1, 3, 4)


def pixel_value_tokens(
    pixel_values: npt.ArrayLike,
    grid_thw: npt.ArrayLike,
    spec: VisionSpec | str,
    temporal: Literal["repeat", "frames"] = "repeat",
    *,
    bfloat16: bool = False,
) -> Array:
    """Return the tokens of one image's ``pixel_values``, with the values as stored.

    Args:
        pixel_values: float32, float16 or uint8 ``(t*h*w, C * temporal_patch_size * patch_size**2)``, its
            rows in ``spec.patch_order``, the values of a row in ``spec.patch_layout``.
        grid_thw: ``(t, h, w)`` in patches; h and w are multiples of ``spec.merge_size``.
        spec: a `VisionSpec` or the name of a preset.
        temporal: ``"repeat"`` takes the first temporal copy of every patch, ``"frames"`` all of them.
        bfloat16: ``pixel_values`` is uint16 and holds the bits of bfloat16 numbers.

    Returns:
        ``(t, rows, cols, n)``; the n values of a token are in the order (frame, y, x, channel), so that
        one frame has the order of `image_tokens`. The dtype is that of ``pixel_values``, or float32 for
        bfloat16 (which it holds exactly).

    Raises:
        PixelPruneError: the shapes, the grid and the spec contradict each other.
        TypeError: the dtype is none of the above.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> pixel_values = np.zeros((4 * 6, 3 * 2 * 16 * 16), np.float32)
        >>> reference.pixel_value_tokens(pixel_values, (1, 4, 6), "qwen3_vl").shape
        (1, 2, 3, 3072)
    """
    spec = as_spec(spec)
    values = read_array(pixel_values, "pixel_values", "(patches, values of a patch)")
    if as_bool(bfloat16, "bfloat16"):
        if values.dtype != np.uint16:
            raise TypeError(f"pixel_values has dtype {values.dtype}; expected bfloat16 bits as uint16")
        # A bfloat16 number is the upper half of a float32 number.
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif values.dtype not in (np.float32, np.float16, np.uint8):
        raise TypeError(f"pixel_values has dtype {values.dtype}; expected float32, float16 or uint8")
    one_of(temporal, "temporal", ("repeat", "frames"))

    t, h, w = three(grid_thw, "grid_thw")
    m, p = spec.merge_size, spec.patch_size
    if min(t, h, w) < 1 or h % m or w % m:
        raise PixelPruneError(f"grid_thw is {(t, h, w)}; expected t >= 1, h and w positive multiples of {m}")
    per_channel = spec.temporal_patch_size * p * p
    if values.ndim != 2 or len(values) != t * h * w or values.size == 0 or values.shape[1] % per_channel:
        raise PixelPruneError(
            f"pixel_values has shape {values.shape}; expected ({t * h * w}, channels * {per_channel}) "
            f"for grid_thw {(t, h, w)}"
        )
    channels = values.shape[1] // per_channel
    frames = spec.temporal_patch_size if temporal == "frames" else 1

    tokens = np.empty((t, h // m, w // m, frames, m * p, m * p, channels), values.dtype)
    for f, y, x in np.ndindex(t, h, w):
        patch = values[patch_index(f, y, x, h, w, spec)]
        if spec.patch_layout == "ppc":
            pixels = patch.reshape(1, p, p, channels)
        else:  # "ctpp"; "cpp" is the same with one frame
            pixels = patch.reshape(channels, -1, p, p).transpose(1, 2, 3, 0)
        (row, down), (col, across) = divmod(y, m), divmod(x, m)
        token = tokens[f, row, col]
        token[:, down * p : (down + 1) * p, across * p : (across + 1) * p] = pixels[:frames]
    return tokens.reshape(t, h // m, w // m, -1)


def to_unit_range(tokens: Array, spec: VisionSpec | str) -> npt.NDArray[np.float32]:
    """Undo the processor's normalisation, in float32: what is compared when the threshold is above 0.

    Args:
        tokens: floats ``(..., n)`` from `pixel_value_tokens` (the channel runs fastest).
        spec: a `VisionSpec` or the name of a preset; its mean and std have one number per channel.

    Returns:
        float32 ``(..., n)``: ``x * std + mean``, in [0, 1] for an image.

    Raises:
        PixelPruneError: n is not a multiple of the number of channels of mean and std.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.to_unit_range(np.float32([-1, 0, 1]), "qwen3_vl")
        array([0. , 0.5, 1. ], dtype=float32)
    """
    spec = as_spec(spec)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    tokens = read_array(tokens, "tokens", "floats (..., values of a token)")
    if tokens.dtype.kind != "f" or tokens.ndim == 0:
        raise TypeError(f"tokens has dtype {tokens.dtype} and shape {tokens.shape}; expected floats (..., n)")
    if tokens.shape[-1] % mean.size:
        raise PixelPruneError(
            f"a token has {tokens.shape[-1]} values; expected a multiple of {mean.size}, "
            f"the number of channels of mean and std"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # prune_tokens refuses what is not finite
        pixels = tokens.astype(np.float32).reshape(-1, mean.size) * std + mean
    return pixels.reshape(tokens.shape)


def three(grid: Any, name: str) -> tuple[int, int, int]:
    """Three integers of any type."""
    sides = read_array(grid, name, "three integers")
    if sides.shape != (3,) or sides.dtype.kind not in "iu":
        raise PixelPruneError(f"{name} is {shown(grid)}; expected three integers")
    first, second, third = (int(side) for side in sides)
    return first, second, third


def off_level(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How far values in [0, 1] are from a whole level of the 0-255 scale."""
    levels = np.float32(255) * pixels
    with np.errstate(invalid="ignore"):  # infinities
        off: npt.NDArray[np.float32] = np.abs(levels - np.rint(levels))
    return np.where(np.abs(levels) <= 256, off, np.float32(1))  # far outside of 0-255 there are no levels


def patch_index(frame: int, y: int, x: int, height: int, width: int, spec: VisionSpec) -> int:
    """The row of ``pixel_values`` that holds the patch at (y, x); all in patches."""
    if spec.patch_order == "raster":
        return (frame * height + y) * width + x
    m = spec.merge_size
    (row, down), (col, across) = divmod(y, m), divmod(x, m)
    token = (frame * (height // m) + row) * (width // m) + col
    return token * m * m + down * m + across
