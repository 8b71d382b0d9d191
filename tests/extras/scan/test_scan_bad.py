"""Bad sources end a scan with one clear line; a bad image in a good source is a row with an error."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import made
import pixelprune as pp
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image
from pixelprune.cli import main
from pixelprune.scan import scan


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def table(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path / "a.parquet")
    return path / "a.parquet"


def cut(path: Path) -> Path:
    return write(path, path.read_bytes()[: path.stat().st_size // 2])


def empty_folder(path: Path) -> Path:
    (path / "none").mkdir()
    return write(path / "none" / "notes.txt", "x").parent


def folder_of_tables(path: Path) -> Path:
    (path / "tables").mkdir()
    made.structs(path / "tables")
    return path / "tables"


def damaged_data_set(path: Path) -> Path:
    (path / "set").mkdir()
    write(path / "set" / "dataset_info.json", "{}")
    return write(path / "set" / "state.json", "{}").parent


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda p: p / "none", "none: No such file or directory"),
    "glob": (lambda p: p / "*.png", "no file matches"),
    "folder without images": (empty_folder, r"no images; expected files named \*\.png"),
    "folder of tables": (folder_of_tables, r"it holds \.parquet files, which have to be named"),
    "text": (lambda p: write(p / "a.txt", "x"), "not known by its name"),
    "parquet": (lambda p: write(p / "a.parquet", "PAR1"), "damaged, or of another format"),
    "cut parquet": (lambda p: cut(made.structs(p)), "damaged, or of another format"),
    "arrow": (lambda p: write(p / "a.arrow", "ARROW1"), "damaged, or of another format"),
    "table without images": (lambda p: table(p, text=["x"], n=[1]), "columns text, n; none of them holds images"),
    "empty table": (lambda p: table(p, image=pa.array([], pa.binary())), "no images; expected at least one"),
    "saved data set": (damaged_data_set, r"state\.json is damaged"),
    "tsv without header": (lambda p: write(p / "a.tsv", f"0\t{made.TEXTS[0]}\n"), "the header has .* index and image"),
    "tsv of commas": (lambda p: write(p / "a.tsv", "index,image\n"), "'index,image'; expected tab-separated"),
    "tsv with other rows": (
        lambda p: write(p / "a.tsv", "index\timage\n0\n"),
        "line 2 ends a row of 1 cell; expected 2",
    ),
    "tsv without rows": (lambda p: write(p / "a.tsv", "index\timage\n"), "no images"),
    "empty tsv": (lambda p: write(p / "a.tsv", ""), "the header has nothing"),
    "tsv of bytes": (lambda p: write(p / "a.tsv", b"index\timage\n\xff\n"), "not UTF-8"),
    "jsonl": (lambda p: write(p / "a.jsonl", "{}\n[]\n"), "line 2 is not a JSON object"),
    "jsonl without images": (lambda p: write(p / "a.jsonl", '{"messages": []}\n'), "no images; expected lines with"),
    "tar": (lambda p: write(p / "a.tar", "x"), "not a tar file, or a damaged one"),
    "tar.gz": (lambda p: cut(made.packed_tar(p)), "not a tar file, or a damaged one"),
    "pdf": (lambda p: write(p / "a.pdf", "%PDF"), "not a PDF, or a damaged one"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_source_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "pdf":
        pytest.importorskip("pypdfium2")
    make, why = BAD[name]
    source = make(tmp_path)
    assert main(["scan", str(source), "-o", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert line.startswith(f"pixelprune: error: {source}")
    assert re.search(why, line), line


@pytest.mark.parametrize("suffix", ["png", "pdf", "tar"])
def test_what_has_no_columns_is_not_grouped_by_one(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    source = {"png": lambda: write(tmp_path / "a.png", made.FILES[0]), "pdf": lambda: made.pdf(tmp_path)}.get(
        suffix, lambda: made.tar(tmp_path)
    )()
    with pytest.raises(pp.PixelPruneError, match=r"has no columns; expected group_by="):
        scan(source, tmp_path / "out", group_by="category")


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    for source in (made.structs(tmp_path), made.tsv(tmp_path), made.conversations(tmp_path)):
        for how in ({"column": "photo"}, {"group_by": "photo"}):
            with pytest.raises(pp.PixelPruneError, match="photo"):
                scan(source, tmp_path / "out", **how)  # type: ignore[arg-type]


PASSWORD = (
    b"%%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\n"
    b"4 0 obj<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4>>endobj\n"
    b"trailer<</Root 1 0 R/Encrypt 4 0 R/ID[<00><00>]>>" % (b"01" * 32, b"02" * 32)
)


def test_a_pdf_with_a_password(tmp_path: Path) -> None:
    """Named, it ends the scan; in a folder it is a row."""
    pytest.importorskip("pypdfium2")
    (tmp_path / "papers").mkdir()
    secret = write(tmp_path / "papers" / "secret.pdf", PASSWORD)
    made.pdf(tmp_path / "papers")
    with pytest.raises(pp.PixelPruneError, match=r"secret\.pdf: the PDF needs a password"):
        scan(secret, tmp_path / "out")
    rows = scan(tmp_path / "papers", tmp_path / "out", sweep=made.SWEEP).rows.to_pylist()
    assert [row["error"] is None for row in rows] == [True] * 5 + [False]
    assert "password" in rows[-1]["error"]


def test_a_page_of_a_huge_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pypdfium2")
    source = made.pdf(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    [row, *_] = scan(source, tmp_path / "out", sweep=made.SWEEP).rows.to_pylist()
    assert row["error"] == "page 1 has 192 x 128 pixels at 144 dpi; expected at most 2000 in all"


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_a_tar_file_with_a_damaged_header_is_not_read_as_a_shorter_one(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, data in enumerate(made.FILES[:3]):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with tarfile.open(tmp_path / "a.tar") as tar:
        start = tar.getmembers()[2].offset
    whole = (tmp_path / "a.tar").read_bytes()
    part = whole[: start + 300] if damage == "cut" else whole[: start + 100] + b"\xff" * 9 + whole[start + 109 :]
    (tmp_path / "a.tar").write_bytes(part)
    assert main(["scan", str(tmp_path / "a.tar"), "-o", str(tmp_path / "out")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "a.tar: not a tar file, or a damaged one" in line


def bad_images(path: Path) -> dict[str, Path]:
    """Sources of three images, whose second is bad."""
    good = made.FILES[0]
    top = made.folder(path / "top", 3)
    write(top / "even" / "00002.png", b"damaged")
    bad_table = table(path, image=[good, None, made.FILES[1]])
    lines = [{"image": "top/even/00000.png"}, {"image": "https://a.b/c.png"}, {"image": "top/odd/00001.png"}]
    jsonl = write(path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    tsv = write(path / "a.tsv", f"index\timage\n0\t{made.TEXTS[0]}\n1\t!{made.TEXTS[0]}\n2\t{made.TEXTS[1]}\n")
    with tarfile.open(path / "a.tar", "w") as tar:
        for i, data in enumerate([good, b"", made.FILES[1]]):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return {"folder": top, "table": bad_table, "jsonl": jsonl, "tsv": tsv, "tar": path / "a.tar"}


@pytest.mark.parametrize("name", ["folder", "table", "jsonl", "tsv", "tar"])
def test_a_bad_image_is_a_row(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = bad_images(tmp_path)[name]
    assert main(["scan", str(source), "-o", str(tmp_path / "out"), "--sweep", "pred_2d@0,unique@0"]) == 0
    printed = capsys.readouterr()
    assert "not measured: 1" in printed.out
    assert printed.err == ""
    rows = parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert rows[1]["tokens"] is rows[1]["kept:pred_2d@0"] is None
    assert rows[2]["kept:pred_2d@0"] > 0


def test_images_that_are_all_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.png", "text")
    assert main(["scan", str(source), "-o", str(tmp_path / "out")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "no image could be measured" in line


def test_a_broken_link_is_a_row(tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top", 2)
    (top / "even" / "link.png").symlink_to(tmp_path / "none.png")
    errors = scan(top, tmp_path / "out", sweep=made.SWEEP).rows["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, True]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    top = made.folder(tmp_path / "top", 2)
    (top / "again").symlink_to(top)
    assert scan(top, tmp_path / "out", sweep=made.SWEEP).rows.num_rows == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = made.folder(tmp_path / "top", 1)
    tmp_path.chmod(0o500)
    assert main(["scan", str(top), "-o", str(tmp_path / "out")]) == 1
    tmp_path.chmod(0o700)
    assert capsys.readouterr().err == f"pixelprune: error: {tmp_path / 'out'}: Permission denied\n"


def test_an_output_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = made.folder(tmp_path / "top", 1)
    out = write(tmp_path / "out", "x")
    assert main(["scan", str(top), "-o", str(out)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert str(out) in line


def limit_files(size: int, source: str, out: str) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    print(main(["scan", source, "-o", out, "--sweep", ",".join(made.SWEEP)]))


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_disk_that_is_full(tmp_path: Path, run_child: Callable[..., str]) -> None:
    """A file can't grow: as on a full disk, a write fails. What was written before stays, and the scan can go on."""
    top = made.folder(tmp_path / "top", 30)
    printed = run_child(limit_files, 3000, str(top), str(tmp_path / "out")).splitlines()
    assert printed[-1] == "1"
    assert printed[-2].startswith("pixelprune: error: ")
    assert "File too large" in printed[-2]
    assert not list((tmp_path / "out").rglob("*.unfinished"))
    assert scan(top, tmp_path / "out", sweep=made.SWEEP, resume=True).rows.num_rows == 30
