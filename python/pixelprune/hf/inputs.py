"""Pruning what a processor has finished: pixel rows, placeholders, and everything that has one entry a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchFeature

from ..arguments import shown
from ..arrays import read_array
from ..caller import warn
from ..errors import PixelPruneError
from ..plan import ModelSpec, Plan, VisionPlan, make_plan
from ..plan.models import as_model_spec
from ..plan.planning import read_grids, read_keep
from ..plan.tokens import IMAGE, VIDEO, kinds_of, media_of_rows, read_lengths, read_prompts
from ..selection.pruning import prune_pixel_values
from ..selection.result import Selection
from ..selection.settings import PruneSettings, settings_of
from . import versions

PaddingSide = Literal["left", "right"]

_MEDIA = {"image": "pixel_values", "video": "pixel_values_videos"}
NOT_PER_TOKEN = (
    "pixel_values",
    "image_grid_thw",
    "image_merge_sizes",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)
"""Keys with entries of images, videos or patches."""
_POSITIONS = ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
_PADDING = {"labels": -100}
"""What stands at padding where a key has none to take it from; 0 for the others."""


@dataclass(frozen=True, repr=False)
class Pruned:
    """What became of the inputs; `PrunedInputs.pixelprune`.

    Attributes:
        plan: the plan that was carried out.
        tokens_before: tokens of the whole prompts, padding not counted.
        tokens_after: tokens of the pruned prompts.
        rope_deltas: int64 (rows, 1), see `pixelprune.plan.Positions`.
        lengths: per row, the lengths of packed sequences after pruning; None: nothing is packed.

    Example:
        >>> import torch
        >>> from pixelprune.hf import prune_inputs
        >>> batch = {"input_ids": torch.tensor([[1, 7, 7, 7, 7, 2]]), "pixel_values": torch.zeros(16, 1536),
        ...          "image_grid_thw": torch.tensor([[1, 4, 4]])}
        >>> inputs = prune_inputs(batch, {"model_type": "qwen3_vl", "image_token_id": 7})
        >>> inputs.pixelprune.tokens_before, inputs.pixelprune.tokens_after, inputs.pixelprune.image_sizes
        (6, 3, [(64, 64)])
    """

    plan: Plan
    tokens_before: int
    tokens_after: int
    rope_deltas: NDArray[np.int64]
    lengths: list[list[int]] | None = None

    def __repr__(self) -> str:
        videos = f", {len(self.plan.videos)} videos" if len(self.plan.videos) else ""
        return f"Pruned({len(self.plan.images)} images{videos}, {self.tokens_after} of {self.tokens_before} tokens)"

    @property
    def grids(self) -> NDArray[np.int64]:
        """int64 (images, 3): frames, rows and columns of the whole images in patches."""
        return self.plan.images.grids

    @property
    def video_grids(self) -> NDArray[np.int64]:
        """int64 (videos, 3): the same of the videos."""
        return self.plan.videos.grids

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The kept tokens of every image."""
        return self.plan.images.selections

    @property
    def video_selections(self) -> tuple[Selection, ...]:
        """The kept tokens of every video."""
        return self.plan.videos.selections

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """(height, width) in pixels of every image as the model sees it: what its box coordinates refer to."""
        side = self.plan.spec.vision.patch_size
        return [(int(h) * side, int(w) * side) for _, h, w in self.grids]


class PrunedInputs(BatchFeature):
    """Pruned model inputs: a `BatchFeature` whose keys are arguments of the model.

    Attributes:
        pixelprune: a `Pruned`: plan, original grids and sizes, token counts. It stays through ``to()`` and pickling;
            None where a framework has built the batch anew from its keys.

    Example:
        >>> from pixelprune.hf import PrunedInputs
        >>> PrunedInputs({"input_ids": [[1]]}).pixelprune is None
        True
    """

    pixelprune: Pruned | None = None

    def __init__(self, data: Any = None, *args: Any, pixelprune: Pruned | None = None, **kwargs: Any) -> None:
        super().__init__(data, *args, **kwargs)
        self.pixelprune = pixelprune

    def to(self, *args: Any, **kwargs: Any) -> PrunedInputs:
        """Move to a device and cast floats as a `BatchFeature` does, but keep interpolation weights in float32.

        The models compute them in float32 whatever their own type is, so that a cast would move positions.
        """
        weights = {
            name: value for name, value in self.data.items() if name.endswith(("interp_weights", "bilinear_weights"))
        }
        super().to(*args, **kwargs)
        for name, value in weights.items():
            self.data[name] = value.to(self.data[name].device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "pixelprune": self.pixelprune}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


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
    fails: use `forward`, `generate` or `vision`.

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
    model_spec, seams = versions.resolve(as_model_spec(spec))
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
    images = _each(settings, threshold if per_image else settings.threshold)
    if video_threshold is None:
        video_threshold = settings.threshold
    videos = _each(settings, video_threshold)
    chosen = {
        "image": choose(batch, model_spec, "image", keep, images, threads),
        "video": choose(batch, model_spec, "video", video_keep, videos, threads),
    }
    plan = make_plan(
        model_spec,
        _numpy(batch.get("image_grid_thw"), "image_grid_thw"),
        chosen["image"],
        video_grid_thw=_numpy(batch.get("video_grid_thw"), "video_grid_thw"),
        video_keep=chosen["video"],
    )
    return apply_plan(batch, plan, seams, lengths, padding_side, pad_token_id)


def apply_plan(
    batch: Mapping[str, Any],
    plan: Plan,
    seams: versions.Seams,
    lengths: Sequence[Sequence[int]] | None,
    padding_side: PaddingSide | None,
    pad_token_id: int | None,
    images_done: bool = False,
) -> PrunedInputs:
    """Drop what the plan drops, and add the positions.

    With ``images_done`` the batch holds the kept patches and placeholders of the images already.
    """
    ids = _numpy(batch.get("input_ids"), "input_ids")
    if ids is None or ids.ndim != 2:
        raise PixelPruneError(
            "the batch has no input_ids of shape (rows, length); expected a processor's output made with "
            'return_tensors="pt" and padding=True'
        )
    mask = _numpy(batch.get("attention_mask"), "attention_mask")
    present = np.ones(ids.shape, np.bool_) if mask is None else _checked_mask(mask, ids)
    left = plan
    if images_done:
        videos = plan.videos
        left = make_plan(plan.spec, plan.images.flat_grids, video_grid_thw=videos.grids, video_keep=videos.selections)
    kept = left.token_mask(ids, present) & present
    rows = _Rows(kept, present, padding_side)
    seq_lengths = _lengths(batch.get("seq_lengths") if lengths is None else lengths, present, kept)
    # With one position per token a gap in them is taken for the begin of a sequence.
    mixing = plan.spec.recurrent or plan.spec.rope == "1d" or seams.way == "methods"
    if seq_lengths is not None and mixing:
        raise PixelPruneError(
            f"packed sequences of {plan.spec.model_type} would mix here; expected one sequence per row"
        )

    data: dict[str, Any] = {}
    like = batch["input_ids"]
    for key, value in batch.items():
        if key in ("seq_lengths", "attention_mask"):
            continue
        array = value if key in NOT_PER_TOKEN else _array(value)
        shape = tuple(getattr(array, "shape", ()))
        if key in NOT_PER_TOKEN or shape[:2] != ids.shape:
            data[key] = value
        else:
            pad = _free_id(plan.spec, pad_token_id) if key == "input_ids" else _PADDING.get(key, 0)
            data[key] = rows.take(array, pad, keep_given=key != "input_ids" or pad_token_id is None)
    pruned_mask = rows.take(np.ones(ids.shape, np.int64) if mask is None else mask, 0, keep_given=False)
    data["attention_mask"] = pruned_mask
    seconds = _numpy(batch.get("second_per_grid_ts"), "second_per_grid_ts")
    pruned_ids, pruned_present = read_prompts(
        _numpy(data["input_ids"], "input_ids"), _numpy(pruned_mask, "attention_mask")
    )
    positions = plan.positions(
        pruned_ids,
        pruned_present,
        second_per_grid=None if seconds is None else seconds.ravel().tolist(),
        lengths=seq_lengths,
    )
    data["position_ids"] = positions.position_ids
    _warn_of_window(plan, pruned_ids, pruned_present)
    if seq_lengths is not None:
        if "seq_lengths" in batch:
            data["seq_lengths"] = seq_lengths
        if not pruned_mask.all():
            raise PixelPruneError("packed rows are padded; expected rows that are full, as packing makes them")
        # With a mask or a cache every token would see the sequences before its own.
        del data["attention_mask"]
        data["use_cache"] = False
    for (kind, values), media in zip(_MEDIA.items(), (plan.images, plan.videos), strict=True):
        if len(media):
            if kind == "video" or not images_done:
                data[values] = take_patches(batch[values], media)
            if seams.way == "kwargs":
                data |= versions.side_inputs(media, f"{kind}_", seams)
            flat = seams.way == "kwargs" and plan.spec.seam == "flat"
            data[f"{kind}_grid_thw"] = media.flat_grids if flat else media.grids
    data = {key: _like(like, value) for key, value in data.items()}
    gone = sum(s.total - s.kept for s in plan.images.selections) if images_done else 0
    info = Pruned(plan, int(present.sum()) + gone, int(kept.sum()), positions.rope_deltas, seq_lengths)
    return PrunedInputs(data, pixelprune=info)


def _warn_of_window(plan: Plan, ids: NDArray[Any], present: NDArray[np.bool_]) -> None:
    """Sliding windows are measured in the tokens that are there; positions do not change that."""
    window = plan.spec.sliding_window
    if window is None:
        return
    kinds = kinds_of(ids, present, plan.spec)
    after = present.sum(axis=1)
    whole = after.copy()
    for kind, media in ((IMAGE, plan.images), (VIDEO, plan.videos)):
        for row, indices in enumerate(media_of_rows((kinds == kind).sum(axis=1), media)):
            whole[row] += sum(media.selections[i].total - media.selections[i].kept for i in indices)
    longest = int(whole[whole > after].max(initial=0))
    if longest > window:
        warn(
            f"some layers of {plan.spec.model_type} see the last {window} tokens only; without the dropped ones that "
            f"reaches further back than in the whole prompt of {longest} tokens"
        )


class _Rows:
    """Kept entries of every row, moved to one side."""

    def __init__(self, kept: NDArray[np.bool_], present: NDArray[np.bool_], side: PaddingSide | None) -> None:
        self.kept = kept
        self.padding = ~present
        counts = kept.sum(axis=1)
        self.length = int(counts.max(initial=0))
        if side is None:
            side = "right" if self.padding[:, -1:].any() and not self.padding[:, :1].any() else "left"
        elif side not in ("left", "right"):
            raise PixelPruneError(f"padding_side is {shown(side)}; expected 'left', 'right' or None")
        columns = np.arange(self.length)
        self.filled = columns >= self.length - counts[:, None] if side == "left" else columns < counts[:, None]

    def take(self, array: Any, pad: int, keep_given: bool) -> Any:
        """Return (rows, longest, ...) of ``array``'s kind."""
        values = torch.as_tensor(array)
        padding, kept, filled = (
            torch.as_tensor(mask).to(values.device) for mask in (self.padding, self.kept, self.filled)
        )
        out = values.new_full((len(values), self.length, *values.shape[2:]), pad)
        given = values[padding][:1]
        if keep_given and len(given):
            out[:] = given
        out[filled] = values[kept]
        return out


def choose(
    batch: Mapping[str, Any],
    spec: ModelSpec,
    kind: str,
    keep: Any,
    settings: PruneSettings | list[PruneSettings],
    threads: int | None,
) -> Sequence[Any] | None:
    """Return one entry per image for `make_plan`: what was given, and selections for the rest.

    ``settings`` are one for all of that kind, or one each.
    """
    values_key = _MEDIA[kind]
    argument = "keep" if kind == "image" else "video_keep"
    grids = read_grids(_numpy(batch.get(f"{kind}_grid_thw"), f"{kind}_grid_thw"), spec, kind)
    values = batch.get(values_key)
    if (values is None) != (not grids):
        raise PixelPruneError(f"the batch has only one of {values_key} and {kind}_grid_thw; expected both or none")
    if isinstance(keep, str):
        if keep != "all":
            raise PixelPruneError(
                f"{argument} is {shown(keep)}; expected 'all', a list with one entry per {kind}, or None"
            )
        return None
    entries = read_keep(keep, len(grids), kind)
    if values is None:
        return None
    ends = np.cumsum([t * h * w for t, h, w in grids])
    if len(values) != ends[-1]:
        raise PixelPruneError(f"{values_key} has {len(values)} rows; the grids have {ends[-1]} patches")
    if isinstance(settings, PruneSettings):
        settings = [settings] * len(grids)
    if len(settings) != len(grids):
        raise PixelPruneError(f"threshold has {len(settings)} numbers; expected one, or one per {kind}, {len(grids)}")
    temporal: Any = "repeat" if kind == "image" else "frames"
    if all(entry is None for entry in entries) and all(other == settings[0] for other in settings):
        return prune_pixel_values(
            _array(values), grids, spec.vision, temporal=temporal, settings=settings[0], threads=threads
        )
    for i, (grid, end) in enumerate(zip(grids, ends, strict=True)):
        if entries[i] is None:
            rows = _array(values)[end - grid[0] * grid[1] * grid[2] : end]
            [entries[i]] = prune_pixel_values(
                rows, [grid], spec.vision, temporal=temporal, settings=settings[i], threads=threads
            )
    return entries


def _each(settings: PruneSettings, threshold: Any) -> PruneSettings | list[PruneSettings]:
    """The settings with this threshold, or with each of several."""
    if is_per_image(threshold):
        return [settings.replace(threshold=level) for level in threshold]
    return settings.replace(threshold=threshold)


def is_per_image(threshold: Any) -> bool:
    """Whether these are several thresholds, not one number (or what is neither)."""
    several = isinstance(threshold, Sequence) and not isinstance(threshold, (str, bytes))
    return several or getattr(threshold, "ndim", 0) > 0


def take_patches(values: Any, media: VisionPlan) -> Any:
    """Return the kept rows of ``pixel_values`` in the model's order; the same object if that is all of them."""
    rows = media.patch_indices
    if len(rows) == len(values) and (np.diff(rows) == 1).all():
        return values
    if isinstance(values, torch.Tensor):
        return values.index_select(0, torch.as_tensor(rows, device=values.device))
    return _array(values)[rows]


def _lengths(lengths: Any, present: NDArray[np.bool_], kept: NDArray[np.bool_]) -> list[list[int]] | None:
    """The lengths of packed sequences after pruning."""
    if lengths is None:
        return None
    if isinstance(lengths, torch.Tensor):
        lengths = lengths.tolist()
    pruned = []
    for row, sizes in enumerate(read_lengths(lengths, present.sum(axis=1))):
        tokens = kept[row][present[row]]
        pruned.append([int(part.sum()) for part in np.split(tokens, np.cumsum(sizes)[:-1])])
    return pruned


def _checked_mask(mask: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.bool_]:
    if mask.shape != ids.shape:
        raise PixelPruneError(f"attention_mask has shape {mask.shape}; expected that of input_ids, {ids.shape}")
    return mask.astype(np.bool_)


def _free_id(spec: ModelSpec, pad_token_id: int | None) -> int:
    """An id for padding that is no placeholder."""
    if pad_token_id is not None:
        return pad_token_id
    return next(i for i in range(3) if i not in (spec.image_token_id, spec.video_token_id))


def _numpy(value: Any, name: str) -> NDArray[Any] | None:
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return read_array(value, name, "rows of one length: give the processor return_tensors and padding=True")


def _array(value: Any) -> Any:
    """Return an array, or a tensor as it is; a thing that is neither (text, ragged lists) as it is."""
    if isinstance(value, (np.ndarray, torch.Tensor)) or not isinstance(value, (list, tuple)):
        return value
    try:
        return np.asarray(value)
    except ValueError:
        return value


def _like(like: Any, value: Any) -> Any:
    """Return arrays as tensors on the device of ``like``, if that is a tensor."""
    if isinstance(like, torch.Tensor):
        return torch.as_tensor(value).to(like.device) if isinstance(value, np.ndarray) else value
    return value.numpy() if isinstance(value, torch.Tensor) and not value.requires_grad else value
