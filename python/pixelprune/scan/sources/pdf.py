"""Pages of PDFs, rendered by pdfium."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

from PIL import Image

from ...arguments import escaped, text_of
from ...errors import PixelPruneError
from ..requirements import need
from .finding import Found
from .item import Item, Page, Reading

POINTS = 72
"""Points per inch, the unit of a page's size."""


def read(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the pages of a PDF; ``member`` is the number, from 1.

    Raises:
        PixelPruneError: it is damaged, or needs a password.
        OSError: it can't be read.
        ImportError: pypdfium2 is not installed.
    """
    pdfium = need("pypdfium2", "reading PDFs")
    with open(found.path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        file.seek(0)
        try:
            document = pdfium.PdfDocument(file)
        except pdfium.PdfiumError as error:
            raise PixelPruneError(f"{escaped(found.source)}: {_cause(error)}") from None
        with closing(document):
            count = len(document)
            for i in range(count):
                take = partial(_render, pdfium, document, i, digest, reading.dpi)
                yield Item(found.source, str(i + 1), found.kind, take, found.size * (i + 1) / count)


def _render(pdfium: Any, document: Any, i: int, digest: Any, dpi: int) -> Page:
    scale = dpi / POINTS
    try:
        with closing(document[i]) as page:
            width, height = page.get_size()
            most = 2 * (Image.MAX_IMAGE_PIXELS or float("inf"))
            if width * height * scale * scale > most:
                raise PixelPruneError(
                    f"page {i + 1} has {width * scale:.0f} x {height * scale:.0f} pixels at {dpi} dpi; expected at "
                    f"most {most:.0f} in all"
                )
            with closing(page.render(scale=scale)) as bitmap:
                image = bitmap.to_pil().convert("RGB")
    except pdfium.PdfiumError as error:
        raise PixelPruneError(f"page {i + 1}: {text_of(error)}") from None
    own = digest.copy()
    own.update(f"page {i + 1} at {dpi} dpi".encode())
    return Page(image, own.hexdigest())


def _cause(error: Exception) -> str:
    text = text_of(error)
    if "password" in text.lower():
        return "the PDF needs a password; expected one that opens without it"
    return f"not a PDF, or a damaged one ({text})"
