"""Images of rows: decoded, or rendered from the page of a PDF."""

from __future__ import annotations

import contextlib
import warnings

from PIL import Image

from ...arguments import escaped
from ...errors import PixelPruneError, PixelPruneWarning
from ...files.pdf import open_pdf, render
from ...images.decode import load_image
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


def render_page(blob: Blob, page: int, dpi: float) -> Image.Image:
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
    name = escaped(blob.key)
    with contextlib.closing(open_pdf(blob.read(), name, "eval")) as document:
        if not 0 < page <= len(document):
            raise PixelPruneError(f"{name} has {len(document)} pages; expected page {page} among them")
        try:
            return render(document, page - 1, dpi)
        except PixelPruneError as error:
            raise PixelPruneError(f"{name}: {error}") from None
