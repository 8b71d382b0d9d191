"""Run a model of any supported family and release on pruned inputs: forward, generate, encode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..plan import IMAGE, VIDEO, Mask, ModelSpec, Plan, kinds_of, media_of_rows, read_prompts
from . import versions
from .batch import VALUES, PrunedInputs
from .tower import plain_arguments, resolve_inputs, takes_positions, vision_positions


def forward(model: Any, inputs: Mapping[str, Any], **kwargs: Any) -> Any:
    """Call the model on pruned inputs, with any supported family and release of transformers. Differentiable.

    Args:
        model: the unchanged model.
        inputs: the output of `prune_inputs` or a `PrunedProcessor`.
        **kwargs: arguments of the model.

    Returns:
        What the model returns.

    Raises:
        PixelPruneError: as in `vision_positions`.

    Example:
        >>> from pixelprune.hf import forward
        >>> forward(model, inputs).logits.shape[1] == inputs["input_ids"].shape[1]
        True
    """
    info, seams = resolve_inputs(model, inputs)
    if takes_positions(info.plan.spec, seams):
        return model(**plain_arguments(inputs), **kwargs)
    with vision_positions(model, inputs) as ready:
        return model(**ready, **kwargs)


def generate(model: Any, inputs: PrunedInputs, **kwargs: Any) -> Any:
    """Call ``model.generate`` on pruned inputs.

    Args:
        model: the unchanged model.
        inputs: the output of `prune_inputs` or a `PrunedProcessor`.
        **kwargs: arguments of ``generate``.

    Returns:
        What ``generate`` returns: token ids that start with the pruned prompts.

    Raises:
        PixelPruneError: as in `vision_positions`; several beams or sequences per prompt with transformers before
            5.18; a prompt that ends with an image whose last token is dropped; ``use_cache=False`` with a model of one
            position per token.

    Example:
        >>> from pixelprune.hf import generate
        >>> output = generate(model, inputs, min_new_tokens=3, max_new_tokens=3, do_sample=False)
        >>> answer = output[:, inputs["input_ids"].shape[1] :]
        >>> answer.shape
        torch.Size([1, 3])
    """
    info, seams = resolve_inputs(model, inputs)
    prompts = PrunedInputs({k: v for k, v in inputs.items() if k != "labels"}, pixelprune=inputs.pixelprune)
    if info.plan.spec.rope == "1d" and not kwargs.get("use_cache", True):
        raise PixelPruneError(
            f"use_cache is {kwargs['use_cache']}; expected a cache: without one {info.plan.spec.model_type} takes a "
            "gap between positions for the start of another prompt"
        )
    with torch.no_grad():
        if seams.encoder_outputs:
            ready = encode(model, prompts)
            if "use_cache" in kwargs:
                ready.pop("use_cache", None)
            return model.generate(**ready, **kwargs)
        if seams.way == "kwargs":
            _check_ends(info.plan, *_kinds(info.plan.spec, inputs))
        with vision_positions(model, prompts) as ready:
            return model.generate(**ready, **kwargs)


def encode(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run the vision tower on the kept patches, for ``model.generate(**encode(model, inputs))``.

    ``generate`` does not take positions of patches, but it takes encoded features. It may modify them in place, so
    encode again for every call.

    Args:
        model: the unchanged model, of transformers 5.18 or later.
        inputs: the output of `prune_inputs` or a `PrunedProcessor`.

    Returns:
        Arguments of ``generate`` and of the model, with ``mm_encoder_outputs`` instead of pixels and grids.

    Raises:
        PixelPruneError: the release does not take encoded features; the inputs are not pruned; a prompt ends with an
            image whose last token is dropped.

    Example:
        >>> from pixelprune.hf import encode
        >>> output = model.generate(**encode(model, inputs), min_new_tokens=3, max_new_tokens=3, do_sample=False)
        >>> output.shape[1] - inputs["input_ids"].shape[1]
        3
    """
    info, seams = resolve_inputs(model, inputs)
    if not seams.encoder_outputs:
        raise PixelPruneError(
            f"transformers {transformers.__version__} does not take encoded features; expected 5.18 or later, or use "
            "generate, forward or vision_positions, which work with every supported release"
        )
    kinds, present = _kinds(info.plan.spec, inputs)
    _check_ends(info.plan, kinds, present)
    outputs = {}
    base, _ = versions.vision_tower(model)
    with vision_positions(model, inputs) as ready:
        for kind, values in VALUES.items():
            if values in ready:
                side = {k: v for k, v in ready.items() if k.startswith(f"{kind}_") and k != f"{kind}_grid_thw"}
                features = getattr(base, f"get_{kind}_features")
                found = features(ready[values], ready[f"{kind}_grid_thw"], return_dict=True, **side)
                outputs[kind] = _by_row(found, _row_counts(kinds, kind))
    dropped = (*VALUES.values(), "second_per_grid_ts", "seq_lengths")
    rest = {k: v for k, v in inputs.items() if not k.startswith(("image_", "video_")) and k not in dropped}
    if info.plan.spec.rope == "1d":  # see generate
        rest["use_cache"] = True
    return {**rest, "mm_encoder_outputs": outputs} if outputs else rest


def _kinds(spec: ModelSpec, inputs: Mapping[str, Any]) -> tuple[NDArray[np.int8], Mask]:
    """Return `TEXT`, `IMAGE` or `VIDEO` for every entry of the prompts, and which entries are tokens, not padding."""
    ids, present = read_prompts(inputs["input_ids"].cpu(), _cpu(inputs.get("attention_mask")))
    return kinds_of(ids, present, spec), present


def _check_ends(plan: Plan, kinds: NDArray[np.int8], present: Mask) -> None:
    """Refuse prompts that end with a dropped token: generation would continue from the wrong position."""
    for kind, media in ((IMAGE, plan.images), (VIDEO, plan.videos)):
        for row, indices in enumerate(media_of_rows((kinds == kind).sum(axis=1), media)):
            if not indices or kinds[row, present[row]][-1] != kind:
                continue
            last = media.selections[indices[-1]]
            if last.keep[-1] != last.total - 1:
                raise PixelPruneError(
                    f"prompt {row} ends with an image whose last token is dropped; expected text after it, such as "
                    "a chat template adds"
                )


def _row_counts(kinds: NDArray[np.int8], kind: str) -> list[int]:
    """Return the number of image (or video) placeholders per row, without the rows that have none."""
    counts = (kinds == (IMAGE if kind == "image" else VIDEO)).sum(axis=1)
    return [int(count) for count in counts if count]


def _cpu(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.cpu()


def _by_row(features: Any, counts: list[int]) -> Any:
    """Merge the features of all images of a row into one entry.

    ``generate`` repeats entries for beams. Before 5.23, the copies of several entries of a row would end up in the
    wrong rows.
    """

    def merged(entries: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        return list(torch.cat(list(entries)).split(counts))  # type: ignore[no-untyped-call]

    features.pooler_output = merged(features.pooler_output)
    if getattr(features, "deepstack_features", None) is not None:
        features.deepstack_features = [merged(layer) for layer in features.deepstack_features]
    return features
