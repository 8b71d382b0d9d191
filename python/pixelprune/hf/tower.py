"""Help for a vision tower that does not take positions by itself: hooks and methods, for the calls they are meant for.

They hang on a module that all threads share, so each call of a tower is told apart: by the grids that it is given, and
where those say nothing, by who is helped at the time. Calls that nobody asked help for are left alone.
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
    """Help a model's vision tower to the right positions while the context lasts.

    One call at a time: where the tower needs help (transformers before 5.18; GLM-4V), other threads that want it for
    the same model wait until the context ends. Contexts of one thread may lie within each other. Other calls of the
    model are left alone; before 5.9 there may be none meanwhile, because the model itself remembers positions.

    Args:
        model: the unchanged model; hooks or attributes that are set on its vision tower are gone afterwards.
        inputs: what `prune_inputs` or a `PrunedProcessor` returned.

    Yields:
        Arguments for ``model(**ready)``, and for ``model.generate(**ready)`` with transformers before 5.18; in any
        thread, as long as the context lasts.

    Raises:
        PixelPruneError: the inputs are not pruned; the tower is called with other images than those of the inputs
            (several beams repeat them: that takes 5.18 or later).

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
    """Return what became of the inputs, and the model's seams; refuse what is not pruned, or for another model."""
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}; expected a model of transformers")
    info = getattr(inputs, "pixelprune", None)
    if info is None:
        raise PixelPruneError("the inputs know no plan: expected what prune_inputs or a PrunedProcessor returned")
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type in FAMILIES and model_type != info.plan.spec.model_type:
        raise PixelPruneError(
            f"the inputs are pruned for {info.plan.spec.model_type}; the model is a {type(model).__name__} of type "
            f"{model_type}; expected the inputs of this model"
        )
    return info, versions.resolve(info.plan.spec)[1]


def takes_positions(spec: ModelSpec, seams: versions.Seams) -> bool:
    """Whether the model's ``forward`` takes everything as arguments, so that its tower needs no help."""
    return seams.way == "kwargs" and spec.seam == "flat"


def plain_arguments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs without what is no argument of a model."""
    return {name: value for name, value in inputs.items() if name != "seq_lengths"}


# --- Who is helped ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Call:
    """One call that is helped: the grids that its tower is called with, and what it is told."""

    shown: dict[str, torch.Tensor]
    hook: Answer | None = None
    methods: dict[tuple[Any, str], Answer] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)

    def has(self, grids: torch.Tensor | None) -> bool:
        """Whether these are the very grids of the call, not others that are equal."""
        return grids is not None and any(_is_same(grids, own) for own in self.shown.values())

    def is_stranger(self, grids: Sequence[torch.Tensor | None]) -> bool:
        """Whether a call with such grids, from another thread, has nothing to do with this one."""
        if threading.get_ident() == self.thread:
            return False
        own = {tuple(row) for shown in self.shown.values() for row in shown.tolist()}
        given = [tuple(row) for one in grids if one is not None for row in one.tolist()]
        return own.isdisjoint(given)


def _is_same(grids: torch.Tensor, own: torch.Tensor) -> bool:
    return grids.shape == own.shape and grids.data_ptr() == own.data_ptr()


class _Desk:
    """Who is helped by a tower: one thread at a time, the latest call of it first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.calls: list[_Call] = []
        self.hung = ExitStack()

    @contextmanager
    def helping(self, tower: Any, call: _Call) -> Iterator[None]:
        """Hang up what answers for ``call``, and wait for other threads before."""
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
            # A function, which is no part of a copy of the model, as a lock would have to be.
            handle = tower.register_forward_pre_hook(lambda *given: self._hook(*given), with_kwargs=True)
            self.hung.callback(handle.remove)
        for module, name in call.methods:
            self.hung.enter_context(_attribute(module, name, self._method(module, name)))

    def _hook(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        if kwargs is None or "position_ids" in kwargs:
            return None  # torch is about to remove the hook, in another thread; or the call brings positions along
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
        """The call that a tower with these grids is called for; None: nobody who is helped."""
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
    """Set an attribute of one instance, over the method of its class."""
    if name in vars(module):
        raise PixelPruneError(f"{type(module).__name__}.{name} is replaced already; expected the class's own method")
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name)


# --- What it is told --------------------------------------------------------------------------------------------


def _shown_grids(plan: VisionPlan, seams: versions.Seams) -> torch.Tensor:
    """The grids that the model sees; older releases need a row of its own for every frame, to keep them apart."""
    if seams.way == "kwargs":
        return torch.as_tensor(plan.flat_grids)
    merge = plan.spec.vision.merge_size
    frames = [int(count) for counts in plan.tokens_per_frame for count in counts if count]
    return torch.tensor([[1, merge, merge * count] for count in frames])


def _frames(plan: VisionPlan) -> NDArray[np.int64]:
    """The grids of the whole images, one row for every frame of which something is kept, as for ``cu_seqlens``."""
    rows = [(1, *grid[1:]) for grid, counts in zip(plan.grids, plan.tokens_per_frame, strict=True) for c in counts if c]
    return np.array(rows, np.int64)


class _Turns:
    """Tells which of images and videos a call of the vision tower is for; where they are equal they take turns."""

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
                "modality with the images of these inputs (several beams or sequences per prompt take transformers "
                "5.18 or later)"
            )
        kind = equal[self.calls % len(equal)]
        self.calls += 1
        return kind


def _hook(call: _Call, media: dict[str, VisionPlan], seams: versions.Seams, spec: ModelSpec) -> Answer:
    """A pre-hook that adds positions, and replaces the grids where the tower reads them as geometry."""
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
    """The methods that towers before 5.9 ask for positions; their answers for whole images, cut to the kept patches."""

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
    """Answer with the plan's positions; the model keeps the deltas for the tokens to come."""
    positions = inputs["position_ids"][1:]
    # Here deltas count from the end of the row, padding included.
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
                f"{tuple(positions.shape[1:])} (several beams or sequences per prompt take transformers 5.18 or later)"
            )
        return positions, deltas

    return method
