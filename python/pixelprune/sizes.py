"""How the models' processors choose the size of a picture: one function a resize rule.

Every function takes the height and width of a picture and the `VisionSpec`, and returns a height and a width
that are multiples of ``spec.token_size``. Their floating-point operations come in the order in which the
processors do them: a size that lies on the edge between two grids rounds differently otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import PixelPruneError

if TYPE_CHECKING:
    from .spec import ResizeRule, VisionSpec

MAX_ASPECT_RATIO = 200
"""The processors refuse pictures that are more than this many times longer than wide (or wider than long)."""

GLM_IMAGE_MAX_ASPECT_RATIO = 4
"""The same limit of the rule ``"glm_image"``."""


def _qwen(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    _check_aspect_ratio(height, width, height, width)
    return _between_limits(height, width, spec, frames=1)


def _glm(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    """First both sides grow by one factor until neither is below a token; the limits count all frames."""
    factor = spec.token_size
    tall, wide = height, width
    if min(height, width) < factor:
        scale = factor / min(height, width)
        tall, wide = int(height * scale), int(width * scale)
    _check_aspect_ratio(height, width, tall, wide)
    return _between_limits(tall, wide, spec, frames=spec.temporal_patch_size)


def _paddleocr(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    """First a side below a token grows to it and the other one in proportion, height before width."""
    factor = spec.token_size
    tall, wide = height, width
    if tall < factor:
        tall, wide = factor, round(wide * factor / tall)
    if wide < factor:
        tall, wide = round(tall * factor / wide), factor
    _check_aspect_ratio(height, width, tall, wide)
    return _between_limits(tall, wide, spec, frames=1)


def _glm_image(height: int, width: int, spec: VisionSpec) -> tuple[int, int]:
    """The limits are squares: their sides bound the shorter and the longer side, half of which is taken."""
    factor = spec.token_size
    if min(height, width) < factor:
        raise PixelPruneError(
            f"the picture is {height} x {width} (height x width); expected sides of at least one token, {factor} pixels"
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
"""The resize rules by the name that a `VisionSpec` has them under."""


def _between_limits(height: int, width: int, spec: VisionSpec, frames: int) -> tuple[int, int]:
    """Round both sides to tokens, half to even; outside the limits scale both, then floor or ceil them."""
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
    """Refuse the picture ``height`` x ``width`` if what it is enlarged to, ``tall`` x ``wide``, is too long."""
    long, short = max(tall, wide), min(tall, wide)
    if long > most * short:
        raise PixelPruneError(
            f"the picture is {height} x {width} (height x width), an aspect ratio of about {long // short}; "
            f"expected at most {most}"
        )
