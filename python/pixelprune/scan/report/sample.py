"""Choosing the images of the gallery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rows import Rows


def choose(rows: Rows, ratios: NDArray[np.float64], count: int) -> list[int]:
    """Return up to ``count`` images spread over the kinds and, within a kind, over the retained ratios.

    Every kind gets one seat after the other until all seats are taken. Images of the same bytes are taken once.

    Args:
        rows: the rows of the scan.
        ratios: the retained ratio of each image.
        count: how many images to choose.

    Returns:
        Indices into the arrays of ``rows``, by kind and then by ratio.
    """
    _, first = np.unique(np.array(rows.digests, object), return_index=True)
    by_kind = [first[rows.kind[first] == kind] for kind in range(len(rows.kinds))]
    seats = [0] * len(by_kind)
    left = min(count, len(first))
    while left:
        for kind, images in enumerate(by_kind):
            if left and seats[kind] < len(images):
                seats[kind] += 1
                left -= 1
    chosen: list[int] = []
    for images, seat in zip(by_kind, seats, strict=True):
        ordered = images[np.lexsort((images, ratios[images]))]
        chosen += ordered[np.linspace(0, len(ordered) - 1, seat).round().astype(np.int64)].tolist()
    return chosen
