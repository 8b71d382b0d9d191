"""One model in several threads, or several times in one: every call gets its own positions."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
import torch
from pixelprune import PixelPruneError
from torch.utils.checkpoint import checkpoint

from . import cases, oracle, zoo
from .cases import ONE, STEPS, TWO
from .conftest import Close
from .test_logits import build, gradients, unpad, weighted

PATIENCE = 1
"""Seconds that a call waits for another one to get as far, which does not happen where calls take turns."""
LONGEST = 120
"""Seconds after which a test has hung."""


def alike(family: zoo.Family) -> tuple[cases.Case, list[list[cases.Mask]]]:
    """A prompt and two masks of its image that keep as many tokens, but others: their flat grids are equal."""
    cases.skip_unless_pruned(family, (ONE,))
    case = cases.make(family, (ONE,))
    [mask] = case.keep
    return case, [[mask], [np.ascontiguousarray(mask[::-1])]]


@contextmanager
def meeting(model: Any, parties: int = 2) -> Iterator[None]:
    """Make calls of the model wait for each other at the start, for a while."""
    barrier = threading.Barrier(parties)

    def wait(*_: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(PATIENCE)

    handle = model.register_forward_pre_hook(wait)
    try:
        yield
    finally:
        handle.remove()


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(works)) as executor:
        return [future.result(LONGEST) for future in [executor.submit(work) for work in works]]


@torch.no_grad()
def logits(model: Any, inputs: Any) -> torch.Tensor:
    return hf.forward(model, inputs).logits


@torch.no_grad()
def truth(model: Any, case: cases.Case, keep: list[cases.Mask]) -> torch.Tensor:
    [row] = case.rows
    return oracle.truth(model, row.alone, keep, **case.how)


def test_two_threads_have_their_own_positions(family: zoo.Family, model: Any, close: Close) -> None:
    case, keeps = alike(family)
    inputs = [hf.prune_inputs(case.batch, model, keep) for keep in keeps]
    with meeting(model):
        found = in_threads(*(partial(logits, model, one) for one in inputs))
    expected = [truth(model, case, keep) for keep in keeps]
    assert (expected[0] - expected[1]).abs().max() > 1000 * cases.TOLERANCE
    close([one[0] for one in found], expected)


def test_two_threads_generate(family: zoo.Family, model: Any) -> None:
    case, keeps = alike(family)
    inputs = [hf.prune_inputs(case.batch, model, keep) for keep in keeps]
    how: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False, "output_logits": True}
    works = [partial(hf.generate, model, one, return_dict_in_generate=True, **how) for one in inputs]
    expected = [torch.stack(work().logits) for work in works]
    assert (expected[0] - expected[1]).abs().max() > 1000 * cases.TOLERANCE
    with meeting(model):
        found = [torch.stack(made.logits) for made in in_threads(*works)]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_many_threads(family: zoo.Family, model: Any) -> None:
    """Batches of other sizes, too."""
    case, keeps = alike(family)
    inputs = [hf.prune_inputs(case.batch, model, keep) for keep in keeps]
    other = build(family, "batch")
    inputs.append(hf.prune_inputs(other.batch, model, **other.masks))
    expected = [logits(model, one) for one in inputs]
    found = in_threads(*(partial(logits, model, one) for one in inputs * 4))
    for one, whole in zip(found, expected * 4, strict=True):
        assert torch.equal(one, whole)


def test_an_unpruned_call_in_another_thread(family: zoo.Family, model: Any) -> None:
    """It is outside any context, and is left alone."""
    case, keeps = alike(family)
    inputs = hf.prune_inputs(case.batch, model, keeps[0])
    expected = logits(model, inputs)
    with torch.no_grad():
        stock = model(**case.batch).logits

    @torch.no_grad()
    def unpruned() -> torch.Tensor:
        return model(**case.batch).logits

    with hf.vision_positions(model, inputs) as ready, torch.no_grad():
        [found] = in_threads(unpruned)
        ours = model(**ready).logits
        [again] = in_threads(unpruned)
    assert torch.equal(found, stock)
    assert torch.equal(again, stock)
    assert torch.equal(ours, expected)


def test_a_call_in_a_thread_of_its_own(family: zoo.Family, model: Any) -> None:
    """As tokens are streamed: the thread that generates is not the one that entered."""
    case, keeps = alike(family)
    inputs = hf.prune_inputs(case.batch, model, keeps[0])
    expected = logits(model, inputs)

    @torch.no_grad()
    def call(ready: dict[str, Any]) -> torch.Tensor:
        return model(**ready).logits

    with hf.vision_positions(model, inputs) as ready:
        [found] = in_threads(partial(call, ready))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("order", ["inner first", "outer first", "in turn"])
def test_nested_calls(family: zoo.Family, model: Any, order: str) -> None:
    case, keeps = alike(family)
    inputs = [hf.prune_inputs(case.batch, model, keep) for keep in keeps]
    expected = [logits(model, one) for one in inputs]
    with torch.no_grad(), hf.vision_positions(model, inputs[0]) as outer:
        if order == "outer first":
            assert torch.equal(model(**outer).logits, expected[0])
        with hf.vision_positions(model, inputs[1]) as inner:
            assert torch.equal(model(**inner).logits, expected[1])
            if order == "in turn":
                assert torch.equal(model(**outer).logits, expected[0])
                assert torch.equal(model(**inner).logits, expected[1])
        assert torch.equal(logits(model, inputs[1]), expected[1])
        assert torch.equal(model(**outer).logits, expected[0])


def test_contexts_that_end_in_another_order(family: zoo.Family, model: Any) -> None:
    case, keeps = alike(family)
    inputs = [hf.prune_inputs(case.batch, model, keep) for keep in keeps]
    expected = [logits(model, one) for one in inputs]
    with ExitStack() as first, ExitStack() as second:
        one = first.enter_context(hf.vision_positions(model, inputs[0]))
        two = second.enter_context(hf.vision_positions(model, inputs[1]))
        with torch.no_grad():
            assert torch.equal(model(**one).logits, expected[0])
            first.close()
            assert torch.equal(model(**two).logits, expected[1])
            second.close()


def test_a_call_that_fails_lets_the_next_one_in(family: zoo.Family, model: Any) -> None:
    case, keeps = alike(family)
    inputs = hf.prune_inputs(case.batch, model, keeps[0])
    expected = logits(model, inputs)
    with pytest.raises(RuntimeError, match="on purpose"), hf.vision_positions(model, inputs):
        raise RuntimeError("on purpose")
    [found] = in_threads(partial(logits, model, inputs))
    assert torch.equal(found, expected)


def test_a_copy_made_meanwhile_is_a_model_of_its_own(family: zoo.Family, model: Any) -> None:
    case, keeps = alike(family)
    inputs = hf.prune_inputs(case.batch, model, keeps[0])
    with torch.no_grad():
        stock = model(**case.batch).logits
    with hf.vision_positions(model, inputs):
        twin = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(twin(**case.batch).logits, stock)


# --- Training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("what", ["blocks", "model"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["", "backward in another thread"])
def test_gradient_checkpointing(
    family: zoo.Family, model: Any, what: str, reentrant: bool, elsewhere: bool, close: Close
) -> None:
    """What is computed again in the backward pass, in a thread of autograd's where there is a GPU, is the same."""
    if family.recurrent:
        pytest.skip("the gradients of its recurrent layers are too rough")
    case, keeps = alike(family)
    trained = copy.deepcopy(model).train()
    weighted([oracle.truth(trained, case.rows[0].alone, keeps[0], **case.how)]).backward()
    expected = gradients(trained)
    inputs = hf.prune_inputs(case.batch, trained, keeps[0])
    if what == "blocks":
        # Its name since 5.23, and before.
        enable = getattr(trained, "activation_checkpointing_enable", trained.gradient_checkpointing_enable)
        enable({"use_reentrant": reentrant})
    with hf.vision_positions(trained, inputs) as ready:

        def call(_: Any = None) -> torch.Tensor:
            return trained(**ready, use_cache=False).logits

        # Where it is reentrant, some argument has to have a gradient.
        weights = trained.get_input_embeddings().weight
        found = call() if what == "blocks" else checkpoint(call, weights, use_reentrant=reentrant)
        loss = weighted(unpad(found, inputs))
        if elsewhere:
            in_threads(loss.backward)
        else:
            loss.backward()
    again = gradients(trained)
    assert again.keys() == expected.keys()
    floor = 1e-3 * max(float(grad.abs().max()) for grad in expected.values())
    scale = {key: max(float(grad.abs().max()), floor) for key, grad in expected.items()}
    close([again[key] / scale[key] for key in scale], [expected[key] / scale[key] for key in scale], 2e-5)


def test_checkpointing_forward_itself(family: zoo.Family, model: Any, close: Close) -> None:
    """Computed again long after the call: positions come along with it."""
    case, keeps = alike(family)
    inputs = hf.prune_inputs(case.batch, model, keeps[0])
    tower = next(p for p in oracle.tower_of(model).parameters())
    [expected] = torch.autograd.grad(weighted(unpad(hf.forward(model, inputs, use_cache=False).logits, inputs)), tower)
    found = checkpoint(lambda: hf.forward(model, inputs, use_cache=False).logits, use_reentrant=False)
    [again] = torch.autograd.grad(weighted(unpad(found, inputs)), tower)
    close(again / expected.abs().max(), expected / expected.abs().max())


# --- Refused ----------------------------------------------------------------------------------------------------


def test_the_original_grids_within_the_context_are_refused(family: zoo.Family, model: Any) -> None:
    """`inputs` instead of what `vision_positions` yields."""
    cases.skip_unless_pruned(family, (TWO,))
    case = cases.make(family, (TWO,))
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    with hf.vision_positions(model, inputs) as ready:
        if torch.equal(ready["image_grid_thw"], inputs["image_grid_thw"]):
            pytest.skip("they are the same here")
        if "image_position_ids" in ready:
            pytest.skip("the model takes positions by itself")
        with pytest.raises(PixelPruneError, match="the vision tower is called with grids"):
            model(**{**ready, "image_grid_thw": inputs["image_grid_thw"]})
