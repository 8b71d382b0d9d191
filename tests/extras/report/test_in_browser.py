"""The report in a real browser: what its controls do, how it looks, and that it needs no network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from pixelprune.scan import Scan, parse

from .conftest import Open, Opened, data_of

KEPT, DROPPED, CONTENT = 0, 1, 2
SHADES = """() => {
  const canvas = document.getElementById("overlay"), { width, height } = canvas;
  const size = document.getElementById("shown-figures").textContent.match(/\\((\\d+) x (\\d+)\\)/);
  const [cols, rows] = size.slice(1).map(Number);
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const shades = [];
  for (let i = 0; i < rows * cols; i++) {
    const x = ((i % cols) + 0.5) * width / cols, y = (Math.floor(i / cols) + 0.5) * height / rows;
    const [red, green, , alpha] = copy.getImageData(Math.floor(x), Math.floor(y), 1, 1).data;
    shades.push(alpha < 90 ? 0 : red > green + 40 ? 2 : 1);
  }
  return shades;
}"""
"""Reads from the middle of every token of the overlay whether it is shown as kept, dropped, or dropped with content."""

NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role], img, table")].filter((e) => {
  if (e.tagName === "IMG") return !e.hasAttribute("alt");
  if (e.tagName === "TABLE") return !e.closest("[aria-label]") || !e.querySelector("th[scope=col]");
  return !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim());
}).map((e) => e.outerHTML.slice(0, 80))"""

CUT_OFF = """(width) => [...document.querySelectorAll("h2, p, select, button, input, .chart, .pair")]
  .filter((e) => e.offsetParent && !e.closest(".scroll, nav, #thumbnails"))
  .filter((e) => e.getBoundingClientRect().right > width + 1).map((e) => e.outerHTML.slice(0, 80))"""


def expected(found: Scan, name: str, label: str) -> list[int]:
    """What the overlay must show of each token."""
    row = found.rows.column("source").to_pylist().index(name)
    image = pp.resize_image(pp.load_image(found.locate(row), alpha="white"), "qwen3_vl")
    selection = pp.prune(image, "qwen3_vl", settings=parse(label))
    shades = np.where(selection.mask.ravel(), KEPT, DROPPED)
    shades[selection.dropped_content(image)] = CONTENT
    return [int(shade) for shade in shades]


def show_page_of_form(opened: Opened) -> str:
    opened.page.select_option("#kind", label=next(t for t in opened.texts("#kind option") if t.startswith("form")))
    opened.press("#thumbnails [aria-selected=true]", "End")
    return opened.page.inner_text("#shown-name")


def test_the_slider_shows_the_tokens_that_each_threshold_keeps(open_page: Open, found: Scan) -> None:
    opened = open_page()
    name = show_page_of_form(opened)
    seen = []
    for tau in ("0", "0.05", "0.2"):
        assert opened.page.inner_text("#gallery-threshold-value") == tau
        shades = opened.page.evaluate(SHADES)
        assert shades == expected(found, name, f"pred_2d@{tau}")
        seen.append(shades)
        opened.press("#gallery-threshold", "ArrowRight")
    assert CONTENT in seen[0]


def test_method_and_protection_change_the_overlay(open_page: Open, found: Scan) -> None:
    opened = open_page()
    name = show_page_of_form(opened)
    opened.press("#protect", "Space")
    assert opened.page.evaluate(SHADES) == expected(found, name, "pred_2d@0+content")
    opened.page.select_option("#method", "either")
    opened.press("#threshold", "End")
    assert opened.page.evaluate(SHADES) == expected(found, name, "either@0.1+content")
    opened.press("#protect", "Space")
    assert opened.page.evaluate(SHADES) == expected(found, name, "either@0.1")


def test_a_method_without_this_setting_takes_the_nearest(open_page: Open) -> None:
    opened = open_page()
    opened.press("#protect", "Space")
    opened.press("#threshold", "End")
    opened.page.select_option("#method", "either")
    assert opened.page.inner_text("#threshold-value") == "0.1"
    assert opened.page.is_checked("#protect")
    opened.page.select_option("#method", "unique")
    assert not opened.page.is_checked("#protect")
    assert opened.page.is_disabled("#protect")
    assert opened.page.is_disabled("#threshold")
    assert opened.page.inner_text("#threshold-value") == "0"


def test_both_sliders_move_together(open_page: Open) -> None:
    opened = open_page()
    opened.press("#threshold", "ArrowRight", "ArrowRight")
    assert opened.page.input_value("#gallery-threshold") == "2"
    opened.press("#gallery-threshold", "Home")
    assert opened.page.input_value("#threshold") == "0"
    assert opened.page.get_attribute("#threshold", "aria-valuetext") == "threshold 0"


def test_the_overlay_can_be_taken_away(open_page: Open) -> None:
    opened = open_page()
    assert opened.page.is_visible("#overlay")
    opened.press("#bare", "Space")
    assert not opened.page.is_visible("#overlay")


def test_the_kind_filters_everything(open_page: Open, found: Scan) -> None:
    opened = open_page()
    assert len(opened.texts("#distribution-table tbody tr")) == 5  # all, and four kinds
    opened.page.select_option("#kind", label="noise (3)")
    rows = found.rows.to_pylist()
    noise = [row for row in rows if row["kind"] == "noise"]
    kept, tokens = (sum(row[name] for row in noise) for name in ("kept:pred_2d@0", "tokens"))
    cells = opened.texts("#distribution-table tbody tr > *")
    assert cells[:3] == ["noise", "3", str(tokens)]
    assert f"{kept} of {tokens}" in opened.texts("#tiles .tile")[0]
    names = {opened.page.get_attribute(f"#{i}", "aria-label") for i in ids(opened)}
    assert names == {row["source"] for row in noise}
    assert opened.texts("#misfits-table tbody tr > th") == ["noise"] * 3
    opened.page.select_option("#kind", label="form (3)")
    assert "No image keeps" in opened.page.inner_text("#misfits-note")


def ids(opened: Opened) -> list[str]:
    found: list[str] = opened.page.eval_on_selector_all("#thumbnails [role=option]", "all => all.map(one => one.id)")
    return found


def test_the_gallery_is_walked_with_arrow_keys_and_buttons(open_page: Open) -> None:
    opened = open_page()
    every = ids(opened)
    opened.press("#thumbnails [aria-selected=true]", "Home")
    for key, place in [("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", -1), ("ArrowRight", 0), ("End", -1)]:
        opened.page.keyboard.press(key)
        assert opened.page.evaluate("document.activeElement.id") == every[place]
        assert opened.page.get_attribute("#thumbnails [aria-selected=true]", "id") == every[place]
        name = opened.page.get_attribute(f"#{every[place]}", "aria-label")
        assert opened.page.inner_text("#shown-name") == name
    opened.press("#next", "Enter")
    assert opened.page.get_attribute("#thumbnails [aria-selected=true]", "id") == every[0]
    opened.press("#previous", "Enter")
    assert opened.page.get_attribute("#thumbnails [aria-selected=true]", "id") == every[-1]
    opened.page.click(f"#{every[1]}")
    assert opened.page.evaluate("document.activeElement.id") == every[1]


def test_the_tab_key_reaches_every_control_and_shows_where_it_is(open_page: Open) -> None:
    opened = open_page()
    reached = set()
    while True:
        opened.page.keyboard.press("Tab")
        tag, name, outline = opened.page.evaluate(
            "() => (e => [e.tagName, e.id, getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        if tag == "BODY":  # once round
            break
        assert outline not in ("none", ""), f"the focus of {name} can't be seen"
        reached.add(name)
    assert {
        "theme",
        "kind",
        "method",
        "threshold",
        "protect",
        "previous",
        "next",
        "gallery-threshold",
        "bare",
    } <= reached
    assert any(name.startswith("image-") for name in reached)


def test_everything_has_a_name_for_screen_readers(open_page: Open) -> None:
    opened = open_page()
    opened.press("#threshold", "End")
    assert opened.page.evaluate(NAMELESS) == []
    named = [("combobox", "Kind"), ("combobox", "Method"), ("checkbox", "Protect content"), ("checkbox", "Image only")]
    for role, name in [*named, ("button", "Next image"), ("listbox", "Images of the sample")]:
        assert opened.page.get_by_role(role, name=name).count() == 1
    assert opened.page.get_by_role("slider", name="Threshold").count() == 2


def lightness(opened: Opened, selector: str, what: str) -> float:
    colour = opened.page.eval_on_selector(selector, f"e => getComputedStyle(e).{what}")
    return float(
        np.mean([float(part) for part in colour.removeprefix("rgba(").removeprefix("rgb(").rstrip(")").split(",")[:3]])
    )


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_colours_follow_the_system_and_the_switch(open_page: Open, scheme: Any, is_dark: bool) -> None:
    opened = open_page(color_scheme=scheme)

    def check(dark: bool) -> None:
        assert (lightness(opened, "body", "backgroundColor") < 80) == dark
        assert (lightness(opened, "body", "color") > 170) == dark
        for part in ("xtick text", "legendtext"):  # the charts are drawn again
            assert (lightness(opened, f"#curves-chart .{part}", "fill") > 130) == dark

    check(is_dark)
    opened.press("#theme", "Enter")
    check(not is_dark)
    asked = "light" if is_dark else "dark"
    for _ in range(20):  # a browser under load may store what was asked a little later
        opened.page.reload()
        opened.page.wait_for_selector("#tiles .tile")
        if opened.page.evaluate("document.documentElement.dataset.theme") == asked:
            break
    check(not is_dark)


@pytest.mark.parametrize("width", [320, 360, 768])
def test_no_width_scrolls_sideways(open_page: Open, width: int) -> None:
    opened = open_page(width=width)
    for keys in ([], ["End"]):
        opened.press("#threshold", *keys)
        for summary in opened.page.query_selector_all("details:not([open]) > summary"):
            summary.click()
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.page.evaluate(CUT_OFF, width) == []


def test_charts_are_drawn(open_page: Open, found: Scan) -> None:
    opened = open_page()
    opened.page.wait_for_selector("#shrinking-chart .scatterlayer .trace")
    assert opened.page.locator("#curves-chart .scatterlayer .trace").count() == 5
    assert opened.page.locator("#distribution-chart .heatmaplayer image").count() == 1
    assert opened.page.locator("#savings-chart .barlayer .trace").count() == 2


def test_flops_have_three_digits_and_a_unit(open_page: Open, written: Path, tmp_path: Path) -> None:
    """Rounding goes before the unit: 999.96 T is 1.00 P."""
    before, start, rest = written.read_text(encoding="utf-8").partition('<script type="application/json" id="data">')
    _, end, after = rest.partition("</script>")
    data = data_of(written)
    data["groups"][0]["vision"][0], data["groups"][0]["prefill"][0] = 999.96e12, 999.4e12
    path = tmp_path / "report.html"
    path.write_text(before + start + json.dumps(data) + end + after, encoding="utf-8")
    page = open_page(path).page
    assert page.locator("#savings-table tbody tr").first.inner_text().split("\t")[3:6] == [
        "1.00 PFLOP",
        "999 TFLOP",
        "2.00 PFLOP",
    ]
    ticks = page.locator("#savings-chart .xtick text").all_text_contents()
    assert len(ticks) > 1
    assert all(re.fullmatch(r"[0-9.]+ PFLOP", tick) for tick in ticks), ticks


def test_names_are_never_html(open_page: Open, hostile: Path) -> None:
    """Faults of the page, such as a dialog, fail when it closes."""
    opened = open_page(hostile)
    kinds = opened.texts("#distribution-table tbody tr > th")
    assert "</script ><script >alert(1)</script >" in kinds
    assert "<b>bold</b>&amp;" in kinds
    assert opened.page.locator("#distribution-chart").get_by_text("<b>bold</b>&amp;").count() == 1
    for index in range(len(opened.texts("#kind option"))):
        opened.page.select_option("#kind", index=index)
        opened.press("#threshold", "End", "Home")
    assert opened.page.locator("main img[src=x], main b b, main script").count() == 0
    assert "<img src=x onerror=alert(3)>.png" in opened.page.inner_text("#unread-table")
    assert opened.page.title() == "What pruning does to 10 images"


def test_a_scan_without_images_shows_its_errors(open_page: Open, unread: Path) -> None:
    opened = open_page(unread)
    assert opened.page.inner_text("#verdict") == "No image could be read."
    assert opened.page.is_visible("#unread-table")
    assert not opened.page.is_visible("#gallery")
