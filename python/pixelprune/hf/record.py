"""A plan as one tensor among the model inputs, which plain dicts, ``to()``, pickling and trainers carry along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..plan import ModelSpec, Plan, make_plan
from ..selection.result import Selection

_KINDS = ("image", "video")
_HEADER = 5


def write_plan(plan: Plan) -> torch.Tensor:
    """Return the plan as int64 (numbers,): one record per image, then one per video.

    A record is ``[kind, t, h, w, n, k_0, ..., k_(n-1)]``: 0 for an image and 1 for a video, the whole grid in patches,
    and the kept tokens. The tensors of two batches concatenated are the tensor of the joint batch.

    Example:
        >>> from pixelprune.plan import ModelSpec, make_plan
        >>> plan = make_plan(ModelSpec.from_config({"model_type": "qwen3_vl"}), [[1, 4, 4]], [[0, 3]])
        >>> write_plan(plan)
        tensor([0, 1, 4, 4, 2, 0, 3])
    """
    return torch.from_numpy(write_selections(plan.images.selections, plan.videos.selections))


def write_selections(images: Sequence[Selection], videos: Sequence[Selection] = ()) -> NDArray[np.int64]:
    """Return the same of selections, as an array."""
    parts = [np.empty(0, np.int64)]
    for kind, selections in enumerate((images, videos)):
        for selection in selections:
            parts += [np.array([kind, *selection.grid_thw, selection.kept], np.int64), selection.keep]
    return np.concatenate(parts)


def read_plan(record: Any, spec: ModelSpec) -> Plan:
    """Return the plan that `write_plan` wrote.

    Raises:
        PixelPruneError: the tensor is not what `write_plan` returns, or not for this model.

    Example:
        >>> from pixelprune.plan import ModelSpec
        >>> spec = ModelSpec.from_config({"model_type": "qwen3_vl"})
        >>> read_plan(torch.tensor([0, 1, 4, 4, 2, 0, 3]), spec).images.selections[0].keep
        array([0, 3])
    """
    numbers = torch.as_tensor(record).detach().cpu().numpy()
    if numbers.shape == (0,):  # no images; of an empty list, whose dtype says nothing
        numbers = numbers.astype(np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise _damaged(f"it has shape {numbers.shape} and dtype {numbers.dtype}; expected integers (numbers,)")
    grids: tuple[list[Any], list[Any]] = ([], [])
    keeps: tuple[list[Any], list[Any]] = ([], [])
    at = 0
    while at < len(numbers):
        header = numbers[at : at + _HEADER].tolist()
        if len(header) < _HEADER or header[0] not in (0, 1) or not 0 < header[4] <= len(numbers) - at - _HEADER:
            raise _damaged(f"record {sum(map(len, grids))} begins with {header}; expected kind, grid and count")
        kind, *grid, count = header
        keep = numbers[at + _HEADER : at + _HEADER + count]
        if (np.diff(keep) <= 0).any():
            raise _damaged(f"the kept tokens of {_KINDS[kind]} {len(grids[kind])} do not ascend")
        grids[kind].append(grid)
        keeps[kind].append(keep)
        at += _HEADER + count
    try:
        return make_plan(spec, grids[0], keeps[0], video_grid_thw=grids[1], video_keep=keeps[1])
    except PixelPruneError as error:
        raise _damaged(str(error)) from None


def _damaged(what: str) -> PixelPruneError:
    return PixelPruneError(
        f"the plan among the inputs can't be read: {what}; expected the tensor that came with the pruned inputs, "
        "concatenated along its only dimension at most"
    )
