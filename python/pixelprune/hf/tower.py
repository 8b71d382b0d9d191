"""Positions for vision towers that do not take them as arguments, through hooks and replaced methods.

Hooks are set on a module that all threads share, so each call of a tower is matched to its context: by the grids that
it is given, and where those are ambiguous, by the context that is open. Calls outside any context are left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..plan import FAMILIES, ModelSpec, VisionPlan
from . import versions
from .batch import VALUES, Pruned

Answer = Callable[..., Any]


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
    info, seams = resolve_inputs(model, inputs)
    spec = info.plan.spec
    ready = plain_arguments(inputs)
    if takes_positions(spec, seams) and seams.encoder_outputs:
        yield ready
        return
    media = {"image": info.plan.images, "video": info.plan.videos}
    shown = {}
    for kind, plan in media.items():
        if len(plan):
            shown[kind] = grids = _shown_grids(plan, seams).to(inputs[VALUES[kind]].device)
            ready[f"{kind}_grid_thw"] = grids
    base, tower = versions.vision_tower(model)
    call = _Call(shown)
    if seams.way == "kwargs":
        ready = {k: v for k, v in ready.items() if not k.startswith(("image_", "video_")) or k.endswith("_grid_thw")}
        call.hook = _hook(call, media, seams, spec)
    else:
        ready.pop("position_ids", None)
        call.methods = {
            **{(tower, name): method for name, method in _methods(call, tower, media, spec)},
            (base, "get_rope_index"): _rope_index(info, inputs),
        }
    with _desk_of(tower).helping(tower, call):
        yield ready


def resolve_inputs(model: Any, inputs: Mapping[str, Any]) -> tuple[Pruned, versions.Seams]:
    """Return the `Pruned` of the inputs and the model's seams; refuse inputs not pruned, or for another model."""
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}; expected a model of transformers")
    info = getattr(inputs, "pixelprune", None)
    if info is None:
        raise PixelPruneError("the inputs have no plan; expected the output of prune_inputs or a PrunedProcessor")
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type in FAMILIES and model_type != info.plan.spec.model_type:
        raise PixelPruneError(
            f"the inputs are pruned for {info.plan.spec.model_type}; the model is a {type(model).__name__} of type "
            f"{model_type}; expected inputs pruned for this model"
        )
    return info, versions.resolve(info.plan.spec)[1]


def takes_positions(spec: ModelSpec, seams: versions.Seams) -> bool:
    """Return whether the model's ``forward`` takes all positions as arguments."""
    return seams.way == "kwargs" and spec.seam == "flat"


def plain_arguments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that are arguments of a model."""
    return {name: value for name, value in inputs.items() if name != "seq_lengths"}


# --- Which call is meant ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Call:
    """One open context: the grids that its tower is called with, and the hook or methods that answer."""

    shown: dict[str, torch.Tensor]
    hook: Answer | None = None
    methods: dict[tuple[Any, str], Answer] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)

    def has(self, grids: torch.Tensor | None) -> bool:
        """Return whether these are the call's own tensors, not others with equal values."""
        return grids is not None and any(_is_same(grids, own) for own in self.shown.values())

    def is_stranger(self, grids: Sequence[torch.Tensor | None]) -> bool:
        """Return whether a call with these grids comes from another thread and has no grid in common."""
        if threading.get_ident() == self.thread:
            return False
        own = {tuple(row) for shown in self.shown.values() for row in shown.tolist()}
        given = [tuple(row) for one in grids if one is not None for row in one.tolist()]
        return own.isdisjoint(given)


def _is_same(grids: torch.Tensor, own: torch.Tensor) -> bool:
    return grids.shape == own.shape and grids.data_ptr() == own.data_ptr()


class _Desk:
    """The open contexts of a tower: of one thread at a time, the innermost first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.calls: list[_Call] = []
        self.hung = ExitStack()

    @contextmanager
    def helping(self, tower: Any, call: _Call) -> Iterator[None]:
        """Wait for other threads, then set the hooks for ``call``."""
        if self.thread != call.thread:
            self.lock.acquire()
            self.thread = call.thread
        self.calls.append(call)
        try:
            if len(self.calls) == 1:
                self._hang_up(tower, call)
            yield
        finally:
            self.calls.remove(call)
            if not self.calls:
                self.hung.close()
                self.thread = None
                self.lock.release()

    def _hang_up(self, tower: Any, call: _Call) -> None:
        if call.hook is not None:
            # A plain function, because a bound method would be copied with the model, and its lock can't be.
            handle = tower.register_forward_pre_hook(lambda *given: self._hook(*given), with_kwargs=True)
            self.hung.callback(handle.remove)
        for module, name in call.methods:
            self.hung.enter_context(_attribute(module, name, self._method(module, name)))

    def _hook(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        if kwargs is None or "position_ids" in kwargs:
            return None  # torch is removing the hook in another thread; or the call has positions already
        call = self._choose([kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]])
        return None if call is None or call.hook is None else call.hook(args, kwargs)

    def _method(self, module: Any, name: str) -> Answer:
        stock = getattr(module, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            given = [*args, *(kwargs.get(f"{kind}_grid_thw") for kind in VALUES)]
            call = self._choose([one for one in given if isinstance(one, torch.Tensor) and one.shape[-1:] == (3,)])
            return (stock if call is None else call.methods[module, name])(*args, **kwargs)

        return method

    def _choose(self, grids: Sequence[torch.Tensor | None]) -> _Call | None:
        """Return the context that a call with these grids belongs to; None if there is none."""
        calls = list(self.calls)
        for call in reversed(calls):
            if any(call.has(one) for one in grids):
                return call
        return None if not calls or calls[-1].is_stranger(grids) else calls[-1]


_DESKS: WeakKeyDictionary[Any, _Desk] = WeakKeyDictionary()
_DESKS_LOCK = threading.Lock()


def _desk_of(tower: Any) -> _Desk:
    with _DESKS_LOCK:
        return _DESKS.setdefault(tower, _Desk())


@contextmanager
def _attribute(module: Any, name: str, value: Any) -> Iterator[None]:
    """Override a method on one instance."""
    if name in vars(module):
        raise PixelPruneError(f"{type(module).__name__}.{name} is already replaced; expected the class's own method")
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name)


# --- What it is given -------------------------------------------------------------------------------------------


def _shown_grids(plan: VisionPlan, seams: versions.Seams) -> torch.Tensor:
    """Return the grids to call the model with; older releases need one row per frame, to keep frames separate."""
    if seams.way == "kwargs":
        return torch.as_tensor(plan.flat_grids)
    merge = plan.spec.vision.merge_size
    frames = [int(count) for counts in plan.tokens_per_frame for count in counts if count]
    return torch.tensor([[1, merge, merge * count] for count in frames])


def _frames(plan: VisionPlan) -> NDArray[np.int64]:
    """Return the original grids with one row per frame that keeps any token, as ``cu_seqlens`` has."""
    rows = [(1, *grid[1:]) for grid, counts in zip(plan.grids, plan.tokens_per_frame, strict=True) for c in counts if c]
    return np.array(rows, np.int64)


class _Turns:
    """Tells whether a call of the vision tower is for images or videos; where their grids are equal, they alternate."""

    def __init__(self, shown: dict[str, torch.Tensor]) -> None:
        self.shown = shown
        self.calls = 0

    def next(self, grids: torch.Tensor) -> str:
        own = [kind for kind, shown in self.shown.items() if _is_same(grids, shown)]
        if len(own) == 1:
            return own[0]
        equal = [kind for kind, shown in self.shown.items() if torch.equal(grids, shown.to(grids.device))]
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


def _hook(call: _Call, media: dict[str, VisionPlan], seams: versions.Seams, spec: ModelSpec) -> Answer:
    """Return a pre-hook that adds positions, and restores the original grids where the tower depends on them."""
    turns = _Turns(call.shown)

    def hook(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        grids = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
        plan = media[turns.next(grids)]
        given = {name: tensor.to(grids.device) for name, tensor in versions.side_inputs(plan, "", seams).items()}
        if spec.seam == "tower":
            given["grid_thw"] = torch.as_tensor(_frames(plan)).to(grids.device)
            args = args[:1]
        return args, {**kwargs, **given}

    return hook


def _methods(call: _Call, tower: Any, media: dict[str, VisionPlan], spec: ModelSpec) -> Iterator[tuple[str, Answer]]:
    """Yield replacements for the methods that give towers before 5.9 their positions: the rows of kept patches."""

    def rows_of(name: str) -> Answer:
        whole = getattr(type(tower), name)
        turns = _Turns(call.shown)

        def method(grids: torch.Tensor) -> torch.Tensor:
            plan = media[turns.next(grids)]
            answer: torch.Tensor = whole(tower, torch.as_tensor(plan.grids).to(grids.device))
            return answer[torch.as_tensor(plan.patch_indices).to(answer.device)]

        return method

    yield "rot_pos_emb", rows_of("rot_pos_emb")
    if spec.table is not None:
        yield "fast_pos_embed_interpolate", rows_of("fast_pos_embed_interpolate")
    if spec.window_size is not None:
        turns = _Turns(call.shown)

        def windows(grids: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
            plan = media[turns.next(grids)]
            assert plan.window_index is not None
            assert plan.cu_window_seqlens is not None
            return torch.as_tensor(plan.window_index).to(grids.device), plan.cu_window_seqlens.tolist()

        yield "get_window_index", windows


def _rope_index(info: Pruned, inputs: Mapping[str, Any]) -> Answer:
    """Return a ``get_rope_index`` that gives the plan's positions, and the deltas for generated tokens."""
    positions = inputs["position_ids"][1:]
    # These deltas are relative to the length of the row, padding included.
    padding = (inputs["attention_mask"] == 0).sum(dim=1, keepdim=True)
    deltas = torch.as_tensor(info.rope_deltas).to(positions.device) - padding

    def method(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows, length = positions.shape[1:]
        if input_ids.shape[0] == rows and input_ids.shape[1] > length:  # generated tokens, where there is no cache
            more = torch.arange(length, input_ids.shape[1], device=positions.device) + deltas
            return torch.cat([positions, more.expand(3, -1, -1)], dim=2), deltas
        if input_ids.shape != positions.shape[1:]:
            raise PixelPruneError(
                f"positions are asked for input_ids of shape {tuple(input_ids.shape)}; expected those of the inputs, "
                f"{tuple(positions.shape[1:])} (several beams or sequences per prompt need transformers 5.18 or later)"
            )
        return positions, deltas

    return method
