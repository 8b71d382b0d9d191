"""Applying a plan to a batch in small steps: drop tokens and patches, add positions, add the vision tower's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import shown
from ..caller import warn
from ..errors import PixelPruneError
from ..plan import (
    IMAGE,
    VIDEO,
    Mask,
    ModelSpec,
    Plan,
    Positions,
    VisionPlan,
    kinds_of,
    media_of_rows,
    read_lengths,
    read_prompts,
)
from . import versions
from .batch import NOT_PER_TOKEN, RECORD, VALUES, Pruned, PrunedInputs
from .convert import like_input, to_array, to_numpy
from .record import write_plan

PaddingSide = Literal["left", "right"]

_PADDING = {"labels": -100}
"""The padding value of a key without padding of its own; 0 for the others."""


class Padding(NamedTuple):
    """How pruned rows are padded.

    Attributes:
        side: see ``padding_side`` of `prune_inputs`.
        token_id: see ``pad_token_id`` of `prune_inputs`.
        length: rows have at least this length.
        multiple: the length of rows is rounded up to a multiple of this number.
    """

    side: PaddingSide | None = None
    token_id: int | None = None
    length: int = 0
    multiple: int = 1


def side_of(present: Mask) -> PaddingSide | None:
    """Return the side on which a batch's rows are padded; None if that can't be seen."""
    left, right = (not present[:, column].all() for column in (slice(0, 1), slice(-1, None)))
    if left == right:
        return None
    return "left" if left else "right"


def read_batch(batch: Mapping[str, Any]) -> tuple[NDArray[Any], Mask]:
    """Return the batch's ``input_ids`` and which entries are tokens, not padding; both (rows, length)."""
    ids = to_numpy(batch.get("input_ids"), "input_ids")
    if ids is None or ids.ndim != 2:
        raise PixelPruneError(
            "the batch has no input_ids of shape (rows, length); expected a processor's output made with "
            'return_tensors="pt" and padding=True'
        )
    mask = to_numpy(batch.get("attention_mask"), "attention_mask")
    if mask is None:
        return ids, np.ones(ids.shape, np.bool_)
    if mask.shape != ids.shape:
        raise PixelPruneError(f"attention_mask has shape {mask.shape}; expected that of input_ids, {ids.shape}")
    return ids, mask.astype(np.bool_)


def packed_lengths(
    lengths: Any, kept: Mask, present: Mask, spec: ModelSpec, seams: versions.Seams
) -> list[list[int]] | None:
    """Return the lengths of packed sequences after pruning, from those before; None: nothing is packed."""
    if lengths is None:
        return None
    if isinstance(lengths, torch.Tensor):
        lengths = lengths.tolist()
    pruned = []
    for row, sizes in enumerate(read_lengths(lengths, present.sum(axis=1))):
        tokens = kept[row][present[row]]
        pruned.append([int(part.sum()) for part in np.split(tokens, np.cumsum(sizes)[:-1])])
    # With one position per token the model takes a gap for the start of a sequence.
    if spec.recurrent or spec.rope == "1d" or seams.way == "methods":
        raise PixelPruneError(f"packed sequences of {spec.model_type} would mix here; expected one sequence per row")
    return pruned


def drop_tokens(
    batch: Mapping[str, Any], kept: Mask, present: Mask, spec: ModelSpec, padding: Padding
) -> dict[str, Any]:
    """Return the batch without the tokens that are not ``kept``, padded again, always with an ``attention_mask``.

    Keys that have no entry per token are passed through. ``seq_lengths`` is left out.
    """
    rows = _Rows(kept, present, padding)
    data: dict[str, Any] = {}
    for key, value in batch.items():
        if key in ("seq_lengths", "attention_mask"):
            continue
        array = value if key in NOT_PER_TOKEN else to_array(value)
        if key in NOT_PER_TOKEN or tuple(getattr(array, "shape", ()))[:2] != kept.shape:
            data[key] = value
        elif key == "input_ids":
            data[key] = rows.take(array, _free_id(spec, padding.token_id), keep_given=padding.token_id is None)
        else:
            data[key] = rows.take(array, _PADDING.get(key, 0), keep_given=True)
    mask = to_numpy(batch.get("attention_mask"), "attention_mask")
    mask = np.ones(kept.shape, np.int64) if mask is None else mask
    data["attention_mask"] = rows.take(mask, 0, keep_given=False)
    return data


def add_positions(data: dict[str, Any], plan: Plan, sequences: list[list[int]] | None) -> NDArray[np.int64]:
    """Add ``position_ids`` to what `drop_tokens` returned; ``sequences`` as `packed_lengths` returns them.

    Prompts of text alone get none: the model's own are right, and not every release takes them in ``generate``.

    Returns:
        int64 (rows, 1): see `Positions.rope_deltas`.
    """
    positions = positions_of(plan, data, sequences)
    if len(plan.images) or len(plan.videos) or sequences is not None:
        data["position_ids"] = positions.position_ids
    ids, present = prompts_of(data)
    _warn_of_window(plan, ids, present)
    if sequences is not None:
        if not present.all():
            raise PixelPruneError("packed rows are padded; expected rows without padding")
        # With a mask or a cache, a token would also attend to the sequences before its own.
        del data["attention_mask"]
        data["use_cache"] = False
    return positions.rope_deltas


def prompts_of(inputs: Mapping[str, Any]) -> tuple[NDArray[np.int64], Mask]:
    """Return the inputs' ``input_ids`` and which entries are tokens, not padding; both (rows, length)."""
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    return read_prompts(to_numpy(ids, "input_ids"), to_numpy(mask, "attention_mask"))


def spans(plan: Plan, kinds: NDArray[np.int8], kind: str) -> list[tuple[int, int, int]]:
    """Return (row, first column, last column + 1) of every image (or video) among the prompts."""
    media, code = (plan.images, IMAGE) if kind == "image" else (plan.videos, VIDEO)
    found = []
    for row, indices in enumerate(media_of_rows((kinds == code).sum(axis=1), media)):
        columns = np.flatnonzero(kinds[row] == code)
        for part in np.split(columns, np.cumsum(media.kept[indices.start : indices.stop])[:-1]):
            if len(part):
                found.append((row, int(part[0]), int(part[-1]) + 1))
    return found


def positions_of(plan: Plan, inputs: Mapping[str, Any], lengths: Any = None) -> Positions:
    """Return the positions of pruned prompts; ``lengths`` of the sequences packed into each."""
    seconds = to_numpy(inputs.get("second_per_grid_ts"), "second_per_grid_ts")
    per_video = None if seconds is None else seconds.ravel().tolist()
    return plan.positions(*prompts_of(inputs), second_per_grid=per_video, lengths=lengths)


def starts_again(positions: torch.Tensor, present: torch.Tensor) -> bool:
    """Whether positions go back within a row, as those of packed sequences do.

    Args:
        positions: (rows, length) or (axes, rows, length), the first axis that of text or time.
        present: bool (rows, length), False at padding.
    """
    first = positions[0] if positions.ndim == 3 else positions
    return any(bool((row[here].diff() < 0).any()) for row, here in zip(first, present, strict=True))


def add_vision_inputs(data: dict[str, Any], plan: Plan, seams: versions.Seams) -> None:
    """Add flat grids, the vision tower's positions where the model takes them, and the plan itself."""
    for kind, media in (("image", plan.images), ("video", plan.videos)):
        if len(media):
            if versions.takes_positions(plan.spec, seams):
                data |= {name: value.numpy() for name, value in versions.side_inputs(media, f"{kind}_", seams).items()}
            data[f"{kind}_grid_thw"] = media.flat_grids
            data[RECORD] = write_plan(plan).numpy()


def drop_patches(data: dict[str, Any], kind: str, media: VisionPlan) -> None:
    """Drop the patches of dropped tokens of the images (or of the videos)."""
    if len(media):
        data[VALUES[kind]] = take_patches(data[VALUES[kind]], media)


def take_patches(values: Any, media: VisionPlan) -> Any:
    """Return the kept rows of ``pixel_values`` in the model's order; the same object if that is all of them."""
    rows = media.patch_indices
    if len(rows) == len(values) and (np.diff(rows) == 1).all():
        return values
    if isinstance(values, torch.Tensor):
        return values.index_select(0, torch.as_tensor(rows, device=values.device))
    return to_array(values)[rows]


def finish(
    data: dict[str, Any], like: Any, plan: Plan, tokens: int, deltas: NDArray[np.int64], sequences: Any = None
) -> PrunedInputs:
    """Return the inputs, as tensors where ``like`` is one; ``tokens`` of the prompts were kept."""
    dropped = sum(media.total - media.kept for media in (*plan.images.selections, *plan.videos.selections))
    info = Pruned(plan, tokens + dropped, tokens, deltas, sequences)
    return PrunedInputs({key: like_input(like, value) for key, value in data.items()}, pixelprune=info)


def _warn_of_window(plan: Plan, ids: NDArray[Any], present: NDArray[np.bool_]) -> None:
    """Warn that sliding windows, which count the remaining tokens, reach further back than in the whole prompt."""
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
            f"some layers of {plan.spec.model_type} attend to the last {window} tokens only; without the dropped "
            f"tokens they reach further back than in the whole prompt of {longest} tokens"
        )


class _Rows:
    """The kept entries of every row, moved to one side and padded at the other."""

    def __init__(self, kept: NDArray[np.bool_], present: NDArray[np.bool_], padding: Padding) -> None:
        self.kept = kept
        self.padding = ~present
        counts = kept.sum(axis=1)
        longest = max(int(counts.max(initial=0)), padding.length)
        self.length = -(-longest // padding.multiple) * padding.multiple
        side = side_of(present) or "left" if padding.side is None else padding.side
        if side not in ("left", "right"):
            raise PixelPruneError(f"padding_side is {shown(side)}; expected 'left', 'right' or None")
        columns = np.arange(self.length)
        self.filled = columns >= self.length - counts[:, None] if side == "left" else columns < counts[:, None]

    def take(self, array: Any, pad: int, keep_given: bool) -> Any:
        """Return the kept entries of ``array``: a tensor (rows, longest, ...) of its dtype and device."""
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


def _free_id(spec: ModelSpec, pad_token_id: int | None) -> int:
    """Return an id to pad with: the given one, or any that is not a placeholder."""
    if pad_token_id is not None:
        return pad_token_id
    return next(i for i in range(3) if i not in (spec.image_token_id, spec.video_token_id))
