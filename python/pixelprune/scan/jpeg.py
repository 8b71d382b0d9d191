"""The quality that a JPEG file was saved with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""Table K.1 of ITU-T T.81, which the encoders of the IJG scale by the quality."""


def quality(tables: Mapping[int, Sequence[int]] | None) -> int | None:
    """Estimate the quality of a JPEG file, from 1 to 100 on the scale of libjpeg.

    Args:
        tables: the quantization tables, as Pillow's ``image.quantization`` has them; None if there are none.

    Returns:
        The quality whose luminance table is nearest; exact for files by libjpeg. None without a table.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from pixelprune.scan.jpeg import quality
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (8, 8)).save(file, "JPEG", quality=85)
        >>> quality(Image.open(file).quantization)
        85
    """
    first = np.asarray((tables or {}).get(0, ()), np.int64)
    if first.shape != (64,):
        return None
    return int(np.abs(_tables() - first).sum(axis=1).argmin()) + 1


@cache
def _tables() -> NDArray[Any]:
    """Return (100, 64): the luminance table of each quality."""
    q = np.arange(1, 101)
    scale = np.where(q < 50, 5000 // q, 200 - 2 * q)
    tables: NDArray[Any] = np.clip((np.outer(scale, _LUMINANCE) + 50) // 100, 1, 255)
    return tables
