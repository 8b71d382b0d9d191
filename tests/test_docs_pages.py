"""The README and the pages under docs/ say what is true: code runs, consoles show what is printed, links work.

What becomes of a code block follows from its language. `python` runs here and prints what its comments say. `py` needs
torch and transformers and runs in tests/frameworks/hf/test_docs.py. `console` is a session with the command line. `sh`
are commands for a clone. `diff` and `text` are only shown.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import shlex
from pathlib import Path

import pixelprune as pp
import pytest
from pages import DOCS, PAGES, ROOT, blocks, languages, pages_with, read, section
from pixelprune import reference
from pixelprune.cli import main

API = "docs/api/index.md"
NEEDED = {"docs/scan.md": "pyarrow", "docs/ray.md": "ray"}
"""Pages whose code needs a package beside numpy and Pillow."""


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_have_a_known_language(page: str) -> None:
    text = read(page)
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(languages(page)), "an indented or open block"
    assert set(languages(page)) <= {"python", "py", "console", "sh", "diff", "text"}


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray")  # of Ray, about its own settings
@pytest.mark.parametrize("page", pages_with("python"))
def test_python_prints_what_its_comments_say(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(NEEDED.get(page, "numpy"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not a cluster that happens to run here
    code = "\n".join(blocks(page, "python"))
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert code.count("print(") == len(expected)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), {})
    assert printed.getvalue().splitlines() == expected


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+ ms", "... ms", text)


@pytest.mark.parametrize("page", pages_with("console"))
def test_console_prints_what_it_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(NEEDED.get(page, "numpy"))
    (tmp_path / "pages").mkdir()  # its name is the kind of the images in it
    monkeypatch.chdir(tmp_path / "pages")
    for block in blocks(page, "console"):
        assert block.startswith("$ pixelprune ")
        for session in block.split("$ pixelprune ")[1:]:
            command, _, output = session.partition("\n")
            assert main(shlex.split(command)) == 0
            assert without_times(capsys.readouterr().out) == without_times(output)


@pytest.mark.parametrize("page", pages_with("sh"))
def test_shell_blocks_name_what_there_is(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They install things, so they do not run; their commands, options and targets exist."""
    targets = re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE)
    for command in re.split(r"\n|&&", "".join(blocks(page, "sh")).strip()):
        words = shlex.split(command, comments=True)
        program = Path(words[0]).name if words else ""
        if program == "make":
            assert words[1] in targets
        elif program == "pixelprune":
            assert main([words[1], "--help"]) == 0
        else:
            assert program in ("", "pip", "python3"), command
    capsys.readouterr()


def anchors(page: Path) -> set[str]:
    """What a link may name on a page: its headings, and the objects that the API reference documents."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^::: (\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_paths_exist(page: str) -> None:
    here, text = (ROOT / page).parent, read(page)
    for link in re.findall(r'\]\(([^):]+)\)|(?:src|href)="([^":]+)"', text):
        path, _, anchor = "".join(link).partition("#")
        target = here / path if path else ROOT / page
        assert target.exists(), link
        if page != "README.md":
            assert DOCS in target.parents, f"{link} leads out of the documentation"
        assert not anchor or anchor in anchors(target), link
    named = re.findall(r"`((?:tests|rust|benches|examples|python|docs)/[\w/.-]*)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_images_are_small(page: str) -> None:
    for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", read(page)):
        assert ((ROOT / page).parent / link).stat().st_size < 300_000


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r": (\S+\.md)$", read("mkdocs.yml"), re.MULTILINE)
    assert sorted(f"docs/{page}" for page in listed) == sorted(set(PAGES) - {"README.md"})


@pytest.mark.parametrize(
    ("title", "names"),
    [("Methods", (*reference.METHODS, *reference.BASELINES)), ("Metrics and threshold", reference.METRICS)],
)
def test_tables_list_every_choice(title: str, names: tuple[str, ...]) -> None:
    text = section("docs/methods.md", title)
    assert sorted(re.findall(r'^\| `"(\w+)"`', text, re.MULTILINE)) == sorted(names)


def test_the_options_of_preprocess_are_its_arguments() -> None:
    named = re.findall(r"^\| `(\w+)`", section("docs/preprocessing.md", "Options"), re.MULTILINE)
    assert named
    assert set(named) <= set(inspect.signature(pp.preprocess).parameters)


@pytest.mark.parametrize("folder", ["rust/pixelprune/src/", "python/pixelprune/"])
def test_the_map_names_what_there_is(folder: str) -> None:
    table = section("docs/inside.md", "The map").split(f"| in `{folder}` |")[1].split("\n\n")[0]
    names = [
        name for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)
    ]
    assert names
    assert [name for name in names if not list((ROOT / folder).rglob(name))] == []


def test_the_api_reference_documents_everything_public() -> None:
    documented = re.findall(r"^::: pixelprune\.(\w+)$", read(API), re.MULTILINE)
    assert sorted(documented) == sorted(set(pp.__all__) - {"PRESETS", "__version__"})
    words = set(re.findall(r"\w+", section(API, "Overview")))
    unnamed = {"Analysis", "Verification", "PixelPruneError", "PixelPruneWarning", "__version__"}
    assert set(pp.__all__) - unnamed <= words
    presets = re.search(r"`PRESETS`: ([^|]*) \|", section(API, "Overview"))
    assert presets
    assert re.findall(r"`(\w+)`", presets[1]) == list(pp.PRESETS)


@pytest.mark.parametrize("module", ["evaluate", "plan", "ray", "reference", "scan"])
def test_the_api_reference_documents_submodules(module: str) -> None:
    documented = re.findall(rf"^::: pixelprune\.{module}\.(\w+)$", read(f"docs/api/{module}.md"), re.MULTILINE)
    namespace = __import__(f"pixelprune.{module}", fromlist=["__all__"])
    assert sorted(documented) == sorted(name for name in namespace.__all__ if not name.isupper())
