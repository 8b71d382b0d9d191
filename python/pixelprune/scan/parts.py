"""The output of a scan while it runs: small files that are there as a whole or not at all.

``parts/`` holds ``settings.json`` and, for every few rows, a parquet file named after its first row. When all rows are
there they are joined into ``rows.parquet``, and ``parts/`` is removed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..arguments import escaped, shown
from ..errors import PixelPruneError
from ..files.whole import write_text, write_whole
from . import keep_file, rows
from .measuring import Measured
from .options import ScanOptions
from .requirements import need

ROWS_FILE = "rows.parquet"
FOLDER = "parts"
SETTINGS = "settings.json"
_OWN = re.compile(rf"({re.escape(SETTINGS)}|\d{{12}}\.(parquet|arrow))(\.unfinished)?")
GROUP = 2048
"""Rows of a row group of ``rows.parquet``."""


class Parts:
    """Writes the rows of a scan, and finds those of one that was stopped.

    Args:
        out: the folder of the scan; made if there is none.
        options: how images are measured.
        settings: everything that decides the rows; with ``fingerprint``.
        resume: go on with what is there.

    Raises:
        PixelPruneError: ``out`` holds a scan and ``resume`` is False, or one with other settings.
        OSError: ``out`` can't be written to.
    """

    def __init__(self, out: Path, options: ScanOptions, settings: dict[str, Any], *, resume: bool) -> None:
        self._out = out
        self._parts = out / FOLDER
        self._schema = rows.schema(options.labels, settings)
        self._options = options
        self.is_finished = (out / ROWS_FILE).exists()
        """Whether all rows have been written before."""
        self.count = 0
        """Rows that have been written."""
        before = self._settings_before()
        if before is not None and not resume:
            raise PixelPruneError(
                f"{escaped(str(out))} holds a scan already; expected an empty folder, or resume=True to go on with it"
            )
        if before is not None and before["fingerprint"] != settings["fingerprint"]:
            raise PixelPruneError(
                f"{escaped(str(out))} holds a scan with other settings: {_difference(before, settings)}; expected the "
                "same, or another folder"
            )
        if before is None:
            self._parts.mkdir(parents=True, exist_ok=True)
            for path in self._own():  # of a scan that was stopped before it began
                path.unlink()
            write_text(self._parts / SETTINGS, json.dumps(settings))
        self.count = 0 if self.is_finished else self._count()

    def _settings_before(self) -> dict[str, Any] | None:
        if (self._out / ROWS_FILE).exists():
            return read_settings(self._out / ROWS_FILE)
        path = self._parts / SETTINGS
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            found = None
        if not isinstance(found, dict) or "fingerprint" not in found:
            raise PixelPruneError(f"{escaped(str(path))} is not of a scan; expected another folder for the scan")
        return found

    def _own(self, suffix: str = "") -> list[Path]:
        """Return the files that scans write here, in order. Others are left alone."""
        return sorted(
            path for path in self._parts.iterdir() if _OWN.fullmatch(path.name) and path.name.endswith(suffix)
        )

    def _count(self) -> int:
        """Count the rows that are there, and remove what is unfinished."""
        parquet = need("pyarrow.parquet", "pixelprune.scan")
        count = 0
        while (part := self._part(count)).exists():
            count += parquet.read_metadata(part).num_rows
        for path in self._own():
            is_whole = path.suffix in (".parquet", ".arrow") and int(path.stem) < count
            if not is_whole and path.name != SETTINGS:
                path.unlink()
        return count

    def _part(self, first: int) -> Path:
        return self._parts / f"{first:012}.parquet"

    def places(self) -> Iterator[tuple[str, str | None]]:
        """Yield the source and the member of each row that is there."""
        parquet = need("pyarrow.parquet", "pixelprune.scan")
        for path in self._own(".parquet"):
            table = parquet.read_table(path, columns=["source", "member"])
            yield from zip(table["source"].to_pylist(), table["member"].to_pylist(), strict=True)

    def write(self, measured: Sequence[Measured]) -> None:
        """Write the next rows.

        Raises:
            OSError: they can't be written, as on a full disk. Those that were written before stay.
        """
        if not measured:
            return
        pa, parquet = need("pyarrow", "pixelprune.scan"), need("pyarrow.parquet", "pixelprune.scan")
        part = self._part(self.count)
        if self._options.indices:  # first, so that there are indices of all rows that are there
            write_whole(part.with_suffix(".arrow"), lambda file: keep_file.write_keep(file, measured, self._options))
        table = pa.Table.from_pylist([one.row for one in measured], self._schema)
        write_whole(part, lambda file: parquet.write_table(table, file))
        self.count += len(measured)

    def finish(self) -> None:
        """Join the parts and remove them.

        Raises:
            OSError: the rows can't be written. The parts stay, so that the scan can go on.
        """
        if not self.is_finished:
            if self._options.indices:
                folder = self._out / keep_file.FOLDER
                folder.mkdir(exist_ok=True)
                paths = self._own(".arrow")
                write_whole(folder / keep_file.FILE, lambda file: keep_file.write_joined(file, paths, self._options))
            write_whole(self._out / ROWS_FILE, self._write_joined)
            self.is_finished = True
        with contextlib.suppress(OSError):  # nothing of it is read again
            for path in self._own():
                path.unlink()
            self._parts.rmdir()

    def _write_joined(self, file: BinaryIO) -> None:
        pa, parquet = need("pyarrow", "pixelprune.scan"), need("pyarrow.parquet", "pixelprune.scan")
        with parquet.ParquetWriter(file, self._schema) as writer:
            waiting: list[Any] = []
            for path in self._own(".parquet"):
                waiting.append(parquet.read_table(path, schema=self._schema))
                if sum(table.num_rows for table in waiting) >= GROUP:
                    writer.write_table(pa.concat_tables(waiting), GROUP)
                    waiting = []
            if waiting:
                writer.write_table(pa.concat_tables(waiting), GROUP)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in the metadata of ``rows.parquet``.

    Raises:
        PixelPruneError: it is damaged, or another file.
        OSError: it can't be read.
    """
    pa, parquet = need("pyarrow", "pixelprune.scan"), need("pyarrow.parquet", "pixelprune.scan")
    try:
        found = json.loads((parquet.read_schema(path).metadata or {})[rows.KEY])
    except (pa.ArrowInvalid, KeyError):
        raise PixelPruneError(f"{escaped(str(path))}: expected the rows of a scan") from None
    assert isinstance(found, dict)
    return found


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [name for name in now if before.get(name) != now[name] and name != "fingerprint"]
    return ", ".join(f"{name} was {shown(before.get(name))}, is {shown(now[name])}" for name in names)
