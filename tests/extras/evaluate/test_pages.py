"""The checks of olmOCR-bench on tables of cases. The values are those of its own code (f7cfe4c) for them."""

from __future__ import annotations

from typing import Any

import pytest
from pixelprune import PixelPruneError

for package in ("rapidfuzz", "fuzzysearch", "bs4"):
    pytest.importorskip(package)

from pixelprune.evaluate.metrics.pages import check  # noqa: E402

TABLE = "| year | sum |\n|---|---|\n| 2020 | 12 |\n| 2021 | 15 |\n"
HTML = (
    "<table><thead><tr><th></th><th colspan='2'>sum</th></tr></thead>"
    "<tr><td rowspan='2'>total</td><td>12</td><td>13</td></tr><tr><td>14</td><td>15<br>x</td></tr></table>"
)

CASES: list[tuple[dict[str, Any], str, int]] = [  # check, page, passed
    ({"type": "present", "text": "the total"}, "This is the total.", 1),
    ({"type": "present", "text": "the total"}, "This is THE total.", 0),
    ({"type": "present", "text": "the total", "case_sensitive": False}, "This is THE total.", 1),
    ({"type": "present", "text": "the total"}, "This is the  **total**", 1),  # space and marks do not count
    ({"type": "present", "text": "the total"}, "the\ntotal", 1),
    ({"type": "present", "text": "the total"}, "the<br>total", 1),
    ({"type": "present", "text": "the total"}, "the totel", 0),
    ({"type": "present", "text": "the total", "max_diffs": 1}, "the totel", 1),
    ({"type": "present", "text": "the total", "max_diffs": 1}, "tha totel", 0),
    ({"type": "present", "text": "it's \u2013 5 \u00b5m"}, "it\u2019s - 5 \u03bcm", 1),  # quotes, dashes, mu
    ({"type": "present", "text": "\u00e9"}, "e\u0301", 1),
    ({"type": "present", "text": "end", "first_n": 5}, "start end", 0),
    ({"type": "present", "text": "end", "last_n": 5}, "start end", 1),
    ({"type": "present", "text": "end", "first_n": 2, "last_n": 3}, "start end", 1),
    ({"type": "absent", "text": "page 7"}, "some text", 1),
    ({"type": "absent", "text": "page 7"}, "on page 7", 0),
    ({"type": "absent", "text": "page 7", "max_diffs": 1}, "on page 8", 0),
    ({"type": "absent", "text": "page 7"}, "", 1),
    ({"type": "absent", "text": "page 7", "first_n": 5}, "text, and page 7", 1),
    ({"type": "order", "before": "first", "after": "second"}, "first, second", 1),
    ({"type": "order", "before": "first", "after": "second"}, "second, first", 0),
    ({"type": "order", "before": "first", "after": "second"}, "second, first, second", 1),
    ({"type": "order", "before": "first", "after": "second"}, "first", 0),
    ({"type": "order", "before": "first", "after": "second", "max_diffs": 1}, "furst, sekond", 1),
    ({"type": "order", "before": "first", "after": "second"}, "furst, sekond", 0),
    ({"type": "table", "cell": "12"}, TABLE, 1),
    ({"type": "table", "cell": "13"}, TABLE, 0),
    ({"type": "table", "cell": "13", "max_diffs": 2}, TABLE, 1),  # at least half has to be equal
    ({"type": "table", "cell": "33", "max_diffs": 2}, TABLE, 0),
    ({"type": "table", "cell": "99"}, TABLE, 0),
    ({"type": "table", "cell": "12", "left": "2020", "up": "sum", "down": "15"}, TABLE, 1),
    ({"type": "table", "cell": "12", "right": "2020"}, TABLE, 0),
    ({"type": "table", "cell": "2021", "up": "year"}, TABLE, 0),  # the nearest cell is 2020
    ({"type": "table", "cell": "15", "top_heading": "sum", "left_heading": "2021"}, TABLE, 1),
    ({"type": "table", "cell": "15", "top_heading": "year"}, TABLE, 0),
    ({"type": "table", "cell": "12", "ignore_markdown_tables": True}, TABLE, 0),
    ({"type": "table", "cell": "12"}, "12", 0),
    ({"type": "table", "cell": "12"}, "| 12 | 13 |", 0),  # one line is no table
    ({"type": "table", "cell": "14", "left": "total", "up": "12"}, HTML, 1),
    ({"type": "table", "cell": "14", "right": "15 x"}, HTML, 1),
    ({"type": "table", "cell": "13", "top_heading": "sum", "down": "15 x"}, HTML, 1),
    ({"type": "table", "cell": "total", "right": "14"}, HTML, 1),  # a cell of two rows has two to its right
    ({"type": "table", "cell": "sum", "down": "13"}, HTML, 1),
    ({"type": "table", "cell": "13", "left": "total"}, HTML, 0),
    ({"type": "format", "text": "Title", "format": "heading"}, "## Title\ntext", 1),
    ({"type": "format", "text": "Title", "format": "heading"}, "Title\ntext", 0),
    ({"type": "format", "text": "Title", "format": "heading"}, "<h2>Title</h2>", 1),
    ({"type": "format", "text": "word", "format": "bold"}, "a **word**", 1),
    ({"type": "format", "text": "word", "format": "bold"}, "a *word*", 0),
    ({"type": "format", "text": "word", "format": "bold"}, "a <strong>word</strong>", 1),
    ({"type": "format", "text": "word", "format": "italic"}, "a *word*", 1),
    ({"type": "format", "text": "word", "format": "italic"}, "a **word**", 0),
    ({"type": "format", "text": "Word", "format": "italic", "case_sensitive": False}, "a <em>word</em>", 1),
    ({"type": "footnote", "marker": "1"}, "text[^1]", 1),
    ({"type": "footnote", "marker": "1"}, "[^1]: note", 0),
    ({"type": "footnote", "marker": "12"}, "text\u00b9\u00b2", 1),
    ({"type": "footnote", "marker": "*"}, "text<SUP>*</SUP>", 1),
    ({"type": "footnote", "marker": "1", "appears_before_marker": "some text"}, "some text.<sup>1</sup>", 1),
    ({"type": "footnote", "marker": "1", "appears_before_marker": "some text"}, "<sup>1</sup> some text", 0),
    ({"type": "footnote", "marker": "1", "appears_after_marker": "goes on"}, "x[^1] goes on", 1),
    ({"type": "baseline"}, "some text", 1),
    ({"type": "baseline"}, " .,- \n", 0),
    ({"type": "baseline"}, "a" + "b" * 30, 1),
    ({"type": "baseline"}, "a" + "b" * 31, 0),
    ({"type": "baseline"}, "text " + "abc" * 31, 0),
    ({"type": "baseline"}, "text " + "abcdef" * 40, 1),  # six letters that repeat are not looked for
    ({"type": "baseline", "max_repeats": 5}, "text " + "ab" * 6, 0),
    ({"type": "baseline"}, "text \u6f22", 0),
    ({"type": "baseline", "check_disallowed_characters": False}, "text \u6f22", 1),
    ({"type": "baseline", "max_length": 3}, "a.b c", 1),
    ({"type": "baseline", "max_length": 2}, "a.b c", 0),
    ({"type": "baseline", "max_length": 2}, "![alt](a.png)", 0),
    ({"type": "baseline", "max_length": 2, "max_length_skips_image_alt_tags": True}, "![alt](a.png)", 1),
]


@pytest.mark.parametrize(("test", "page", "passed"), CASES)
def test_checks(test: dict[str, Any], page: str, passed: int) -> None:
    assert check(test, page) == passed


def test_formulas_are_not_scored() -> None:
    """Not even where the texts are equal: counting these alone would count too much."""
    assert check({"type": "math", "math": "x^2"}, r"\(x^2\)") is None


@pytest.mark.parametrize(
    ("test", "reason"),
    [({"type": "layout"}, "has type 'layout'; expected one of"), ({"type": "order"}, "has no field")],
)
def test_other_checks_are_refused(test: dict[str, Any], reason: str) -> None:
    with pytest.raises(PixelPruneError, match=reason):
        check(test, "page")


@pytest.mark.parametrize("page", ["<table><tr><td rowspan=3>12<td>x<tr><td colspan=2>y<tr></table>", "<table></table>"])
def test_tables_that_are_broken_fail(page: str) -> None:
    assert check({"type": "table", "cell": "nowhere"}, page) == 0
