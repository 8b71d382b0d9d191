"""The option that an answer to a multiple-choice question names."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from .rules import Rules

_LETTER = re.compile(r"\s*([A-Z])\.")
_STATED = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NO_ANSWER = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
"""What VLMEvalKit takes for an answer that names no option."""

NO_OPTION = "Z"
"""The letter of an answer that names no option."""


def option(prediction: str, options: Mapping[str, str], answer: str, rules: Rules = "lmms-eval") -> float:
    """Return 1 if an answer names the right option (AI2D).

    lmms-eval takes the letter from an answer that begins with one and a full stop. Any other answer has to be the
    letter alone, but for case and punctuation. VLMEvalKit, without a judge, looks for one letter among the last five
    words, for "answer is B", or for the text of exactly one option.

    Args:
        prediction: the model's answer.
        options: the texts of the options by letter.
        answer: the right letter.
        rules: whose.

    Example:
        >>> from pixelprune.evaluate.metrics import option
        >>> options = {"A": "leaf", "B": "root"}
        >>> option("B. root", options, "B"), option("It is the root", options, "B")
        (1.0, 0.0)
        >>> option("It is the root", options, "B", "vlmevalkit")
        1.0
    """
    if rules == "lmms-eval":
        found = _LETTER.match(prediction)
        named = found[1] if found else prediction
        return float(_bare(named) == _bare(answer))
    return float((_letter(prediction, options) or _quoted(prediction, options) or NO_OPTION) == answer)


def _bare(text: str) -> str:
    # numpy, which lmms-eval compares with, does not see trailing NUL characters.
    return text.lower().translate(_PUNCTUATION).rstrip("\0")


def _letter(prediction: str, options: Mapping[str, str]) -> str | None:
    if _NO_ANSWER in prediction:
        return None
    if any(text in prediction for text in _REFUSALS):
        return NO_OPTION
    words = prediction.translate(_MARKS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    if not named and NO_OPTION in words:
        return NO_OPTION
    stated = _STATED.search(prediction)
    return stated[1].upper() if stated and stated[1].upper() in options else None


def _quoted(prediction: str, options: Mapping[str, str]) -> str | None:
    text = prediction.lower()
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, content in options.items() if content.lower() in text]
    return named[0] if len(named) == 1 else None
