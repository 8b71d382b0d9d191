"""Pruning: choosing the tokens of an image that are kept."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..arguments import as_bool, attribute, one_of, shown, text_of
from ..arrays import as_pixel_values, as_pixels, iterate_images, read_array
from ..errors import PixelPruneError, about_image
from ..frames import Frames, holds_all
from ..runtime import resolve
from ..spec import VisionSpec, as_spec
from .result import Indices, Selection, check_grid
from .settings import MethodFunction, Plane, PruneOptions, PruneSettings, settings_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

Temporal = Literal["repeat", "frames"]


def prune(
    image: Any,
    spec: VisionSpec | str,
    *,
    settings: PruneSettings | None = None,
    threads: int | None = None,
    channels_first: bool = False,
    **options: Unpack[PruneOptions],
) -> Selection:
    """Choose the tokens to keep: those that their neighbours do not predict.

    Args:
        image: the pixels as the ViT will see them (resized, not normalised): uint8 (height, width) or
            (height, width, 1, 3 or 4 channels), as a numpy array, a PIL image (L, RGB, RGBA) or anything with
            the array interface. Sides are multiples of the token side (`smart_resize`). All channels are
            compared, alpha included. Arrays whose rows are contiguous are not copied, whatever the row stride; PIL
            images and other layouts are copied once. Also a path or the bytes of an image file, which is decoded as
            `load_image` does with ``alpha="white"`` and not resized: see `resize_image`, or `preprocess`, which does
            both.
        spec: a `VisionSpec` or the name of a preset.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`).
        threads: number of threads; more than one speeds up large images at threshold 0 or in open loop. None: as in
            `set_num_threads`. The result does not depend on it.
        channels_first: arrays and tensors are (channels, height, width). Does not apply to PIL images.

    Returns:
        The selection, with ``grid_thw`` (1, height / patch_size, width / patch_size).

    Raises:
        PixelPruneError: an invalid shape, size, name or number.
        TypeError: an argument of the wrong type; an image of another dtype than uint8.
        OSError: a file can't be read.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((1088, 1920, 3), 255, np.uint8)
        >>> page[320:640, 320:640] = 7
        >>> sel = pp.prune(page, "qwen3_vl")
        >>> sel.kept, sel.total
        (4, 2040)
        >>> pp.prune(page, "qwen3_vl", method=lambda left, up: ~(left | up)).kept
        2
    """
    spec = as_spec(spec)
    pixels = as_pixels(image, channels_first is not False and as_bool(channels_first, "channels_first"))
    settings = settings_of(settings, options)
    method, core = settings.method, settings.core
    shape, p = pixels.shape, spec.patch_size
    grid = (1, shape[0] // p, shape[1] // p)
    count = resolve(threads)
    keep: Indices
    source: Indices | None
    if callable(method):
        planes = _core.planes(pixels, spec.token_size, core.metric, core.threshold)
        keep, source = _apply(method, planes, _tokens(grid, spec))
        if core.protect == "content":
            keep, source = _with_content(keep, source, _core.content(pixels, spec.token_size, core.threshold))
    else:
        keep, source = _core.prune(pixels, spec.token_size, core, count)
    return Selection(keep, source, grid, spec, *core)


def prune_batch(
    images: Iterable[Any],
    spec: VisionSpec | str,
    *,
    settings: PruneSettings | None = None,
    threads: int | None = None,
    channels_first: bool = False,
    **options: Unpack[PruneOptions],
) -> list[Selection]:
    """Prune images of any sizes, with several threads working on several images at a time.

    ``prune_batch(images, ...)[i]`` equals ``prune(images[i], ...)``. See `prune` for the arguments.

    Args:
        images: any number of images, each as in `prune`; also one array (images, height, width, channels). Images in a
            list or tuple are borrowed until the call returns; those of any other iterable are copied as they arrive,
            so a generator may refill one array, or seek through the frames of one PIL image.
        spec: as in `prune`.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`).
        threads: as in `prune`.
        channels_first: as in `prune`.

    Returns:
        One selection per image, in order.

    Raises:
        PixelPruneError: as in `prune`; the message names the image.
        TypeError: as in `prune`; the message names the image.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> images = [np.zeros((64, 64, 3), np.uint8), np.zeros((96, 32), np.uint8)]
        >>> [sel.grid for sel in pp.prune_batch(images, "qwen3_vl", threads=2)]
        [(1, 2, 2), (1, 3, 1)]
    """
    spec = as_spec(spec)
    settings = settings_of(settings, options)
    method, core = settings.method, settings.core
    count = resolve(threads)
    channels_first = as_bool(channels_first, "channels_first")
    pixels: list[NDArray[np.uint8]] = []
    frames = Frames()
    borrows = holds_all(images)
    for i, image in enumerate(iterate_images(images)):
        try:
            frames.meet(image)
            own = as_pixels(image, channels_first)
        except (TypeError, PixelPruneError) as error:
            raise about_image(i, error) from None
        # Reading a Pillow image has made a copy.
        pixels.append(own if borrows or attribute(image, "getbands") is not None else own.copy())
    if callable(method):
        return [prune(image, spec, settings=settings) for image in pixels]
    p = spec.patch_size
    return [
        Selection(keep, source, (1, image.shape[0] // p, image.shape[1] // p), spec, *core)
        for image, (keep, source) in zip(pixels, _core.prune_batch(pixels, spec.token_size, core, count), strict=True)
    ]


def prune_pixel_values(
    pixel_values: Any,
    grid_thw: Any,
    spec: VisionSpec | str,
    *,
    temporal: Temporal = "repeat",
    settings: PruneSettings | None = None,
    threads: int | None = None,
    **options: Unpack[PruneOptions],
) -> list[Selection]:
    """Prune the ``pixel_values`` that a processor returned.

    At threshold 0 the stored values are compared. Above it they are first mapped back to [0, 1] with the
    spec's mean and std, and tokens whose values all turn out to be 8-bit levels are compared as the original uint8
    pixels, so an image and its float32 ``pixel_values`` give the same selection. uint8 values
    are on the 0-255 scale; mean and std are ignored. bfloat16 maps two blue levels of CLIP-normalised
    images to one value, so slightly more tokens can be dropped than with float32.

    Args:
        pixel_values: (patches of all images, values of a patch); float32, float16, bfloat16 or uint8; a
            numpy array (uint16 holds the bits of bfloat16) or a CPU tensor. Not copied if contiguous.
        grid_thw: (images, 3) integers: frames, rows and columns of each image in patches.
        spec: a `VisionSpec` or the name of a preset: patch order, layout, mean and std are used.
        temporal: ``"repeat"``: a still image, repeated along time, of which only the first copy is compared;
            ``"frames"``: all ``temporal_patch_size`` frames of a patch are compared.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`).
        threads: as in `prune`.

    Returns:
        One selection per image, in order.

    Raises:
        PixelPruneError: as in `prune`; shapes that do not match; NaN or infinity among the compared values.
        TypeError: as in `prune`; another dtype; a tensor that is not in CPU memory.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> pixel_values = np.zeros((2 * 4 * 4, 3 * 2 * 16 * 16), np.float32)
        >>> [sel.kept for sel in pp.prune_pixel_values(pixel_values, [[1, 4, 4], [1, 4, 4]], "qwen3_vl")]
        [1, 1]
    """
    spec = as_spec(spec)
    settings = settings_of(settings, options)
    method, core = settings.method, settings.core
    temporal = one_of(temporal, "temporal", get_args(Temporal))  # type: ignore[assignment]
    values, bfloat = as_pixel_values(pixel_values)
    layout = _row_layout(spec, temporal, values.shape[1], values.dtype == np.uint8, bfloat)
    grids = check_grids(grid_thw, spec, len(values))
    count = resolve(threads)
    if callable(method):
        planes = _core.planes_of_pixel_values(values, grids, layout, core.metric, core.threshold)
        outcomes = [_apply(method, pair, _tokens(grid, spec)) for pair, grid in zip(planes, grids, strict=True)]
        if core.protect == "content":
            contents = _core.content_of_pixel_values(values, grids, layout, core.threshold)
            outcomes = [_with_content(*pair, content) for pair, content in zip(outcomes, contents, strict=True)]
    else:
        outcomes = _core.prune_pixel_values(values, grids, layout, core, count)
    return [Selection(keep, source, grid, spec, *core) for (keep, source), grid in zip(outcomes, grids, strict=True)]


def _tokens(grid: tuple[int, int, int], spec: VisionSpec) -> tuple[int, int, int]:
    t, h, w = grid
    return t, h // spec.merge_size, w // spec.merge_size


def _apply(
    method: MethodFunction, planes: tuple[Plane, Plane], grid: tuple[int, int, int]
) -> tuple[Indices, Indices | None]:
    """Call the method function for each frame, and check what it returns."""
    t, rows, cols = grid
    left, up = (plane.reshape(grid) for plane in planes)
    masks = []
    sources: list[Indices] = []
    for frame in range(t):
        answer = method(left[frame], up[frame])
        if isinstance(answer, tuple) and len(answer) != 2:
            raise PixelPruneError(f"the method returned {len(answer)} values; expected a mask, or mask and source")
        mask, source = answer if isinstance(answer, tuple) else (answer, None)
        mask = read_array(mask, "the method's mask", f"bool {(rows, cols)}")
        if mask.dtype != np.bool_ or mask.shape != (rows, cols):
            raise PixelPruneError(
                f"the method returned a mask of dtype {text_of(mask.dtype)} and shape {mask.shape}; expected bool "
                f"{(rows, cols)}"
            )
        if not mask.any():
            raise PixelPruneError("the method keeps no token of a frame; expected at least one")
        masks.append(mask)
        if source is not None:
            source = read_array(source, "the method's source", f"{rows * cols} integers")
            sources.append(_check_source(source, mask) + frame * rows * cols)
    if sources and len(sources) != t:
        raise PixelPruneError("the method returned a source for some frames only; expected all or none")
    keep = np.flatnonzero(np.concatenate(masks, axis=None))
    return keep, np.concatenate(sources) if sources else None


def _with_content(keep: Indices, source: Indices | None, content: NDArray[np.bool_]) -> tuple[Indices, Indices | None]:
    """Keep the tokens that carry content, too."""
    mask = content.copy()
    mask[keep] = True
    return np.flatnonzero(mask), source if source is None else np.where(content, np.arange(len(source)), source)


def _check_source(source: NDArray[Any], mask: Plane) -> Indices:
    total = mask.size
    if source.dtype.kind not in "iu" or source.size != total:
        raise PixelPruneError(
            f"the method returned a source of dtype {text_of(source.dtype)} with {source.size} entries; expected "
            f"{total} integers"
        )
    source = source.astype(np.int64).ravel()
    kept = mask.ravel()
    if source.min() < 0 or source.max() >= total or not kept[source].all():
        raise PixelPruneError("the method's source names a token that is not kept; expected kept tokens only")
    if (source[kept] != np.flatnonzero(kept)).any():
        raise PixelPruneError("the method's source replaces a kept token; expected its own index")
    return source


def check_grids(grid_thw: Any, spec: VisionSpec, rows: int) -> list[tuple[int, int, int]]:
    """Return ``grid_thw`` as tuples, checked against the spec, for as many rows of ``pixel_values``."""
    grids = read_array(grid_thw, "grid_thw", "(images, 3) integers")
    if grids.shape in ((0,), (0, 3)):
        return []
    if grids.ndim != 2 or grids.shape[1] != 3:
        raise PixelPruneError(f"grid_thw has shape {grids.shape}; expected (images, 3)")
    if grids.dtype.kind not in "iu":
        raise PixelPruneError(f"grid_thw is {shown(grid_thw)}; expected (images, 3) integers")
    # Each image has at least one row, so the core refuses rows + 1 grids; the others need no check here.
    return [check_grid(row, spec) for row in grids[: rows + 1]]


class ValuesFormat(NamedTuple):
    """The layout of a row of ``pixel_values``, as the core reads it."""

    order: Literal["block", "raster"]
    merge: int
    row: int
    """Values in a row."""
    runs: list[tuple[int, int]]
    """Start and length of each run of values that are compared."""
    factor: list[float]
    offset: list[float]
    """The pixel of a compared value in [0, 1] is ``factor * value + offset``."""
    channels: list[tuple[int, int, int, float, float]]
    """First, end and step of the compared values of each channel, and the factor and offset of its pixels."""
    slack: bool
    """Whether values may be normalised 8-bit levels."""
    bfloat16: bool
    """Whether 16-bit values are bfloat16, not float16."""


@lru_cache(maxsize=32)
def _row_layout(spec: VisionSpec, temporal: str, row: int, integer: bool, bfloat16: bool = False) -> ValuesFormat:
    channels, frames = len(spec.mean), spec.temporal_patch_size
    pixels = spec.patch_size**2
    if row != channels * frames * pixels:
        raise PixelPruneError(
            f"pixel_values has {row} values in a row; expected {channels * frames * pixels} ({channels} channels x "
            f"{frames} frames x {spec.patch_size} x {spec.patch_size} pixels)"
        )
    compared = 1 if temporal == "repeat" else frames
    if compared == frames:
        runs = [(0, row)]
    else:
        runs = [(channel * frames * pixels, pixels) for channel in range(channels)]
    std, mean = ((1 / 255,) * channels, (0.0,) * channels) if integer else (spec.std, spec.mean)
    if spec.patch_layout == "ppc":
        factor, offset = np.tile(std, pixels), np.tile(mean, pixels)
    else:
        factor, offset = np.repeat(std, compared * pixels), np.repeat(mean, compared * pixels)
    if spec.patch_layout == "ppc":
        places = [(channel, row, channels) for channel in range(channels)]
    else:
        firsts = range(0, row, frames * pixels)
        places = [(first, first + compared * pixels, 1) for first in firsts]
    by_channel = [(*place, s, m) for place, s, m in zip(places, std, mean, strict=True)]
    scale = (factor.tolist(), offset.tolist())
    return ValuesFormat(spec.patch_order, spec.merge_size, row, runs, *scale, by_channel, True, bfloat16)
