"""What a vision tower is given in a context: grids, positions, and the answers of its own methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..plan import ModelSpec, VisionPlan
from . import versions
from .desk import Answer, Call, is_same
from .prepared import Prepared


def shown_grids(plan: VisionPlan, seams: versions.Seams) -> torch.Tensor:
    """Return the grids to call the model with; older releases need one row per frame, to keep frames separate."""
    if seams.way == "kwargs":
        return torch.as_tensor(plan.unmarked_grids)
    merge = plan.spec.vision.merge_size
    frames = [int(count) for counts in plan.tokens_per_frame for count in counts if count]
    return torch.tensor([[1, merge, merge * count] for count in frames])


def _frames(plan: VisionPlan) -> NDArray[np.int64]:
    """Return the original grids with one row per frame that keeps any token, as ``cu_seqlens`` has."""
    rows = [(1, *grid[1:]) for grid, counts in zip(plan.grids, plan.tokens_per_frame, strict=True) for c in counts if c]
    return np.array(rows, np.int64)


def matches(shown: dict[str, torch.Tensor], grids: torch.Tensor) -> list[str]:
    """Return the modalities whose grids these are."""
    return [kind for kind, own in shown.items() if torch.equal(grids, own.to(grids.device))]


class Turns:
    """Tells whether a call of the vision tower is for images or videos; where their grids are equal, they alternate."""

    def __init__(self, shown: dict[str, torch.Tensor]) -> None:
        self.shown = shown
        self.calls = 0

    def next(self, grids: torch.Tensor) -> str:
        """Return the modality of a call with these grids."""
        own = [kind for kind, shown in self.shown.items() if is_same(grids, shown)]
        if len(own) == 1:
            return own[0]
        equal = matches(self.shown, grids)
        if not equal:
            expected = " or ".join(str(shown.tolist()) for shown in self.shown.values())
            raise PixelPruneError(
                f"the vision tower is called with grids {grids.tolist()}; expected {expected or None}: one call per "
                "modality with the images of these inputs (several beams or sequences per prompt need transformers "
                "5.18 or later)"
            )
        kind = equal[self.calls % len(equal)]
        self.calls += 1
        return kind


def tower_hook(call: Call, media: dict[str, VisionPlan], seams: versions.Seams, spec: ModelSpec) -> Answer:
    """Return a pre-hook that adds positions, and restores the original grids where the tower depends on them."""
    turns = Turns(call.shown)

    def hook(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        grids = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
        plan = media[turns.next(grids)]
        given = {name: tensor.to(grids.device) for name, tensor in versions.side_inputs(plan, "", seams).items()}
        if spec.seam == "tower":
            given["grid_thw"] = torch.as_tensor(_frames(plan)).to(grids.device)
            args = args[:1]
        return args, {**kwargs, **given}

    return hook


def tower_methods(
    call: Call, tower: Any, media: dict[str, VisionPlan], spec: ModelSpec
) -> Iterator[tuple[str, Answer]]:
    """Yield replacements for the methods that give towers before 5.9 their positions: the rows of kept patches."""

    def rows_of(name: str) -> Answer:
        whole = getattr(type(tower), name)
        turns = Turns(call.shown)

        def method(grids: torch.Tensor) -> torch.Tensor:
            plan = media[turns.next(grids)]
            answer: torch.Tensor = whole(tower, torch.as_tensor(plan.grids).to(grids.device))
            return answer[torch.as_tensor(plan.patch_indices).to(answer.device)]

        return method

    yield "rot_pos_emb", rows_of("rot_pos_emb")
    if spec.table is not None:
        yield "fast_pos_embed_interpolate", rows_of("fast_pos_embed_interpolate")
    if spec.window_size is not None:
        turns = Turns(call.shown)

        def windows(grids: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
            plan = media[turns.next(grids)]
            assert plan.window_index is not None
            assert plan.cu_window_seqlens is not None
            return torch.as_tensor(plan.window_index).to(grids.device), plan.cu_window_seqlens.tolist()

        yield "get_window_index", windows


def rope_index(prepared: Prepared) -> Answer:
    """Return a ``get_rope_index`` that gives the plan's positions, and the deltas for generated tokens."""
    arguments = prepared.arguments
    positions = arguments["position_ids"][1:]
    assert prepared.rope_deltas is not None
    mask = arguments.get("attention_mask", torch.ones_like(arguments["input_ids"]))
    padding = (mask == 0).sum(dim=1, keepdim=True)
    after = prepared.rope_deltas - padding  # relative to the length of the row
    deltas = after if prepared.seams.deltas_count_padding else prepared.rope_deltas

    def method(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows, length = positions.shape[1:]
        if input_ids.shape[0] == rows and input_ids.shape[1] > length:  # generated tokens, where there is no cache
            more = torch.arange(length, input_ids.shape[1], device=positions.device) + after
            return torch.cat([positions, more.expand(3, -1, -1)], dim=2), deltas
        if input_ids.shape != positions.shape[1:]:
            raise PixelPruneError(
                f"positions are asked for input_ids of shape {tuple(input_ids.shape)}; expected those of the inputs, "
                f"{tuple(positions.shape[1:])} (several beams or sequences per prompt need transformers 5.18 or later)"
            )
        return positions, deltas

    return method
