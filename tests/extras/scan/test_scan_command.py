"""``pixelprune scan``: its options, its table and its progress bar."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import made
import pyarrow.parquet as parquet
import pytest
from pixelprune.cli import main
from pixelprune.cli.progress import Bar, line
from pixelprune.scan import Progress, read

SWEEP = ",".join(made.SWEEP)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return made.folder(tmp_path / "top")


def run(top: Path, *options: str) -> int:
    return main(["scan", str(top), "-o", str(top.parent / "out"), *options])


def test_the_table(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (top / "odd" / "x.png").write_bytes(b"damaged")
    assert run(top, "--sweep", SWEEP, "--no-report") == 0
    first, _, heading, rule, *lines = capsys.readouterr().out.splitlines()
    assert first == "6 images, median share of tokens kept:"
    names = ["kind", "images", "tokens", "unique", *made.SWEEP, f"content dropped, {made.SWEEP[0]}"]
    assert re.split(r" *\| *", heading)[1:-1] == names
    assert set(rule) == set("|-:")
    rows = parquet.read_table(top.parent / "out" / "rows.parquet").to_pylist()
    for cells, kind in zip((re.split(r" *\| *", text)[1:-1] for text in lines), ("even", "odd", "all"), strict=False):
        mine = [row for row in rows if row["error"] is None and kind in (row["kind"], "all")]
        shares = sorted(row[f"kept:{made.SWEEP[0]}"] / row["tokens"] for row in mine)
        middle = (shares[(len(shares) - 1) // 2] + shares[len(shares) // 2]) / 2
        assert cells[:3] == [kind, str(len(mine)), str(sum(row["tokens"] for row in mine))]
        assert cells[4] == f"{middle:.2f}"
    assert lines[-2:] == ["not measured: 1, see the column error", f"rows: {top.parent / 'out' / 'rows.parquet'}"]


def test_the_summary_is_written(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(top, "--sweep", SWEEP, "--no-report") == 0
    summary = json.loads((top.parent / "out" / "summary.json").read_text())
    assert summary["rows"] == 5
    assert set(summary["kinds"]) == {"even", "odd"}
    found = read(top.parent / "out")
    for label in made.SWEEP:
        assert summary["all"]["kept"][label] == sum(found.rows[f"kept:{label}"].to_pylist())
        assert summary["all"]["dropped_content"][label] == sum(found.rows[f"content:{label}"].to_pylist())


def test_every_option_has_an_effect(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--spec qwen2_vl --resample pillow --alpha #102030 --dpi 72 --sweep raster@0.1,unique@0"
    more = "--indices unique@0 --exclude odd --exclude *4.png --threads 2 --no-report"
    assert run(top, *options.split(), *more.split()) == 0
    found = read(top.parent / "out")
    settings = found.settings
    assert settings["spec"]["patch_size"] == 14
    assert (settings["resample"], settings["alpha"], settings["dpi"]) == ("pillow", [16, 32, 48], 72)
    assert (settings["sweep"], settings["indices"]) == (["raster@0.1", "unique@0"], ["unique@0"])
    assert found.rows["source"].to_pylist() == ["even/00000.png", "even/00002.png"]
    assert (top.parent / "out" / "indices" / "keep.arrow").exists()


def test_a_report_is_written(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    assert run(top, "--sweep", SWEEP) == 0
    path = top.parent / "out" / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {path}"
    assert path.stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dpi", "0"], "--dpi is 0; expected"),
        (["--threads", "-1"], "--threads is -1"),
        (["--sweep", "pred"], "'pred' names no settings; expected METHOD@THRESHOLD"),
        (["--sweep", ","], "--sweep is empty"),
        (["--indices", "raster@0.5"], "--indices has 'raster@0.5'"),
        (["--model", "gpt"], "--model is 'gpt'"),
        (["--group-by", "kind"], "expected --group-by with tables"),
        (["--exclude", "*"], "that --exclude does not leave out"),
        (["-o", ""], "--output is empty"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], message: str, top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly")
    assert run(top, *options) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("pixelprune: error: ")
    assert message in line
    assert not (top.parent / "out").exists()


def test_a_scan_that_is_there(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(top, "--sweep", SWEEP, "--no-report") == 0
    assert run(top, "--sweep", SWEEP, "--no-report") == 1
    assert "or --resume to go on with it" in capsys.readouterr().err
    assert run(top, "--sweep", SWEEP, "--no-report", "--resume") == 0


def without(package: str, source: str, out: str) -> None:
    sys.modules[package] = None  # type: ignore[assignment]  # makes the import fail
    print(main(["scan", source, "-o", out]))


@pytest.mark.parametrize(
    ("package", "purpose"),
    [("pyarrow", "pixelprune.scan"), ("plotly", "the report"), ("pypdfium2", "reading PDFs")],
)
def test_a_missing_package_is_named(package: str, purpose: str, top: Path, run_child: Callable[..., str]) -> None:
    made.pdf(top)
    printed = run_child(without, package, str(top / "pages.pdf"), str(top.parent / "out")).splitlines()
    assert printed[-1] == "1"
    assert printed[-2].startswith(f"pixelprune: error: {purpose} needs {package}: pip install 'pixelprune[scan]'")
    assert len(printed) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_on_a_terminal(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("pixelprune.cli.progress.INTERVAL", 0.0)
    assert run(top, "--sweep", SWEEP, "--no-report") == 0
    drawn = terminal.getvalue().split("\r")
    assert "100 %  5 images" in drawn[-2]
    assert drawn[-1] == "\033[K"


def test_no_bar_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar(Progress(1, 0, 1, 0.5, 1.0, 1.0))
    bar.clear()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(1, 0, 1, 0.0, 0.0, None), "[                        ]   0 %  1 images"),
        (Progress(10, 1, 10, 1.0, 2.0, 0.0), "[########################] 100 %  10 images  5.0/s  0:00 left  1 errors"),
        (Progress(10, 0, 5, 0.5, 10.0, 3723.4), "50 %  10 images  0.5/s  1:02:03 left"),
    ],
)
def test_the_line_of_the_bar(progress: Progress, text: str) -> None:
    assert text in line(progress)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    """By the bytes of sources, of every kind, and without going back."""
    from pixelprune.scan import scan

    for name, make in made.SOURCES.items():
        if name == "packed_tar":
            continue  # so small that it is read at once
        (tmp_path / name).mkdir()
        source = make(tmp_path / name)
        seen: list[Progress] = []
        scan(source, tmp_path / name / "out", sweep=made.SWEEP, progress=seen.append)
        shares = [progress.share for progress in seen]
        assert shares == sorted(shares), name
        assert shares[-1] > (0.4 if name == "tar" else 0.8), name  # a tar file ends with zeros
        assert shares[0] < shares[-1], name
        assert seen[-1].rows == len(seen)
