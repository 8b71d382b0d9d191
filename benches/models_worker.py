"""One measurement of `models.py`, in a process of its own: ``models_worker.py JSON`` prints its figures as JSON.

It runs with the transformers, and with the ``pixelprune``, that come first on the path: ours or the published one.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "examples"))

import tiny
import torch
import transformers
from PIL import Image

Job = dict[str, Any]
HF: Any = transformers  # whichever release, so without types
QUESTION = "What does it show?"
IDS = {"image_token_id": 261, "video_token_id": 262, "vision_start_token_id": 259, "vision_end_token_id": 260}
SHOWN = 8  # logits kept of each run, to see that two implementations give the same
PRIME = 1_000_003  # random values, repeated until all weights are full: filling them takes seconds instead of minutes
SMALL = 256  # pixels: side of the image of the first call, which is not counted


# --- the model -------------------------------------------------------------------------------------------


def config(job: Job) -> Any:
    """Qwen3-VL with the widths of the 2B model and as many layers as wanted."""
    layers, depth = job["decoder_layers"], job["vit_layers"]
    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True, "rope_theta": 5_000_000.0}
    text = {
        "vocab_size": job["vocabulary"],
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rope_theta": 5_000_000.0,
        "rope_scaling": rope,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 258,
        "pad_token_id": 256,
    }
    vision = {
        "depth": depth,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "patch_size": 16,
        "out_hidden_size": 2048,
        # After a quarter, a half and three quarters of the layers, as after 6, 12 and 18 of 24; one for each of the
        # first decoder layers.
        "deepstack_visual_indexes": sorted({max(0, depth * i // 4 - 1) for i in (1, 2, 3)})[:layers],
    }
    return HF.Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **IDS)


def model(job: Job) -> Any:
    """The stock model; its weights are random, and the same in every process."""
    old = transformers.__version__.startswith("4.")
    initialising: Any = importlib.import_module(f"transformers.{'modeling_utils' if old else 'initialization'}")
    with initialising.no_init_weights():
        made = HF.Qwen3VLForConditionalGeneration._from_config(config(job), dtype=getattr(torch, job["dtype"])).eval()
    made.tie_weights()
    values = torch.randn(PRIME, generator=torch.Generator().manual_seed(0)).mul_(0.02)
    with torch.no_grad():
        for name, weight in sorted(made.named_parameters()):
            if name.endswith("bias"):
                weight.zero_()
            elif "norm" in name:
                weight.fill_(1)
            else:
                for part in weight.view(-1).split(PRIME):
                    part.copy_(values[: len(part)])
    made.generation_config.pad_token_id = 256
    return made


# --- from a file to the first token ----------------------------------------------------------------------


class Contestant:
    """A processor for a model: the stock one, ours, or the stock one for a model that the published code patched."""

    def __init__(self, made: Any, kind: str, threshold: float) -> None:
        self.model = made
        self.processor = tiny.processor()
        if kind == "pixelprune":
            from pixelprune.hf import PrunedProcessor

            self.processor = PrunedProcessor(self.processor, made, threshold=threshold)
        self.vision: list[float] = []
        made.model.visual.register_forward_pre_hook(lambda *_: self.vision.append(-time.perf_counter()))
        made.model.visual.register_forward_hook(lambda *_: self.vision.append(time.perf_counter()))

    def inputs(self, file: bytes) -> Any:
        with Image.open(BytesIO(file)) as opened:
            image = opened.convert("RGB")
        content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return self.processor(text=[text], images=[image], return_tensors="pt")

    def run(self, file: bytes) -> dict[str, Any]:
        """From the bytes of a file to the first token; the language model's head only where generating needs it."""
        self.vision.clear()
        start = time.perf_counter()
        inputs = self.inputs(file)
        ready = time.perf_counter()
        given = inputs["input_ids"].shape[1]
        if inputs["pixel_values"].dtype != self.model.dtype:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        with torch.no_grad():
            output = self.model(**inputs, use_cache=True, logits_to_keep=1)
        token = int(output.logits[0, -1].argmax())
        end = time.perf_counter()
        return {
            "seconds": end - start,
            "preprocessing": ready - start,
            "prefill": end - ready,
            "vision": sum(self.vision),
            "given": given,
            "tokens": output.past_key_values.get_seq_length(),
            "token": token,
            "logits": output.logits[0, -1, :SHOWN].float().tolist(),
        }


def first_token(job: Job) -> dict[str, Any]:
    if job["kind"] == "published":
        os.environ.update(
            PIXELPRUNE_ENABLED="true", PIXELPRUNE_METHOD="pred_2d", PIXELPRUNE_THRESHOLD=str(job["threshold"])
        )
        published: Any = importlib.import_module("pixelprune")
        published.apply_pixelprune(model="qwen3_vl")
    contestant = Contestant(model(job), job["kind"], job["threshold"])
    contestant.run(small())
    file = Path(job["image"]).read_bytes()
    with peak() as taken:
        runs = [contestant.run(file)]
    runs += [contestant.run(file) for _ in range(job["rounds"] - 1)]
    times = ("seconds", "preprocessing", "prefill", "vision")
    return {
        **runs[0],
        **{name: statistics.mean(run[name] for run in runs) for name in times},
        "all": [run["seconds"] for run in runs],
        "memory": taken[0],
    }


def photo(job: Job) -> dict[str, Any]:
    """Stock and ours in turns, in one process and with one model."""
    made = model(job)
    contestants = {"stock": Contestant(made, "stock", 0.0)}
    for threshold in job["thresholds"]:
        contestants[str(threshold)] = Contestant(made, "pixelprune", threshold)
    for contestant in contestants.values():
        contestant.run(small())
    file = Path(job["image"]).read_bytes()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(job["rounds"]):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(contestants[name].run(file)["seconds"])
    return {"all": seconds}


# --- training --------------------------------------------------------------------------------------------


def train(job: Job) -> dict[str, Any]:
    """Forward, backward, and a step of plain SGD."""
    made = model(job).train()
    contestant = Contestant(made, job["kind"], job["threshold"])
    optimiser = torch.optim.SGD(made.parameters(), lr=1e-6)

    def batch(file: bytes) -> Any:
        inputs = contestant.inputs(file)
        ids = inputs["input_ids"]
        inputs["labels"] = ids.masked_fill(ids == IDS["image_token_id"], -100)
        inputs["pixel_values"] = inputs["pixel_values"].to(made.dtype)
        return inputs

    def step(inputs: Any) -> tuple[float, float]:
        start = time.perf_counter()
        loss = made(**inputs, use_cache=False).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return time.perf_counter() - start, float(loss.detach())

    step(batch(small()))
    inputs = batch(Path(job["image"]).read_bytes())
    with peak() as taken:
        runs = [step(inputs)]
    runs += [step(inputs) for _ in range(job["rounds"] - 1)]
    return {
        "seconds": statistics.mean(seconds for seconds, _ in runs),
        "all": [seconds for seconds, _ in runs],
        "loss": runs[0][1],
        "tokens": inputs["input_ids"].shape[1],
        "memory": taken[0],
    }


# --- the machine -----------------------------------------------------------------------------------------


def faster_dtype(job: Job) -> dict[str, Any]:
    """Which type this processor multiplies faster."""
    del job
    seconds = {}
    for name in ("float32", "bfloat16"):
        left = torch.randn(768, 768).to(getattr(torch, name))
        times = []
        for _ in range(4):
            start = time.perf_counter()
            left @ left
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    return {"dtype": min(seconds, key=lambda name: seconds[name]), "matmul": seconds}


def small() -> bytes:
    return tiny.png(Image.effect_noise((SMALL, SMALL), 100).convert("RGB"))


@contextmanager
def peak() -> Iterator[list[int]]:
    """The bytes by which the block raises the resident memory at its highest. Linux only: VmHWM can be set back."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    taken: list[int] = []
    yield taken
    taken.append(resident("VmHWM") - before)


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


JOBS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "dtype": faster_dtype,
    "first_token": first_token,
    "photo": photo,
    "train": train,
}


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    found = JOBS[job["job"]](job)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({**found, "versions": versions}))


if __name__ == "__main__":
    main()
