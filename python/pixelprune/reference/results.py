"""What is computed from a selection: whole images, rows of patches, hashes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arguments import as_bool, shown
from ..arrays import read_array
from ..errors import PixelPruneError
from ..spec import VisionSpec, as_spec
from .methods import guesses, path
from .similarity import budget
from .tokens import Indices, image_tokens, patch_index, three

_DECODABLE = ("pred_2d", "raster", "serpentine")


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
        TypeError: the image is not uint8, or the source not of integers.

    Example:
        >>> import numpy as np
        >>> from pixelprune import VisionSpec, reference
        >>> spec = VisionSpec(patch_size=1, merge_size=1)
        >>> reference.reconstruct(np.uint8([[1, 2], [3, 4]]), [0, 1, 1, 0], spec).tolist()
        [[1, 2], [2, 1]]
    """
    original = image_tokens(image, spec)
    rows, cols = original.shape[:2]
    indices = read_array(source, "source", f"{rows * cols} token indices")
    if indices.dtype.kind not in "iu":
        raise TypeError(f"source has dtype {indices.dtype}; expected integer token indices")
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
    keep = read_array(mask, "mask", "bool (rows, cols)")
    kept_tokens = read_array(tokens, "tokens", f"uint8 (K, {px}, {px}, C)")
    budget(metric, threshold, 1)
    closed = as_bool(anchored, "anchored") or threshold == 0
    if not isinstance(method, str) or method not in _DECODABLE or not closed:
        raise PixelPruneError(
            f"method {shown(method)} with threshold {threshold} and anchored={anchored} can't be decoded from a "
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
    for x, previous in path(method, rows, cols):
        if not keep[x]:
            # These methods have one guess, made of tokens that stand complete by now.
            [guess] = guesses(method, x, previous, seen, metric, threshold)
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
        TypeError: the indices are not integers.

    Example:
        >>> from pixelprune import reference
        >>> reference.patch_indices([0, 2], (1, 2, 2), "qwen3_vl").tolist()
        [0, 1, 2, 3, 8, 9, 10, 11]
    """
    spec = as_spec(spec)
    t, rows, cols = three(grid, "grid")
    tokens = read_array(keep, "keep", "token indices")
    if tokens.dtype.kind not in "iu" and tokens.size:
        raise TypeError(f"keep has dtype {tokens.dtype}; expected integer token indices")
    m = spec.merge_size
    indices = []
    for i in tokens.ravel().tolist():
        if not 0 <= i < t * rows * cols:
            raise PixelPruneError(f"keep has token {i}; expected 0 to {t * rows * cols - 1} for grid {grid}")
        f, row, col = (int(k) for k in np.unravel_index(i, grid))
        for down, across in np.ndindex(m, m):
            indices.append(patch_index(f, row * m + down, col * m + across, rows * m, cols * m, spec))
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
