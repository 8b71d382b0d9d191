"""Drawn pages of 8 x 10 tokens: a line of text or of controls in most rows of tokens.

A letter fills one patch. Words and numbers begin at any patch, so their place within a token varies.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PATCH, MERGE = 16, 2
ROWS, COLS = 8, 10  # of tokens
LETTERS = "ABCDEFGHKLMNPRSTUVXZ"
BOX, TICKED, BUTTON, GREY = "box", "ticked", "button", "grey"
WORDS = tuple(first + second for first in LETTERS for second in LETTERS)
NUMBERS = tuple(f"{number:02}" for number in range(100))
GLYPHS = ("", *LETTERS, *"0123456789", BOX, TICKED, BUTTON, GREY)
"""What a patch can show; the first: nothing."""
KINDS = ("mixed", "stacked", "pale", "noise", "gradient", "jpeg", "gui")
FONT_SIZE = 15
Pixels = NDArray[np.uint8]
Mask = NDArray[np.float32]


@dataclass(frozen=True)
class Line:
    """A line of a page, places in patches: a word and a number to the right, or a word, a box and a button."""

    word: str
    row: int
    column: int
    right: int
    number: int = 0
    ticked: bool = False
    grey: bool = False
    button: int = 0


@dataclass(frozen=True)
class Page:
    """A page: uint8 pixels (height, width, 3), its lines, and what each patch shows: int64 (2 ROWS, 2 COLS)."""

    kind: str
    pixels: Pixels
    lines: tuple[Line, ...]
    shown: NDArray[np.int64]


@cache
def glyph(name: str) -> Mask:
    """How much ink each pixel of a patch has: float32 (PATCH, PATCH) in [0, 1]."""
    drawn = Image.new("L", (PATCH, PATCH))
    draw = ImageDraw.Draw(drawn)
    if name in (BOX, TICKED):
        draw.rectangle((2, 2, 13, 13), outline=255)
        if name == TICKED:
            draw.line((4, 7, 7, 11, 12, 4), fill=255, width=2)
    elif name in (BUTTON, GREY):
        draw.rectangle((0, 2, 15, 13), outline=255, fill=96 if name == GREY else 0)
    else:
        draw.text((PATCH / 2, PATCH / 2), name, fill=255, font=ImageFont.load_default(FONT_SIZE), anchor="mm")
    return np.asarray(drawn, np.float32) / 255


class _Canvas:
    def __init__(self, background: Mask, ink: Mask) -> None:
        self.values = np.broadcast_to(background, (ROWS * MERGE * PATCH, COLS * MERGE * PATCH, 3)).copy()
        self.ink = ink
        self.shown = np.zeros((ROWS * MERGE, COLS * MERGE), np.int64)

    def put(self, row: int, column: int, *names: str) -> None:
        for step, name in enumerate(names):
            top, left = row * PATCH, (column + step) * PATCH
            part = self.values[top : top + PATCH, left : left + PATCH]
            part += glyph(name)[:, :, None] * (self.ink - part)
            self.shown[row, column + step] = GLYPHS.index(name)


def draw_page(kind: str, random: Generator) -> Page:
    """A page of a kind. `random` decides everything else."""
    background, ink = _colors(kind, random)
    canvas = _Canvas(background, ink)
    count = int(random.integers(ROWS - 2, ROWS + 1))
    rows = sorted(random.choice(ROWS, count, replace=False))
    words = [WORDS[number] for number in random.choice(len(WORDS), count, replace=False)]
    lines = _controls(canvas, rows, words, random) if kind == "gui" else _text(canvas, kind, rows, words, random)
    values = canvas.values
    if kind == "noise":
        values = values + random.integers(-3, 4, values.shape)
    pixels = values.round().clip(0, 255).astype(np.uint8)
    if kind == "jpeg":
        stored = io.BytesIO()
        Image.fromarray(pixels).save(stored, "JPEG", quality=80)
        pixels = np.asarray(Image.open(stored))
    return Page(kind, pixels, tuple(lines), canvas.shown)


def _colors(kind: str, random: Generator) -> tuple[Mask, Mask]:
    white, black = np.full(3, 255, np.float32), np.zeros(3, np.float32)
    if kind == "pale":
        return white, white - random.integers(40, 81)
    if kind == "gradient":
        slope = np.linspace(0, random.integers(20, 60), COLS * MERGE * PATCH, dtype=np.float32)[None, :, None]
        return white - slope, black
    if kind == "mixed":
        light = random.integers(200, 256, 3).astype(np.float32)
        dark = random.integers(0, 100, 3).astype(np.float32)
        return light, dark
    return white, black


def _text(canvas: _Canvas, kind: str, rows: list[int], words: list[str], random: Generator) -> list[Line]:
    below = kind == "stacked"
    aligned = int(random.integers(11, 19)), int(random.integers(2))
    number = int(random.integers(100))
    lines = []
    for row, word in zip(rows, words, strict=True):
        column = int(random.integers(0, 7))
        right, low = aligned if below else (int(random.integers(11, 19)), int(random.integers(2)))
        if not below or random.random() < 0.3:
            number = int(random.integers(100))
        line = Line(word, int(row) * MERGE + low, column, right, number)
        canvas.put(line.row, column, *word)
        canvas.put(line.row, right, *f"{number:02}")
        lines.append(line)
    return lines


def _controls(canvas: _Canvas, rows: list[int], words: list[str], random: Generator) -> list[Line]:
    left, right, low = int(random.integers(9, 13)), int(random.integers(14, 18)), int(random.integers(2))
    grey = int(random.choice(rows))
    lines = []
    for row, word in zip(rows, words, strict=True):
        column, ticked = int(random.integers(0, 6)), bool(random.random() < 0.4)
        place = (int(row) * MERGE + low, column, left)
        line = Line(word, *place, ticked=ticked, grey=row == grey, button=right)
        canvas.put(line.row, line.column, *word)
        canvas.put(line.row, left, TICKED if line.ticked else BOX)
        canvas.put(line.row, right, *[GREY if line.grey else BUTTON] * 3)
        lines.append(line)
    return lines
