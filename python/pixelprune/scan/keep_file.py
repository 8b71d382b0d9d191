"""The file of kept tokens: an Arrow table with a row an image, a bit a token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..selection.labels import label
from ..selection.settings import PruneSettings
from .measuring import Measured
from .options import ALGORITHM, ScanOptions
from .requirements import need

FOLDER = "indices"
FILE = "keep.arrow"
KEY = b"pixelprune"
"""The key of what the tokens were chosen with, in the metadata of the schema."""
GROUP = 2048
"""Rows of a batch."""


def write_keep(file: BinaryIO, measured: Sequence[Measured], options: ScanOptions) -> None:
    """Write the kept tokens of images, a bit a token. Images that could not be read have none."""
    pa = need("pyarrow", "pixelprune.scan")
    good = [one for one in measured if one.keep and one.row["sha256"] is not None]
    columns: dict[str, Any] = {
        "sha256": [bytes.fromhex(one.row["sha256"]) for one in good],
        "grid_h": [one.row["grid_h"] for one in good],
        "grid_w": [one.row["grid_w"] for one in good],
    }
    for name in map(label, options.indices):
        columns[name] = [_packed(one.keep[name], one.row["tokens"]) for one in good]
    schema = _schema(pa, options)
    with pa.ipc.new_file(file, schema) as writer:
        writer.write_table(pa.Table.from_pydict(columns, schema))


def write_joined(file: BinaryIO, paths: Iterable[Path], options: ScanOptions) -> None:
    """Join files of `write_keep`."""
    pa = need("pyarrow", "pixelprune.scan")
    with pa.ipc.new_file(file, _schema(pa, options)) as writer:
        waiting: list[Any] = []
        for path in paths:
            waiting.append(pa.ipc.open_file(path.read_bytes()).read_all())
            if sum(table.num_rows for table in waiting) >= GROUP:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())


def _schema(pa: Any, options: ScanOptions) -> Any:
    fields = [("sha256", pa.binary(32)), ("grid_h", pa.int32()), ("grid_w", pa.int32())]
    fields += [(label(settings), pa.binary()) for settings in options.indices]
    made_with = {label(settings): decides(options, settings) for settings in options.indices}
    return pa.schema(fields, metadata={KEY: json.dumps(made_with)})


def decides(options: ScanOptions, settings: PruneSettings) -> dict[str, Any]:
    """Return everything that decides which tokens are kept, as JSON has it."""
    whole: dict[str, Any] = json.loads(json.dumps(options.as_dict()))
    return {"algorithm": ALGORITHM, "settings": label(settings), **{k: whole[k] for k in ("spec", "resample", "alpha")}}


def _packed(keep: NDArray[np.int64], tokens: int) -> bytes:
    mask = np.zeros(tokens, np.bool_)
    mask[keep] = True
    return np.packbits(mask).tobytes()
