"""Run a model of any supported family and release on pruned inputs: forward and generate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import transformers

from ..errors import PixelPruneError
from ..plan import kinds_of
from . import versions
from .apply import prompts_of
from .caches import (
    CACHE_NAMES,
    cache_among,
    cache_of,
    check_empty,
    check_reusable,
    forget,
    remember,
    remember_prompt,
)
from .encoding import check_ends, encode_prepared
from .prepared import Prepared, prepare
from .releases import VERSION
from .tower import helped


def forward(model: Any, inputs: Mapping[str, Any], **kwargs: Any) -> Any:
    """Call the model on pruned inputs, with any supported family and release of transformers. Differentiable.

    Args:
        model: the unchanged model.
        inputs: the output of `prune_inputs` or a `PrunedProcessor`.
        **kwargs: arguments of the model.

    Returns:
        What the model returns.

    Raises:
        PixelPruneError: as in `vision_positions`; a cache that is not empty.

    Example:
        >>> from pixelprune.hf import forward
        >>> forward(model, inputs).logits.shape[1] == inputs["input_ids"].shape[1]
        True
    """
    check_empty({**inputs, **kwargs})
    prepared = prepare(model, inputs)
    with helped(model, prepared) as ready:
        output = model(**ready, **kwargs)
    after_forward(model, prepared, output, kwargs)
    return output


def after_forward(model: Any, prepared: Prepared, output: Any, kwargs: Mapping[str, Any]) -> None:
    """Prepare decoding steps that come without positions: set ``rope_deltas`` as the model's own forward does.

    The cache, in ``output`` or given to the model in ``kwargs``, is marked for attached models.
    """
    cache = cache_of(output)
    remember(cache_among(kwargs) if cache is None else cache, prepared)
    base, _ = versions.vision_tower(model)
    deltas = prepared.rope_deltas
    if deltas is None or not hasattr(base, "rope_deltas") or prepared.seams.way == "methods":
        return  # nothing to decode, or it has set them itself
    if prepared.seams.deltas_count_padding:
        deltas = deltas - (prepared.arguments["attention_mask"] == 0).sum(dim=1, keepdim=True)
    base.rope_deltas = deltas


def generate(model: Any, inputs: Mapping[str, Any], **kwargs: Any) -> Any:
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
    with torch.no_grad():
        prepared = prepare(model, inputs)
        return generate_prepared(model, replace(prepared, arguments={**prepared.arguments, **kwargs}))


def generate_prepared(model: Any, prepared: Prepared) -> Any:
    """See `generate`; its keyword arguments are among the arguments."""
    spec, seams = prepared.plan.spec, prepared.seams
    if prepared.arguments.get("input_ids") is None:
        raise PixelPruneError("generate has no input_ids; expected those of the pruned inputs, as input_ids=")
    cache = cache_among(prepared.arguments)
    dropped = {"labels"} if cache is None else {"labels", *CACHE_NAMES}
    arguments = {name: value for name, value in prepared.arguments.items() if name not in dropped}
    if cache is not None:
        arguments[versions.CACHE] = cache
    prepared = replace(prepared, arguments=arguments)
    if spec.rope == "1d" and not arguments.get("use_cache", True):
        raise PixelPruneError(
            f"use_cache is {arguments['use_cache']}; expected a cache: without one {spec.model_type} takes a gap "
            "between positions for the start of another prompt"
        )
    cached = 0 if cache is None else int(cache.get_seq_length())
    if cached and not seams.encoder_outputs:
        raise PixelPruneError(
            f"the cache holds {cached} tokens; transformers {transformers.__version__} can't go on with pruned prompts "
            "(expected 5.18 or later, or an empty cache)"
        )
    if cached and "moe_mm_token_type_ids" in arguments and VERSION < (5, 24):
        raise PixelPruneError(  # its generate does not cut them to the new tokens
            f"the cache holds {cached} tokens; {spec.model_type} of transformers {transformers.__version__} can't go "
            "on with a cache (expected 5.24 or later, or an empty cache)"
        )
    if cached:
        check_reusable(cache, prepared)
        forget(cache)  # until it is done: if it fails, the cache holds other tokens
    if seams.encoder_outputs:
        output = model.generate(**encode_prepared(model, prepared, cached))
    else:
        ids, present = prompts_of(arguments)
        if seams.way == "kwargs":
            check_ends(prepared.plan, kinds_of(ids, present, spec), present)
        with helped(model, prepared) as ready:
            output = model.generate(**ready)
    remember_prompt(cache, prepared, output)
    return output
