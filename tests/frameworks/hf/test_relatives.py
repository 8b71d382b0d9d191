"""Families that share the code of one that is tested in full."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pixelprune.hf as hf
import pytest
import torch
from pixelprune import PixelPruneError, PixelPruneWarning
from pixelprune.plan import ModelSpec

from . import cases, zoo
from .cases import ONE, PLAIN, STEPS, TWO, VIDEO
from .conftest import Close
from .test_attach import steps_of
from .test_chats import FIRST, WITH_IMAGE, WITHOUT_IMAGE, chat_of
from .test_generate import new_tokens
from .test_logits import unpad
from .test_processor import assert_same, given


@pytest.fixture(params=zoo.RELATIVES, ids=str)
def family(request: pytest.FixtureRequest) -> zoo.Family:
    """Replaces the fixture of the families that are tested in full."""
    found: zoo.Family = request.param
    if found.missing:
        pytest.skip(found.missing)
    return found


@pytest.mark.parametrize("prompts", [(ONE, PLAIN, TWO), (VIDEO,)], ids=["images", "video"])
def test_relatives(family: zoo.Family, model: Any, prompts: tuple[cases.Prompt, ...], close: Close) -> None:
    cases.skip_unless_pruned(family, prompts)
    case = cases.make(family, prompts)
    whole = hf.prune_inputs(case.batch, model, "all", video_keep="all")
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    placed = {}
    if not hasattr(model.model, "rope_deltas"):  # its plain call counts padding too, generate does not
        placed["position_ids"] = (case.batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        stock = model(**case.batch, **placed).logits
        if not placed:
            model.model.rope_deltas = None
        close(hf.forward(model, whole).logits, stock, 0, what="keep all")
        close(unpad(hf.forward(model, inputs).logits, inputs), case.expected)
    ids = hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation


@pytest.mark.parametrize("prompts", [(ONE, PLAIN, TWO), (VIDEO,)], ids=["images", "video"])
def test_attached_relatives(family: zoo.Family, model: Any, prompts: tuple[cases.Prompt, ...], close: Close) -> None:
    cases.skip_unless_pruned(family, prompts)
    case = cases.make(family, prompts)
    inputs = dict(hf.prune_inputs(case.batch, model, **case.masks))
    with hf.attached(model), torch.no_grad():
        close(unpad(model(**inputs).logits, inputs), case.expected)
        ids = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
        assert new_tokens(inputs, ids) == case.continuation
        if prompts == (VIDEO,):
            return
        assert steps_of(partial(model, **inputs, use_cache=True), model, inputs) == case.continuation


def test_decoding_by_hand_of_relatives(family: zoo.Family, model: Any) -> None:
    """Where every token has one position, nothing in the model says that positions have gaps: it takes `attach`."""
    cases.skip_unless_pruned(family, (TWO,))
    case = cases.make(family, (TWO,))
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    call = partial(hf.forward, model, inputs, use_cache=True)
    assert (steps_of(call, model, inputs) == case.continuation) == (family.name not in ONE_POSITION)


def test_chats_of_relatives(family: zoo.Family, model: Any, close: Close) -> None:
    chat = chat_of(family, model)
    if zoo.VERSION < (5, 18):
        pytest.skip("refused before transformers 5.18")
    chat.say(FIRST, close)
    if family.name == "ernie4_5_vl_moe" and zoo.VERSION < (5, 24):
        with pytest.raises(PixelPruneError, match=r"can't go on with a cache \(expected 5\.24 or later"):
            chat.say(WITHOUT_IMAGE, close)
        return
    for part in (WITHOUT_IMAGE, WITH_IMAGE):
        chat.say(part, close)


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_processors_of_relatives(family: zoo.Family, model: Any, threshold: float) -> None:
    cases.skip_unless_pruned(family, (ONE,))
    stock = zoo.processor(family)
    pruned = hf.PrunedProcessor(stock, model, threshold=threshold)
    for arguments in (given(family, TWO, PLAIN, ONE), given(family, ONE)):
        for image in arguments["images"]:  # flat, so that something is similar
            image.paste((200, 200, 200), (0, 0, 2 * family.token, family.token))
        assert_same(pruned(**arguments), hf.prune_inputs(stock(**arguments), pruned.model_spec, threshold=threshold))
    assert pruned(**arguments).pixelprune.tokens_after < pruned(**arguments).pixelprune.tokens_before


def test_packed_rows_need_more_than_one_position_per_token(family: zoo.Family, model: Any) -> None:
    """A gap would be taken for the start of a sequence."""
    cases.skip_unless_pruned(family, (ONE,))
    batch = cases.make(family, (ONE,)).batch
    lengths = [[batch["input_ids"].shape[1]]]
    if family.name in ("dots3_note", "video_llama_3", "qwen4_exp"):
        with pytest.raises(PixelPruneError, match="would mix"):
            hf.prune_inputs(batch, model, lengths=lengths)
    else:
        assert "attention_mask" not in hf.prune_inputs(batch, model, lengths=lengths)


ONE_POSITION = ("dots3_note", "video_llama_3")


def test_one_position_per_token_needs_a_cache(family: zoo.Family, model: Any) -> None:
    cases.skip_unless_pruned(family, (ONE,))
    case = cases.make(family, (ONE,))
    inputs = hf.prune_inputs(case.batch, model, case.keep)
    if family.name in ONE_POSITION:
        with pytest.raises(PixelPruneError, match="use_cache is False"):
            hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False, use_cache=False)
        model.generation_config.use_cache = False  # does not win over what encode returns
    try:
        ids = hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False)
    finally:
        model.generation_config.use_cache = True
    assert new_tokens(inputs, ids) == case.continuation


def test_examples_go_through_the_collator(family: zoo.Family, model: Any, close: Close) -> None:
    cases.skip_unless_pruned(family, (ONE, TWO))
    case = cases.make(family, (ONE, TWO))
    collator = hf.PrunedCollator(hf.PrunedProcessor(zoo.processor(family), model))
    batch = collator([{**row.alone, "keep": list(row.keep)} for row in case.rows])
    with torch.no_grad():
        found = hf.forward(model, batch)
    assert bool(found.loss.isfinite())
    close(unpad(found.logits, batch), case.expected)


def test_a_sliding_window_is_told_where_it_matters(family: zoo.Family, model: Any) -> None:
    cases.skip_unless_pruned(family, (ONE, PLAIN))
    case = cases.make(family, (ONE, PLAIN))
    spec = ModelSpec.from_config(model)
    assert spec.sliding_window == (2048 if family.name == "dots3_note" else None)
    longest = case.rows[0].alone["input_ids"].shape[1]
    hf.prune_inputs(case.batch, replace(spec, sliding_window=longest), case.keep)
    narrow = replace(spec, sliding_window=longest - 1)
    hf.prune_inputs(case.batch, narrow, "all")
    for batch in (case.batch, case.rows[0].alone):
        with pytest.warns(PixelPruneWarning, match=f"last {longest - 1} tokens.* whole prompt of {longest} tokens"):
            hf.prune_inputs(batch, narrow, case.keep)
    pruned = hf.PrunedProcessor(zoo.processor(family), narrow)
    with pytest.warns(PixelPruneWarning, match=f"whole prompt of {longest} tokens"):
        pruned(**given(family, ONE, PLAIN))


def test_a_prompt_that_ends_in_an_image(family: zoo.Family, model: Any) -> None:
    cases.skip_unless_pruned(family, (ONE, TWO))
    case = cases.make(family, (ONE, TWO))
    image = model.config.image_token_id
    row = case.rows[1].alone
    end = int((row["input_ids"][0] == image).nonzero()[-1]) + 1
    cut = {name: value[:, :end] if value.shape[:2] == row["input_ids"].shape else value for name, value in row.items()}
    first, last = case.rows[1].keep
    for kept in (True, False):
        last = last.copy()
        last[-1] = kept
        inputs = hf.prune_inputs(cut, model, [first, last])
        if kept:
            assert hf.generate(model, inputs, max_new_tokens=1).shape[1] == inputs["input_ids"].shape[1] + 1
        else:
            with pytest.raises(PixelPruneError, match="prompt 0 ends with an image whose last token is dropped"):
                hf.generate(model, inputs, max_new_tokens=1)
