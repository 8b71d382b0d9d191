"""Pages of PDFs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

from ...arguments import escaped
from ...files.pdf import open_pdf, render
from .finding import Found
from .item import Item, Page, Reading


def read(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the pages of a PDF; ``member`` is the number, from 1.

    Raises:
        PixelPruneError: it is damaged, or needs a password.
        OSError: it can't be read.
        ImportError: pypdfium2 is not installed.
    """
    with open(found.path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        file.seek(0)
        with closing(open_pdf(file, escaped(found.source), "scan")) as document:
            count = len(document)
            for i in range(count):
                take = partial(_page, document, i, digest, reading.dpi)
                yield Item(found.source, str(i + 1), found.kind, take, found.size * (i + 1) / count)


def _page(document: Any, i: int, digest: Any, dpi: int) -> Page:
    own = digest.copy()
    own.update(f"page {i + 1} at {dpi} dpi".encode())
    return Page(render(document, i, dpi), own.hexdigest())
