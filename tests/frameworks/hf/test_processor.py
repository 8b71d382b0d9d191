"""`PrunedProcessor`: a model's own processor whose output is pruned."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pixelprune.hf as hf
import pytest
import torch
from PIL import Image
from pixelprune.hf.images import PruningImages
from pixelprune.plan import ModelSpec

from . import cases, oracle, zoo
from .cases import ONE, PLAIN, TWO
from .conftest import Close
from .test_logits import unpad


@pytest.fixture
def pruned(family: zoo.Family, model: Any) -> Any:
    cases.skip_unless_pruned(family, (ONE,))
    return hf.PrunedProcessor(zoo.processor(family), model)


def masks(pruned: Any, images: list[Image.Image], *thresholds: float) -> list[cases.Mask]:
    """The kept tokens of images that the processor does not resize, computed from their pixels."""
    spec = pruned.model_spec.vision
    limits = thresholds or (0.0,) * len(images)
    return [
        pp.prune(np.asarray(image), spec, threshold=limit).mask.ravel()
        for image, limit in zip(images, limits, strict=True)
    ]


def given(family: zoo.Family, *prompts: cases.Prompt) -> dict[str, Any]:
    texts = [cases.text_of(family, prompt) for prompt in prompts]
    return {"text": texts, "padding": True, "return_tensors": "pt", **cases.images_of(family, prompts)}


def assert_same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_call(family: zoo.Family, model: Any, pruned: Any, close: Close) -> None:
    """End to end: images in, the oracle's logits out."""
    prompts = (TWO, PLAIN, ONE)
    arguments = given(family, *prompts)
    inputs = pruned(**arguments)
    keep = masks(pruned, arguments["images"])
    assert all(1 < mask.sum() < mask.size for mask in keep)
    assert [s.mask.ravel().tolist() for s in inputs.pixelprune.selections] == [mask.tolist() for mask in keep]
    rows = [keep[:2], [], keep[2:]]
    how = {"order": family.order, "recurrent": family.recurrent}
    with torch.no_grad():
        found = unpad(hf.forward(model, inputs).logits, inputs)
        expected = [
            oracle.truth(model, cases.process(family, [prompt]), row, **how)
            for prompt, row in zip(prompts, rows, strict=True)
        ]
    close(found, expected)


def test_call_is_the_stock_output_pruned(family: zoo.Family, model: Any, pruned: Any) -> None:
    for threshold in (0.0, 0.3):
        arguments = given(family, TWO, PLAIN, ONE)
        stock = zoo.processor(family)(**arguments)
        expected = hf.prune_inputs(stock, model, masks(pruned, arguments["images"], *(threshold,) * 3))
        assert_same(pruned(**arguments, threshold=threshold), expected)
        another = hf.PrunedProcessor(zoo.processor(family), model, threshold=threshold)
        assert_same(another(**arguments), expected)


def test_content_is_protected(family: zoo.Family, model: Any, pruned: Any) -> None:
    """Tokens of black and white columns repeat; only protection keeps them."""
    big = zoo.draw_image(family, 6, 6)
    pixels = np.zeros((big.height, big.width, 3), np.uint8)
    pixels[:, ::2] = 255
    arguments = {"text": [family.image], "images": [Image.fromarray(pixels)], "return_tensors": "pt"}
    assert len(pruned(**arguments).pixelprune.selections[0].keep) == 1
    how = pp.PruneSettings(protect="content")
    protecting = hf.PrunedProcessor(pruned.processor, model, settings=how)(**arguments)
    [selection] = protecting.pixelprune.selections
    assert selection.kept == selection.total > 1
    stock = pruned.processor(**arguments)
    assert_same(hf.prune_inputs(stock, model, settings=how), protecting)
    assert_same(hf.prune_inputs(stock, model, protect="content"), protecting)


def test_images_that_are_resized(family: zoo.Family, model: Any, pruned: Any) -> None:
    big = zoo.draw_image(family, 6, 7).resize((211, 173))
    inputs = pruned(text=[family.image], images=[big], return_tensors="pt")
    stock = zoo.processor(family)(text=[family.image], images=[big], return_tensors="pt")
    [grid] = stock["image_grid_thw"].tolist()
    assert inputs.pixelprune.grids.tolist() == [grid]
    side = family.token // 2
    assert inputs.pixelprune.image_sizes == [(grid[1] * side, grid[2] * side)]
    assert_same(inputs, hf.prune_inputs(stock, model))


def test_videos(family: zoo.Family, pruned: Any) -> None:
    cases.skip_unless_pruned(family, (cases.VIDEO,))
    arguments = given(family, cases.VIDEO)
    inputs = pruned(**arguments)
    [clip] = arguments["videos"]
    spec = pruned.model_spec.vision
    frames = [pp.prune(frame.permute(1, 2, 0).numpy(), spec).mask for frame in clip[::2]]
    [selection] = inputs.pixelprune.video_selections
    assert np.array_equal(selection.mask, np.concatenate(frames))
    assert selection.kept < selection.total


def conversation(family: zoo.Family, *answers: str) -> tuple[list[dict[str, Any]], Image.Image]:
    image = zoo.draw_image(family, 4, 6, 3)
    parts = [{"type": "image", "image": image}, {"type": "text", "text": "what is it?"}]
    said = [{"role": "assistant", "content": [{"type": "text", "text": answer}]} for answer in answers]
    return [{"role": "user", "content": parts}, *said], image


def test_apply_chat_template(family: zoo.Family, pruned: Any) -> None:
    messages, image = conversation(family)
    how = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = pruned.apply_chat_template(messages, **how)
    text = pruned.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == zoo.processor(family).apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert family.image in text
    assert_same(inputs, pruned(text=[text], images=[image], return_tensors="pt"))
    assert inputs.pixelprune.tokens_after < inputs.pixelprune.tokens_before
    [mask] = masks(pruned, [image], 0.4)
    assert pruned.apply_chat_template(messages, threshold=0.4, **how).pixelprune.selections[0].kept == mask.sum()
    kept = pruned.apply_chat_template(messages, keep=[[0, 3]], **how)
    assert kept.pixelprune.selections[0].keep.tolist() == [0, 3]


def test_forms_of_keep(family: zoo.Family, pruned: Any) -> None:
    arguments = given(family, ONE, TWO)
    keep = [cases.some(p.rows, p.cols, 20 + i) for i, p in enumerate((ONE[1], TWO[0], TWO[2]))]
    spec = pruned.model_spec.vision
    inputs = pruned(**arguments, keep=keep)
    assert [s.mask.ravel().tolist() for s in inputs.pixelprune.selections] == [mask.tolist() for mask in keep]
    assert_same(pruned(**arguments, keep=[np.flatnonzero(mask) for mask in keep]), inputs)
    selections = [pp.prune(np.asarray(image), spec) for image in arguments["images"]]
    assert_same(pruned(**arguments, keep=selections), pruned(**arguments))
    mixed = pruned(**arguments, keep=[keep[0], None, keep[2]]).pixelprune.selections
    assert [s.mask.ravel().tolist() for s in mixed] == [
        keep[0].tolist(),
        selections[1].mask.ravel().tolist(),
        keep[2].tolist(),
    ]
    for wrong in (keep[:2], [keep[0], keep[2], keep[1]], [keep[0], keep[1], [10**6]]):
        with pytest.raises(pp.PixelPruneError, match="keep"):
            pruned(**arguments, keep=wrong)


def test_a_threshold_for_every_image(family: zoo.Family, pruned: Any) -> None:
    arguments = given(family, ONE, TWO)
    limits = (0.0, 0.9, 0.4)
    inputs = pruned(**arguments, threshold=limits)
    keep = masks(pruned, arguments["images"], *limits)
    assert [s.mask.ravel().tolist() for s in inputs.pixelprune.selections] == [mask.tolist() for mask in keep]
    with pytest.raises(pp.PixelPruneError, match="threshold"):
        pruned(**arguments, threshold=limits[:2])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, torch.tensor, Fraction])
def test_a_threshold_is_any_number(kind: Any) -> None:
    """And is the one of videos, too."""
    family = zoo.BY_NAME["qwen2_vl"]
    pruned = hf.PrunedProcessor(zoo.processor(family), zoo.model(family))
    for prompt in (ONE, cases.VIDEO):
        arguments = given(family, prompt)
        expected = pruned(**arguments, threshold=0.9)
        assert expected.pixelprune.tokens_after < pruned(**arguments).pixelprune.tokens_after
        assert_same(pruned(**arguments, threshold=kind(0.9)), expected)
        assert_same(pruned(**arguments, threshold=kind(0.9), keep=None, video_keep=None), expected)
        stock = pruned.processor(**arguments)
        assert_same(pruned.prune(stock, threshold=kind(0.9)), expected)
        assert_same(hf.prune_inputs(stock, zoo.model(family), threshold=kind(0.9)), expected)
    settings = pp.PruneSettings(threshold=kind(0.5))
    assert settings == pp.PruneSettings(threshold=0.5)
    assert type(settings.threshold) is float


def test_what_a_call_refuses() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    pruned = hf.PrunedProcessor(zoo.processor(family), zoo.model(family))
    arguments = given(family, ONE)
    stock = pruned.processor(**arguments)
    selection = pruned(**arguments).pixelprune.selections[0]
    for call in (lambda **how: pruned(**arguments, **how), lambda **how: pruned.prune(stock, **how)):
        for name in ("keep", "video_keep"):
            for wrong in (selection, 3, None if name == "keep" else True, "none"):
                if wrong is not None:
                    with pytest.raises((TypeError, pp.PixelPruneError), match=f"{name} is .*; expected .*a list"):
                        call(**{name: wrong})
        for threshold in ("x", b"x", {}, object()):
            with pytest.raises(TypeError, match=r"threshold is .*expected a number"):
                call(threshold=threshold)
    for batch in ([1], None, "text", torch.zeros(1, 3)):
        with pytest.raises(TypeError, match=f"batch is a {type(batch).__name__}; expected .* processor"):
            hf.prune_inputs(batch, zoo.model(family))
    with pytest.raises(pp.PixelPruneError, match="threads is -1"):
        hf.PrunedProcessor(zoo.processor(family), zoo.model(family), threads=-1)
    with pytest.raises(TypeError, match="threads is"):
        hf.PrunedProcessor(zoo.processor(family), zoo.model(family), threads="x")


@pytest.mark.parametrize("told", [{"merge_size": 1}, {"patch_size": 7}])
def test_images_cut_otherwise_than_the_model_does_are_refused(told: dict[str, int]) -> None:
    """Their kept tokens would be those of other places in the image."""
    family = zoo.BY_NAME["qwen2_vl"]
    pruned = hf.PrunedProcessor(zoo.processor(family), zoo.model(family))
    [(name, size)] = told.items()
    with pytest.raises(pp.PixelPruneError, match=rf"the image processor .* {name} {size}; expected the model's, \d+"):
        pruned(**given(family, ONE), **told)


def test_an_image_processor_derived_from_a_stock_one() -> None:
    """It may do anything before its rows come out, so its own code runs."""
    family = zoo.BY_NAME["qwen2_vl"]
    processor = copy.copy(zoo.processor(family))
    kind = type(processor.image_processor)

    class Darker(kind):  # type: ignore[misc, valid-type]
        def _preprocess(self, images: Any, *args: Any, **kwargs: Any) -> Any:
            return super()._preprocess([image // 2 for image in images], *args, **kwargs)

    processor.image_processor = Darker(**processor.image_processor.to_dict())
    arguments = given(family, ONE)
    whole = processor(**arguments)
    assert not torch.equal(whole["pixel_values"], zoo.processor(family)(**arguments)["pixel_values"])
    spec = ModelSpec.from_config(zoo.model(family))
    pruned = hf.PrunedProcessor(processor, spec)
    assert_same(pruned(**arguments), hf.prune_inputs(whole, spec))


def test_a_chat_template_is_asked_for_tokens_by_name() -> None:
    """A positional argument would be missed, and the output not pruned."""
    family = zoo.BY_NAME["qwen2_vl"]
    pruned = hf.PrunedProcessor(zoo.processor(family), zoo.model(family))
    messages, _ = conversation(family)
    template = pruned.chat_template
    assert pruned.apply_chat_template(messages, template) == pruned.apply_chat_template(messages)
    assert pruned.apply_chat_template(messages, "short") == "short"
    with pytest.raises(TypeError, match="positional"):
        pruned.apply_chat_template(messages, template, None, None, False, False, False, True)


def test_text_alone(family: zoo.Family, model: Any, pruned: Any) -> None:
    arguments = given(family, PLAIN)
    inputs = pruned(**arguments)
    stock = zoo.processor(family)(**arguments)
    assert torch.equal(inputs["input_ids"], stock["input_ids"])
    with torch.no_grad():
        expected = model(**stock).logits
        model.model.rope_deltas = None
        assert torch.equal(hf.forward(model, inputs).logits, expected)


def test_copies_prune_alike(family: zoo.Family, model: Any) -> None:
    cases.skip_unless_pruned(family, (ONE,))
    pruned = hf.PrunedProcessor(zoo.processor(family), model, threshold=0.3, method="serpentine")
    arguments = given(family, ONE)
    expected = pruned(**arguments)
    assert expected.pixelprune.selections[0].method == "serpentine"
    for same in (pickle.loads(pickle.dumps(pruned)), copy.copy(pruned), copy.deepcopy(pruned)):
        assert type(same) is type(pruned)
        assert same.settings == pruned.settings
        assert_same(same(**arguments), expected)
    again = pickle.loads(pickle.dumps(expected))
    assert_same(again, expected)
    assert again.pixelprune.selections == expected.pixelprune.selections


def test_the_stock_processor_shares_its_state() -> None:
    """An attribute set on one of the two is set on both, and on no other processor."""
    family = zoo.BY_NAME["qwen2_vl"]
    stock, model = zoo.processor(family), zoo.model(family)
    pruned, another = hf.PrunedProcessor(stock, model), hf.PrunedProcessor(stock, model, threshold=0.5)
    before, messages = stock.chat_template, [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    assert pruned.processor is pruned.processor
    pruned.processor.chat_template = "short"
    assert pruned.chat_template == "short"
    assert pruned.apply_chat_template(messages) == "short"
    others = [again(pruned) for again in (copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)))]
    pruned.chat_template = "shorter"
    assert pruned.processor.chat_template == pruned.apply_chat_template(messages) == "shorter"
    assert pruned.processor.apply_chat_template(messages) == "shorter"
    for other in others:
        assert other.chat_template == other.processor.chat_template == "short"
        assert other.processor is other.processor
        other.processor.chat_template = "own"
    assert pruned.chat_template == "shorter"
    assert stock.chat_template == another.chat_template == another.processor.chat_template == before
    assert (pruned.settings.threshold, another.settings.threshold) == (0.0, 0.5)
    assert "_pixelprune" not in vars(pruned.processor)


def test_calls_leave_the_processor_as_it_was() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    stock = zoo.processor(family)
    pruned = hf.PrunedProcessor(stock, zoo.model(family))
    before = dict(vars(pruned))
    pruned(**given(family, ONE))
    with pytest.raises(pp.PixelPruneError):
        pruned(**given(family, ONE), keep=[[10**6]])
    with pytest.raises((TypeError, ValueError)):
        pruned(text=[family.image], images=[object()])
    assert vars(pruned) == before
    assert pruned.image_processor is pruned.processor.image_processor is stock.image_processor


def test_threads_share_a_processor() -> None:
    """Each call has its own threshold and its own image processor."""
    family = zoo.BY_NAME["qwen2_vl"]
    pruned = hf.PrunedProcessor(zoo.processor(family), zoo.model(family))
    limits, prompts = (0.0, 0.3, 0.6), (ONE, TWO)
    jobs = [(given(family, prompt), limit) for prompt in prompts for limit in limits]
    expected = [pruned(**arguments, threshold=limit) for arguments, limit in jobs]
    assert len({inputs.pixelprune.tokens_after for inputs in expected}) > 1
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(lambda job: pruned(**job[0], threshold=job[1]), jobs * 4))
    for one, other in zip(found, expected * 4, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_during_a_call_are_the_stock_image_processor(copied: Callable[[Any], Any]) -> None:
    """A copy of its replacement must not prune a second time."""
    family = zoo.BY_NAME["qwen2_vl"]
    pruned = hf.PrunedProcessor(zoo.processor(family), zoo.model(family))
    stock = pruned.processor.image_processor
    stand_in = PruningImages(stock, pruned.model_spec, pruned.settings)
    other = copied(stand_in)
    assert type(other) is type(stock)
    assert other.to_dict() == stock.to_dict()

    class Copying(type(pruned.processor)):  # type: ignore[misc]
        def __call__(self, **kwargs: Any) -> Any:
            self.image_processor = copied(self.image_processor)
            return super().__call__(**kwargs)

    copying = copy.copy(pruned.processor)
    copying.__class__ = Copying
    arguments = given(family, TWO)
    assert_same(hf.PrunedProcessor(copying, zoo.model(family))(**arguments), pruned(**arguments))


def test_what_the_image_processor_lacks_is_an_attribute_error() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    pruned = hf.PrunedProcessor(zoo.processor(family), zoo.model(family))
    whole = PruningImages(pruned.processor.image_processor, pruned.model_spec, pruned.settings)
    for stand_in in (whole, PruningImages.__new__(PruningImages)):
        for name in ("nonsense", "__nonsense__"):
            with pytest.raises(AttributeError):
                getattr(stand_in, name)


def test_it_is_the_stock_processor_otherwise(family: zoo.Family, pruned: Any) -> None:
    stock = zoo.processor(family)
    assert isinstance(pruned, type(stock))
    assert isinstance(pruned, hf.PrunedProcessor)
    assert type(pruned.processor) is type(stock)
    assert pruned.tokenizer is stock.tokenizer
    assert pruned.decode([72, 73]) == stock.decode([72, 73])
    arguments = given(family, ONE)
    assert torch.equal(pruned.processor(**arguments)["input_ids"], stock(**arguments)["input_ids"])


def test_from_pretrained(family: zoo.Family, model: Any, pruned: Any, tmp_path: Path) -> None:
    pruned.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    loaded = hf.PrunedProcessor.from_pretrained(tmp_path, threshold=0.3)
    arguments = given(family, ONE)
    assert loaded.settings.threshold == 0.3
    assert_same(loaded(**arguments), pruned(**arguments, threshold=0.3))


def test_to_another_type_and_place(family: zoo.Family, pruned: Any) -> None:
    inputs = pruned(**given(family, ONE))
    moved = inputs.to(torch.bfloat16)
    assert moved["pixel_values"].dtype == torch.bfloat16
    assert moved["input_ids"].dtype == moved["position_ids"].dtype == torch.int64
    assert moved.pixelprune is not None


def test_warnings_name_the_user_s_line_at_every_door() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    narrow = replace(ModelSpec.from_config(zoo.model(family)), sliding_window=5)
    stock, pruned = zoo.processor(family), hf.PrunedProcessor(zoo.processor(family), narrow)
    arguments = given(family, ONE)
    batch, keep = stock(**arguments), [[0, 3]]
    collator, example = hf.PrunedCollator(pruned), {"text": arguments["text"][0], "images": arguments["images"]}
    messages, _ = conversation(family)
    how = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    doors: list[Callable[[], Any]] = [
        lambda: hf.prune_inputs(batch, narrow),
        lambda: pruned.prune(batch),
        lambda: pruned(**arguments),
        lambda: pruned(**arguments, keep=keep),
        lambda: pruned.apply_chat_template(messages, **how),
        lambda: pruned.apply_chat_template(messages, keep=keep, **how),
        lambda: collator([example]),
    ]
    for door in doors:
        with pytest.warns(pp.PixelPruneWarning, match="last 5 tokens") as caught:
            door()
        found = [(warning.filename, warning.lineno) for warning in caught]
        assert found == [(__file__, door.__code__.co_firstlineno)], found
