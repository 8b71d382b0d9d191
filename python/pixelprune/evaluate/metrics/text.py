"""Metrics of short answers: ANLS, relaxed accuracy, and text that has to occur in the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .rules import Rules

ANLS_LEAST = 0.5
"""Answers less similar than this score 0."""
TOLERANCE = 0.05
"""The largest relative error of a number that counts as right."""

# The characters of full width, and the ASCII that lmms-eval takes them for.
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def edit_distance(first: str, second: str) -> int:
    """Return how many characters have to be inserted, deleted or replaced to make one text the other.

    Example:
        >>> from pixelprune.evaluate.metrics.text import edit_distance
        >>> edit_distance("kitten", "sitting")
        3
    """
    above = list(range(len(second) + 1))
    for row, letter in enumerate(first, 1):
        current = [row]
        for column, other in enumerate(second):
            current.append(min(above[column] + (letter != other), above[column + 1] + 1, current[column] + 1))
        above = current
    return above[-1]


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Return the normalised similarity of an answer to the best of the expected ones (DocVQA, InfographicVQA).

    The distance ignores case and the amount of space. It is divided by the length of the longer text as it stands.
    Below 0.5 the score is 0. Both harnesses have the same rule.

    Args:
        prediction: the model's answer.
        answers: the expected answers, at least one.

    Example:
        >>> from pixelprune.evaluate.metrics import anls
        >>> anls("Total: 12", ["total: 12", "12"]), anls("ab", ["ax"]), anls("a", ["xyz"])
        (1.0, 0.5, 0.0)
    """
    apart = []
    found = " ".join(prediction.strip().lower().split())
    for answer in answers:
        expected = " ".join(answer.strip().lower().split())
        longest = max(len(answer.upper()), len(prediction.upper()))
        apart.append(edit_distance(expected, found) / longest if longest else 0.0)
    score = 1 - min(apart)
    return score if score >= ANLS_LEAST else 0.0


def relaxed_accuracy(prediction: str, answers: Sequence[str], rules: Rules = "lmms-eval") -> float:
    """Return 1 if a number is within 5 % of an expected one, or a text is equal to it but for case (ChartQA).

    A number that ends in ``%`` is divided by 100. ``1,000`` is no number. A target of 0 has to be met as text.

    Args:
        prediction: the model's answer. VLMEvalKit strips it, lmms-eval does not.
        answers: the expected answers, at least one.
        rules: whose.

    Example:
        >>> from pixelprune.evaluate.metrics import relaxed_accuracy
        >>> relaxed_accuracy("105", ["100"]), relaxed_accuracy("5", ["5%"])
        (1.0, 0.0)
        >>> relaxed_accuracy(" Yes", ["yes"]), relaxed_accuracy(" Yes", ["yes"], "vlmevalkit")
        (0.0, 1.0)
    """
    text = prediction.strip() if rules == "vlmevalkit" else prediction
    return float(any(_is_near(text, answer) for answer in answers))


def _is_near(prediction: str, target: str) -> bool:
    found, expected = _number(prediction), _number(target)
    if found is None or not expected:
        return prediction.lower() == target.lower()
    return abs(found - expected) / abs(expected) <= TOLERANCE


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def contains(prediction: str, answers: Iterable[str], rules: Rules = "lmms-eval", *, formula: bool = False) -> float:
    """Return 1 if one of the expected answers occurs in the model's (OCRBench).

    Case is ignored, and line ends are spaces. lmms-eval also takes full-width characters for their ASCII forms.

    Args:
        prediction: the model's answer.
        answers: the expected answers.
        rules: whose.
        formula: the question is of HME100k, the handwritten formulas: case counts, and spaces do not.

    Example:
        >>> from pixelprune.evaluate.metrics import contains
        >>> contains("It says STOP.", ["stop"]), contains("x ^ 2", ["x^2"]), contains("x ^ 2", ["x^2"], formula=True)
        (1.0, 0.0, 1.0)
    """

    def plain(text: str) -> str:
        if formula:
            return text.strip().replace("\n", " ").replace(" ", "")
        if rules == "lmms-eval":
            text = text.translate(_NARROW)
        return text.lower().strip().replace("\n", " ")

    found = plain(prediction.strip() if rules == "lmms-eval" else prediction)
    return float(any(plain(answer) in found for answer in answers))
