"""Which releases of transformers are refused, which are accepted, and how a user decides otherwise."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pixelprune as pp
import pixelprune.hf as hf
import pytest
import transformers
from pixelprune.hf import releases, versions
from pixelprune.plan import ModelSpec

from . import zoo
from .cases import ONE, VIDEO
from .test_processor import given


@pytest.fixture(autouse=True)
def unread() -> Iterator[None]:
    """Clear the cached facts about the installed release, before and after."""
    versions.resolve.cache_clear()
    yield
    versions.resolve.cache_clear()


@pytest.fixture
def qwen() -> zoo.Family:
    return zoo.BY_NAME["qwen3_vl"]


def change_positions(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Let the model compute other positions, as some releases do, or fail, for videos or for everything."""
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

    index = Qwen3VLModel.get_rope_index

    @functools.wraps(index)
    def changed(self: Any, input_ids: Any, *args: Any, video_grid_thw: Any = None, **kwargs: Any) -> Any:
        if what == "videos fail" and video_grid_thw is not None:
            raise StopIteration
        positions, deltas = index(self, input_ids, *args, video_grid_thw=video_grid_thw, **kwargs)
        moved = what == "all moved" or (what == "videos moved" and video_grid_thw is not None)
        return positions * (2 if moved else 1), deltas

    monkeypatch.setattr(Qwen3VLModel, "get_rope_index", changed)


@pytest.mark.skipif(zoo.VERSION < (5, 3), reason="the model's code looks for videos in every prompt")
@pytest.mark.parametrize("what", ["videos fail", "videos moved"])
def test_images_run_where_only_videos_are_wrong(qwen: zoo.Family, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.model(qwen)
    pruned = hf.PrunedProcessor(zoo.processor(qwen), model)
    expected = pruned(**given(qwen, ONE))
    versions.resolve.cache_clear()
    change_positions(monkeypatch, what)
    inputs = pruned(**given(qwen, ONE))
    assert inputs["position_ids"].tolist() == expected["position_ids"].tolist()
    assert hf.forward(model, inputs).logits.equal(hf.forward(model, expected).logits)
    with pytest.raises(pp.PixelPruneError, match="videos of qwen3_vl can't be pruned"):
        pruned(**given(qwen, VIDEO))


def test_a_refusal_names_releases_to_install(qwen: zoo.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    change_positions(monkeypatch, "all moved")
    spec = ModelSpec.from_config(zoo.model(qwen))
    here = transformers.__version__
    names = rf"transformers {here} can't run qwen3_vl .*other positions; .*4\.57, .*'transformers==\d\.\d+\.\*'"
    with pytest.raises(pp.PixelPruneError, match=names) as caught:
        versions.resolve(spec)
    assert f"{releases.ALLOWED}={here}" in str(caught.value)
    monkeypatch.setitem(releases.SINCE, "qwen3_vl", (5, 20))
    monkeypatch.setattr(releases, "VERSION", (5, 19))
    with pytest.raises(pp.PixelPruneError, match=r"before 5\.20; expected a release that is tested: 5\.24 \(pip"):
        versions.resolve(spec)
    monkeypatch.setitem(releases.SINCE, "qwen3_vl", (99, 0))
    with pytest.raises(pp.PixelPruneError, match=r"before 99\.0; .*'transformers>=99\.0'"):
        versions.resolve(spec)


def test_a_user_can_allow_a_release(qwen: zoo.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """One release, by its full version: the next one is tried again."""
    pruned = hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen))
    expected = pruned(**given(qwen, ONE))
    versions.resolve.cache_clear()
    change_positions(monkeypatch, "all moved")
    for wrong in ("", "1", "4.50.0", ".".join(transformers.__version__.split(".")[:2])):
        monkeypatch.setenv(releases.ALLOWED, wrong)
        with pytest.raises(pp.PixelPruneError, match="other positions"):
            pruned(**given(qwen, ONE))
    monkeypatch.setenv(releases.ALLOWED, transformers.__version__)
    with pytest.warns(pp.PixelPruneWarning, match="other positions.*may be wrong") as caught:
        inputs = pruned(**given(qwen, ONE))
    assert caught[0].filename == __file__
    assert inputs["position_ids"].tolist() == expected["position_ids"].tolist()
    versions.resolve.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(releases, "VERSION", (4, 0))
    monkeypatch.setenv(releases.ALLOWED, transformers.__version__)
    with pytest.warns(pp.PixelPruneWarning, match="before 4.57"):
        pruned(**given(qwen, ONE))


@pytest.mark.skipif(zoo.VERSION < (5, 9), reason="there are no such arguments yet")
def test_arguments_that_do_not_arrive_can_not_be_allowed(qwen: zoo.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be ignored, so that the model would use other positions."""
    from transformers.models.qwen3_vl import modeling_qwen3_vl as modeling

    monkeypatch.delattr(modeling, "get_vision_position_ids")
    monkeypatch.setenv(releases.ALLOWED, transformers.__version__)
    with pytest.raises(pp.PixelPruneError, match="get_vision_position_ids") as caught:
        versions.resolve(ModelSpec.from_config(zoo.model(qwen)))
    assert releases.ALLOWED not in str(caught.value)


def test_a_family_without_a_model_is_refused(qwen: zoo.Family) -> None:
    known = set(releases.SINCE)
    assert "qwen3_vl" in known
    with pytest.raises(pp.PixelPruneError, match="hunyuan_vl"):
        releases.check("hunyuan_vl")
