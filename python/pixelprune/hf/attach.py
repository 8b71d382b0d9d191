"""Make one model take pruned inputs from any caller: hooks on the model and its vision tower, and its ``generate``.

Everything that is set on the model is a function of this module or a partial of one, so that copies of the model, also
pickled ones, are attached to themselves. What belongs to a call is kept per thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from ..errors import PixelPruneError
from ..plan import ModelSpec
from ..selection.settings import PruneOptions, PruneSettings, settings_of
from . import versions
from .answers import Turns, matches
from .batch import RECORD, VALUES, is_flat
from .caches import cache_among, check_empty, forget, forget_after, memory_of, next_positions
from .generation import after_forward, generate_prepared
from .image_processor import PrunedImageProcessor
from .prepared import Prepared, prepare
from .processor import PrunedProcessor
from .tower import helped

if TYPE_CHECKING:
    from typing_extensions import Unpack

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

_PROCESSORS: WeakKeyDictionary[Any, list[tuple[Any, Any]]] = WeakKeyDictionary()
"""The processors that a model was attached with, and their own image processors."""


def attach(
    model: Any,
    processor: Any = None,
    *,
    settings: PruneSettings | None = None,
    threads: int | None = None,
    **options: Unpack[PruneOptions],
) -> Any:
    """Make a model take pruned inputs wherever it takes inputs: called by itself, by a trainer or by a pipeline.

    Afterwards ``model(**inputs)`` and ``model.generate(**inputs)`` run with every supported family and release. The
    inputs may be a plain dict: the plan is among them, under the key ``pixelprune_hf_attach``. Positions that got lost
    or do not match the prompts are computed again, also for decoding steps with a cache and for calls of the vision
    tower by other code. Flat grids without a plan are refused. Calls without pruned inputs are not changed.

    Hooks are set on this instance, its vision tower, and on the modules in between; ``generate`` becomes an attribute.
    Copies of the model, saved ones included, are attached too. Threads can share the model. Where the vision tower does
    not take positions as arguments (transformers before 5.9; the GLM-4V family) one call runs at a time.

    Args:
        model: a model of transformers, or one wrapped by an adapter or for parallel training.
        processor: a model's own processor, which then prunes its images: it gets a `PrunedImageProcessor`, until
            `detach`. For code that holds the processor, such as a pipeline. A processor that prunes already is left
            as it is; a `PrunedProcessor` is checked to be for this model.
        settings: how the processor chooses tokens, or the fields as keywords (`PruneSettings`).
        threads: as in `pixelprune.prune`, for the processor.
        **options: the fields of the settings.

    Returns:
        The same model.

    Raises:
        PixelPruneError: the model has no vision tower; the family or the release of transformers is not supported;
            the processor is for another model; settings without a processor to use them; ``generate`` is replaced
            already.
        TypeError: ``processor`` has no image processor.

    Example:
        >>> from pixelprune.hf import attach, detach
        >>> model = attach(model)
        >>> output = model.generate(**inputs, min_new_tokens=3, max_new_tokens=3, do_sample=False)
        >>> output.shape[1] - inputs["input_ids"].shape[1]
        3
        >>> model = detach(model)

        A pipeline that prunes:

        >>> from transformers import pipeline
        >>> pipe = pipeline("image-text-to-text", model=model, processor=stock)
        >>> pipe.model = attach(pipe.model, pipe.processor, threshold=0.02)
        >>> answers = pipe(text=messages, max_new_tokens=3)
        >>> model = detach(pipe.model)
    """
    base, tower = _parts(model)
    spec, _ = versions.resolve(ModelSpec.from_config(base))
    images = _pruning_images(processor, spec, model, settings, threads, options)
    path = _path(model, base)
    for module in path:
        if "generate" in vars(module) and not _is_ours(vars(module)["generate"]):
            raise PixelPruneError(
                f"{type(module).__name__}.generate is already replaced on this model; expected the class's own method"
            )
    for module in path:
        if _enter not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_enter, with_kwargs=True)
            module.register_forward_hook(_leave, with_kwargs=True, always_call=True)
        if hasattr(type(module), "generate"):
            module.generate = partial(_generate, module)
    if _before_tower not in tower._forward_pre_hooks.values():
        tower.register_forward_pre_hook(_before_tower, with_kwargs=True)
    if images is not None:
        _PROCESSORS.setdefault(model, []).append((processor, processor.image_processor))
        processor.image_processor = images
    return model


def detach(model: Any) -> Any:
    """Undo `attach`, for the model and for the processors that it was called with.

    Args:
        model: the model that was attached, or a copy of it. One that is not attached is left as it is.

    Returns:
        The same model.

    Raises:
        PixelPruneError: the model has no vision tower.

    Example:
        >>> from pixelprune.hf import attach, detach
        >>> "generate" in vars(detach(attach(model)))
        False
    """
    base, tower = _parts(model)
    for module in (*_path(model, base), tower):
        for hooks, flags in (
            (module._forward_pre_hooks, [module._forward_pre_hooks_with_kwargs]),
            (module._forward_hooks, [module._forward_hooks_with_kwargs, module._forward_hooks_always_called]),
        ):
            for key in [key for key, hook in hooks.items() if hook in (_enter, _leave, _before_tower)]:
                for part in (hooks, *flags):
                    part.pop(key, None)
        if _is_ours(vars(module).get("generate")):
            del module.generate
    for processor, stock in reversed(_PROCESSORS.pop(model, [])):
        processor.image_processor = stock
    return model


@contextmanager
def attached(
    model: Any,
    processor: Any = None,
    *,
    settings: PruneSettings | None = None,
    threads: int | None = None,
    **options: Unpack[PruneOptions],
) -> Iterator[Any]:
    """`attach` inside the context, `detach` at its end.

    Args:
        model: as in `attach`.
        processor: as in `attach`.
        settings: as in `attach`.
        threads: as in `attach`.
        **options: as in `attach`.

    Yields:
        The same model.

    Raises:
        PixelPruneError: as in `attach`.
        TypeError: as in `attach`.

    Example:
        >>> from pixelprune.hf import attached
        >>> with attached(model):
        ...     logits = model(**inputs).logits
        >>> logits.shape[1] == inputs["input_ids"].shape[1]
        True
    """
    attach(model, processor, settings=settings, threads=threads, **options)
    try:
        yield model
    finally:
        detach(model)


def _parts(model: Any) -> tuple[Any, Any]:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; expected a model of transformers")
    return versions.vision_tower(model)


def _path(model: Any, base: Any) -> list[Any]:
    """Return the modules from ``model`` down to ``base``, both included."""
    [name] = [name for name, module in model.named_modules() if module is base][:1]
    steps = name.split(".") if name else []
    return [model.get_submodule(".".join(steps[:i])) for i in range(len(steps) + 1)]


def _is_ours(attribute: Any) -> bool:
    return isinstance(attribute, partial) and attribute.func is _generate


def _pruning_images(
    processor: Any,
    spec: ModelSpec,
    model: Any,
    settings: PruneSettings | None,
    threads: int | None,
    options: PruneOptions,
) -> PrunedImageProcessor | None:
    """Return the image processor for a processor without pruning; None if it needs none."""
    prunes = isinstance(getattr(processor, "image_processor", None), PrunedImageProcessor)
    if processor is None or isinstance(processor, PrunedProcessor) or prunes:
        if settings is not None or options or threads is not None:
            raise PixelPruneError(
                "attach has settings but no processor to use them; expected attach(model, processor, ...) with the "
                "model's own processor; one that prunes already has its own settings"
            )
        if isinstance(processor, PrunedProcessor):
            _check_same(versions.resolve(processor.model_spec)[0], spec, model)
        return None
    if not hasattr(processor, "image_processor"):
        raise TypeError(f"processor is a {type(processor).__name__}; expected a model's processor")
    _check_same(versions.resolve(ModelSpec.from_config(versions.vision_tower(model)[0], processor))[0], spec, model)
    given = processor.image_processor
    return PrunedImageProcessor(given, settings=settings_of(settings, options), threads=threads)


def _check_same(theirs: ModelSpec, spec: ModelSpec, model: Any) -> None:
    for name in ("model_type", "image_token_id", "video_token_id", "table", "window_size"):
        ours, found = getattr(spec, name), getattr(theirs, name)
        if ours != found:
            raise PixelPruneError(
                f"the processor prunes for {name} {found}; the model, a {type(model).__name__}, has {ours}; expected "
                "PrunedProcessor(processor, model) with this model"
            )


# --- Calls ------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Frame:
    """One call of a module on the path; with pruned inputs if it is the one that got the plan."""

    module: Any
    tower: Any = None
    prepared: Prepared | None = None
    turns: Turns | None = None
    context: ExitStack = field(default_factory=ExitStack)


class _Frames(threading.local):
    """The calls that are running in a thread, the innermost last."""

    def __init__(self) -> None:
        self.running: list[_Frame] = []

    def enter(self, module: Any) -> _Frame:
        # A module does not call itself: one that is still here was interrupted.
        stale = next((i for i, frame in enumerate(self.running) if frame.module is module), len(self.running))
        while len(self.running) > stale:
            self.running.pop().context.close()
        self.running.append(_Frame(module))
        return self.running[-1]

    def leave(self, module: Any) -> _Frame | None:
        if self.running and self.running[-1].module is module:
            return self.running.pop()
        return None

    def pruned(self, tower: Any) -> _Frame | None:
        """Return the innermost call with pruned inputs whose model has this tower."""
        return next((frame for frame in reversed(self.running) if frame.tower is tower), None)


_FRAMES = _Frames()


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _enter(module: Any, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
    """Before the model, or a module between it and its vision tower, is called."""
    frame = _FRAMES.enter(module)
    if kwargs.get(RECORD) is not None:
        return _enter_pruned(frame, args, kwargs)
    base, tower = versions.vision_tower(module)
    if _FRAMES.pruned(tower) is not None:
        return None
    _refuse_lost(module, kwargs)
    return _continue(args, kwargs) if module is base else None


def _enter_pruned(frame: _Frame, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    module = frame.module
    if args:
        kwargs = {"input_ids": args[0], **kwargs}
        if len(args) > 1:
            raise PixelPruneError("pruned inputs are given with several positional arguments; expected model(**inputs)")
    check_empty(kwargs)
    prepared = prepare(module, kwargs)
    ready = frame.context.enter_context(helped(module, prepared))
    shown = {kind: ready[f"{kind}_grid_thw"] for kind in VALUES if ready.get(f"{kind}_grid_thw") is not None}
    frame.turns = Turns(shown)
    frame.prepared = prepared
    frame.tower = versions.vision_tower(module)[1]
    return (), ready


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _leave(module: Any, args: Args, kwargs: Kwargs, output: Any) -> None:
    """After such a call, also one that failed."""
    frame = _FRAMES.leave(module)
    if frame is None:
        return
    frame.context.close()
    if frame.prepared is not None and output is not None:
        after_forward(module, frame.prepared, output, kwargs)


def _continue(args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
    """Add the positions of tokens that come after pruned prompts, where the caller gives none."""
    cache = cache_among(kwargs)
    if memory_of(cache) is None:
        return None
    if not int(cache.get_seq_length()):
        forget(cache)
        return None
    forget_after(cache, int(cache.get_seq_length()))
    tokens = kwargs.get("input_ids", args[0] if args else None)
    tokens = kwargs.get("inputs_embeds") if tokens is None else tokens
    if kwargs.get("position_ids") is not None or tokens is None:
        return None
    places = next_positions(cache, tokens.shape[1], kwargs.get("attention_mask"))
    return args, {**kwargs, "position_ids": None if places is None else places.to(tokens.device)}


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _before_tower(tower: Any, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
    """Before the vision tower is called: give it the positions that the caller does not, or refuse flat grids."""
    grids = kwargs.get("grid_thw", args[1] if len(args) > 1 else None)
    if not isinstance(grids, torch.Tensor) or kwargs.get("position_ids") is not None:
        return None
    frame = _FRAMES.pruned(tower)
    prepared = None if frame is None else frame.prepared
    if frame is not None and prepared is not None and versions.takes_positions(prepared.plan.spec, prepared.seams):
        assert frame.turns is not None
        if matches(frame.turns.shown, grids):
            media = {"image": prepared.plan.images, "video": prepared.plan.videos}[frame.turns.next(grids)]
            side = versions.side_inputs(media, "", prepared.seams)
            return args, {**kwargs, **{name: value.to(grids.device) for name, value in side.items()}}
    if is_flat(grids):
        raise PixelPruneError(
            f"the vision tower is called with flat grids, {grids.tolist()}, and without positions: they were lost on "
            f"the way; expected a call of the model with all keys of the pruned inputs, {RECORD} included, around it"
        )
    return None


def _refuse_lost(module: Any, kwargs: Mapping[str, Any]) -> None:
    """Raise where there are flat grids but neither the plan nor all positions."""
    for kind in VALUES:
        if not is_flat(kwargs.get(f"{kind}_grid_thw")):
            continue
        names = versions.side_names(*versions.resolve(ModelSpec.from_config(versions.vision_tower(module)[0])))
        if any(kwargs.get(name) is None for name in ("position_ids", *(f"{kind}_{name}" for name in names))):
            raise PixelPruneError(
                f"the inputs have flat grids of pruned {kind}s, but no {RECORD}: keys were lost on the way; expected "
                "all keys of the pruned inputs, or inputs that are not pruned"
            )


def _generate(model: Any, *args: Any, **kwargs: Any) -> Any:
    """Stand in for ``model.generate``; pruned inputs take the way of `pixelprune.hf.generate`."""
    stock = type(model).generate
    if kwargs.get(RECORD) is None:
        _refuse_lost(model, kwargs)
        cache = cache_among(kwargs)
        if memory_of(cache) is not None and int(cache.get_seq_length()) and kwargs.get("position_ids") is None:
            raise PixelPruneError(
                "the cache is of pruned prompts, the inputs have no plan; expected the whole conversation as pruned "
                "inputs, which generate(**inputs, past_key_values=cache) goes on with"
            )
        return stock(model, *args, **kwargs)
    if args:
        raise PixelPruneError(
            f"generate is called with {len(args)} positional arguments beside pruned inputs; expected keywords only"
        )
    if kwargs.get("input_ids") is None and kwargs.get("inputs") is not None:
        kwargs["input_ids"] = kwargs.pop("inputs")  # its name in generate
    with torch.no_grad():
        return generate_prepared(model, prepare(model, kwargs))
