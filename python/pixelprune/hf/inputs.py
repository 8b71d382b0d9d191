"""Pruning the finished output of a processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

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
from .batch import RECORD, VALUES, PrunedInputs, is_flat
from .choosing import InputOptions, choose, is_per_image, with_threshold
from .convert import to_numpy

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
    **options: Unpack[InputOptions],
) -> PrunedInputs:
    """Prune the finished output of a processor. The unchanged model then runs on the kept tokens only.

    Removes the rows of ``pixel_values`` and the placeholders of dropped tokens. Every key with one entry per token
    (shape ``(rows, length, ...)``: labels, loss masks, ``mm_token_type_ids``) loses the same entries and is padded
    again. Adds ``position_ids``, the positions for the vision tower under names that start with ``image_`` or
    ``video_``, and the plan as an int64 tensor under ``pixelprune_hf_attach``. Grids become flat grids
    (`Selection.flat_grid_thw`). The batch itself is not modified.

    `forward`, `generate` and models with `attach` run the inputs with every supported release. Where the model takes
    all positions as arguments, ``model(**inputs)`` works too. Elsewhere (transformers before 5.9; the GLM-4V family;
    PaddleOCR-VL, ERNIE-4.5-VL, VideoLLaMA 3 and videos of GLM-OCR) that call fails, because of the flat grids.

    Args:
        batch: ``input_ids`` (rows, length), ``attention_mask`` if there is padding, ``pixel_values`` and
            ``image_grid_thw``, ``pixel_values_videos`` and ``video_grid_thw``, and any others: tensors,
            arrays or lists.
        spec: a `ModelSpec`, or what `ModelSpec.from_config` takes: a model, its config, a dict or a path.
        keep: one entry per image in the order of the batch: a `Selection`, int64 token indices, a bool mask, or None
            (prune this image as the settings say); ``"all"``: every token of every image; None: prune all images.
        video_keep: as ``keep``, for the videos.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`). The keyword ``threshold`` may also
            be one number per image.
        video_threshold: the threshold for videos, one number or one per video; None: that of the images if it is one
            number, else 0.
        threads: as in `pixelprune.prune`.
        lengths: per row, the lengths before pruning of the sequences packed into it; None: ``seq_lengths`` of the
            batch, if it has that key. Positions restart with each sequence; the lengths after pruning are in
            ``.pixelprune.lengths``. The result has no ``attention_mask`` and has ``use_cache=False``: transformers
            then separates the sequences by their positions. Not supported for models with recurrent layers or with
            one position per token, nor with transformers before 5.9.
        padding_side: the side on which shorter rows are padded; None: that of the batch, or left.
        pad_token_id: the id to pad with; None: the one that the batch is padded with, or any text token.

    Returns:
        The pruned inputs; tensors where ``input_ids`` is one, else arrays. ``.pixelprune`` has the original sizes.

    Raises:
        PixelPruneError: keys that do not match each other or the model; a batch that is already pruned; a model or
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
    flat = any(is_flat(batch.get(f"{kind}_grid_thw")) for kind in VALUES)
    if getattr(batch, "pixelprune", None) is not None or batch.get(RECORD) is not None or flat:
        raise PixelPruneError("the batch is already pruned; expected the output of a processor")
    for key in _POSITIONS:
        if batch.get(key) is not None:
            raise PixelPruneError(
                f"the batch has {key}, which would not match the pruned prompts; expected no such key: positions are "
                "computed here (for packed sequences give lengths)"
            )
    threshold = options.get("threshold", 0.0)
    per_image = is_per_image(threshold)
    uniform: Any = {**options, "threshold": 0.0} if per_image else options
    settings = settings_of(settings, uniform)
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
