"""Grids and kept tokens in, a `Plan` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import read_array
from ..errors import PixelPruneError
from ..selection.result import Selection, check_grid
from .models import ModelSpec
from .tokens import Mask, Positions, keep_mask, kinds_of, positions_of, read_lengths, read_prompts
from .vision import VisionPlan


@dataclass(frozen=True)
class Plan:
    """How to prune a batch of prompts with images and videos. Immutable and picklable.

    Attributes:
        spec: the model.
        images: the inputs of the vision tower for all images of the batch.
        videos: the same for all videos.

    Example:
        >>> from pixelprune.plan import ModelSpec, make_plan
        >>> plan = make_plan(ModelSpec.from_config({"model_type": "qwen3_5"}), [[1, 4, 4], [1, 2, 8]], [[0, 3], [1]])
        >>> plan.images.kept, len(plan.videos)
        (array([2, 1]), 0)
    """

    spec: ModelSpec
    images: VisionPlan
    videos: VisionPlan

    def token_mask(self, input_ids: Any, attention_mask: Any = None) -> Mask:
        """Return which tokens of the whole prompts are kept.

        Args:
            input_ids: (rows, length) integers: the prompts with a placeholder for every token of every image.
            attention_mask: (rows, length), 0 at padding; None: no padding.

        Returns:
            bool (rows, length): False at the placeholders of dropped tokens, True elsewhere (padding too).

        Raises:
            PixelPruneError: the placeholders do not match the grids.

        Example:
            >>> from pixelprune.plan import ModelSpec, make_plan
            >>> spec = ModelSpec.from_config({"model_type": "qwen3_vl", "image_token_id": 7})
            >>> make_plan(spec, [[1, 2, 6]], [[0, 2]]).token_mask([[1, 7, 7, 7, 2]])
            array([[ True,  True, False,  True,  True]])
        """
        ids, present = read_prompts(input_ids, attention_mask)
        images, videos = ([one.mask for one in media.selections] for media in (self.images, self.videos))
        return keep_mask(kinds_of(ids, present, self.spec), images, videos)

    def positions(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        second_per_grid: Sequence[float] | None = None,
        lengths: Sequence[Sequence[int]] | None = None,
    ) -> Positions:
        """Return the language model's positions of pruned prompts: those of the same tokens in the whole prompts.

        Args:
            input_ids: (rows, length) integers: the prompts with the placeholders of the kept tokens only.
            attention_mask: (rows, length), 0 at padding; None: no padding.
            second_per_grid: seconds per frame of ``grid_thw``, one number per video; None: 1. Used by models that
                have `ModelSpec.tokens_per_second`.
            lengths: per row, the lengths of the sequences packed into it: positions restart with each.

        Raises:
            PixelPruneError: the placeholders do not match the kept tokens; a frame with placeholders of its own keeps
                no token; lengths do not add up to the tokens of a row.

        Example:
            >>> from pixelprune.plan import ModelSpec, make_plan
            >>> spec = ModelSpec.from_config({"model_type": "qwen3_vl", "image_token_id": 7})
            >>> make_plan(spec, [[1, 2, 6]], [[0, 2]]).positions([[1, 7, 7, 2]]).position_ids[3]
            array([[0, 1, 3, 4]])
        """
        ids, present = read_prompts(input_ids, attention_mask)
        sizes = None if lengths is None else read_lengths(lengths, present.sum(axis=1))
        return positions_of(ids, present, self.spec, self.images, self.videos, second_per_grid, sizes)


def make_plan(
    spec: ModelSpec | Any,
    grid_thw: Any = None,
    keep: Sequence[Any] | None = None,
    *,
    video_grid_thw: Any = None,
    video_keep: Sequence[Any] | None = None,
) -> Plan:
    """Plan how a model runs on the kept tokens of a batch.

    Args:
        spec: a `ModelSpec`, or what `ModelSpec.from_config` takes.
        grid_thw: (images, 3) integers: frames, rows and columns of each image in patches, in the order of the
            batch; None: no images.
        keep: one entry per image: a `Selection`, token indices, a bool mask, or None for all tokens; None: all
            tokens of all images.
        video_grid_thw: as ``grid_thw``, for the videos.
        video_keep: as ``keep``, for the videos.

    Raises:
        PixelPruneError: entries and grids do not match; a grid is not a whole number of tokens; videos of this model
            can't be pruned.
        TypeError: an entry of ``keep`` is none of the above.

    Example:
        >>> import pixelprune as pp
        >>> from pixelprune.plan import ModelSpec, make_plan
        >>> page = pp.Selection.from_keep([0, 5], (1, 4, 6), "qwen3_vl")
        >>> make_plan(ModelSpec.from_config({"model_type": "qwen3_vl"}), [page.grid_thw], [page]).images.flat_grids
        array([[-1, -2,  4]])
    """
    spec = spec if isinstance(spec, ModelSpec) else ModelSpec.from_config(spec)
    images = select(spec, grid_thw, keep, "image")
    videos = select(spec, video_grid_thw, video_keep, "video")
    if videos and not spec.takes_videos:
        raise PixelPruneError(f"videos of {spec.model_type} can't be pruned; expected images only")
    return Plan(spec, VisionPlan(spec, images), VisionPlan(spec, videos))


def select(spec: ModelSpec, grid_thw: Any, keep: Sequence[Any] | None, kind: str) -> tuple[Selection, ...]:
    """Return one selection per grid."""
    grids = read_grids(grid_thw, spec, kind)
    argument = _keep_name(kind)
    chosen = []
    for i, (entry, grid) in enumerate(zip(read_keep(keep, len(grids), kind), grids, strict=True)):
        if spec.vision.patch_order == "raster" and grid[0] != 1:
            raise PixelPruneError(f"{kind} {i} has {grid[0]} frames; {spec.model_type} supports one frame per image")
        try:
            chosen.append(_selection(spec, grid, entry))
        except (TypeError, PixelPruneError) as error:
            raise type(error)(f"{argument}[{i}]: {error}") from None
    return tuple(chosen)


def read_keep(keep: Sequence[Any] | None, count: int, kind: str) -> list[Any]:
    """Return ``keep`` as a list with one entry per image (or video)."""
    if keep is None:
        return [None] * count
    if isinstance(keep, (str, bytes)) or not hasattr(keep, "__len__"):
        raise TypeError(f"{_keep_name(kind)} is a {type(keep).__name__}; expected a list with one entry per {kind}")
    if len(keep) != count:
        raise PixelPruneError(f"{_keep_name(kind)} has {len(keep)} entries; expected one per {kind}, {count}")
    return list(keep)


def _keep_name(kind: str) -> str:
    return "keep" if kind == "image" else "video_keep"


def read_grids(grid_thw: Any, spec: ModelSpec, kind: str) -> list[tuple[int, int, int]]:
    """Return the rows of ``grid_thw``, checked against the model."""
    name = f"{kind}_grid_thw"
    if grid_thw is None:
        return []
    grids = read_array(grid_thw, name, f"({kind}s, 3) integers")
    if grids.size == 0:
        return []
    if grids.ndim != 2 or grids.shape[1] != 3:
        raise PixelPruneError(f"{name} has shape {grids.shape}; expected ({kind}s, 3)")
    return [check_grid(grid, spec.vision) for grid in grids]


def _selection(spec: ModelSpec, grid: tuple[int, int, int], entry: Any) -> Selection:
    if entry is None:
        t, h, w = grid
        entry = np.arange(t * h * w // spec.vision.merge_size**2)
    elif isinstance(entry, Selection):
        ours, theirs = spec.vision, entry.spec
        if entry.grid_thw != grid or (ours.patch_size, ours.merge_size) != (theirs.patch_size, theirs.merge_size):
            raise PixelPruneError(
                f"the selection is of grid_thw {entry.grid_thw} with {theirs.patch_size} px patches and merge_size "
                f"{theirs.merge_size}; expected {grid}, {ours.patch_size} px and {ours.merge_size}"
            )
        return entry
    return Selection.from_keep(entry, grid, spec.vision)
