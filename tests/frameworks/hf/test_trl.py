"""TRL's own collators and trainers on pruned batches. Runs where TRL is installed."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pixelprune.hf as hf
import pytest
import torch

from . import zoo
from .test_layouts import FAMILY, OK, WHERE, A, B, pruned
from .test_training import ONCE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl")
    pytest.importorskip("accelerate")
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

pytestmark = [ONCE, pytest.mark.filterwarnings("ignore")]

LONG = {"role": "assistant", "content": "a longer answer"}
CHATS = [{"messages": [WHERE, OK], "images": [A]}, {"messages": [WHERE, LONG], "images": [B, A]}]
PARTS = [{"prompt": [WHERE], "completion": [OK], "images": [A]}, {"prompt": [WHERE], "completion": [LONG], "image": B}]
PAIRS = [{"prompt": [WHERE], "chosen": [OK], "rejected": [LONG], "images": [image]} for image in (A, B)]


def fresh(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """TRL's collators change their examples."""
    return [dict(example) for example in examples]


def texts(batch: Any, name: str = "input_ids") -> list[list[int]]:
    """The rows without padding; of labels, those that are learned."""
    rows = zip(batch[name], batch["attention_mask"], strict=True)
    kept = [row[mask.bool()] for row, mask in rows]
    return [row[row != -100].tolist() for row in kept]


@pytest.mark.parametrize(
    ("examples", "ours", "how"),
    [
        (CHATS, "all", {}),
        (CHATS, "assistant", {"assistant_only_loss": True}),
        (PARTS, "all", {}),
        (PARTS, "assistant", {"completion_only_loss": True}),
    ],
)
def test_language_modeling(examples: list[dict[str, Any]], ours: Any, how: dict[str, bool]) -> None:
    """The same tokens are learned, but for images' placeholders, which TRL's labels have."""
    processor = pruned()
    if "images" not in examples[1]:
        examples = [examples[0], {**examples[1], "images": [examples[1]["image"]]}]
        del examples[1]["image"]
    inner = DataCollatorForVisionLanguageModeling(processor.processor, **how)
    found = hf.PrunedCollator(processor, inner=inner)(fresh(examples))
    expected = hf.PrunedCollator(processor, labels=ours)(examples)
    assert found.pixelprune.tokens_after < found.pixelprune.tokens_before
    assert texts(found) == texts(expected)
    learned = [[token for token in row if token != zoo.IDS["<|image_pad|>"]] for row in texts(found, "labels")]
    first = [row[:1] if ours == "all" else [] for row in texts(found)]
    assert learned == [begin + row for begin, row in zip(first, texts(expected, "labels"), strict=True)]
    assert found["attention_mask"][:, 0].all()


def test_preferences() -> None:
    processor = pruned()
    inner = DataCollatorForVisionPreference(processor.processor)
    found = hf.PrunedCollator(processor, inner=inner)(fresh(PAIRS))
    split = [
        {"prompt": pair["prompt"], "completion": pair[name], "images": pair["images"]}
        for name in ("chosen", "rejected")
        for pair in PAIRS
    ]
    expected = hf.PrunedCollator(processor, labels="assistant")(split)
    assert texts(found) == texts(expected)
    rows = zip(found["input_ids"], found["completion_mask"], strict=True)
    assert [ids[mask.bool()].tolist() for ids, mask in rows] == texts(expected, "labels")


def arguments(kind: Any, folder: Path) -> Any:
    return kind(
        output_dir=str(folder),
        max_steps=2,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        max_length=None,
    )


def test_sft_trainer(tmp_path: Path) -> None:
    """Its first loss is that of the pruned batch."""
    processor = pruned()
    model = copy.deepcopy(zoo.model(FAMILY))
    inner = DataCollatorForVisionLanguageModeling(processor.processor)
    collator = hf.PrunedCollator(processor, inner=inner)
    with torch.no_grad():
        expected = float(hf.forward(model, collator(fresh(CHATS))).loss)
    trainer = trl.SFTTrainer(
        model=model,
        args=arguments(trl.SFTConfig, tmp_path),
        train_dataset=Dataset.from_list(CHATS),
        data_collator=collator,
        processing_class=processor.processor,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert abs(losses[0] - expected) < 2e-3
    assert len(losses) == 2


def test_dpo_trainer(tmp_path: Path) -> None:
    """It gets pruned batches, from which it computes its first loss: that of equal models, log 2."""
    processor = pruned()
    lengths = []
    collator = hf.PrunedCollator(processor, inner=DataCollatorForVisionPreference(processor.processor))

    def watched(examples: list[dict[str, Any]]) -> Any:
        batch = collator(examples)
        lengths.append((batch.pixelprune.tokens_before, batch.pixelprune.tokens_after))
        return batch

    trainer = trl.DPOTrainer(
        model=copy.deepcopy(zoo.model(FAMILY)),
        ref_model=copy.deepcopy(zoo.model(FAMILY)),
        args=arguments(trl.DPOConfig, tmp_path),
        train_dataset=Dataset.from_list(PAIRS),
        data_collator=watched,
        processing_class=processor.processor,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert abs(losses[0] - 0.6931) < 1e-3
    assert lengths
    assert all(after < before for before, after in lengths)
