"""Draws python/pixelprune/data/page.png, the page that `pixelprune show` runs on when it is given none.

    python benches/draw_sample_page.py [OUTPUT]

The sides are multiples of 32 and so Qwen3-VL's processor does not resample the page. Text looks a little
different with other versions of Pillow's font renderer; the committed file is the one that counts.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1248, 1632
LEFT, RIGHT = 112, 1136
SUBTITLE = "A sample page to prune. The text means it; the figures are invented."
PAPER, INK, GREY, ACCENT, SHADE = "#ffffff", "#1c2430", "#8a94a3", "#2457a6", "#e8eef7"

OUTPUT = Path(__file__).resolve().parent.parent / "python" / "pixelprune" / "data" / "page.png"

INTRO = """
We read forty pages with a ruler and a pencil and marked every square that holds nothing that the square to
its left or the square above has not said already. White margins were marked first, then the gaps between
lines, then the flat parts of charts. What remains are the squares a reader looks at.
"""
METHOD = """
Each page was cut into squares of 32 by 32 pixels. A square was marked only if all of its 3,072 values were
the same as its neighbour's; a single different value kept it. No square was judged by what it means.
"""
CLOSING = """
Letters and forms lose the most, for most of their paper is blank. Photographs lose nothing: sky and skin look
even, yet hardly two squares of them are alike. Nothing that was marked is lost: copying the neighbour gives
back the page, to the last bit.
"""
TABLE = (
    ("Kind of page", "Pages", "Squares", "Kept", "Share"),
    ("Letters", "12", "23,868", "6,205", "26 %"),
    ("Forms", "9", "17,901", "6,086", "34 %"),
    ("Tables", "8", "15,912", "7,478", "47 %"),
    ("Journal pages", "7", "13,923", "9,328", "67 %"),
    ("Photographs", "4", "7,956", "7,956", "100 %"),
)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def paragraph(draw: ImageDraw.ImageDraw, top: int, text: str) -> int:
    """Set a paragraph across the column; the top of what follows."""
    for line in textwrap.wrap(text.strip(), 88):
        draw.text((LEFT, top), line, INK, font(24))
        top += 36
    return top + 28


def heading(draw: ImageDraw.ImageDraw, top: int, text: str) -> int:
    draw.text((LEFT, top), text, ACCENT, font(32))
    return top + 54


def table(draw: ImageDraw.ImageDraw, top: int) -> int:
    stops = (LEFT + 12, 620, 790, 950, RIGHT - 12)
    for number, row in enumerate(TABLE):
        y = top + number * 40
        if number == 0:
            draw.rectangle((LEFT, y, RIGHT, y + 39), SHADE)
        for column, cell in enumerate(row):
            anchor = "lm" if column == 0 else "rm"
            draw.text((stops[column], y + 20), cell, ACCENT if number == 0 else INK, font(22), anchor=anchor)
    bottom = top + len(TABLE) * 40
    for y in (top, top + 40, bottom):
        draw.line((LEFT, y, RIGHT, y), ACCENT, 2)
    return bottom + 52


def chart(draw: ImageDraw.ImageDraw, top: int) -> int:
    """Bars of the table's last column."""
    base, height, step = top + 300, 240, 190
    for share in (0, 50, 100):
        y = base - height * share // 100
        draw.line((LEFT + 84, y, RIGHT, y), GREY if share == 0 else "#d5dae1", 2)
        draw.text((LEFT + 66, y), f"{share} %", GREY, font(20), anchor="rm")
    for number, row in enumerate(TABLE[1:]):
        x = LEFT + 130 + number * step
        share = int(row[-1].removesuffix(" %"))
        draw.rectangle((x, base - height * share // 100, x + 96, base - 1), ACCENT)
        draw.text((x + 48, base + 24), row[0], INK, font(20), anchor="mm")
    return base + 84


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    page = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((LEFT, 104), "How much of a page is paper?", INK, font(54))
    draw.text((LEFT, 182), SUBTITLE, GREY, font(26))
    draw.line((LEFT, 238, RIGHT, 238), ACCENT, 3)
    top = paragraph(draw, 274, INTRO)
    top = heading(draw, top, "What was counted")
    top = paragraph(draw, top, METHOD)
    top = table(draw, top)
    top = heading(draw, top, "Share of squares kept")
    top = chart(draw, top - 40)
    top = paragraph(draw, top, CLOSING)
    draw.text((WIDTH // 2, HEIGHT - 64), "1", GREY, font(22), anchor="mm")
    # 64 colours hold the ink, the tints and their antialiased edges.
    page.quantize(64, dither=Image.Dither.NONE).save(output, optimize=True)
    print(f"{output}: {output.stat().st_size} bytes, {top} of {HEIGHT} rows used")


if __name__ == "__main__":
    main()
