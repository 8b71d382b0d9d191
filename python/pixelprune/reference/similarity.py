"""Whether two tokens are similar."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..arguments import as_float, as_int, one_of
from ..errors import PixelPruneError
from .tokens import OFF_LEVEL, Array, Plane, off_level

METRICS = ("max", "mae", "rmse")
FLOAT_SLACK = {"max": 1e-6, "mae": 1e-7, "rmse": 1e-7}
"""Added to the threshold where floats are compared: un-normalising is not exact."""


def budget(metric: str, threshold: float, n: int) -> int:
    """Return the integer that the distance of two uint8 tokens may reach.

    Args:
        metric: ``"max"`` (of the absolute differences), ``"mae"`` (their sum) or ``"rmse"`` (the sum of
            their squares).
        threshold: tau in [0, 1] of full scale.
        n: values per token.

    Raises:
        PixelPruneError: there is no such metric, or the threshold is NaN or outside [0, 1].
        TypeError: ``threshold`` or ``n`` is not a number.

    Example:
        >>> from pixelprune import reference
        >>> [reference.budget(metric, 0.02, 3072) for metric in ("max", "mae", "rmse")]
        [5, 15667, 79902]
    """
    tau, n = check_threshold(threshold), as_int(n, "n", "an integer number of values")
    one_of(metric, "metric", METRICS)
    if metric == "max":
        return math.floor(255 * tau * (1 + 1e-9))
    if metric == "mae":
        return math.floor(255 * tau * n * (1 + 1e-9))
    return math.floor((255 * tau) ** 2 * n * (1 + 1e-9))


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
        TypeError: the tokens are not arrays of one shape and dtype, uint8 or floating point.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> x, y = np.uint8([10, 20]), np.uint8([15, 20])
        >>> reference.similar(x, y, "max", 5 / 255), reference.similar(x, y, "max", 4 / 255)
        (True, False)
    """
    _check_tokens(x, "x")
    _check_tokens(y, "y")
    if x.shape != y.shape or x.dtype != y.dtype:
        raise TypeError(f"y is {y.dtype} {y.shape}; expected the dtype and shape of x, {x.dtype} {x.shape}")
    allowed = budget(metric, threshold, x.size)
    if threshold == 0:
        return bool(np.all(x == y))
    if x.dtype == np.uint8:
        return _reach(metric, np.abs(x.astype(np.int64) - y.astype(np.int64))) <= allowed
    if all(float(off_level(token.astype(np.float32)).max()) < OFF_LEVEL for token in (x, y)):
        x, y = (np.rint(255 * token.astype(np.float64)) for token in (x, y))
        difference = np.abs(x - y).astype(np.int64)
        return _reach(metric, difference) <= allowed
    with np.errstate(over="ignore"):  # an infinite distance is a fine answer: not similar
        distance = np.abs(x.astype(np.float32) - y.astype(np.float32)).astype(np.float64)
    limit = threshold + FLOAT_SLACK[metric]
    if metric == "max":
        return float(distance.max()) <= limit
    if metric == "mae":
        return float(distance.sum()) / x.size <= limit
    return math.sqrt(float((distance * distance).sum()) / x.size) <= limit


def one_colour(token: Array, threshold: float = 0.0) -> bool:
    """Tell whether a token is of one colour: the only tokens that ``protect="content"`` lets a method drop.

    In every channel the smallest and the largest value must be similar under ``"max"``, whichever metric the
    tokens are compared with.

    Args:
        token: uint8 or floating point, as in `similar`. The last of several axes holds the channels; a token
            of one axis or none has one channel.
        threshold: tau in [0, 1] of full scale; 0 means that all pixels are equal.

    Raises:
        PixelPruneError: the threshold is NaN or outside [0, 1].
        TypeError: the token is not an array, uint8 or floating point.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> token = np.uint8([[[200, 0, 0], [205, 0, 0]]])  # two shades of red
        >>> reference.one_colour(token), reference.one_colour(token, 5 / 255)
        (False, True)
    """
    _check_tokens(token, "token")
    values = token.reshape(-1, token.shape[-1] if token.ndim > 1 else 1)
    return similar(values.min(axis=0), values.max(axis=0), "max", threshold)


def _check_tokens(tokens: object, name: str) -> None:
    if not isinstance(tokens, (np.ndarray, np.generic)) or tokens.size == 0:
        raise TypeError(f"{name} is a {type(tokens).__name__}; expected a non-empty array")
    if tokens.dtype != np.uint8 and tokens.dtype.kind != "f":
        raise TypeError(f"{name} has dtype {tokens.dtype}; expected uint8 or floating point")


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
        TypeError: ``frame`` is not an array of tokens.

    Example:
        >>> import numpy as np
        >>> from pixelprune import reference
        >>> same_left, same_up = reference.neighbour_planes(np.uint8([[1, 1], [2, 1]]))
        >>> same_left.tolist(), same_up.tolist()
        ([[False, True], [False, False]], [[False, False], [False, True]])
    """
    budget(metric, threshold, 1)
    _check_tokens(frame, "frame")
    if frame.ndim < 2:
        raise TypeError(f"frame has shape {frame.shape}; expected (rows, cols, ...)")
    rows, cols = frame.shape[:2]
    same_left, same_up = np.zeros((rows, cols), np.bool_), np.zeros((rows, cols), np.bool_)
    for r, c in np.ndindex(rows, cols):
        if c > 0:
            same_left[r, c] = similar(frame[r, c], frame[r, c - 1], metric, threshold)
        if r > 0:
            same_up[r, c] = similar(frame[r, c], frame[r - 1, c], metric, threshold)
    return same_left, same_up


def check_threshold(threshold: float) -> float:
    """Return the threshold as a float; refuse what is not in 0..1."""
    tau = as_float(threshold, "threshold", "a number in [0, 1] (of full scale)")
    if not 0 <= tau <= 1:  # false for NaN too
        raise PixelPruneError(f"threshold is {tau}; expected a number in [0, 1] (of full scale)")
    return tau
