"""The language model's part of a plan: which placeholders are kept, and the position of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import shown
from ..arrays import read_array
from ..errors import PixelPruneError
from .models import ModelSpec
from .vision import Int64, VisionPlan

Mask = NDArray[np.bool_]

TEXT, IMAGE, VIDEO = 0, 1, 2
_NAMES = {IMAGE: "image", VIDEO: "video"}
_MOST_SECONDS = 1e6
"""The longest time between two frames; with more, positions could overflow."""


@dataclass(frozen=True)
class Positions:
    """The positions of the tokens of pruned prompts.

    Attributes:
        position_ids: int64. ``(4, rows, length)`` for models with rotary positions of time, row and column: first
            the index of the token (from 0 in every packed sequence), then time, row and column.
            ``(rows, length)`` for the others: the index in the whole prompt, with gaps. 0 at padding.
        rope_deltas: int64 (rows, 1): the position after a row of n tokens (without padding) is n plus this.

    Example:
        >>> import numpy as np
        >>> from pixelprune.plan import ModelSpec, make_plan
        >>> plan = make_plan(ModelSpec.from_config({"model_type": "qwen2_vl", "image_token_id": 7}), [[1, 4, 8]], [[0]])
        >>> plan.positions(np.array([[1, 7, 2]])).rope_deltas
        array([[3]])
    """

    position_ids: Int64
    rope_deltas: Int64


def read_prompts(input_ids: Any, attention_mask: Any) -> tuple[Int64, Mask]:
    """Return ``input_ids`` (rows, length) and which of its entries are tokens, not padding."""
    ids = read_array(input_ids, "input_ids", "(rows, length) integers")
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise PixelPruneError(
            f"input_ids has shape {ids.shape} and dtype {ids.dtype}; expected (rows, length) integers of one length"
        )
    if attention_mask is None:
        return ids.astype(np.int64, copy=False), np.ones(ids.shape, np.bool_)
    mask = read_array(attention_mask, "attention_mask", "(rows, length), 1 at tokens and 0 at padding")
    if mask.shape != ids.shape:
        raise PixelPruneError(
            f"attention_mask has shape {mask.shape}; expected that of input_ids, {ids.shape}: 1 at tokens, 0 at padding"
        )
    return ids.astype(np.int64, copy=False), mask.astype(np.bool_)


def read_lengths(lengths: Any, counts: Int64) -> list[Int64]:
    """Return the lengths of the sequences packed into every row, which add up to its ``counts`` of tokens."""
    if isinstance(lengths, (str, bytes)) or not hasattr(lengths, "__len__"):
        raise TypeError(f"lengths is a {type(lengths).__name__}; expected a list of integers per row")
    if len(lengths) != len(counts):
        raise PixelPruneError(f"lengths has {len(lengths)} entries; expected one per row, {len(counts)}")
    rows = []
    for row, (given, count) in enumerate(zip(lengths, counts, strict=True)):
        sizes = read_array(given, f"lengths[{row}]", "a list of integers")
        if sizes.ndim != 1 or (sizes.size and sizes.dtype.kind not in "iu"):
            raise PixelPruneError(f"lengths[{row}] is {shown(given)}; expected a list of integers")
        if sizes.sum() != count or (sizes < 0).any():
            raise PixelPruneError(
                f"lengths[{row}] is {shown(given)}; expected lengths that add up to the tokens of the row, {count}"
            )
        rows.append(sizes.astype(np.int64))
    return rows


def kinds_of(ids: Int64, present: Mask, spec: ModelSpec) -> NDArray[np.int8]:
    """Return `TEXT`, `IMAGE` or `VIDEO` for every entry."""
    kinds = np.zeros(ids.shape, np.int8)
    kinds[present & (ids == spec.image_token_id)] = IMAGE
    if spec.video_token_id is not None:
        kinds[present & (ids == spec.video_token_id)] = VIDEO
    if spec.video_span is not None:
        begun, ended = (np.cumsum(present & (ids == token), axis=1) for token in spec.video_span)
        kinds[(kinds == IMAGE) & (begun > ended)] = VIDEO
    return kinds


def media_of_rows(counts: Int64, media: VisionPlan) -> list[range]:
    """Return which images (or videos) every row has, from the number of its kept placeholders."""
    ends = np.searchsorted(np.cumsum(media.kept), np.cumsum(counts), side="right").tolist()
    return [range(*pair) for pair in zip([0, *ends], ends, strict=False)]


def keep_mask(kinds: NDArray[np.int8], images: Sequence[Mask], videos: Sequence[Mask]) -> Mask:
    """Return bool of the shape of ``kinds``: False at the placeholders of dropped tokens.

    ``images`` and ``videos`` have one mask per image or video, with one entry per placeholder: whether it is kept.
    """
    keep = np.ones(kinds.shape, np.bool_)
    for kind, masks in ((IMAGE, images), (VIDEO, videos)):
        _check_rows((kinds == kind).sum(axis=1), [mask.size for mask in masks], kind)
        keep[kinds == kind] = np.concatenate([np.empty(0, np.bool_), *(mask.ravel() for mask in masks)])
    return keep


def _check_rows(counts: Int64, totals: Sequence[int], kind: int) -> None:
    """A row of the batch holds whole images: none is cut off, and none goes on in the next row."""
    ends = np.concatenate([[0], np.cumsum(totals, dtype=np.int64)])
    reached = np.cumsum(counts)
    found = int(reached[-1]) if len(reached) else 0
    if found != ends[-1]:
        raise PixelPruneError(
            f"input_ids has {found} {_NAMES[kind]} placeholders, the grids have {int(ends[-1])} tokens; expected "
            "equal numbers (prune before truncating a prompt)"
        )
    for row in np.flatnonzero(~np.isin(reached, ends)):
        raise PixelPruneError(
            f"row {row} of input_ids has {int(counts[row])} {_NAMES[kind]} placeholders, which is not a whole number "
            f"of {_NAMES[kind]}s; expected the grids in the order of the rows"
        )


class _Run(NamedTuple):
    """Consecutive placeholders: an image, a video, or one frame of a video."""

    length: int
    offsets: Int64
    """(3, length) time, row and column; (length,) for models with one position."""
    advance: int
    """From the run's first position to that of the next token."""
    reach: int
    """From the run's first position to one past the largest position of the whole image."""


def positions_of(
    ids: Int64,
    present: Mask,
    spec: ModelSpec,
    images: VisionPlan,
    videos: VisionPlan,
    seconds: Sequence[float] | None,
    lengths: Sequence[Int64] | None,
) -> Positions:
    """See `Plan.positions`; ``lengths`` as `read_lengths` returns them."""
    kinds = kinds_of(ids, present, spec)
    runs = {IMAGE: iter(_image_runs(spec, images)), VIDEO: iter(_video_runs(spec, videos, seconds))}
    axes = 3 if spec.rope == "mrope" else 1
    places = np.zeros((axes, *ids.shape), np.int64)
    count = np.zeros(ids.shape, np.int64)
    deltas = np.zeros((len(ids), 1), np.int64)
    for row in range(len(ids)):
        tokens = np.flatnonzero(present[row])
        sizes = [len(tokens)] if lengths is None else lengths[row]
        for part in np.split(tokens, np.cumsum(sizes)[:-1]):
            line, following = _sequence(kinds[row, part], runs, axes, row)
            places[:, row, part] = line
            count[row, part] = np.arange(len(part))
            deltas[row] = following - len(part)
    for kind, rest in runs.items():
        left = len(list(rest))
        if left:
            raise PixelPruneError(
                f"{left} runs of {_NAMES[kind]} placeholders are missing at the end of input_ids; expected the kept "
                "tokens of every grid"
            )
    if spec.rope == "1d":
        return Positions(places[0], deltas)
    return Positions(np.concatenate([count[None], places]), deltas)


def _sequence(kinds: NDArray[np.int8], runs: dict[int, Any], axes: int, row: int) -> tuple[Int64, int]:
    """Return positions (axes, length) of one sequence, and the position of the token after it."""
    line = np.empty((axes, len(kinds)), np.int64)
    changes = np.append(np.flatnonzero(np.diff(kinds)) + 1, len(kinds))
    at = start = largest = 0
    while at < len(kinds):
        kind = int(kinds[at])
        end = int(changes[np.searchsorted(changes, at, side="right")])
        if kind == TEXT:
            line[:, at:end] = start + np.arange(end - at)
            start += end - at
            largest = max(largest, start)
            at = end
            continue
        run = next(runs[kind], None)
        if run is None or run.length > end - at:
            expected = "no more" if run is None else str(run.length)
            raise PixelPruneError(
                f"row {row} of input_ids has {end - at} consecutive {_NAMES[kind]} placeholders; expected {expected}: "
                "one per kept token"
            )
        line[:, at : at + run.length] = start + run.offsets
        largest = max(largest, start + run.reach)
        start += run.advance
        at += run.length
    return line, largest


def _image_runs(spec: ModelSpec, images: VisionPlan) -> list[_Run]:
    return [_run(spec, images, i, range(selection.grid[0])) for i, selection in enumerate(images.selections)]


def _video_runs(spec: ModelSpec, videos: VisionPlan, seconds: Sequence[float] | None) -> list[_Run]:
    durations = np.ones(len(videos)) if seconds is None else _read_seconds(seconds, len(videos))
    runs = []
    for i, selection in enumerate(videos.selections):
        frames = selection.grid[0]
        if not spec.frames_apart:
            scale = 1.0
            if spec.tokens_per_second is not None:
                second = float(durations[i])
                scale = spec.tokens_per_second * (int(second) if spec.whole_seconds else second)
            runs.append(_run(spec, videos, i, range(frames), scale))
            continue
        empty = np.flatnonzero(videos.tokens_per_frame[i] == 0)
        if len(empty):
            raise PixelPruneError(
                f"frame {empty[0]} of video {i} keeps no token; expected at least one in every frame, because each "
                "has its own placeholders in the prompt"
            )
        runs.extend(_run(spec, videos, i, range(frame, frame + 1)) for frame in range(frames))
    return runs


def _read_seconds(seconds: Any, videos: int) -> NDArray[Any]:
    expected = f"one number of seconds per video, from 0 to {_MOST_SECONDS:g}"
    values = read_array(seconds, "second_per_grid", expected)
    if values.shape != (videos,):
        raise PixelPruneError(f"second_per_grid has shape {values.shape}; expected ({videos},), {expected}")
    if videos and (values.dtype.kind not in "iuf" or not ((values >= 0) & (values <= _MOST_SECONDS)).all()):
        raise PixelPruneError(f"second_per_grid is {shown(seconds)}; expected {expected}")
    return values


def _run(spec: ModelSpec, media: VisionPlan, index: int, frames: range, scale: float = 1.0) -> _Run:
    """Return the run of the kept tokens in ``frames`` of an image (or a video)."""
    selection = media.selections[index]
    _, rows, cols = selection.grid
    first = frames.start * rows * cols
    keep = selection.keep[(selection.keep >= first) & (selection.keep < frames.stop * rows * cols)] - first
    total = len(frames) * rows * cols
    if spec.rope == "1d":
        return _Run(len(keep), keep, total, total)
    line, col = np.divmod(keep, cols)
    frame, row = np.divmod(line, rows)
    # float32, as the models compute it.
    times = (np.arange(len(frames), dtype=np.float32) * np.float32(scale)).astype(np.int64)
    reach = int(max(times[-1] + 1, rows, cols))
    advance = reach if spec.advance_past_time else max(rows, cols)
    return _Run(len(keep), np.stack([times[frame], row, col]), advance, reach)
