"""Train with a plain loop: the data loader's workers prune, the model gets the kept tokens.

python examples/train_dataloader.py --workers 2
"""

from __future__ import annotations

from typing import Any

import tiny
import torch
from pixelprune.hf import PrunedCollator, PrunedProcessor, forward
from torch.utils.data import DataLoader, Dataset


class Crops(Dataset[dict[str, Any]]):
    """Parts of a page, each with the number of its first line."""

    def __init__(self, count: int) -> None:
        self.page = tiny.page()
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        top = 100 * (index % 10)
        crop = self.page.crop((0, top, 640, top + 320 + 32 * (index % 3)))
        return {
            "messages": [
                {"role": "user", "content": [{"type": "image", "image": crop}, {"type": "text", "text": "Where?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": f"line {top}"}]},
            ]
        }


def main() -> None:
    """Run the example."""
    parser = tiny.arguments(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()

    model, stock = tiny.load(options.model)
    model.train()
    processor = PrunedProcessor(stock, model, threshold=options.threshold)
    loader = DataLoader(
        Crops(2 * options.steps), batch_size=2, num_workers=options.workers, collate_fn=PrunedCollator(processor)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step, inputs in enumerate(loader):
        loss = forward(model, inputs.to(model.device)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        before, after = inputs.pixelprune.tokens_before, inputs.pixelprune.tokens_after
        print(f"step {step}  loss {loss.item():.3f}  {after} of {before} tokens")


if __name__ == "__main__":
    main()
