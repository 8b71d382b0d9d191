"""Code that calls a model by itself: trainers that generate, pipelines, several processes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
import torch
import transformers

from . import cases, zoo
from .cases import ONE, PLAIN, STEPS, TWO
from .test_generate import new_tokens
from .test_training import ONCE, PROMPTS, examples, processor_of

GENERATED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v", "paddleocr_vl")
HOW: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}


@pytest.fixture(params=GENERATED)
def family(request: pytest.FixtureRequest) -> zoo.Family:
    found = zoo.BY_NAME[request.param]
    if found.missing:
        pytest.skip(found.missing)
    cases.skip_unless_pruned(found, (ONE, PLAIN, TWO))
    return found


def test_seq2seq_trainer_predicts(family: zoo.Family, model: Any, tmp_path: Path) -> None:
    """It hands labels to ``generate`` too, and rebuilds the batch from its keys."""
    pytest.importorskip("accelerate")
    pruned = processor_of(family.name)
    collator = hf.PrunedCollator(pruned)
    arguments = transformers.Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        per_device_eval_batch_size=2,
        predict_with_generate=True,
        report_to=[],
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    rows = examples(family)
    twin = hf.attach(copy.deepcopy(model))
    trainer = transformers.Seq2SeqTrainer(model=twin, args=arguments, data_collator=collator)
    found = trainer.predict(rows, **HOW)  # type: ignore[arg-type]
    inputs = collator(rows)
    inputs.pop("labels")
    expected = hf.generate(model, inputs, **HOW).numpy()
    assert np.array_equal(found.predictions[:, : expected.shape[1]], expected)
    assert bool(np.isfinite(found.metrics["test_loss"]))


@pytest.mark.skipif(zoo.VERSION < (5,), reason="its pipeline wants a model from the hub")
@pytest.mark.filterwarnings("ignore")
def test_a_pipeline(family: zoo.Family, model: Any) -> None:
    pruned = processor_of(family.name)
    image = cases.images_of(family, (ONE,))["images"][0]
    messages = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "what?"}]}]
    inputs = pruned.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs.pixelprune.tokens_after < inputs.pixelprune.tokens_before
    [expected] = new_tokens(inputs, hf.generate(model, inputs, **HOW))
    twin = hf.attach(copy.deepcopy(model), pruned)
    pipe = transformers.pipeline("image-text-to-text", model=twin, processor=pruned, device="cpu")
    [answer] = pipe(text=messages, return_tensors=True, generate_kwargs=HOW)
    assert list(answer["generated_token_ids"])[-STEPS:] == expected


def use_processes(rank: int, folder: str) -> None:
    """Two steps of two processes, one with more images than the other, against two steps of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    family = zoo.BY_NAME["glm4v" if zoo.VERSION >= (5, 9) else "qwen2_vl"]
    rows = examples(family)
    collator = hf.PrunedCollator(processor_of(family.name))
    alone = copy.deepcopy(zoo.model(family)).train()
    ours = hf.attach(copy.deepcopy(zoo.model(family)).train())
    parallel = torch.nn.parallel.DistributedDataParallel(ours)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in (alone, ours)]
    for _ in range(2):
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses = [hf.forward(alone, collator([row])).loss for row in rows]
        (sum(losses) / 2).backward()
        parallel(**dict(collator([rows[rank]]))).loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    weights = [[weight.detach() for weight in model.parameters()] for model in (alone, ours)]
    worst = max(float((a - b).abs().max()) for a, b in zip(*weights, strict=True))
    assert worst < 1e-5, worst
    torch.distributed.destroy_process_group()
    print("done")


@ONCE
def test_two_processes(run_child: Callable[..., str], tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    assert len(PROMPTS) == 2
    with ThreadPoolExecutor(2) as executor:
        work = [executor.submit(run_child, use_processes, rank, str(tmp_path), timeout=240) for rank in range(2)]
        assert [future.result().split()[-1] for future in work] == ["done", "done"]
    assert os.path.isdir(tmp_path)
