"""The vision tower's part of a plan: which patches it gets, and their positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..selection.result import Selection, patch_indices
from .models import ModelSpec, PositionTable

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class VisionPlan:
    """The inputs of the vision tower for the kept patches of all images (or of all videos) of a batch.

    N is the number of kept patches of all images. Rows are in the model's order: image by image, with
    kept tokens in ascending order and the patches of a token together (families in block order), or with all patches
    of the image's flat grid row-major (families in raster order). Everything is computed on first access.

    Attributes:
        spec: the model.
        selections: the kept tokens of every image, in the order of the batch; with the model's spec, whatever spec they
            were made with.

    Example:
        >>> from pixelprune.plan import ModelSpec, make_plan
        >>> images = make_plan(ModelSpec.from_config({"model_type": "qwen2_vl"}), [[1, 4, 4]], [[0, 3]]).images
        >>> images.patch_indices
        array([ 0,  1,  2,  3, 12, 13, 14, 15])
        >>> images.position_ids[:4].tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """

    spec: ModelSpec
    selections: tuple[Selection, ...]

    def __post_init__(self) -> None:
        vision = self.spec.vision
        own = tuple(s if s.spec == vision else replace(s, spec=vision) for s in self.selections)
        object.__setattr__(self, "selections", own)

    def __len__(self) -> int:
        return len(self.selections)

    def __getstate__(self) -> dict[str, object]:
        return {"spec": self.spec, "selections": self.selections}  # the rest is computed again on access

    @cached_property
    def grids(self) -> Int64:
        """int64 (images, 3): frames, rows and columns of each whole image in patches."""
        return np.array([selection.grid_thw for selection in self.selections], np.int64).reshape(-1, 3)

    @cached_property
    def kept(self) -> Int64:
        """int64 (images,): kept tokens of each image."""
        return np.array([selection.kept for selection in self.selections], np.int64)

    @cached_property
    def flat_grids(self) -> Int64:
        """int64 (images, 3): the grids to give the model along with the kept patches, `Selection.flat_grid_thw`."""
        return np.array([selection.flat_grid_thw for selection in self.selections], np.int64).reshape(-1, 3)

    @cached_property
    def unmarked_grids(self) -> Int64:
        """int64 (images, 3): flat grids as legal ones, ``(1, merge_size, merge_size * kept)``, for code that needs one.

        Nothing tells them from the grid of an image one token high. In raster order, a whole image has its own grid.
        """
        merge = self.spec.vision.merge_size
        raster = self.spec.vision.patch_order == "raster"
        rows = [
            selection.grid_thw if raster and selection.kept == selection.total else (1, merge, merge * selection.kept)
            for selection in self.selections
        ]
        return np.array(rows, np.int64).reshape(-1, 3)

    @cached_property
    def tokens_per_frame(self) -> list[Int64]:
        """Per image, int64 (frames,): kept tokens of each frame."""
        return [
            np.bincount(frame, minlength=selection.grid[0]).astype(np.int64)
            for selection, (frame, _, _) in zip(self.selections, self._places(), strict=True)
        ]

    @cached_property
    def patch_indices(self) -> Int64:
        """int64 (N,): the rows of the original ``pixel_values`` to give the model, in its order."""
        return patch_indices(self.selections, flat=True)

    @cached_property
    def position_ids(self) -> Int64:
        """int64 (N, 2): row and column of every patch in its original image."""
        return np.concatenate([np.empty((0, 2), np.int64), *map(self._patch_places, self.selections)])

    @cached_property
    def interp_indices(self) -> Int64 | None:
        """int64 (N, 4): the table entries that a patch's embedding is interpolated from; None without a table."""
        return None if self.spec.table is None else self._taps[0]

    @cached_property
    def interp_weights(self) -> Float32 | None:
        """float32 (N, 4): the weights of those entries; None without a table."""
        return None if self.spec.table is None else self._taps[1]

    @cached_property
    def cu_seqlens(self) -> Int32:
        """int32 (segments + 1,): first rows of the attention segments (frames with kept patches), and N."""
        counts = np.concatenate([np.empty(0, np.int64), *self.tokens_per_frame])
        ends = np.cumsum(counts[counts > 0] * self.spec.vision.merge_size**2)
        return np.concatenate([[0], ends]).astype(np.int32)

    @cached_property
    def window_index(self) -> Int64 | None:
        """int64 (tokens,): the kept tokens in the order of the attention windows; None without windows."""
        return None if self.spec.window_size is None else self._windows[0]

    @cached_property
    def cu_window_seqlens(self) -> Int32 | None:
        """int32 (windows + 1,): first patches of the windows that have any, and N; None without windows."""
        return None if self.spec.window_size is None else self._windows[1]

    def _places(self) -> Iterator[tuple[Int64, Int64, Int64]]:
        """Per image: frame, row and column of every kept token, counted in tokens."""
        for selection in self.selections:
            _, rows, cols = selection.grid
            line, col = np.divmod(selection.keep, cols)
            frame, row = np.divmod(line, rows)
            yield frame, row, col

    def _patch_places(self, selection: Selection) -> Int64:
        """int64 (patches, 2): row and column of the kept patches of an image."""
        rows = selection.patch_indices(flat=True)
        _, height, width = selection.grid_thw
        if self.spec.vision.patch_order == "raster":
            line, col = np.divmod(rows, width)
        else:
            merge = self.spec.vision.merge_size
            token, inside = np.divmod(rows, merge**2)
            (line, col), (down, across) = np.divmod(token, width // merge), np.divmod(inside, merge)
            line, col = line * merge + down, col * merge + across
        return np.stack([line % height, col], axis=1)

    @cached_property
    def _taps(self) -> tuple[Int64, Float32]:
        assert self.spec.table is not None
        counts = self.kept * self.spec.vision.merge_size**2
        (rows, row_weights), (cols, col_weights) = (
            _axis_taps(self.position_ids[:, axis], np.repeat(self.grids[:, 1 + axis], counts), self.spec.table)
            for axis in (0, 1)
        )
        indices = rows[:, :, None] * self.spec.table.side + cols[:, None, :]
        weights = row_weights[:, :, None] * col_weights[:, None, :]
        return indices.reshape(-1, 4), weights.reshape(-1, 4)

    @cached_property
    def _windows(self) -> tuple[Int64, Int32]:
        assert self.spec.window_size is not None
        merge = self.spec.vision.merge_size
        side = self.spec.window_size // self.spec.vision.token_size
        orders, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        first = 0
        for selection, (frame, row, col) in zip(self.selections, self._places(), strict=True):
            _, rows, cols = selection.grid
            down, across = -(-rows // side), -(-cols // side)
            window = (frame * down + row // side) * across + col // side
            order = np.argsort(window, kind="stable")  # row-major within a window, as the kept tokens are
            orders.append(first + order)
            filled = np.bincount(window)
            counts.append(filled[filled > 0])
            first += len(window)
        ends = np.cumsum(np.concatenate(counts) * merge**2)
        return np.concatenate(orders), np.concatenate([[0], ends]).astype(np.int32)


def _axis_taps(index: Int64, size: Int64, table: PositionTable) -> tuple[Int64, Float32]:
    """Return (N, 2) each: the two table entries next to every position along one axis, and their weights.

    The operations and their order are those of the models, in float32, so that the weights are equal bit for bit.
    """
    place = index.astype(np.float32)
    if table.align_corners:
        source = place * np.float32(table.side - 1) / np.maximum(size - 1, 1).astype(np.float32)
    else:
        source = (place + np.float32(0.5)) * np.float32(table.side) / size.astype(np.float32) - np.float32(0.5)
    floor = np.floor(source)
    steps = np.arange(2)
    taps = np.clip(floor.astype(np.int64)[:, None] + steps, 0, table.side - 1)
    distance = np.abs((source - floor)[:, None] - steps.astype(np.float32))
    return taps, np.maximum(np.float32(1) - distance, np.float32(0))
