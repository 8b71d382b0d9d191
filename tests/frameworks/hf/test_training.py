"""Training on pruned batches: the HF Trainer, worker processes, datasets."""

from __future__ import annotations

import copy
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pixelprune.hf as hf
import pytest
import torch
import transformers
from torch.nn import functional as F
from torch.utils.data import DataLoader

from . import cases, oracle, zoo
from .cases import ONE, TWO
from .conftest import Close
from .test_processor import assert_same, conversation, masks

ONCE = pytest.mark.skipif(
    Path(transformers.__file__).parents[1] != Path(torch.__file__).parents[1],
    reason="slow, and not about the version of transformers: run with that of the environment",
)
TRAINER = pytest.mark.skipif(zoo.VERSION < (5, 9), reason="model(**inputs) takes no positions before transformers 5.9")
PLAIN_CALL = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
TRAINED = (*PLAIN_CALL, "paddleocr_vl")
PROMPTS = (ONE, TWO)


@pytest.fixture
def trained(request: pytest.FixtureRequest) -> zoo.Family:
    family = zoo.BY_NAME[request.param]
    if family.missing:
        pytest.skip(family.missing)
    cases.skip_unless_pruned(family, PROMPTS)
    return family


def processor_of(name: str, **settings: Any) -> Any:
    family = zoo.BY_NAME[name]
    return hf.PrunedProcessor(zoo.processor(family), zoo.model(family).config, **settings)


def examples(family: zoo.Family) -> list[dict[str, Any]]:
    return [{"text": cases.text_of(family, p), "images": cases.images_of(family, [p])["images"]} for p in PROMPTS]


def loss_by_oracle(model: Any, family: zoo.Family, pruned: Any) -> torch.Tensor:
    """The loss of a batch of the examples, all text to be learned, row by row on the masked stock model."""
    total, count = torch.zeros(()), 0
    for prompt in PROMPTS:
        row = cases.process(family, [prompt])
        keep = masks(pruned, cases.images_of(family, [prompt])["images"])
        ids = row["input_ids"][0][oracle.kept_tokens(model.config, row, keep)]
        labels = ids.masked_fill(ids == model.config.image_token_id, -100)
        logits = oracle.logits(model, row, keep, order=family.order)
        total = total + F.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
        count += int((labels[1:] != -100).sum())
    return total / count


@TRAINER
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("trained", PLAIN_CALL, indirect=True)
def test_trainer(trained: zoo.Family, checkpointing: bool, tmp_path: Path, close: Close) -> None:
    train(trained, checkpointing, False, tmp_path, close)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("trained", [*TRAINED, "glm4v"], indirect=True)
def test_trainer_with_an_attached_model(trained: zoo.Family, checkpointing: bool, tmp_path: Path, close: Close) -> None:
    """Also where the vision tower takes no positions."""
    train(trained, checkpointing, True, tmp_path, close)


def train(family: zoo.Family, checkpointing: bool, attached: bool, tmp_path: Path, close: Close) -> None:
    """Three steps of the stock Trainer leave the weights where three steps by the oracle do."""
    pytest.importorskip("accelerate")
    pruned = processor_of(family.name)
    ours, theirs = copy.deepcopy(zoo.model(family)).train(), copy.deepcopy(zoo.model(family)).train()
    if attached:
        hf.attach(ours, pruned)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        loss = loss_by_oracle(theirs, family, pruned)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.05
    settings = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=2,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    if checkpointing:
        # Its name since 5.23, and before.
        enable = getattr(ours, "activation_checkpointing_enable", ours.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    blocks = [m for m in ours.modules() if getattr(m, "gradient_checkpointing", False)]
    assert bool(blocks) == checkpointing
    trainer = transformers.Trainer(
        model=ours,
        args=settings,
        train_dataset=examples(family),
        data_collator=hf.PrunedCollator(pruned),
        optimizers=(torch.optim.SGD(ours.parameters(), lr=0.05), None),
    )
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.allclose(logged, losses, atol=2e-4)  # the log is rounded
    with torch.no_grad():
        start = zoo.model(family).parameters()
        moved = float(sum((a - b).abs().sum() for a, b in zip(theirs.parameters(), start, strict=True)))
    assert moved > 1
    close([p.detach() for p in ours.parameters()], [p.detach() for p in theirs.parameters()], 2e-5)


# --- Batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", TRAINED, indirect=True)
def test_collator(trained: zoo.Family, close: Close) -> None:
    family = trained
    model, pruned = zoo.model(family), processor_of(family.name)
    batch = hf.PrunedCollator(pruned)(examples(family))
    assert (batch["labels"] != -100).sum() < batch["attention_mask"].sum()
    # Padded to the left, so that the first token of a short row would be predicted from padding; the oracle omits it.
    here = batch["attention_mask"].bool()
    batch["labels"][here & (here.cumsum(1) == 1)] = -100
    with torch.no_grad():
        close(hf.forward(model, batch).loss, loss_by_oracle(model, family, pruned))


def test_collator_takes_what_is_kept() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    rows = examples(family)
    keep = [[cases.some(5, 7, 31)], [cases.some(6, 4, 32), cases.some(3, 9, 33)]]
    given = [{**row, "keep": kept} for row, kept in zip(rows, keep, strict=True)]
    batch = hf.PrunedCollator(processor_of("qwen3_vl"))(given)
    found = [s.mask.ravel().tolist() for s in batch.pixelprune.selections]
    assert found == [mask.tolist() for row in keep for mask in row]


@pytest.mark.skipif(zoo.VERSION < (5, 18), reason="stock processors lose track where placeholders grow")
def test_collator_of_conversations() -> None:
    """Only the assistant's tokens are targets."""
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = [{"messages": conversation(family, answer)[0]} for answer in ("a cat", "no idea at all")]
    batch = hf.PrunedCollator(pruned, labels="assistant")(rows)
    said = [pruned.decode(labels[labels != -100]) for labels in batch["labels"]]
    assert said == ["a cat<|im_end|>", "no idea at all<|im_end|>"]


@TRAINER
@pytest.mark.parametrize("trained", TRAINED, indirect=True)
def test_packed_rows_are_padded_ones(trained: zoo.Family, close: Close) -> None:
    family = trained
    model, pruned = zoo.model(family), processor_of(family.name)
    packed = hf.PrunedCollator(pruned, packing=True)(examples(family))
    assert packed["input_ids"].shape[0] == 1
    alone = [hf.PrunedCollator(pruned)([example]) for example in examples(family)]
    with torch.no_grad():
        found = hf.forward(model, packed)
        rows = [hf.forward(model, one) for one in alone]
    close(found.logits[0], torch.cat([row.logits[0] for row in rows]))
    counts = [int((one["labels"][:, 1:] != -100).sum()) for one in alone]
    expected = sum(float(row.loss) * count for row, count in zip(rows, counts, strict=True)) / sum(counts)
    assert abs(float(found.loss) - expected) < cases.TOLERANCE


@TRAINER
def test_invalid_lengths() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    model, case = zoo.model(family), cases.make(zoo.BY_NAME["qwen3_vl"], (ONE,))
    length = case.batch["input_ids"].shape[1]
    how = {"keep": case.keep}
    fine = hf.prune_inputs(case.batch, model, lengths=[[length]], **how)
    for same in ([torch.tensor([length])], np.array([[length]]), [[np.int32(length)]], torch.tensor([[length]])):
        assert hf.prune_inputs(case.batch, model, lengths=same, **how).pixelprune.lengths == fine.pixelprune.lengths
    for wrong, error, found in (
        (3, TypeError, "lengths is a int"),
        ("ab", TypeError, "lengths is a str"),
        ([[length], [length]], pp.PixelPruneError, "lengths has 2 entries; expected one per row, 1"),
        ([3], pp.PixelPruneError, r"lengths\[0\] is 3; expected a list of integers"),
        ([["a"]], pp.PixelPruneError, r"lengths\[0\] is \['a'\]"),
        ([[float(length)]], pp.PixelPruneError, r"lengths\[0\] is \[.*; expected a list of integers"),
        ([[length + 0.5]], pp.PixelPruneError, r"lengths\[0\] is \[.*; expected a list of integers"),
        ([[length - 3, -2, 5]], pp.PixelPruneError, rf"lengths\[0\] is \[.*-2, 5\]; .* add up to .* {length}"),
        ([[length - 1]], pp.PixelPruneError, rf"add up to .* {length}"),
        ([[]], pp.PixelPruneError, rf"lengths\[0\] is \[\]; .* add up to .* {length}"),
    ):
        with pytest.raises(error, match=found):
            hf.prune_inputs(case.batch, model, lengths=wrong, **how)


# --- Worker processes ---------------------------------------------------------------------------------------


def use_loader_workers() -> None:
    """Prune in this process with threads, then in 4 forked workers, then in 4 spawned ones."""
    warnings.filterwarnings("ignore", "This DataLoader will create 4 worker processes", UserWarning)
    family = zoo.BY_NAME["qwen3_vl"]
    collator = hf.PrunedCollator(processor_of("qwen3_vl"))
    rows = [*examples(family)] * 4
    page = np.asarray(zoo.draw_image(family, 40, 40))
    pp.prune_batch([page] * 4, "qwen3_vl", threads=2)
    expected = [collator(rows[i : i + 1]) for i in range(len(rows))]
    for way in ("fork", "spawn"):
        if way not in multiprocessing.get_all_start_methods():
            continue
        loader = DataLoader(
            rows,  # type: ignore[arg-type]
            batch_size=1,
            num_workers=4,
            collate_fn=collator,
            multiprocessing_context=way,
        )
        for found, one in zip(loader, expected, strict=True):
            assert_same(found, one)
            assert found.pixelprune.selections == one.pixelprune.selections
        print(way, "done")


@ONCE
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_loader_workers(run_child: Callable[..., str]) -> None:
    assert run_child(use_loader_workers, timeout=240).split() == ["fork", "done", "spawn", "done"]


def keep_of(row: dict[str, Any], pruned: Any) -> dict[str, Any]:
    """A column of kept tokens, for `datasets.map`."""
    spec = pruned.model_spec.vision
    return {"keep": [pp.prune(np.asarray(image, np.uint8), spec).keep for image in row["images"]]}


def use_map() -> None:
    """Store kept tokens with `datasets.map` in two processes, and train on them."""
    from datasets import Dataset, disable_progress_bars
    from datasets.fingerprint import Hasher

    disable_progress_bars()
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family)
    plain = [{**row, "images": [np.asarray(image) for image in row["images"]]} for row in rows]
    stored = Dataset.from_list(plain).map(keep_of, fn_kwargs={"pruned": pruned}, num_proc=2)
    collator = hf.PrunedCollator(pruned)
    assert_same(
        collator([{**row, "keep": keep} for row, keep in zip(rows, stored["keep"], strict=True)]), collator(rows)
    )
    same, other = processor_of("qwen3_vl"), processor_of("qwen3_vl", threshold=0.1)
    assert Hasher.hash(pruned) == Hasher.hash(same) != Hasher.hash(other)
    print("done")


@ONCE
def test_map(run_child: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    assert run_child(use_map, timeout=120, env={"HF_HOME": str(tmp_path)}).split()[-1] == "done"
