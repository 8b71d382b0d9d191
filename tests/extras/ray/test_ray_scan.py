"""A scan on a Ray cluster of several nodes has the rows of the embedded engine, whatever is lost on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pyarrow as pa
import pytest
from extras.scan import made
from extras.scan.made import SETTINGS, indices_of, rows_of
from PIL import Image
from pixelprune.cli import main
from pixelprune.scan import Progress, ScanOptions, cluster, read, scan
from pixelprune.scan.sources.item import Reading
from pixelprune.scan.sources.reading import read_sources

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray, about itself
STORE = 80 << 20
"""Bytes of a node's object store: the least that Ray allows, nearly."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A node for the driver, and two with a CPU each."""
    nodes = cluster_utils.Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    for _ in range(2):
        nodes.add_node(num_cpus=1, object_store_memory=STORE)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that begin and end within files, and several pipelines."""
    monkeypatch.setattr(cluster, "PIECE", 3)
    monkeypatch.setattr(cluster, "WINDOW", 15)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every kind of source, with bad files among them."""
    top = tmp_path_factory.mktemp("sources")
    made.folder(top / "images", 40)
    (top / "images" / "even" / "00022.png").write_bytes(b"damaged")
    (top / "images" / "odd" / "00033.pdf").write_bytes(b"no PDF")
    made.pdf(top / "images")
    kinds = ("structs", "lists", "stream", "tsv", "conversations", "tar", "packed_tar")
    return [str(top / "images"), *(str(made.SOURCES[kind](top)) for kind in kinds)]


@pytest.fixture(scope="module")
def whole(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    scan(sources, out, **SETTINGS)
    return out


def test_rows_are_those_of_the_embedded_engine(nodes: Any, sources: list[str], whole: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    found = scan(sources, tmp_path / "out", engine="ray", address=nodes.address, progress=seen.append, **SETTINGS)
    assert found.rows.schema.equals(read(whole).rows.schema, check_metadata=True)
    assert rows_of(tmp_path / "out").equals(rows_of(whole))
    assert indices_of(tmp_path / "out").equals(indices_of(whole))
    assert found.summary == read(whole).summary
    assert found.summary["errors"] == 2
    assert [progress.rows for progress in seen] == list(range(1, found.summary["rows"] + 1))
    shares = [progress.share for progress in seen]
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    assert not ray.is_initialized()


def test_the_command_prints_the_same_and_writes_the_report(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly")
    top = str(made.folder(tmp_path / "top"))
    printed = []
    for folder, options in (("a", []), ("b", ["--engine", "ray", "--address", nodes.address])):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert main(["scan", top, "-o", "out", *options]) == 0
        printed.append(capfd.readouterr())
        assert Path("out/report.html").stat().st_size > 1_000_000
    assert printed[0].out.splitlines()[-1] == "report: out/report.html"
    assert printed[1] == printed[0]


def test_relative_paths_and_their_errors(
    nodes: Any, sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run elsewhere. A path that leads nowhere is a row with an error that names it as it was given."""
    made.conversations(tmp_path)
    for path in (tmp_path / "images" / "odd").iterdir():
        path.unlink()
    monkeypatch.chdir(tmp_path)
    embedded, on_ray = tmp_path / "embedded", tmp_path / "ray"
    scan("train.jsonl", embedded, **SETTINGS)
    scan("train.jsonl", on_ray, engine="ray", address=nodes.address, **SETTINGS)
    assert rows_of(on_ray)["error"].to_pylist().count("images/odd/00003.png: No such file or directory") == 1
    assert rows_of(on_ray).equals(rows_of(embedded))


class Stop(Exception):
    """Ends a scan from outside."""


@pytest.mark.parametrize("engines", [("embedded", "ray"), ("ray", "embedded")], ids=" then ".join)
def test_either_engine_goes_on_where_the_other_has_stopped(
    engines: tuple[str, str], nodes: Any, sources: list[str], whole: Path, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.measured == 44:
            raise Stop

    out = tmp_path / "out"
    seen: list[Progress] = []
    for engine, progress in zip(engines, (stop, seen.append), strict=True):
        place = {"engine": engine, "address": nodes.address if engine == "ray" else None}
        expected: Any = contextlib.nullcontext() if progress is not stop else pytest.raises(Stop)
        with expected:
            scan(sources, out, resume=True, progress=progress, **place, **SETTINGS)
    assert len(seen) == rows_of(whole).num_rows - 44
    assert rows_of(out).equals(rows_of(whole))
    assert indices_of(out).equals(indices_of(whole))


def test_rows_before_a_damaged_line_are_kept(nodes: Any, tmp_path: Path) -> None:
    source = made.conversations(tmp_path)
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*lines[:5] * 5, "{\n"]))
    for engine, address in (("embedded", None), ("ray", nodes.address)):
        out = tmp_path / engine
        with pytest.raises(pp.PixelPruneError, match="line 26 is not a JSON object"):
            scan(str(source), out, engine=engine, address=address, sweep=made.SWEEP)  # type: ignore[arg-type]
        assert sum(pa.parquet.read_metadata(part).num_rows for part in (out / "parts").glob("*.parquet")) == 25


def test_sources_that_change_are_refused(nodes: Any, tmp_path: Path) -> None:
    source, reading = made.tar(tmp_path), Reading(144, None, None)
    items = list(read_sources([str(source)], (), reading))
    renamed = [item._replace(member=f"{i}.jpg") for i, item in enumerate(items)]
    longer = [*items, items[-1]._replace(place=len(items))]
    with cluster.connected(nodes.address):
        for before in (renamed, longer):
            measured = cluster.measure_items(iter(before), ScanOptions(sweep=made.SWEEP), reading)
            with pytest.raises(pp.PixelPruneError, match=r"shard\.tar has other images than when it was searched"):
                list(measured)


def test_work_that_always_fails_ends_with_one_line(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As an image would whose decoder crashes. Rows before it are there, and the scan can go on elsewhere."""

    def crash(work: cluster.Work, row: dict[str, bytes]) -> dict[str, bytes]:
        if b"00004.png" in row["piece"]:
            os._exit(1)
        return work(row)

    top = made.folder(tmp_path / "top", 6)
    monkeypatch.setattr(cluster, "PIECE", 1)
    monkeypatch.setattr(cluster, "_apply", crash)
    monkeypatch.setattr(cluster, "RETRIES", 1)
    monkeypatch.setattr(cluster, "WINDOW", 2)
    options = ["--engine", "ray", "--address", nodes.address, "--no-report"]
    assert main(["scan", str(top), "-o", str(tmp_path / "out"), *options]) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("pixelprune: error: the Ray cluster has failed: The worker died unexpectedly")
    assert main(["scan", str(top), "-o", str(tmp_path / "out"), "--resume", "--no-report"]) == 0
    assert read(tmp_path / "out").rows["source"].to_pylist()[2] == "even/00004.png"


def workers_of(raylets: list[int]) -> list[int]:
    """The processes of some nodes that measure."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and (path / "cmdline").read_bytes().startswith(b"ray::Map"):
                found.append(int(path.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes")
def test_a_killed_worker_and_a_lost_node_lose_nothing(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed while it measures, later the node of another; the rows are the same."""
    monkeypatch.setattr(cluster, "WINDOW", 1000)
    rng = np.random.default_rng(0)
    for i in range(40):
        tiles = rng.integers(0, 2, (40, 40, 3), np.uint8) * 255
        Image.fromarray(tiles.repeat(32, 0).repeat(32, 1)).save(tmp_path / f"{i:02}.png", compress_level=1)
    third = nodes.add_node(num_cpus=1, object_store_memory=STORE)
    nodes.wait_for_nodes()
    others = [node for node in nodes.worker_nodes if node is not third]
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.measured == 6:
            killed.append(busy([raylet(node) for node in others])[0])
            os.kill(killed[0], signal.SIGKILL)
        elif progress.measured == 15:
            killed.extend(busy([raylet(third)]))
            nodes.remove_node(third, allow_graceful=False)

    scan(tmp_path, tmp_path / "out", engine="ray", address=nodes.address, progress=kill)
    scan(tmp_path, tmp_path / "whole")
    assert len(killed) >= 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in killed)
    assert rows_of(tmp_path / "out").equals(rows_of(tmp_path / "whole"))
    assert rows_of(tmp_path / "out")["error"].null_count == 40


def raylet(node: Any) -> int:
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def busy(raylets: list[int]) -> list[int]:
    """Wait until a worker of the nodes measures."""
    for _ in range(200):
        if found := workers_of(raylets):
            return found
        time.sleep(0.02)
    pytest.fail("no worker measures")
