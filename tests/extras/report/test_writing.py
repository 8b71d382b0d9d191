"""What `report.write` puts into the page, and what it refuses."""

from __future__ import annotations

import base64
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pixelprune import PixelPruneError
from pixelprune.scan import Scan, parse, read, report, scan
from pixelprune.scan.report.flops import prefill_flops, vision_flops
from pixelprune.scan.report.misfits import REASONS
from pixelprune.scan.report.models import PRESETS

from .conftest import SWEEP, data_of, draw_images, with_columns


def label_of(setting: dict[str, Any]) -> str:
    return f"{setting['name']}@{setting['threshold']:g}{'+content' if setting['protect'] else ''}"


def test_groups_are_sums_of_the_rows(found: Scan, data: dict[str, Any]) -> None:
    rows = [row for row in found.rows.to_pylist() if row["error"] is None]
    model = PRESETS["qwen3_vl_2b"]
    assert [group["name"] for group in data["groups"][1:4]] == ["form", "list", "noise"]  # the most images first
    for group in data["groups"]:
        own = [row for row in rows if group["name"] in ("", row["kind"])]
        assert group["images"] == len(own) > 0
        tokens = np.array([row["tokens"] for row in own])
        assert group["tokens"] == tokens.sum()
        assert group["unique"] == pytest.approx(np.median([row["unique"] / row["tokens"] for row in own]), abs=1e-4)
        for i, setting in enumerate(data["settings"]):
            kept, content = (
                np.array([row[f"{name}:{label_of(setting)}"] for row in own]) for name in ("kept", "content")
            )
            assert group["kept"][i] == kept.sum()
            assert group["content"][i] == content.sum()
            assert group["touched"][i] == (content > 0).sum()
            assert group["quartiles"][i][2] == pytest.approx(np.median(kept / tokens), abs=1e-4)
            assert sum(group["bins"][i]) == len(own)
            assert group["bins"][i][-1] == (kept / tokens >= 0.95).sum()
            assert group["misfits"][i] == [(kept >= 0.95 * tokens).sum(), tokens[kept >= 0.95 * tokens].sum()]
            assert group["vision"][i + 1] == pytest.approx(vision_flops(model, kept).sum(), rel=1e-5)
            assert group["prefill"][i + 1] == pytest.approx(prefill_flops(model, kept).sum(), rel=1e-5)
        assert group["vision"][0] == pytest.approx(vision_flops(model, tokens).sum(), rel=1e-5)


def test_gallery_holds_the_masks_and_errors_of_prune(found: Scan, data: dict[str, Any]) -> None:
    assert len(data["gallery"]) == 10
    assert data["missing"] == 0
    sources = found.rows.column("source").to_pylist()
    for image in data["gallery"]:
        pixels = np.asarray(pp.resize_image(pp.load_image(found.locate(sources.index(image["name"]))), "qwen3_vl"))
        total = image["rows"] * image["cols"]
        for i, setting in enumerate(data["settings"]):
            selection = pp.prune(pixels, "qwen3_vl", settings=parse(label_of(setting)))
            for name, expected in (("kept", selection.keep), ("content", selection.dropped_content(pixels))):
                packed = np.frombuffer(base64.b64decode(image[name]), np.uint8).reshape(len(data["settings"]), -1)
                assert np.flatnonzero(np.unpackbits(packed[i], count=total)).tolist() == expected.tolist()
            apart = np.abs(selection.reconstruct(pixels).astype(int) - pixels)
            assert image["errors"][i] == pytest.approx([apart.max() / 255, apart.mean() / 255], abs=1e-5)


def test_worst_are_those_of_the_largest_mean_error(data: dict[str, Any]) -> None:
    some = 0
    for i, shown in enumerate(data["worst"]):
        means = sorted((image["errors"][i][1] for image in data["gallery"]), reverse=True)
        most = [mean for mean in means[:4] if mean > 0]
        assert [entry["mean"] for entry in shown[: len(most)]] == pytest.approx(most, abs=1e-6)
        kinds = {image["kind"] for image in data["gallery"] if image["errors"][i][1] > 0}
        assert {data["gallery"][entry["image"]]["kind"] for entry in shown} == kinds
        some += len(shown)
    assert some > 10


def test_images_that_do_not_pay_come_with_the_reason(data: dict[str, Any]) -> None:
    reasons = {}
    for i, setting in enumerate(data["settings"]):
        if setting["name"] == "pred_2d":
            for group in data["misfits"][i]:
                for name in group["names"]:
                    reasons[label_of(setting), name] = REASONS[group["reason"]].split(":")[0].split(",")[0]
    assert reasons["pred_2d@0", "noise/loud.png"] == "Photograph"
    assert reasons["pred_2d@0", "noise/slight.png"] == "Noise or gradients"
    assert reasons["pred_2d@0", "noise/smooth.jpg"] == "JPEG noise"
    assert ("pred_2d@0.2", "noise/slight.png") not in reasons
    quality = {group["quality"] for groups in data["misfits"] for group in groups if group["format"] == "JPEG"}
    assert quality == {"60\N{EN DASH}69"}


def test_tokens_that_are_protected_are_the_reason(tmp_path: Path) -> None:
    mark = np.full((32, 32, 3), 255, np.uint8)
    mark[8:24, 8:24:3] = 0
    Image.fromarray(np.tile(mark, (10, 10, 1))).save(tmp_path / "marks.png")
    found = scan(tmp_path / "marks.png", tmp_path / "out", sweep=["pred_2d@0", "pred_2d@0+content"])
    data = data_of(report.write(found, tmp_path / "report.html"))
    assert data["misfits"][0] == []
    assert REASONS[data["misfits"][1][0]["reason"]].startswith("Protected")


def test_images_that_are_gone_or_have_changed_are_left_out(tmp_path: Path) -> None:
    draw_images(tmp_path / "images")
    found = scan(tmp_path / "images", tmp_path / "out", sweep=SWEEP)
    (tmp_path / "images" / "form" / "0.png").unlink()
    shutil.copy(tmp_path / "images" / "list" / "2.png", tmp_path / "images" / "form" / "1.png")
    data = data_of(report.write(found, tmp_path / "report.html"))
    assert data["missing"] == 2
    assert not {"form/0.png", "form/1.png"} & {image["name"] for image in data["gallery"]}
    assert data["groups"][0]["images"] == 10  # the figures are those of the scan


def test_images_of_which_other_tokens_are_kept_now_are_left_out(found: Scan, tmp_path: Path) -> None:
    name = "kept:either@0.1"
    changed = with_columns(found, tmp_path / "out", **{name: lambda kept, i: kept if kept is None or i else kept + 1})
    data = data_of(report.write(changed, tmp_path / "report.html"))
    assert data["missing"] == 1
    assert len(data["gallery"]) == 9


def test_ten_thousand_images_fit(found: Scan, tmp_path: Path) -> None:
    copies = pa.concat_tables([found.rows] * 910).slice(0, 10_000)
    (tmp_path / "out").mkdir()
    pq.write_table(copies, tmp_path / "out" / "rows.parquet")
    many = with_columns(
        read(tmp_path / "out"),
        tmp_path / "renamed",
        source=lambda source, i: source if i < 11 else f"{i:08}/{'a long name ' * 6}{source}",
        kind=lambda kind, i: f"{kind} {i % 200}" if i >= 11 else kind,
    )
    path = report.write(many, tmp_path / "report.html")
    data = data_of(path)
    assert data["groups"][0]["images"] + data["unread"] == 10_000
    assert len(data["gallery"]) == 10
    assert len(data["groups"]) == 31
    assert sum(group["images"] for group in data["groups"][1:]) == data["groups"][0]["images"]
    assert data["groups"][-1]["name"].endswith("other kinds")
    assert path.stat().st_size < 12e6
    worst_gallery = 24 * (400_000 + 2 * 49 * 16384 / 8 * 4 / 3)
    assert path.stat().st_size + worst_gallery < 25e6


def test_the_same_scan_gives_the_same_file(found: Scan, written: Path, tmp_path: Path) -> None:
    assert report.write(found, tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_text_of_the_page_names_no_other_file(written: Path) -> None:
    """All that a browser could load is in the file; the charting library has addresses, which it does not use here."""
    text = written.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    own = text.partition("</style>")[0] + text.partition('<script type="application/json" id="data">')[2]
    assert "http:" not in own
    assert "https:" not in own


def test_model_none_is_the_smallest_that_fits_the_scan(images: Path, tmp_path: Path) -> None:
    sweep = ["pred_2d@0"]
    for spec, name in [("qwen2_5_vl", "Qwen2.5-VL-3B"), ("video_llama_3", None)]:
        found = scan(images / "blank.png", tmp_path / spec, spec=spec, sweep=sweep)
        data = data_of(report.write(found, tmp_path / "report.html"))
        assert data["model"] == name
        assert ("vision" in data["groups"][0]) == (name is not None)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("qwen2_5_vl_7b", PixelPruneError, "Qwen2.5-VL-7B has patches of 14 pixels"),
        ("gpt", PixelPruneError, "model is 'gpt'; expected a folder with a config.json, or one of qwen3_vl_2b"),
        (7, TypeError, "model is 7"),
    ],
)
def test_models_that_are_refused(found: Scan, tmp_path: Path, model: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        report.write(found, tmp_path / "report.html", model=model)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_scan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected a Scan"):
        report.write("folder", tmp_path / "report.html")  # type: ignore[arg-type]


def test_a_missing_plotly_names_the_extra(found: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"pip install 'pixelprune\[scan\]'"):
        report.write(found, tmp_path / "report.html")


def test_a_folder_that_is_missing_leaves_nothing(found: Scan, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        report.write(found, tmp_path / "none" / "report.html")
    assert list(tmp_path.iterdir()) == []
