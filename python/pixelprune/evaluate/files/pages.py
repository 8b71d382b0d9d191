"""Images of rows: decoded, or rendered from the page of a PDF."""

from __future__ import annotations

import contextlib
import warnings

from PIL import Image

from ...errors import PixelPruneError, PixelPruneWarning
from ...images.decode import load_image
from ..requirements import need
from ..rows import Blob


def decode(blob: Blob) -> Image.Image:
    """Return the image that a blob holds, 8-bit RGB, as `load_image` does.

    Args:
        blob: the bytes of an image file.

    Raises:
        PixelPruneError: it is not an image.
        OSError: it can't be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PixelPruneWarning)  # alpha is dropped, as the harnesses do
        return load_image(blob.read())


def render(blob: Blob, page: int, dpi: float) -> Image.Image:
    """Return a page of a PDF as an image.

    Args:
        blob: the PDF.
        page: its number, from 1.
        dpi: pixels per inch.

    Raises:
        PixelPruneError: it is not a PDF that can be opened, or has no such page.
        ImportError: pypdfium2 is missing.
        OSError: it can't be read.
    """
    pdfium = need("pypdfium2", "rendering PDFs")
    try:
        with contextlib.closing(pdfium.PdfDocument(blob.read())) as document:
            if not 0 < page <= len(document):
                raise PixelPruneError(f"{blob.key} has {len(document)} pages; expected page {page} among them")
            image: Image.Image = document[page - 1].render(scale=dpi / 72).to_pil().convert("RGB")
            return image
    except pdfium.PdfiumError as error:
        raise PixelPruneError(f"{blob.key} can't be opened as a PDF ({error})") from None
