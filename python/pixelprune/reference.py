"""The oracle: everything pixelprune computes, written for the reader in plain numpy.

This is the second witness against which every fast path is tested. It is slow on purpose: one token at a
time, one comparison at a time, in the words of the contract. Use `pixelprune.prune` to get work done, and
this module to see what the answer must be.

The words, for one image:

* a *patch* is ``patch_size`` x ``patch_size`` pixels, a *token* is ``merge_size`` x ``merge_size`` patches;
* the causal neighbours of a token X are A (left), B (above) and C (above-left);
* a dropped token has a *source*, the kept token that stands for it; a kept token is its own source;
* in the closed loop (``anchored=True``) the neighbours are what a decoder would have, in the open loop
  they are the original tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import PixelPruneError
from .spec import VisionSpec, as_spec, smart_resize

__all__ = [
    "METHODS",
    "METRICS",
    "baseline_count",
    "budget",
    "decode",
    "hash_token_bytes",
    "image_tokens",
    "neighbour_planes",
    "normalise",
    "patch_indices",
    "patchify",
    "pixel_value_tokens",
    "preprocess",
    "prune",
    "prune_pixel_values",
    "prune_tokens",
    "reconstruct",
    "resize",
    "similar",
    "to_unit_range",
]

Array = npt.NDArray[Any]
Plane = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Method = str | Callable[[Plane, Plane], Any]
Position = tuple[int, int]

METRICS = ("max", "mae", "rmse")
METHODS = ("pred_2d", "raster", "serpentine", "either", "unique")
"""The methods whose every decision is specified."""
BASELINES = ("random", "conncomp")
"""The methods of which only the number of kept tokens is specified."""
_DECODABLE = ("pred_2d", "raster", "serpentine")
_FLOAT_SLACK = {"max": 1e-6, "mae": 1e-7, "rmse": 1e-7}
"""Added to the threshold where floats are compared: un-normalising is not exact."""
_OFF_LEVEL = 1 / 1024
"""How far from a whole level (on the 0-255 scale) float32 rounding can take an 8-bit value, with room to spare."""


# --- Tokens: from pixels to a grid of arrays -------------------------------------------------------------


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
    pixels = np.asarray(image)
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
    values = np.asarray(pixel_values)
    if bfloat16:
        if values.dtype != np.uint16:
            raise TypeError(f"pixel_values has dtype {values.dtype}; expected bfloat16 bits as uint16")
        # A bfloat16 number is the upper half of a float32 number.
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif values.dtype not in (np.float32, np.float16, np.uint8):
        raise TypeError(f"pixel_values has dtype {values.dtype}; expected float32, float16 or uint8")
    if temporal not in ("repeat", "frames"):
        raise PixelPruneError(f"temporal is {temporal!r}; expected 'repeat' or 'frames'")

    t, h, w = (int(side) for side in np.asarray(grid_thw))
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
        patch = values[_patch_index(f, y, x, h, w, spec)]
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
    if tokens.shape[-1] % mean.size:
        raise PixelPruneError(
            f"a token has {tokens.shape[-1]} values; expected a multiple of {mean.size}, "
            f"the number of channels of mean and std"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # prune_tokens refuses what is not finite
        pixels = tokens.astype(np.float32).reshape(-1, mean.size) * std + mean
    return pixels.reshape(tokens.shape)


def _off_level(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How far values in [0, 1] are from a whole level of the 0-255 scale."""
    levels = np.float32(255) * pixels
    with np.errstate(invalid="ignore"):  # infinities
        off: npt.NDArray[np.float32] = np.abs(levels - np.rint(levels))
    return np.where(np.abs(levels) <= 256, off, np.float32(1))  # far outside of 0-255 there are no levels


# --- Similarity ------------------------------------------------------------------------------------------


def budget(metric: str, threshold: float, n: int) -> int:
    """Return the integer that the distance of two uint8 tokens may reach.

    Args:
        metric: ``"max"`` (of the absolute differences), ``"mae"`` (their sum) or ``"rmse"`` (the sum of
            their squares).
        threshold: tau in [0, 1] of full scale.
        n: values per token.

    Raises:
        PixelPruneError: there is no such metric, or the threshold is NaN or outside [0, 1].

    Example:
        >>> from pixelprune import reference
        >>> [reference.budget(metric, 0.02, 3072) for metric in ("max", "mae", "rmse")]
        [5, 15667, 79902]
    """
    tau = _check_threshold(threshold)
    if metric == "max":
        return math.floor(255 * tau * (1 + 1e-9))
    if metric == "mae":
        return math.floor(255 * tau * n * (1 + 1e-9))
    if metric == "rmse":
        return math.floor((255 * tau) ** 2 * n * (1 + 1e-9))
    raise PixelPruneError(f"metric is {metric!r}; expected one of {', '.join(METRICS)}")


def similar(x: Array, y: Array, metric: str = "max", threshold: float = 0.0) -> bool:
    """Tell whether two tokens are within the threshold of each other.

    Floats that are all 8-bit levels (up to float32 rounding) are compared as the uint8 pixels that they
    were, so that an image and the ``pixel_values`` made of it give the same answer.

    Args:
        x: a token, uint8 or floating point, any shape. Floats are in [0, 1] when the threshold is above 0
            (see `to_unit_range`) and as stored otherwise.
        y: a token of the same shape and dtype.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``; they agree at threshold 0.
        threshold: tau in [0, 1] of full scale; 0 means equal.

    Raises:
        PixelPruneError: there is no such metric, or the threshold is NaN or outside [0, 1].

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> x, y = np.uint8([10, 20]), np.uint8([15, 20])
        >>> reference.similar(x, y, "max", 5 / 255), reference.similar(x, y, "max", 4 / 255)
        (True, False)
    """
    allowed = budget(metric, threshold, x.size)
    if threshold == 0:
        return bool(np.all(x == y))
    if x.dtype == np.uint8:
        return _reach(metric, np.abs(x.astype(np.int64) - y.astype(np.int64))) <= allowed
    if all(float(_off_level(token.astype(np.float32)).max()) < _OFF_LEVEL for token in (x, y)):
        x, y = (np.rint(255 * token.astype(np.float64)) for token in (x, y))
        difference = np.abs(x - y).astype(np.int64)
        return _reach(metric, difference) <= allowed
    with np.errstate(over="ignore"):  # an infinite distance is a fine answer: not similar
        distance = np.abs(x.astype(np.float32) - y.astype(np.float32)).astype(np.float64)
    limit = threshold + _FLOAT_SLACK[metric]
    if metric == "max":
        return float(distance.max()) <= limit
    if metric == "mae":
        return float(distance.sum()) / x.size <= limit
    return math.sqrt(float((distance * distance).sum()) / x.size) <= limit


def _reach(metric: str, difference: npt.NDArray[np.int64]) -> int:
    """The distance that `budget` limits."""
    if metric == "max":
        return int(difference.max())
    return int(difference.sum() if metric == "mae" else (difference * difference).sum())


def neighbour_planes(frame: Array, *, metric: str = "max", threshold: float = 0.0) -> tuple[Plane, Plane]:
    """Return which tokens of a frame are similar to their original left and upper neighbours.

    Args:
        frame: tokens ``(rows, cols, ...)``, as `similar` takes them.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.

    Returns:
        ``(same_left, same_up)``, bool ``(rows, cols)``. The first column of ``same_left`` and the first
        row of ``same_up`` are False.

    Raises:
        PixelPruneError: there is no such metric, or the threshold is NaN or outside [0, 1].

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> same_left, same_up = reference.neighbour_planes(np.uint8([[1, 1], [2, 1]]))
        >>> same_left.tolist(), same_up.tolist()
        ([[False, True], [False, False]], [[False, False], [False, True]])
    """
    rows, cols = frame.shape[:2]
    same_left, same_up = np.zeros((rows, cols), np.bool_), np.zeros((rows, cols), np.bool_)
    for r, c in np.ndindex(rows, cols):
        if c > 0:
            same_left[r, c] = similar(frame[r, c], frame[r, c - 1], metric, threshold)
        if r > 0:
            same_up[r, c] = similar(frame[r, c], frame[r - 1, c], metric, threshold)
    return same_left, same_up


# --- Methods ---------------------------------------------------------------------------------------------


def prune_tokens(
    tokens: Array,
    *,
    method: Method = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
) -> tuple[Plane, Indices | None]:
    """Choose the tokens to keep; every frame is a grid of its own.

    Args:
        tokens: ``(t, rows, cols, ...)``, uint8 or floats as `similar` takes them.
        method: one of `METHODS`, or a callable ``f(same_left, same_up) -> mask`` or ``(mask, source)``. It
            is called once per frame with the planes of `neighbour_planes`; its mask is bool
            ``(rows, cols)`` with at least one token kept, its source holds ``rows * cols`` token indices
            within the frame.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale; 0 = pixel-lossless.
        anchored: closed loop; False = open loop. Neither ``"unique"`` nor a callable looks at it.

    Returns:
        The mask, bool ``(t, rows, cols)``, and the source of every token, int64 ``(t * rows * cols,)``
        token indices; the source is None for a callable that returns none.

    Raises:
        PixelPruneError: an argument is out of its range, a float is not finite, or a callable returned
            what it must not.
        TypeError: tokens are neither uint8 nor floats.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> mask, source = reference.prune_tokens(np.uint8([[[1, 2], [1, 2]]]))
        >>> mask.tolist(), source.tolist()
        ([[[True, True], [False, False]]], [0, 1, 0, 1])
    """
    budget(metric, threshold, 1)  # checks both, even for a grid in which nothing is compared
    if tokens.ndim < 3 or tokens.size == 0:
        raise PixelPruneError(f"tokens has shape {tokens.shape}; expected a non-empty (t, rows, cols, ...)")
    if tokens.dtype != np.uint8 and tokens.dtype.kind != "f":
        raise TypeError(f"tokens has dtype {tokens.dtype}; expected uint8 or floating point")
    if tokens.dtype != np.uint8 and not np.isfinite(tokens).all():
        raise PixelPruneError("tokens has values that are NaN or infinite; expected finite values")
    if method in BASELINES:
        raise PixelPruneError(f"method {method!r} draws at random: see baseline_count")
    if method == "unique" and threshold != 0:
        raise PixelPruneError(f"threshold is {threshold}; method 'unique' is exact: expected 0")
    if not callable(method) and method not in METHODS:
        raise PixelPruneError(f"method is {method!r}; expected one of {', '.join(METHODS)} or a callable")

    masks: list[Plane] = []
    sources: list[Indices] = []
    for number, frame in enumerate(tokens):
        source: Indices | None
        if callable(method):
            mask, source = _call(method, frame, metric, threshold)
        elif method == "unique":
            mask, source = _first_occurrences(frame)
        else:
            mask, source = _predict(frame, method, metric, threshold, anchored)
        masks.append(mask)
        if source is not None:
            sources.append(source + number * mask.size)
    if 0 < len(sources) < len(masks):
        raise PixelPruneError("the callable returned a source for some frames only; expected all or none")
    return np.stack(masks), np.concatenate(sources) if sources else None


def baseline_count(tokens: Array, *, metric: str = "max", threshold: float = 0.0, anchored: bool = True) -> int:
    """Return how many tokens of an image the baselines ``random`` and ``conncomp`` keep.

    They keep as many as ``pred_2d`` with the same settings; which ones is up to their draws.

    Args:
        tokens: ``(t, rows, cols, ...)``, as in `prune_tokens`.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.
        anchored: closed loop; False = open loop.

    Raises:
        PixelPruneError: as `prune_tokens`.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.baseline_count(np.uint8([[[1, 2], [1, 2]]]))
        2
    """
    mask, _ = prune_tokens(tokens, method="pred_2d", metric=metric, threshold=threshold, anchored=anchored)
    return int(mask.sum())


def _predict(frame: Array, method: str, metric: str, threshold: float, anchored: bool) -> tuple[Plane, Indices]:
    """One frame of the methods that predict a token from tokens seen before it."""
    rows, cols = frame.shape[:2]
    keep = np.zeros((rows, cols), np.bool_)
    source = np.zeros((rows, cols), np.int64)
    # What the predictor sees. In the closed loop a dropped token's value becomes its source's.
    seen = frame.copy()
    for x, previous in _path(method, rows, cols):
        for guess in _guesses(method, x, previous, seen, metric, threshold):
            if similar(frame[x], seen[guess], metric, threshold):
                source[x] = source[guess]
                if anchored:
                    seen[x] = seen[guess]
                break
        else:
            keep[x] = True
            source[x] = x[0] * cols + x[1]
    return keep, source.ravel()


def _path(method: str, rows: int, cols: int) -> Iterator[tuple[Position, Position | None]]:
    """The order in which tokens are visited, each with the token before it (None for the first)."""
    previous: Position | None = None
    for r in range(rows):
        backwards = method == "serpentine" and r % 2 == 1
        for c in reversed(range(cols)) if backwards else range(cols):
            yield (r, c), previous
            previous = (r, c)


def _guesses(
    method: str, x: Position, previous: Position | None, seen: Array, metric: str, threshold: float
) -> list[Position]:
    """The positions whose values are tried for token x, in order; x is kept if none of them is similar."""
    if previous is None:
        return []
    if method in ("raster", "serpentine"):
        # In the closed loop the preceding token's value is that of the first token of the run.
        return [previous]
    r, c = x
    a, b = (r, c - 1), (r - 1, c)
    if r == 0:
        return [a]
    if c == 0:
        return [b]
    if method == "either":
        return [a, b]
    above_left = seen[r - 1, c - 1]
    use_above = similar(above_left, seen[a], metric, threshold) and not similar(above_left, seen[b], metric, threshold)
    return [b if use_above else a]


def _first_occurrences(frame: Array) -> tuple[Plane, Indices]:
    """One frame of ``unique``: a token is dropped if an equal one came before it in row-major order."""
    rows, cols = frame.shape[:2]
    # Adding 0 makes -0.0 of a float token 0.0, to which it is equal; then equal values are equal bytes.
    keys = [(frame[position] + frame.dtype.type(0)).tobytes() for position in np.ndindex(rows, cols)]
    first: dict[bytes, int] = {}
    source = np.array([first.setdefault(key, i) for i, key in enumerate(keys)], np.int64)
    return (source == np.arange(rows * cols)).reshape(rows, cols), source


def _call(
    method: Callable[[Plane, Plane], Any], frame: Array, metric: str, threshold: float
) -> tuple[Plane, Indices | None]:
    """One frame of a callable, its answer checked."""
    rows, cols = frame.shape[:2]
    answer = method(*neighbour_planes(frame, metric=metric, threshold=threshold))
    mask, source = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != (rows, cols) or not mask.any():
        raise PixelPruneError(
            f"the callable returned a mask of dtype {mask.dtype} and shape {mask.shape}; "
            f"expected bool ({rows}, {cols}) with at least one token kept"
        )
    if source is None:
        return mask, None
    source = np.asarray(source)
    if source.dtype.kind not in "iu" or source.size != mask.size:
        raise PixelPruneError(
            f"the callable returned a source of dtype {source.dtype} and shape {source.shape}; "
            f"expected {mask.size} integers"
        )
    source = source.astype(np.int64).ravel()
    kept = np.flatnonzero(mask)
    if not np.isin(source, kept).all() or (source[kept] != kept).any():
        raise PixelPruneError("the callable's source is wrong; expected kept tokens, each its own source")
    return mask, source


# --- One image in one call -------------------------------------------------------------------------------


def prune(
    image: npt.ArrayLike,
    spec: VisionSpec | str,
    *,
    method: Method = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
) -> tuple[Plane, Indices | None]:
    """Choose the tokens of an image to keep: `image_tokens`, then `prune_tokens`.

    Args:
        image: uint8 ``(H, W)`` or ``(H, W, C)``; both sides are multiples of ``spec.token_size``.
        spec: a `VisionSpec` or the name of a preset.
        method: see `prune_tokens`.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.
        anchored: closed loop; False = open loop.

    Returns:
        The mask, bool ``(1, rows, cols)``, and the source, int64 ``(rows * cols,)`` or None.

    Raises:
        PixelPruneError: an argument is out of its range.
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> mask, source = reference.prune(np.zeros((64, 96, 3), np.uint8), "qwen3_vl")
        >>> int(mask.sum()), source.tolist()
        (1, [0, 0, 0, 0, 0, 0])
    """
    tokens = image_tokens(image, spec)[np.newaxis]
    return prune_tokens(tokens, method=method, metric=metric, threshold=threshold, anchored=anchored)


def prune_pixel_values(
    pixel_values: npt.ArrayLike,
    grid_thw: npt.ArrayLike,
    spec: VisionSpec | str,
    *,
    temporal: Literal["repeat", "frames"] = "repeat",
    method: Method = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
    bfloat16: bool = False,
) -> tuple[Plane, Indices | None]:
    """Choose the tokens to keep from the finished ``pixel_values`` of one image.

    uint8 values are on the 0-255 scale and compared as an image's are. Floats are compared as stored at
    threshold 0, and by `to_unit_range` above it.

    Args:
        pixel_values: see `pixel_value_tokens`.
        grid_thw: ``(t, h, w)`` in patches.
        spec: a `VisionSpec` or the name of a preset.
        temporal: ``"repeat"`` compares the first temporal copy of every patch, ``"frames"`` all of them.
        method: see `prune_tokens`.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.
        anchored: closed loop; False = open loop.
        bfloat16: ``pixel_values`` is uint16 and holds the bits of bfloat16 numbers.

    Returns:
        The mask, bool ``(t, rows, cols)``, and the source, int64 ``(t * rows * cols,)`` or None.

    Raises:
        PixelPruneError: an argument is out of its range, or a compared value is not finite.
        TypeError: the dtype is not supported.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> pixel_values = np.zeros((4 * 6, 3 * 2 * 16 * 16), np.float32)
        >>> mask, source = reference.prune_pixel_values(pixel_values, (1, 4, 6), "qwen3_vl")
        >>> mask.shape, int(mask.sum())
        ((1, 2, 3), 1)
    """
    tokens = pixel_value_tokens(pixel_values, grid_thw, spec, temporal, bfloat16=bfloat16)
    if _check_threshold(threshold) > 0 and tokens.dtype != np.uint8:
        tokens = to_unit_range(tokens, spec)
    return prune_tokens(tokens, method=method, metric=metric, threshold=threshold, anchored=anchored)


# --- From the result -------------------------------------------------------------------------------------


def reconstruct(image: npt.ArrayLike, source: npt.ArrayLike, spec: VisionSpec | str) -> npt.NDArray[np.uint8]:
    """Return the image with every token replaced by its source's pixels.

    Args:
        image: uint8 ``(H, W)`` or ``(H, W, C)``.
        source: int64 ``(rows * cols,)``, from `prune`.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        uint8, the shape of ``image``.

    Raises:
        PixelPruneError: the image is not made of whole tokens, or the source is not of its grid.
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from pixelprune import VisionSpec, reference
        >>> spec = VisionSpec(patch_size=1, merge_size=1)
        >>> reference.reconstruct(np.uint8([[1, 2], [3, 4]]), [0, 1, 1, 0], spec).tolist()
        [[1, 2], [2, 1]]
    """
    original = image_tokens(image, spec)
    rows, cols = original.shape[:2]
    indices = np.asarray(source)
    if indices.shape != (rows * cols,) or indices.min() < 0 or indices.max() >= rows * cols:
        raise PixelPruneError(
            f"source has shape {indices.shape}; expected ({rows * cols},) token indices below {rows * cols}"
        )
    result = np.array(image)
    tokens = image_tokens(result, spec)  # a view of the result
    for i, j in enumerate(indices):
        tokens[divmod(i, cols)] = original[divmod(int(j), cols)]
    return result


def decode(
    mask: npt.ArrayLike,
    tokens: npt.ArrayLike,
    spec: VisionSpec | str,
    *,
    method: str = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
) -> npt.NDArray[np.uint8]:
    """Rebuild an image from its mask and kept tokens alone, by repeating every decision.

    Args:
        mask: bool ``(1, rows, cols)`` or ``(rows, cols)``.
        tokens: uint8 ``(K, px, px, C)``: the kept tokens in ascending order of index.
        spec: a `VisionSpec` or the name of a preset.
        method: ``"pred_2d"``, ``"raster"`` or ``"serpentine"``.
        metric: as it was for pruning.
        threshold: as it was for pruning.
        anchored: as it was for pruning; the open loop can be decoded at threshold 0 only.

    Returns:
        uint8 ``(rows * px, cols * px, C)``: what `reconstruct` gives from the source.

    Raises:
        PixelPruneError: mask and tokens don't fit each other, or these settings can't be decoded.
        TypeError: mask or tokens have another dtype.

    Example:
        >>> import numpy as np
        >>> from pixelprune import VisionSpec, reference
        >>> spec = VisionSpec(patch_size=1, merge_size=1)
        >>> kept = np.uint8([7, 9]).reshape(2, 1, 1, 1)
        >>> reference.decode([[True, True], [False, False]], kept, spec)[..., 0].tolist()
        [[7, 9], [7, 9]]
    """
    px = as_spec(spec).token_size
    keep, kept_tokens = np.asarray(mask), np.asarray(tokens)
    budget(metric, threshold, 1)
    if method not in _DECODABLE or not (anchored or threshold == 0):
        raise PixelPruneError(
            f"method {method!r} with threshold {threshold} and anchored={anchored} can't be decoded from a "
            f"mask; expected one of {', '.join(_DECODABLE)}, anchored or at threshold 0: use the source"
        )
    if keep.dtype != np.bool_ or kept_tokens.dtype != np.uint8:
        raise TypeError(f"mask has dtype {keep.dtype}, tokens {kept_tokens.dtype}; expected bool and uint8")
    if keep.ndim == 3 and len(keep) == 1:
        keep = keep[0]
    if keep.ndim != 2 or keep.size == 0 or not keep[0, 0]:
        raise PixelPruneError(f"mask has shape {keep.shape}; expected one frame (rows, cols), (0, 0) kept")
    if kept_tokens.ndim != 4 or kept_tokens.shape[:3] != (keep.sum(), px, px):
        raise PixelPruneError(
            f"tokens has shape {kept_tokens.shape}; expected ({keep.sum()}, {px}, {px}, C) for this mask"
        )

    rows, cols = keep.shape
    image = np.empty((rows * px, cols * px, kept_tokens.shape[3]), np.uint8)
    seen = image_tokens(image, spec)  # a view of the image
    seen[keep] = kept_tokens
    for x, previous in _path(method, rows, cols):
        if not keep[x]:
            # These methods have one guess, made of tokens that stand complete by now.
            [guess] = _guesses(method, x, previous, seen, metric, threshold)
            seen[x] = seen[guess]
    return image


def patch_indices(keep: npt.ArrayLike, grid: tuple[int, int, int], spec: VisionSpec | str) -> Indices:
    """Return the rows of ``pixel_values`` that belong to the given tokens.

    Args:
        keep: token indices, in ``[0, t * rows * cols)``.
        grid: ``(t, rows, cols)`` in tokens.
        spec: a `VisionSpec` or the name of a preset; its ``patch_order`` decides.

    Returns:
        int64 ``(K * merge_size**2,)``, ascending.

    Raises:
        PixelPruneError: an index is outside the grid.

    Example:
        >>> from pixelprune import reference
        >>> reference.patch_indices([0, 2], (1, 2, 2), "qwen3_vl").tolist()
        [0, 1, 2, 3, 8, 9, 10, 11]
    """
    spec = as_spec(spec)
    t, rows, cols = grid
    m = spec.merge_size
    indices = []
    for i in np.asarray(keep, np.int64):
        if not 0 <= i < t * rows * cols:
            raise PixelPruneError(f"keep has token {i}; expected 0 to {t * rows * cols - 1} for grid {grid}")
        f, row, col = (int(k) for k in np.unravel_index(i, grid))
        for down, across in np.ndindex(m, m):
            indices.append(_patch_index(f, row * m + down, col * m + across, rows * m, cols * m, spec))
    return np.array(sorted(indices), np.int64)


def hash_token_bytes(image: npt.ArrayLike, spec: VisionSpec | str) -> list[list[bytes]]:
    """Return what a token's fingerprint is the XXH3-64 (seed 0) of: its bytes in row-major HWC order.

    Args:
        image: uint8 ``(H, W)`` or ``(H, W, C)``.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        ``rows`` lists of ``cols`` byte strings, each of ``px * px * C`` bytes.

    Raises:
        PixelPruneError: the image is not made of whole tokens.
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from pixelprune import VisionSpec, reference
        >>> spec = VisionSpec(patch_size=2, merge_size=1)
        >>> reference.hash_token_bytes(np.arange(8, dtype=np.uint8).reshape(2, 4), spec)
        [[b'\\x00\\x01\\x04\\x05', b'\\x02\\x03\\x06\\x07']]
    """
    return [[token.tobytes() for token in row] for row in image_tokens(image, spec)]


# --- From the picture ------------------------------------------------------------------------------------


def resize(image: npt.ArrayLike, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize as torchvision does with uint8 pictures: bicubic, antialiased.

    The filter is the cubic convolution of Keys (1981) with a = -1/2, stretched where the picture shrinks, so
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
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.resize(np.uint8([[0, 100, 200]]), 1, 6).tolist()
        [[0, 17, 71, 129, 183, 209]]
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise TypeError(f"image has dtype {pixels.dtype}; expected uint8 on the 0-255 scale")
    if pixels.ndim not in (2, 3) or pixels.size == 0 or min(height, width) < 1:
        raise PixelPruneError(
            f"image has shape {pixels.shape}, to be {height} x {width} (height x width); expected no empty side"
        )
    rows_done = _resize_axis(pixels.swapaxes(0, 1), width).swapaxes(0, 1)
    return _resize_axis(rows_done, height)


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

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.normalise(np.uint8([[[0, 51, 255]]]), "qwen3_vl").tolist()
        [[[-1.0, -0.6000000238418579, 1.0]]]
    """
    spec = as_spec(spec)
    pixels = np.asarray(image)
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


def patchify(values: Array, spec: VisionSpec | str, *, temporal: Literal["repeat", "single"] = "repeat") -> Array:
    """Cut a still picture into patches.

    Args:
        values: ``(H, W, C)``, both sides multiples of ``spec.token_size``.
        spec: a `VisionSpec` or the name of a preset: patch size, order and layout are used.
        temporal: ``"repeat"`` writes the frame ``temporal_patch_size`` times, ``"single"`` once.

    Returns:
        ``(H / patch_size * W / patch_size, *row shape)``, of the dtype of ``values``.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.patchify(np.zeros((64, 96, 3)), "qwen3_vl").shape
        (24, 1536)
    """
    spec = as_spec(spec)
    p = spec.patch_size
    h, w = values.shape[0] // p, values.shape[1] // p
    frames = spec.temporal_patch_size if temporal == "repeat" else 1
    rows: list[Any] = [None] * (h * w)
    for y, x in np.ndindex(h, w):
        patch = values[y * p : (y + 1) * p, x * p : (x + 1) * p]
        if spec.patch_layout != "ppc":
            patch = np.stack([patch.transpose(2, 0, 1)] * frames, axis=1)  # channel, frame, y, x
        rows[_patch_index(0, y, x, h, w, spec)] = patch.reshape(-1 if spec.flat_patches else spec.patch_shape)
    return np.stack(rows)


def preprocess(
    image: npt.ArrayLike,
    spec: VisionSpec | str,
    *,
    method: Method = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
    prune: bool = True,
    resample: Literal["torchvision", "pillow", "pad", "none"] = "torchvision",
    dtype: str = "float32",
    temporal: Literal["repeat", "single"] = "repeat",
) -> tuple[Array, npt.NDArray[np.uint8], Plane]:
    """Turn one picture into model-ready patches, as `pixelprune.preprocess` does.

    Args:
        image: uint8 ``(H, W, 3)``.
        spec: a `VisionSpec` or the name of a preset.
        method: see `prune_tokens`.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.
        anchored: closed loop; False = open loop.
        prune: False keeps every token.
        resample: ``"torchvision"`` is `resize` to `smart_resize`'s size, ``"pillow"`` Pillow's own to the same
            size; ``"pad"`` repeats the last row and column up to a multiple of the token side, unless that
            size is outside the spec's limits; ``"none"`` takes the picture as it is.
        dtype: see `normalise`.
        temporal: see `patchify`.

    Returns:
        The kept rows of ``pixel_values``; the resized picture, uint8 ``(height, width, 3)``; and the mask,
        bool ``(1, rows, cols)``.

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
    resized = _bring_to_size(np.asarray(image), spec, resample)
    rows = patchify(normalise(resized, spec, resample=resample, dtype=dtype), spec, temporal=temporal)
    if not prune:
        side = spec.token_size
        return rows, resized, np.ones((1, resized.shape[0] // side, resized.shape[1] // side), np.bool_)
    tokens = image_tokens(resized, spec)[np.newaxis]
    mask, _ = prune_tokens(tokens, method=method, metric=metric, threshold=threshold, anchored=anchored)
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


# --- Small things ----------------------------------------------------------------------------------------


def _patch_index(frame: int, y: int, x: int, height: int, width: int, spec: VisionSpec) -> int:
    """The row of ``pixel_values`` that holds the patch at (y, x); all in patches."""
    if spec.patch_order == "raster":
        return (frame * height + y) * width + x
    m = spec.merge_size
    (row, down), (col, across) = divmod(y, m), divmod(x, m)
    token = (frame * (height // m) + row) * (width // m) + col
    return token * m * m + down * m + across


def _check_threshold(threshold: float) -> float:
    tau = float(threshold)
    if not 0 <= tau <= 1:  # false for NaN too
        raise PixelPruneError(f"threshold is {tau}; expected a number in [0, 1] (of full scale)")
    return tau
