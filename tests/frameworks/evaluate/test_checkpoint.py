"""A checkpoint on this machine, end to end: a tiny random Qwen3-VL, saved and loaded like any other."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pixelprune import PixelPruneError, PruneSettings, prune, resize_image
from pixelprune.cli import main
from pixelprune.evaluate import Checkpoint, Condition, conditions_of
from pixelprune.evaluate.engines.loading import fingerprint_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = PruneSettings(threshold=0.02)
STOCK, PRUNED = Condition("stock"), Condition("pruned", SETTINGS)
LENGTH = 6

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (320, 288, 3), np.uint8))
PAGE = Image.new("RGB", (320, 352), "white")
ImageDraw.Draw(PAGE).text((30, 40), "total 12", fill="black")
PAGE.paste(NOISE.crop((0, 0, 100, 100)), (130, 130))


@pytest.fixture(scope="module")
def tiny() -> Any:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import tiny
    finally:
        sys.path.pop(0)
    return tiny


@pytest.fixture(scope="module")
def folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tiny-qwen3-vl")
    tiny.save(path)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Checkpoint:
    return Checkpoint(folder, device="cpu")


def by_hand(folder: Path, prompt: str, images: list[Image.Image], **options: Any) -> tuple[str, int]:
    """The answer of the stock model to the stock processor's inputs, and the length of the prompt."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": prompt}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        **options,
    )
    length = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, do_sample=False, max_new_tokens=LENGTH)
    return processor.tokenizer.decode(output[0, length:], skip_special_tokens=True), length


@pytest.mark.parametrize("images", [[PAGE], [PAGE, NOISE], []], ids=["one", "two", "none"])
def test_the_stock_answer_is_that_of_transformers(folder: Path, engine: Checkpoint, images: list[Image.Image]) -> None:
    answer = engine.answer("What is the total?", images, STOCK, length=LENGTH)
    assert (answer.text, answer.prompt_tokens) == by_hand(folder, "What is the total?", images)
    assert answer.sizes == answer.seen == tuple(image.size for image in images)
    assert answer.tokens == tuple(image.width * image.height // 1024 for image in images)
    assert answer.prefill is not None
    assert 0 < answer.prefill <= answer.seconds
    assert answer.peak_bytes is None


@pytest.mark.parametrize("images", [[NOISE], [NOISE, NOISE.rotate(90, expand=True)], []], ids=["one", "two", "none"])
def test_with_everything_kept_the_answer_is_the_stock_answer(engine: Checkpoint, images: list[Image.Image]) -> None:
    stock, pruned = (engine.answer("What is this?", images, condition, length=LENGTH) for condition in (STOCK, PRUNED))
    assert (pruned.text, pruned.tokens, pruned.prompt_tokens) == (stock.text, stock.tokens, stock.prompt_tokens)
    random = Condition("random", SETTINGS)
    again = engine.answer("What is this?", images, random, counts=stock.tokens or (), length=LENGTH)
    assert (again.text, again.tokens) == (stock.text, stock.tokens)


def test_tokens_of_each_condition(engine: Checkpoint) -> None:
    images = [PAGE, NOISE]
    kept = tuple(prune(resize_image(image, "qwen3_vl"), "qwen3_vl", settings=SETTINGS).kept for image in images)
    assert kept[0] < 60
    assert engine.count(images, SETTINGS) == kept
    pruned = engine.answer("q", images, PRUNED, length=LENGTH)
    random, other, same = (
        engine.answer("q", images, Condition("random", SETTINGS), counts=kept, length=LENGTH, seed=seed)
        for seed in (1, 2, 1)
    )
    stock = engine.answer("q", images, STOCK, length=LENGTH)
    assert stock.tokens is not None
    assert stock.prompt_tokens is not None
    assert pruned.tokens == random.tokens == other.tokens == kept
    assert pruned.seen == random.seen == stock.seen
    assert pruned.prompt_tokens == random.prompt_tokens == stock.prompt_tokens - sum(stock.tokens) + sum(kept)
    assert random.text == same.text
    assert len({pruned.text, random.text, other.text, stock.text}) > 1


def test_random_tokens_are_drawn_anew(engine: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    keeps = []
    processor = engine._processor(SETTINGS)

    class Watched:
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            keeps.append(kwargs["keep"])
            return processor(*args, **kwargs)

    monkeypatch.setattr(engine, "_processor", lambda _: Watched())
    for seed in (1, 2):
        engine.answer("q", [PAGE, PAGE], Condition("random", SETTINGS), counts=(9, 9), length=1, seed=seed)
    drawn = [indices.tolist() for keep in keeps if keep != "all" for indices in keep]
    assert len(drawn) == 4
    assert all(len(set(indices)) == 9 and indices == sorted(indices) and indices[-1] < 110 for indices in drawn)
    assert len({tuple(indices) for indices in drawn}) == 4, "the same tokens of two images, or with two seeds"


def test_shrunk_images_are_those_of_the_processor_with_fewer_pixels(folder: Path, engine: Checkpoint) -> None:
    condition = Condition("shrunk", SETTINGS)
    answer = engine.answer("What is the total?", [NOISE], condition, counts=(40,), length=LENGTH)
    assert (answer.tokens, answer.seen, answer.sizes) == ((36,), ((192, 192),), ((288, 320),))
    size = {"shortest_edge": 1024, "longest_edge": 40 * 1024}
    expected = by_hand(folder, "What is the total?", [NOISE], processor_kwargs={"size": size})
    assert (answer.text, answer.prompt_tokens) == expected
    two = engine.answer("q", [PAGE, NOISE], condition, counts=(1, 12), length=LENGTH)
    assert two.tokens == (1, 12)


def test_limits_of_the_image_processor(folder: Path) -> None:
    engine = Checkpoint(folder, device="cpu", min_pixels=4096, max_pixels=50 * 1024)
    assert (engine.identity["min_pixels"], engine.identity["max_pixels"]) == (4096, 50 * 1024)
    for condition in (STOCK, PRUNED):
        answer = engine.answer("q", [NOISE], condition, length=1)
        assert answer.seen == ((192, 224),)
        assert answer.tokens == (42,)
    with pytest.raises(PixelPruneError, match="min_pixels is 65536, and max_pixels 1024; expected no less"):
        Checkpoint(folder, max_pixels=1024)


def test_what_its_coordinates_are_is_known(engine: Checkpoint) -> None:
    assert engine.points == "thousand"
    assert engine.device == "CPU"


def test_an_answer_that_was_cut_is_told(engine: Checkpoint) -> None:
    answer = engine.answer("q", [PAGE], STOCK, length=2)
    assert not answer.finished
    ends = engine._model.generation_config.eos_token_id
    engine._model.generation_config.eos_token_id = list(range(288))
    try:
        assert engine.answer("q", [PAGE], STOCK, length=2).finished
    finally:
        engine._model.generation_config.eos_token_id = ends


def test_the_fingerprint_is_that_of_weights_and_texts(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    known = fingerprint_of(folder)
    assert fingerprint_of(copy) == known
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint_of(copy) != known
    shutil.copy(folder / "model.safetensors", weights)
    assert fingerprint_of(copy) == known
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert fingerprint_of(copy) != known


@pytest.fixture
def data(tmp_path: Path, tiny: Any) -> Path:
    """Twelve questions about six pages; the answers are of no use to a model with random weights."""
    lines = ["index\timage\tquestion\tanswer"]
    for i in range(6):
        page = PAGE.copy()
        ImageDraw.Draw(page).text((30, 300), f"page {i}", fill="black")
        lines.append(f"{i}\t{base64.b64encode(tiny.png(page)).decode()}\tWhich page?\t['{i}', 'page {i}']")
        lines.append(f"{i + 6}\t{i}\tWhat is the total?\t12")
    (tmp_path / "pages.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pages.tsv"


def words(folder: Path, data: Path, out: Path) -> list[str]:
    named = ("--model", folder, "--data", data, "--task", "docvqa", "-o", out, "--max-new-tokens", 3, "--device", "cpu")
    return ["eval", *map(str, named), "--settings", "pred_2d@0,either@0.02+content"]


def said(out: Path) -> list[Any]:
    """The answers without their times."""
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k not in ("prefill", "seconds")} for line in lines]


def test_the_command(folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder, data, tmp_path / "out")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("CPU, rules of lmms-eval, min_pixels 65536, max_pixels 16777216\n\n| docvqa, ANLS ")
    names = [one.name for one in conditions_of("pred_2d@0,either@0.02+content")]
    assert [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")][2:] == names
    assert "12 questions about 6 images, 12 scores each" in out
    answers = said(tmp_path / "out")
    assert len(answers) == 1 + 12 * 7
    tokens = {(one["question"], one["condition"]): sum(one["tokens"]) for one in answers[1:]}
    for question in map(str, range(12)):
        for label in ("pred_2d@0", "either@0.02+content"):
            kept = tokens[question, label]
            assert tokens[question, f"random:{label}"] == kept
            assert 0.5 * kept < tokens[question, f"shrunk:{label}"] <= kept < tokens[question, "stock"]


def test_a_run_that_was_killed_goes_on(folder: Path, data: Path, tmp_path: Path) -> None:
    assert main(words(folder, data, tmp_path / "whole")) == 0
    cut = tmp_path / "cut" / "answers.jsonl"
    for lines in (3, 30):
        command = [sys.executable, "-m", "pixelprune", *words(folder, data, tmp_path / "cut")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while process.poll() is None and (not cut.exists() or cut.read_bytes().count(b"\n") < lines):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was done before it was killed"
        assert lines <= cut.read_bytes().count(b"\n") < 1 + 12 * 7
    assert main(words(folder, data, tmp_path / "cut")) == 0
    assert said(tmp_path / "cut") == said(tmp_path / "whole")


def without(name: str, copy: Path) -> None:
    (copy / name).unlink()


def without_a_weight(copy: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    weights = safetensors.load_file(copy / "model.safetensors")
    weights.pop(next(name for name in weights if "mlp" in name))
    safetensors.save_file(weights, copy / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda copy: without("config.json", copy), "has no config.json; expected the folder of a checkpoint"),
        (lambda copy: without("chat_template.jinja", copy), "has no chat template"),
        (lambda copy: without("model.safetensors", copy), "can't be loaded on cpu"),
        (lambda copy: (copy / "model.safetensors").write_bytes(b"no weights"), "can't be loaded on cpu"),
        (without_a_weight, "lacks weights: ['model."),
        (lambda copy: (copy / "config.json").write_text("{"), "can't be loaded on cpu"),
        (lambda copy: (copy / "config.json").write_text('{"model_type": "bert"}'), "can't be loaded on cpu"),
    ],
)
def test_a_bad_checkpoint_is_one_line(
    damage: Any, reason: str, folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    damage(copy)
    assert main(words(copy, data, tmp_path / "out")) == 1
    err = capsys.readouterr().err
    assert err.startswith("pixelprune: error: ")
    assert reason in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "reason"),
    [(("--device", "tpu7"), "can't be loaded on tpu7"), (("--dtype", "float3"), "can't be loaded on cpu")],
)
def test_bad_options_are_one_line(
    option: tuple[str, str], reason: str, folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(folder, data, tmp_path / "out"), *option]) == 1
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
