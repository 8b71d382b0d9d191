"""Positions for vision towers that do not take them as arguments, through hooks and replaced methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ..plan import kinds_of
from . import versions
from .answers import rope_index, shown_grids, tower_hook, tower_methods
from .apply import prompts_of
from .batch import VALUES
from .desk import Call, desk_of
from .prepared import Prepared, is_side_input, prepare


@contextmanager
def vision_positions(model: Any, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the vision tower the right positions inside the context.

    Where the tower does not take positions by itself (transformers before 5.18; the GLM-4V family), a thread that
    enters waits until other threads have left their contexts of the same model. Contexts of one thread can be nested.
    Other calls of the model are left alone; before 5.9 there must be none in the meantime, because the model itself
    stores positions.

    Args:
        model: the unchanged model. Hooks and attributes set on its vision tower are removed on exit.
        inputs: the output of `prune_inputs` or a `PrunedProcessor`.

    Yields:
        Arguments for ``model(**ready)``, and for ``model.generate(**ready)`` with transformers before 5.18. They can be
        used in any thread inside the context.

    Raises:
        PixelPruneError: the inputs are not pruned; the tower is called with images other than those of the inputs
            (as several beams do, which need 5.18 or later).

    Example:
        >>> from pixelprune.hf import vision_positions
        >>> with vision_positions(model, inputs) as ready:
        ...     logits = model(**ready).logits
        >>> logits.shape[1] == inputs["input_ids"].shape[1]
        True
    """
    with helped(model, prepare(model, inputs)) as ready:
        yield ready


@contextmanager
def helped(model: Any, prepared: Prepared) -> Iterator[dict[str, Any]]:
    """See `vision_positions`."""
    plan, seams, ready = prepared.plan, prepared.seams, dict(prepared.arguments)
    spec = plan.spec
    if versions.takes_positions(spec, seams) and seams.encoder_outputs:
        yield ready
        return
    media = {kind: part for kind, part in (("image", plan.images), ("video", plan.videos)) if len(part)}
    shown = {kind: shown_grids(part, seams).to(ready[VALUES[kind]].device) for kind, part in media.items()}
    ready |= {f"{kind}_grid_thw": grids for kind, grids in shown.items()}
    base, tower = versions.vision_tower(model)
    call = Call(shown)
    if seams.way == "kwargs":
        ready = {name: value for name, value in ready.items() if not any(is_side_input(name, kind) for kind in VALUES)}
        call.hook = tower_hook(call, media, seams, spec)
    else:
        call.methods = {
            **{(tower, name): method for name, method in tower_methods(call, tower, media, spec)},
            (base, "get_rope_index"): rope_index(prepared),
        }
        del ready["position_ids"]
        if seams.kinds and "mm_token_type_ids" not in ready:  # without them the model makes positions of its own
            ready["mm_token_type_ids"] = torch.as_tensor(kinds_of(*prompts_of(ready), spec)).to(ready["input_ids"])
    with desk_of(tower).helping(tower, call):
        yield ready
