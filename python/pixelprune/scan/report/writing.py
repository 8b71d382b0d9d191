"""Writing the report of a scan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arguments import shown
from ...files.whole import write_text
from ...images.decode import take
from ...images.preprocessing import resized
from ...images.sources import prepare_image
from ..options import ScanOptions
from ..reading import Scan
from .gallery import draw
from .kinds import BINS, by_kind
from .misfits import PAYS, REASONS, Variant, misfits
from .models import model_for
from .page import render
from .rows import Rows, read_rows, variant_of
from .sample import choose

_SAMPLE = 24
"""Images of the gallery."""
_MOST_ERRORS = 200
"""Images that could not be read and are named."""
_MOST_SOURCES = 3


def write(scan: Scan, path: str | os.PathLike[str], model: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a scan: one HTML file, which loads nothing from a network.

    It shows how much every setting of the sweep keeps, by kind of image; what that saves a model; which images do not
    pay; and a sample of the images with their kept and dropped tokens. For the sample the images are opened again. An
    image that is gone or has changed is left out.

    The same scan gives the same file.

    Args:
        scan: the scan, as `pixelprune.scan.scan` and `pixelprune.scan.read` return it.
        path: the file to write. It is replaced at the end, so that no half of a report is left behind.
        model: whose FLOPs are counted: ``"qwen3_vl_2b"``, ``"qwen3_vl_4b"``, ``"qwen3_vl_8b"``, ``"qwen2_5_vl_3b"``,
            ``"qwen2_5_vl_7b"``, or the folder of a checkpoint, whose ``config.json`` decides. None: the smallest of
            these that sees images as the scan did; if there is none, tokens are counted but no FLOPs.

    Returns:
        The path.

    Raises:
        PixelPruneError: an unknown model, one that sees images in other patches than the scan did, or a config that
            can't be used.
        TypeError: ``scan`` is no `Scan`, or an argument is of the wrong type.
        OSError: the file can't be written, or the config can't be read.
        ImportError: pyarrow or plotly is not installed; the message names the extra that installs them.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.scan import report, scan
        >>> Image.new("RGB", (640, 320), "white").save("blank.png")
        >>> report.write(scan("blank.png", "found"), "report.html", model="qwen3_vl_8b").name
        'report.html'
    """
    if not isinstance(scan, Scan):
        raise TypeError(f"scan is {shown(scan)}; expected a Scan, as pixelprune.scan.read returns")
    path = Path(path)
    options = ScanOptions.from_dict(scan.settings)
    counted = model_for(model, options.spec)
    rows = read_rows(scan.rows, scan.sweep)
    variants = [Variant(variant_of(one), one.protect == "content", one.threshold) for one in options.sweep]

    def load(row: int) -> NDArray[np.uint8]:
        prepared, _ = prepare_image(take(scan.locate(row)), options.preprocessing)
        return resized(prepared, 1)

    drawn = draw([_entry(rows, i) for i in choose(rows, rows.kept[0] / rows.tokens, _SAMPLE)], load, options)
    data = {
        "about": _about(scan, rows),
        "how": _how(scan, options),
        "settings": [variant._asdict() for variant in variants],
        "groups": by_kind(rows, counted),
        "bins": BINS,
        "model": None if counted is None else counted.name,
        "misfits": misfits(rows, variants),
        "reasons": REASONS,
        "pays": PAYS,
        "gallery": drawn.images,
        "worst": drawn.worst,
        "crops": drawn.crops,
        "missing": drawn.missing,
        "unread": len(rows.errors),
        "errors": rows.errors[:_MOST_ERRORS],
    }
    count = len(rows.tokens)
    page = render(f"What pruning does to {count:,} image{'' if count == 1 else 's'}", data)
    write_text(path, page)
    return path


def _entry(rows: Rows, i: int) -> dict[str, Any]:
    """What the page says of an image of the gallery; kind 0 of the page is all kinds."""
    return {
        "row": int(rows.row[i]),
        "name": rows.names[i],
        "kind": int(rows.kind[i]) + 1,
        "tokens": int(rows.tokens[i]),
        "counts": rows.kept[:, i].tolist(),
        "losses": rows.content[:, i].tolist(),
    }


def _about(scan: Scan, rows: Rows) -> str:
    """One line on what was scanned."""
    sources = scan.settings["sources"]
    named = ", ".join(sources[:_MOST_SOURCES])
    more = f" and {len(sources) - _MOST_SOURCES:,} more sources" if len(sources) > _MOST_SOURCES else ""
    kinds = len(rows.kinds)
    return f"{named}{more}: {int(rows.tokens.sum()):,} tokens in images of {kinds} kind{'' if kinds == 1 else 's'}."


def _how(scan: Scan, options: ScanOptions) -> str:
    """One line on how it was scanned."""
    spec = options.spec
    alpha = options.alpha if isinstance(options.alpha, str) else f"onto {tuple(options.alpha)}"
    return (
        f"pixelprune {scan.settings['version']}: patches of {spec.patch_size} pixels, merged {spec.merge_size} x "
        f"{spec.merge_size}, images of {spec.min_pixels:,} to {spec.max_pixels:,} pixels; resampling "
        f"{options.resample}, alpha {alpha}, {len(options.sweep)} settings."
    )
