"""A `PrunedProcessor` takes the calls that its processor takes: padding, truncation, lists, images without text."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pixelprune as pp
import pixelprune.hf as hf
import pytest
import torch

from . import cases, zoo
from .cases import ONE, PLAIN, TWO, VIDEO
from .test_processor import conversation, given

PADDINGS: list[dict[str, Any]] = [
    {"padding": True, "padding_side": "right"},
    {"padding": "longest", "padding_side": "left"},
    {"padding": "max_length", "max_length": 150},
    {"padding": "max_length", "max_length": 150, "padding_side": "right", "pad_to_multiple_of": 64},
    {"padding": True, "pad_to_multiple_of": 64},
]
CHOICES: list[dict[str, Any]] = [{}, {"threshold": (0.0, 0.9, 0.4)}, {"keep": [[0, 3], None, [5]]}]


def own(family: zoo.Family, side: str = "left") -> Any:
    """A pruned processor with a tokenizer of its own, which remembers how it padded and truncated last."""
    return hf.PrunedProcessor(copy.deepcopy(zoo.processor(family, side)), zoo.model(family))


@pytest.fixture(scope="module")
def qwen() -> zoo.Family:
    return zoo.BY_NAME["qwen2_vl"]


@pytest.fixture(scope="module")
def pruned(qwen: zoo.Family) -> Any:
    return own(qwen)


def padded(pruned: Any, rows: list[list[int]], how: dict[str, Any]) -> Any:
    """What the tokenizer makes of prompts of these tokens."""
    return pruned.tokenizer.pad({"input_ids": rows}, return_tensors="pt", **how)


def rows_of(inputs: Any) -> list[list[int]]:
    """The tokens of every prompt, without padding."""
    return [ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]


@pytest.mark.parametrize("how", PADDINGS, ids=str)
@pytest.mark.parametrize("where", ["call", "text_kwargs"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(qwen: zoo.Family, how: dict[str, Any], where: str, side: str) -> None:
    """Prompts are padded as the tokenizer pads prompts of their pruned length, whatever is pruned, and when."""
    pruned = own(qwen, side)
    calls = [(given(qwen, ONE, TWO), choice) for choice in CHOICES]
    calls += [(given(qwen, PLAIN, VIDEO, ("short",)), {}), (given(qwen, PLAIN, ("short",)), {})]
    for arguments, choice in calls:
        plain = pruned(**arguments, **choice)
        del arguments["padding"]
        if where == "call":
            inputs = pruned(**arguments, **choice, **how)
        else:  # older releases then take nothing from outside
            within = {**how, "return_tensors": arguments.pop("return_tensors")}
            inputs = pruned(**arguments, **choice, text_kwargs=within)
        expected = padded(pruned, rows_of(plain), how)
        assert torch.equal(inputs["input_ids"], expected["input_ids"])
        assert torch.equal(inputs["attention_mask"], expected["attention_mask"])
        assert (
            ("position_ids" in inputs)
            == ("position_ids" in plain)
            == bool(len(arguments.keys() & {"images", "videos"}))
        )
        if "position_ids" in plain:
            assert inputs["position_ids"].shape[1:] == expected["input_ids"].shape
            assert torch.equal(
                inputs["position_ids"][:, inputs["attention_mask"].bool()],
                plain["position_ids"][:, plain["attention_mask"].bool()],
            )
        for name in plain.keys() - {"input_ids", "attention_mask", "position_ids", "mm_token_type_ids"}:
            assert torch.equal(inputs[name], plain[name]), name
        if "mm_token_type_ids" in plain:
            shown = inputs["input_ids"] == pruned.model_spec.image_token_id
            assert torch.equal(inputs["mm_token_type_ids"] == 1, shown)


@pytest.mark.parametrize("where", ["", "processor_kwargs", "text_kwargs", "tokenizer_kwargs"])
def test_padding_of_conversations(pruned: Any, qwen: zoo.Family, where: str) -> None:
    """In every place where the installed release looks for it."""
    messages, _ = conversation(qwen)
    both = [messages, [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]]
    common = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    how = {"padding": "max_length", "max_length": 200, "padding_side": "right"}
    arguments = {**common, **({where: how} if where else how)}
    if where == "text_kwargs":
        arguments[where] = {**how, "return_tensors": arguments.pop("return_tensors")}
    try:
        stock = pruned.processor.apply_chat_template(both, **copy.deepcopy(arguments))  # which 4.57 empties
    except (TypeError, ValueError):
        pytest.skip(f"this release has no {where}")
    inputs = pruned.apply_chat_template(both, **arguments)
    padding = stock["attention_mask"][:, -1].tolist()
    assert inputs["attention_mask"][:, -1].tolist() == padding
    if padding == [0, 0]:
        assert inputs["input_ids"].shape == stock["input_ids"].shape == (2, 200)


def test_a_finished_batch_keeps_its_side(pruned: Any, qwen: zoo.Family) -> None:
    """`prune` looks at the batch first, then at the tokenizer."""
    arguments = given(qwen, ONE, PLAIN)
    for side in ("left", "right"):
        inputs = pruned.prune(pruned.processor(**arguments, padding_side=side))
        assert inputs["attention_mask"][:, 0 if side == "left" else -1].tolist().count(0) == 1
    alone = pruned.processor(text=["ab", "cd"], return_tensors="pt")
    assert pruned.prune(alone)["attention_mask"].all()


def assert_as_stock(found: Any, stock: Any) -> None:
    """The stock keys have the stock types."""
    for name, value in stock.items():
        assert type(found[name]) is type(value), name


def test_lists_of_text(pruned: Any) -> None:
    for text in (["a", "bcd"], ["ab", "cd"], "a", ["a"]):
        for how in ({}, {"padding": True}, {"return_tensors": "np", "padding": True}):
            stock, found = pruned.processor(text=text, **how), pruned(text=text, **how)
            assert_as_stock(found, stock)
            for name, value in stock.items():
                assert np.array_equal(found[name], value) if "return_tensors" in how else found[name] == value
            if "return_tensors" not in how:
                assert found.keys() == stock.keys()
            assert found.pixelprune.tokens_after == np.concatenate(stock["attention_mask"]).sum()


def test_lists_with_an_image(pruned: Any, qwen: zoo.Family) -> None:
    """Prompts are lists where the stock processor's are, and the rest what it is there."""
    arguments = given(qwen, ONE)
    expected = pruned(**arguments)
    del arguments["return_tensors"], arguments["padding"]
    found, stock = pruned(**arguments), pruned.processor(**arguments)
    assert_as_stock(found, stock)
    assert type(found["position_ids"]) is list
    assert {*found} == {*expected}
    for name, value in expected.items():
        assert np.array_equal(np.asarray(found[name]), value.numpy()), name
    later = found.convert_to_tensors("pt")
    assert all(torch.equal(later[name], value) for name, value in expected.items())
    with pytest.raises(pp.PixelPruneError, match="padding=True"):
        pruned(**{**given(qwen, ONE, TWO), "padding": False, "return_tensors": None})


def test_conversations_as_lists(pruned: Any, qwen: zoo.Family) -> None:
    messages, _ = conversation(qwen)
    words = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    for chat in (words, [words], messages, [messages]):
        stock = pruned.processor.apply_chat_template(chat, tokenize=True, return_dict=False)
        found = pruned.apply_chat_template(chat, tokenize=True, return_dict=False)
        assert type(found) is type(stock) is list
        assert type(found[0]) is type(stock[0])
        assert found == stock or chat[0] is not words[0]
        whole = pruned.processor.apply_chat_template(chat, tokenize=True, return_dict=True)
        assert_as_stock(pruned.apply_chat_template(chat, tokenize=True, return_dict=True), whole)


def test_images_without_text(family: zoo.Family) -> None:
    cases.skip_unless_pruned(family, (ONE,))
    pruned = own(family)
    arguments = given(family, ONE, TWO)
    images = arguments["images"]
    try:
        stock = pruned.processor(images=images, return_tensors="pt")
    except Exception:
        pytest.skip("this release does not take images without text")
    for choice in CHOICES:
        whole, found = pruned(**arguments, **choice), pruned(images=images, return_tensors="pt", **choice)
        assert stock.keys() <= found.keys()
        prompts = {"input_ids", "attention_mask", "position_ids", "mm_token_type_ids"}
        assert found.keys() == whole.keys() - prompts
        assert all(torch.equal(found[name], whole[name]) for name in found)
        assert found.pixelprune.selections == whole.pixelprune.selections
        kept = sum(selection.kept for selection in found.pixelprune.selections)
        total = sum(selection.total for selection in found.pixelprune.selections)
        assert (found.pixelprune.tokens_after, found.pixelprune.tokens_before) == (kept, total)
        assert found.pixelprune.rope_deltas.shape == (0, 1)


def test_truncation(family: zoo.Family) -> None:
    """Images are pruned before the prompts are cut, however their tokens are chosen."""
    cases.skip_unless_pruned(family, (ONE,))
    pruned = own(family)
    image = zoo.draw_image(family, 5, 7)
    text = [family.image + "and some more words than there is space for"]
    tokens = pp.prune(np.asarray(image), pruned.model_spec.vision)
    how = {"truncation": True, "max_length": tokens.kept + 6, "return_tensors": "pt"}
    assert tokens.kept + 6 < tokens.total
    expected = pruned(text=text, images=[image], **how)
    assert expected["input_ids"].shape == (1, tokens.kept + 6)
    for choice in ({"keep": [tokens]}, {"keep": [tokens.keep]}, {"keep": [None]}, {"threshold": [0.0]}):
        found = pruned(text=text, images=[image], **choice, **how)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    for choice in ({}, {"keep": [tokens]}):
        for place in ({}, {"text_kwargs": {}}):
            short = {"truncation": True, "max_length": tokens.kept - 3}
            short = {"text_kwargs": short} if place else short
            with pytest.raises(
                pp.PixelPruneError, match=r"truncation .* cuts an image.*; expected a larger max_length"
            ):
                pruned(text=text, images=[image], return_tensors="pt", **choice, **short)
