"""The images that the benchmarks run on: a folder of the user's, or drawn ones where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pixelprune as pp
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


def paths(folder: Path) -> list[Path]:
    """All stills below ``folder``; folders named ``sequence-*`` hold recordings, not stills."""
    found = (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES)
    return [p for p in found if not any(part.startswith("sequence-") for part in p.parts)]


def resized(path: Path, spec: pp.VisionSpec) -> NDArray[np.uint8]:
    """The image as the Pillow backend of the model's processor resizes it."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            rgb = picture.convert("RGB")
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    height, width = pp.smart_resize(rgb.height, rgb.width, spec)
    return np.array(rgb.resize((width, height), Image.Resampling.BICUBIC))


def load(folder: Path | None, spec: pp.VisionSpec) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and resized images, one at a time."""
    if folder is not None:
        for path in paths(folder):
            yield str(path.relative_to(folder)), resized(path, spec)
        return
    rng = np.random.default_rng(0)
    blank = np.full((2048, 1536, 3), 255, np.uint8)
    page = blank.copy()
    for top in range(100, 1900, 40):
        page[top : top + 20, 120:1400] = rng.integers(0, 256, (20, 1280, 1), np.uint8)
    noise = rng.integers(0, 256, (1024, 1536, 3), np.uint8)
    yield from (("blank", blank), ("page", page), ("noise", noise))
