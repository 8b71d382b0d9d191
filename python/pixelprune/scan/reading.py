"""Reading a scan back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from ..arguments import escaped
from ..errors import PixelPruneError
from .parts import ROWS_FILE, read_settings
from .requirements import need
from .sources.finding import names_before_glob
from .sources.item import Page, Reading
from .sources.reading import read_sources

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Scan:
    """The result of a scan. Made by `scan` and `read`.

    Attributes:
        folder: where it is.
        settings: how it was made: ``spec`` (all fields), ``resample``, ``alpha``, ``sweep`` and ``indices`` (labels),
            ``dpi``, ``sources``, ``exclude``, ``column``, ``group_by``, ``version``, ``fingerprint``, and ``base``,
            the directory that relative paths are relative to.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.scan import scan
        >>> Image.new("RGB", (64, 64)).save("black.png")
        >>> found = scan("black.png", "found", sweep=["pred_2d@0"])
        >>> found.sweep, found.rows.num_rows
        (('pred_2d@0',), 1)
    """

    folder: Path
    settings: Mapping[str, Any]

    @cached_property
    def rows(self) -> Any:
        """The ``pyarrow.Table`` of the rows; `pixelprune.scan.rows` names its columns. Read when first asked for."""
        return need("pyarrow.parquet", "pixelprune.scan").read_table(self.folder / ROWS_FILE)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The figures by kind of image, as `pixelprune.scan.summary.summarize` returns them."""
        found: dict[str, Any] = json.loads((self.folder / SUMMARY_FILE).read_bytes())
        return found

    @property
    def sweep(self) -> tuple[str, ...]:
        """The labels of the settings that were compared."""
        return tuple(self.settings["sweep"])

    def locate(self, row: int | Mapping[str, Any]) -> bytes | Image.Image:
        """Open the image of a row again.

        Args:
            row: its number, or a row with its ``source``, ``member`` and ``sha256``.

        Returns:
            The bytes of the image file; of a page of a PDF, the rendered Pillow image.

        Raises:
            PixelPruneError: it is not there any more, or has changed.
            OSError: it can't be read.

        Example:
            >>> from PIL import Image
            >>> from pixelprune.scan import scan
            >>> Image.new("RGB", (64, 64)).save("black.png")
            >>> scan("black.png", "located", sweep=["pred_2d@0"]).locate(0)[1:4]
            b'PNG'
        """
        wanted = row if isinstance(row, Mapping) else self.rows.slice(row, 1).to_pylist()[0]
        reading = Reading(self.settings["dpi"], self.settings["column"], None)
        for source in self.settings["sources"]:
            for path in _paths(Path(self.settings["base"]) / source, wanted["source"]):
                for item in read_sources([str(path)], (), reading):
                    if item.member != wanted["member"]:
                        continue
                    given = item.take()
                    given = given.read_bytes() if isinstance(given, Path) else given
                    digest = given.digest if isinstance(given, Page) else hashlib.sha256(given).hexdigest()
                    if digest == wanted["sha256"]:  # another source may have a file of this name
                        return given.image if isinstance(given, Page) else given
        name = escaped("/".join(filter(None, (wanted["source"], wanted["member"]))))
        raise PixelPruneError(f"{name} is not in the sources of the scan any more, or has changed")


def read(folder: str | os.PathLike[str]) -> Scan:
    """Read a finished scan.

    Args:
        folder: what `scan` wrote to.

    Raises:
        PixelPruneError: it holds no finished scan.
        OSError: it can't be read.
        ImportError: pyarrow is not installed.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.scan import read, scan
        >>> Image.new("RGB", (64, 64)).save("black.png")
        >>> _ = scan("black.png", "again")
        >>> read("again").settings["resample"]
        'torchvision'
    """
    folder = Path(folder)
    if not (folder / ROWS_FILE).exists():
        raise PixelPruneError(f"{escaped(str(folder))} has no {ROWS_FILE}; expected the folder of a finished scan")
    return Scan(folder, read_settings(folder / ROWS_FILE))


def _paths(given: Path, below: str) -> Iterator[Path]:
    """Yield where the file of a row may be: it was given itself, or is below what was given."""
    folder = Path(*names_before_glob(given.parts))
    for path in dict.fromkeys((given, folder / below, given / Path(below).name)):
        if path.exists() and path.as_posix().endswith(below.lstrip("./")):
            yield path
