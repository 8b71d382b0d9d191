"""Parquet, Arrow and Feather files, and data sets that the `datasets` library has saved: all are Arrow tables.

Images are columns of bytes, structs of bytes and path, or lists of either. Rows are read in batches, as their images
are asked for; row groups without such a row are not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ...arguments import escaped, text_of
from ...errors import PixelPruneError
from ..requirements import need
from .columns import as_given, check_group, pick
from .finding import Found
from .item import Given, Item, Reading

BATCH = 16
"""Rows of a parquet file that are in memory at a time."""


class _Chunk(NamedTuple):
    """Some rows of a file that can be read by themselves."""

    rows: int
    open: Callable[[list[str]], Iterator[Any]]
    """Yields record batches with these columns."""


def read(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the images of a table; ``member`` is the row, from 0, and in a list of images ``ROW/PLACE``.

    Raises:
        PixelPruneError: it is damaged, or has no image column.
        OSError: it can't be read.
        ImportError: pyarrow is not installed.
    """
    pa = need("pyarrow", "reading tables")
    files = [found.path] if found.suffix else _files_of(found.path)
    row = 0
    before = 0
    for path in files:
        size = path.stat().st_size
        try:
            schema, chunks = _open(path)
            name = _image_column(pa, found.source, schema, reading.column)
            check_group(found.source, schema.names, reading.group_by)
            total = max(1, sum(chunk.rows for chunk in chunks))
            done = 0
            for chunk in chunks:
                for item in _of_chunk(pa, chunk, schema, name, row, found, reading, path.parent):
                    yield item._replace(done=before + size * (done + item.done) / total)
                row += chunk.rows
                done += chunk.rows
        except pa.ArrowInvalid as error:
            raise PixelPruneError(
                f"{escaped(found.source)}: damaged, or of another format ({text_of(error)})"
            ) from None
        before += size


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a saved data set, in the order of its rows."""
    try:
        state = json.loads((folder / "state.json").read_bytes())
        return [folder / file["filename"] for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError):
        raise PixelPruneError(f"{escaped(str(folder))}: state.json is damaged; expected a saved data set") from None


def _open(path: Path) -> tuple[Any, list[_Chunk]]:
    """Return the schema of a file and its rows."""
    if path.suffix.lower() == ".parquet":
        parquet = need("pyarrow.parquet", "reading parquet files")
        file = parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        groups = range(file.metadata.num_row_groups)
        return file.schema_arrow, [
            _Chunk(file.metadata.row_group(i).num_rows, partial(_row_group, file, i)) for i in groups
        ]
    pa = need("pyarrow", "reading Arrow files")
    source = pa.memory_map(str(path))
    try:
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except pa.ArrowInvalid:  # the stream format, which the datasets library writes
        source.seek(0)
        reader = pa.ipc.open_stream(source)
        batches = list(reader)  # views of the mapped file
    return reader.schema, [_Chunk(batch.num_rows, partial(_selected, batch)) for batch in batches]


def _row_group(file: Any, i: int, columns: list[str]) -> Iterator[Any]:
    yield from file.iter_batches(BATCH, [i], columns=columns, use_threads=False)


def _selected(batch: Any, columns: list[str]) -> Iterator[Any]:
    yield batch.select(columns)


def _image_column(pa: Any, source: str, schema: Any, column: str | None) -> str:
    able = [field.name for field in schema if _holds_images(pa, field.type)]
    if not able and column is None:
        able = [field.name for field in schema if field.name == "image" and _is_text(pa, field.type)]
    if column is not None and column in schema.names and _is_text(pa, schema.field(column).type):
        return column
    return pick(source, able, schema.names, column)


def _holds_images(pa: Any, kind: Any) -> bool:
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return _holds_images(pa, kind.value_type)
    if types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return "bytes" in names and _holds_images(pa, kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_text(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


class _Rows:
    """Reads the rows of a chunk in order, skipping those that nobody asks for."""

    def __init__(self, chunk: _Chunk, columns: list[str]) -> None:
        self._chunk = chunk
        self._columns = columns
        self._batches: Iterator[Any] | None = None
        self._first = self._end = 0
        self._batch: Any = None

    def row(self, i: int) -> dict[str, Any]:
        if self._batches is None:
            self._batches = self._chunk.open(self._columns)
        while i >= self._end:
            self._batch = next(self._batches, None)
            if self._batch is None:  # an error of an earlier row has ended them
                raise PixelPruneError("the table is damaged")
            self._first, self._end = self._end, self._end + self._batch.num_rows
        return {name: self._batch.column(name)[i - self._first].as_py() for name in self._columns}


def _of_chunk(
    pa: Any, chunk: _Chunk, schema: Any, name: str, first: int, found: Found, reading: Reading, folder: Path
) -> Iterator[Item]:
    """Yield the images of a chunk; ``done`` counts its rows."""
    group = reading.group_by
    kinds = None if group is None else _Rows(chunk, [group])
    lists = pa.types.is_list(schema.field(name).type) or pa.types.is_large_list(schema.field(name).type)
    rows = _Rows(chunk, [name])
    for i in range(chunk.rows):
        kind = found.kind if kinds is None or group is None else str(kinds.row(i)[group])

        def take(i: int = i, place: int | None = None) -> Given:
            try:
                cell = rows.row(i)[name]
            except pa.ArrowInvalid as error:
                raise PixelPruneError(f"the table is damaged ({text_of(error)})") from None
            return as_given(cell if place is None else cell[place], folder)

        if not lists:
            yield Item(found.source, str(first + i), kind, take, i + 1)
            continue
        for place in range(len(rows.row(i)[name] or ())):
            yield Item(found.source, f"{first + i}/{place}", kind, partial(take, i, place), i + 1)
