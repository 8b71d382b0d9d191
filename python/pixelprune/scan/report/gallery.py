"""The images of the gallery: small versions of them, which tokens each setting keeps, and what is lost."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from ...errors import PixelPruneError
from ...selection.pruning import prune
from ...selection.result import Selection
from ..options import ScanOptions
from .errors import Error, Errors
from .shrinking import Comparison, Fidelity

_LONGEST = 1000
"""Pixels on the longer side of an image of the gallery."""
_MOST_WORST = 4
"""Images that are shown for each setting, the worst of the sample."""

Load = Callable[[int], NDArray[np.uint8]]
"""Loads the pixels of an image by its row number, as the scan saw them: (height, width, 3), resized."""


class Drawn(NamedTuple):
    """What the page needs to know of the sample."""

    images: list[dict[str, Any]]
    worst: list[list[dict[str, Any]]]
    """For each setting its worst reconstructions."""
    crops: list[str]
    """Parts of images as data URIs, which ``worst`` refers to."""
    missing: int
    """Images of the sample that could not be loaded again or have changed."""


def draw(sample: Sequence[dict[str, Any]], load: Load, options: ScanOptions) -> Drawn:
    """Prune the images of the sample with every setting and draw them.

    Args:
        sample: for each image its ``row``, which is the argument of ``load``, its ``kind``, and ``counts``, the tokens
            that the scan kept with each setting; copied to the result. If other numbers are kept now, it has changed.
        load: loads an image.
        options: the options of the scan.
    """
    images: list[dict[str, Any]] = []
    worst = _Worst(len(options.sweep))
    missing = 0
    for entry in sample:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the scan has reported what it had to say about the image
                pixels = load(entry["row"])
        except (OSError, PixelPruneError):
            missing += 1
            continue
        selections = [prune(pixels, options.spec, settings=setting) for setting in options.sweep]
        if [selection.kept for selection in selections] != entry["counts"]:
            missing += 1
            continue
        images.append({**entry, **_drawing(pixels, len(images), entry["kind"], selections, worst)})
    return Drawn(images, *worst.numbered(), missing)


def _drawing(
    pixels: NDArray[np.uint8], number: int, kind: int, selections: Sequence[Selection], worst: _Worst
) -> dict[str, Any]:
    image = Image.fromarray(pixels)
    compare, errors = Comparison(image, selections[0]), Errors(pixels, selections[0])
    kept, content, pruned, shrunk, wrong = [], [], [], [], []
    for i, selection in enumerate(selections):
        kept.append(selection.mask.ravel())
        dropped = np.zeros(selection.total, np.bool_)
        dropped[selection.dropped_content(pixels)] = True
        content.append(dropped)
        pruned.append(_figures(compare.pruned(selection)))
        shrunk.append(_figures(compare.shrunk(selection.kept)))
        error = errors.of(selection)
        worst.offer(i, number, kind, error, pixels, selection)
        wrong.append(None if error is None else [round(error.largest, 5), round(error.mean, 7)])
    small = image.copy()
    small.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return {
        "width": image.width,
        "height": image.height,
        "rows": selections[0].grid[1],
        "cols": selections[0].grid[2],
        "image": data_uri(small, 80),
        "kept": _bits(kept),
        "content": _bits(content),
        "pruned": pruned,
        "shrunk": shrunk,
        "errors": wrong,
    }


class _Worst:
    """The worst reconstructions of each setting, by mean error: a few of all and the worst of each kind."""

    def __init__(self, settings: int) -> None:
        self._found: list[list[tuple[float, int, dict[str, Any]]]] = [[] for _ in range(settings)]

    def offer(
        self, setting: int, number: int, kind: int, error: Error | None, pixels: NDArray[np.uint8], selection: Selection
    ) -> None:
        if error is None or error.box is None:
            return
        found = self._found[setting]
        of_kind = max((mean for mean, other, _ in found if other == kind), default=-1.0)
        if len(found) >= _MOST_WORST and error.mean <= min(found[_MOST_WORST - 1][0], of_kind):
            return
        left, top, right, bottom = error.box
        before, after = (
            data_uri(Image.fromarray(np.ascontiguousarray(p[top:bottom, left:right])), 92)
            for p in (pixels, selection.reconstruct(pixels))
        )
        entry = {
            "image": number,
            "largest": round(error.largest, 5),
            "mean": round(error.mean, 6),
            "at": [left, top],
            "before": before,
            "after": after,
        }
        found.append((error.mean, kind, entry))
        found.sort(key=lambda item: -item[0])
        kinds = [other for _, other, _ in found]
        found[:] = [item for i, item in enumerate(found) if i < _MOST_WORST or kinds[i] not in kinds[:i]]

    def numbered(self) -> tuple[list[list[dict[str, Any]]], list[str]]:
        """Return the entries of each setting and the parts, which the entries name by number."""
        crops: dict[str, int] = {}
        shown = []
        for found in self._found:
            entries = [entry for *_, entry in found]
            numbers = ({key: crops.setdefault(e[key], len(crops)) for key in ("before", "after")} for e in entries)
            shown.append([{**entry, **own} for entry, own in zip(entries, numbers, strict=True)])
        return shown, list(crops)


def data_uri(image: Image.Image, quality: int) -> str:
    """Return an image as a data URI: WebP, or PNG if Pillow was built without it."""
    kind = "webp" if features.check("webp") else "png"
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _figures(fidelity: Fidelity | None) -> list[float | None] | None:
    if fidelity is None:
        return None
    return [round(fidelity.error, 3), None if fidelity.detail is None else round(fidelity.detail, 4)]


def _bits(masks: list[NDArray[np.bool_]]) -> str:
    """One mask after the other, each padded to whole bytes, the first token in the highest bit; base64."""
    return base64.b64encode(np.packbits(np.stack(masks), axis=1).tobytes()).decode()
