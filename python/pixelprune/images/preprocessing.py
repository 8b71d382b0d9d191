"""From images to model-ready patches in one pass: resize, prune, normalise, pack."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import PixelPruneError
from ..runtime import resolve
from ..selection.pruning import prune
from ..selection.result import Indices, Selection, flat_order
from ..selection.settings import DEFAULT, PruneOptions, PruneSettings, settings_of
from ..spec import VisionSpec
from .batch import Batch
from .decode import Alpha
from .options import DTYPES, Copies, DType, PreprocessOptions, Resample
from .sources import PreparedImage, iterate, prepare_images

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Job(NamedTuple):
    """An image and its final size, as the core reads it."""

    image: NDArray[np.uint8]
    height: int
    width: int
    pad: bool
    """Whether to repeat the last row and column instead of resizing."""
    keep: Indices | None
    """The tokens to keep, if they are chosen already."""


class OutputFormat(NamedTuple):
    """The layout of a row of the output, as the core reads it."""

    patch: int
    merge: int
    frames: int
    channels_last: bool
    order: Literal["block", "raster"]


def preprocess(
    images: Iterable[Any],
    spec: VisionSpec | str,
    *,
    settings: PruneSettings | None = None,
    prune: bool = True,
    resample: Resample = "torchvision",
    alpha: Alpha = "white",
    dtype: DType = "float32",
    copies: Copies = "repeat",
    channels_first: bool = False,
    threads: int | None = None,
    out: NDArray[Any] | None = None,
    **options: Unpack[PruneOptions],
) -> Batch:
    """Turn images into the patches that a model's vision tower takes, keeping only those that pruning keeps.

    Does what a model's image processor does (resize to the model's grid, normalise, cut into patches), and prunes
    the resized uint8 pixels along the way. With ``prune=False`` the patches are equal to the processor's, bit
    for bit; with ``prune=True`` they are the rows of it that `patch_indices` names, in the order described in `Batch`.

    Args:
        images: images of any sizes: paths, bytes, binary file objects or PIL images (loaded by
            `load_image`), uint8 arrays and CPU tensors (height, width) or (height, width, 1, 3 or 4 channels). File
            objects and lazy PIL images are read in the calling thread, one after the other. Images in a list or tuple
            are borrowed; those of any other iterable are copied if they could change before they are used, so a
            generator may refill one array or buffer, or seek through the frames of one PIL image.
        spec: a `VisionSpec` or the name of a preset.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`).
        prune: False keeps every token.
        resample: ``"torchvision"``: antialiased bicubic, byte for byte as torchvision on uint8, which the
            processors use if torchvision is installed. ``"pillow"``: bicubic by Pillow itself, one whole image
            at a time, with the normalisation of the processors' Pillow backends. ``"pad"``: no resampling;
            the last row and column are repeated until both sides are multiples of the token side, which keeps
            repetition exact. An image that is then outside the spec's limits is resized as with
            ``"torchvision"``. ``"none"``: sides must be multiples of the token side.
            `Batch.resampled` holds what was done to each image.
        alpha: ``"white"``, as in the image processors of transformers 5.23; ``"drop"``, as in those of 4.57 and in
            transformers' file loader; or a background colour, as in `load_image`. On white, arrays of four channels are
            rounded as the processors round arrays, which differs from Pillow's rounding.
        dtype: ``"float32"``; ``"float16"`` or ``"bfloat16"``, rounded to nearest even as in torch (bfloat16
            is returned as its bits in uint16); or ``"uint8"``: the pixels themselves, not normalised.
        copies: ``"repeat"`` writes the frame ``temporal_patch_size`` times, as the models expect; ``"single"`` once.
        channels_first: arrays and tensors are (channels, height, width), as in `pixelprune.prune`. Does not apply to
            images that are loaded.
        threads: number of threads; they are used only if there is enough work. None: as in `set_num_threads`. The
            result does not depend on it.
        out: where to write the patches: a C-contiguous array of that dtype with at least as many rows as all
            images have patches before pruning; ``pixel_values`` is then ``out[:K]``. Reusing one array saves the cost
            of allocating memory.

    Returns:
        A `Batch`.

    Raises:
        PixelPruneError: an image is damaged or has an invalid size, or the same image object occurs twice and its file
            has several frames (the message names the image); an argument has a value that is not listed above;
            ``out`` does not fit. Nothing is written in these cases.
        TypeError: an argument of the wrong type.
        OSError: a file can't be opened or read. This and any other error of a file object passes unchanged.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((1080, 1920, 3), 255, np.uint8)
        >>> page[300:400, 300:500] = np.arange(200, dtype=np.uint8)[:, None]
        >>> batch = pp.preprocess([page], "qwen3_vl", dtype="bfloat16")
        >>> batch
        Batch(1 images, kept 26 of 2040 tokens, pixel_values uint16 (104, 1536))
        >>> batch.original_sizes.tolist(), batch.resized_sizes.tolist(), batch.resampled
        ([[1080, 1920]], [[1088, 1920]], ('torchvision',))
    """
    chosen = PreprocessOptions.checked(
        spec,
        settings=settings_of(settings, options),
        prune=prune,
        resample=resample,
        alpha=alpha,
        dtype=dtype,
        copies=copies,
        channels_first=channels_first,
    )
    count = resolve(threads)
    return run(prepare_images(iterate(images), chosen, count), chosen, count, out)


def run(images: list[PreparedImage], options: PreprocessOptions, threads: int, out: NDArray[Any] | None) -> Batch:
    """Resize, prune, normalise and pack."""
    spec, settings, resample, _, dtype, copies, _ = options
    p, m = spec.patch_size, spec.merge_size
    frames = 1 if copies == "single" else spec.temporal_patch_size
    row = len(spec.mean) * frames * p * p
    grids = [(1, image.height // p, image.width // p) for image in images]
    rows = sum(math.prod(grid) for grid in grids)
    values = _room(rows, row, spec, DTYPES[dtype], out)
    for i, image in enumerate(images):
        if out is not None and np.may_share_memory(out, image.pixels):
            raise PixelPruneError(f"images[{i}] shares memory with out; expected separate memory")
    asked = None
    if settings is not None and callable(settings.method):
        # The function needs the resized pixels; passing them on saves the core from resizing again.
        finished = [resized(image, threads) for image in images]
        asked = [prune(pixels, spec, settings=settings) for pixels in finished]
        jobs = [
            Job(pixels, image.height, image.width, False, selection.keep)
            for image, pixels, selection in zip(images, finished, asked, strict=True)
        ]
    else:
        jobs = [Job(image.pixels, image.height, image.width, image.resampled == "pad", None) for image in images]
    layout = OutputFormat(p, m, frames, spec.patch_layout == "ppc", spec.patch_order)
    rule = "pillow" if resample == "pillow" else "torchvision"
    table = levels(spec.mean, spec.std, dtype, rule)
    bits = np.dtype(np.uint16) if dtype == "float16" else values.dtype
    target = (values.reshape(-1).view(bits), table.view(bits))
    core = settings.core if settings is not None and asked is None else DEFAULT.core
    outcomes = _core.preprocess(
        jobs,
        layout,
        core,
        settings is not None,
        target,
        affine(spec.mean, spec.std, dtype, rule),
        dtype == "bfloat16",
        threads,
    )
    selections = asked or [
        Selection(keep, source, grid, spec, *(core if settings else core._replace(method="given", seed=0)))
        for (keep, source), grid in zip(outcomes, grids, strict=True)
    ]
    kept = [selection.kept * m * m for selection in selections]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
    del target  # a view: `resize` moves the memory only if nothing else refers to it
    if out is None and offsets[-1] < rows:
        # Frees the memory of the dropped patches, unless a debugger or a profiler holds a reference to the array.
        with contextlib.suppress(ValueError):
            values.resize((int(offsets[-1]), *values.shape[1:]))
    for selection, first, end in zip(selections, offsets, offsets[1:], strict=False):
        order = flat_order(selection)  # the core writes the rows in the processor's order
        if order is not None:
            values[first:end] = values[first:end][order]
    return Batch(
        pixel_values=values[: offsets[-1]],
        grid_thw=np.array(grids, np.int64).reshape(-1, 3),
        flat_grid_thw=np.array([selection.flat_grid_thw for selection in selections], np.int64).reshape(-1, 3),
        offsets=offsets,
        selections=selections,
        original_sizes=np.array([image.original for image in images], np.int64).reshape(-1, 2),
        resized_sizes=np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2),
        resampled=tuple(image.resampled for image in images),
    )


def _room(rows: int, row: int, spec: VisionSpec, dtype: np.dtype[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    """Return the array that the patches are written to."""
    shape = (row,) if spec.flat_patches else spec.patch_shape
    if out is None:
        try:
            return np.empty((rows, *shape), dtype)
        except (MemoryError, ValueError):
            raise MemoryError(
                f"out of memory for {rows} patches of {row} values; pass fewer images at a time"
            ) from None
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}; expected a numpy array")
    flags = out.flags
    fits = out.ndim >= 1 and out.shape[1:] == shape and len(out) >= rows
    if out.dtype != dtype or not fits or not (flags.c_contiguous and flags.writeable and flags.aligned):
        raise PixelPruneError(
            f"out has dtype {out.dtype} and shape {out.shape}{'' if flags.c_contiguous else ', not C-contiguous'}"
            f"{'' if flags.writeable else ', read-only'}; expected a writable C-contiguous array of dtype {dtype} and "
            f"shape ({rows} or more, {', '.join(map(str, shape))})"
        )
    return out


@lru_cache(maxsize=64)
def affine(mean: tuple[float, ...], std: tuple[float, ...], dtype: str, rule: str) -> list[tuple[float, float]] | None:
    """Return center and scale of each channel if `levels` is ``(x - center) / scale``, else None."""
    if rule == "pillow":
        return None
    if dtype == "uint8":
        return [(0.0, 1.0)] * 3
    return [
        (float(np.float32(m) * np.float32(255)), float(np.float32(s) * np.float32(255)))
        for m, s in zip(mean, std, strict=True)
    ]


@lru_cache(maxsize=64)
def levels(mean: tuple[float, ...], std: tuple[float, ...], dtype: str, rule: str) -> NDArray[Any]:
    """Return (3, 256): the output value of each level of each channel, bit for bit as the processors compute it.

    With torchvision they fuse rescaling and normalising, ``(x - 255 mean) / (255 std)``, in float32; their Pillow
    backends round ``x / 255`` to float32 first.
    """
    x = np.arange(256, dtype=np.float32)
    table: NDArray[Any]
    if dtype == "uint8":
        table = np.tile(x.astype(np.uint8), (3, 1))
    else:
        center, scale = (np.asarray(values, np.float32)[:, None] for values in (mean, std))
        if rule == "pillow":
            x = (np.arange(256) * (1 / 255)).astype(np.float32)
        else:
            center, scale = center * np.float32(255), scale * np.float32(255)
        table = (x - center) / scale
        if dtype == "float16":
            table = table.astype(np.float16)
        elif dtype == "bfloat16":
            bits = table.view(np.uint32)
            table = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    table.setflags(write=False)
    return table


def resized(image: PreparedImage, threads: int) -> NDArray[np.uint8]:
    """Return the pixels at their final size, as the core computes them."""
    pixels, height, width = image.pixels, image.height, image.width
    if image.resampled == "torchvision":
        return _core.resize(pixels, height, width, threads)
    if image.resampled == "pad":
        return np.pad(pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)), mode="edge")
    return pixels
