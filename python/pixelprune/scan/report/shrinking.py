"""Pruning against shrinking: what is left of an image at the same number of tokens."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ...selection.result import Selection

_LONGEST = 32
"""Tokens on a side of the part that is compared, in the middle of the image."""
_BLUR = 3
"""Pixels: what a Gaussian of this radius takes away is detail of the size of text."""
_BLANK = 1.0
"""Mean square of the detail, in grey levels, below which a part has none that could be lost."""


class Fidelity(NamedTuple):
    """How close a version of an image is to it, in its grey values."""

    error: float
    """Mean squared difference on the scale 0 to 255."""
    detail: float | None
    """Share of the detail that is left, 0 to 1; None if the image has none."""


class Comparison:
    """An image, to be compared with its pruned and its shrunk versions.

    Of a large image the middle is compared: 32 x 32 tokens.
    """

    def __init__(self, image: Image.Image, selection: Selection) -> None:
        _, self._rows, self._cols = selection.grid
        self._side = selection.spec.token_size
        grey = image.convert("L")
        tiles = np.asarray(grey).reshape(self._rows, self._side, self._cols, self._side)
        self._tiles = tiles.swapaxes(1, 2).reshape(-1, self._side, self._side)
        high, wide = min(self._rows, _LONGEST), min(self._cols, _LONGEST)
        top, left = (self._rows - high) // 2, (self._cols - wide) // 2
        self._part = np.arange(self._rows * self._cols).reshape(self._rows, -1)[top : top + high, left : left + wide]
        self._original = self._assemble(self._part)
        self._image = Image.fromarray(self._original)
        self._detail = _detail(self._image)
        self._shrunk: dict[tuple[int, int], Fidelity] = {}

    def pruned(self, selection: Selection) -> Fidelity | None:
        """Compare with the reconstruction from the kept tokens; None if the method names no sources."""
        if selection.source is None:
            return None
        return self._fidelity(self._assemble(selection.source[self._part]))

    def shrunk(self, tokens: int) -> Fidelity:
        """Compare with the image shrunk to at most so many tokens and enlarged again, both bicubically."""
        rows = max(1, min(round(self._rows * math.sqrt(tokens / (self._rows * self._cols))), tokens))
        cols = max(1, min(tokens // rows, self._cols))
        if (rows, cols) not in self._shrunk:
            width = max(1, round(self._image.width * cols / self._cols))
            height = max(1, round(self._image.height * rows / self._rows))
            small = self._image.resize((width, height), Image.Resampling.BICUBIC)
            large = small.resize(self._image.size, Image.Resampling.BICUBIC)
            self._shrunk[rows, cols] = self._fidelity(np.asarray(large))
        return self._shrunk[rows, cols]

    def _assemble(self, tokens: NDArray[np.int64]) -> NDArray[np.uint8]:
        high, wide = self._part.shape
        return self._tiles[tokens].swapaxes(1, 2).reshape(high * self._side, wide * self._side)

    def _fidelity(self, other: NDArray[np.uint8]) -> Fidelity:
        strength = _mean_square(self._detail)
        if np.array_equal(other, self._original):
            return Fidelity(0.0, 1.0 if strength >= _BLANK else None)
        error = _mean_square(other.astype(np.float32) - self._original)
        if strength < _BLANK:
            return Fidelity(error, None)
        lost = _mean_square(_detail(Image.fromarray(other)) - self._detail)
        return Fidelity(error, max(0.0, 1 - lost / strength))


def _detail(image: Image.Image) -> NDArray[np.float32]:
    smooth = image.filter(ImageFilter.GaussianBlur(_BLUR))
    return np.asarray(image, np.float32) - np.asarray(smooth, np.float32)


def _mean_square(values: NDArray[Any]) -> float:
    flat = values.ravel()
    return float(np.dot(flat, flat)) / flat.size
