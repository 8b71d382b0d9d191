"""A scan that is stopped loses nothing that was done, and goes on to the same rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import made
import numpy as np
import pixelprune as pp
import pyarrow as pa
import pyarrow.parquet
import pytest
from made import SETTINGS, indices_of, rows_of
from pixelprune.scan import Progress, running, scan

KILLS = 20


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Images, a table and a tar file, with bad images among them."""
    top = tmp_path_factory.mktemp("sources")
    made.folder(top / "images", 150)
    (top / "images" / "even" / "00042.png").write_bytes(b"damaged")
    return [str(top / "images"), str(made.structs(top)), str(made.tar(top)), str(made.tsv(top))]


@pytest.fixture(scope="module")
def whole(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    scan(sources, out, **SETTINGS)
    return out


def run(sources: list[str], out: str) -> None:
    """What is killed: parts of a few rows, a line of output for every row, and a little slower than it could be."""
    running.PART_ROWS = 3

    def wait(progress: Progress) -> None:
        print(progress.rows, flush=True)
        time.sleep(0.002)

    scan(sources, out, resume=True, threads=2, progress=wait, **SETTINGS)


def start(sources: list[str], out: Path) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_scan_resume as t; t.run({sources!r}, {str(out)!r})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_killed_at_random_moments(sources: list[str], whole: Path, tmp_path: Path) -> None:
    """After some rows, however long they take; a scan that was done before is compared, and another one begins."""
    rng = np.random.default_rng(0)
    kills = scans = stopped = 0
    while kills < KILLS:
        out = tmp_path / f"out{scans}"
        scans += 1
        before = 0
        while kills < KILLS and not (out / "rows.parquet").exists():
            with start(sources, out) as process:
                assert process.stdout is not None
                for _ in range(rng.integers(0, 60)):
                    process.stdout.readline()
                time.sleep(rng.uniform(0, 0.02))
                process.kill()
            kills += process.wait() == -signal.SIGKILL
            rows = sum(pa.parquet.read_metadata(part).num_rows for part in (out / "parts").glob("*.parquet"))
            if not (out / "rows.parquet").exists():
                assert rows >= before, "rows of an earlier run are lost"
                stopped += rows > before
                before = rows
        scan(sources, out, resume=True, **SETTINGS)
        assert rows_of(out).equals(rows_of(whole))
        assert indices_of(out).equals(indices_of(whole))
        assert not (out / "parts").exists()
        assert not list(out.rglob("*.unfinished"))
    assert stopped >= 3, "killed too early to tell"


class Stop(Exception):
    """Ends a scan from outside."""


def stop_after(count: int, error: type[BaseException] = Stop) -> Callable[[Progress], None]:
    def check(progress: Progress) -> None:
        if progress.measured == count:
            raise error

    return check


@pytest.mark.parametrize("call", range(1, 11))
def test_stopped_at_every_file_that_is_written(call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a file is renamed, and after: settings, two files a part, indices, rows, summary."""
    top = made.folder(tmp_path / "top")
    scan(top, tmp_path / "whole", **SETTINGS)
    monkeypatch.setattr(running, "PART_ROWS", 2)
    replace = os.replace
    for is_after in (False, True):
        out = tmp_path / f"out{is_after}"
        calls = []

        def stopping(*paths: Any, is_after: bool = is_after, calls: list[int] = calls) -> None:
            calls.append(1)
            if len(calls) != call or is_after:
                replace(*paths)
            if len(calls) >= call:
                raise Stop

        monkeypatch.setattr(os, "replace", stopping)
        with pytest.raises(Stop):
            scan(top, out, **SETTINGS)
        monkeypatch.setattr(os, "replace", replace)
        found = scan(top, out, resume=True, **SETTINGS)
        assert found.summary["rows"] == 5
        assert rows_of(out).equals(rows_of(tmp_path / "whole"))
        assert indices_of(out).equals(indices_of(tmp_path / "whole"))
        assert not (out / "parts").exists()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [1, 77, 150, 152, 158, 166])
def test_rows_of_an_interrupted_scan_are_kept(
    count: int, threads: int, sources: list[str], whole: Path, tmp_path: Path
) -> None:
    """Stopped in a folder, in a table, in a tar file; all rows until then are there."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        scan(sources, out, threads=threads, progress=stop_after(count, KeyboardInterrupt), **SETTINGS)
    seen: list[Progress] = []
    scan(sources, out, resume=True, threads=threads, progress=seen.append, **SETTINGS)
    assert len(seen) == 167 - count
    assert all(progress.rows == count + progress.measured for progress in seen)
    assert rows_of(out).equals(rows_of(whole))
    assert indices_of(out).equals(indices_of(whole))


def test_the_rows_do_not_depend_on_threads(sources: list[str], whole: Path, tmp_path: Path) -> None:
    scan(sources, tmp_path / "out", threads=4, **SETTINGS)
    assert rows_of(tmp_path / "out").equals(rows_of(whole))


def test_a_finished_scan_is_read_again(sources: list[str], whole: Path, tmp_path: Path) -> None:
    before = (whole / "rows.parquet").read_bytes()
    assert scan(sources, whole, resume=True, progress=stop_after(1), **SETTINGS).rows.num_rows == 167
    assert (whole / "rows.parquet").read_bytes() == before


def test_resume_begins_where_there_is_nothing(tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top")
    assert scan(top, tmp_path / "out", resume=True, sweep=made.SWEEP).rows.num_rows == 5


@pytest.mark.parametrize("is_finished", [False, True])
def test_without_resume_a_scan_is_not_touched(is_finished: bool, tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top")
    _scan_some(top, tmp_path / "out", is_finished)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(pp.PixelPruneError, match=r"holds a scan already; expected .* resume=True"):
        scan(top, tmp_path / "out", sweep=made.SWEEP)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def _scan_some(top: Path, out: Path, is_finished: bool) -> None:
    if is_finished:
        scan(top, out, sweep=made.SWEEP)
    else:
        with pytest.raises(Stop):
            scan(top, out, sweep=made.SWEEP, progress=stop_after(3))


CHANGES: list[dict[str, Any]] = [
    {"spec": "qwen2_vl"},
    {"resample": "pillow"},
    {"alpha": "drop"},
    {"sweep": [*made.SWEEP, "raster@0"]},
    {"indices": made.SWEEP[:1]},
    {"dpi": 72},
    {"exclude": ["*3.png"]},
]


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_other_settings_are_refused(change: dict[str, Any], is_finished: bool, tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top")
    _scan_some(top, tmp_path / "out", is_finished)
    with pytest.raises(pp.PixelPruneError, match=f"other settings: {next(iter(change))} was .*expected the same"):
        scan(top, tmp_path / "out", resume=True, **{"sweep": made.SWEEP, **change})


@pytest.mark.parametrize("change", ["added", "removed", "renamed"])
def test_other_files_are_refused(change: str, tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top")
    _scan_some(top, tmp_path / "out", False)
    first = top / "even" / "00000.png"
    if change == "added":
        (top / "even" / "00001.png").write_bytes(made.FILES[0])
    elif change == "removed":
        first.unlink()
    else:
        first.rename(top / "even" / "x.png")
    with pytest.raises(pp.PixelPruneError, match=r"row \d of the scan is even/0000\d\.png"):
        scan(top, tmp_path / "out", resume=True, sweep=made.SWEEP)


def test_a_source_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    """Its first images are not lost, and a repaired file goes on."""
    source = made.tar(tmp_path)
    data = source.read_bytes()
    source.write_bytes(data[:3000])
    with pytest.raises(pp.PixelPruneError, match="damaged"):
        scan(source, tmp_path / "out", sweep=made.SWEEP)
    parts = sorted((tmp_path / "out" / "parts").glob("*.parquet"))
    assert sum(pa.parquet.read_metadata(part).num_rows for part in parts) >= 1
    source.write_bytes(data)
    assert scan(source, tmp_path / "out", sweep=made.SWEEP, resume=True).rows.num_rows == 5


def test_only_rows_that_are_missing_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups whose rows are there are passed over."""
    top = made.structs(tmp_path)
    with pytest.raises(Stop):
        scan(top, tmp_path / "out", sweep=made.SWEEP, progress=stop_after(3))
    read_groups: list[int] = []
    file = pa.parquet.ParquetFile
    iter_batches = file.iter_batches

    def spy(self: Any, size: int, groups: list[int], **how: Any) -> Iterator[Any]:
        read_groups.extend(groups)
        return iter_batches(self, size, groups, **how)  # type: ignore[no-any-return]

    monkeypatch.setattr(file, "iter_batches", spy)
    scan(top, tmp_path / "out", sweep=made.SWEEP, resume=True)
    assert read_groups == [1, 2]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_on_the_command_line(tmp_path: Path) -> None:
    """Ends with the usual exit code and without a traceback; the rows are there."""
    (tmp_path / "a.png").write_bytes(made.image(0, (1600, 1600)))
    lines = ['{"image": "a.png"}'] * 2000
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pixelprune", "scan", str(tmp_path / "a.jsonl"), "-o", str(out), "--threads", "2"]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell starts what runs in the background with SIGINT ignored, and children inherit that.
    options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, **options) as process:
        while not list(out.rglob("settings.json")):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    [part] = (out / "parts").glob("*.parquet")
    assert 0 < pa.parquet.read_metadata(part).num_rows < 2000


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A folder may have a folder named parts of its own: its files are no rows, and are not removed."""
    top, out = made.folder(tmp_path / "top"), tmp_path / "out"
    own = ("notes.txt", "table.parquet", "settings.json.bak", "000000000000.arrow.old")
    (out / "parts").mkdir(parents=True)
    for name in own:
        (out / "parts" / name).write_text("mine")
    with pytest.raises(Stop):
        scan(top, out, progress=stop_after(2), **SETTINGS)
    assert scan(top, out, resume=True, **SETTINGS).summary["rows"] == 5
    assert scan(top, out, resume=True, **SETTINGS).summary["rows"] == 5
    assert sorted(path.name for path in (out / "parts").iterdir()) == sorted(own)


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON"])
def test_settings_of_something_else_are_refused(text: str, tmp_path: Path) -> None:
    top, out = made.folder(tmp_path / "top"), tmp_path / "out"
    (out / "parts").mkdir(parents=True)
    (out / "parts" / "settings.json").write_text(text)
    with pytest.raises(pp.PixelPruneError, match=r"settings\.json is not of a scan; expected another folder"):
        scan(top, out, resume=True, **SETTINGS)
    assert (out / "parts" / "settings.json").read_text() == text
