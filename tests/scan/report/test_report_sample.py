"""Which images the gallery shows, how they are compared, and how wrong their reconstructions are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune.scan.report.errors import Errors
from pixelprune.scan.report.kinds import by_kind
from pixelprune.scan.report.rows import MOST_KINDS, Rows, read_rows, variant_of
from pixelprune.scan.report.sample import choose
from pixelprune.scan.report.shrinking import Comparison


class Column(list[Any]):
    """What `read_rows` asks of a pyarrow column."""

    def to_pylist(self) -> list[Any]:
        return list(self)

    def take(self, rows: Any) -> Column:
        return Column(self[i] for i in rows)

    def to_numpy(self) -> Any:
        return np.array(self)


class Table:
    def __init__(self, **columns: list[Any]) -> None:
        self.columns = columns

    def column(self, name: str) -> Column:
        return Column(self.columns[name])


def rows_of(kinds: list[str], digests: list[str] | None = None, errors: list[str | None] | None = None) -> Rows:
    count = len(kinds)
    columns: dict[str, list[Any]] = {
        "source": [f"{i}.png" for i in range(count)],
        "member": [None if i % 2 else f"page {i}" for i in range(count)],
        "kind": kinds,
        "sha256": list(digests or map(str, range(count))),
        "format": ["PNG"] * count,
        "quality": [None] * count,
        "error": errors or [None] * count,
        **{name: [100] * count for name in ("tokens", "unique", "content:pred_2d@0")},
        "kept:pred_2d@0": list(range(count)),
    }
    return read_rows(Table(**columns), ["pred_2d@0"])


def test_rows_without_images_are_errors_only() -> None:
    rows = rows_of(["a", "b", "c"], errors=[None, "broken", None])
    assert rows.errors == [("1.png", "broken")]
    assert rows.names == ["0.png · page 0", "2.png · page 2"]
    assert rows.row.tolist() == [0, 2]
    assert rows.kept.tolist() == [[0, 2]]


def test_kinds_are_in_order_of_their_images_and_few() -> None:
    rows = rows_of(["b", "a", "a"])
    assert rows.kinds == ["a", "b"]
    assert rows.kind.tolist() == [1, 0, 0]
    many = rows_of([f"kind {i}" for i in range(MOST_KINDS + 5)] + ["kind 3"])
    assert len(many.kinds) == MOST_KINDS
    assert many.kinds[0] == "kind 3"
    assert many.kinds[-1] == "6 other kinds"
    assert np.bincount(many.kind).tolist() == [2, *[1] * (MOST_KINDS - 2), 6]


def test_a_ratio_is_in_the_bin_that_it_begins() -> None:
    group = by_kind(rows_of(["a"] * 100), None)[0]  # they keep 0 to 99 of 100 tokens
    assert group["bins"] == [[5] * 20]
    assert group["misfits"] == [(5, 500)]
    assert "vision" not in group


def test_the_sample_is_spread_over_kinds_and_ratios() -> None:
    rows = rows_of(["a"] * 50 + ["b"] * 3 + ["c"] * 10)
    ratios = np.linspace(1, 0, 63)
    chosen = choose(rows, ratios, 12)
    assert [rows.kinds[rows.kind[i]] for i in chosen] == ["a"] * 5 + ["c"] * 4 + ["b"] * 3
    assert chosen[:5] == [49, 37, 25, 12, 0]  # from the lowest to the highest ratio
    assert choose(rows, ratios, 12) == chosen


def test_the_sample_has_no_image_twice() -> None:
    rows = rows_of(["a"] * 9, digests=["x"] * 4 + ["y"] * 4 + ["z"])
    assert sorted(choose(rows, np.zeros(9), 24)) == [0, 4, 8]


def test_variants_have_a_name() -> None:
    assert variant_of(pp.PruneSettings(method="either", threshold=0.2, protect="content")) == "either"
    assert variant_of(pp.PruneSettings(metric="mae", anchored=False)) == "pred_2d/mae/open"


def page() -> Image.Image:
    pixels = np.full((320, 480, 3), 255, np.uint8)
    pixels[64:200, 64:300:3] = 0
    pixels[200:210, :, 0] = np.arange(480) // 8
    return Image.fromarray(pixels)


def test_pruning_at_threshold_0_loses_nothing_and_shrinking_does() -> None:
    image = page()
    selection = pp.prune(image, "qwen3_vl")
    comparison = Comparison(image, selection)
    assert comparison.pruned(selection) == (0, 1)
    error, detail = comparison.shrunk(selection.kept)
    assert error > 100
    assert detail is not None
    assert detail < 0.9
    assert comparison.shrunk(selection.total) == (0, 1)
    worse = comparison.shrunk(10)
    assert worse.error > error
    assert worse.detail is not None
    assert worse.detail < detail


def test_fidelity_is_that_of_the_reconstruction() -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray((np.asarray(page()) // 2 + rng.integers(0, 60, (320, 480, 1), np.uint8)).astype(np.uint8))
    selection = pp.prune(image, "qwen3_vl", threshold=0.25)
    found = Comparison(image, selection).pruned(selection)
    rebuilt = np.asarray(Image.fromarray(selection.reconstruct(image)).convert("L"), float)
    assert found is not None
    assert found.error == pytest.approx(((rebuilt - np.asarray(image.convert("L"))) ** 2).mean(), rel=1e-4)
    assert found.error > 1
    assert found.detail is not None
    assert 0 < found.detail < 1


def test_a_blank_image_has_no_detail_to_lose() -> None:
    image = Image.new("RGB", (320, 320), "white")
    selection = pp.prune(image, "qwen3_vl")
    comparison = Comparison(image, selection)
    assert comparison.pruned(selection) == (0, None)
    assert comparison.shrunk(1).detail is None


def test_methods_without_sources_are_not_compared() -> None:
    image = page()
    selection = pp.prune(image, "qwen3_vl", method="random")
    assert Comparison(image, selection).pruned(selection) is None
    assert Errors(np.asarray(image), selection).of(selection) is None


def test_errors_are_those_of_the_reconstruction_and_name_the_worst_part() -> None:
    pixels = np.full((640, 960, 3), 100, np.uint8)
    pixels[320:352, 640:672] = 110  # differs by 10 levels, which a threshold of 0.05 allows
    pixels[:32, :32, 1] = 101
    selection = pp.prune(pixels, "qwen3_vl", threshold=0.05)
    found = Errors(pixels, selection).of(selection)
    apart = np.abs(selection.reconstruct(pixels).astype(int) - pixels)
    assert found is not None
    assert found.largest == apart.max() / 255 == 10 / 255
    assert found.mean == pytest.approx(apart.mean() / 255)
    assert found.box is not None
    left, top, right, bottom = found.box
    assert (right - left, bottom - top) == (160, 160)
    assert left <= 640 <= right - 32
    assert top <= 320 <= bottom - 32


def test_an_exact_reconstruction_has_no_worst_part() -> None:
    pixels = np.asarray(page())
    selection = pp.prune(pixels, "qwen3_vl", threshold=0)
    assert Errors(pixels, selection).of(selection) == (0, 0, None)
