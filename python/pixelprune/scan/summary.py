"""The figures of a scan by kind of image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import rows
from .requirements import need


def summarize(path: Path, labels: Sequence[str]) -> dict[str, Any]:
    """Return the figures of rows, for all images and by kind.

    Args:
        path: a parquet file of rows.
        labels: the names of the sweep's settings.

    Returns:
        A dict that JSON can express. ``rows`` and ``errors`` count rows; ``all`` and each of ``kinds`` hold ``images``
        and ``tokens``, ``unique`` (median share of tokens of different pixels) and, for every label, ``retained``
        (median share of kept tokens), ``kept`` and ``dropped_content`` (tokens).

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from pixelprune.scan import scan
        >>> from pixelprune.scan.summary import summarize
        >>> Image.new("RGB", (640, 320)).save("black.png")
        >>> found = scan("black.png", "found", sweep=["pred_2d@0"])
        >>> summarize(found.folder / "rows.parquet", found.sweep)["all"]
        {'images': 1, 'tokens': 200, 'unique': 0.005, 'retained': {'pred_2d@0': 0.005}, 'kept': {'pred_2d@0': 1}, \
'dropped_content': {'pred_2d@0': 0}}
    """
    file = need("pyarrow.parquet", "pixelprune.scan").ParquetFile(path)
    table = file.read(["kind", "tokens", "error"])
    good = table["error"].is_null().to_numpy()
    kinds = table["kind"].to_numpy()[good]
    tokens = _numbers(table["tokens"], good)
    groups = {None: np.ones(len(kinds), np.bool_), **{kind: kinds == kind for kind in sorted(set(kinds))}}
    unique = _numbers(file.read(["unique"])["unique"], good)
    found: dict[Any, dict[str, Any]] = {}
    for name, own in groups.items():
        found[name] = {
            "images": int(own.sum()),
            "tokens": int(tokens[own].sum()),
            "unique": _median(unique, tokens, own),
        }
        found[name] |= {"retained": {}, "kept": {}, "dropped_content": {}}
    for label in labels:  # two columns at a time
        columns = file.read([rows.kept(label), rows.content(label)])
        kept, content = (_numbers(columns[i], good) for i in range(2))
        for name, own in groups.items():
            found[name]["retained"][label] = _median(kept, tokens, own)
            found[name]["kept"][label] = int(kept[own].sum())
            found[name]["dropped_content"][label] = int(content[own].sum())
    return {"rows": len(good), "errors": int(len(good) - good.sum()), "all": found.pop(None), "kinds": found}


def _numbers(column: Any, good: Any) -> Any:
    return column.fill_null(0).to_numpy()[good].astype(np.int64)


def _median(counts: Any, tokens: Any, own: Any) -> float | None:
    """Return the median share; None without images, and without counts."""
    return round(float(np.median(counts[own] / tokens[own])), 6) if own.any() else None
