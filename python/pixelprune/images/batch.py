"""The kept patches of a batch of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..selection.result import Selection


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """The kept patches of a batch of images, ready for a model's vision tower. Made by `preprocess`.

    Attributes:
        pixel_values: (rows of all images, *row shape): the kept patches, one image after the other, each in the
            processor's layout. Equal to ``processor_values[patch_indices(selections, flat=True)]``, where
            ``processor_values`` is the processor's own output: the order in which a model reads the patches of
            ``flat_grid_thw``. float32, float16, uint8, or uint16 with the bits of bfloat16.
        grid_thw: int64 (images, 3): frames, rows and columns of each whole image, in patches.
        flat_grid_thw: int64 (images, 3): `Selection.flat_grid_thw` of each image. With ``pixel_values`` and these
            grids a model counts and merges the kept tokens correctly; positions must be passed to it explicitly.
        offsets: int64 (images + 1,): image i has rows ``offsets[i]:offsets[i + 1]``.
        selections: which tokens of each image are kept.
        original_sizes: int64 (images, 2): height and width of the input (after the EXIF rotation).
        resized_sizes: int64 (images, 2): height and width of what was cut into patches.
        resampled: what changed the size of each image: ``"torchvision"``, ``"pillow"``, ``"pad"``, or
            ``"none"`` if it already had the right size.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> batch = pp.preprocess([np.full((480, 640, 3), 255, np.uint8)], "qwen3_vl")
        >>> batch.pixel_values.shape, batch.grid_thw.tolist(), batch.flat_grid_thw.tolist()
        ((4, 1536), [[1, 30, 40]], [[-1, -2, 2]])
    """

    pixel_values: NDArray[Any]
    grid_thw: NDArray[np.int64]
    flat_grid_thw: NDArray[np.int64]
    offsets: NDArray[np.int64]
    selections: list[Selection]
    original_sizes: NDArray[np.int64]
    resized_sizes: NDArray[np.int64]
    resampled: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.selections)

    def __repr__(self) -> str:
        kept = sum(selection.kept for selection in self.selections)
        total = sum(selection.total for selection in self.selections)
        values = self.pixel_values
        return f"Batch({len(self)} images, kept {kept} of {total} tokens, pixel_values {values.dtype} {values.shape})"

    @classmethod
    def concatenate(cls, batches: Iterable[Batch]) -> Batch:
        """Join batches into one, in order, such as the batches of a stream.

        Args:
            batches: one or more batches, all made with the same spec, ``dtype`` and ``copies``.

        Returns:
            A `Batch` with a copy of all rows, and with offsets into it.

        Raises:
            PixelPruneError: ``batches`` is empty, or they differ in spec, dtype or row shape.
            TypeError: an element is not a `Batch`.

        Example:
            >>> import numpy as np, pixelprune as pp
            >>> pages = [np.full((64, 64, 3), 9, np.uint8), np.zeros((96, 64, 3), np.uint8)]
            >>> one, other = (pp.preprocess([page], "qwen3_vl", resample="none", prune=False) for page in pages)
            >>> both = pp.Batch.concatenate([one, other])
            >>> both.offsets.tolist(), both.pixel_values.shape
            ([0, 16, 40], (40, 1536))
        """
        parts = list(batches)
        for i, part in enumerate(parts):
            if not isinstance(part, cls):
                raise TypeError(f"batches[{i}] is a {type(part).__name__}; expected a Batch")
        rows = dict.fromkeys(f"{part.pixel_values.dtype} {part.pixel_values.shape[1:]}" for part in parts)
        specs = {selection.spec for part in parts for selection in part.selections}
        if len(rows) != 1 or len(specs) > 1:
            raise PixelPruneError(
                f"batches holds {len(parts)} batches, of rows {' and '.join(rows) or '(none)'}, of {len(specs)} specs; "
                "expected at least one batch, and the same dtype, row shape and spec in all of them"
            )
        ends = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        starts = [part.offsets[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return cls(
            pixel_values=np.concatenate([part.pixel_values for part in parts]),
            grid_thw=np.concatenate([part.grid_thw for part in parts]),
            flat_grid_thw=np.concatenate([part.flat_grid_thw for part in parts]),
            offsets=np.concatenate([*starts, ends[-1:]]),
            selections=[selection for part in parts for selection in part.selections],
            original_sizes=np.concatenate([part.original_sizes for part in parts]),
            resized_sizes=np.concatenate([part.resized_sizes for part in parts]),
            resampled=tuple(how for part in parts for how in part.resampled),
        )
