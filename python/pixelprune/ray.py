"""Measuring in a Ray Data pipeline of your own.

`Measure` turns batches of images into rows as `pixelprune.scan` has them. For files that can be scanned as they are,
``pixelprune.scan.scan(..., engine="ray")`` does the whole. Installed by ``pip install 'pixelprune[ray]'``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from .arguments import escaped
from .errors import PixelPruneError
from .scan import rows
from .scan.measuring import Measured, failed, measure_all
from .scan.options import ScanOptions
from .scan.requirements import need
from .scan.sources.columns import as_given

__all__ = ["Measure"]


class Measure:
    """Measures batches of images: what `ray.data.Dataset.map_batches` calls. Picklable.

    The images are paths, bytes of image files, structs of bytes and path, or uint8 arrays, as `read_images`,
    `read_binary_files`, `read_parquet` and `read_webdataset` of `ray.data` yield them. Arrays have no ``sha256``,
    ``format``, ``quality`` and ``bytes``: prefer the bytes of the files. An image that can't be read is a row with an
    error.

    Args:
        options: how to measure.
        image: the column of the images.
        source: the column that says where an image is from; None: the rows have ``""``.
        member: the column that says which image of its source it is; None: the rows have null.
        kind: the column of the groups; None: the name of the folder of ``source``.

    Raises:
        PixelPruneError: when called: a batch lacks a column.
        ImportError: when called: pyarrow is not installed.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from pixelprune.ray import Measure
        >>> from pixelprune.scan import ScanOptions
        >>> Image.new("RGB", (640, 320)).save(file := io.BytesIO(), "PNG")
        >>> measure = Measure(ScanOptions(sweep=["pred_2d@0"]), source="path")
        >>> batch = {"bytes": [file.getvalue()], "path": ["pages/black.png"]}  # of read_binary_files
        >>> measure(batch).select(["source", "kind", "tokens", "kept:pred_2d@0"]).to_pylist()
        [{'source': 'pages/black.png', 'kind': 'pages', 'tokens': 200, 'kept:pred_2d@0': 1}]
    """

    def __init__(
        self,
        options: ScanOptions,
        *,
        image: str = "bytes",
        source: str | None = None,
        member: str | None = None,
        kind: str | None = None,
    ) -> None:
        self.options = options
        self.image = image
        self.source = source
        self.member = member
        self.kind = kind

    def __call__(self, batch: Mapping[str, Iterable[Any]]) -> Any:
        """Measure a batch.

        Args:
            batch: its columns, as the batch format ``"numpy"`` has them.

        Returns:
            A ``pyarrow.Table`` with the columns of `pixelprune.scan.rows`, a row an image.
        """
        pa = need("pyarrow", "pixelprune.ray", extra="ray")
        images = list(self._column(batch, self.image))
        sources = ["" if one is None else str(one) for one in self._values(batch, self.source, len(images))]
        members = [None if one is None else str(one) for one in self._values(batch, self.member, len(images))]
        kinds = [PurePath(one).parent.name for one in sources]
        if self.kind is not None:
            kinds = [str(one) for one in self._column(batch, self.kind)]
        table = []
        for place in zip(images, sources, members, kinds, strict=True):
            row = self._measure(place[0]).row
            table.append({**row, **dict(zip(("source", "member", "kind"), place[1:], strict=True))})
        return pa.Table.from_pylist(table, rows.schema(self.options.labels, self.options.as_dict()))

    def _column(self, batch: Mapping[str, Iterable[Any]], name: str) -> Iterable[Any]:
        if name not in batch:
            have = ", ".join(map(escaped, batch))
            raise PixelPruneError(f"the batch has the columns {have}; expected {escaped(name)} among them")
        return batch[name]

    def _values(self, batch: Mapping[str, Iterable[Any]], name: str | None, count: int) -> Iterable[Any]:
        return [None] * count if name is None else self._column(batch, name)

    def _measure(self, image: Any) -> Measured:
        try:
            given = as_given(image, Path()) if isinstance(image, (str, bytes, dict)) or image is None else image
        except PixelPruneError as error:
            return failed(error, self.options)
        return measure_all(given, self.options)
