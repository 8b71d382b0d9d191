"""Encoded features of the kept patches, which ``generate`` takes in the place of pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from ..errors import PixelPruneError
from ..plan import IMAGE, VIDEO, Mask, Plan, VisionPlan, kinds_of, media_of_rows
from . import versions
from .apply import prompts_of, spans
from .batch import VALUES
from .prepared import Prepared, prepare, vision_arguments
from .tower import helped

_CODES = {"image": IMAGE, "video": VIDEO}


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
    return encode_prepared(model, prepare(model, inputs))


def encode_prepared(model: Any, prepared: Prepared, cached: int = 0) -> dict[str, Any]:
    """See `encode`. Images in the first ``cached`` columns of the prompts are left out."""
    plan, seams, given = prepared.plan, prepared.seams, prepared.arguments
    if not seams.encoder_outputs:
        raise PixelPruneError(
            f"transformers {transformers.__version__} does not take encoded features; expected 5.18 or later, or use "
            "generate, forward or vision_positions, which work with every supported release"
        )
    ids, present = prompts_of(given)
    kinds = kinds_of(ids, present, plan.spec)
    check_ends(plan, kinds, present)
    outputs = {}
    base, _ = versions.vision_tower(model)
    left, values = _after(cached, plan, kinds, given)
    values |= vision_arguments(left, seams, values)
    with helped(model, Prepared(left, seams, values, None)) as ready:
        for kind, key in VALUES.items():
            if key in ready:
                side = {name: value for name, value in ready.items() if name.startswith(f"{kind}_")}
                grids = side.pop(f"{kind}_grid_thw")
                found = getattr(base, f"get_{kind}_features")(ready[key], grids, return_dict=True, **side)
                counts = (kinds[:, cached:] == _CODES[kind]).sum(axis=1)
                outputs[kind] = _by_row(found, [int(count) for count in counts if count])
    dropped = (*VALUES.values(), "second_per_grid_ts")
    rest = {name: value for name, value in given.items() if not name.startswith(("image_", "video_"))}
    rest = {name: value for name, value in rest.items() if name not in dropped}
    if plan.spec.rope == "1d":  # see generate
        rest.setdefault("use_cache", True)
    return {**rest, "mm_encoder_outputs": outputs} if outputs else rest


def _after(cached: int, plan: Plan, kinds: NDArray[np.int8], given: Mapping[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """Return the plan of the images that end after the first ``cached`` columns, and the vision tower's arguments."""
    parts: dict[str, VisionPlan] = {}
    values: dict[str, Any] = {}
    for kind, media in (("image", plan.images), ("video", plan.videos)):
        ends = [end for _, _, end in spans(plan, kinds, kind)]
        left = [i for i, end in enumerate(ends) if end > cached]
        parts[kind] = (
            media if len(left) == len(media) else VisionPlan(plan.spec, tuple(media.selections[i] for i in left))
        )
        if not left:
            continue
        patches = media.kept * plan.spec.vision.merge_size**2
        rows = np.repeat(np.isin(np.arange(len(media)), left), patches)
        pixels = given[VALUES[kind]]
        values[VALUES[kind]] = pixels if rows.all() else pixels[torch.as_tensor(rows).to(pixels.device)]
        sizes = given.get(f"{kind}_merge_sizes")
        if sizes is not None:
            values[f"{kind}_merge_sizes"] = sizes[left]
    return Plan(plan.spec, parts["image"], parts["video"]), values


def check_ends(plan: Plan, kinds: NDArray[np.int8], present: Mask) -> None:
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
