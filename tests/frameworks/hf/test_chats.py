"""Chats that go on: a later turn with the cache of an earlier one, against the whole conversation from scratch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
import torch
import transformers
from pixelprune import PixelPruneError

from . import cases, oracle, zoo
from .cases import STEPS
from .conftest import Close
from .test_generate import new_tokens

GOES_ON = pytest.mark.skipif(zoo.VERSION < (5, 18), reason="refused before transformers 5.18")

FIRST: cases.Prompt = ("see ", cases.Still(5, 7), " what is it?")
WITH_IMAGE: cases.Prompt = (" and ", cases.Still(3, 6, 2), " here?")
WITHOUT_IMAGE: cases.Prompt = (" say more",)
HOW: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}


class Chat:
    """A conversation with a model, its cache, and the same from scratch."""

    def __init__(self, family: zoo.Family, model: Any, attached: bool = False) -> None:
        self.family, self.model, self.attached = family, model, attached
        self.cache = transformers.DynamicCache(config=model.config)
        self.batch: dict[str, torch.Tensor] = {}

    def inputs(self, part: cases.Prompt) -> Any:
        """The whole conversation with one more part, pruned."""
        new = cases.process(self.family, (part,))
        batch = dict(self.batch)
        for name, value in new.items():
            per_token = value.shape == new["input_ids"].shape
            batch[name] = torch.cat([batch[name], value], dim=1 if per_token else 0) if name in batch else value
        self.batch = batch
        images = len(batch.get("image_grid_thw", ()))
        merge = hf.versions.ModelSpec.from_config(self.model).vision.merge_size
        keep = []
        for i in range(images):
            _, height, width = batch["image_grid_thw"][i].tolist()
            keep.append(cases.some(height // merge, width // merge, i))
        return hf.prune_inputs(batch, self.model, keep)

    def say(self, part: cases.Prompt, close: Close) -> list[int]:
        inputs = self.inputs(part)
        how = {**HOW, "output_logits": True, "return_dict_in_generate": True}
        expected = hf.generate(self.model, inputs, **how)
        if self.attached:
            found = self.model.generate(**dict(inputs), **how, past_key_values=self.cache)
        else:
            found = hf.generate(self.model, inputs, **how, past_key_values=self.cache)
        assert torch.equal(found.sequences, expected.sequences)
        close(torch.stack(found.logits), torch.stack(expected.logits))
        [tokens] = new_tokens(inputs, found.sequences)
        self.answer(tokens)
        return tokens

    def answer(self, tokens: list[int]) -> None:
        """Put the tokens into the conversation."""
        for name, value in list(self.batch.items()):
            if value.shape == self.batch["attention_mask"].shape and name != "attention_mask":
                more = torch.tensor([tokens]) if name == "input_ids" else torch.zeros(1, len(tokens))
                self.batch[name] = torch.cat([value, more.to(value.dtype)], dim=1)
        mask = self.batch["attention_mask"]
        self.batch["attention_mask"] = torch.cat([mask, mask.new_ones(1, len(tokens))], dim=1)


def chat_of(family: zoo.Family, model: Any, attached: bool = False) -> Chat:
    cases.skip_unless_pruned(family, (FIRST,))
    return Chat(family, model, attached)


@GOES_ON
@pytest.mark.parametrize("attached", [False, True], ids=["", "attached"])
@pytest.mark.parametrize("parts", [(WITHOUT_IMAGE,), (WITH_IMAGE,), (WITHOUT_IMAGE, WITH_IMAGE)], ids=str)
def test_turns(family: zoo.Family, model: Any, parts: tuple[cases.Prompt, ...], attached: bool, close: Close) -> None:
    chat = chat_of(family, model, attached)
    if attached:
        hf.attach(model)
    try:
        answers = [chat.say(part, close) for part in (FIRST, *parts)]
    finally:
        hf.detach(model)
    assert len({tuple(answer) for answer in answers}) > 1


def turn(model: Any, chat: Chat, inputs: Any, **how: Any) -> Any:
    """The new tokens of a turn, and the number of patches that were encoded for it."""
    rows: list[int] = []

    def count(module: Any, args: Any, kwargs: Any) -> None:
        grids = kwargs.get("grid_thw", args[1] if len(args) > 1 else None)
        rows.append(int(grids.prod(dim=1).sum()))

    hook = oracle.tower_of(model).register_forward_pre_hook(count, with_kwargs=True)
    try:
        ids = hf.generate(model, inputs, past_key_values=chat.cache, **{**HOW, **how})
    finally:
        hook.remove()
    return new_tokens(inputs, ids), sum(rows)


@GOES_ON
def test_only_new_images_are_encoded(family: zoo.Family, model: Any) -> None:
    if family.name == "glm4v":
        pytest.skip("its tower is given whole grids")
    chat = chat_of(family, model)
    merge = hf.versions.ModelSpec.from_config(model).vision.merge_size
    for part, images in ((FIRST, [0]), (WITHOUT_IMAGE, []), (WITH_IMAGE, [1])):
        inputs = chat.inputs(part)
        [[*tokens]], rows = turn(model, chat, inputs)
        kept = [inputs.pixelprune.selections[i].kept for i in images]
        assert rows == sum(kept) * merge**2
        chat.answer(tokens)


@GOES_ON
@pytest.mark.parametrize("copied", [False, True])
def test_an_old_image_is_dropped_from_the_history(family: zoo.Family, model: Any, copied: bool) -> None:
    """An agent keeps the last screenshots only: what comes before the dropped one can be used again."""
    chat = chat_of(family, model)
    texts = [" a", " b", " c"]
    parts: list[cases.Prompt] = [(texts[i], cases.Still(3, 4 + i, i), ".") for i in range(3)]
    first = chat.inputs((*parts[0], *parts[1]))
    [tokens], _ = turn(model, chat, first)
    if copied:
        chat.cache = copy.deepcopy(chat.cache)
    cached = chat.cache.get_seq_length()
    assert hf.reusable(chat.cache, first) == first["input_ids"].shape[1] - 1
    shorter = Chat(family, model)
    shorter.batch = {}
    later = shorter.inputs((*parts[0], texts[1], *parts[2]))
    common = hf.reusable(chat.cache, later)
    same = first["input_ids"][0, :common].tolist() == later["input_ids"][0, :common].tolist()
    assert same
    assert 3 < common < cached
    with pytest.raises(PixelPruneError, match=rf"holds {cached} tokens, .* first {common} .*crop\({common - cached}\)"):
        turn(model, chat, later)
    if family.recurrent:
        return  # its layers have one state, which can't be cropped
    chat.cache.crop(common - cached)
    expected = new_tokens(later, hf.generate(model, later, **HOW))
    assert turn(model, chat, later)[0] == expected
    assert len(tokens) == STEPS


@GOES_ON
@pytest.mark.parametrize("change", ["pixels", "kept", "text", "within the image"])
def test_what_differs_is_seen(family: zoo.Family, model: Any, change: str) -> None:
    if family.recurrent and change == "within the image":
        pytest.skip("its cache can't be cropped")
    chat = chat_of(family, model)
    first = chat.inputs(FIRST)
    [tokens], _ = turn(model, chat, first)
    image = int((first["input_ids"][0] == model.config.image_token_id).nonzero()[0])
    mask = chat.batch["attention_mask"].shape[1]
    chat.answer(tokens)
    batch = {name: value.clone() for name, value in chat.batch.items()}
    keep = [first.pixelprune.selections[0].keep]
    expected = image
    if change == "pixels":
        batch["pixel_values"][0, 0] += 0.5
    elif change == "kept":
        keep = [np.append(keep[0][:-1], first.pixelprune.selections[0].total - 1)]
        assert keep[0].tolist() != first.pixelprune.selections[0].keep.tolist()
    elif change == "text":
        batch["input_ids"][0, mask - 1] = 97
        expected = first["input_ids"].shape[1] - 1
    else:
        chat.cache.crop(image + 2 - chat.cache.get_seq_length())
    later = hf.prune_inputs(batch, model, keep)
    assert hf.reusable(chat.cache, later) == expected
    with pytest.raises(PixelPruneError, match=f"of which the first {expected} are"):
        turn(model, chat, later)


@GOES_ON
def test_batches_of_chats(family: zoo.Family, model: Any) -> None:
    """Rows of equal length, and one that is padded."""
    cases.skip_unless_pruned(family, (FIRST,))
    for prompts in ((FIRST, FIRST), (FIRST, ("shorter ", cases.Still(2, 3, 5), "?"))):
        batch = cases.process(family, prompts)
        cache = transformers.DynamicCache(config=model.config)
        inputs = hf.prune_inputs(batch, model)
        ids = hf.generate(model, inputs, past_key_values=cache, **HOW)
        more = torch.cat([ids[:, inputs["input_ids"].shape[1] :], torch.tensor([[97, 98, 99]] * 2)], dim=1)
        for name, value in list(batch.items()):
            if value.shape == batch["attention_mask"].shape and name != "attention_mask":
                tail = more if name == "input_ids" else torch.zeros_like(more)
                batch[name] = torch.cat([value, tail], dim=1)
        batch["attention_mask"] = torch.cat([batch["attention_mask"], torch.ones_like(more)], dim=1)
        later = hf.prune_inputs(batch, model)
        expected = hf.generate(model, later, **HOW)
        assert torch.equal(hf.generate(model, later, past_key_values=cache, **HOW), expected)


@GOES_ON
def test_caches_that_are_not_known(family: zoo.Family, model: Any) -> None:
    chat = chat_of(family, model)
    inputs = chat.inputs(FIRST)
    assert hf.reusable(chat.cache, inputs) == 0
    with torch.no_grad():
        model(input_ids=torch.tensor([[97, 98]]), **{hf.versions.CACHE: chat.cache})
    with pytest.raises(PixelPruneError, match="holds 2 tokens that are not known"):
        turn(model, chat, inputs)
    chat.cache = transformers.DynamicCache(config=model.config)
    hf.generate(model, inputs, past_key_values=chat.cache, num_beams=2, **HOW)
    with pytest.raises(PixelPruneError, match="tokens that are not known"):
        turn(model, chat, inputs)
    chat.cache = transformers.DynamicCache(config=model.config)
    turn(model, chat, inputs)
    with pytest.raises(PixelPruneError, match="the inputs have no plan"):
        hf.reusable(chat.cache, dict(cases.process(family, (FIRST,))))


@GOES_ON
def test_a_cache_after_generate_has_failed(family: zoo.Family, model: Any) -> None:
    """It holds tokens of the prompt that failed, where it held those of the turn before."""

    def fail(ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        raise RuntimeError("stopped")

    chat = chat_of(family, model)
    inputs = chat.inputs(FIRST)
    chat.answer(turn(model, chat, inputs)[0][0])
    with pytest.raises(RuntimeError, match="stopped"):
        turn(model, chat, chat.inputs(WITH_IMAGE), stopping_criteria=[fail])
    assert hf.reusable(chat.cache, inputs) == 0
    with pytest.raises(PixelPruneError, match="tokens that are not known; expected an empty cache"):
        turn(model, chat, inputs)


@GOES_ON
def test_a_cache_that_other_tokens_were_put_into(family: zoo.Family, model: Any) -> None:
    if family.recurrent:
        pytest.skip("its cache can't be cropped")
    chat = chat_of(family, model)
    with hf.attached(model):
        chat.answer(turn(model, chat, chat.inputs(FIRST))[0][0])
        known = chat.cache.get_seq_length()
        chat.cache.crop(-2)
        with torch.no_grad():
            model(input_ids=torch.tensor([[97, 98]]), **{hf.versions.CACHE: chat.cache})
        assert chat.cache.get_seq_length() == known
        assert hf.reusable(chat.cache, chat.inputs(WITHOUT_IMAGE)) == known - 2


@GOES_ON
def test_a_cache_of_pruned_prompts_needs_pruned_inputs(family: zoo.Family, model: Any) -> None:
    """Stock generate would number the new tokens without the dropped ones."""
    chat = chat_of(family, model)
    inputs = chat.inputs(FIRST)
    turn(model, chat, inputs)
    with hf.attached(model), pytest.raises(PixelPruneError, match="the cache is of pruned prompts"):
        model.generate(input_ids=inputs["input_ids"], **{hf.versions.CACHE: chat.cache}, **HOW)


@GOES_ON
def test_a_cache_that_comes_out_of_generate(family: zoo.Family, model: Any) -> None:
    chat = chat_of(family, model)
    inputs = chat.inputs(FIRST)
    made = hf.generate(model, inputs, return_dict_in_generate=True, **HOW)
    chat.cache = made[hf.versions.CACHE]
    chat.answer(new_tokens(inputs, made.sequences)[0])
    later = chat.inputs(WITH_IMAGE)
    assert hf.reusable(chat.cache, later) == chat.cache.get_seq_length()
    assert turn(model, chat, later)[0] == new_tokens(later, hf.generate(model, later, **HOW))


def test_older_releases_refuse(family: zoo.Family, model: Any) -> None:
    if zoo.VERSION >= (5, 18):
        pytest.skip("this version can")
    chat = chat_of(family, model)
    inputs = chat.inputs(FIRST)
    hf.generate(model, inputs, past_key_values=chat.cache, **HOW)
    chat.answer([97])
    with pytest.raises(PixelPruneError, match=r"can't go on with pruned prompts \(expected 5\.18 or later"):
        hf.generate(model, chat.inputs(WITHOUT_IMAGE), past_key_values=chat.cache, **HOW)
