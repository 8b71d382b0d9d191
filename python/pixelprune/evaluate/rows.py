"""Rows of a benchmark's files: their fields, and the files that belong to them, which are read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Blob:
    """The bytes of an image or a PDF.

    Attributes:
        key: equal for equal images: questions about one image are not independent of each other.
        read: returns the bytes.
    """

    key: str
    read: Callable[[], bytes] = field(compare=False)


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        id: unique in its file.
        fields: by the names that the file has for them.
        blobs: the images, or the PDF.
    """

    id: str
    fields: Mapping[str, Any]
    blobs: tuple[Blob, ...]


def file_blob(path: Path) -> Blob:
    """Return a file as a `Blob`, whose key is its path.

    Args:
        path: the file.
    """
    return Blob(str(path), path.read_bytes)


def key_of(content: bytes) -> str:
    """Return a key for equal contents.

    Args:
        content: the bytes of an image, or the text that encodes them.
    """
    return hashlib.sha256(content).hexdigest()[:16]
