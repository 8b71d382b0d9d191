"""The results that pruning must give, without pruning: the stock model with the keys of dropped patches masked.

A dropped token is attended to by nobody, so that for the kept ones it is as if it had never been there. Nothing here
knows how pixelprune computes positions, window indices or interpolation taps: they are those of the stock model on
the whole image. Rows are taken one by one, without padding. Where a language model has recurrent layers, to which
a mask is not the same as absence, its unpruned inputs (embeddings and positions) are cut instead.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Keep = Sequence[npt.NDArray[np.bool_]]
"""For each image (or video), which tokens are kept: a mask of ``t * rows * cols``, row-major."""


# --- What is kept -------------------------------------------------------------------------------------------


def placeholders(config: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the tokens of images and of videos stand in ``ids`` (L,)."""
    if hasattr(config, "video_end_token_id"):  # GLM: the frames of a video hold image tokens
        begun = (ids == config.video_start_token_id).cumsum(0)
        ended = (ids == config.video_end_token_id).cumsum(0)
        here = ids == config.image_token_id
        return here & (begun <= ended), here & (begun > ended)
    return ids == config.image_token_id, ids == config.video_token_id


def kept_tokens(config: Any, inputs: Mapping[str, Any], keep: Keep, video_keep: Keep = ()) -> torch.Tensor:
    """Return the mask (L,) of the tokens of an unpruned prompt that stay."""
    [ids] = inputs["input_ids"]
    kept = torch.ones(len(ids), dtype=torch.bool)
    for where, masks in zip(placeholders(config, ids), (keep, video_keep), strict=True):
        flat = torch.from_numpy(np.concatenate([np.ravel(mask) for mask in masks] or [np.ones(0, bool)]))
        assert int(where.sum()) == len(flat), "masks do not fit the prompt"
        kept[where] = flat
    return kept


def kept_patches(keep: Keep, grids: torch.Tensor, order: str) -> torch.Tensor:
    """Return the mask of the rows of ``pixel_values`` that stay, in the processor's order of patches."""
    parts = []
    for mask, (t, h, w) in zip(keep, grids.tolist(), strict=True):
        merge = math.isqrt(t * h * w // mask.size)
        tokens = mask.reshape(t, h // merge, w // merge)
        if order == "raster":
            parts.append(tokens.repeat(merge, axis=1).repeat(merge, axis=2).ravel())
        else:
            parts.append(tokens.ravel().repeat(merge * merge))
    return torch.from_numpy(np.concatenate(parts))


def tower_of(model: Any) -> Any:
    """Return the vision tower."""
    return next(part for name, part in model.model.named_children() if name.startswith("vis"))


def positions(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return the stock position ids of the unpruned prompt: (3, 1, L), or (1, L) of models with one per token."""
    if not hasattr(model.model, "get_rope_index"):
        return torch.arange(inputs["input_ids"].shape[1])[None]
    given = {name: inputs[name] for name in inspect.signature(model.model.get_rope_index).parameters if name in inputs}
    if "second_per_grid_ts" in given:  # a list in some versions
        given["second_per_grid_ts"] = torch.as_tensor(given["second_per_grid_ts"])
    found: torch.Tensor = model.model.get_rope_index(**given)[0]
    return found


# --- The masked tower ---------------------------------------------------------------------------------------


class _Found(Exception):
    """Ends a forward pass early, once the wanted value is known."""


def _order_of_patches(visual: Any, pixels: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    """Return which patch stands where in the blocks of a tower: windows permute them.

    The numbers of the patches are sent through the tower in place of their embeddings.
    """
    seen: list[torch.Tensor] = []

    def numbers(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(output), dtype=output.dtype)[:, None].expand_as(output)

    def look(module: Any, args: Any, kwargs: Any) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"])[:, 0])
        raise _Found

    hooks = [
        visual.patch_embed.register_forward_hook(numbers),
        visual.blocks[0].register_forward_pre_hook(look, with_kwargs=True),
    ]
    try:
        with suppress(_Found):
            visual(pixels, grid_thw=grids)
    finally:
        for hook in hooks:
            hook.remove()
    [order] = seen
    order = order.long()
    assert torch.equal(order.sort().values, torch.arange(len(pixels)))
    return order


@contextmanager
def masked_tower(
    model: Any, inputs: Mapping[str, Any], keep: Keep, video_keep: Keep = (), order: str = "block"
) -> Iterator[None]:
    """Inside this context, no patch of the vision tower attends to a dropped patch."""
    visual = tower_of(model)
    modules = [module for module in visual.modules() if type(module).__name__.endswith("VisionAttention")]
    masks: list[tuple[torch.Tensor, torch.Tensor]] = []
    for pixels, grid, kept in (
        ("pixel_values", "image_grid_thw", keep),
        ("pixel_values_videos", "video_grid_thw", video_keep),
    ):
        if pixels in inputs:
            patches = kept_patches(kept, inputs[grid], order)
            if hasattr(visual.config, "window_size"):
                patches = patches[_order_of_patches(visual, inputs[pixels], inputs[grid])]
            assert len(patches) == len(inputs[pixels])
            masks.append((inputs[pixels], patches))
    now: dict[str, torch.Tensor] = {}
    read = dict.fromkeys(modules, 0)
    done = dict.fromkeys(modules, 0)
    stock = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def enter(module: Any, args: Any, kwargs: Any) -> None:
        """Find out whether the tower is called for the images or for the videos."""
        given = (args or (kwargs.get("pixel_values", kwargs.get("hidden_states")),))[0].flatten()
        found = [mask for pixels, mask in masks if torch.equal(pixels.flatten(), given)]
        assert len(found) == 1
        now["mask"] = found[0]
        read.update(dict.fromkeys(modules, 0))

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **rest: Any) -> Any:
        if module in read:
            assert attention_mask is None
            start, stop = read[module], read[module] + key.shape[2]
            kept = now["mask"][start:stop]
            assert len(kept) == key.shape[2]
            read[module] = stop
            done[module] += key.shape[2]
            if kept.any():  # else all of these patches are dropped, and what they see does not matter
                attention_mask = kept.expand(1, 1, query.shape[2], -1)
        return stock(module, query, key, value, attention_mask, **rest)

    assert model.config._attn_implementation == visual.config._attn_implementation == "sdpa"
    hook = visual.register_forward_pre_hook(enter, with_kwargs=True)
    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = stock
        hook.remove()
    total = sum(len(mask) for _, mask in masks)
    assert set(done.values()) == {total}, "a layer was not masked, or masked twice"


_NAMES = (
    "input_ids",
    "pixel_values",
    "image_grid_thw",
    "image_merge_sizes",
    "pixel_values_videos",
    "video_grid_thw",
    "moe_mm_token_type_ids",
)
"""What the stock models are given."""


# --- The answers --------------------------------------------------------------------------------------------


def _prompt(model: Any, inputs: Mapping[str, Any], keep: Keep, video_keep: Keep) -> tuple[dict[str, Any], torch.Tensor]:
    """Return arguments of the stock model that mask the dropped tokens of the language model, and the kept ones."""
    assert len(inputs["input_ids"]) == 1
    assert bool(inputs["attention_mask"].all()), "give one row, without padding"
    kept = kept_tokens(model.config, inputs, keep, video_keep)
    given = {name: inputs[name] for name in _NAMES if name in inputs}
    return {**given, "attention_mask": kept[None].long(), "position_ids": positions(model, inputs)}, kept


def logits(
    model: Any, inputs: Mapping[str, Any], keep: Keep, video_keep: Keep = (), order: str = "block"
) -> torch.Tensor:
    """Return the logits (kept tokens, vocabulary) that the pruned prompt must give. Differentiable."""
    given, kept = _prompt(model, inputs, keep, video_keep)
    with masked_tower(model, inputs, keep, video_keep, order):
        found: torch.Tensor = model(**given, use_cache=False).logits
    return found[0, kept]


def cut(
    model: Any, inputs: Mapping[str, Any], keep: Keep, video_keep: Keep = (), order: str = "block"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embeddings (1, kept, D) and positions (3, 1, kept) that the language model must be given."""
    given, kept = _prompt(model, inputs, keep, video_keep)
    seen: list[torch.Tensor] = []

    def look(module: Any, args: Any, kwargs: Any) -> None:
        assert kwargs.get("deepstack_visual_embeds") is None
        seen.append(kwargs["inputs_embeds"])
        raise _Found

    hook = model.model.language_model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with masked_tower(model, inputs, keep, video_keep, order), suppress(_Found):
            model(**given, use_cache=False)
    finally:
        hook.remove()
    [embeddings] = seen
    return embeddings[:, kept], given["position_ids"][:, :, kept]


def logits_of_cut(model: Any, embeddings: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return the logits (L, vocabulary) of the stock language model on embeddings, without a cache."""
    ones = torch.ones(embeddings.shape[:2], dtype=torch.long)
    hidden = model.model.language_model(
        inputs_embeds=embeddings, position_ids=where, attention_mask=ones, use_cache=False
    ).last_hidden_state
    found: torch.Tensor = model.lm_head(hidden)[0]
    return found


def truth(
    model: Any,
    inputs: Mapping[str, Any],
    keep: Keep,
    video_keep: Keep = (),
    *,
    order: str = "block",
    recurrent: bool = False,
) -> torch.Tensor:
    """Return the logits (kept tokens, vocabulary) of one unpadded row, by masking or by cutting."""
    if recurrent:
        return logits_of_cut(model, *cut(model, inputs, keep, video_keep, order))
    return logits(model, inputs, keep, video_keep, order)


@torch.no_grad()
def greedy(
    model: Any,
    inputs: Mapping[str, Any],
    keep: Keep,
    video_keep: Keep = (),
    *,
    steps: int,
    order: str = "block",
    recurrent: bool = False,
) -> tuple[list[int], float]:
    """Decode greedily without a cache: the whole masked prompt again for every token.

    Returns:
        The tokens, and the smallest lead of a chosen token over the second best: a test of equal tokens means
        little where it is within rounding.
    """
    tokens: list[int] = []
    lead = float("inf")
    if recurrent:
        embeddings, where = cut(model, inputs, keep, video_keep, order)
    else:
        given, _ = _prompt(model, inputs, keep, video_keep)
    for _ in range(steps):
        if recurrent:
            last = logits_of_cut(model, embeddings, where)[-1]
        else:
            with masked_tower(model, inputs, keep, video_keep, order):
                last = model(**given, use_cache=False).logits[0, -1]
        best, second = last.topk(2).values.tolist()
        lead = min(lead, best - second)
        token = last.argmax().reshape(1, 1)
        tokens.append(int(token))
        if recurrent:
            embeddings = torch.cat([embeddings, model.get_input_embeddings()(token)], dim=1)
            where = torch.cat([where, (where.max() + 1).expand(3, 1, 1)], dim=2)
        else:
            given["input_ids"] = torch.cat([given["input_ids"], token], dim=1)
            given["attention_mask"] = torch.cat([given["attention_mask"], torch.ones_like(token)], dim=1)
            if "moe_mm_token_type_ids" in given:
                kinds = given["moe_mm_token_type_ids"]
                given["moe_mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(token)], dim=1)
            where = given["position_ids"]
            after = (where.max() + 1).expand(*where.shape[:-1], 1)
            given["position_ids"] = torch.cat([where, after], dim=-1)
    return tokens, lead
