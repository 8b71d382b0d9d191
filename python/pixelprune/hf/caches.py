"""What the caches of pruned prompts were made from, so that a chat can go on with the tokens that it still has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..plan import Mask, ModelSpec, Plan, kinds_of
from .apply import positions_of, prompts_of, spans
from .batch import RECORD, VALUES
from .convert import to_numpy
from .prepared import Prepared
from .record import read_plan

CACHE_NAMES = ("cache", "past_key_values")
"""The names that releases of transformers have for a cache."""

_NAME = "_pixelprune"
"""The attribute of a cache that holds its `Memory`: copies of the cache have it too."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Prompts:
    """Prompts as far as a cache depends on them.

    Attributes:
        ids: int64 (rows, length); 0 at padding.
        present: bool (rows, length): no padding.
        positions: int64 (..., rows, length).
        images: of every image and video, by (row, first column): its last column + 1, and a digest of what is kept.
    """

    ids: NDArray[np.int64]
    present: Mask
    positions: NDArray[np.int64]
    images: dict[Span, tuple[int, bytes]]

    def first(self, columns: int) -> Prompts:
        """Return the same of the first columns; images that are not among them as a whole are left out."""
        images = {span: image for span, image in self.images.items() if image[0] <= columns}
        return Prompts(self.ids[:, :columns], self.present[:, :columns], self.positions[..., :columns], images)


@dataclass(frozen=True)
class Memory:
    """What is known of a cache.

    Attributes:
        spec: the model.
        length: columns of the prompts, padding included.
        padding: int64 (rows, 1): columns of padding in each.
        deltas: int64 (rows, 1), see `pixelprune.plan.Positions`.
        prompts: the prompts and the tokens generated after them; None: the cache can't be reused for other prompts.
    """

    spec: ModelSpec
    length: int
    padding: torch.Tensor
    deltas: torch.Tensor
    prompts: Prompts | None = None


def cache_among(arguments: Mapping[str, Any]) -> Any:
    """Return the cache among arguments of a model or of ``generate``, whatever the release calls it; None without."""
    for name in CACHE_NAMES:
        if hasattr(arguments.get(name), "get_seq_length"):
            return arguments[name]
    return None


def cache_of(output: Any) -> Any:
    """Return the cache in the output of a model or of ``generate``; None if there is none."""
    if isinstance(output, Mapping):
        return cache_among(output)
    parts = output if isinstance(output, tuple) else ()
    return next((part for part in parts if hasattr(part, "get_seq_length")), None)


def memory_of(cache: Any) -> Memory | None:
    """Return what is known of a cache; None if it is not of pruned prompts."""
    return getattr(cache, _NAME, None)


def forget(cache: Any) -> None:
    """Forget what is known of a cache that is filled anew."""
    if memory_of(cache) is not None:
        delattr(cache, _NAME)


def forget_after(cache: Any, length: int) -> None:
    """Forget what is known of a cache beyond its first columns, which other tokens are put after."""
    memory = memory_of(cache)
    if memory is not None and memory.prompts is not None and length < memory.prompts.ids.shape[1]:
        setattr(cache, _NAME, replace(memory, prompts=memory.prompts.first(length)))


def check_empty(arguments: Mapping[str, Any]) -> None:
    """Raise if there is a cache among the arguments of a model's forward pass on pruned inputs, and it has tokens."""
    cache = cache_among(arguments)
    if cache is not None and int(cache.get_seq_length()):
        raise PixelPruneError(
            f"pruned inputs are given with a cache that holds {int(cache.get_seq_length())} tokens; expected an empty "
            "cache; a conversation goes on with generate(model, inputs, past_key_values=cache)"
        )


def remember(cache: Any, prepared: Prepared, prompts: Prompts | None = None) -> None:
    """Keep in mind what a cache was filled with."""
    ids, deltas = prepared.arguments.get("input_ids"), prepared.rope_deltas
    if cache is None or ids is None or deltas is None:
        return
    mask = prepared.arguments.get("attention_mask")
    padding = torch.zeros_like(deltas) if mask is None else (mask == 0).sum(dim=1, keepdim=True)
    setattr(cache, _NAME, Memory(prepared.plan.spec, ids.shape[1], padding, deltas, prompts))


def next_positions(cache: Any, length: int, attention_mask: Any) -> torch.Tensor | None:
    """Return the positions of ``length`` tokens after those of a cache; None if it is not of pruned prompts.

    Raises:
        PixelPruneError: the cache was cut within its prompt.
    """
    memory = memory_of(cache)
    if memory is None:
        return None
    cached = int(cache.get_seq_length())
    if cached < memory.length:
        raise PixelPruneError(
            f"the cache holds {cached} tokens of a pruned prompt of {memory.length}; expected all of them, or the "
            "whole conversation for generate(model, inputs, past_key_values=cache)"
        )
    deltas = memory.deltas
    if isinstance(attention_mask, torch.Tensor) and attention_mask.shape[1:] == (cached + length,):
        count = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -length:].to(deltas.device)
    else:
        count = torch.arange(cached, cached + length, device=deltas.device) - memory.padding
    places = count + deltas
    return places if memory.spec.rope == "1d" else torch.stack([count, places, places, places])


def remember_prompt(cache: Any, prepared: Prepared, output: Any) -> None:
    """Keep in mind what ``generate`` has filled a cache with, if anybody has the cache."""
    cache = cache_of(output) if cache is None else cache
    sequences = output["sequences"] if isinstance(output, Mapping) else output
    if cache is None or prepared.rope_deltas is None:
        return
    forget(cache)
    rows, length = prepared.arguments["input_ids"].shape
    cached = int(cache.get_seq_length())
    if len(sequences) == rows and length <= cached <= sequences.shape[1] and _rows_of(cache) in (None, rows):
        prompts = describe(prepared.plan, prepared.arguments)
        more = sequences[:, length:cached].cpu().numpy()
        steps = np.arange(cached - length) + prompts.present.sum(axis=1, keepdims=True)
        places = steps + prepared.rope_deltas.cpu().numpy()
        if prepared.plan.spec.rope != "1d":
            places = np.stack([steps, places, places, places])
        prompts = Prompts(
            np.concatenate([prompts.ids, more], axis=1),
            np.concatenate([prompts.present, np.ones(more.shape, np.bool_)], axis=1),
            np.concatenate([prompts.positions, places], axis=-1),
            prompts.images,
        )
        remember(cache, prepared, prompts)


def _rows_of(cache: Any) -> int | None:
    """Return the rows that a cache was made for: several per prompt with beams."""
    keys = [getattr(layer, "keys", None) for layer in getattr(cache, "layers", ())]
    return next((len(key) for key in keys if isinstance(key, torch.Tensor) and key.ndim > 1), None)


def describe(plan: Plan, inputs: Mapping[str, Any]) -> Prompts:
    """Return what a cache of these inputs depends on."""
    ids, present = prompts_of(inputs)
    given = to_numpy(inputs.get("position_ids"), "position_ids")
    positions = positions_of(plan, inputs).position_ids if given is None else given
    kinds = kinds_of(ids, present, plan.spec)
    images: dict[Span, tuple[int, bytes]] = {}
    for kind, key in VALUES.items():
        media = plan.images if kind == "image" else plan.videos
        patches = media.kept * plan.spec.vision.merge_size**2
        ends = np.cumsum(patches)
        for i, (row, start, end) in enumerate(spans(plan, kinds, kind)):
            digest = hashlib.blake2b(digest_size=16)
            digest.update(repr((kind, media.selections[i].grid_thw)).encode())
            digest.update(media.selections[i].keep.tobytes())
            rows = inputs[key][ends[i] - patches[i] : ends[i]].detach().cpu().contiguous()
            digest.update(rows.view(torch.uint8).numpy().tobytes())
            images[row, start] = end, digest.digest()
    return Prompts(np.where(present, ids, 0), present, positions, images)


def reusable(cache: Any, inputs: Mapping[str, Any]) -> int:
    """Return how many tokens of a cache a conversation can go on with.

    A cache that was passed to `generate` (or came out of it, with ``return_dict_in_generate=True``) knows the prompts
    and generated tokens that it was filled with. Those at the start that are the same in ``inputs`` don't have to be
    computed again: same ids, positions and images. An image counts as a whole. At least one token is left to compute.
    Where the cache has more, call ``cache.crop(reusable(cache, inputs) - cache.get_seq_length())`` before `generate`.

    Args:
        cache: the cache of an earlier turn, a ``Cache`` of transformers.
        inputs: the whole conversation, pruned: the output of `prune_inputs` or a `PrunedProcessor`.

    Returns:
        The number of tokens, padding included. 0 for a cache that `generate` did not fill.

    Raises:
        PixelPruneError: the inputs are not pruned.

    Example:
        >>> from transformers import DynamicCache
        >>> from pixelprune.hf import generate, reusable
        >>> cache = DynamicCache()
        >>> output = generate(model, inputs, past_key_values=cache, min_new_tokens=3, max_new_tokens=3)
        >>> output.shape[1] - cache.get_seq_length(), inputs["input_ids"].shape[1] - reusable(cache, inputs)
        (1, 1)
    """
    memory = memory_of(cache)
    if memory is None or memory.prompts is None:
        return 0
    info, record = getattr(inputs, "pixelprune", None), inputs.get(RECORD)
    if info is None and record is None:
        raise PixelPruneError("the inputs have no plan; expected the output of prune_inputs or a PrunedProcessor")
    plan = read_plan(record, memory.spec) if info is None else info.plan
    return _common(memory.prompts, describe(plan, inputs), int(cache.get_seq_length()))


def check_reusable(cache: Any, prepared: Prepared) -> None:
    """Raise unless the prompts go on where the cache ends."""
    memory, cached = memory_of(cache), int(cache.get_seq_length())
    if memory is None or memory.prompts is None:
        raise PixelPruneError(
            f"the cache holds {cached} tokens that are not known; expected an empty cache, or one that "
            "pixelprune.hf.generate (or generate of an attached model) has filled, one sequence per prompt"
        )
    common = _common(memory.prompts, describe(prepared.plan, prepared.arguments), cached)
    if common < cached:
        raise PixelPruneError(
            f"the cache holds {cached} tokens, of which the first {common} are those of the prompt; expected a prompt "
            f"that goes on where the cache ends: call cache.crop({common - cached}) first, or use a new cache"
            + (" (recurrent layers can't be cropped)" if memory.spec.recurrent else "")
        )


def _common(one: Prompts, two: Prompts, cached: int) -> int:
    """Return how many columns of ``one``, up to ``cached``, can stand for those of ``two``."""
    if len(one.ids) != len(two.ids):
        return 0
    most = min(cached, one.ids.shape[1], two.ids.shape[1] - 1)
    same = (one.ids[:, :most] == two.ids[:, :most]) & (one.present[:, :most] == two.present[:, :most])
    places = (one.positions[..., :most] == two.positions[..., :most]).reshape(-1, len(one.ids), most).all(axis=0)
    differs = np.flatnonzero(~(same & (places | ~one.present[:, :most])).all(axis=0))
    common = int(differs[0]) if len(differs) else most
    starts = sorted({start for images in (one.images, two.images) for _, start in images}, reverse=True)
    for start in starts:  # from the last image to the first
        for row in range(len(one.ids)):
            found, wanted = one.images.get((row, start)), two.images.get((row, start))
            if start < common and (found != wanted or (wanted is not None and wanted[0] > common)):
                common = start
    return common
