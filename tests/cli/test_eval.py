"""``pixelprune eval``: a whole run against a server, and one line for what can't be done."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from pixelprune.cli import main
from servers import completion, served

COUNT = 40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pages with a number of black squares, whose count is asked for."""
    lines = ["index\timage\tquestion\tanswer"]
    for i in range(COUNT):
        page = Image.new("RGB", (320, 320), "white")
        for at in range(i % 7 + 1):
            ImageDraw.Draw(page).rectangle((40 * at, 100, 40 * at + 20, 120), fill=(0, 0, i))
        buffer = io.BytesIO()
        page.save(buffer, "PNG")
        lines.append(f"{i}\t{base64.b64encode(buffer.getvalue()).decode()}\tHow many?\t{i % 7 + 1}")
    (tmp_path / "pages.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "pages.tsv"


def sees(images: list[Image.Image], _: str) -> dict[str, Any]:
    """Counts squares on whole pages only."""
    [image] = images
    dark = [image.getpixel((40 * at + 10, 110))[0] < 128 for at in range(8)] if image.width == 320 else [True] * 8  # type: ignore[index]
    return completion(str(sum(dark)), image.width * image.height // 1024 + 10)


def run(*words: object) -> int:
    return main(["eval", *map(str, words)])


def test_an_endpoint(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(sees) as server:
        words = ("--endpoint", server.url, "--data", data, "--task", "chartqa", "--settings", "pred_2d@0")
        assert run(*words, "-o", tmp_path / "out") == 0
        printed = capsys.readouterr().out
        assert run(*words, "-o", tmp_path / "out", "--json") == 0
        again = json.loads(capsys.readouterr().out)
    assert len(server.bodies) == 2 * COUNT, "the second run asked again"
    assert printed.startswith(f"{server.url}, rules of lmms-eval\n\n| chartqa, relaxed accuracy |")
    assert re.search(r"^\| stock +\| +100\.0 \|", printed, re.MULTILINE)
    assert re.search(
        r"^\| shrunk:pred_2d@0 +\| +0\.0 \| -100\.0 \[-100\.0, -100\.0\] \|.*do not adopt \|$", printed, re.MULTILINE
    )
    assert "40 questions about 40 images, 40 scores each" in printed
    assert "\nshrinking to the tokens of pred_2d@0: do not adopt pred_2d at tau 0: -100.0 points" in printed
    assert printed.endswith(f"answers and report: {tmp_path / 'out'}\n")
    assert [line["score"] for line in again["lines"]] == [100, 0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answers.jsonl", "report.md", "summary.json"]


def test_a_second_endpoint_prunes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(sees) as stock, served(lambda *_: completion("1", 5)) as pruned:
        words = ("--endpoint", stock.url, "--pruned-endpoint", pruned.url, "--settings", "pred_2d@0.02")
        assert run(*words, "--data", data, "--task", "chartqa", "-o", tmp_path / "out", "--baselines", "none") == 0
    printed = capsys.readouterr().out
    assert "do not adopt pred_2d at tau 0.02: -85.0 points" in printed
    assert "22.0x fewer tokens" in printed


def test_a_limit(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(sees) as server:
        words = ("--endpoint", server.url, "--data", data, "--task", "chartqa", "-o", tmp_path, "--baselines", "none")
        assert run(*words, "--limit", 5) == 0
    assert len(server.bodies) == 5
    assert "no verdict: only the stock model was asked, which scores 100.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "expected either --model DIR or --endpoint URL"),
        (["--model", "m", "--endpoint", "http://x"], "expected either --model DIR or --endpoint URL"),
        (["--model", "m", "--pruned-endpoint", "http://x"], "--pruned-endpoint belongs to --endpoint"),
        (["--model", "m", "--spec", "qwen2_vl"], "--spec belongs to --endpoint"),
        (["--endpoint", "http://x", "--max-pixels", "4096"], "--max-pixels belongs to --model"),
        (["--endpoint", "http://x", "--dtype", "float32"], "--dtype belongs to --model"),
        (["--endpoint", "x"], "'x' is no address; expected one like http://localhost:8000/v1"),
        (["--endpoint", "http://x", "--spec", "llava"], "--spec is 'llava'"),
        (["--model", "m"], "m has no config.json; expected the folder of a checkpoint"),
        (["--model", "m", "--settings", "magic"], "'magic' names no settings"),
        (["--model", "m", "--baselines", "blurred"], "'blurred' is no baseline; expected random, shrunk"),
        (["--model", "m", "--limit", "0"], "--limit is 0; expected at least 1"),
        (["--model", "m", "--max-new-tokens", "-1"], "--max-new-tokens is -1; expected at least 1"),
        (["--model", "m", "--margin", "0"], "--margin is 0; expected more than 0"),
        (["--model", "m", "--margin", "nan"], "--margin is nan; expected more than 0"),
        (["--model", "m", "--dpi", "0"], "--dpi is 0; expected from 10 to 1200"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--data", "no.tsv", "--task", "docvqa", *words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pixelprune: error: ")
    assert reason in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--task", "docvqa", "--data", "no.tsv"], "no.tsv does not exist"),
        (["--task", "docvqa", "--data", "pages.tsv", "--prompt", "What?"], "expected {question} in it"),
        (["--task", "docvqa", "--data", "pages.tsv", "--baselines", "random"], "random tokens can't be asked of"),
        (["--task", "ai2d", "--data", "pages.tsv"], "has no options or A; ai2d needs it"),
        (["--task", "screenspot", "--data", "pages.tsv"], "screenspot needs --points: what the coordinates in"),
        (["--task", "docvqa", "--data", "pages.tsv", "-o", "pages.tsv"], "pages.tsv: File exists"),
    ],
)
def test_bad_data_is_one_line(
    words: list[str], reason: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data.parent)
    with served(sees) as server:
        assert run("--endpoint", server.url, *words) == 1
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
    assert server.bodies == []


def test_a_server_that_fails_leaves_the_answers_that_are_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(images: list[Image.Image], prompt: str) -> Any:
        return sees(images, prompt) if len(server.bodies) != 11 else (503, "busy")

    with served(reply) as server:
        words = ("--endpoint", server.url, "--data", data, "--task", "chartqa", "-o", tmp_path / "out")
        assert run(*words, "--baselines", "none") == 1
        assert "answers 503: busy" in capsys.readouterr().err
        assert run(*words, "--baselines", "none") == 0
    assert len(server.bodies) == COUNT + 1
