"""Kept tokens that a scan has stored are used by processors and collators, and no others."""

from __future__ import annotations

import contextlib
import copy
import pickle
from pathlib import Path
from typing import Any

import pixelprune as pp
import pixelprune.hf as hf
import pytest
from PIL import Image
from pixelprune.hf.pixels import resample_of

from . import zoo
from .test_processor import assert_same

pytest.importorskip("pyarrow")
from pixelprune.scan import KeepIndices, scan

LABEL = "either@0.1"
SETTINGS = pp.PruneSettings(method="either", threshold=0.1)
COUNT = 3


@pytest.fixture(scope="module")
def qwen() -> zoo.Family:
    return zoo.BY_NAME["qwen2_vl"]


@pytest.fixture(scope="module")
def stored(qwen: zoo.Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        zoo.draw_image(qwen, 4 + i, 6, seed=i).save(top / f"{i}.png")
    scan_for(qwen, top, top / "out")
    return top


def scan_for(family: zoo.Family, top: Path, out: Path, **how: Any) -> None:
    images = zoo.processor(family).image_processor
    own = {"resample": resample_of(type(images)), "spec": pp.VisionSpec.from_config(images)}
    scan(str(top / "*.png"), out, sweep=[LABEL, "pred_2d@0"], indices=[LABEL], **{**own, **how})


def processor(family: zoo.Family, indices: KeepIndices | None, settings: pp.PruneSettings = SETTINGS) -> Any:
    return hf.PrunedProcessor(zoo.processor(family), zoo.model(family), settings=settings, keep_indices=indices)


def paths(stored: Path) -> list[str]:
    return [str(stored / f"{i}.png") for i in range(COUNT)]


def forbid_choosing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("tokens are chosen again")

    monkeypatch.setattr("pixelprune.hf.choosing.prune_pixel_values", refuse)
    monkeypatch.setattr("pixelprune.hf.images.PrunedImageProcessor.__call__", refuse)


def opened(stored: Path) -> list[Image.Image]:
    return [pp.load_image(path) for path in paths(stored)]


def conversation(images: list[Any]) -> list[dict[str, Any]]:
    content = [{"type": "image", "image": path} for path in images]
    return [{"role": "user", "content": [*content, {"type": "text", "text": "where"}]}]


def test_a_processor_uses_them(qwen: zoo.Family, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = opened(stored)
    texts = [qwen.image, f"{qwen.image} and {qwen.image}"]
    how = {"text": texts, "padding": True, "return_tensors": "pt"}
    expected = processor(qwen, None)(images=images, **how)
    assert expected.pixelprune.tokens_after < expected.pixelprune.tokens_before
    indices = KeepIndices(stored / "out", LABEL)
    forbid_choosing(monkeypatch)
    made = processor(qwen, indices)
    for one in (made, copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), again(made, qwen)):
        assert one.keep_indices is not None
        assert_same(one(images=paths(stored), **how), expected)
        assert_same(one([paths(stored)[:1], paths(stored)[1:]], **how), expected)
    given = [paths(stored)[0], Path(paths(stored)[1]).read_bytes(), {"bytes": None, "path": paths(stored)[2]}]
    assert_same(made(images=given, **how), expected)


def again(made: Any, family: zoo.Family) -> Any:
    return hf.PrunedProcessor(made, zoo.model(family))


def test_a_conversation_uses_them(qwen: zoo.Family, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: Any = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    expected = processor(qwen, None).apply_chat_template(conversation(opened(stored)), **how)
    forbid_choosing(monkeypatch)
    made = processor(qwen, KeepIndices(stored / "out", LABEL))
    assert_same(made.apply_chat_template(conversation(paths(stored)), **how), expected)
    several = [conversation(paths(stored)[:1]), conversation(paths(stored)[1:])]
    found = made.apply_chat_template(several, padding=True, **how)
    assert [s.kept for s in found.pixelprune.selections] == [s.kept for s in expected.pixelprune.selections]


def test_a_collator_uses_them(qwen: zoo.Family, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [{"role": "user", "content": "<image><image>where"}, {"role": "assistant", "content": "there"}]

    def examples(images: list[Any]) -> list[dict[str, Any]]:
        text = {"text": qwen.image + " where", "images": images[:1]}
        return [text, {"messages": turns, "images": images[1:]}, {"text": "no image"}]

    expected = hf.PrunedCollator(processor(qwen, None))(examples(opened(stored)))
    indices = KeepIndices(stored / "out", LABEL)
    forbid_choosing(monkeypatch)
    assert_same(hf.PrunedCollator(processor(qwen, indices))(examples(paths(stored))), expected)


@pytest.mark.parametrize("alpha", ["white", "drop"])
def test_images_are_loaded_as_the_scan_did(alpha: Any, qwen: zoo.Family, tmp_path: Path) -> None:
    """Upright, and with its alpha: the tokens are those of the pixels that the model sees."""
    image = zoo.draw_image(qwen, 4, 6, seed=5)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "0.png", exif=exif)
    scan_for(qwen, tmp_path, tmp_path / "out", alpha=alpha)
    with pytest.warns(pp.PixelPruneWarning) if alpha == "drop" else contextlib.nullcontext():
        loaded = pp.load_image(tmp_path / "0.png", alpha=alpha)
        expected = processor(qwen, None)(images=[loaded], text=[qwen.image], return_tensors="pt")
        made = processor(qwen, KeepIndices(tmp_path / "out", LABEL))
        assert_same(made(images=[str(tmp_path / "0.png")], text=[qwen.image], return_tensors="pt"), expected)


def test_keep_goes_before_them(qwen: zoo.Family, stored: Path) -> None:
    made = processor(qwen, KeepIndices(stored / "out", LABEL))
    image = Image.open(paths(stored)[0])
    inputs = made(images=[image], text=[qwen.image], keep="all", return_tensors="pt")
    assert inputs.pixelprune.tokens_after == inputs.pixelprune.tokens_before


@pytest.mark.parametrize(
    ("how", "settings", "named"),
    [
        ({"resample": "pad"}, SETTINGS, "resample 'pad'"),
        ({"spec": "qwen3_vl"}, SETTINGS, "patch_size 16"),
        ({}, pp.PruneSettings(), "settings 'either@0.1'; expected settings 'pred_2d@0'"),
    ],
)
def test_indices_of_another_scan_are_refused(
    how: dict[str, Any], settings: pp.PruneSettings, named: str, qwen: zoo.Family, stored: Path, tmp_path: Path
) -> None:
    scan_for(qwen, stored, tmp_path / "out", **how)
    with pytest.raises(pp.PixelPruneError, match=named):
        processor(qwen, KeepIndices(tmp_path / "out", LABEL), settings)


def test_images_without_indices_are_refused(qwen: zoo.Family, stored: Path, tmp_path: Path) -> None:
    made = processor(qwen, KeepIndices(stored / "out", LABEL))
    other = tmp_path / "other.png"
    zoo.draw_image(qwen, 4, 6, seed=99).save(other)
    how: Any = {"text": [qwen.image, qwen.image], "padding": True, "return_tensors": "pt"}
    with pytest.raises(pp.PixelPruneError, match=r"images\[1\]: no indices .* expected one that was scanned"):
        made(images=[paths(stored)[0], str(other)], **how)
    with pytest.raises(pp.PixelPruneError, match=r"images\[1\]: an image is a Image; expected its path"):
        made(images=[paths(stored)[0], Image.new("RGB", (56, 56))], **how)
    with pytest.raises(pp.PixelPruneError, match="no indices"):
        made.apply_chat_template(conversation([str(other)]), tokenize=True, return_dict=True)
    with pytest.raises(pp.PixelPruneError, match="no indices"):
        hf.PrunedCollator(made)([{"text": qwen.image, "images": [str(other)]}])


def test_what_would_choose_again_is_refused(qwen: zoo.Family, stored: Path) -> None:
    made = processor(qwen, KeepIndices(stored / "out", LABEL))
    with pytest.raises(pp.PixelPruneError, match="threshold is given"):
        made(images=paths(stored)[:1], text=[qwen.image], threshold=0.2)
    batch = zoo.processor(qwen)(images=[Image.open(paths(stored)[0])], text=[qwen.image], return_tensors="pt")
    with pytest.raises(pp.PixelPruneError, match="this batch has pixels"):
        made.prune(batch)
    with pytest.raises(TypeError, match="keep_indices is"):
        processor(qwen, stored)  # type: ignore[arg-type]


def test_text_without_images(qwen: zoo.Family, stored: Path) -> None:
    made = processor(qwen, KeepIndices(stored / "out", LABEL))
    assert_same(made(text=["text"], return_tensors="pt"), processor(qwen, None)(text=["text"], return_tensors="pt"))
