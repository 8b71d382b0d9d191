"""The score of MMLongBench-Doc: an answer compared by its format."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import Any

from .rules import Rules
from .text import edit_distance

NOT_ANSWERABLE = "not answerable"
_FORMATS = {"int": "int", "integer": "int", "float": "float", "list": "list", "none": "none"}
_NUMBER = re.compile(r"[-+]?\d*\.?\d+")
_UNITS = (" miles", " mile", " million")
_EXACT = re.compile(
    r"\d+(?:-\d+|\s\d+)?|\d{4}[-\s]\d{2}[-\s]\d{2}|\d{4}[-\s]\d{2}|[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}"
)
"""Numbers of telephones and pages, dates and addresses: right or wrong as a whole."""


def mmlongbench(prediction: str, answer: object, answer_format: str, rules: Rules = "lmms-eval") -> float:
    """Return the score of an answer of MMLongBench-Doc.

    * ``Int``: equal as integers.
    * ``Float``: within 1 %, also if one of the two is a percentage.
    * ``Str``: ANLS, of which 0.5 and less count as 0; links, dates, addresses and the like have to be equal.
    * ``List``: equal length, both sorted; the lowest of the items' scores.
    * ``None``: with lmms-eval's rules the answer has to be "Not answerable".

    lmms-eval scores the model's own words. VLMEvalKit's rules are for the answer that a judge model has extracted from
    them; this function does not ask a judge.

    Args:
        prediction: the model's answer; with VLMEvalKit's rules what the judge has extracted from it.
        answer: the expected answer; a list is text such as ``"['a', 'b']"``.
        answer_format: the row's format.
        rules: whose.

    Example:
        >>> from pixelprune.evaluate.metrics import mmlongbench
        >>> mmlongbench("about 1,204 people", "1204", "Int"), mmlongbench("12.5%", "0.125", "Float")
        (1.0, 1.0)
        >>> mmlongbench("['b', 'a']", "['a', 'b']", "List"), mmlongbench("ab", "ax", "Str")
        (1.0, 0.0)
    """
    if rules == "vlmevalkit":
        try:
            return float(_extracted(prediction, answer, answer_format))
        except Exception:  # as its loop over the rows does
            return 0.0
    form = _FORMATS.get(str(answer_format or "Str").strip().lower(), "str")
    if form in ("int", "float"):
        found, expected = _first_number(prediction), _first_number(answer)
        if found is None or expected is None:
            return 0.0
        return float(int(found) == int(expected) if form == "int" else _is_close(expected, found))
    if form == "list":
        return _of_lists(_items(prediction), _items(answer))
    if form == "none":
        return float(_clean(prediction) == NOT_ANSWERABLE)
    found_text, expected_text = _clean(prediction), _clean(answer)
    if _is_exact(expected_text, links=("https://", "http://"), ends=(".py", ".ipynb")):
        return float(found_text == expected_text)
    return _similarity(found_text, expected_text)


def _of_lists(found: list[str], expected: list[str]) -> float:
    found, expected = sorted(map(_clean, found)), sorted(map(_clean, expected))
    if len(found) != len(expected):
        return 0.0
    if not expected:
        return 1.0
    first = expected[0]
    if _first_number(first) is not None or _is_exact(first, ("https://", "http://"), (".py", ".ipynb")):
        return float(found == expected)
    return min(map(_similarity, found, expected))


def _similarity(found: str, expected: str, length: Callable[[str], int] = len) -> float:
    longest = max(length(found), length(expected))
    score = 1.0 - (edit_distance(found, expected) / longest if longest else 0.0)
    return score if score > 0.5 else 0.0


def _is_exact(text: str, links: tuple[str, ...], ends: tuple[str, ...]) -> bool:
    return (
        any(part in text for part in (*links, "a.m.", "p.m."))
        or text.endswith(ends)
        or text.startswith("page")
        or _EXACT.fullmatch(text) is not None
    )


def _is_close(expected: float, found: float) -> bool:
    for value in (expected / 100, expected, expected * 100):
        digits = max(min(_decimals(found), _decimals(value)), 2)
        if math.isclose(value, found, rel_tol=0.01) or round(found, digits) == round(value, digits):
            return True
    return False


def _decimals(value: float) -> int:
    _, point, digits = str(value).partition(".")
    return len(digits) if point else 3


def _first_number(value: object) -> float | None:
    found = _NUMBER.search(str(value or "").replace(",", ""))
    return float(found[0]) if found else None


def _items(value: object) -> list[str]:
    parsed: Any = value
    if isinstance(value, str):
        try:
            parsed = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            parsed = value
    if isinstance(parsed, list):
        return [str(item) for item in parsed]
    return [] if parsed is None else [str(parsed)]


def _clean(value: object) -> str:
    text = _without_marks(str(value or ""))
    for unit in _UNITS:
        text = text.removesuffix(unit).strip()
    return " ".join(text.split())


def _without_marks(text: str) -> str:
    """Lower case, without parentheses, one quote at either end, a currency and a percent sign."""
    text = re.sub(r"\s*\([^)]*\)", "", text.lower().strip()).strip()
    text = re.sub(r"^['\"]|['\"]$", "", text).strip()
    return text.lstrip("$").strip().rstrip("%").strip()


def _extracted(prediction: Any, answer: Any, answer_format: str) -> float:
    """VLMEvalKit's score of an extracted answer; what its own function raises is raised here too."""
    if answer_format == "Int":
        try:
            return float(int(answer) == int(float(prediction)))
        except (ValueError, TypeError, OverflowError):
            return float(answer == "")
    if answer_format == "Float":
        return float(_is_close(float(_without_marks(str(answer))), float(_without_marks(str(prediction)))))
    if answer_format == "Str":
        found, expected = _without_marks(str(prediction)), _without_marks(str(answer))
        if _is_exact(expected, ("https://",), (".py", "ipynb")):
            return float(found == expected)
        return _similarity(found, expected, lambda text: len(text.upper()))
    lists = [ast.literal_eval(v) if isinstance(v, str) and v.startswith("[") else v for v in (prediction, answer)]
    both = [value if isinstance(value, list) else [value] for value in lists]
    found_items, expected_items = (sorted(_without_marks(str(item)) for item in value) for value in both)
    if len(found_items) != len(expected_items):
        return 0.0
    if _is_float(expected_items[0]) or _is_exact(expected_items[0], ("https://",), (".py", "ipynb")):
        return float("-".join(found_items) == "-".join(expected_items))
    pairs = zip(found_items, expected_items, strict=True)
    return min(_similarity(found, expected, lambda text: len(text.upper())) for found, expected in pairs)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
