"""The parquet files of Hugging Face data sets, as lmms-eval reads them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ...errors import PixelPruneError
from ..requirements import need
from ..rows import Blob, Row, file_blob, key_of
from .folders import find_image

IMAGE_COLUMNS = ("image", "images")


def read_parquet(path: Path, images: Path | None = None) -> list[Row]:
    """Read a parquet file, or those of a folder in the order of their names. Images stay there until they are needed.

    Args:
        path: the file or the folder.
        images: the folder that paths of images are relative to; None: that of the file.

    Returns:
        Their rows, whose ids are numbers from 0.

    Raises:
        PixelPruneError: it is not parquet, or a row refers to an image that is not there.
        ImportError: pyarrow is missing.
    """
    parquet = need("pyarrow.parquet", "reading parquet")
    files = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    rows: list[Row] = []
    for file in files:
        try:
            opened = parquet.ParquetFile(file)
        except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
            raise PixelPruneError(f"{file} is not parquet ({str(error).splitlines()[0]})") from None
        with opened:
            names = opened.schema_arrow.names
            column = next((name for name in IMAGE_COLUMNS if name in names), None)
            fields = [name for name in names if name != column]
            for group in range(opened.num_row_groups):
                for at, values in enumerate(opened.read_row_group(group, columns=fields).to_pylist()):
                    row_id = str(len(rows))
                    blobs = _blobs(file, group, at, column, images or file.parent, row_id) if column else ()
                    rows.append(Row(row_id, {k: v for k, v in values.items() if v is not None}, blobs))
    return rows


def _blobs(file: Path, group: int, at: int, column: str, folder: Path, row_id: str) -> tuple[Blob, ...]:
    blobs = []
    for number, image in enumerate(_listed(_images(file, group, column)[at])):
        content, name = _parts(image)
        if content is not None:
            read = functools.partial(_content, file, group, column, at, number)
            blobs.append(Blob(key_of(content), read))
        elif name:
            blobs.append(file_blob(find_image(name, [folder], f"row {row_id} of {file}")))
    return tuple(blobs)


def _content(file: Path, group: int, column: str, at: int, number: int) -> bytes:
    content, _ = _parts(_listed(_images(file, group, column)[at])[number])
    assert content is not None
    return content


@functools.lru_cache(maxsize=1)  # rows are read in order
def _images(file: Path, group: int, column: str) -> list[Any]:
    parquet = need("pyarrow.parquet", "reading parquet")
    with parquet.ParquetFile(file) as opened:
        found: list[Any] = opened.read_row_group(group, columns=[column]).column(column).to_pylist()
    return found


def _listed(images: Any) -> list[Any]:
    return images if isinstance(images, list) else [] if images is None else [images]


def _parts(image: Any) -> tuple[bytes | None, str | None]:
    """Return the bytes and the path of an image: a struct of both, or one of them."""
    if isinstance(image, dict):
        return image.get("bytes"), image.get("path")
    return (image, None) if isinstance(image, bytes) else (None, image if isinstance(image, str) else None)
