"""`pixelprune eval` on a model that has learned to read drawn pages: pruning is told from dropping tokens at random."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from pixelprune.cli import main

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # benches is not installed

from benches.accuracy.checkpoint import STORED, stored, write_folder, write_tsv  # noqa: E402

PAGES = 60


def test_the_verdict_tells_pruning_from_random_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(stored(STORED), tmp_path / "reader")
    write_tsv(tmp_path / "pages.tsv", "mixed", PAGES, 4, {"FIND"})
    named = ["--model", tmp_path / "reader", "--data", tmp_path / "pages.tsv", "-o", tmp_path / "out"]
    options = ["--task", "docvqa", "--settings", "pred_2d@0", "--prompt", "{question}", "--margin", "5"]
    capsys.readouterr()
    assert main(["eval", *map(str, named), *options, "--max-new-tokens", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    rows = {
        cells[1]: cells for line in out.splitlines() if len(cells := [part.strip() for part in line.split("|")]) > 3
    }
    scores = {name: float(re.search(r"[0-9.]+", rows[name][2])[0]) for name in ("stock", "pred_2d@0")}  # type: ignore[index]
    assert scores["stock"] > 90
    assert "\nadopt pred_2d at tau 0" in out
    assert float(rows["random:pred_2d@0"][2].split()[0]) < scores["pred_2d@0"] - 20
