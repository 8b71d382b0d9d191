"""Pruning the finished output of a processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..errors import PixelPruneError
from ..plan import ModelSpec, make_plan
from ..selection.settings import PruneSettings, settings_of
from . import versions
from .apply import (
    Padding,
    PaddingSide,
    add_positions,
    add_vision_inputs,
    drop_patches,
    drop_tokens,
    finish,
    packed_lengths,
    read_batch,
)
from .batch import PrunedInputs
from .choosing import choose, is_per_image, with_threshold
from .convert import to_numpy

_POSITIONS = ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


def prune_inputs(
    batch: Mapping[str, Any],
    spec: ModelSpec | Any,
    keep: Sequence[Any] | Literal["all"] | None = None,
    *,
    video_keep: Sequence[Any] | Literal["all"] | None = None,
    settings: PruneSettings | None = None,
    video_threshold: float | Sequence[float] | None = None,
    threads: int | None = None,
    lengths: Sequence[Sequence[int]] | None = None,
    padding_side: PaddingSide | None = None,
    pad_token_id: int | None = None,
    **options: Any,
) -> PrunedInputs:
    """Prune the finished output of a processor, so that the unchanged model runs on the kept tokens only.

    Rows of ``pixel_values`` and placeholders of dropped tokens go; every key that has one entry a token (shape
    ``(rows, length, ...)``: labels, loss masks, ``mm_token_type_ids``) loses the same entries and is padded anew.
    Positions are added: ``position_ids``, and those of the vision tower under names that begin with ``image_`` and
    ``video_``. The batch itself is left as it was.

    Where the installed transformers takes positions as arguments, ``model(**inputs)`` just runs. Where the vision
    tower needs help (transformers before 5.9; GLM-4V) the grids stay the original ones, so that a call without help
    fails: use `forward`, `generate` or `vision_positions`.

    Args:
        batch: ``input_ids`` (rows, length), ``attention_mask`` if there is padding, ``pixel_values`` and
            ``image_grid_thw``, ``pixel_values_videos`` and ``video_grid_thw``, and any others: tensors,
            arrays or lists.
        spec: a `ModelSpec`, or what `ModelSpec.from_config` takes: a model, its config, a dict or a path.
        keep: one entry per image in the order of the batch: a `Selection`, int64 token indices, a bool mask, or None
            (prune this image as the settings say); ``"all"``: every token of every image; None: prune all.
        video_keep: the same of the videos.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`). The keyword ``threshold`` may also
            be one number per image.
        video_threshold: of the videos, one number or one per video; None: the threshold of the images, if that is one
            number, else 0.
        threads: as in `pixelprune.prune`.
        lengths: per row, the lengths of the sequences packed into it, before pruning; None: those under
            ``seq_lengths``, if the batch has that key. Positions start anew with each, those after pruning are in
            ``.pixelprune.lengths``. ``attention_mask`` goes and ``use_cache=False`` comes: transformers then tells the
            sequences apart by their positions. Not for models with recurrent layers or with one position per token,
            nor before 5.0.
        padding_side: where rows that have become shorter than others are padded; None: as the batch is, or left.
        pad_token_id: what they are padded with; None: what the batch is padded with, or any text token.

    Returns:
        The pruned inputs; tensors where ``input_ids`` is one, else arrays. ``.pixelprune`` has the original sizes.

    Raises:
        PixelPruneError: keys that do not fit each other or the model; a batch that is pruned already; a model or
            release of transformers that is not supported.
        TypeError: as in `pixelprune.prune`.

    Example:
        >>> import torch
        >>> from pixelprune.hf import prune_inputs
        >>> batch = {"input_ids": torch.tensor([[1, 7, 7, 7, 7, 2]]), "pixel_values": torch.zeros(16, 1536),
        ...          "image_grid_thw": torch.tensor([[1, 4, 4]]), "labels": torch.tensor([[-100] * 5 + [2]])}
        >>> inputs = prune_inputs(batch, {"model_type": "qwen3_vl", "image_token_id": 7})
        >>> inputs["input_ids"], inputs["labels"], inputs["pixel_values"].shape
        (tensor([[1, 7, 2]]), tensor([[-100, -100,    2]]), torch.Size([4, 1536]))
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"batch is a {type(batch).__name__}; expected the output of a processor, which is a mapping")
    model_spec, seams = versions.resolve(spec if isinstance(spec, ModelSpec) else ModelSpec.from_config(spec))
    if getattr(batch, "pixelprune", None) is not None or "image_position_ids" in batch:
        raise PixelPruneError("the batch is pruned already; expected the output of a processor")
    for key in _POSITIONS:
        if batch.get(key) is not None:
            raise PixelPruneError(
                f"the batch has {key}, which would not fit the pruned prompts; expected none: positions are computed "
                "here (for packed sequences give lengths)"
            )
    threshold = options.get("threshold", 0.0)
    per_image = is_per_image(threshold)
    settings = settings_of(settings, {**options, "threshold": 0.0} if per_image else options)
    images = with_threshold(settings, threshold if per_image else settings.threshold)
    if video_threshold is None:
        video_threshold = settings.threshold
    videos = with_threshold(settings, video_threshold)
    chosen = {
        "image": choose(batch, model_spec, "image", keep, images, threads),
        "video": choose(batch, model_spec, "video", video_keep, videos, threads),
    }
    plan = make_plan(
        model_spec,
        to_numpy(batch.get("image_grid_thw"), "image_grid_thw"),
        chosen["image"],
        video_grid_thw=to_numpy(batch.get("video_grid_thw"), "video_grid_thw"),
        video_keep=chosen["video"],
    )
    ids, present = read_batch(batch)
    kept = plan.token_mask(ids, present) & present
    lengths = batch.get("seq_lengths") if lengths is None else lengths
    sequences = packed_lengths(lengths, kept, present, model_spec, seams)
    data = drop_tokens(batch, kept, present, model_spec, Padding(padding_side, pad_token_id))
    drop_patches(data, "image", plan.images)
    drop_patches(data, "video", plan.videos)
    deltas = add_positions(data, plan, sequences)
    add_vision_inputs(data, plan, seams)
    if sequences is not None and "seq_lengths" in batch:
        data["seq_lengths"] = sequences
    return finish(data, batch["input_ids"], plan, int(kept.sum()), deltas, sequences)
