"""The images that the benchmarks run on: a folder of the user's, or a few drawn ones where none is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pixelprune as pp
from numpy.typing import NDArray
from PIL import Image
from pixelprune.cli.samples import Sample, find_images, read_sample

Image.MAX_IMAGE_PIXELS = None  # the images are the user's own


def stills(folder: Path) -> list[Path]:
    """The image files in a folder and below it, sorted, except recordings (folders named ``sequence-*``)."""
    names = [path.relative_to(folder) for path in find_images(folder)]
    return [name for name in names if not any(part.startswith("sequence-") for part in name.parts)]


def samples(folder: Path, every: int = 1) -> Iterator[Sample]:
    """Every Nth of the `stills`.

    Images that can't be read are left out, with a line on stderr.
    """
    for name in stills(folder)[::every]:
        try:
            yield read_sample(str(name), folder / name)
        except pp.PixelPruneError as error:
            print(f"left out: {error}", file=sys.stderr)


def load(folder: Path | None, spec: pp.VisionSpec) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and resized images, one at a time; resized as the Pillow backend of the model's processor does it."""
    if folder is not None:
        for sample in samples(folder):
            yield sample.name, np.array(pp.resize_image(sample.images[0], spec, resample="pillow"))
        return
    rng = np.random.default_rng(0)
    blank = np.full((2048, 1536, 3), 255, np.uint8)
    page = blank.copy()
    for top in range(100, 1900, 40):
        page[top : top + 20, 120:1400] = rng.integers(0, 256, (20, 1280, 1), np.uint8)
    noise = rng.integers(0, 256, (1024, 1536, 3), np.uint8)
    yield from (("blank", blank), ("page", page), ("noise", noise))
