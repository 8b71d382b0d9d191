"""Rows of at most so many pruned tokens: cutting what is too long, filling rows with several examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import PixelPruneError

Mask = NDArray[np.bool_]


def cut(kept: Mask, media: Mask, length: int) -> int:
    """Return how many tokens of a whole prompt make up at most ``length`` kept ones.

    Args:
        kept: bool (tokens,): tokens that pruning leaves.
        media: bool (tokens,): placeholders of images and videos.
        length: tokens after pruning.

    Raises:
        PixelPruneError: an image or video would be cut.
    """
    counts = np.cumsum(kept)
    if not len(counts) or counts[-1] <= length:
        return len(kept)
    end = int(np.searchsorted(counts, length, side="right"))
    if media[end:].any():
        needed = int(counts[np.flatnonzero(media)[-1]])
        raise PixelPruneError(
            f"max_length is {length}, the last image or video ends after {needed} of {int(counts[-1])} pruned tokens; "
            f"expected a max_length of at least {needed}, smaller images or a higher threshold: only text is cut"
        )
    return end


def first_fit(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Return rows of indices whose sizes add up to at most ``limit``: each goes into the first row with room for it.

    A size above the limit has a row of its own.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for i, size in enumerate(sizes):
        row = next((r for r, left in enumerate(room) if size <= left), None)
        if row is None:
            rows.append([i])
            room.append(limit - size)
        else:
            rows[row].append(i)
            room[row] -= size
    return rows
