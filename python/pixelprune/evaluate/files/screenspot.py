"""The annotations of ScreenSpot v2 (one JSON file) and ScreenSpot-Pro (a folder of them), and their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import PixelPruneError
from ..rows import Row, file_blob
from .folders import find_image, read_json


def read_annotations(path: Path, images: Path | None = None) -> list[Row]:
    """Read a JSON file of annotations.

    Args:
        path: the file: a list of objects with ``img_filename``.
        images: the folder with the images; None: the file's own, or ``screenspotv2_image`` or ``images`` in it.

    Raises:
        PixelPruneError: the file is not such a list, or an image is not there.
        OSError: the file can't be read.
    """
    near = path.parent
    return _read([path], [images] if images else [near, near / "screenspotv2_image", near / "images"])


def read_pro(path: Path, images: Path | None = None) -> list[Row]:
    """Read the folder of ScreenSpot-Pro.

    Args:
        path: the folder with ``annotations`` and ``images``.
        images: the folder with the images; None: ``images`` in it.

    Raises:
        PixelPruneError: there are no annotations, or an image is not there.
        OSError: a file can't be read.
    """
    files = sorted((path / "annotations").glob("*.json"))
    if not files:
        raise PixelPruneError(f"{path} has no annotations/*.json; expected the folder of ScreenSpot-Pro")
    return _read(files, [images or path / "images"])


def _read(files: Sequence[Path], folders: Sequence[Path]) -> list[Row]:
    rows = []
    for file in files:
        found = read_json(file)
        if not isinstance(found, list) or not all(isinstance(one, dict) and "img_filename" in one for one in found):
            raise PixelPruneError(f"{file} is not a list of objects with img_filename; expected those of ScreenSpot")
        for number, fields in enumerate(found):
            owner = f"entry {number} of {file}"
            image = find_image(str(fields["img_filename"]), folders, owner)
            rows.append(Row(f"{file.stem}-{number}", fields, (file_blob(image),)))
    return rows
