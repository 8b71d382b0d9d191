"""What an image processor returns, pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchFeature

from ..images.batch import Batch
from ..selection.pruning import prune_pixel_values
from ..selection.result import Selection, patch_indices
from ..selection.settings import PruneSettings
from ..spec import VisionSpec
from .batch import RECORD
from .convert import like_input
from .record import write_selections


class PrunedFeatures(BatchFeature):
    """A `BatchFeature` of kept patches, made by a `PrunedImageProcessor`.

    Attributes:
        selections: the `Selection` of each image. It is not among the keys, and processors don't pass it on.
    """

    selections: Sequence[Selection] = ()


def of_batch(batch: Batch, prune: bool, merge_sizes: bool) -> dict[str, NDArray[Any]]:
    """Return what `preprocess` has made under the keys of an image processor."""
    grids = batch.flat_grid_thw if prune else batch.grid_thw
    data = {"pixel_values": batch.pixel_values, "image_grid_thw": grids}
    if merge_sizes:
        data["image_merge_sizes"] = np.array([selection.spec.merge_size for selection in batch.selections], np.int64)
    if prune:
        data[RECORD] = write_selections(batch.selections)
    return data


def prune_output(
    out: BatchFeature, spec: VisionSpec, settings: PruneSettings, threads: int | None, form: Any
) -> PrunedFeatures:
    """Return the output of an image processor without the patches of dropped tokens.

    Args:
        out: the output.
        spec: the spec of its rows.
        settings: how tokens are chosen.
        threads: as in `pixelprune.prune`.
        form: ``return_tensors`` of the call.
    """
    values, grids = (
        value if isinstance(value, torch.Tensor) else np.asarray(value)
        for value in (out["pixel_values"], out["image_grid_thw"])
    )
    on_cpu, shapes = (value.cpu() if isinstance(value, torch.Tensor) else value for value in (values, grids))
    selections = prune_pixel_values(on_cpu, np.asarray(shapes), spec, settings=settings, threads=threads)
    flat = np.array([selection.flat_grid_thw for selection in selections], np.int64).reshape(-1, 3)
    pruned = {
        "pixel_values": values[like_input(values, patch_indices(selections, flat=True))],
        "image_grid_thw": like_input(grids, flat),
        RECORD: like_input(grids, write_selections(selections)),
    }
    features = PrunedFeatures({**out, **pruned}, tensor_type=form)
    features.selections = selections
    return features
