"""A `PrunedProcessor` keeps its settings when saved, and its class; it survives patches of the stock class."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pixelprune as pp
import pixelprune.hf as hf
import pytest
import transformers
from pixelprune.hf.saved import FILE

from . import zoo
from .cases import ONE
from .test_processor import assert_same, given


@pytest.fixture(scope="module")
def qwen() -> zoo.Family:
    return zoo.BY_NAME["qwen2_vl"]


def save(pruned: Any, family: zoo.Family, folder: Path) -> None:
    pruned.save_pretrained(folder)
    zoo.model(family).config.save_pretrained(folder)


def test_settings_are_saved(qwen: zoo.Family, tmp_path: Path) -> None:
    pruned = hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen), threshold=0.3, method="serpentine")
    save(pruned, qwen, tmp_path)
    loaded = hf.PrunedProcessor.from_pretrained(tmp_path)
    assert loaded.settings == pruned.settings
    assert_same(loaded(**given(qwen, ONE)), pruned(**given(qwen, ONE)))


def test_arguments_replace_saved_settings(qwen: zoo.Family, tmp_path: Path) -> None:
    saved = pp.PruneSettings(threshold=0.3, method="serpentine")
    save(hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen), settings=saved), qwen, tmp_path)
    load = hf.PrunedProcessor.from_pretrained
    assert load(tmp_path, threshold=0.1).settings == saved.replace(threshold=0.1)
    assert load(tmp_path, settings=pp.PruneSettings()).settings == pp.PruneSettings()
    with pytest.raises(TypeError, match="settings"):
        load(tmp_path, settings=saved, threshold=0.1)
    with pytest.raises(pp.PixelPruneError, match="threshold"):
        load(tmp_path, threshold=-1.0)


def test_a_folder_without_settings(qwen: zoo.Family, tmp_path: Path) -> None:
    zoo.processor(qwen).save_pretrained(tmp_path)
    zoo.model(qwen).config.save_pretrained(tmp_path)
    assert hf.PrunedProcessor.from_pretrained(tmp_path).settings == pp.PruneSettings()


def test_the_stock_files_are_as_the_processor_saves_them(qwen: zoo.Family, tmp_path: Path) -> None:
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    pruned = hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen), threshold=0.3)
    pruned.chat_template = "a template of its own"
    returned = pruned.save_pretrained(ours)
    expected = pruned.processor.save_pretrained(stock)
    files = {path.name: path.read_bytes() for path in stock.iterdir()}
    saved = {path.name: path.read_bytes() for path in ours.iterdir()}
    assert json.loads(saved.pop(FILE))["threshold"] == 0.3
    assert saved == files
    assert [Path(name).name for name in returned] == [*(Path(name).name for name in expected), FILE]
    zoo.model(qwen).config.save_pretrained(ours)
    loaded = transformers.AutoProcessor.from_pretrained(ours)
    assert type(loaded) is type(zoo.processor(qwen))
    assert loaded.chat_template == "a template of its own"


def test_a_function_can_not_be_saved(qwen: zoo.Family, tmp_path: Path) -> None:
    """A warning says so; training does not end because of it. An older file does not stay."""
    hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen), threshold=0.3).save_pretrained(tmp_path)

    def first(tokens: Any, *args: Any) -> Any:
        return tokens

    pruned = hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen), method=first)
    with pytest.warns(pp.PixelPruneWarning, match="without its settings: .*function"):
        pruned.save_pretrained(tmp_path)
    assert not (tmp_path / FILE).exists()
    zoo.model(qwen).config.save_pretrained(tmp_path)
    assert hf.PrunedProcessor.from_pretrained(tmp_path).settings == pp.PruneSettings()


def test_settings_are_pushed(qwen: zoo.Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`push_to_hub` uploads a folder that `save_pretrained` wrote; `save_pretrained(push_to_hub=True)` calls it."""
    pruned = hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen), threshold=0.3)
    pushed: list[tuple[str, dict[str, Any], set[str]]] = []

    def push(self: Any, repo_id: str, **kwargs: Any) -> str:
        folder = tmp_path / f"upload{len(pushed)}"
        self.save_pretrained(folder)
        pushed.append((repo_id, kwargs, {path.name for path in folder.iterdir()}))
        return "address"

    monkeypatch.setattr(type(zoo.processor(qwen)), "push_to_hub", push, raising=False)
    pruned.push_to_hub("me/mine")
    pruned.save_pretrained(tmp_path / "yours", push_to_hub=True, commit_message="x")
    pruned.save_pretrained(str(tmp_path / "yours"), True, repo_id="me/yours", token="t")
    assert [(name, how) for name, how, _ in pushed] == [
        ("me/mine", {}),
        ("yours", {"commit_message": "x"}),
        ("me/yours", {"token": "t"}),
    ]
    assert all({FILE, "tokenizer.json"} <= files for *_, files in pushed)


class Mine(hf.PrunedProcessor):
    """A subclass of a user."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Count the call."""
        self.calls = getattr(self, "calls", 0) + 1
        return super().__call__(*args, **kwargs)


class Counting(hf.PrunedProcessor):
    """A subclass with arguments of its own."""

    def __new__(cls, processor: Any, spec: Any, start: int) -> Any:
        """Hand on what the base class takes."""
        return super().__new__(cls, processor, spec)

    def __init__(self, processor: Any, spec: Any, start: int) -> None:
        self.start = start


def test_a_subclass_stays_one(qwen: zoo.Family, tmp_path: Path) -> None:
    stock, model = zoo.processor(qwen), zoo.model(qwen)
    mine = Mine(stock, model, threshold=0.3)
    assert isinstance(mine, Mine)
    assert isinstance(mine, type(stock))
    copies = [again(mine) for again in (copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)))]
    save(mine, qwen, tmp_path)
    for other in (mine, *copies, Mine.from_pretrained(tmp_path), type(mine)(stock, model, threshold=0.3)):
        assert type(other) is type(mine)
        assert_same(other(**given(qwen, ONE)), hf.PrunedProcessor(stock, model, threshold=0.3)(**given(qwen, ONE)))
        assert other.calls == 1
    assert type(hf.PrunedProcessor(mine, model)) is type(hf.PrunedProcessor(stock, model))
    assert Counting(stock, model, 5).start == 5


def test_its_class_is_that_of_pruned_processors_and_then_the_stock_one(qwen: zoo.Family) -> None:
    stock = zoo.processor(qwen)
    kind = type(hf.PrunedProcessor(stock, zoo.model(qwen)))
    assert kind.__mro__[1:3] == (hf.PrunedProcessor, type(stock))
    assert "Pruned" in kind.__name__


def test_a_stock_class_with_getattr_of_others(qwen: zoo.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frameworks set `__getattr__` on the stock class, with `super(self.__class__, self)`, to show the tokenizer's."""

    def through(self: Any, name: str) -> Any:
        try:
            return super(self.__class__, self).__getattr__(name)
        except AttributeError:
            if "tokenizer" in dir(self):
                return getattr(self.tokenizer, name)
            raise

    stock = copy.copy(zoo.processor(qwen))
    pruned = hf.PrunedProcessor(stock, zoo.model(qwen))
    monkeypatch.setattr(type(stock), "__getattr__", through, raising=False)
    assert pruned.vocab_size == stock.vocab_size == stock.tokenizer.vocab_size
    assert pruned.padding_side == "left"
    assert not hasattr(pruned, "nonsense")
    assert pickle.loads(pickle.dumps(pruned)).vocab_size == stock.vocab_size
    assert copy.deepcopy(pruned).vocab_size == stock.vocab_size
    assert pruned(**given(qwen, ONE)).pixelprune is not None


def test_what_is_missing_is_an_attribute_error(qwen: zoo.Family) -> None:
    pruned = hf.PrunedProcessor(zoo.processor(qwen), zoo.model(qwen))
    for wrong in (pruned, object.__new__(type(pruned))):
        assert not hasattr(wrong, "nonsense")
