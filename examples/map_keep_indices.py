"""Prune a data set once: store which tokens of every image are kept, and train with those.

The indices take a few bytes per image; pruned ``pixel_values`` would be megabytes. They are valid for one resize rule
and one threshold only, so a fingerprint of both is stored beside them and checked before they are used.

    python examples/map_keep_indices.py
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pixelprune as pp
import tiny
from datasets import Dataset
from pixelprune.hf import PrunedProcessor


@dataclass(frozen=True)
class Pruner:
    """For ``Dataset.map(batched=True)``: plain values only, so that it pickles and its fingerprint is stable."""

    spec: pp.VisionSpec
    threshold: float

    @property
    def recipe(self) -> str:
        """Changes with everything that changes what is kept."""
        return hashlib.sha256(repr((self, pp.__version__)).encode()).hexdigest()[:16]

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the new columns of some rows."""
        batch = pp.preprocess([bytes(image) for image in rows["image"]], self.spec, threshold=self.threshold)
        keep = [selection.keep.astype(np.uint32) for selection in batch.selections]
        return {"keep": keep, "recipe": [self.recipe] * len(keep)}


def main() -> None:
    """Run the example."""
    parser = tiny.arguments(__doc__)
    options = parser.parse_args()
    model, stock = tiny.load(options.model)
    processor = PrunedProcessor(stock, model, threshold=options.threshold)
    pruner = Pruner(processor.model_spec.vision, options.threshold)

    pages = [tiny.page().crop((0, 200 * i, 1248, 200 * i + 640)) for i in range(4)]
    rows = Dataset.from_dict({"image": [tiny.png(page) for page in pages], "text": [f"part {i}" for i in range(4)]})
    rows = rows.map(pruner, batched=True, batch_size=2)
    print(rows)

    for row in rows:
        assert row["recipe"] == pruner.recipe, "made with other settings: map again"
        image = pp.load_image(bytes(row["image"]))
        text = f"<|vision_start|><|image_pad|><|vision_end|>{row['text']}"
        inputs = processor(text=[text], images=[image], keep=[np.array(row["keep"])], return_tensors="pt")
        [again] = processor(text=[text], images=[image], return_tensors="pt").pixelprune.selections
        print(row["text"], inputs.pixelprune, "as if pruned now:", np.array_equal(again.keep, row["keep"]))


if __name__ == "__main__":
    main()
