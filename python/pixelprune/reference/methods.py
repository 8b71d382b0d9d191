"""Which tokens are kept, and which of them stands for a dropped one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..arguments import as_bool, one_of, shown
from ..arrays import read_array
from ..errors import PixelPruneError
from ..spec import VisionSpec, as_spec
from .similarity import budget, check_threshold, neighbour_planes, one_colour, similar
from .tokens import Array, Indices, Plane, image_tokens, pixel_value_tokens, to_unit_range

Method = str | Callable[[Plane, Plane], Any]
Position = tuple[int, int]

METHODS = ("pred_2d", "raster", "serpentine", "either", "unique")
"""The methods whose every decision is specified."""
BASELINES = ("random", "conncomp")
"""The methods of which only the number of kept tokens is specified."""
PROTECT = ("nothing", "content")
"""What may be protected from being dropped."""


def prune_tokens(
    tokens: Array,
    *,
    method: Method = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
    protect: str = "nothing",
) -> tuple[Plane, Indices | None]:
    """Choose the tokens to keep; every frame is a grid of its own.

    Args:
        tokens: ``(t, rows, cols, ...)``, uint8 or floats as `similar` takes them; `one_colour` says which axis
            holds the channels.
        method: one of `METHODS`, or a callable ``f(same_left, same_up) -> mask`` or ``(mask, source)``. It
            is called once per frame with the planes of `neighbour_planes`; its mask is bool
            ``(rows, cols)`` with at least one token kept, its source holds ``rows * cols`` token indices
            within the frame.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale; 0 = pixel-lossless.
        anchored: closed loop; False = open loop. Neither ``"unique"`` nor a callable looks at it.
        protect: ``"content"`` drops only tokens of one colour, whatever the method says about the others;
            ``"nothing"`` is the published method.

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
    as_bool(anchored, "anchored")
    protects = one_of(protect, "protect", PROTECT) == "content"
    tokens = read_array(tokens, "tokens", "(t, rows, cols, ...)")
    if tokens.ndim < 3 or tokens.size == 0:
        raise PixelPruneError(f"tokens has shape {tokens.shape}; expected a non-empty (t, rows, cols, ...)")
    if tokens.dtype != np.uint8 and tokens.dtype.kind != "f":
        raise TypeError(f"tokens has dtype {tokens.dtype}; expected uint8 or floating point")
    if tokens.dtype != np.uint8 and not np.isfinite(tokens).all():
        raise PixelPruneError("tokens has values that are NaN or infinite; expected finite values")
    if not callable(method):
        if not isinstance(method, str) or method not in METHODS + BASELINES:
            raise PixelPruneError(f"method is {shown(method)}; expected one of {', '.join(METHODS)} or a callable")
        if method in BASELINES:
            raise PixelPruneError(f"method {method!r} draws at random: see baseline_count")
        if method == "unique" and threshold != 0:
            raise PixelPruneError(f"threshold is {threshold}; method 'unique' is exact: expected 0")

    masks: list[Plane] = []
    sources: list[Indices] = []
    for number, frame in enumerate(tokens):
        source: Indices | None
        protected = _content(frame, threshold) if protects else np.zeros(frame.shape[:2], np.bool_)
        if callable(method):
            mask, source = _call(method, frame, metric, threshold)
            mask = mask | protected
            if source is not None:
                source = np.where(protected.ravel(), np.arange(mask.size), source)
        elif method == "unique":
            mask, source = _first_occurrences(frame, protected)
        else:
            mask, source = _predict(frame, protected, method, metric, threshold, anchored)
        masks.append(mask)
        if source is not None:
            sources.append(source + number * mask.size)
    if 0 < len(sources) < len(masks):
        raise PixelPruneError("the callable returned a source for some frames only; expected all or none")
    return np.stack(masks), np.concatenate(sources) if sources else None


def baseline_count(
    tokens: Array, *, metric: str = "max", threshold: float = 0.0, anchored: bool = True, protect: str = "nothing"
) -> int:
    """Return how many tokens of an image the baselines ``random`` and ``conncomp`` keep.

    They keep as many as ``pred_2d`` with the same settings; which ones is up to their draws.

    Args:
        tokens: ``(t, rows, cols, ...)``, as in `prune_tokens`.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.
        anchored: closed loop; False = open loop.
        protect: see `prune_tokens`.

    Raises:
        PixelPruneError: as `prune_tokens`.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> reference.baseline_count(np.uint8([[[1, 2], [1, 2]]]))
        2
    """
    how: dict[str, Any] = {"metric": metric, "threshold": threshold, "anchored": anchored, "protect": protect}
    mask, _ = prune_tokens(tokens, method="pred_2d", **how)
    return int(mask.sum())


def _content(frame: Array, threshold: float) -> Plane:
    """Which tokens of a frame are not of one colour."""
    rows, cols = frame.shape[:2]
    several = [not one_colour(frame[x], threshold) for x in np.ndindex(rows, cols)]
    return np.array(several).reshape(rows, cols)


def _predict(
    frame: Array, protected: Plane, method: str, metric: str, threshold: float, anchored: bool
) -> tuple[Plane, Indices]:
    """One frame of the methods that predict a token from tokens seen before it."""
    rows, cols = frame.shape[:2]
    keep = np.zeros((rows, cols), np.bool_)
    source = np.zeros((rows, cols), np.int64)
    # What the predictor sees. In the closed loop a dropped token's value becomes its source's.
    seen = frame.copy()
    for x, previous in path(method, rows, cols):
        for guess in [] if protected[x] else guesses(method, x, previous, seen, metric, threshold):
            if similar(frame[x], seen[guess], metric, threshold):
                source[x] = source[guess]
                if anchored:
                    seen[x] = seen[guess]
                break
        else:
            keep[x] = True
            source[x] = x[0] * cols + x[1]
    return keep, source.ravel()


def path(method: str, rows: int, cols: int) -> Iterator[tuple[Position, Position | None]]:
    """The order in which tokens are visited, each with the token before it (None for the first)."""
    previous: Position | None = None
    for r in range(rows):
        backwards = method == "serpentine" and r % 2 == 1
        for c in reversed(range(cols)) if backwards else range(cols):
            yield (r, c), previous
            previous = (r, c)


def guesses(
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


def _first_occurrences(frame: Array, protected: Plane) -> tuple[Plane, Indices]:
    """One frame of ``unique``: a token is dropped if an equal one came before it in row-major order."""
    rows, cols = frame.shape[:2]
    # Adding 0 makes -0.0 of a float token 0.0, to which it is equal; then equal values are equal bytes.
    keys = [(frame[position] + frame.dtype.type(0)).tobytes() for position in np.ndindex(rows, cols)]
    first: dict[bytes, int] = {}
    sources = [first.setdefault(key, i) for i, key in enumerate(keys)]
    source = np.where(protected.ravel(), np.arange(rows * cols), sources)
    return (source == np.arange(rows * cols)).reshape(rows, cols), source


def _call(
    method: Callable[[Plane, Plane], Any], frame: Array, metric: str, threshold: float
) -> tuple[Plane, Indices | None]:
    """One frame of a callable, its answer checked."""
    rows, cols = frame.shape[:2]
    answer = method(*neighbour_planes(frame, metric=metric, threshold=threshold))
    mask, source = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    mask = read_array(mask, "the callable's mask", f"bool ({rows}, {cols})")
    if mask.dtype != np.bool_ or mask.shape != (rows, cols) or not mask.any():
        raise PixelPruneError(
            f"the callable returned a mask of dtype {mask.dtype} and shape {mask.shape}; "
            f"expected bool ({rows}, {cols}) with at least one token kept"
        )
    if source is None:
        return mask, None
    source = read_array(source, "the callable's source", f"{mask.size} integers")
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


def prune(
    image: npt.ArrayLike,
    spec: VisionSpec | str,
    *,
    method: Method = "pred_2d",
    metric: str = "max",
    threshold: float = 0.0,
    anchored: bool = True,
    protect: str = "nothing",
) -> tuple[Plane, Indices | None]:
    """Choose the tokens of an image to keep: `image_tokens`, then `prune_tokens`.

    Args:
        image: uint8 ``(H, W)`` or ``(H, W, C)``; both sides are multiples of ``spec.token_size``.
        spec: a `VisionSpec` or the name of a preset.
        method: see `prune_tokens`.
        metric: ``"max"``, ``"mae"`` or ``"rmse"``.
        threshold: tau in [0, 1] of full scale.
        anchored: closed loop; False = open loop.
        protect: see `prune_tokens`.

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
    return prune_tokens(tokens, method=method, metric=metric, threshold=threshold, anchored=anchored, protect=protect)


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
    protect: str = "nothing",
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
        protect: see `prune_tokens`.
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
    if check_threshold(threshold) > 0 and tokens.dtype != np.uint8:
        tokens = to_unit_range(tokens, spec)
    spec = as_spec(spec)
    frames = spec.temporal_patch_size if temporal == "frames" else 1
    tokens = tokens.reshape(*tokens.shape[:3], frames * spec.token_size**2, -1)  # the channel runs fastest
    return prune_tokens(tokens, method=method, metric=metric, threshold=threshold, anchored=anchored, protect=protect)
