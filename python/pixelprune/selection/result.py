"""The result of pruning an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..arguments import shown
from ..arrays import as_pixels, read_array
from ..errors import PixelPruneError
from ..spec import VisionSpec, as_spec

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Selection:
    """Which tokens of one image are kept. Made by `prune`; immutable and picklable.

    Token indices are row-major within a frame, frame after frame, from 0 to ``total - 1``.

    Attributes:
        keep: int64 (kept,), the indices of the kept tokens, ascending. Read-only.
        source: int64 (total,), for every token the index of the kept token that represents it (its own, if
            it is kept); None for the baselines and for selections made by `from_keep`. Read-only.
        grid_thw: (frames, rows, columns) of the image in patches, as processors return it.
        spec: the `VisionSpec` it was made with.
        method: name of the method or of its function; ``"given"`` for selections made by `from_keep`.
        metric: name of the metric.
        threshold: tau, a fraction of full scale.
        anchored: True for closed loop, False for open loop.
        seed: random seed of the baselines.
        protect: ``"content"`` if only tokens of one colour could be dropped, else ``"nothing"``.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((256, 320, 3), 255, np.uint8)
        >>> page[64:96, 32:128] = np.arange(96, dtype=np.uint8)[:, None]
        >>> sel = pp.prune(page, "qwen3_vl")
        >>> sel
        Selection(kept 6 of 80 tokens, retained 0.075, grid_thw (1, 16, 20), method 'pred_2d', threshold 0)
        >>> sel.mask.shape, bool(sel.mask.sum() == sel.kept)
        ((1, 8, 10), True)
    """

    keep: Indices
    source: Indices | None
    grid_thw: tuple[int, int, int]
    spec: VisionSpec
    method: str
    metric: str
    threshold: float
    anchored: bool
    seed: int
    protect: str

    def __init__(
        self,
        keep: Indices,
        source: Indices | None,
        grid_thw: tuple[int, int, int],
        spec: VisionSpec,
        method: str,
        metric: str,
        threshold: float,
        anchored: bool,
        seed: int,
        protect: str,
    ) -> None:
        keep.setflags(write=False)
        if source is not None:
            source.setflags(write=False)
        # In one step: the __init__ of a frozen dataclass sets fields one by one, which takes as long as a small image.
        fields = {
            "keep": keep,
            "source": source,
            "grid_thw": grid_thw,
            "spec": spec,
            "method": method,
            "metric": metric,
            "threshold": threshold,
            "anchored": anchored,
            "seed": seed,
            "protect": protect,
        }
        object.__setattr__(self, "__dict__", fields)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # arrays come back writable

    @property
    def grid(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of the image in tokens."""
        t, h, w = self.grid_thw
        m = self.spec.merge_size
        return t, h // m, w // m

    @property
    def total(self) -> int:
        """Number of tokens in the image."""
        t, rows, cols = self.grid
        return t * rows * cols

    @property
    def kept(self) -> int:
        """Number of kept tokens."""
        return len(self.keep)

    @property
    def retained(self) -> float:
        """``kept / total``, in (0, 1]."""
        return self.kept / self.total

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool (frames, rows, columns), True where a token is kept; a new array each time."""
        mask = np.zeros(self.total, np.bool_)
        mask[self.keep] = True
        return mask.reshape(self.grid)

    @property
    def flat_grid_thw(self) -> tuple[int, int, int]:
        """The grid to give a model along with the kept patches.

        ``grid_thw`` where every token is kept. Otherwise ``(-1, -merge_size, merge_size * kept)``: the product is the
        number of patches, so that models and processors count right, and the negative numbers mark a grid that says
        nothing about rows and columns. No image has such a grid, and code that reads one as geometry fails. Give the
        positions explicitly, with the rows that ``patch_indices(flat=True)`` names.

        Example:
            >>> import pixelprune as pp
            >>> pp.Selection.from_keep([0, 2], (1, 4, 4), "qwen3_vl").flat_grid_thw
            (-1, -2, 4)
            >>> pp.Selection.from_keep([0, 1, 2, 3], (1, 4, 4), "qwen3_vl").flat_grid_thw
            (1, 4, 4)
        """
        m = self.spec.merge_size
        return self.grid_thw if self.kept == self.total else (-1, -m, m * self.kept)

    @property
    def _is_whole_raster(self) -> bool:
        """Whether everything is kept in raster order: then the rows fit the image's own grid only."""
        return self.spec.patch_order == "raster" and self.kept == self.total

    def patch_indices(self, *, flat: bool = False) -> Indices:
        """Return int64 (kept * merge_size**2,): the rows of this image's ``pixel_values`` that are kept.

        Row 0 is the image's own first row; for several images in one ``pixel_values`` use
        `pixelprune.patch_indices`.

        Args:
            flat: False: ascending, which is the processor's order. True: the order in which a model reads the
                patches of ``flat_grid_thw``. They differ only if ``patch_order`` is ``"raster"``.

        Example:
            >>> import pixelprune as pp
            >>> pp.Selection.from_keep([0, 2], (1, 4, 4), pp.VisionSpec.preset("qwen3_vl")).patch_indices()
            array([ 0,  1,  2,  3,  8,  9, 10, 11])
            >>> sel = pp.Selection.from_keep([0, 2], (1, 4, 4), pp.VisionSpec.preset("paddleocr_vl"))
            >>> sel.patch_indices(), sel.patch_indices(flat=True)
            (array([ 0,  1,  4,  5,  8,  9, 12, 13]), array([ 0,  1,  8,  9,  4,  5, 12, 13]))
        """
        m = self.spec.merge_size
        if self.spec.patch_order == "block":
            return (self.keep[:, None] * (m * m) + np.arange(m * m)).ravel()
        width = self.grid_thw[2]
        line, col = np.divmod(self.keep, width // m)
        inside = np.arange(m)
        # The flat grid has its tokens side by side, so its first row holds the first patch row of every token.
        rows = ((line * m + inside[:, None])[:, :, None] * width + (col * m)[:, None] + inside).ravel()
        return rows if flat and not self._is_whole_raster else np.sort(rows)

    def tokens(self, image: Any) -> NDArray[np.uint8]:
        """Return the kept tokens' pixels: uint8 (kept, side, side, channels), in the order of ``keep``.

        Args:
            image: the image that was pruned, uint8 (height, width, channels) or (height, width).

        Raises:
            PixelPruneError: the size of the image differs from the one that was pruned.
            TypeError: not a uint8 image.

        Example:
            >>> import numpy as np, pixelprune as pp
            >>> page = np.zeros((64, 96, 3), np.uint8)
            >>> pp.prune(page, "qwen3_vl").tokens(page).shape
            (1, 32, 32, 3)
        """
        return self._tiles(image)[self.keep]

    def reconstruct(self, image: Any) -> NDArray[np.uint8]:
        """Return the image with every token replaced by its source's pixels.

        At threshold 0 the result equals the image; in closed loop with metric ``"max"`` no value differs by more
        than ``threshold * 255``.

        Args:
            image: the image that was pruned, uint8 (height, width, channels) or (height, width).

        Returns:
            uint8, of the image's shape; a new array.

        Raises:
            PixelPruneError: the selection has no source, or the size of the image differs from the one that was pruned.
            TypeError: not a uint8 image.

        Example:
            >>> import numpy as np, pixelprune as pp
            >>> page = np.full((64, 96, 3), 200, np.uint8)
            >>> bool((pp.prune(page, "qwen3_vl").reconstruct(page) == page).all())
            True
        """
        pixels = as_pixels(image)
        return from_tiles(self._tiles(pixels)[sources(self)], self.grid, pixels.ndim == 2)

    def dropped_content(self, image: Any) -> Indices:
        """Return the dropped tokens that carry content: those that are not of one colour.

        A kept token with the same pixels (within the threshold) stands for each of them, but a model does not see
        that it is there: of equal numbers below each other, only the first may be kept. ``protect="content"`` keeps
        all of them.

        Args:
            image: the image that was pruned, uint8 (height, width, channels) or (height, width).

        Returns:
            int64 (count,), token indices, ascending. A token is of one colour if in each channel its smallest and
            largest values are at most ``threshold`` apart.

        Raises:
            PixelPruneError: the size of the image differs from the one that was pruned.
            TypeError: not a uint8 image.

        Example:
            >>> import numpy as np, pixelprune as pp
            >>> page = np.full((96, 64, 3), 255, np.uint8)
            >>> page[40:50, 40:50] = page[72:82, 40:50] = 0  # the same mark in two rows
            >>> sel = pp.prune(page, "qwen3_vl")
            >>> sel.kept, sel.dropped_content(page)
            (2, array([5]))
            >>> pp.prune(page, "qwen3_vl", protect="content").keep
            array([0, 3, 5])
        """
        content = _core.content(pruned_pixels(self, image), self.spec.token_size, self.threshold)
        content[self.keep] = False
        return np.flatnonzero(content)

    def _tiles(self, image: Any) -> NDArray[np.uint8]:
        pixels = pruned_pixels(self, image)
        side = self.spec.token_size
        _, rows, cols = self.grid
        tiles = pixels.reshape(rows, side, cols, side, -1).swapaxes(1, 2)
        return tiles.reshape(rows * cols, side, side, -1)

    @staticmethod
    def from_keep(keep: ArrayLike, grid_thw: Sequence[int], spec: VisionSpec | str) -> Selection:
        """Create a selection from tokens that were chosen elsewhere.

        Args:
            keep: token indices (integers in any order, without duplicates), or a bool mask over tokens of shape
                (frames, rows, columns), (rows, columns) if there is one frame, or (total,).
            grid_thw: (frames, rows, columns) of the image in patches.
            spec: a `VisionSpec` or the name of a preset.

        Returns:
            A selection with method ``"given"`` and no source.

        Raises:
            PixelPruneError: no token is kept, an index is out of range or occurs twice, a mask has the wrong
                shape, or the grid is not a multiple of ``merge_size``.
            TypeError: ``keep`` is neither integers nor bools.

        Example:
            >>> import pixelprune as pp
            >>> pp.Selection.from_keep([5, 0, 3], (1, 4, 6), "qwen3_vl").keep
            array([0, 3, 5])
        """
        spec = as_spec(spec)
        grid = check_grid(grid_thw, spec)
        t, rows, cols = grid[0], grid[1] // spec.merge_size, grid[2] // spec.merge_size
        total = t * rows * cols
        given = read_array(keep, "keep", "token indices or a bool mask")
        if given.dtype == np.bool_:
            shapes = [(t, rows, cols), *([(rows, cols)] if t == 1 else []), (total,)]
            if given.shape not in shapes:
                *others, last = map(str, shapes)
                raise PixelPruneError(
                    f"keep is a mask of shape {given.shape}; expected {', '.join(others)} or {last} for grid_thw {grid}"
                )
            kept = np.flatnonzero(given)
        elif given.ndim == 0 and given.dtype.kind in "iu":
            raise PixelPruneError(f"keep is a single number, {given}; expected a list of token indices or a bool mask")
        elif given.dtype.kind in "iu" or given.size == 0:
            kept = np.sort(given.astype(np.int64).ravel())
        else:
            raise TypeError(f"keep has dtype {given.dtype}; expected integer token indices or a bool mask")
        if not len(kept):
            raise PixelPruneError("keep is empty; expected at least one token")
        if kept[0] < 0 or kept[-1] >= total:
            raise PixelPruneError(
                f"keep has token indices from {kept[0]} to {kept[-1]}; expected from 0 to {total - 1}"
            )
        if (kept[1:] == kept[:-1]).any():
            raise PixelPruneError("keep names a token twice; expected each index once")
        return Selection(kept.astype(np.int64, copy=False), None, grid, spec, "given", "max", 0.0, True, 0, "nothing")

    def __repr__(self) -> str:
        protect = "" if self.protect == "nothing" else f", protect {self.protect!r}"
        return (
            f"Selection(kept {self.kept} of {self.total} tokens, retained {self.retained:.3f}, grid_thw "
            f"{self.grid_thw}, method {self.method!r}, threshold {self.threshold:g}{protect})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selection):
            return NotImplemented
        if self.source is None or other.source is None:
            same_source = self.source is other.source
        else:
            same_source = np.array_equal(self.source, other.source)
        return self._settings() == other._settings() and np.array_equal(self.keep, other.keep) and same_source

    def __hash__(self) -> int:
        return hash((self._settings(), self.keep.tobytes()))

    def _settings(self) -> tuple[object, ...]:
        settings = (self.method, self.metric, self.threshold, self.anchored, self.seed, self.protect)
        return self.grid_thw, self.spec, *settings


def sources(selection: Selection) -> Indices:
    """Return the selection's source; raise if it has none."""
    if selection.source is None:
        raise PixelPruneError(
            f"a selection of method {selection.method!r} has no source: nothing represents its dropped tokens; "
            "expected one of pred_2d, raster, serpentine, either, unique"
        )
    return selection.source


def pruned_pixels(selection: Selection, image: Any) -> NDArray[np.uint8]:
    """Return ``image`` as an array that the core can borrow; raise if its size is not the pruned one."""
    pixels = as_pixels(image)
    t, h, w = selection.grid_thw
    p = selection.spec.patch_size
    if t != 1 or pixels.shape[:2] != (h * p, w * p):
        raise PixelPruneError(
            f"the image is {pixels.shape[0]} x {pixels.shape[1]} (height x width); the selection is of {t} "
            f"frame(s) of {h * p} x {w * p}; expected the image that was pruned"
        )
    return pixels


def from_tiles(tiles: NDArray[np.uint8], grid: tuple[int, int, int], grey: bool) -> NDArray[np.uint8]:
    """Assemble tiles (total, side, side, channels) into (frames * height, width[, channels]); grey has no channels."""
    t, rows, cols = grid
    side = tiles.shape[1]
    image = tiles.reshape(t * rows, cols, side, side, -1).swapaxes(1, 2).reshape(t * rows * side, cols * side, -1)
    return image[..., 0] if grey else image


def check_grid(grid_thw: Sequence[int], spec: VisionSpec) -> tuple[int, int, int]:
    """Return one row of ``grid_thw`` as a tuple; raise if it does not fit the spec."""
    values = read_array(grid_thw, "grid_thw", "three integers (frames, rows, columns) in patches")
    if values.shape != (3,) or values.dtype.kind not in "iu":
        raise PixelPruneError(
            f"grid_thw is {shown(grid_thw)}; expected three integers (frames, rows, columns) in patches"
        )
    t, h, w = (int(v) for v in values)
    m = spec.merge_size
    if min(t, h, w) < 1 or h % m or w % m or t * h * w >= 1 << 40:
        raise PixelPruneError(
            f"grid_thw is ({t}, {h}, {w}) in patches; expected at least 1 each, rows and columns in multiples "
            f"of merge_size {m}"
        )
    return t, h, w


def flat_order(selection: Selection) -> Indices | None:
    """Return the positions of ``patch_indices(flat=True)`` in ``patch_indices()``; None if the two are equal."""
    if selection.spec.patch_order == "block" or selection.kept == selection.total:
        return None
    return np.searchsorted(selection.patch_indices(), selection.patch_indices(flat=True))


def patch_indices(selections: Sequence[Selection], *, flat: bool = False) -> Indices:
    """Return the kept rows of the concatenated ``pixel_values`` of several images.

    Args:
        selections: one selection per image, in the order of the images.
        flat: as in `Selection.patch_indices`. The rows of `Batch.pixel_values` are those of ``flat=True``.

    Returns:
        int64 (rows,), image by image; ascending unless ``flat``.

    Raises:
        TypeError: ``selections`` is not a list of selections.

    Example:
        >>> import pixelprune as pp
        >>> first = pp.Selection.from_keep([1], (1, 2, 4), "qwen3_vl")
        >>> second = pp.Selection.from_keep([0], (1, 2, 2), "qwen3_vl")
        >>> pp.patch_indices([first, second])
        array([ 4,  5,  6,  7,  8,  9, 10, 11])
    """
    if isinstance(selections, Selection) or not isinstance(selections, Iterable):
        raise TypeError(f"selections is a {type(selections).__name__}; expected a list with one Selection per image")
    parts = [np.empty(0, np.int64)]
    first = 0
    for i, selection in enumerate(selections):
        if not isinstance(selection, Selection):
            raise TypeError(f"selections[{i}] is a {type(selection).__name__}; expected a Selection")
        parts.append(selection.patch_indices(flat=flat) + first)
        t, h, w = selection.grid_thw
        first += t * h * w
    return np.concatenate(parts)
