"""The pages that users read, the README and those under docs/, and the code blocks in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = ("README.md", *sorted(page.relative_to(ROOT).as_posix() for page in DOCS.rglob("*.md")))


def read(page: str) -> str:
    """The text of a page, named by its path in the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def languages(page: str) -> list[str]:
    """The language of each code block of a page."""
    return re.findall(r"^```([^\n]*)\n.*?^```$", read(page), re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)


def section(page: str, title: str) -> str:
    """What stands below a heading of the second level, up to the next."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", read(page), re.DOTALL | re.MULTILINE)
    assert found, f"{page} has no section {title!r}"
    return found[1]


def pages_with(language: str) -> list[str]:
    """The pages that have code blocks in a language."""
    found = [page for page in PAGES if blocks(page, language)]
    assert found, f"no page has a {language} block"
    return found
