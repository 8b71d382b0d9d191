"""TSV files: cells of any length, offsets of rows, and what is refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from pixelprune import PixelPruneError
from pixelprune.files.lines import Lines
from pixelprune.files.tsv import Table, listed, row_at

LONG = "x" * 300_000


def test_rows_are_read_again_from_their_offsets(tmp_path: Path) -> None:
    """Cells with tabs, line ends and quotes, after a mark at the start of the file."""
    path = tmp_path / "a.tsv"
    text = f'index\timage\r\n1\t{LONG}\r\n\r\n"2"\t"a\tb\n""c"""\r\n3\t\u00e4'
    path.write_bytes(text.encode("utf-8-sig"))
    with path.open("rb") as file:
        table = Table(file, "a.tsv")
        rows = list(table)
    assert [row["image"] for _, row in rows] == [LONG, 'a\tb\n"c"', "\u00e4"]
    for offset, row in rows[::-1]:
        assert row_at(path, "a.tsv", table.columns, offset) == row


def test_the_limit_of_the_process_is_set_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    table = Table(io.BytesIO(f"a\tb\n1\t{LONG}\n1\n".encode()), "a.tsv")
    assert csv.field_size_limit() == before
    rows = iter(table)
    next(rows)
    assert csv.field_size_limit() == before
    with pytest.raises(PixelPruneError, match=r"a\.tsv: line 3 ends a row of 1 cell; expected 2, as in the header"):
        next(rows)
    assert csv.field_size_limit() == before


def test_a_file_that_has_become_shorter(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"a\tb\n")
    with pytest.raises(PixelPruneError, match=r"a\.tsv has no row at byte 8 any more"):
        row_at(path, "a.tsv", ["a", "b"], 8)


def test_lines_that_are_not_text_are_counted() -> None:
    lines = Lines(io.BytesIO(b"a\nb\n\xff\n"), "a.txt")
    with pytest.raises(PixelPruneError, match=r"a\.txt: line 3 is not UTF-8"):
        list(lines)


@pytest.mark.parametrize(
    ("cell", "items"),
    [("['a', \"b\"]", ["a", "b"]), ("[1, 2.5]", ["1", "2.5"]), ("[]", []), ("[a]", ["[a]"]), ("('a',)", ["('a',)"])],
)
def test_lists_written_as_text(cell: str, items: list[str]) -> None:
    assert listed(cell) == items
