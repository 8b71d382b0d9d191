"""Choosing the kept tokens of a batch: settings in, selections out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from ..arguments import shown
from ..errors import PixelPruneError
from ..plan import ModelSpec, read_grids, read_keep
from ..selection.pruning import prune_pixel_values
from ..selection.settings import Method, Metric, Protect, PruneSettings
from .batch import VALUES
from .convert import to_array, to_numpy


class InputOptions(TypedDict, total=False):
    """The fields of `PruneSettings` as keywords, with one threshold or one per image."""

    method: Method
    metric: Metric
    threshold: float | Sequence[float]
    anchored: bool
    seed: int
    protect: Protect


def choose(
    batch: Mapping[str, Any],
    spec: ModelSpec,
    kind: str,
    keep: Any,
    settings: PruneSettings | list[PruneSettings],
    threads: int | None,
) -> Sequence[Any] | None:
    """Return one entry per image (or video) for `make_plan`: what ``keep`` gives, and selections for the rest.

    ``settings`` is one for all of them, or one each.
    """
    values_key = VALUES[kind]
    argument = "keep" if kind == "image" else "video_keep"
    grids = read_grids(to_numpy(batch.get(f"{kind}_grid_thw"), f"{kind}_grid_thw"), spec, kind)
    values = batch.get(values_key)
    if (values is None) != (not grids):
        raise PixelPruneError(f"the batch has only one of {values_key} and {kind}_grid_thw; expected both or none")
    if isinstance(keep, str):
        if keep != "all":
            raise PixelPruneError(
                f"{argument} is {shown(keep)}; expected 'all', a list with one entry per {kind}, or None"
            )
        return None
    entries = read_keep(keep, len(grids), kind)
    if values is None:
        return None
    ends = np.cumsum([t * h * w for t, h, w in grids])
    if len(values) != ends[-1]:
        raise PixelPruneError(f"{values_key} has {len(values)} rows; the grids have {ends[-1]} patches")
    if isinstance(settings, PruneSettings):
        settings = [settings] * len(grids)
    if len(settings) != len(grids):
        raise PixelPruneError(f"threshold has {len(settings)} numbers; expected one, or one per {kind}, {len(grids)}")
    temporal: Any = "repeat" if kind == "image" else "frames"
    if all(entry is None for entry in entries) and all(other == settings[0] for other in settings):
        return prune_pixel_values(
            to_array(values), grids, spec.vision, temporal=temporal, settings=settings[0], threads=threads
        )
    for i, (grid, end) in enumerate(zip(grids, ends, strict=True)):
        if entries[i] is None:
            rows = to_array(values)[end - grid[0] * grid[1] * grid[2] : end]
            [entries[i]] = prune_pixel_values(
                rows, [grid], spec.vision, temporal=temporal, settings=settings[i], threads=threads
            )
    return entries


def with_threshold(settings: PruneSettings, threshold: Any) -> PruneSettings | list[PruneSettings]:
    """Return the settings with this threshold; a list if there are several thresholds."""
    if is_per_image(threshold):
        return [settings.replace(threshold=level) for level in threshold]
    return settings.replace(threshold=threshold)


def is_per_image(threshold: Any) -> bool:
    """Return whether this is a sequence of thresholds."""
    several = isinstance(threshold, Sequence) and not isinstance(threshold, (str, bytes))
    return several or getattr(threshold, "ndim", 0) > 0
