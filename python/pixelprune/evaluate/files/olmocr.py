"""The folder of olmOCR-bench: PDFs of one page each, and what their text has to contain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import PixelPruneError
from ..rows import Row, file_blob

BASELINE = "baseline"


def read_olmocr(path: Path) -> list[Row]:
    """Read the folder of olmOCR-bench, or one of its JSONL files.

    Args:
        path: the folder with ``pdfs`` and ``*.jsonl``, or a JSONL file in it.

    Returns:
        A row for each page, in the order of the names. Its field ``tests`` has pairs of the JSONL file's name and the
        check. PDFs without a check of type ``baseline`` get one, under the name ``baseline``.

    Raises:
        PixelPruneError: there are no PDFs or no checks, or a line is not a check.
        OSError: a file can't be read.
    """
    folder, files = (path, sorted(path.glob("*.jsonl"))) if path.is_dir() else (path.parent, [path])
    if not files or not (folder / "pdfs").is_dir():
        raise PixelPruneError(f"{folder} has no pdfs folder and *.jsonl files; expected the folder of olmOCR-bench")
    pages: dict[tuple[str, int], list[tuple[str, dict[str, Any]]]] = {}
    sound = set()
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                test = json.loads(line)
                pages.setdefault((test["pdf"], int(test["page"])), []).append((file.name, test))
            except (ValueError, KeyError, TypeError):
                raise PixelPruneError(f"{file}: line {number} is no check: no JSON object with pdf and page") from None
            if test.get("type") == BASELINE:
                sound.add(test["pdf"])
    for pdf in {pdf for pdf, _ in pages} - sound:
        pages.setdefault((pdf, 1), []).append((BASELINE, {"pdf": pdf, "page": 1, "type": BASELINE}))
    rows = []
    for (pdf, page), tests in sorted(pages.items()):
        file = folder / "pdfs" / pdf
        if not file.is_file():
            raise PixelPruneError(f"{file} is not there; {tests[0][0]} has checks of it")
        rows.append(Row(f"{pdf}#{page}", {"tests": tests, "page": page}, (file_blob(file),)))
    return rows
