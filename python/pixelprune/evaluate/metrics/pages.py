"""The checks of olmOCR-bench: what the text of a page has to contain, or must not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from ...arguments import shown
from ...errors import PixelPruneError
from ..requirements import need
from .tables import BrokenTableError, Table, tables_of

KINDS = ("present", "absent", "order", "table", "math", "format", "footnote", "baseline")
MATH = "formulas (type math) are compared as KaTeX renders them, which needs a browser"
"""Why checks of type ``math`` are not scored."""

_MARKS = [
    (r"<br/?>", " "),
    (r"\*\*(.*?)\*\*", r"\1"),
    (r"__(.*?)__", r"\1"),
    (r"</?[bi]>", ""),
    (r"(\*\*|__)(.*?)\1", r"\2"),
    (r"(\*|_)(.*?)\1", r"\2"),
    (r"\s+", " "),
]
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a", "'"),
        **dict.fromkeys("\u201c\u201d\u201e", '"'),
        **dict.fromkeys("\u2013\u2014\u2011\u2012\u2212", "-"),
        "\uff3f": "_",
        "\u00b5": "\u03bc",
    }
)
_FORMATS = {
    "heading": [(r"^#{1,6}\s+(.+?)$", re.MULTILINE), (r"<h[1-6][^>]*>(.*?)</h[1-6]>", re.IGNORECASE | re.DOTALL)],
    "bold": [
        (r"\*\*(.*?)\*\*", re.DOTALL),
        (r"__(.*?)__", re.DOTALL),
        (r"<b[^>]*>(.*?)</b>", re.IGNORECASE | re.DOTALL),
        (r"<strong[^>]*>(.*?)</strong>", re.IGNORECASE | re.DOTALL),
    ],
    "italic": [
        (r"(?<!\*)\*(?!\*)(.*?)(?<!\*)\*(?!\*)", re.DOTALL),
        (r"(?<!_)_(?!_)(.*?)(?<!_)_(?!_)", re.DOTALL),
        (r"<i[^>]*>(.*?)</i>", re.IGNORECASE | re.DOTALL),
        (r"<em[^>]*>(.*?)</em>", re.IGNORECASE | re.DOTALL),
    ],
}
_FOREIGN = re.compile(
    "[\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff"
    "\U0001f1e0-\U0001f1ff]"
)
_SUPERSCRIPTS = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
_AROUND = 200
"""Characters before and after the marker of a footnote that are looked at."""


def check(test: Mapping[str, Any], page: str) -> float | None:
    """Return 1 if a page passes a check of olmOCR-bench, 0 if not, or None: checks of type ``math`` are not scored.

    Needs the extra ``eval``.

    Args:
        test: a line of one of its JSONL files.
        page: the model's answer, the page as Markdown.

    Raises:
        PixelPruneError: the check is of an unknown type, or lacks a field.
        ImportError: a package that compares texts is missing.

    Example:
        >>> from pixelprune.evaluate.metrics.pages import check
        >>> check({"type": "baseline"}, "some text"), check({"type": "baseline"}, "so on" + "." * 40)
        (1.0, 0.0)
    """
    kind = test.get("type")
    if kind not in KINDS:
        raise PixelPruneError(f"the check has type {shown(kind)}; expected one of {', '.join(KINDS)}")
    if kind == "math":
        return None
    try:
        return float(_CHECKS[kind](test, page))
    except KeyError as error:
        raise PixelPruneError(f"the check of type {kind} has no field {error}") from None


def plain(text: str) -> str:
    """Return a text without marks of Markdown, with single spaces and plain quotes and dashes.

    Args:
        text: any text.

    Example:
        >>> from pixelprune.evaluate.metrics.pages import plain
        >>> plain("**Total**  is <b>12</b>")
        'Total is 12'
    """
    for pattern, by in _MARKS:
        text = re.sub(pattern, by, text)
    return unicodedata.normalize("NFC", text).translate(_PLAIN)


def _fuzz() -> Any:
    return need("rapidfuzz", "olmocr").fuzz


def _least(test: Mapping[str, Any], text: str) -> float:
    return 1.0 - int(test.get("max_diffs", 0)) / max(len(text), 1)


def _occurs(test: Mapping[str, Any], page: str) -> bool:
    text, page = plain(test["text"]), plain(page)
    if not test.get("case_sensitive", True):
        text, page = text.lower(), page.lower()
    first, last = int(test.get("first_n") or 0), int(test.get("last_n") or 0)
    if first and last:
        page = page[:first] + page[-last:]
    elif first or last:
        page = page[:first] if first else page[-last:]
    found: bool = _fuzz().partial_ratio(text, page) / 100.0 >= _least(test, text)
    return found is (test["type"] == "present")


def _in_order(test: Mapping[str, Any], page: str) -> bool:
    search = need("fuzzysearch", "olmocr").find_near_matches
    page, most = plain(page), int(test.get("max_diffs", 0))
    before, after = (
        [match.start for match in search(plain(test[name]), page, max_l_dist=most)] for name in ("before", "after")
    )
    return bool(before and after) and min(before) < max(after)


def _is_formatted(test: Mapping[str, Any], page: str) -> bool:
    text = plain(test["text"])
    found = (plain(part) for pattern, flags in _FORMATS[test["format"]] for part in re.findall(pattern, page, flags))
    if not test.get("case_sensitive", True):
        text, found = text.lower(), (part.lower() for part in found)
    return any(_fuzz().partial_ratio(text, part) / 100.0 >= _least(test, text) for part in found)


def _is_in_a_table(test: Mapping[str, Any], page: str) -> bool:
    wanted = {name: plain(test.get(name) or "") for name in ("up", "down", "left", "right")}
    headings = {side: plain(test.get(f"{name}_heading") or "") for side, name in (("up", "top"), ("left", "left"))}
    text = plain(test["cell"])
    try:
        tables = list(tables_of(page, markdown=not test.get("ignore_markdown_tables", False)))
    except BrokenTableError:
        return False

    def like(cells: Iterable[int], table: Table, text: str) -> bool:
        least = max(0.5, _least(test, text))
        return any(_fuzz().ratio(text, plain(table.cells[cell].text)) / 100.0 >= least for cell in cells)

    return any(
        like([cell], table, text)
        and all(like(table.beside(cell, side), table, near) for side, near in wanted.items() if near)
        and all(like(table.headings(cell, side), table, near) for side, near in headings.items() if near)
        for table in tables
        for cell in range(len(table.cells))
    )


def _has_footnote(test: Mapping[str, Any], page: str) -> bool:
    marker = test["marker"]
    forms = [rf"\[\^{re.escape(marker)}\](?!:)", rf"(?i:<sup[^>]*>{re.escape(marker)}</sup>)"]
    if set(marker) <= set("0123456789"):
        forms.append(re.escape(marker.translate(_SUPERSCRIPTS)))
    places = [match.span() for form in forms for match in re.finditer(form, page)]

    def near(name: str, cut: Any) -> bool:
        if not test.get(name):
            return True
        text = plain(test[name])
        least, letters = _least(test, text), _letters(text)
        around = (cut(_letters(part), 2 * len(letters)) for part in texts[name])
        return any(part and _fuzz().partial_ratio(letters, part) / 100.0 >= least for part in around)

    texts = {
        "appears_before_marker": [page[max(0, start - _AROUND) : start] for start, _ in places],
        "appears_after_marker": [page[end : end + _AROUND] for _, end in places],
    }
    return (
        bool(places)
        and near("appears_before_marker", lambda part, length: part[-length:] if length else part)
        and near("appears_after_marker", lambda part, length: part[:length] if length else part)
    )


def _letters(text: str) -> str:
    return "".join(letter for letter in plain(text) if letter.isalnum()).lower()


def _is_sound(test: Mapping[str, Any], page: str) -> bool:
    most = test.get("max_length")
    if most is not None:  # a page that is to be blank
        shown_text = re.sub(r"!\[.*?\]\(.*?\)", "", page) if test.get("max_length_skips_image_alt_tags") else page
        return sum(letter.isalnum() for letter in shown_text) <= int(most)
    if not any(letter.isalnum() for letter in page):
        return False
    if max(_repeats(page, size) for size in range(1, 6)) > test.get("max_repeats", 30):
        return False
    return not (test.get("check_disallowed_characters", True) and _FOREIGN.search(page))


def _repeats(page: str, size: int) -> int:
    """How often the last characters of a page stand one after another at its end."""
    text = re.sub(r"\s+", " ", page)
    count = 0
    while len(text) >= (count + 1) * size and text.endswith(text[len(text) - size :] * (count + 1)):
        count += 1
    return count


_CHECKS = {
    "present": _occurs,
    "absent": _occurs,
    "order": _in_order,
    "table": _is_in_a_table,
    "format": _is_formatted,
    "footnote": _has_footnote,
    "baseline": _is_sound,
}
