"""The examples of `pixelprune.hf` and the `py` blocks of the pages run, with the tiny model of the examples."""

from __future__ import annotations

import doctest
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from pages import blocks, pages_with
from pixelprune import hf

ROOT = Path(__file__).resolve().parents[3]
OLD = tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 18)

MODULES = [
    "",
    ".attach",
    ".batch",
    ".caches",
    ".collator",
    ".encoding",
    ".generation",
    ".inputs",
    ".processor",
    ".record",
    ".tower",
]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the examples take for granted: a stock model and processor, a page, and a question about it."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        tiny = importlib.import_module("tiny")
    finally:
        sys.path.pop(0)
    (model, stock), page = tiny.load(None), tiny.page()
    content = [{"type": "image", "image": page}, {"type": "text", "text": "What is the total?"}]
    messages = [{"role": "user", "content": content}]
    prompt = stock.apply_chat_template(messages, add_generation_prompt=True)
    processor = hf.PrunedProcessor(stock, model)
    inputs = processor(text=[prompt], images=[page], return_tensors="pt")
    return locals()


@pytest.mark.skipif(OLD, reason="the examples use encode, which takes transformers 5.18")
@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str, names: dict[str, Any]) -> None:
    outcome = doctest.testmod(importlib.import_module(f"pixelprune.hf{module}"), extraglobs=names)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_every_public_name_has_an_example() -> None:
    for name in hf.__all__:
        value = getattr(hf, name)
        assert ">>> " in (value.__doc__ or ""), name


@pytest.mark.skipif(OLD, reason="the pages are written for a newer transformers")
@pytest.mark.parametrize("page", pages_with("py"))
def test_the_pages_run(page: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    scope = {"model": names["model"], "processor": names["stock"], "messages": [*names["messages"]]}
    try:
        for block in blocks(page, "py"):
            exec(compile(block, page, "exec"), scope)
    finally:
        hf.detach(names["model"])
    names["model"].zero_grad()
    capsys.readouterr()
    assert scope["inputs"].pixelprune.tokens_after < scope["inputs"].pixelprune.tokens_before
    if "output" in scope:
        assert scope["output"].shape[1] > scope["inputs"]["input_ids"].shape[1]
