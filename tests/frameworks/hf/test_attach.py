"""A model with `attach`: any caller runs it on pruned inputs, from nothing but the keys of a dict."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
import torch
import transformers
from pixelprune import PixelPruneError
from pixelprune.hf.batch import RECORD
from torch.utils.checkpoint import checkpoint

from . import cases, oracle, zoo
from .cases import MIXED, ONE, PLAIN, STEPS, TWO
from .conftest import Close, attributes
from .test_generate import BEAMS, SEVERAL, new_tokens
from .test_logits import BATCHES, build, unpad
from .test_threads import alike, in_threads, meeting

GIVEN = ("image_grid_thw", "image_merge_sizes")
"""Keys of images that processors give."""

RETURN_DICT = {} if zoo.VERSION < (5,) else {"return_dict": True}
FAILURES = (RuntimeError, ValueError, IndexError)


@pytest.fixture
def ready(family: zoo.Family, model: Any) -> Iterator[Any]:
    """The family's model, attached."""
    cases.skip_unless_pruned(family, (ONE,))
    with hf.attached(model):
        yield model


def plain(case: cases.Case, model: Any) -> dict[str, Any]:
    """The pruned inputs of a case, as a framework leaves them that builds the batch from its keys."""
    return dict(hf.prune_inputs(case.batch, model, **case.masks))


def least(inputs: dict[str, Any]) -> dict[str, Any]:
    """The keys that stock models know, and the plan."""
    names = ("input_ids", "attention_mask", "pixel_values", "pixel_values_videos", "image_merge_sizes", RECORD)
    names += ("mm_token_type_ids", "moe_mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
    return {name: inputs[name] for name in names if name in inputs}


# --- Forward passes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", BATCHES)
def test_logits_are_those_of_the_oracle(family: zoo.Family, ready: Any, name: str, side: str, close: Close) -> None:
    case = build(family, name, side)
    if len(case.rows) == 1 and side == "right":
        pytest.skip("one row is not padded")
    inputs = plain(case, ready)
    with torch.no_grad():
        found = ready(**inputs).logits
        again = [ready(**least(inputs)).logits, ready(**pickle.loads(pickle.dumps(inputs))).logits]
    close(unpad(found, inputs), case.expected)
    for one in again:
        assert torch.equal(one, found)


def test_positions_of_text_are_not_those_of_images(family: zoo.Family, ready: Any, close: Close) -> None:
    """Code that numbers the tokens of every batch gives one number each."""
    case = build(family, "two")
    inputs = plain(case, ready)
    numbers = torch.arange(inputs["input_ids"].shape[1])[None].expand(inputs["input_ids"].shape)
    if inputs["position_ids"].ndim == numbers.ndim:
        pytest.skip("the model has one position per token")
    with torch.no_grad():
        close(unpad(ready(**{**inputs, "position_ids": numbers}).logits, inputs), case.expected)


def test_packed_sequences_that_lost_their_positions_are_refused() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    cases.skip_unless_pruned(family, (ONE,))
    model = zoo.model(family)
    case = build(family, "one")
    inputs = plain(case, model)
    packed = {**inputs, "use_cache": False}
    del packed["attention_mask"], packed["position_ids"]
    with hf.attached(model), pytest.raises(PixelPruneError, match=r"no position_ids .* may be packed"):
        model(**packed)


def test_forward_refuses_a_cache_with_tokens(family: zoo.Family, model: Any) -> None:
    cases.skip_unless_pruned(family, (ONE,))
    inputs = hf.prune_inputs(build(family, "one").batch, model)
    cache = transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        hf.forward(model, inputs, use_cache=True, **{hf.versions.CACHE: cache})
    with pytest.raises(PixelPruneError, match=r"a cache that holds \d+ tokens; expected an empty cache"):
        hf.forward(model, inputs, use_cache=True, **{hf.versions.CACHE: cache})


def test_what_to_does_is_undone(family: zoo.Family, ready: Any, close: Close) -> None:
    """A dict that is cast as a whole: interpolation weights lose their precision, and are computed again."""
    case = build(family, "two")
    inputs = plain(case, ready)
    half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in inputs.items()}
    half["pixel_values"] = inputs["pixel_values"]
    with torch.no_grad():
        close(ready(**half).logits[0], case.expected[0])
        close(ready(**hf.prune_inputs(case.batch, ready, **case.masks).to("cpu")).logits[0], case.expected[0])


@pytest.mark.parametrize("name", ["one", "batch", "mixed", "video"])
def test_stock_inputs_are_not_touched(family: zoo.Family, model: Any, name: str) -> None:
    cases.skip_unless_pruned(family, BATCHES[name])
    batch = cases.make(family, BATCHES[name]).batch
    how = {"max_new_tokens": STEPS, "do_sample": False}
    with torch.no_grad():
        logits, ids = model(**batch).logits, model.generate(**batch, **how)
        text = model(input_ids=batch["input_ids"][:, :3]).logits
        with hf.attached(model):
            assert torch.equal(model(**batch).logits, logits)
            assert torch.equal(model.generate(**batch, **how), ids)
            assert torch.equal(model(input_ids=batch["input_ids"][:, :3]).logits, text)


def test_nothing_dropped_is_the_stock_model(family: zoo.Family, model: Any, close: Close) -> None:
    case = build(family, "two")
    with torch.no_grad():
        stock = model(**case.batch).logits
        with hf.attached(model):
            found = model(**dict(hf.prune_inputs(case.batch, model, "all"))).logits
    close(found, stock, 1e-6 if family.order == "raster" else 0)


def test_an_image_one_token_high_is_an_image(family: zoo.Family, ready: Any) -> None:
    """Its grid is what a flat grid would be without marks."""
    prompt: cases.Prompt = ("wide ", cases.Still(1, 6), " one")
    cases.skip_unless_pruned(family, (prompt,))
    batch = cases.process(family, (prompt,))
    merge = hf.versions.ModelSpec.from_config(ready).vision.merge_size
    assert batch["image_grid_thw"].tolist() == [[1, merge, 6 * merge]]
    with torch.no_grad():
        found = ready(**batch).logits
        oracle.tower_of(ready)(pixels_of(family, batch["pixel_values"]), **tower_arguments(batch))
        hf.detach(ready)
        assert torch.equal(ready(**batch).logits, found)


def pixels_of(family: zoo.Family, values: torch.Tensor) -> torch.Tensor:
    """The patches as the tower takes them."""
    return values[None] if family.name == "paddleocr_vl" else values


def tower_arguments(batch: Any) -> dict[str, Any]:
    given = {"grid_thw": batch["image_grid_thw"]}
    if "image_merge_sizes" in batch:
        given["merge_sizes"] = batch["image_merge_sizes"]
    return given


@pytest.mark.parametrize("name", ["two", "batch"])
def test_tokens_that_a_framework_appends(family: zoo.Family, ready: Any, name: str, close: Close) -> None:
    """Prompts get longer on the way; positions are those of the longer prompts."""
    if family.recurrent and name == "batch":
        pytest.skip("its recurrent layers see padding between tokens")
    case = build(family, name, "right")
    inputs = plain(case, ready)
    tail = torch.tensor([[104, 105, 106]]).expand(len(case.rows), -1)
    for key, value in {"input_ids": tail, "attention_mask": torch.ones_like(tail)}.items():
        inputs[key] = torch.cat([inputs[key], value], dim=1)
    for key in ("mm_token_type_ids", "moe_mm_token_type_ids"):
        if key in inputs:
            inputs[key] = torch.cat([inputs[key], torch.zeros_like(tail)], dim=1)
    whole = dict(case.batch)
    for key in ("input_ids", "attention_mask", "mm_token_type_ids", "moe_mm_token_type_ids"):
        if key in whole:
            whole[key] = torch.cat([whole[key], inputs[key][:, -3:]], dim=1)
    longer = hf.prune_inputs(whole, ready, **case.masks)
    with torch.no_grad():
        found = unpad(ready(**inputs).logits, inputs)
        close(found, unpad(hf.forward(ready, longer).logits, longer))


def test_batches_joined_by_a_framework(family: zoo.Family, ready: Any) -> None:
    """Every key concatenated along its first dimension, also those that should not be."""
    case = build(family, "two")
    one = plain(case, ready)
    both = {name: torch.cat([value, value]) for name, value in one.items()}
    with torch.no_grad():
        found, alone = ready(**both).logits, ready(**one).logits
    assert float((found - alone).abs().max()) < cases.TOLERANCE


def test_packed_rows(family: zoo.Family, ready: Any, close: Close) -> None:
    if zoo.VERSION < (5, 9) or family.recurrent:
        pytest.skip("packed sequences would mix")
    case = build(family, "batch")
    rows = [row.alone for row in case.rows]
    batch = {name: torch.cat([row[name] for row in rows], dim=1) for name in ("input_ids", "attention_mask")}
    batch |= {name: case.batch[name] for name in ("pixel_values", "image_grid_thw")}
    lengths = [[row["input_ids"].shape[1] for row in rows]]
    inputs = dict(hf.prune_inputs(batch, ready, **case.masks, lengths=lengths))
    with torch.no_grad():
        close(ready(**inputs).logits[0], torch.cat(case.expected))


def test_token_kinds_are_not_needed(family: zoo.Family, model: Any, close: Close) -> None:
    """Releases from 5.4 to 5.8 make positions of their own without them."""
    case = build(family, "batch")
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    inputs.pop("mm_token_type_ids", None)
    with torch.no_grad():
        close(unpad(hf.forward(model, inputs).logits, inputs), case.expected, what="forward")
    ids = hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation
    with hf.attached(model), torch.no_grad():
        close(unpad(model(**dict(inputs)).logits, inputs), case.expected, what="attached")
        ids = model.generate(**dict(inputs), max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation


# --- Calls of the tower -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two", "mixed", "video"])
def test_a_bare_call_of_the_tower_gets_positions(family: zoo.Family, ready: Any, name: str) -> None:
    """As in frameworks that encode images themselves, within a call of the model."""
    case = build(family, name)
    tower = oracle.tower_of(ready)
    outputs: list[list[torch.Tensor]] = []

    def look(module: Any, args: Any, output: Any) -> None:
        parts = [output] if isinstance(output, torch.Tensor) else getattr(output, "values", lambda: output)()
        outputs.append([part for part in parts if isinstance(part, torch.Tensor)])

    def encode(module: Any, args: Any, kwargs: Any) -> None:
        for kind, key in (("image", "pixel_values"), ("video", "pixel_values_videos")):
            if key in kwargs:
                sizes = {"merge_sizes": kwargs[f"{kind}_merge_sizes"]} if f"{kind}_merge_sizes" in kwargs else {}
                tower(pixels_of(family, kwargs[key]), grid_thw=kwargs[f"{kind}_grid_thw"], **sizes, **RETURN_DICT)

    hooks = [ready.register_forward_pre_hook(encode, with_kwargs=True), tower.register_forward_hook(look)]
    try:
        with torch.no_grad():
            ready(**plain(case, ready))
    finally:
        for hook in hooks:
            hook.remove()
    kinds = sum(f"{kind}_grid_thw" in case.batch for kind in ("image", "video"))
    assert len(outputs) == 2 * kinds
    for bare, own in zip(outputs[:kinds], outputs[kinds:], strict=True):
        assert bare
        assert all(torch.equal(a, b) for a, b in zip(bare, own, strict=True))


def test_a_bare_call_outside_is_refused(family: zoo.Family, ready: Any) -> None:
    case = build(family, "two")
    inputs = plain(case, ready)
    with pytest.raises(PixelPruneError, match=r"the vision tower is called with flat grids.*lost on the way"):
        oracle.tower_of(ready)(inputs["pixel_values"], **tower_arguments(inputs))


@pytest.mark.parametrize("name", ["two", "video"])
def test_a_lost_plan_is_refused(family: zoo.Family, ready: Any, name: str) -> None:
    case = build(family, name)
    whole = plain(case, ready)
    no_plan = {key: value for key, value in whole.items() if key != RECORD}
    of_tower = [(key,) for key in no_plan if key.startswith("image_") and key not in GIVEN]
    for lost in (("image_position_ids", "video_position_ids"), ("position_ids",), *of_tower):
        left = {key: value for key, value in no_plan.items() if key not in lost}
        for call in (ready, ready.model, ready.generate):
            with pytest.raises(PixelPruneError, match=f"flat grids of pruned (images|videos), but no {RECORD}"):
                call(**left)


def test_a_lost_plan_fails_without_attach(family: zoo.Family, model: Any) -> None:
    """All that a stock model is left with: no number comes out."""
    case = build(family, "two")
    inputs = plain(case, model)
    left = {name: value for name, value in least(inputs).items() if name != RECORD}
    with pytest.raises(FAILURES):
        model(**left)
    if zoo.VERSION >= (5, 9):
        with pytest.raises(FAILURES):
            model.generate(**left, max_new_tokens=1)
    if hasattr(model.model, "rope_deltas"):
        model.model.rope_deltas = None


def test_generate_without_attach_says_what_to_call(family: zoo.Family, model: Any) -> None:
    case = build(family, "two")
    with pytest.raises(ValueError, match="pixelprune_hf_attach"):
        model.generate(**plain(case, model), max_new_tokens=1)


def test_keys_of_different_batches_are_refused(family: zoo.Family, ready: Any) -> None:
    case = build(family, "two")
    inputs = plain(case, ready)
    for call in (ready, ready.generate):
        with pytest.raises(PixelPruneError, match=r"pixel_values has \d+ rows; the plan has 2 images with \d+ kept"):
            call(**{**inputs, "pixel_values": inputs["pixel_values"][:-4]})
        with pytest.raises(PixelPruneError, match="can't be read"):
            call(**{**inputs, RECORD: inputs[RECORD][:-1]})
    with pytest.raises(PixelPruneError, match="positional"):
        ready(inputs["input_ids"], inputs["attention_mask"], **{RECORD: inputs[RECORD]})


# --- Generation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompts", [(ONE,), (TWO,), (MIXED,), (ONE, PLAIN, TWO)], ids=["one", "two", "mixed", "batch"])
def test_greedy_is_decoding_without_a_cache(family: zoo.Family, ready: Any, prompts: tuple[cases.Prompt, ...]) -> None:
    cases.skip_unless_pruned(family, prompts)
    case = cases.make(family, prompts)
    inputs = plain(case, ready)
    inputs["labels"] = inputs["input_ids"]
    for given in (inputs, {"labels": inputs["labels"], **least(inputs)}):
        ids = ready.generate(**given, max_new_tokens=STEPS, do_sample=False)
        assert new_tokens(inputs, ids) == case.continuation


class Streamer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        pass


def test_other_ways_of_decoding(family: zoo.Family, ready: Any) -> None:
    case = build(family, "two")
    inputs, streamer = plain(case, ready), Streamer()
    ids = ready.generate(**inputs, max_new_tokens=STEPS, do_sample=False, streamer=streamer)
    assert streamer.tokens == ids[0].tolist()
    config = transformers.GenerationConfig(max_new_tokens=STEPS, do_sample=False, pad_token_id=0)
    assert torch.equal(ready.generate(**inputs, generation_config=config), ids)
    assert new_tokens(inputs, ids) == case.continuation


@SEVERAL
def test_several_sequences(family: zoo.Family, ready: Any) -> None:
    case = build(family, "batch")
    inputs = hf.prune_inputs(case.batch, ready, **case.masks)
    for how in (BEAMS, {"do_sample": True, "num_return_sequences": 2}):
        torch.manual_seed(1)
        expected = hf.generate(ready, inputs, max_new_tokens=STEPS, **how)
        torch.manual_seed(1)
        assert torch.equal(ready.generate(**dict(inputs), max_new_tokens=STEPS, **how), expected)


@SEVERAL
def test_an_assistant(family: zoo.Family, ready: Any) -> None:
    if family.recurrent:
        pytest.skip("its cache can't be cropped")
    case = build(family, "two")
    inputs = plain(case, ready)
    how = {"max_new_tokens": STEPS, "do_sample": False, "assistant_model": copy.deepcopy(ready)}
    assert new_tokens(inputs, ready.generate(**inputs, **how)) == case.continuation


# --- Decoding by hand -------------------------------------------------------------------------------------------


def steps_of(call: Any, model: Any, inputs: Any, **kwargs: Any) -> list[list[int]]:
    """Greedy decoding with a cache, by hand; ``call`` runs the prompts."""
    with torch.no_grad():
        output = call(**kwargs)
        mask, tokens = inputs["attention_mask"], []
        for _ in range(STEPS):
            token = output.logits[:, -1:].argmax(dim=-1)
            tokens.append(token)
            name = hf.versions.CACHE
            mask = torch.cat([mask, torch.ones_like(token)], dim=1)
            padded = {} if bool(mask.all()) else {"attention_mask": mask}
            if zoo.VERSION < (5,):  # its models count from 0 without it
                padded["cache_position"] = torch.tensor([mask.shape[1] - 1])
            output = model(input_ids=token, **padded, **{name: output[name]}, use_cache=True)
    return torch.cat(tokens, dim=1).tolist()


@pytest.mark.parametrize("stale", [False, True], ids=["", "after another prompt"])
@pytest.mark.parametrize("name", ["two", "video", "batch"])
def test_decoding_by_hand(family: zoo.Family, ready: Any, name: str, stale: bool) -> None:
    case = build(family, name)
    inputs = plain(case, ready)
    with torch.no_grad():
        if stale:
            ready(**cases.make(family, (ONE,)).batch)
        assert steps_of(partial(ready, **inputs, use_cache=True), ready, inputs) == case.continuation


def test_decoding_by_hand_in_turn(family: zoo.Family, ready: Any) -> None:
    """Positions go with the cache, not with the model's last call."""
    first, second = build(family, "one"), build(family, "two")
    name = hf.versions.CACHE
    with torch.no_grad():
        outputs = [ready(**plain(case, ready), use_cache=True) for case in (first, second)]
        found: list[list[int]] = [[], []]
        for _ in range(STEPS):
            for i, output in enumerate(outputs):
                token = output.logits[:, -1:].argmax(dim=-1)
                found[i].append(int(token))
                outputs[i] = ready(input_ids=token, **{name: output[name]}, use_cache=True)
    assert found == [first.continuation[0], second.continuation[0]]


@pytest.mark.parametrize("stale", [False, True], ids=["", "after another prompt"])
def test_decoding_by_hand_after_forward(family: zoo.Family, model: Any, stale: bool) -> None:
    case = build(family, "two")
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    with torch.no_grad():
        if stale:
            model(**cases.make(family, (ONE,)).batch)
        call = partial(hf.forward, model, inputs, use_cache=True)
        assert steps_of(call, model, inputs) == case.continuation


def test_decoding_by_hand_after_a_plain_call(family: zoo.Family, model: Any) -> None:
    """As the documentation says: the deltas have to be set."""
    case = build(family, "two")
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    if zoo.VERSION < (5, 9) or hf.versions.ModelSpec.from_config(model).seam != "flat":
        pytest.skip("it has no plain call")
    with torch.no_grad():
        output = model(**inputs, use_cache=True)
    model.model.rope_deltas = torch.as_tensor(inputs.pixelprune.rope_deltas)
    assert steps_of(lambda: output, model, inputs) == case.continuation


def test_pruned_inputs_with_a_filled_cache_are_refused(family: zoo.Family, ready: Any) -> None:
    case = build(family, "two")
    inputs = plain(case, ready)
    name = hf.versions.CACHE
    with torch.no_grad():
        cache = ready(**inputs, use_cache=True)[name]
        with pytest.raises(PixelPruneError, match=r"a cache that holds \d+ tokens"):
            ready(**inputs, **{name: cache})
        if not family.recurrent:
            cache.crop(5 - cache.get_seq_length())
            with pytest.raises(PixelPruneError, match="the cache holds 5 tokens of a pruned prompt"):
                ready(input_ids=inputs["input_ids"][:, 5:6], **{name: cache})


# --- The model --------------------------------------------------------------------------------------------------


def test_nothing_is_left(family: zoo.Family, model: Any) -> None:
    cases.skip_unless_pruned(family, (ONE,))
    before = attributes(model)
    assert hf.attach(model) is model
    once = attributes(model)
    assert hf.attach(model) is model
    assert attributes(model) == once != before
    assert hf.detach(model) is model
    assert attributes(model) == before
    assert hf.detach(model) is model
    with pytest.raises(RuntimeError, match="on purpose"), hf.attached(model):
        raise RuntimeError("on purpose")
    assert attributes(model) == before


def test_a_call_that_fails_leaves_nothing(family: zoo.Family, ready: Any) -> None:
    case = build(family, "two")
    inputs = plain(case, ready)

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    hook = ready.model.language_model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        ready(**inputs)
    hook.remove()
    with pytest.raises(PixelPruneError, match="lost on the way"):
        oracle.tower_of(ready)(inputs["pixel_values"], **tower_arguments(inputs))
    [found] = in_threads(lambda: ready(**inputs).logits.detach())
    assert float((found[0] - case.expected[0]).abs().max()) < cases.TOLERANCE


def test_an_interrupted_call_is_over(family: zoo.Family, ready: Any) -> None:
    """Torch runs no hooks after Ctrl-C; the next call of the thread clears up, and other threads go on."""
    case = build(family, "two")
    inputs = plain(case, ready)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = ready.model.language_model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        ready(**inputs)
    hook.remove()
    with torch.no_grad():
        assert float((ready(**inputs).logits[0] - case.expected[0]).abs().max()) < cases.TOLERANCE
    [found] = in_threads(lambda: ready(**inputs).logits.detach())
    assert float((found[0] - case.expected[0]).abs().max()) < cases.TOLERANCE


@pytest.mark.parametrize("way", ["deepcopy", "save"])
def test_copies_are_attached_to_themselves(family: zoo.Family, model: Any, way: str, close: Close) -> None:
    case = build(family, "two")
    inputs = plain(case, model)
    with hf.attached(model):
        if way == "deepcopy":
            twin = copy.deepcopy(model)
        else:
            file = io.BytesIO()
            torch.save(model, file)
            file.seek(0)
            twin = torch.load(file, weights_only=False)
    with torch.no_grad():
        close(twin(**inputs).logits[0], case.expected[0])
        ids = twin.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation
    for weight in twin.parameters():
        weight.data.zero_()
    with hf.attached(model), torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
        assert new_tokens(inputs, ids) == case.continuation
        assert not bool(twin(**inputs).logits.any())
    hf.detach(twin)
    assert attributes(twin) == attributes(model)


def test_the_inner_module_takes_pruned_inputs_too(family: zoo.Family, model: Any, close: Close) -> None:
    """As behind wrappers that call ``forward``, past the hooks of the outer module."""
    case = build(family, "batch")
    inputs = plain(case, model)
    with hf.attached(model), torch.no_grad():
        close(unpad(model.forward(**inputs).logits, inputs), case.expected)
        hidden = model.model(**inputs).last_hidden_state
        close(unpad(model.lm_head(hidden), inputs), case.expected, 1e-5)
    with hf.attached(model.model), torch.no_grad():
        assert torch.equal(model.model(**inputs).last_hidden_state, hidden)


class Wrapper(torch.nn.Module):
    """As adapters wrap a model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.base_model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model.forward(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model.generate(*args, **kwargs)


@pytest.mark.parametrize("inside", [False, True])
def test_wrapped_models(family: zoo.Family, model: Any, inside: bool, close: Close) -> None:
    case = build(family, "two")
    inputs = plain(case, model)
    wrapped = Wrapper(model)
    with hf.attached(model if inside else wrapped), torch.no_grad():
        close(wrapped(**inputs).logits[0], case.expected[0])
        ids = wrapped.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation


def test_several_threads(family: zoo.Family, ready: Any) -> None:
    """As many calls at once as there are threads, with equal grids and other positions."""
    case, keeps = alike(family)
    given = [dict(hf.prune_inputs(case.batch, ready, keep)) for keep in keeps]
    other = build(family, "batch")
    given.append(plain(other, ready))

    @torch.no_grad()
    def logits(inputs: dict[str, Any]) -> torch.Tensor:
        return ready(**inputs).logits

    @torch.no_grad()
    def tokens(inputs: dict[str, Any]) -> torch.Tensor:
        return ready.generate(**inputs, max_new_tokens=STEPS, do_sample=False)

    for call in (logits, tokens):
        expected = [call(inputs) for inputs in given]
        with meeting(ready):
            found = in_threads(*(partial(call, inputs) for inputs in given[:2]))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=False))
        found = in_threads(*(partial(call, inputs) for inputs in given * 3))
        assert all(torch.equal(a, b) for a, b in zip(found, expected * 3, strict=True))


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model(family: zoo.Family, model: Any, close: Close) -> None:
    case = build(family, "two")
    ready = hf.attach(copy.deepcopy(model))
    inputs = plain(case, ready)
    torch._dynamo.reset()
    compiled = torch.compile(ready, backend="eager")
    with torch.no_grad():
        close(compiled(**inputs).logits[0], case.expected[0])
    torch._dynamo.reset()


def test_gradients(family: zoo.Family, ready: Any) -> None:
    case = build(family, "two")
    inputs = hf.prune_inputs(case.batch, ready, **case.masks)
    weight = next(oracle.tower_of(ready).parameters())
    [expected] = torch.autograd.grad(hf.forward(ready, inputs, labels=inputs["input_ids"]).loss, weight)
    [found] = torch.autograd.grad(ready(**dict(inputs), labels=inputs["input_ids"]).loss, weight)
    assert torch.equal(found, expected)
    how = {"labels": inputs["input_ids"], "use_cache": False}
    loss = checkpoint(lambda: ready(**dict(inputs), **how).loss, use_reentrant=False)
    [again] = torch.autograd.grad(loss, weight)
    assert float((again - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


# --- Refused ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_attached() -> None:
    with pytest.raises(TypeError, match="model is a str"):
        hf.attach("qwen3_vl")
    with pytest.raises(PixelPruneError, match="no vision tower"):
        hf.attach(torch.nn.Linear(2, 2))
    family, other = zoo.BY_NAME["qwen2_vl"], zoo.BY_NAME["qwen2_5_vl"]
    model = copy.deepcopy(zoo.model(family))
    before = attributes(model)
    with pytest.raises(TypeError, match="expected a model's processor"):
        hf.attach(model, zoo.tokenizer(family))
    with pytest.raises(PixelPruneError, match="the processor prunes for model_type qwen2_5_vl; the model, a Qwen2VL"):
        hf.attach(model, hf.PrunedProcessor(zoo.processor(other), zoo.model(other)))
    assert attributes(model) == before
    assert hf.attach(model, hf.PrunedProcessor(zoo.processor(family), model)) is model
    hf.detach(model)
    model.generate = print
    with pytest.raises(PixelPruneError, match="generate is already replaced"):
        hf.attach(model)


def test_families_that_cannot_be_attached(family: zoo.Family, model: Any) -> None:
    if family.pruned_since <= zoo.VERSION:
        pytest.skip("this version can")
    with pytest.raises(PixelPruneError, match=f"{transformers.__version__}.*{family}"):
        hf.attach(model)


def test_a_text_prompt_has_no_plan(family: zoo.Family, ready: Any) -> None:
    cases.skip_unless_pruned(family, (PLAIN,))
    case = cases.make(family, (PLAIN,))
    inputs = dict(hf.prune_inputs(case.batch, ready))
    assert RECORD not in inputs
    with torch.no_grad():
        assert float((ready(**inputs).logits[0] - case.expected[0]).abs().max()) < cases.TOLERANCE
    ids = ready.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation
    assert np.array_equal(hf.forward(ready, inputs).logits.detach(), ready(**inputs).logits.detach())


@pytest.mark.parametrize("prompts", [(ONE,), (MIXED,)], ids=["one", "images and a video"])
def test_a_processor_prunes_until_detach(
    family: zoo.Family, model: Any, prompts: tuple[cases.Prompt, ...], close: Close
) -> None:
    """The processor's images are pruned; its videos are whole."""
    cases.skip_unless_pruned(family, prompts)
    cases.skip_unless_possible(family, prompts)
    stock = copy.copy(zoo.processor(family))
    own = stock.image_processor
    texts = [cases.text_of(family, prompt) for prompt in prompts]
    given = {"text": texts, "return_tensors": "pt", **cases.images_of(family, prompts)}
    whole = dict(stock(**given))
    expected = hf.prune_inputs(whole, model, threshold=0.1, video_keep="all")
    with hf.attached(model, stock, threshold=0.1) as ready, torch.no_grad():
        assert stock.image_processor.settings.threshold == 0.1
        inputs = dict(stock(**given))
        assert inputs["input_ids"].tolist() == expected["input_ids"].tolist()
        assert inputs["input_ids"].shape[1] < whole["input_ids"].shape[1]
        close(ready(**inputs).logits, hf.forward(ready, expected).logits)
    assert stock.image_processor is own


def test_settings_that_attach_has_no_use_for() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    model, stock = copy.deepcopy(zoo.model(family)), zoo.processor(family)
    for processor in (None, hf.PrunedProcessor(stock, model)):
        with pytest.raises(PixelPruneError, match="attach has settings but no processor to use them"):
            hf.attach(model, processor, threshold=0.1)
    with pytest.raises(PixelPruneError, match="threshold is 2"):
        hf.attach(model, stock, threshold=2)
    assert "generate" not in vars(model)
    assert not isinstance(stock.image_processor, hf.PrunedImageProcessor)


def test_a_processor_that_prunes_already_is_left_as_it_is() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    first, second = (copy.deepcopy(zoo.model(family)) for _ in range(2))
    stock = copy.copy(zoo.processor(family))
    own = stock.image_processor
    hf.attach(first, stock, threshold=0.1)
    hf.attach(first, stock)
    hf.attach(second, stock)
    assert stock.image_processor.settings.threshold == 0.1
    with pytest.raises(PixelPruneError, match="one that prunes already has its own settings"):
        hf.attach(second, stock, threshold=0.2)
    hf.detach(first)
    hf.detach(second)
    assert stock.image_processor is own


def test_packed_rows_with_a_mask_are_refused(family: zoo.Family, ready: Any) -> None:
    cases.skip_unless_pruned(family, (ONE, PLAIN))
    row = {name: value for name, value in cases.process(family, (ONE,)).items()}
    count = row["input_ids"].shape[1]
    packed = {
        name: torch.cat([value, value], dim=1) if value.shape[:2] == (1, count) else torch.cat([value, value])
        for name, value in row.items()
    }
    try:
        inputs = dict(hf.prune_inputs(packed, ready, lengths=[[count, count]]))
    except PixelPruneError as error:
        assert "would mix" in str(error)  # noqa: PT017
        pytest.skip("it can't be packed")
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with pytest.raises(PixelPruneError, match="those of packed sequences, and there is an attention_mask"):
        ready(**inputs)


def test_prompts_under_another_name_and_none(family: zoo.Family, ready: Any) -> None:
    case = build(family, "one" if "one" in BATCHES else next(iter(BATCHES)))
    inputs = plain(case, ready)
    how = {"max_new_tokens": 2, "min_new_tokens": 2, "do_sample": False}
    expected = ready.generate(**inputs, **how)
    ids = inputs.pop("input_ids")
    assert torch.equal(ready.generate(inputs=ids, **inputs, **how), expected)
    with pytest.raises(PixelPruneError, match="generate has no input_ids"):
        ready.generate(inputs_embeds=torch.zeros(*ids.shape, 4), **inputs, **how)


def test_arrays_and_lists_are_refused() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    model = zoo.model(family)
    inputs = dict(hf.prune_inputs(cases.process(family, (ONE,)), model))
    for form in (lambda x: x.numpy(), lambda x: x.tolist()):
        other = {name: form(value) for name, value in inputs.items()}
        for call in (hf.forward, hf.generate):
            with pytest.raises(
                TypeError, match=r"input_ids is a (ndarray|list); expected a tensor.*return_tensors='pt'"
            ):
                call(model, other)


def test_settings_of_what_prunes_already_stay() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    stock, model = zoo.processor(family), zoo.model(family)
    images = hf.PrunedImageProcessor(stock.image_processor, threshold=0.5, method="raster")
    assert hf.PrunedImageProcessor(images).settings == images.settings
    assert hf.PrunedImageProcessor(images, threshold=0.1).settings == images.settings.replace(threshold=0.1)
    whole = hf.PrunedProcessor(stock, model, threshold=0.5, method="raster")
    assert hf.PrunedProcessor(whole, model).settings == whole.settings
    assert hf.PrunedProcessor(whole, model, threshold=0.1).settings == whole.settings.replace(threshold=0.1)
