"""How far the dropped tokens of an image are from those that stand for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...selection.result import Selection

_PART = 5
"""Tokens on a side of the part that is shown."""


class Error(NamedTuple):
    """The reconstruction error of an image, on the scale 0 to 1."""

    largest: float
    """Largest difference of any value."""
    mean: float
    """Mean absolute difference of all values."""
    box: tuple[int, int, int, int] | None
    """Left, top, right and bottom of the worst part, in pixels; None if there is no error."""


_NONE = Error(0.0, 0.0, None)


class Errors:
    """An image, to be compared with its reconstructions."""

    def __init__(self, pixels: NDArray[np.uint8], selection: Selection) -> None:
        _, self._rows, self._cols = selection.grid
        self._side = selection.spec.token_size
        tiles = pixels.reshape(self._rows, self._side, self._cols, self._side * 3).swapaxes(1, 2)
        self._tiles = tiles.reshape(self._rows * self._cols, -1)

    def of(self, selection: Selection) -> Error | None:
        """Return the error of a reconstruction; None if the method names no sources."""
        if selection.source is None:
            return None
        if selection.threshold == 0:
            return _NONE
        moved = np.flatnonzero(selection.source != np.arange(selection.total))
        sums = np.zeros(selection.total, np.int64)
        largest = 0
        for some in np.array_split(moved, max(1, len(moved) // 512)):
            first, second = self._tiles[some], self._tiles[selection.source[some]]
            apart = np.maximum(first, second) - np.minimum(first, second)
            sums[some] = apart.sum(axis=1, dtype=np.int64)
            largest = max(largest, int(apart.max(initial=0)))
        if not largest:
            return _NONE
        return Error(largest / 255, float(sums.sum()) / self._tiles.size / 255, self._worst(sums))

    def _worst(self, sums: NDArray[np.int64]) -> tuple[int, int, int, int]:
        high, wide = min(_PART, self._rows), min(_PART, self._cols)
        windows = np.lib.stride_tricks.sliding_window_view(sums.reshape(self._rows, self._cols), (high, wide))
        totals = windows.sum(axis=(2, 3))
        top, left = np.unravel_index(int(totals.argmax()), totals.shape)
        side = self._side
        return int(left) * side, int(top) * side, (int(left) + wide) * side, (int(top) + high) * side
