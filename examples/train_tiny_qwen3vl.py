"""Train a Qwen3-VL with Hugging Face's ``Trainer``, with pruning and gradient checkpointing.

Needs ``accelerate`` besides transformers, which has to be 5.9 or later: from there on
``model(**inputs)`` takes pruned inputs.

    python examples/train_tiny_qwen3vl.py --steps 8
    python examples/train_tiny_qwen3vl.py --packing
"""

from __future__ import annotations

import tempfile

import tiny
from pixelprune.hf import PrunedCollator, PrunedProcessor
from train_dataloader import Crops
from transformers import Trainer, TrainingArguments


def main() -> None:
    """Run the example."""
    parser = tiny.arguments(__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--packing", action="store_true", help="several examples in one row instead of padding")
    options = parser.parse_args()

    model, stock = tiny.load(options.model)
    processor = PrunedProcessor(stock, model, threshold=options.threshold)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                max_steps=options.steps,
                per_device_train_batch_size=2,
                learning_rate=1e-3,
                logging_steps=1,
                gradient_checkpointing=True,
                remove_unused_columns=False,
                dataloader_num_workers=2,
                dataloader_pin_memory=False,
                report_to=[],
                use_cpu=model.device.type == "cpu",
            ),
            train_dataset=Crops(2 * options.steps),
            data_collator=PrunedCollator(processor, packing=options.packing),
            processing_class=processor,
        )
        result = trainer.train()
        trainer.save_model()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"{result.global_step} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}")


if __name__ == "__main__":
    main()
