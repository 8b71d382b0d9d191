"""A scan of drawn images, its report, and a browser that looks at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pixelprune.scan import Scan, read, report, scan
from playwright.sync_api import Browser, Page, sync_playwright

from . import browsers

THRESHOLDS = {"pred_2d": (0, 0.05, 0.2), "either": (0, 0.1)}
SWEEP = [
    *(f"{name}@{tau}{end}" for name, of in THRESHOLDS.items() for end in ("", "+content") for tau in of),
    "unique@0",
]


def draw_images(folder: Path) -> None:
    """Pages of equal marks in two kinds, noise as PNG and JPEG, a blank image, and one that can't be read."""
    rng = np.random.default_rng(5)
    for kind in ("form", "list"):
        (folder / kind).mkdir(parents=True)
        for number in range(3):
            page = np.full((640, 480, 3), 255, np.uint8)
            for row in range(1, 4 + 4 * number):
                page[row * 32 + 8 : row * 32 + 24, 64 : 192 + 32 * number : 4] = 20  # the same mark in every row
                page[row * 32 + 8 : row * 32 + 24, 320:350] = 200 + 3 * row if kind == "list" else 90
            Image.fromarray(page).save(folder / kind / f"{number}.png")
    (folder / "noise").mkdir()
    noise = rng.integers(0, 256, (256, 320, 3), np.uint8)
    Image.fromarray(noise).save(folder / "noise" / "loud.png")
    slight = np.full((256, 320, 3), 200, np.uint8) + rng.integers(0, 8, (256, 320, 3), np.uint8)
    Image.fromarray(slight).save(folder / "noise" / "slight.png")
    smooth = Image.fromarray(rng.integers(110, 150, (8, 10, 3), np.uint8)).resize((320, 256), Image.Resampling.BICUBIC)
    smooth.save(folder / "noise" / "smooth.jpg", quality=60)
    Image.new("RGB", (320, 256), "white").save(folder / "blank.png")
    (folder / "form" / "bad.png").write_bytes(b"no image")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder)
    return folder


@pytest.fixture(scope="session")
def found(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return scan(images, tmp_path_factory.mktemp("found") / "out", sweep=SWEEP)


@pytest.fixture(scope="session")
def written(found: Scan) -> Path:
    return report.write(found, found.folder / "report.html")


@pytest.fixture(scope="session")
def data(written: Path) -> dict[str, Any]:
    """What the page shows, as its scripts read it."""
    return data_of(written)


def with_columns(found: Scan, folder: Path, **columns: Any) -> Scan:
    """A scan whose rows have other values in some columns: a function of the old value and the row number."""
    table = found.rows
    for name, change in columns.items():
        old = table.column(name)
        new = pa.array([change(value, i) for i, value in enumerate(old.to_pylist())], old.type)
        table = table.set_column(table.column_names.index(name), table.schema.field(name), new)
    folder.mkdir()
    pq.write_table(table, folder / "rows.parquet")
    return read(folder)


HOSTILE = {
    "form": "</script ><script >alert(1)</script >",
    "list": "<b>bold</b>&amp;",
    "noise": "<img src=x onerror=alert(2)>",
}


@pytest.fixture(scope="session")
def hostile(found: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of images and kinds whose names are HTML. The images are found again by other names."""
    folder = tmp_path_factory.mktemp("hostile")
    sources = found.rows.column("source").to_pylist()
    changed = with_columns(
        found,
        folder / "out",
        kind=lambda kind, i: HOSTILE.get(kind, kind),
        source=lambda source, i: "<img src=x onerror=alert(3)>.png" if "bad" in source else f"{i}<b>{source}</b>'\"&",
        member=lambda member, i: "--><svg onload=alert(4)>",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Scan,
            "locate",
            lambda self, row: (Path(found.settings["base"], found.settings["sources"][0]) / sources[row]).read_bytes(),
        )
        return report.write(changed, folder / "report.html")


@pytest.fixture(scope="session")
def unread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a scan that could read nothing."""
    folder = tmp_path_factory.mktemp("unread")
    (folder / "bad.png").write_bytes(b"no image")
    return report.write(scan(folder / "bad.png", folder / "out", sweep=SWEEP), folder / "report.html")


def data_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8").partition('<script type="application/json" id="data">')[2]
    found: dict[str, Any] = json.loads(text.partition("</script>")[0])
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; tests are skipped only if none starts."""
    with sync_playwright() as playwright:
        started = browsers.start(playwright)
        if isinstance(started, str):
            pytest.skip(f"no Chromium starts ({started}); python tests/extras/report/browsers.py installs one")
        yield started
        started.close()


@dataclass
class Opened:
    """A page in the browser, and what went wrong in it."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._see)

    def _see(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.faults.append(f"request: {request.url}")

    def press(self, selector: str, *keys: str) -> None:
        self.page.locator(selector).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()


Open = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Browser, written: Path) -> Iterator[Open]:
    """Opens a report, the one of ``found`` if none is named. Nothing may go wrong in it until the test ends."""
    opened: list[Opened] = []

    def open_page(path: Path = written, width: int = 1200, **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        shown = Opened(context.new_page())
        opened.append(shown)
        shown.page.goto(path.as_uri())
        shown.page.wait_for_selector("#tiles .tile, #verdict:text('No image')")
        return shown

    yield open_page
    for shown in opened:
        assert not shown.faults
        shown.page.context.close()
