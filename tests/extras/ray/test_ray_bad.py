"""Without ray, without a cluster, with nodes that are not alike: one clear line each."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixelprune as pp
import pytest
from conftest import RunChild
from extras.scan import made
from pixelprune.cli import main
from pixelprune.scan import ScanOptions, scan
from pixelprune.scan.cluster import Span, Work
from pixelprune.scan.sources.finding import Finder
from pixelprune.scan.sources.item import Reading

READING = Reading(144, None, None)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return made.folder(tmp_path / "top")


def command(*options: str) -> int:
    return main(["scan", *options, "--engine", "ray", "--no-report"])


def without_ray(source: str, out: str) -> None:
    sys.modules["ray"] = None  # type: ignore[assignment]  # makes the import fail
    print(command(source, "-o", out))


def test_without_ray_the_extra_is_named(top: Path, run_child: RunChild) -> None:
    line, code = run_child(without_ray, str(top), str(top.parent / "out")).splitlines()
    assert code == "1"
    assert line.startswith("pixelprune: error: the engine ray needs ray: pip install 'pixelprune[ray]'")
    assert not (top.parent / "out").exists()


def imports() -> None:
    from pixelprune.ray import Measure
    from pixelprune.scan import measure

    assert "ray" not in sys.modules
    import ray

    print(Measure.__module__, measure.__module__, hasattr(ray, "init"))


def test_the_module_and_the_package_have_the_same_name(run_child: RunChild) -> None:
    pytest.importorskip("ray")
    assert run_child(imports) == "pixelprune.ray pixelprune.scan.measuring True\n"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("127.0.0.1:{port}", "refused"),
        ("127.0.0.1:none", "invalid literal"),
        ("nonsense", "nonsense"),
        ("", "Invalid address|empty|format"),
        ("ray://127.0.0.1:{port}", "needs a process on a node of the cluster"),
    ],
)
def test_a_wrong_address_is_one_line(
    address: str, cause: str, top: Path, closed_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    address = address.format(port=closed_port)
    assert command(str(top), "-o", str(top.parent / "out"), "--address", address) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"pixelprune: error: --address is {address!r}; expected that of a running Ray cluster")
    assert re.search(cause, line), line
    assert not (top.parent / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "dask"}, "engine is 'dask'; expected one of embedded, ray"),
        ({"engine": "ray", "threads": 2}, "threads is 2 with engine='ray'; expected None"),
        ({"address": "auto"}, "address is 'auto' without engine='ray'; expected both, or neither"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str, top: Path) -> None:
    with pytest.raises(pp.PixelPruneError, match=message):
        scan(top, top.parent / "out", **arguments)
    assert not (top.parent / "out").exists()


def test_options_that_do_not_fit_are_named_as_options(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(str(top), "-o", str(top.parent / "out"), "--threads", "2") == 1
    assert "--threads is 2 with --engine ray; expected" in capsys.readouterr().err


def outcome(base: Path, source: Path, version: str | None = None) -> Any:
    """What a task returns for the first image of a source."""
    work = Work(ScanOptions(sweep=made.SWEEP), READING, str(base), version or pp.__version__)
    found = next(iter(Finder([str(source)])))
    return pickle.loads(pickle.loads(pickle.dumps(work))({"piece": pickle.dumps([Span(found, 0, 1)])})["outcome"])


def test_a_node_with_another_version(top: Path) -> None:
    error = outcome(top, top, "0.0.1")
    assert isinstance(error, pp.PixelPruneError)
    assert f"has pixelprune {pp.__version__}; expected 0.0.1, which the scan was started with" in str(error)


def test_a_node_without_the_folders(top: Path) -> None:
    """Else each image would be a row with an error."""
    here = os.getcwd()
    assert "does not have the folder" in str(outcome(top / "gone", top))
    [row] = [one.row for one in outcome(top, top)]
    assert (row["source"], row["error"]) == ("even/00000.png", None)
    spans = [Span(found, 0, 1) for found in Finder([str(top)])]
    shutil.rmtree(top / "even")
    work = Work(ScanOptions(sweep=made.SWEEP), READING, str(top), pp.__version__)
    with pytest.raises(pp.PixelPruneError, match=r"does not have the folder .*top/even; expected one that all nodes"):
        work.measure(spans)
    assert os.getcwd() == here


def test_an_error_that_ends_the_scan_is_returned(top: Path) -> None:
    source = made.conversations(top)
    work = Work(ScanOptions(sweep=made.SWEEP), READING, str(top), pp.__version__)
    [found] = Finder([str(source)])
    source.write_text("{")
    error = pickle.loads(work({"piece": pickle.dumps([Span(found, 0, 1)])})["outcome"])
    assert "line 1 is not a JSON object" in str(error)
