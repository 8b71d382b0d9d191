"""The columns of ``rows.parquet``: one row an image.

=====================  ===============================================================================================
``source``             the file, below the folder that was given
``member``             which image of the file: the page, row, line or name; null if the file is the image
``kind``               the group of the image
``sha256``             of the encoded bytes; of a page: of the file, the page's number and the resolution
``format``             ``"PNG"``, ``"JPEG"``, ``"PDF"``, ...
``quality``            of a JPEG file, estimated; null for others
``bytes``              of the encoded image; null for pages
``width``, ``height``  of the decoded image, in pixels
``grid_h``, ``grid_w`` of the resized image, in patches
``tokens``             number of tokens
``unique``             number of tokens of different pixels
``kept:LABEL``         number of tokens that a setting keeps
``content:LABEL``      number of tokens that it drops although they carry content (more than one colour)
``seconds``            what decoding, resizing and selection took
``error``              why the image could not be measured; then all that could not be told is null
=====================  ===============================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .requirements import need

KEY = b"pixelprune"
"""The key of the settings in the metadata of the schema."""


def kept(label: str) -> str:
    """Return the column of the kept tokens of a setting.

    Example:
        >>> from pixelprune.scan.rows import kept
        >>> kept("pred_2d@0.05")
        'kept:pred_2d@0.05'
    """
    return f"kept:{label}"


def content(label: str) -> str:
    """Return the column of the dropped tokens that carried content.

    Example:
        >>> from pixelprune.scan.rows import content
        >>> content("pred_2d@0.05")
        'content:pred_2d@0.05'
    """
    return f"content:{label}"


def names(labels: Iterable[str]) -> list[str]:
    """Return the names of the columns, in order; the first three say where the image is.

    Args:
        labels: the names of the sweep's settings.

    Example:
        >>> from pixelprune.scan.rows import names
        >>> names(["pred_2d@0"])[-4:]
        ['kept:pred_2d@0', 'content:pred_2d@0', 'seconds', 'error']
    """
    sweep = [name(label) for label in labels for name in (kept, content)]
    fixed = ("source", "member", "kind", "sha256", "format", "quality", "bytes", "width", "height")
    return [*fixed, "grid_h", "grid_w", "tokens", "unique", *sweep, "seconds", "error"]


def schema(labels: Iterable[str], settings: Mapping[str, Any]) -> Any:
    """Return the ``pyarrow.Schema`` of the rows.

    Args:
        labels: the names of the sweep's settings.
        settings: what goes into the metadata, as JSON.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pa = need("pyarrow", "pixelprune.scan")
    kinds = {
        **dict.fromkeys(("source", "member", "kind", "sha256", "format", "error"), pa.string()),
        "bytes": pa.int64(),
        "seconds": pa.float64(),
    }
    fields = [pa.field(n, kinds.get(n, pa.int32()), n not in ("source", "kind")) for n in names(labels)]
    return pa.schema(fields, metadata={KEY: json.dumps(settings, sort_keys=True)})
