"""The file of answers: what is written is read again, also after a crash, and never mixed with something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pixelprune import PixelPruneError
from pixelprune.evaluate import Answer, AnswerFile

WHOLE = Answer("zwölf\n\ud83d", ((4, 3),), (7, 5), ((32, 64),), 12, 0.5, 1.5, 1 << 40, False)
MADE_WITH = {"task": "docvqa", "seed": 0, "models": ["a"]}


def write(path: Path, *answers: tuple[str, str, Answer], made_with: dict[str, Any] = MADE_WITH) -> None:
    with AnswerFile(path, made_with) as file:
        for answer in answers:
            file.add(*answer)


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, ("1", "stock", WHOLE), ("1", "pred_2d@0", Answer("b")))
    write(path, ("2", "stock", Answer("c")))
    with AnswerFile(path, MADE_WITH) as file:
        assert len(file) == 3
        assert file["1", "stock"] == WHOLE
        assert ("2", "stock") in file
        assert ("2", "pred_2d@0") not in file
    assert len(path.read_bytes().splitlines()) == 4


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_is_dropped_and_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, ("1", "stock", WHOLE))
    whole = path.read_bytes()
    write(path, ("2", "stock", Answer("b")))
    path.write_bytes(path.read_bytes()[:-cut])
    with AnswerFile(path, MADE_WITH) as file:
        assert list(file) == [("1", "stock")]
        assert path.read_bytes() == whole
        file.add("2", "stock", Answer("c"))
    with AnswerFile(path, MADE_WITH) as file:
        assert file["2", "stock"].text == "c"


def test_a_header_that_was_cut_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"pixelprune_ev')
    write(path, ("1", "stock", WHOLE))
    assert json.loads(path.read_bytes().splitlines()[0])["pixelprune_eval"] == MADE_WITH


def test_each_answer_is_on_disk_before_the_next(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "answers.jsonl", MADE_WITH) as file:
        file.add("1", "stock", WHOLE)
        assert len((tmp_path / "answers.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("made_with", "reason"),
    [
        ({**MADE_WITH, "seed": 1}, "made with seed 0; now it is 1"),
        ({**MADE_WITH, "new": 1}, "made with new None; now it is 1"),
        ({"task": "docvqa", "models": ["a"]}, "made with seed 0; now it is None"),
        ({**MADE_WITH, "models": ("b",)}, "made with models"),
    ],
)
def test_answers_of_something_else_are_refused(tmp_path: Path, made_with: dict[str, Any], reason: str) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, ("1", "stock", WHOLE))
    before = path.read_bytes()
    with pytest.raises(PixelPruneError, match=reason):
        AnswerFile(path, made_with)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["{}\n", "text\n", "[]\n", '{"pixelprune_eval": 1}\n'])
def test_other_files_are_refused_and_not_touched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text)
    with pytest.raises(PixelPruneError, match="line 1 is no answer"):
        AnswerFile(path, MADE_WITH)
    assert path.read_text() == text


def test_a_damaged_line_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write(path, ("1", "stock", WHOLE), ("2", "stock", WHOLE))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(PixelPruneError, match="line 2 is no answer"):
        AnswerFile(path, MADE_WITH)
