"""analyze, against prune itself."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import given, settings
from pixelprune.reference import BASELINES, METHODS
from strategies import PIXEL_SPEC, Case, cases


@settings(max_examples=40)
@given(cases(max_side=4))
def test_every_figure_is_prune_s(case: Case) -> None:
    found = pp.analyze(case.image, case.spec)
    exact = {method: pp.prune(case.image, case.spec, method=method) for method in METHODS + BASELINES}
    assert found.tokens == exact["pred_2d"].total
    assert dict(found.retained) == {method: sel.retained for method, sel in exact.items()}
    assert found.unique == exact["unique"].retained
    for method, count in found.dropped_content.items():
        protected = pp.prune(case.image, case.spec, method=method, protect="content")  # type: ignore[arg-type]
        assert count == len(exact[method].dropped_content(case.image)) == protected.kept - exact[method].kept
    assert found.dropped_content.keys() == set(METHODS)


def test_by_hand() -> None:
    ramp = np.arange(0, 200, 10, dtype=np.uint8)[np.newaxis]  # 20 tokens, 10 levels apart
    found = pp.analyze(ramp, PIXEL_SPEC)
    assert (found.tokens, found.unique) == (20, 1.0)
    assert set(found.retained.values()) == {1.0}
    flat = pp.analyze(np.zeros((4, 5), np.uint8), PIXEL_SPEC)
    assert set(flat.retained.values()) == {0.05}
    one = pp.analyze(np.zeros((1, 1), np.uint8), PIXEL_SPEC)
    assert set(one.retained.values()) == {1.0}
    assert one.tokens == 1


CHANGES: list[Callable[[Any], object]] = [
    lambda figures: figures.__setitem__("pred_2d", 1),
    lambda figures: figures.__delitem__("pred_2d"),
    lambda figures: figures.__ior__({"pred_2d": 1}),
    lambda figures: figures.update(pred_2d=1),
    lambda figures: figures.setdefault("other", 1),
    lambda figures: figures.pop("pred_2d"),
    lambda figures: figures.popitem(),
    lambda figures: figures.clear(),
]


def test_the_result_becomes_a_dict_and_json() -> None:
    found = pp.analyze(np.zeros((64, 64, 3), np.uint8), "qwen3_vl")
    plain = dataclasses.asdict(found)
    content = dict.fromkeys(METHODS, 0)
    assert plain == {"tokens": 4, "unique": 0.25, "retained": found.retained, "dropped_content": content}
    assert json.loads(json.dumps(plain)) == plain
    assert dataclasses.astuple(found) == (4, 0.25, found.retained, content)


def test_the_result_is_frozen_and_picklable() -> None:
    found = pp.analyze(np.zeros((64, 64, 3), np.uint8), "qwen3_vl")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.tokens = 5  # type: ignore[misc]
    for again in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        for change in CHANGES:
            for figures in (again.retained, again.dropped_content):
                with pytest.raises(TypeError, match="can't be changed"):
                    change(figures)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(found, protocol)) == found
    assert copy.deepcopy(found) == copy.copy(found) == found
    assert hash(pickle.loads(pickle.dumps(found))) == hash(found)
    assert found != replace(found, tokens=5)
