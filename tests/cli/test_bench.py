"""`pixelprune bench`: everything is measured in turns, compared with the first, put into tables. No times here."""

from __future__ import annotations

import io
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune import cli
from pixelprune.cli import contestants, samples, tables, timing
from pixelprune.cli.contestants import Contestant
from pixelprune.cli.samples import Sample
from pixelprune.cli.timing import Measured

SPEC = pp.VisionSpec.preset("qwen3_vl")


def half_noise(height: int = 256, width: int = 288) -> Image.Image:
    """An image that is half noise, half white."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2] = np.random.default_rng(0).integers(0, 256, (height // 2, width, 3), np.uint8)
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def sample() -> Sample:
    return samples.read_sample("half", png(half_noise()))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Stock:
    """Stands in for an image processor of transformers: the same values, computed by hand."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def __call__(self, images: list[Image.Image], return_tensors: str) -> dict[str, Any]:
        assert return_tensors == "pt"
        parts = [pp.preprocess([image], SPEC, prune=False).pixel_values for image in images]
        return {"pixel_values": np.concatenate(parts)}


@pytest.fixture(params=["5", "4.57"])
def transformers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What transformers calls its processors, in either release."""
    fast, plain = type("Fast", (Stock,), {}), type("Plain", (Stock,), {})
    if request.param == "5":
        fake = SimpleNamespace(Qwen2VLImageProcessor=fast, Qwen2VLImageProcessorPil=plain)
    else:
        fake = SimpleNamespace(Qwen2VLImageProcessorFast=fast, Qwen2VLImageProcessor=plain)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    return str(request.param)


@pytest.fixture
def without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # so that importing it fails


# --- contestants -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["qwen3_vl", "qwen2_vl", "paddleocr_vl", "cosmos3_edge", "ernie4_5_vl_moe"])
def test_patches_by_hand_are_those_of_preprocess(preset: str) -> None:
    spec = pp.VisionSpec.preset(preset)
    image = half_noise(3 * spec.token_size, 5 * spec.token_size)
    expected = pp.preprocess([image], spec, prune=False, resample="none").pixel_values
    patches = contestants.to_patches(np.asarray(image), spec)
    assert patches.dtype == np.float32
    assert np.array_equal(patches, expected)


def test_by_hand_takes_several_images() -> None:
    images = [half_noise(), half_noise(320, 256)]

    def resize(image: Image.Image, height: int, width: int) -> np.ndarray[Any, Any]:
        assert (height, width) == (image.height, image.width)
        return np.asarray(image)

    values = contestants.by_hand(SPEC, resize).make(Sample("two", [], images))()
    assert np.array_equal(values, pp.preprocess(images, SPEC, prune=False).pixel_values)


def test_ours_is_preprocess_with_the_settings_given(sample: Sample) -> None:
    pruned = contestants.ours(SPEC, threshold=0.05, dtype="bfloat16").make(sample)()
    assert pruned.selections[0].threshold == 0.05
    assert pruned.pixel_values.dtype == np.uint16
    reused = contestants.ours(SPEC, reuse=True, prune=False).make(sample)
    assert reused().pixel_values.base is reused().pixel_values.base  # the same `out` both times
    from_file = contestants.ours(SPEC, file=True).make(Sample("file", sample.files, []))()
    assert np.array_equal(from_file.pixel_values, contestants.ours(SPEC).make(sample)().pixel_values)


def test_every_contestant_lays_alpha_on_white(transformers: str) -> None:
    pixels = np.dstack([np.asarray(half_noise()), np.full((256, 288), 255, np.uint8)])
    pixels[:100, :, 3] = 0  # noise that is not seen
    file = png(Image.fromarray(pixels))
    expected = pp.preprocess([file], SPEC, prune=False).pixel_values
    [selection] = pp.preprocess([file], SPEC).selections
    glass = samples.read_sample("glass", file)
    jobs, _ = contestants.jobs(SPEC)
    for name, contestant in (*jobs["patches"].items(), *jobs["file"].items()):
        made = contestant.make(glass)()
        if isinstance(made, pp.Batch) and made.pixel_values.dtype == np.float32:
            rows = expected[pp.patch_indices(made.selections)] if len(made.pixel_values) < len(expected) else expected
            assert np.array_equal(made.pixel_values, rows), name
        elif isinstance(made, np.ndarray):
            assert np.array_equal(made, expected), name
    assert timing.measure(glass, SPEC, {"file": jobs["file"]}, rounds=1).kept == selection.retained


def test_the_processors_of_transformers_get_the_settings_of_the_spec(transformers: str) -> None:
    found, reason = contestants.stock_processors(SPEC)
    assert (list(found), reason) == ([contestants.FAST, contestants.PLAIN], "")
    assert [type(processor).__name__ for processor in found.values()] == ["Fast", "Plain"]
    for processor in found.values():
        assert (
            pp.VisionSpec.from_config({"image_processor_type": "Qwen2VLImageProcessor", **processor.settings}) == SPEC
        )


def test_without_transformers_the_reason_is_told(without_transformers: None) -> None:
    found, reason = contestants.stock_processors(SPEC)
    assert found == {}
    assert "torchvision" in reason
    patches = contestants.jobs(SPEC)[0]["patches"]
    assert next(iter(patches)) == contestants.HAND


def test_torch_gets_its_threads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [4]
    fake = SimpleNamespace(get_num_threads=lambda: threads[-1], set_num_threads=threads.append)
    monkeypatch.setitem(sys.modules, "torch", fake)
    with timing.torch_threads(1):
        assert threads == [4, 1]
    assert threads == [4, 1, 4]


@pytest.mark.parametrize("threshold", [2.0, -0.1, float("nan")])
def test_thresholds_are_checked_before_anything_is_measured(threshold: float) -> None:
    with pytest.raises(pp.PixelPruneError, match=r"threshold is .*; expected a number from 0 to 1"):
        contestants.jobs(SPEC, (0.0, threshold))
    with pytest.raises(TypeError, match="threshold is True"):
        contestants.jobs(SPEC, (True,))


# --- measuring -------------------------------------------------------------------------------------------


def test_everything_is_measured_and_compared(sample: Sample, transformers: str) -> None:
    jobs, reason = contestants.jobs(SPEC, (0.0, 0.05))
    found = timing.measure(sample, SPEC, jobs, rounds=1)
    assert reason == ""
    assert {job: list(members) for job, members in found.seconds.items()} == {
        job: list(members) for job, members in jobs.items()
    }
    assert found.kept == pp.prune(half_noise(), SPEC).retained
    assert found.pixels == 256 * 288
    equal = dict(found.equal)
    assert equal.pop("pixelprune, threshold 0, bfloat16") is None
    assert len(equal) > 6
    assert set(equal.values()) == {True}


def test_other_values_are_found_out(sample: Sample) -> None:
    def off(sample: Sample, **settings: Any) -> Any:
        batch = pp.preprocess(sample.images, SPEC, **settings)
        batch.pixel_values[-1, -1] += 1
        return batch

    patches = {
        "first": contestants.ours(SPEC, prune=False),
        "pruned": contestants.ours(SPEC),
        "off": Contestant(lambda sample: lambda: off(sample, prune=False)),
        "off and pruned": Contestant(lambda sample: lambda: off(sample)),
        "short": Contestant(lambda sample: lambda: np.zeros((3, 1536), np.float32)),
    }
    found = timing.measure(sample, SPEC, {"patches": patches}, rounds=1)
    assert found.equal == {"first": True, "pruned": True, "off": False, "off and pruned": False, "short": False}


def test_slow_ones_get_fewer_rounds(sample: Sample) -> None:
    calls = {"fast": 0, "slow": 0}

    def counted(name: str, slow: bool) -> Contestant:
        def work() -> None:
            calls[name] += 1

        return Contestant(lambda sample: work, slow=slow)

    timing.measure(sample, SPEC, {"file": {name: counted(name, name == "slow") for name in calls}}, rounds=7)
    assert calls == {"fast": 8, "slow": 4}  # one more, to warm up


def test_turns_and_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    now = itertools.accumulate([0, 5, 0, 1, 0, 9, 0, 2, 0, 7])  # a takes 5, 9 and 7, b takes 1 and 2
    monkeypatch.setitem(timing.CLOCKS, "fake", lambda: next(now))
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert timing.take_turns(works, {"a": 3, "b": 2}, "fake") == {"a": 7, "b": 1.5}
    assert order == ["a", "b", "a", "b", "a"]


def test_wrong_clocks_and_rounds() -> None:
    with pytest.raises(pp.PixelPruneError, match="clock is 'sun'; expected one of wall, thread, process"):
        timing.take_turns({"a": list}, {"a": 1}, "sun")
    with pytest.raises(pp.PixelPruneError, match="rounds is 0; expected at least 1"):
        timing.take_turns({"a": list}, {"a": 0})
    with pytest.raises(TypeError, match=r"rounds is 1\.5"):
        timing.take_turns({"a": list}, {"a": 1.5})  # type: ignore[dict-item]


def test_bad_images_are_left_out(here: Path) -> None:
    Path("bad.png").write_bytes(b"no image")
    Path("thin.png").write_bytes(png(Image.new("RGB", (3000, 2))))
    Path("good.png").write_bytes(png(half_noise()))
    images = [(name, here / name) for name in ("bad.png", "thin.png", "good.png")]
    jobs = {"patches": {"ours": contestants.ours(SPEC)}}
    with pytest.warns(pp.PixelPruneWarning) as caught:
        found = list(timing.measure_all(images, SPEC, jobs, rounds=1))
    assert [one.name for one in found] == ["good.png"]
    assert [str(warning.message).split(":")[:2] for warning in caught] == [
        ["left out", " bad.png"],
        ["left out", " thin.png"],
    ]
    with pytest.warns(pp.PixelPruneWarning), pytest.raises(pp.PixelPruneError, match=r"^thin\.png: "):
        list(timing.measure_all(images[:2], SPEC, jobs, rounds=1))
    with pytest.raises(pp.PixelPruneError, match=r"^bad\.png: cannot read"):
        list(timing.measure_all(images[:1], SPEC, jobs, rounds=1))


def test_images_are_found_below_a_folder(here: Path) -> None:
    with pytest.raises(pp.PixelPruneError, match="no images; expected files named"):
        samples.find_images(here)
    (here / "b").mkdir()
    (here / "c.png").mkdir()
    for name in ("b/z.JPG", "a.webp", "b/notes.txt"):
        Path(name).touch()
    assert samples.find_images(".") == [Path("a.webp"), Path("b/z.JPG")]
    assert samples.find_images("b/notes.txt") == [Path("b/notes.txt")]  # whoever names a file means it
    with pytest.raises(FileNotFoundError):
        samples.find_images("absent")


# --- telling ---------------------------------------------------------------------------------------------


def measured(kept: float, equal: bool | None = True, **seconds: float) -> Measured:
    return Measured(
        "one", 1, kept, {"patches": {contestants.FAST: 0.1, **seconds}}, {contestants.FAST: True, "ours": equal}
    )


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "--" not in line]


def test_tables_have_medians_of_ratios() -> None:
    found = [measured(0.1, ours=0.01), measured(0.5, ours=0.02), measured(1.0, ours=0.05)]
    columns = tables.groups(found)
    assert columns == {"all 3 images": found, "2 that keep < 70 %": found[:2]}
    assert cells(tables.table("patches", columns, "times as fast")) == [
        ["times as fast", "same values", "all 3 images", "2 that keep < 70 %"],
        [contestants.FAST, "", "100.0 ms", "100.0 ms"],
        ["ours", "yes", "5.0 x", "7.5 x"],
    ]
    slower = cells(tables.table("patches", {"all": found}, faster=False))
    assert slower[2][2] == "0.20"


def test_tables_show_whose_values_differ() -> None:
    for equal, verdict in (
        ([True, True], "yes"),
        ([True, False], "in 1 of 2"),
        ([False, False], "no"),
        ([None, None], ""),
    ):
        found = [measured(1.0, each, ours=0.1) for each in equal]
        columns = {"all": found, "again": found[:1], "none": [measured(1.0, None)]}
        assert cells(tables.table("patches", columns))[2] == ["ours", verdict, "1.0 x", "1.0 x", ""]


def test_one_kind_of_image_makes_one_column() -> None:
    assert list(tables.groups([measured(0.1)])) == ["1 image"]
    assert list(tables.groups([measured(0.9), measured(0.8)])) == ["all 2 images"]


# --- the command -----------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(["bench", *argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_the_tables(capsys: pytest.CaptureFixture[str], transformers: str) -> None:
    Path("half.png").write_bytes(png(half_noise()))
    Path("white.png").write_bytes(png(Image.new("RGB", (300, 300), "white")))
    code, out, err = run(capsys, ".", "--rounds", "1", "--threshold", "0.05")
    assert (code, err) == (0, "")
    assert out.startswith(". for qwen3_vl: ")
    assert f"numpy {np.__version__}" in out
    parts = out.split("\n\n")[1:]
    assert len(parts) == 3
    for text, first in zip(parts, (contestants.FAST, contestants.DECODE, contestants.COPY), strict=True):
        rows = cells(text)
        assert rows[0][-1] == "all 2 images"
        assert rows[1][0] == first
        assert rows[1][-1].endswith(" ms")
        assert {"pixelprune, threshold 0", "pixelprune, threshold 0.05"} <= {row[0] for row in rows}
    assert run(capsys, ".", "--rounds", "1", "--every", "2")[1].count("1 image") == 3


def test_without_transformers_the_command_says_so(
    capsys: pytest.CaptureFixture[str], without_transformers: None
) -> None:
    code, out, err = run(capsys, "--rounds", "1")
    assert (code, err) == (0, "")
    assert out.startswith("sample page for qwen3_vl: ")
    assert "\ntransformers is not in the comparison: it can't be used here: " in out
    assert "same values" not in out
    assert contestants.HAND in out


def test_json_has_every_image(capsys: pytest.CaptureFixture[str], without_transformers: None) -> None:
    Path("half.png").write_bytes(png(half_noise()))
    code, out, err = run(capsys, "half.png", "--rounds", "1", "--json", "--spec", "qwen2_vl")
    assert (code, err, out.count("\n")) == (0, "", 1)
    report = json.loads(out)
    assert (report["spec"], report["rounds"]) == ("qwen2_vl", 1)
    assert "torchvision" in report["without_transformers"]
    [one] = report["images"]
    assert one["name"] == "half.png"
    assert one["kept"] == pp.prune(pp.resize_image(half_noise(), "qwen2_vl"), "qwen2_vl").retained
    assert set(one["seconds"]) == {"patches", "file", "selection"}


def test_errors_take_one_line(capsys: pytest.CaptureFixture[str], without_transformers: None) -> None:
    Path("bad.png").write_bytes(b"no image")
    Path("good.png").write_bytes(png(half_noise()))
    Path("empty").mkdir()
    for argv, code, reason in (
        (["absent"], 1, "absent: No such file or directory"),
        (["empty"], 1, "empty: no images; expected files named *.png"),
        (["--rounds", "0"], 1, "--rounds is 0; expected at least 1"),
        (["--every", "-1"], 1, "--every is -1; expected at least 1"),
        ([".", "--threshold", "2", "--rounds", "1"], 1, "--threshold is 2; expected a number from 0 to 1"),
        ([".", "--threshold", "nan", "--rounds", "1"], 1, "--threshold is nan"),
        (["", "--rounds", "1"], 1, "DIR is empty; expected an image or a folder of images"),
        (["--spec", "qwen9"], 1, "--spec is 'qwen9'"),
        (["--rounds", "few"], 2, "few"),
        (["a", "b"], 2, "b"),
        (["bad.png", "--rounds", "1"], 1, "bad.png: cannot read"),
    ):
        found, out, err = run(capsys, *argv)
        assert (found, out, err.count("\n")) == (code, "", 1)
        assert err.startswith("pixelprune: error: ")
        assert reason in err
    Path("good.png").unlink()
    Path("worse.png").write_bytes(b"")
    code, out, err = run(capsys, ".", "--rounds", "1")
    assert (code, out) == (1, "")
    first, second, error = err.splitlines()
    assert first.startswith("pixelprune: warning: left out: bad.png: ")
    assert second.startswith("pixelprune: warning: left out: worse.png: ")
    assert error.startswith("pixelprune: error: worse.png: cannot read")


def test_control_c_exits_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(contestants, "stock_processors", lambda spec: ({}, "not here"))
    monkeypatch.setattr(timing, "measure", interrupted)
    assert run(capsys) == (130, "", "")
