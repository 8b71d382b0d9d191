"""Running a model on pruned inputs where its plain call needs help: finished features, or a helped vision tower."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..plan import ModelSpec, Plan, VisionPlan
from ..plan.tokens import IMAGE, VIDEO, Mask, kinds_of, media_of_rows, read_prompts
from . import versions
from .inputs import Pruned, PrunedInputs

_VALUES = {"image": "pixel_values", "video": "pixel_values_videos"}


def forward(model: Any, inputs: Mapping[str, Any], **kwargs: Any) -> Any:
    """Call the model on pruned inputs, whatever its family and the release of transformers. Gradients flow.

    Args:
        model: the unchanged model.
        inputs: what `prune_inputs` or a `PrunedProcessor` returned.
        **kwargs: arguments of the model.

    Returns:
        What the model returns.

    Raises:
        PixelPruneError: as in `vision`.

    Example:
        >>> from pixelprune.hf import forward
        >>> forward(model, inputs).logits.shape[1] == inputs["input_ids"].shape[1]
        True
    """
    with vision(model, inputs) as ready:
        return model(**ready, **kwargs)


def generate(model: Any, inputs: PrunedInputs, **kwargs: Any) -> Any:
    """Call ``model.generate`` on pruned inputs.

    Args:
        model: the unchanged model.
        inputs: what `prune_inputs` or a `PrunedProcessor` returned.
        **kwargs: arguments of ``generate``.

    Returns:
        What ``generate`` returns: token ids begin with the pruned prompts.

    Raises:
        PixelPruneError: as in `vision`; several beams or sequences per prompt with transformers before 5.18; a prompt
            that ends with an image whose last token is dropped; no cache, with models of one position per token.

    Example:
        >>> from pixelprune.hf import generate
        >>> output = generate(model, inputs, min_new_tokens=3, max_new_tokens=3, do_sample=False)
        >>> answer = output[:, inputs["input_ids"].shape[1] :]
        >>> answer.shape
        torch.Size([1, 3])
    """
    info, seams = _resolve(inputs)
    prompts = PrunedInputs({k: v for k, v in inputs.items() if k != "labels"}, pixelprune=inputs.pixelprune)
    if info.plan.spec.rope == "1d" and not kwargs.get("use_cache", True):
        raise PixelPruneError(
            f"use_cache is {kwargs['use_cache']}; expected a cache: without one {info.plan.spec.model_type} takes gaps "
            "between positions for the begin of another prompt"
        )
    with torch.no_grad():
        if seams.encoder_outputs:
            ready = encode(model, prompts)
            if "use_cache" in kwargs:
                ready.pop("use_cache", None)
            return model.generate(**ready, **kwargs)
        if seams.way == "kwargs":
            _check_ends(info.plan, *_kinds(info.plan.spec, inputs))
        with vision(model, prompts) as ready:
            return model.generate(**ready, **kwargs)


def encode(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run the vision tower on the kept patches, for ``model.generate(**encode(model, inputs))``.

    ``generate`` takes no positions of patches, but it takes finished features. It may change them in place, so
    encode again for every call.

    Args:
        model: the unchanged model, of transformers 5.18 or later.
        inputs: what `prune_inputs` or a `PrunedProcessor` returned.

    Returns:
        Arguments of ``generate`` and of the model: ``mm_encoder_outputs`` in the place of pixels and grids.

    Raises:
        PixelPruneError: the release takes no features, or the inputs are not pruned; a prompt ends with an image whose
            last token is dropped.

    Example:
        >>> from pixelprune.hf import encode
        >>> output = model.generate(**encode(model, inputs), min_new_tokens=3, max_new_tokens=3, do_sample=False)
        >>> output.shape[1] - inputs["input_ids"].shape[1]
        3
    """
    info, seams = _resolve(inputs)
    if not seams.encoder_outputs:
        raise PixelPruneError(
            f"transformers {transformers.__version__} takes no finished features; expected 5.18 or later, or use "
            "generate, forward or vision, which run with every supported release"
        )
    kinds, present = _kinds(info.plan.spec, inputs)
    _check_ends(info.plan, kinds, present)
    outputs = {}
    base, _ = versions.vision_tower(model)
    with vision(model, inputs) as ready:
        for kind, values in _VALUES.items():
            if values in ready:
                side = {k: v for k, v in ready.items() if k.startswith(f"{kind}_") and k != f"{kind}_grid_thw"}
                features = getattr(base, f"get_{kind}_features")
                found = features(ready[values], ready[f"{kind}_grid_thw"], return_dict=True, **side)
                outputs[kind] = _by_row(found, _row_counts(kinds, kind))
    dropped = (*_VALUES.values(), "second_per_grid_ts", "seq_lengths")
    rest = {k: v for k, v in inputs.items() if not k.startswith(("image_", "video_")) and k not in dropped}
    if info.plan.spec.rope == "1d":  # see generate
        rest["use_cache"] = True
    return {**rest, "mm_encoder_outputs": outputs} if outputs else rest


def _kinds(spec: ModelSpec, inputs: Mapping[str, Any]) -> tuple[NDArray[np.int8], Mask]:
    """Text, image or video for every entry of the prompts, and which of them are no padding."""
    ids, present = read_prompts(inputs["input_ids"].cpu(), _cpu(inputs.get("attention_mask")))
    return kinds_of(ids, present, spec), present


def _check_ends(plan: Plan, kinds: NDArray[np.int8], present: Mask) -> None:
    """A prompt goes on after its last token's position, which has to be where the whole prompt ends."""
    for kind, media in ((IMAGE, plan.images), (VIDEO, plan.videos)):
        for row, indices in enumerate(media_of_rows((kinds == kind).sum(axis=1), media)):
            if not indices or kinds[row, present[row]][-1] != kind:
                continue
            last = media.selections[indices[-1]]
            if last.keep[-1] != last.total - 1:
                raise PixelPruneError(
                    f"prompt {row} ends with an image whose last token is dropped; expected text behind it, such as "
                    "a chat template writes"
                )


def _row_counts(kinds: NDArray[np.int8], kind: str) -> list[int]:
    """How many placeholders of images (or of videos) the rows have; rows without are left out."""
    counts = (kinds == (IMAGE if kind == "image" else VIDEO)).sum(axis=1)
    return [int(count) for count in counts if count]


def _cpu(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.cpu()


def _by_row(features: Any, counts: list[int]) -> Any:
    """Put all images of a row into one entry.

    ``generate`` repeats entries for beams. Several of a row would stand side by side with their own copies in releases
    before 5.23, and get to the wrong row.
    """

    def merged(entries: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        return list(torch.cat(list(entries)).split(counts))  # type: ignore[no-untyped-call]

    features.pooler_output = merged(features.pooler_output)
    if getattr(features, "deepstack_features", None) is not None:
        features.deepstack_features = [merged(layer) for layer in features.deepstack_features]
    return features


@contextmanager
def vision(model: Any, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Help a model's vision tower to the right positions while the context lasts.

    Args:
        model: the unchanged model; hooks or attributes that are set on its vision tower are gone afterwards.
        inputs: what `prune_inputs` or a `PrunedProcessor` returned.

    Yields:
        Arguments for ``model(**ready)``, and for ``model.generate(**ready)`` with transformers before 5.18.

    Raises:
        PixelPruneError: the inputs are not pruned; the tower is called with other images than those of the inputs
            (several beams repeat them: that takes 5.18 or later).

    Example:
        >>> from pixelprune.hf import vision
        >>> with vision(model, inputs) as ready:
        ...     logits = model(**ready).logits
        >>> logits.shape[1] == inputs["input_ids"].shape[1]
        True
    """
    info, seams = _resolve(inputs)
    spec = info.plan.spec
    ready = dict(inputs)
    ready.pop("seq_lengths", None)
    if seams.way == "kwargs" and spec.seam == "flat" and seams.encoder_outputs:
        yield ready  # the model takes everything by itself
        return
    media = {"image": info.plan.images, "video": info.plan.videos}
    shown = {}
    for kind, plan in media.items():
        if len(plan):
            shown[kind] = grids = _shown_grids(plan, seams).to(inputs[_VALUES[kind]].device)
            ready[f"{kind}_grid_thw"] = grids
    base, tower = versions.vision_tower(model)
    with ExitStack() as stack:
        if seams.way == "kwargs":
            ready = {
                k: v for k, v in ready.items() if not k.startswith(("image_", "video_")) or k.endswith("_grid_thw")
            }
            hook = _hook(media, shown, seams, spec)
            stack.enter_context(_removed(tower.register_forward_pre_hook(hook, with_kwargs=True)))
        else:
            ready.pop("position_ids", None)
            for name, method in _methods(tower, media, shown, spec):
                stack.enter_context(_attribute(tower, name, method))
            stack.enter_context(_attribute(base, "get_rope_index", _rope_index(info, inputs)))
        yield ready


def _resolve(inputs: Mapping[str, Any]) -> tuple[Pruned, versions.Seams]:
    info = getattr(inputs, "pixelprune", None)
    if info is None:
        raise PixelPruneError("the inputs know no plan: expected what prune_inputs or a PrunedProcessor returned")
    return info, versions.resolve(info.plan.spec)[1]


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
    """Tells which of images and videos a call of the vision tower is for: they take turns, images first."""

    def __init__(self, shown: dict[str, torch.Tensor]) -> None:
        self.shown = shown
        self.kinds = list(shown)
        self.calls = 0

    def next(self, grids: torch.Tensor) -> str:
        kind = self.kinds[self.calls % len(self.kinds)] if self.kinds else "none"
        self.calls += 1
        self.check(kind, grids)
        return kind

    def check(self, kind: str, grids: torch.Tensor) -> None:
        expected = self.shown.get(kind)
        if expected is None or grids.shape != expected.shape or not bool((grids == expected.to(grids.device)).all()):
            raise PixelPruneError(
                f"the vision tower is called with grids {grids.tolist()}; expected "
                f"{None if expected is None else expected.tolist()}: one call per modality with the images of these "
                "inputs (several beams or sequences per prompt take transformers 5.18 or later)"
            )


def _hook(
    media: dict[str, VisionPlan], shown: dict[str, torch.Tensor], seams: versions.Seams, spec: ModelSpec
) -> Callable[..., Any]:
    """A pre-hook that adds positions, and replaces the grids where the tower reads them as geometry."""
    turns = _Turns(shown)

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        grids = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
        plan = media[turns.next(grids)]
        given = {name: tensor.to(grids.device) for name, tensor in versions.side_inputs(plan, "", seams).items()}
        if spec.seam == "tower":
            given["grid_thw"] = torch.as_tensor(_frames(plan)).to(grids.device)
            args = args[:1]
        return args, {**kwargs, **given}

    return hook


def _methods(
    tower: Any, media: dict[str, VisionPlan], shown: dict[str, torch.Tensor], spec: ModelSpec
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The methods that towers before 5.9 ask for positions; their answers for whole images, cut to the kept patches."""

    def rows_of(name: str) -> Callable[..., Any]:
        whole = getattr(tower, name)
        turns = _Turns(shown)

        def method(grids: torch.Tensor) -> torch.Tensor:
            plan = media[turns.next(grids)]
            answer: torch.Tensor = whole(torch.as_tensor(plan.grids).to(grids.device))
            return answer[torch.as_tensor(plan.patch_indices).to(answer.device)]

        return method

    yield "rot_pos_emb", rows_of("rot_pos_emb")
    if spec.table is not None:
        yield "fast_pos_embed_interpolate", rows_of("fast_pos_embed_interpolate")
    if spec.window_size is not None:
        turns = _Turns(shown)

        def windows(grids: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
            plan = media[turns.next(grids)]
            assert plan.window_index is not None
            assert plan.cu_window_seqlens is not None
            return torch.as_tensor(plan.window_index).to(grids.device), plan.cu_window_seqlens.tolist()

        yield "get_window_index", windows


def _rope_index(info: Pruned, inputs: Mapping[str, Any]) -> Callable[..., Any]:
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


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


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
