"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(rows: Sequence[Sequence[str]], right: int = 1) -> str:
    """Return a Markdown table that also reads well as plain text.

    Args:
        rows: cells; the first row is the heading.
        right: the first right-aligned column.

    Example:
        >>> from pixelprune.markdown import markdown
        >>> print(markdown([["a", "b"], ["one", "1.0"]]))
        | a   |   b |
        |-----|----:|
        | one | 1.0 |
    """
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.rjust(w) if i >= right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 1) + (":" if i >= right else "-") for i, w in enumerate(widths))
    return "\n".join([line(rows[0]), f"|{rule}|", *map(line, rows[1:])])
