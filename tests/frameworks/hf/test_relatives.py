"""Families that share the code of one that is tested in full."""

from __future__ import annotations

from typing import Any

import pixelprune.hf as hf
import pytest
import torch

from . import cases, zoo
from .cases import ONE, PLAIN, STEPS, TWO, VIDEO
from .conftest import Close
from .test_generate import new_tokens
from .test_logits import unpad


@pytest.fixture(params=zoo.RELATIVES, ids=str)
def family(request: pytest.FixtureRequest) -> zoo.Family:
    """In the place of the fixture for the families that are tested in full."""
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
    with torch.no_grad():
        stock = model(**case.batch).logits
        model.model.rope_deltas = None
        close(hf.forward(model, whole).logits, stock, 0, what="keep all")
        close(unpad(hf.forward(model, inputs).logits, inputs), case.expected)
    ids = hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation
