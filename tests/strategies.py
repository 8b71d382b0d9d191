"""Hypothesis strategies for images in which equal and nearly equal neighbours are common.

Random noise only ever exercises "all tokens differ". Here an image is a grid of tokens from a palette of 2-4,
where palette entries and single tokens lie exactly the budget, or one step more, away from one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from pixelprune.reference import METRICS, budget
from pixelprune.spec import PRESETS, VisionSpec

Pixels = npt.NDArray[np.uint8]

PIXEL_SPEC = VisionSpec(patch_size=1, merge_size=1)
"""Tokens of one pixel: an image is the grid itself, written out."""

SPECS = (
    PIXEL_SPEC,
    VisionSpec(patch_size=2, merge_size=1),
    VisionSpec(patch_size=3, merge_size=2, patch_order="raster"),
    VisionSpec(patch_size=5, merge_size=3, temporal_patch_size=1, patch_order="raster", patch_layout="ppc"),
    VisionSpec(patch_size=16, merge_size=1, temporal_patch_size=1, patch_layout="cpp"),
    PRESETS["qwen2_vl"],
    PRESETS["qwen3_vl"],
)

THRESHOLDS = st.one_of(
    st.sampled_from((0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0)),
    st.integers(0, 60).map(lambda level: level / 255),
    st.floats(0, 0.25),
    st.floats(0, 1),
)

MAX_SIDE = 5
"""Rows and columns of a drawn grid, at most."""


@dataclass(frozen=True)
class Case:
    """An image with the settings that its near-equal tokens were made for."""

    image: Pixels
    spec: VisionSpec
    metric: str
    threshold: float


def distance(x: Pixels, y: Pixels, metric: str) -> int:
    """The distance that `pixelprune.reference.budget` bounds, in Python's integers."""
    differences = [abs(a - b) for a, b in zip(x.ravel().tolist(), y.ravel().tolist(), strict=True)]
    if metric == "max":
        return max(differences)
    return sum(differences) if metric == "mae" else sum(d * d for d in differences)


def moved(token: Pixels, by: int, metric: str, start: int) -> Pixels:
    """Return the token moved by exactly the given distance, in as few values as can be, from ``start`` on.

    The result lies closer only where 0 and 255 leave no room.
    """
    values = token.ravel().astype(np.int64)
    left = by
    for i in ((start + k) % values.size for k in range(values.size)):
        if left == 0:
            break
        step = min(isqrt(left) if metric == "rmse" else left, max(values[i], 255 - values[i]))
        values[i] += step if values[i] + step <= 255 else -step
        if metric == "max":
            break
        left -= step * step if metric == "rmse" else step
    return values.astype(np.uint8).reshape(token.shape)


def positions(px: int, channels: int) -> st.SearchStrategy[int]:
    """Flat index of a value of a token: the places in a segment where a vector loop begins and ends."""
    segment = px * channels
    places = sorted({place for place in (0, 15, 16, 31, 32, 47, segment - 1) if place < segment})
    lines = sorted({0, px // 2, px - 1})
    return st.sampled_from([line * segment + place for line in lines for place in places])


@st.composite
def tokens(draw: st.DrawFn, px: int, channels: int) -> Pixels:
    """One token: flat, or texture; now and then at the ends of the scale."""
    if draw(st.booleans()):
        return np.full((px, px, channels), draw(st.sampled_from((0, 1, 127, 128, 254, 255))), np.uint8)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, 256, (px, px, channels), np.uint8)


@st.composite
def images(
    draw: st.DrawFn, spec: VisionSpec, channels: int, metric: str, threshold: float, max_side: int = MAX_SIDE
) -> Pixels:
    """An image ``(H, W, channels)`` of 1..max_side x 1..max_side tokens."""
    px = spec.token_size
    limit = budget(metric, threshold, px * px * channels)
    # Moves of one value add up to "further than the budget"; moves of several may not.
    here = draw(positions(px, channels))
    starts = st.just(here) if draw(st.booleans()) else positions(px, channels)

    def near(token: Pixels) -> Pixels:
        return moved(token, limit + draw(st.integers(0, 1)), metric, draw(starts))

    palette = [draw(tokens(px, channels))]
    for _ in range(draw(st.integers(1, 3))):
        # Nearly equal to the one before: chains along which errors add up.
        fresh = draw(st.integers(0, 2)) == 0
        palette.append(draw(tokens(px, channels)) if fresh else near(palette[-1]))
    rows, cols = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    entry = st.integers(0, len(palette) - 1)
    chosen = draw(st.lists(entry, min_size=rows * cols, max_size=rows * cols))
    grid = np.stack([palette[k] for k in chosen])
    for cell in draw(st.lists(st.integers(0, rows * cols - 1), max_size=3)):
        grid[cell] = near(grid[cell])
    pixels = grid.reshape(rows, cols, px, px, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(pixels.reshape(rows * px, cols * px, channels))


@st.composite
def cases(
    draw: st.DrawFn,
    specs: tuple[VisionSpec, ...] = SPECS,
    metrics: tuple[str, ...] = METRICS,
    thresholds: st.SearchStrategy[float] = THRESHOLDS,
    channels: tuple[int, ...] = (3, 1, 4),
    max_side: int = MAX_SIDE,
) -> Case:
    """An image ``(H, W)`` or ``(H, W, 1|3|4)`` and the settings to prune it with."""
    spec, metric, threshold = draw(st.sampled_from(specs)), draw(st.sampled_from(metrics)), draw(thresholds)
    depth = draw(st.sampled_from(channels))
    image = draw(images(spec, depth, metric, threshold, max_side))
    if depth == 1 and draw(st.booleans()):
        image = image[..., 0]
    return Case(image, spec, metric, threshold)


@st.composite
def layouts(draw: st.DrawFn, image: Pixels) -> Pixels:
    """The same pixels laid out otherwise in memory: crops, strides, Fortran order, mirrored, read-only."""
    height, width = image.shape[:2]
    kind = draw(st.sampled_from(("contiguous", "crop", "fortran", "every other", "flipped", "part of pixel")))
    rest = image.shape[2:]
    view: Pixels
    if kind == "crop":
        top, left, bottom, right = (draw(st.integers(0, 3)) for _ in range(4))
        frame = np.full((top + height + bottom, left + width + right, *rest), 171, np.uint8)
        view = frame[top : top + height, left : left + width]
    elif kind == "fortran":
        view = np.empty(image.shape, np.uint8, order="F")
    elif kind == "every other":
        down, across = draw(st.sampled_from(((2, 1), (1, 2), (3, 2))))
        view = np.full((height * down, width * across, *rest), 171, np.uint8)[::down, ::across]
    elif kind == "flipped":
        down, across = draw(st.sampled_from(((-1, 1), (1, -1), (-1, -1))))
        view = np.empty(image.shape, np.uint8)[::down, ::across]
    elif kind == "part of pixel" and rest:
        view = np.full((height, width, rest[0] + 1), 171, np.uint8)[..., : rest[0]]
    else:
        view = np.empty(image.shape, np.uint8)
    view[...] = image
    view.flags.writeable = draw(st.booleans())
    return view


def patchify(frames: npt.NDArray[Any], spec: VisionSpec) -> npt.NDArray[Any]:
    """Return the ``pixel_values`` that a processor makes of frames ``(t * temporal_patch_size, H, W, C)``."""
    m, p, f = spec.merge_size, spec.patch_size, spec.temporal_patch_size
    count, height, width, channels = frames.shape
    t, h, w = count // f, height // p, width // p
    # frame group, frame, token row, patch row, y, token column, patch column, x, channel
    split = frames.reshape(t, f, h // m, m, p, w // m, m, p, channels)
    patch = (8, 1, 4, 7) if spec.patch_layout in ("ctpp", "cpp") else (1, 4, 7, 8)
    where = (0, 2, 5, 3, 6) if spec.patch_order == "block" else (0, 2, 3, 5, 6)
    return np.ascontiguousarray(split.transpose(where + patch)).reshape(t * h * w, -1)


def still(image: npt.NDArray[Any], spec: VisionSpec) -> tuple[npt.NDArray[Any], tuple[int, int, int]]:
    """Return ``pixel_values`` and ``grid_thw`` of a still image, every patch in its temporal copies."""
    pixels = image.reshape(*image.shape[:2], -1)
    values = patchify(np.repeat(pixels[np.newaxis], spec.temporal_patch_size, axis=0), spec)
    return values, (1, image.shape[0] // spec.patch_size, image.shape[1] // spec.patch_size)


def normalise(pixels: Pixels, spec: VisionSpec) -> npt.NDArray[np.float32]:
    """Rescale, then normalise uint8 pixels ``(..., C)`` in float32, as processors on Pillow images do."""
    unit = (pixels * (1 / 255)).astype(np.float32)
    return (unit - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)


def to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round float32 to the bits of bfloat16, half to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
