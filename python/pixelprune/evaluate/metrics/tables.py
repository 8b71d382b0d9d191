"""The tables of a page of Markdown, and which cells are beside which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..requirements import need

_RULE = frozenset("- :")


class Cell(NamedTuple):
    """A cell as it is written."""

    text: str
    heading: bool
    rows: int = 1
    columns: int = 1


class BrokenTableError(ValueError):
    """Cells of a table overlap, so that one has rows that the table has not."""


class Table:
    """Cells on a grid; a cell may take several rows and columns.

    Attributes:
        cells: in the order in which they are written.

    Raises:
        BrokenTableError: cells overlap.

    Example:
        >>> from pixelprune.evaluate.metrics.tables import Cell, Table
        >>> table = Table([[Cell("year", True), Cell("sum", True)], [Cell("2020", True), Cell("7", False)]])
        >>> [table.cells[i].text for i in table.beside(3, "left")]
        ['2020']
    """

    def __init__(self, rows: Sequence[Sequence[Cell]]) -> None:
        self.cells: list[Cell] = []
        self._corners: list[tuple[int, int]] = []
        self._grid: list[list[int | None]] = []
        self._fill(rows)

    def _fill(self, rows: Sequence[Sequence[Cell]]) -> None:
        below: list[tuple[int, int] | None] = []  # by column: a cell that goes on in the next rows, and how many
        for written in rows:
            line: list[int | None] = []
            cells = iter(written)
            while True:
                column = len(line)
                if column < len(below) and below[column] is not None:
                    line.append(_go_on(below, column))
                    continue
                cell = next(cells, None)
                if cell is None:
                    if column >= len(below):
                        break
                    line.append(None)
                    continue
                below += [None] * (column + cell.columns - len(below))
                for at in range(column, column + cell.columns):
                    below[at] = (len(self.cells), cell.rows - 1) if cell.rows > 1 else None
                    line.append(len(self.cells))
                self._corners.append((len(self._grid), column))
                self.cells.append(cell)
            self._grid.append(line)
        while any(below):
            self._grid.append([_go_on(below, column) if below[column] else None for column in range(len(below))])
        if any(top + cell.rows > len(self._grid) for cell, (top, _) in zip(self.cells, self._corners, strict=True)):
            raise BrokenTableError("a cell goes on below the last row")
        width = max((len(line) for line in self._grid), default=0)
        for line in self._grid:
            line += [None] * (width - len(line))

    def beside(self, cell: int, side: str) -> set[int]:
        """Return the nearest cells ``"up"``, ``"down"``, ``"left"`` or ``"right"`` of a cell, for each of its rows or
        columns.

        Args:
            cell: index of the cell.
            side: the direction.
        """
        top, left = self._corners[cell]
        bottom, right = top + self.cells[cell].rows, left + self.cells[cell].columns
        if side in ("left", "right"):
            steps = range(right, len(self._grid[0])) if side == "right" else range(left - 1, -1, -1)
            lines = [[self._grid[row][column] for column in steps] for row in range(top, bottom)]
        else:
            steps = range(bottom, len(self._grid)) if side == "down" else range(top - 1, -1, -1)
            lines = [[self._grid[row][column] for row in steps] for column in range(left, right)]
        nearest = (next((other for other in line if other is not None and other != cell), None) for line in lines)
        return {other for other in nearest if other is not None}

    def headings(self, cell: int, side: str) -> set[int]:
        """Return the headings on the way to the edge of the table, or without any the last cells.

        Args:
            cell: index of the cell.
            side: ``"up"`` or ``"left"``.
        """
        headings, ends, seen, ahead = set(), set(), set(), {cell}
        while ahead:
            current = ahead.pop()
            if current in seen:
                continue
            seen.add(current)
            others = self.beside(current, side)
            if self.cells[current].heading:
                headings.add(current)
            if not others:
                ends.add(current)
            ahead |= others
        return (headings - {cell}) or (ends - {cell})


def _go_on(below: list[tuple[int, int] | None], column: int) -> int:
    found = below[column]
    assert found is not None
    cell, rows = found
    below[column] = (cell, rows - 1) if rows > 1 else None
    return cell


def tables_of(page: str, *, markdown: bool = True) -> Iterator[Table]:
    """Yield the tables of a page: those in Markdown, then those in HTML.

    Args:
        page: the text.
        markdown: False leaves out those in Markdown.
    """
    if markdown:
        for lines in _blocks(page.strip().split("\n")):
            cells = [
                [Cell(text, heading=row == 0 or column == 0) for column, text in enumerate(line)]
                for row, line in enumerate(_written(lines))
            ]
            if cells:
                yield Table(cells)
    parser = need("bs4", "reading the tables of a page")
    for table in parser.BeautifulSoup(page, "html.parser").find_all("table"):
        lines = table.find_all("tr")
        rows = [[_cell(cell, line, len(lines) - at) for cell in _cells(line)] for at, line in enumerate(lines)]
        if any(rows):
            yield Table(rows)


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield runs of at least two lines with a bar."""
    block: list[str] = []
    for line in (*lines, ""):
        if "|" in line:
            block.append(line)
            continue
        if len(block) > 1:
            yield block
        block = []


def _written(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts of the cells of each line that is not a rule."""
    rule = next((at for at, line in enumerate(lines) if _is_rule(line.replace("|", "").strip())), None)
    for at, line in enumerate(lines):
        if at == rule or (line.strip() and _RULE.issuperset(line.replace("|", ""))):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        cells = cells[cells[0] == "" :]
        cells = cells[: len(cells) - (cells[-1:] == [""])]
        if cells:
            yield cells


def _is_rule(text: str) -> bool:
    return bool(text) and _RULE.issuperset(text)


def _cells(line: Any) -> Any:
    return line.find_all(["th", "td"], recursive=False)


def _cell(cell: Any, line: Any, rows_left: int) -> Cell:
    for end in cell.find_all("br"):
        end.replace_with("\n")
    rows = cell.get("rowspan")
    below = max(1, rows_left) if isinstance(rows, str) and rows.strip() == "0" else _span(rows)
    heading = cell.name == "th" or line.find_parent("thead") is not None
    return Cell(cell.get_text(separator="").strip(), heading, below, _span(cell.get("colspan")))


def _span(text: Any) -> int:
    try:
        return max(1, int(text))
    except (TypeError, ValueError):
        return 1
