"""`pixelprune.ray.Measure` in pipelines of Ray Data gives the rows of `measure`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from extras.scan import made
from PIL import Image
from pixelprune.ray import Measure
from pixelprune.scan import ScanOptions, measure, scan
from pixelprune.scan.rows import names, schema

ray = pytest.importorskip("ray")
data = pytest.importorskip("ray.data")

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray, about itself
OPTIONS = ScanOptions(sweep=made.SWEEP)


@pytest.fixture(scope="module", autouse=True)
def local() -> Iterator[None]:
    ray.init("local", num_cpus=2, object_store_memory=80 << 20, log_to_driver=False)
    data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(({**row, "seconds": None} for row in rows), key=lambda row: (row["source"], row["member"] or ""))


def expected(image: Any, **place: Any) -> dict[str, Any]:
    return {"source": "", "member": None, "kind": "", **place, **measure(image, OPTIONS), "seconds": None}


def test_files(tmp_path: Path) -> None:
    """The rows of a scan, but for the paths, which are whole here; written and read back."""
    top = made.folder(tmp_path / "top", 12)
    (top / "odd" / "00003.png").write_bytes(b"damaged")
    paths = [str(path) for path in top.glob("*/0*.png")]
    files = data.read_binary_files(paths, include_paths=True)
    files.map_batches(Measure(OPTIONS, source="path"), batch_size=4).write_parquet(str(tmp_path / "rows"))
    found = data.read_parquet(str(tmp_path / "rows")).take_all()
    rows = scan(top, tmp_path / "out", sweep=made.SWEEP).rows.to_pylist()
    assert without_seconds(found) == without_seconds([{**row, "source": f"{top}/{row['source']}"} for row in rows])
    assert sum(row["error"] is not None for row in found) == 1


def test_a_scan_uses_the_connection_that_is_there(tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top")
    with pytest.raises(pp.PixelPruneError, match=r"connected to a Ray cluster; expected None.* or ray\.shutdown"):
        scan(top, tmp_path / "out", engine="ray", address="10.0.0.1:6379")
    assert not (tmp_path / "out").exists()
    context = data.DataContext.get_current()
    context.enable_progress_bars = True
    try:
        assert scan(top, tmp_path / "out", engine="ray", sweep=made.SWEEP).summary["rows"] == 5
        assert ray.is_initialized()
        assert context.enable_progress_bars
    finally:
        context.enable_progress_bars = False


def test_arrays(tmp_path: Path) -> None:
    """Images of one size arrive as an array, of several sizes as objects."""
    for sizes in ([(64, 96)] * 3, [(64, 96), (96, 64), (32, 32)]):
        folder = tmp_path / str(sizes[1][0])
        folder.mkdir()
        for i, size in enumerate(sizes):
            (folder / f"{i}.png").write_bytes(made.image(i, size))
        images = data.read_images(str(folder), include_paths=True)
        found = images.map_batches(Measure(OPTIONS, image="image", source="path")).take_all()
        wanted = [
            expected(
                np.asarray(Image.open(io.BytesIO(made.image(i, size)))),
                source=f"{folder}/{i}.png",
                kind=folder.name,
            )
            for i, size in enumerate(sizes)
        ]
        assert without_seconds(found) == wanted


@pytest.mark.parametrize(("make", "image"), [(made.structs, "image"), (made.plain_bytes, "photo")])
def test_tables(make: Any, image: str, tmp_path: Path) -> None:
    table = data.read_parquet(str(make(tmp_path)))
    found = table.map_batches(Measure(OPTIONS, image=image, kind="category", member="category")).take_all()
    wanted = [expected(file, kind=kind, member=kind) for file, kind in zip(made.FILES, made.KINDS, strict=True)]
    key = lambda row: row["sha256"]  # noqa: E731
    assert sorted(({**row, "seconds": None} for row in found), key=key) == sorted(wanted, key=key)


def test_batches_by_hand(tmp_path: Path) -> None:
    """A path, a missing image, and an empty batch, whose types are those of the rows."""
    (tmp_path / "a.png").write_bytes(made.FILES[0])
    rows = Measure(OPTIONS, image="image")({"image": [str(tmp_path / "a.png"), None]}).to_pylist()
    assert {**rows[0], "seconds": None} == expected(made.FILES[0])
    assert rows[1]["error"] == "the image is None; expected bytes or a path"
    empty = Measure(OPTIONS)({"bytes": []})
    assert empty.num_rows == 0
    assert empty.schema.equals(schema(OPTIONS.labels, {}))
    assert empty.column_names == names(OPTIONS.labels)


@pytest.mark.parametrize("role", ["image", "source", "member", "kind"])
def test_a_missing_column(role: str) -> None:
    with pytest.raises(pp.PixelPruneError, match="the batch has the columns bytes, path; expected other among them"):
        Measure(OPTIONS, **{role: "other"})({"bytes": [made.FILES[0]], "path": ["a"]})
