"""Fingerprints of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..arrays import as_pixels
from ..spec import VisionSpec, as_spec


def hash_tokens(image: Any, spec: VisionSpec | str) -> NDArray[np.uint64]:
    """Return a fingerprint of every token: XXH3-64, seed 0, of its bytes in row-major height-width-channel order.

    Equal tokens have equal fingerprints on every machine. Different tokens have different fingerprints with very high
    probability; compare the pixels if you need certainty. A grey image and its RGB version have different ones.

    Args:
        image: as in `prune`.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        uint64 (rows, columns).

    Raises:
        PixelPruneError: a side is not a multiple of the token side.
        TypeError: ``image`` is not a uint8 image.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> hashes = pp.hash_tokens(np.zeros((64, 96, 3), np.uint8), "qwen3_vl")
        >>> hashes.shape, len(np.unique(hashes))
        ((2, 3), 1)
    """
    return _core.hash_tokens(as_pixels(image), as_spec(spec).token_size)
