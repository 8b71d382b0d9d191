"""The README says what is true: its code runs, its console shows what is printed, its tables are complete."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import get_args

import pixelprune as pp
import pytest
from pixelprune import cli
from pixelprune.settings import MethodName, Metric

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found, f"the README has no {language} block"
    return found


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"the README has no section {title!r}"
    return found[1]


def test_python_prints_what_its_comments_say() -> None:
    code = "\n".join(blocks("python"))
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert code.count("print(") == len(expected)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().splitlines() == expected


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+ ms", "... ms", text)


def test_console_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks("console"):
        assert block.startswith("$ pixelprune ")
        for session in block.split("$ pixelprune ")[1:]:
            command, _, output = session.partition("\n")
            assert cli.main(shlex.split(command)) == 0
            assert without_times(capsys.readouterr().out) == without_times(output)


@pytest.mark.parametrize(
    ("title", "names"),
    [("Methods", get_args(MethodName)), ("Metrics and threshold", get_args(Metric))],
)
def test_tables_list_every_choice(title: str, names: tuple[str, ...]) -> None:
    assert tuple(re.findall(r'^\| `"(\w+)"`', section(title), re.MULTILINE)) == names


def test_the_api_table_names_everything_public() -> None:
    words = set(re.findall(r"\w+", section("API")))
    unnamed = {"Analysis", "Verification", "PixelPruneError", "PixelPruneWarning", "__version__"}
    assert set(pp.__all__) - unnamed <= words
    presets = re.search(r"`PRESETS`: ([^|]*) \|", section("API"))
    assert presets
    assert re.findall(r"`(\w+)`", presets[1]) == list(pp.PRESETS)


def test_links_and_named_paths_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    links += re.findall(r"`((?:tests|rust|benches)/[\w/.-]*)`", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
