"""Every kind of source gives the rows of its images, in order, and the images again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import made
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune.scan import measure, read, scan
from pixelprune.scan.options import ScanOptions

ORDERS = {"folder": [0, 2, 4, 1, 3], "tsv": [0, 1, 1, 2, 3, 4, 0]}
"""Which of `made.FILES` the rows are; all of them in order unless told otherwise."""
MEMBERS = {
    "folder": [None] * 5,
    "lists": ["0/0", "0/1", "3/0", "3/1", "3/2"],
    "tsv": [*"1234567"],
    "tsv_paths": ["0", "1/0", "1/1", "2", "3"],
    "conversations": ["1/0", "1/1", "2/0", "4/0", "5/0"],
    "tar": [f"./{i:05}.png" for i in range(5)],
    "packed_tar": [f"./{i:05}.png" for i in range(5)],
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", made.SOURCES)
def test_rows_of_a_source(name: str, threads: int, tmp_path: Path) -> None:
    source = made.SOURCES[name](tmp_path)
    found = scan(source, tmp_path / "out", sweep=made.SWEEP, threads=threads)
    expected = [made.FILES[i] for i in ORDERS.get(name, range(5))]
    rows = found.rows.to_pylist()
    assert [row["sha256"] for row in rows] == [hashlib.sha256(data).hexdigest() for data in expected]
    assert [row["member"] for row in rows] == MEMBERS.get(name, [*"01234"])
    options = ScanOptions(sweep=made.SWEEP)
    for row, data in zip(rows, expected, strict=True):
        own = measure(data, options)
        assert {key: row[key] for key in own if key != "seconds"} == {k: v for k, v in own.items() if k != "seconds"}
    assert [found.locate(i) for i in range(len(rows))] == expected


@pytest.mark.parametrize("name", ["structs", "plain_bytes", "arrow", "stream", "saved", "tsv", "conversations"])
def test_kinds_by_a_column(name: str, tmp_path: Path) -> None:
    found = scan(made.SOURCES[name](tmp_path), tmp_path / "out", sweep=made.SWEEP, group_by="category")
    kinds = made.KINDS if name != "tsv" else [made.KINDS[i % 5] for i in range(1, 8)]
    if name == "conversations":
        kinds = ["a", "a", "b", "b", "a"]
    assert found.rows["kind"].to_pylist() == kinds
    assert list(found.summary["kinds"]) == ["a", "b"]


def test_kinds_by_the_first_folder(tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top")
    (top / "odd" / "deeper").mkdir()
    (top / "odd" / "deeper" / "x.png").write_bytes(made.FILES[0])
    (top / "y.png").write_bytes(made.FILES[0])
    rows = scan(top, tmp_path / "out", sweep=made.SWEEP).rows.to_pylist()
    assert {row["source"]: row["kind"] for row in rows} == {
        "y.png": "top",
        **{f"even/0000{i}.png": "even" for i in (0, 2, 4)},
        **{f"odd/0000{i}.png": "odd" for i in (1, 3)},
        "odd/deeper/x.png": "odd",
    }


@pytest.mark.parametrize(
    ("exclude", "left"),
    [(["even"], 2), (["**/0000[12].png"], 3), (["*.png", "odd"], None), (["odd/*", "even/00000.png"], 2)],
)
def test_what_is_left_out(exclude: list[str], left: int | None, tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top")
    if left is None:
        with pytest.raises(pp.PixelPruneError, match="exclude"):
            scan(top, tmp_path / "out", exclude=exclude)
        return
    assert scan(top, tmp_path / "out", sweep=made.SWEEP, exclude=exclude).rows.num_rows == left


def test_globs_of_images_folders_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.folder(tmp_path / "top")
    made.structs(tmp_path)
    made.plain_bytes(tmp_path)
    monkeypatch.chdir(tmp_path)
    sources = ["top/*/*2.png", "t*", "*.parquet", "top/odd/00001.png"]
    found = scan(sources, "out", sweep=made.SWEEP)
    rows = found.rows.to_pylist()
    assert [row["source"] for row in rows[:1]] == ["even/00002.png"]
    names = ["even/00000", "even/00002", "even/00004", "odd/00001", "odd/00003"]
    assert [row["source"] for row in rows[1:6]] == [f"top/{name}.png" for name in names]
    assert [row["source"] for row in rows[6:]] == ["plain.parquet"] * 5 + ["structs.parquet"] * 5 + [sources[3]]
    monkeypatch.chdir("/")
    found = read(tmp_path / "out")
    for i, row in enumerate(rows):
        assert hashlib.sha256(found.locate(i)).hexdigest() == row["sha256"]  # type: ignore[arg-type]


def test_pages_of_a_pdf(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    source = made.pdf(tmp_path)
    found = scan(source, tmp_path / "out", sweep=made.SWEEP, dpi=144)
    rows = found.rows.to_pylist()
    assert [(row["source"], row["member"], row["kind"]) for row in rows] == [
        (str(source), str(i), "pages") for i in range(1, 6)
    ]
    assert {(row["width"], row["height"], row["format"], row["bytes"]) for row in rows} == {(192, 128, "PDF", None)}
    assert len({row["sha256"] for row in rows}) == 5
    for i in range(5):
        page = found.locate(i)
        assert isinstance(page, Image.Image)
        assert page.size == (192, 128)
    other = scan(source, tmp_path / "other", sweep=made.SWEEP, dpi=72).rows.to_pylist()
    assert (other[0]["width"], other[0]["height"]) == (96, 64)
    assert not {row["sha256"] for row in rows} & {row["sha256"] for row in other}


def test_a_data_set_of_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    split = datasets.Dataset.from_dict({"image": made.FILES})
    datasets.DatasetDict(train=split, test=split.select([1, 3])).save_to_disk(tmp_path / "both")
    found = scan(tmp_path / "both", tmp_path / "out", sweep=made.SWEEP)
    assert found.rows["kind"].to_pylist() == ["test"] * 2 + ["train"] * 5
    assert [found.locate(i) for i in range(7)] == [made.FILES[i] for i in (1, 3, 0, 1, 2, 3, 4)]


def test_a_column_of_choice(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"left": made.FILES[:2], "right": made.FILES[2:4]}), tmp_path / "two.parquet")
    with pytest.raises(pp.PixelPruneError, match=r"left, right.*column="):
        scan(tmp_path / "two.parquet", tmp_path / "out")
    found = scan(tmp_path / "two.parquet", tmp_path / "out", sweep=made.SWEEP, column="right")
    assert [found.locate(i) for i in range(2)] == made.FILES[2:4]


def test_an_image_that_changed_is_not_opened_again(tmp_path: Path) -> None:
    found = scan(made.folder(tmp_path / "top"), tmp_path / "out", sweep=made.SWEEP)
    (tmp_path / "top" / "even" / "00000.png").write_bytes(made.FILES[1])
    with pytest.raises(pp.PixelPruneError, match=r"even/00000\.png .* changed"):
        found.locate(0)


def test_metadata_and_columns(tmp_path: Path) -> None:
    found = scan(made.folder(tmp_path / "top"), tmp_path / "out", spec="qwen2_vl", sweep=made.SWEEP, alpha=(1, 2, 3))
    assert found.sweep == tuple(made.SWEEP)
    settings: dict[str, Any] = dict(found.settings)
    assert pp.VisionSpec(**settings["spec"]) == pp.PRESETS["qwen2_vl"]
    assert (settings["alpha"], settings["resample"], settings["dpi"]) == ([1, 2, 3], "torchvision", 144)
    assert settings["sources"] == [str(tmp_path / "top")]
    assert settings["version"] == pp.__version__
    assert {str(field.type) for field in found.rows.schema} == {"string", "int32", "int64", "double"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rows.parquet", "summary.json"]
