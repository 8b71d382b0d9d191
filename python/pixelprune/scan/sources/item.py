"""One image of a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from PIL import Image

from ...errors import PixelPruneError
from .finding import Found

MAX_BYTES = 1 << 30
"""The most bytes of one encoded image; a file above it is damaged, or no image."""


class Page(NamedTuple):
    """A rendered page of a PDF."""

    image: Image.Image
    digest: str
    """SHA-256 of the file, the page's number and the resolution, in hexadecimal."""


Given: TypeAlias = "bytes | Path | Page"
"""What `pixelprune.scan.measure` takes from a source."""


class Item(NamedTuple):
    """One image of a source, not read yet."""

    source: str
    """The file, relative to the folder that was given."""
    member: str | None
    """Which image of that file; None if the file is the image."""
    kind: str
    take: Callable[[], Given]
    """Reads it. Called in the order of the items, or not at all, and only before the next item is asked for. May
    raise `PixelPruneError` and ``OSError`` about this one image."""
    done: float
    """Bytes of the source up to the end of this image, for the progress bar."""
    found: Found | None = None
    """The file to read again for this image; `Sources` fills it in."""
    place: int = 0
    """How many images of the file come before it."""


def limited(size: int, name: str) -> None:
    """Refuse an encoded image that is too large to be read into memory.

    Raises:
        PixelPruneError: it is larger than `MAX_BYTES`.

    Example:
        >>> from pixelprune.scan.sources.item import limited
        >>> limited(1000, "page.png")
    """
    if size > MAX_BYTES:
        raise PixelPruneError(f"{name} has {size} bytes; expected at most {MAX_BYTES} for one image")


class Reading(NamedTuple):
    """What the readers of containers need to know."""

    dpi: int
    """Dots per inch of rendered pages."""
    column: str | None
    """The column or field that holds the images; None: look for it."""
    group_by: str | None
    """The column or field whose value is the kind; None: by folder."""
