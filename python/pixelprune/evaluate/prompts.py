"""What the model is asked: the harnesses' prompts, and our own where theirs ask for coordinates that a model lacks."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import PixelPruneError
from .files.tsv import texts
from .metrics.points import Points
from .metrics.rules import Rules
from .rows import Blob, Row, file_blob

_SCALES: dict[Points, str] = {
    "harness": "fractions of the width and the height of the image, from 0 to 1",
    "thousand": "thousandths of the width and the height of the image, integers from 0 to 1000",
    "seen": "pixels of the image",
}


def bare(fields: Mapping[str, Any], rules: Rules, _: Points) -> str:
    """The question alone."""
    return str(fields["question"]).strip() if rules == "lmms-eval" else str(fields["question"])


def short(fields: Mapping[str, Any], _: Rules, __: Points) -> str:
    """A question with a short answer."""
    return f"{fields['question']}\nAnswer the question using a single word or phrase."


def word(fields: Mapping[str, Any], rules: Rules, points: Points) -> str:
    """A question whose answer is a word; VLMEvalKit asks for a word or phrase."""
    if rules == "vlmevalkit":
        return short(fields, rules, points)
    return f"{fields['question']}\nAnswer the question with a single word."


def choice(fields: Mapping[str, Any], rules: Rules, _: Points) -> str:
    """A question with options."""
    lines = "\n".join(f"{letter}. {text}" for letter, text in options(fields).items())
    if rules == "lmms-eval":
        return f"{fields['question']}\n{lines}\nAnswer with the option's letter from the given choices directly."
    hint = f"Hint: {fields['hint']}\n" if "hint" in fields else ""
    ask = "Please select the correct answer from the options above. \n"
    return f"{hint}Question: {fields['question']}\nOptions:\n{lines}\n{ask}"


def options(fields: Mapping[str, Any]) -> dict[str, str]:
    """The options by letter: the columns A, B, ... of a TSV, or the list of a parquet file."""
    if "options" in fields:
        return dict(zip(string.ascii_uppercase, texts(fields["options"]), strict=False))
    return {letter: str(fields[letter]) for letter in string.ascii_uppercase if letter in fields}


def right_option(fields: Mapping[str, Any]) -> str:
    """The letter of the right option; parquet files have its number, from 0."""
    answer = str(fields["answer"])
    return string.ascii_uppercase[int(answer)] if "options" in fields and answer.isdecimal() else answer


def document(fields: Mapping[str, Any], _: Rules, __: Points) -> str:
    """A question about pages of a document."""
    ask = "Answer with a single word or phrase. If the answer is not in the document, answer 'Not answerable'."
    return f"{str(fields['question']).strip()}\n{ask}"


def click(fields: Mapping[str, Any], rules: Rules, points: Points) -> str:
    """Our own: where to click. It asks for the coordinates, and in the form, that the answer is read in."""
    form = "pyautogui.click(x=..., y=...)" if rules == "vlmevalkit" else "[x, y]"
    target = fields["instruction"] if "instruction" in fields else fields["question"]
    return f"Where on this screen do you click to do this: {target}\nAnswer with {form}, in {_SCALES[points]}."


def page(_: Mapping[str, Any], __: Rules, ___: Points) -> str:
    """Our own: the text of a page."""
    return (
        "Write the text of this page as Markdown, in the order in which one reads it. Leave out headers, footers and "
        "page numbers. Write formulas in LaTeX, between \\( and \\) in a line and between \\[ and \\] on their own, "
        "and tables as tables."
    )


def document_blob(row: Row, folder: Path | None) -> Blob:
    """The PDF of a row of MMLongBench-Doc that has only its name."""
    name = str(row.fields.get("doc_id", ""))
    if folder is None or not (folder / name).is_file():
        where = "no folder is given" if folder is None else f"it is not in {folder}"
        raise PixelPruneError(f"row {row.id} is about {name}, and {where}; expected --images with the PDFs")
    return file_blob(folder / name)
