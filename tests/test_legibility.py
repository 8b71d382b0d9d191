"""`benches/legibility.py` without its readers: what they are shown, the error rate, and readings that are kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image

BENCHES = Path(__file__).resolve().parent.parent / "benches"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHES))
    monkeypatch.delitem(sys.modules, "images", raising=False)
    return __import__("legibility")


def page_of_words() -> Image.Image:
    """Eight by ten tokens on grey: noise that occurs once, a mark that occurs twice, one below the other."""
    pixels = np.full((256, 320, 3), 200, np.uint8)
    pixels[32:64, 32:128] = np.random.default_rng(0).integers(0, 256, (32, 96, 3), np.uint8)
    pixels[100:110, 40:50] = pixels[132:142, 40:50] = 10
    return Image.fromarray(pixels)


@pytest.fixture
def page(bench: Any, tmp_path: Path) -> Any:
    page_of_words().save(tmp_path / "page.png")
    return bench.as_page("page", tmp_path / "page.png")


def images_shown(bench: Any, page: Any, threshold: float = 0.0) -> dict[tuple[str, str], Any]:
    return {(one.what, one.method): one for one in bench.shown(page, threshold)}


def test_kept_tokens_are_the_pages_and_dropped_ones_its_paper(bench: Any, page: Any) -> None:
    assert page.paper.tolist() == [200, 200, 200]
    shown = images_shown(bench, page)
    kept = shown[bench.KEPT, "pred_2d"].pixels
    assert np.array_equal(kept[:128], page.pixels[:128])
    assert (kept[128:160] == 200).all(), "the mark that occurs again is dropped"
    assert np.array_equal(shown[bench.KEPT, "pred_2d, protected"].pixels, page.pixels)
    random = shown[bench.KEPT, "random"]
    assert random.tokens == shown[bench.KEPT, "pred_2d"].tokens
    assert not np.array_equal(random.pixels, page.pixels)


def test_the_reconstruction_is_the_page_at_threshold_0(bench: Any, page: Any) -> None:
    shown = images_shown(bench, page)
    assert all(np.array_equal(shown[bench.RECONSTRUCTION, name].pixels, page.pixels) for name in ("pred_2d", "either"))
    assert (bench.RECONSTRUCTION, "random") not in shown
    coarse = images_shown(bench, page, 1.0)[bench.RECONSTRUCTION, "pred_2d"]
    assert coarse.tokens == 1
    assert (coarse.pixels == 200).all()


def test_the_shrunk_page_has_no_more_tokens_and_its_old_size(bench: Any, page: Any) -> None:
    small, tokens = bench.shrunk(page, 20)
    assert tokens == 20  # of 4 x 5
    assert small.shape == page.pixels.shape
    expected = page.original.resize((160, 128), Image.Resampling.BOX).resize((320, 256), Image.Resampling.BICUBIC)
    assert np.abs(small.astype(int) - np.asarray(expected)).mean() < 10
    assert not np.array_equal(small, page.pixels)
    assert bench.shrunk(page, 19)[1] <= 19
    assert bench.shrunk(page, 80)[0] is page.pixels


def test_every_image_for_a_reader_has_the_size_of_the_page(bench: Any, page: Any) -> None:
    methods = {one.method for one in bench.shown(page, 0.05) if one.pixels.shape == page.pixels.shape}
    assert methods == set(bench.METHODS)
    assert bench.sample_page().pixels.shape == (1632, 1248, 3)
    moved = bench.moved(page.pixels)
    assert np.array_equal(moved[1:, 1:], page.pixels[:-1, :-1])
    assert moved.shape == page.pixels.shape


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("abcdef", "bcdefg", 2),
        ("naïve 東京", "naive 東", 2),
    ],
)
def test_edits(bench: Any, first: str, second: str, distance: int) -> None:
    assert bench.edits(first, second) == bench.edits(second, first) == distance


def test_edits_of_random_words_agree_with_the_definition(bench: Any) -> None:
    def slow(a: str, b: str) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            new = [i]
            for j, y in enumerate(b, 1):
                new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y)))
            row = new
        return row[-1]

    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
        assert bench.edits(a, b) == slow(a, b), (a, b)


def test_the_error_rate_is_of_the_reference(bench: Any) -> None:
    assert bench.cer("abcd", "abcd") == 0
    assert bench.cer("", "abcd") == 1
    assert bench.cer("abcdabcdabcd", "abcd") == 2


def test_lost_words_are_counted_in_any_order(bench: Any) -> None:
    assert bench.lost("two one", "one two") == 0
    assert bench.lost("one three", "one one two two") == 0.75
    assert bench.lost("", "one") == 1


class Counting:
    """A reader that counts its calls, and reads the mean of the top left token."""

    calls = 0

    def __call__(self, pixels: Any) -> str:
        self.calls += 1
        return f"a  reading\n{pixels[:32, :32].mean():.0f} "


def test_readings_are_kept_by_pixels_and_reader(bench: Any, tmp_path: Path) -> None:
    read, other = Counting(), Counting()
    white, black = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8)
    first = bench.Cache(tmp_path, bench.Reader("one", "one 1", read))
    assert [first.read(white), first.read(white.copy()), first.read(black)] == ["a reading 255"] * 2 + ["a reading 0"]
    assert (read.calls, first.new) == (2, 2)
    again = bench.Cache(tmp_path, bench.Reader("one", "one 1", read))
    assert again.read(white) == "a reading 255"
    assert (read.calls, again.new) == (2, 0)
    again.read(white.reshape(32, 128, 3))  # the same bytes, another image
    assert read.calls == 3
    bench.Cache(tmp_path, bench.Reader("one", "one 2", other)).read(white)
    assert other.calls == 1


def stopping(pixels: Any) -> str:
    raise KeyboardInterrupt


def test_a_stopped_reading_leaves_nothing_behind(bench: Any, tmp_path: Path) -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    with pytest.raises(KeyboardInterrupt):
        bench.Cache(tmp_path, bench.Reader("one", "one 1", stopping)).read(white)
    assert bench.Cache(tmp_path, bench.Reader("one", "one 1", Counting())).read(white) == "a reading 255"


def letters(pixels: Any) -> str:
    """Reads a letter from each token: the same where the pixels are the same, whatever the alignment of the page."""
    tokens = pixels.reshape(pixels.shape[0] // 32, 32, -1, 32, 3).mean(axis=(1, 3, 4)).astype(int)
    return "".join(chr(0x4E00 + int(value)) for value in tokens.ravel())


def write_pages(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, names in {"document": ["b", "a", "blank"], "gui": ["c"], "natural": ["d"]}.items():
        (folder / kind).mkdir()
        for name in names:
            pixels = np.full((512, 512, 3), 255, np.uint8)
            if name != "blank":
                pixels[64:96] = rng.integers(0, 256, (32, 512, 1), np.uint8)
                pixels[96:128] = pixels[64:96]
            Image.fromarray(pixels).save(folder / kind / f"{name}.png")


def test_a_run_takes_pages_by_name_and_goes_on_where_it_stopped(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    write_pages(data)
    monkeypatch.setattr(bench, "UNSTEADY", dict.fromkeys(bench.UNSTEADY, 1.0))
    monkeypatch.setattr(bench, "sample_page", lambda: bench.as_page(bench.DRAWN, data / "gui" / "c.png"))

    def read(pixels: Any) -> str:
        return "" if (pixels == 255).all() else letters(pixels)

    def go(pages: int) -> tuple[list[Any], int]:
        cache = bench.Cache(out, bench.Reader("letters", "letters 1", read))
        found = bench.run(cache, data, {"documents": pages, "screenshots": 5}, [0.0, 0.05])
        return found, cache.new

    found, new = go(1)
    assert [Path(one.page).stem for one in found] == [bench.DRAWN, "a", "c"]
    assert new > 0
    again, new = go(1)
    assert again == found
    assert new == 0
    more, new = go(3)
    assert [Path(one.page).stem for one in more] == [bench.DRAWN, "a", "b", "c"]
    assert new > 0
    assert "document/blank.png: not read reliably" in capsys.readouterr().err.replace("\\", "/")
    rates = {rate[:2]: rate.cer for rate in more[1].rates if rate.threshold == 0}
    assert rates[bench.RECONSTRUCTION, "pred_2d"] == rates[bench.KEPT, "pred_2d, protected"] == 0
    assert rates[bench.KEPT, "pred_2d"] > 0, "the rows that occur again are gone"

    text = bench.tables(more, [0.0, 0.05])
    assert text.count("| random ") == 2 * 3
    assert "2 documents" in text
    assert "1 screenshot " in text


def test_a_reader_that_is_not_installed_is_named(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    assert bench.tesseract() is None
    assert bench.pp_ocr() is None
    error = capsys.readouterr().err
    assert "without tesseract" in error
    assert "without PP-OCR" in error


def test_selections_of_the_run_are_those_of_prune(bench: Any, page: Any) -> None:
    shown = images_shown(bench, page, 0.02)
    for name, settings in bench.METHODS.items():
        assert shown[bench.KEPT, name].tokens == pp.prune(page.pixels, "qwen3_vl", threshold=0.02, **settings).kept
