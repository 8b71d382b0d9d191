"""Measuring one image; needs no package beside numpy and Pillow."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune.scan import ScanOptions, label, measure, parse
from pixelprune.scan.jpeg import quality
from pixelprune.scan.sources.globs import compiled

SWEEP = ["pred_2d@0", "either@0.05+content", "raster@0.1", "unique@0"]


def page(mode: str = "RGB") -> Image.Image:
    tiles = np.random.default_rng(1).integers(0, 3, (9, 11, 3), np.uint8) * 9
    tiles[:, 4:] = 200
    return Image.fromarray(tiles.repeat(29, 0).repeat(31, 1)).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("resample", ["torchvision", "pillow", "pad"])
@pytest.mark.parametrize("spec", ["qwen3_vl", "qwen2_5_vl"])
def test_a_row_agrees_with_preprocess(resample: str, spec: str) -> None:
    data = encoded(page())
    row = measure(data, ScanOptions(spec=spec, resample=resample, sweep=SWEEP))  # type: ignore[arg-type]
    assert (row["width"], row["height"], row["format"], row["bytes"]) == (341, 261, "PNG", len(data))
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert row["quality"] is row["error"] is None
    assert row["seconds"] > 0
    for name in SWEEP:
        settings = parse(name)
        batch = pp.preprocess([data], spec, settings=settings, resample=resample)  # type: ignore[arg-type]
        [sel] = batch.selections
        assert (row["grid_h"], row["grid_w"]) == sel.grid_thw[1:]
        assert row["tokens"] == sel.total
        assert row[f"kept:{name}"] == sel.kept, name
    assert row["unique"] == row["kept:unique@0"]


def test_dropped_content_is_that_of_the_selection() -> None:
    pixels = np.full((288, 352, 3), 255, np.uint8)
    pixels[32:, 10::32] = 0  # the same stroke in every token but the first row's
    image = Image.fromarray(pixels)
    row = measure(encoded(image), ScanOptions(sweep=SWEEP))
    for name in SWEEP:
        sel = pp.prune(image, "qwen3_vl", settings=parse(name))
        assert row[f"content:{name}"] == len(sel.dropped_content(image)), name
    assert row["content:pred_2d@0"] > 0
    assert row["content:either@0.05+content"] == 0


def test_unique_is_told_without_being_in_the_sweep() -> None:
    row = measure(encoded(page()), ScanOptions(sweep=["pred_2d@0"]))
    assert row["unique"] == pp.prune(pp.resize_image(page(), "qwen3_vl"), "qwen3_vl", method="unique").kept
    assert "kept:unique@0" not in row


def test_alpha_is_an_option() -> None:
    image = page("RGBA")
    image.putalpha(Image.fromarray(np.random.default_rng(0).integers(0, 2, (261, 341), np.uint8) * 255))
    data = encoded(image)
    kept = [
        measure(data, ScanOptions(alpha=alpha, sweep=["pred_2d@0"]))["kept:pred_2d@0"]  # type: ignore[arg-type]
        for alpha in ("white", "drop")
    ]
    assert kept[0] > kept[1]


@pytest.mark.parametrize("level", [1, 10, 49, 50, 75, 95, 100])
def test_the_quality_of_a_jpeg_file(level: int) -> None:
    row = measure(encoded(page(), "JPEG", quality=level), ScanOptions(sweep=["pred_2d@0"]))
    assert (row["format"], row["quality"]) == ("JPEG", level)


@pytest.mark.parametrize("tables", [None, {}, {0: [1, 2]}])
def test_no_quality_without_a_table(tables: dict[int, list[int]] | None) -> None:
    assert quality(tables) is None


def test_a_turned_photograph_has_its_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    row = measure(encoded(page(), "JPEG", exif=exif), ScanOptions(sweep=["pred_2d@0"]))
    assert (row["width"], row["height"]) == (261, 341)


def test_arrays_and_images_have_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(page()))
    options = ScanOptions(sweep=["pred_2d@0"])
    of_file = measure(tmp_path / "a.png", options)
    for image in (page(), np.asarray(page())):
        row = measure(image, options)
        assert (row["sha256"], row["bytes"]) == (None, None)
        assert row["kept:pred_2d@0"] == of_file["kept:pred_2d@0"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cannot read"),
        (b"no image", "cannot read"),
        (encoded(page())[:900], "cannot read"),
        (encoded(Image.new("L", (1, 500))), "aspect ratio"),
    ],
)
def test_what_is_known_of_a_bad_image(data: bytes, why: str) -> None:
    row = measure(data, ScanOptions(sweep=SWEEP))
    assert why in row["error"]
    assert row["bytes"] == len(data)
    assert row["tokens"] is row["unique"] is row["kept:pred_2d@0"] is None
    assert set(row) == set(measure(encoded(page()), ScanOptions(sweep=SWEEP)))


def test_a_decompression_bomb_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "bomb" in measure(encoded(page()), ScanOptions(sweep=SWEEP))["error"]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    row = measure(tmp_path / "none.png", ScanOptions(sweep=SWEEP))
    assert row["error"] == f"{tmp_path / 'none.png'}: No such file or directory"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        file.truncate((1 << 30) + 1)
    assert "expected at most" in measure(path, ScanOptions(sweep=SWEEP))["error"]


def test_labels_of_a_row() -> None:
    row = measure(encoded(page()), ScanOptions())
    assert [name[5:] for name in row if name.startswith("kept:")] == list(ScanOptions().labels)
    assert all(label(parse(name)) == name for name in ScanOptions().labels)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**/sequence-*", "gui/sequence-1", True),
        ("**/sequence-*", "sequence-1", True),
        ("**/sequence-*", "a/b/sequence-1", True),
        ("**/sequence-*", "gui/my-sequence-1", False),
        ("*.png", "a/b.png", True),
        ("gui/*.png", "gui/b.png", True),
        ("gui/*.png", "gui/b/c.png", False),
        ("gui/*.png", "x/gui/b.png", False),
        ("gui/**", "gui/b/c.png", True),
        ("a?.[jp]*", "ab.png", True),
        ("[!a]*", "abc", False),
        ("a.png", "abpng", False),
        ("/gui/", "gui", True),
        ("a+(b).png", "a+(b).png", True),
    ],
)
def test_globs(pattern: str, path: str, matches: bool) -> None:
    assert (compiled(pattern).fullmatch(path) is not None) == matches
