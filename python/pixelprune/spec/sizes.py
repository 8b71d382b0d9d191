"""How the models' processors choose the size of an image: one function per resize rule.

Every function takes the height and width of an image and the `VisionSpec`, and returns a height and a width
that are multiples of ``spec.token_size``. The floating-point operations are in the same order as in the
processors; otherwise a size between two grids could round differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..arguments import shown
from ..errors import PixelPruneError
from .layout import VisionSpec, as_side, as_spec
from .names import ResizeRule

MAX_SIDE = 1 << 31
"""Longer sides are refused: no image has them, and their areas would overflow the rules' floating point."""

MAX_ASPECT_RATIO = 200
"""The processors refuse images with a larger ratio of the longer to the shorter side."""

GLM_IMAGE_MAX_ASPECT_RATIO = 4
"""The same limit for the rule ``"glm_image"``."""


def _qwen(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    _check_aspect_ratio(height, width, height, width)
    return _between_limits(height, width, spec, frames=1)


def _glm(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    """Scale both sides by one factor so that neither is below a token; then apply the limits to all frames."""
    factor = spec.token_size
    tall, wide = height, width
    if min(height, width) < factor:
        scale = factor / min(height, width)
        tall, wide = int(height * scale), int(width * scale)
    _check_aspect_ratio(height, width, tall, wide)
    return _between_limits(tall, wide, spec, frames=spec.temporal_patch_size)


def _paddleocr(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    """Enlarge a side below a token to one token and the other in proportion, height before width; then the limits."""
    factor = spec.token_size
    tall, wide = height, width
    if tall < factor:
        tall, wide = factor, round(wide * factor / tall)
    if wide < factor:
        tall, wide = round(tall * factor / wide), factor
    _check_aspect_ratio(height, width, tall, wide)
    return _between_limits(tall, wide, spec, frames=1)


def _glm_image(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    """The square roots of the limits bound the shorter and the longer side; the result is half of that size."""
    factor = spec.token_size
    if min(height, width) < factor:
        raise PixelPruneError(
            f"the image is {height} x {width} (height x width); expected sides of at least one token, {factor} pixels"
        )
    _check_aspect_ratio(height, width, height, width, GLM_IMAGE_MAX_ASPECT_RATIO)
    least, most = round(math.sqrt(spec.min_pixels)), round(math.sqrt(spec.max_pixels))
    short, long = sorted((height, width))
    scale = least / short if short < least else 1.0
    if long * scale > most:
        scale = most / long
    rows, cols = (max(1, round(side // 2 * scale / factor)) for side in (height, width))
    return rows * factor, cols * factor


RULES: dict[ResizeRule, Callable[[int, int, VisionSpec], tuple[int, int]]] = {
    "qwen": _qwen,
    "glm": _glm,
    "paddleocr": _paddleocr,
    "glm_image": _glm_image,
}
"""The resize rules, by their names in a `VisionSpec`."""


def _between_limits(height: int, width: int, spec: VisionSpec, frames: int) -> tuple[int, int]:
    """Round both sides to tokens, half to even; outside the limits, scale both and round down or up."""
    factor = spec.token_size
    rows, cols = round(height / factor), round(width / factor)
    area = frames * rows * cols * factor * factor
    if area > spec.max_pixels:
        scale = math.sqrt((frames * height * width) / spec.max_pixels)
        rows = max(1, math.floor(height / scale / factor))
        cols = max(1, math.floor(width / scale / factor))
    elif area < spec.min_pixels:
        scale = math.sqrt(spec.min_pixels / (frames * height * width))
        rows = math.ceil(height * scale / factor)
        cols = math.ceil(width * scale / factor)
    return rows * factor, cols * factor


def _check_aspect_ratio(height: int, width: int, tall: int, wide: int, most: int = MAX_ASPECT_RATIO) -> None:
    """Refuse the image ``height`` x ``width`` if its enlarged size, ``tall`` x ``wide``, is too long."""
    long, short = max(tall, wide), min(tall, wide)
    if long > most * short:
        raise PixelPruneError(
            f"the image is {height} x {width} (height x width), an aspect ratio of about {long // short}; "
            f"expected at most {most}"
        )


def smart_resize(height: int, width: int, spec: VisionSpec | str) -> tuple[int, int]:
    """Return the size that the model's processor resizes an image to.

    It depends on the spec's ``resize_rule``:

    * ``"qwen"``: each side is rounded to the nearest multiple of the token side (half to even). If the area is then
      below ``min_pixels`` or above ``max_pixels``, both sides are scaled to that limit and rounded up or down to a
      multiple.
    * ``"glm"``: like ``"qwen"``, but an image with a side below a token is enlarged first (transformers 4.57
      refused it), and the area is that of ``temporal_patch_size`` frames.
    * ``"paddleocr"``: like ``"qwen"``, but a side below a token is enlarged to one token first, and the other in
      proportion.
    * ``"glm_image"``: the square roots of ``min_pixels`` and ``max_pixels`` bound the shorter and the longer
      side; the result is half of that size. Sides below a token are refused.

    Args:
        height: pixels, at least 1.
        width: pixels, at least 1.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        ``(height, width)``, both multiples of ``spec.token_size``.

    Raises:
        PixelPruneError: a side is below 1 or above 2**31, or the processor refuses the image: one side is
            more than 200 times the other (with ``"glm_image"``: 4 times, or is below a token).
        TypeError: a side is not an integer.

    Example:
        >>> import pixelprune as pp
        >>> pp.smart_resize(1080, 1920, "qwen3_vl")
        (1088, 1920)
        >>> pp.smart_resize(20, 300, "qwen2_vl"), pp.smart_resize(20, 300, "glm4v")
        ((28, 308), (28, 420))
    """
    spec = as_spec(spec)
    height, width = as_side(height, "height"), as_side(width, "width")
    if max(height, width) > MAX_SIDE:
        raise PixelPruneError(
            f"the image is {shown(height)} x {shown(width)} (height x width); expected at most {MAX_SIDE} pixels a side"
        )
    return RULES[spec.resize_rule](height, width, spec)
