"""Pages of PDFs, rendered by pdfium."""

from __future__ import annotations

from contextlib import closing
from typing import Any, BinaryIO

from PIL import Image

from ..arguments import text_of
from ..errors import PixelPruneError
from ..requirements import need

POINTS = 72
"""Points per inch, the unit of a page's size."""


def open_pdf(source: bytes | BinaryIO, name: str, extra: str) -> Any:
    """Return a ``pypdfium2.PdfDocument``, to be closed.

    Args:
        source: what the file holds, or the file, opened in binary mode.
        name: its name in messages.
        extra: what installs pypdfium2, for the message.

    Raises:
        PixelPruneError: it is damaged, or needs a password.
        ImportError: pypdfium2 is not installed.
    """
    pdfium = need("pypdfium2", "reading PDFs", extra)
    try:
        return pdfium.PdfDocument(source)
    except pdfium.PdfiumError as error:
        text = text_of(error)
        if "password" in text.lower():
            text = "the PDF needs a password; expected one that opens without it"
        else:
            text = f"not a PDF, or a damaged one ({text})"
        raise PixelPruneError(f"{name}: {text}") from None


def render(document: Any, i: int, dpi: float) -> Image.Image:
    """Return a page as an image, 8-bit RGB.

    Args:
        document: as `open_pdf` returns it.
        i: which page, from 0.
        dpi: dots per inch.

    Raises:
        PixelPruneError: the page is damaged, or has more pixels than Pillow decodes (twice
            ``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    from pypdfium2 import PdfiumError

    scale = dpi / POINTS
    try:
        with closing(document[i]) as page:
            width, height = page.get_size()
            most = 2 * (Image.MAX_IMAGE_PIXELS or float("inf"))
            if width * height * scale * scale > most:
                raise PixelPruneError(
                    f"page {i + 1} has {width * scale:.0f} x {height * scale:.0f} pixels at {dpi:g} dpi; expected at "
                    f"most {most:.0f} in all"
                )
            with closing(page.render(scale=scale)) as bitmap:
                image: Image.Image = bitmap.to_pil().convert("RGB")
                return image
    except PdfiumError as error:
        raise PixelPruneError(f"page {i + 1}: {text_of(error)}") from None
