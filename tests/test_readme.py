"""What the README alone promises; its code, consoles and links are tested with those of the other pages."""

from __future__ import annotations

import re

from pages import read

README = read("README.md")


def rows(text: str) -> set[str]:
    """The rows of the tables in a text, without padding."""
    found = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return {"|".join(cell.strip() for cell in row.split("|")) for row in found}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_figures_are_those_of_the_performance_page() -> None:
    """The benchmarks write the tables of that page; the README repeats some of their rows."""
    shown = {row for row in rows(README) if re.search(r"\d (x|ms|s|MB)\b", row)}
    assert len(shown) > 10
    measured = {row for row in rows(read("docs/performance.md"))}
    assert shown - measured == set()


def test_the_readme_links_to_every_guide() -> None:
    guides = set(re.findall(r": ([\w-]+\.md)$", read("mkdocs.yml"), re.MULTILINE)) - {"index.md"}
    assert guides <= set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README))
