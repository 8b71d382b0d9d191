"""What pruning returns: a batch of model inputs, and what was pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchFeature

from ..plan import Plan
from ..selection.result import Selection

VALUES = {"image": "pixel_values", "video": "pixel_values_videos"}
"""The key of the patches of each modality."""

RECORD = "pixelprune_hf_attach"
"""The key of the plan among the inputs. Where ``generate`` refuses it by name, the name says what to call."""

NOT_PER_TOKEN = (
    RECORD,
    "pixel_values",
    "image_grid_thw",
    "image_merge_sizes",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)
"""Keys whose entries belong to images, videos or patches, not to tokens."""


def is_flat(grids: Any) -> bool:
    """Return whether some of these are marked flat grids, see `Selection.flat_grid_thw`."""
    if grids is None:
        return False
    return bool((torch.as_tensor(grids) < 0).any())


@dataclass(frozen=True, repr=False)
class Pruned:
    """What was pruned, kept with the inputs as `PrunedInputs.pixelprune`.

    Attributes:
        plan: the plan that was applied.
        tokens_before: tokens of the original prompts, without padding.
        tokens_after: tokens of the pruned prompts, without padding.
        rope_deltas: int64 (rows, 1), see `pixelprune.plan.Positions`.
        lengths: per row, the lengths of the packed sequences after pruning; None if nothing is packed.

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
        """int64 (images, 3): frames, rows and columns in patches of the original images."""
        return self.plan.images.grids

    @property
    def video_grids(self) -> NDArray[np.int64]:
        """int64 (videos, 3): frames, rows and columns in patches of the original videos."""
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
        """(height, width) in pixels of every image after resizing. The model's box coordinates refer to this size."""
        side = self.plan.spec.vision.patch_size
        return [(int(h) * side, int(w) * side) for _, h, w in self.grids]


class PrunedInputs(BatchFeature):
    """Pruned model inputs: a `BatchFeature` whose keys are arguments of the model.

    Attributes:
        pixelprune: a `Pruned`: plan, original grids and sizes, token counts. ``to()`` and pickling keep it; None where
            a framework has rebuilt the batch from its keys, of which ``pixelprune_hf_attach`` still has the plan.

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
        """Move to a device and cast floats as `BatchFeature.to` does, but keep interpolation weights in float32.

        The models compute these weights in float32 whatever their own dtype, so a cast would change positions.
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
