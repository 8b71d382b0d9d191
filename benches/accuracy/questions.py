"""The vocabulary, and the questions that can be asked about a page.

A question is its kind and a word, one token each; the answer is one token. READ asks for the number in the row of the
word, FIND for the row and the column of the token where the word begins, TICK whether the box in the row of the word is
ticked, and GREY, with ANY for a word, in which row the grey button is.
"""

from __future__ import annotations

from dataclasses import dataclass

from .pages import COLS, MERGE, NUMBERS, ROWS, WORDS, Page

SPAN = 2  # tokens of a question

ROW_NAMES = tuple(f"r{row}" for row in range(ROWS))
COLUMN_NAMES = tuple(f"c{column}" for column in range(COLS))
PLACES = tuple(f"{row}{column}" for row in ROW_NAMES for column in COLUMN_NAMES)
SPECIAL = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
_TOKENS = [
    *("PAD", *SPECIAL, "READ", "FIND", "TICK", "GREY", "ANY", "YES", "NO"),
    *WORDS,
    *NUMBERS,
    *ROW_NAMES,
    *COLUMN_NAMES,
    *PLACES,
]
IDS = {token: number for number, token in enumerate(_TOKENS)}
PAD, IMAGE, VIDEO, START, STOP = (IDS[name] for name in ("PAD", *SPECIAL))
VOCABULARY = len(_TOKENS)


@dataclass(frozen=True)
class Question:
    """What is asked, and the answer, as token ids."""

    kind: str
    prompt: tuple[int, int]
    answer: int


def ask(kind: str, page: Page, line: int) -> Question:
    """The question of a kind about one line of a page; GREY has no line."""
    found = page.lines[line]
    word = found.word
    if kind == "READ":
        answer = f"{found.number:02}"
    elif kind == "FIND":
        answer = ROW_NAMES[found.row // MERGE] + COLUMN_NAMES[found.column // MERGE]
    elif kind == "TICK":
        answer = "YES" if found.ticked else "NO"
    else:
        word = "ANY"
        answer = ROW_NAMES[next(line.row // MERGE for line in page.lines if line.grey)]
    return Question(kind, (IDS[kind], IDS[word]), IDS[answer])


def kinds_of(page: Page) -> tuple[str, str]:
    """The two kinds of questions that suit a page."""
    return ("TICK", "GREY") if page.kind == "gui" else ("READ", "FIND")
