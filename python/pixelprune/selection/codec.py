"""Decoding kept tokens back to pixels, and measuring what pruning lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..arguments import shown, text_of
from ..arrays import as_pixels, contiguous, read_array
from ..errors import PixelPruneError
from ..spec import VisionSpec, as_spec
from .result import Selection, from_tiles, pruned_pixels, sources
from .settings import PruneOptions, PruneSettings, settings_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Verification:
    """The difference between an image and its reconstruction. Made by `verify`.

    Attributes:
        max_error: largest absolute difference, as a fraction of full scale (255).
        mean_error: mean absolute difference, as a fraction of full scale.
        holds: whether every dropped token is within the threshold of its source, by the selection's metric.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.zeros((64, 64, 3), np.uint8)
        >>> pp.verify(page, pp.prune(page, "qwen3_vl")).max_error
        0.0
    """

    max_error: float
    mean_error: float
    holds: bool


def verify(image: Any, selection: Selection) -> Verification:
    """Measure the error of replacing dropped tokens by their sources.

    Args:
        image: the image that was pruned, uint8 (height, width) or (height, width, channels).
        selection: what `prune` returned for it.

    Returns:
        A `Verification`. For the image that was pruned, ``holds`` is always True in closed loop and at threshold 0;
        in open loop above threshold 0 it can be False.

    Raises:
        PixelPruneError: the selection has no source, or the size of the image differs from the one that was pruned.
        TypeError: not a uint8 image, or not a `Selection`.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> ramp = np.repeat(np.arange(64, dtype=np.uint8), 32)[None].repeat(32, axis=0)
        >>> pp.verify(ramp, pp.prune(ramp, "qwen3_vl", threshold=4/255))
        Verification(max_error=0.01568627450980392, mean_error=0.007720588235294118, holds=True)
    """
    if not isinstance(selection, Selection):
        raise TypeError(f"selection is {shown(selection)}; expected a Selection, as prune returns")
    pixels = pruned_pixels(selection, image)
    source = sources(selection)
    side = selection.spec.token_size
    _, rows, cols = selection.grid
    tiles = pixels.reshape(rows, side, cols, side, -1).swapaxes(1, 2)
    largest = total = 0
    for row in range(rows):  # one token row at a time: no copy of the image
        from_row, from_col = np.divmod(source[row * cols : (row + 1) * cols], cols)
        difference = np.abs(tiles[row].astype(np.int16) - tiles[from_row, from_col])
        largest = max(largest, int(difference.max()))
        total += int(difference.sum())
    holds = _core.is_within_tau(pixels, side, source, selection.metric, selection.threshold)
    return Verification(largest / 255, total / (255 * pixels.size), holds)


def decode(
    mask: ArrayLike,
    tokens: Any,
    spec: VisionSpec | str,
    *,
    settings: PruneSettings | None = None,
    **options: Unpack[PruneOptions],
) -> NDArray[np.uint8]:
    """Rebuild an image from its keep mask and its kept tokens.

    No source map is needed, because the decoder can repeat every decision of the encoder. Works for ``"pred_2d"``,
    ``"raster"`` and ``"serpentine"``, in closed loop or at threshold 0.

    Args:
        mask: bool (rows, columns) or (frames, rows, columns), True where a token was kept.
        tokens: uint8 (kept, side, side, channels) or (kept, side, side), in the order of ``keep``.
        spec: a `VisionSpec` or the name of a preset; gives the token side.
        settings: how the tokens were chosen, or its fields as keywords (`PruneSettings`). Seed and ``protect``
            are ignored: the mask says what was kept.

    Returns:
        uint8 (height, width, channels) or (height, width); with a leading axis of frames if the mask has more than
        one.

    Raises:
        PixelPruneError: settings that can't be decoded, shapes that do not match, or an image that does not fit in
            memory.
        TypeError: a mask that is not bool or tokens that are not uint8.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.zeros((64, 96, 3), np.uint8); page[:, 32:64] = 9
        >>> sel = pp.prune(page, "qwen3_vl")
        >>> bool((pp.decode(sel.mask, sel.tokens(page), "qwen3_vl") == page).all())
        True
    """
    spec = as_spec(spec)
    settings = settings_of(settings, options)
    name, metric, tau, anchored, *_ = settings.core
    if tau > 0 and not anchored:
        raise PixelPruneError("open loop above threshold 0 can't be decoded from mask and tokens; use source")
    if callable(settings.method):
        raise PixelPruneError(f"method {shown(name)} can't be decoded from mask and tokens; use source")
    keep = read_array(mask, "mask", "bool (rows, columns) or (frames, rows, columns)")
    if keep.dtype != np.bool_:
        raise TypeError(f"mask has dtype {text_of(keep.dtype)}; expected bool")
    if keep.ndim == 2:
        keep = keep[None]
    if keep.ndim != 3 or keep.size == 0:
        raise PixelPruneError(f"mask has shape {keep.shape}; expected (rows, columns) or (frames, rows, columns)")
    if keep.size >= 1 << 32:
        raise PixelPruneError(f"mask has shape {keep.shape}; expected a product below 2**32")
    side = spec.token_size
    stack = read_array(tokens, "tokens", "uint8 (kept, side, side, channels)")
    if stack.dtype != np.uint8:
        raise TypeError(f"tokens has dtype {text_of(stack.dtype)}; expected uint8")
    if stack.ndim not in (3, 4) or stack.shape[1:3] != (side, side) or not stack.size:
        raise PixelPruneError(
            f"tokens has shape {stack.shape}; expected (kept, {side}, {side}) or (kept, {side}, {side}, channels)"
        )
    if len(stack) > keep.size:
        raise PixelPruneError(f"tokens has {len(stack)} tokens; the mask has {keep.size} places")
    stack = contiguous(stack, "tokens")
    pixels = as_pixels(stack.reshape(-1, side, *stack.shape[3:]))
    numbers = _core.decode(contiguous(keep, "mask").ravel(), keep.shape, pixels, name, metric, tau)
    try:
        image = from_tiles(stack.reshape(len(stack), side, side, -1)[numbers], keep.shape, stack.ndim == 3)
    except MemoryError:
        raise PixelPruneError(
            f"mask has shape {keep.shape}, and there is not enough memory for an image of that many tokens; expected "
            "fewer"
        ) from None
    frames = keep.shape[0]
    return image if frames == 1 else image.reshape(frames, -1, *image.shape[1:])
