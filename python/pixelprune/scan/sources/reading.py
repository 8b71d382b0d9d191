"""The images of a scan's sources, one by one, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeAlias

from ...arguments import escaped
from ...errors import PixelPruneError
from . import conversations, pdf, tables, tars, tsv
from .finding import IMAGES, TABLES, Finder, Found, other_files
from .item import Given, Item, Reading

Reader: TypeAlias = Callable[[Found, Reading], Iterator[Item]]

_READERS: dict[str, Reader] = {
    ".pdf": pdf.read,
    **dict.fromkeys((*TABLES, ""), tables.read),
    ".tsv": tsv.read,
    ".jsonl": conversations.read,
    **dict.fromkeys((".tar", ".tar.gz", ".tgz"), tars.read),
}
_GROUPED = (*TABLES, "", ".tsv", ".jsonl")
"""What has columns or fields."""


def read_sources(sources: Iterable[str], exclude: Iterable[str], reading: Reading) -> Sources:
    """Return the images of sources.

    Args:
        sources: folders, files and globs.
        exclude: globs of what to leave out.
        reading: what the readers of containers need to know.

    Raises:
        PixelPruneError: a source has no images, or can't be read.
        OSError: a source does not exist or may not be read.
    """
    named = [os.fspath(source) for source in sources]
    if not named or "" in named:
        raise PixelPruneError("no source is given; expected folders, files or globs")
    return Sources(named, list(exclude), reading)


class Sources:
    """The images of a scan: iterate it for `Item`s. Checked when it is made, so that a bad source is found first."""

    def __init__(self, named: list[str], exclude: list[str], reading: Reading) -> None:
        self._reading = reading
        self._finder = Finder(named, exclude)
        self.size = 0
        """Bytes of all sources."""
        for source in named:
            count = 0
            for found in Finder([source], exclude):
                count += 1
                self.size += found.size
                if reading.group_by is not None and found.suffix not in _GROUPED:
                    raise PixelPruneError(
                        f"{escaped(found.source)} has no columns; expected group_by= with tables and JSONL only"
                    )
                if found.suffix not in IMAGES and found.is_named:
                    self._check(found)
            if not count:
                _refuse(source, bool(exclude))

    def _check(self, found: Found) -> None:
        for _ in _read(found, self._reading):
            return
        raise PixelPruneError(f"{escaped(found.source)}: no images; expected at least one")

    def __iter__(self) -> Iterator[Item]:
        before = 0
        for found in self._finder:
            for place, item in enumerate(items_of(found, self._reading)):
                yield item._replace(done=before + item.done, found=found, place=place)
            before += found.size


def items_of(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the images of a file. One that can't be read and was not named is one image, whose ``take`` raises.

    Raises:
        PixelPruneError: a file that was named can't be read.
        OSError: the same.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.scan.sources.finding import Finder
        >>> from pixelprune.scan.sources.item import Reading
        >>> from pixelprune.scan.sources.reading import items_of
        >>> Image.new("RGB", (8, 8)).save("black.png")
        >>> [found] = Finder(["black.png"])
        >>> [item.source for item in items_of(found, Reading(dpi=144, column=None, group_by=None))]
        ['black.png']
    """
    items = _read(found, reading)
    while True:
        try:
            item = next(items, None)
        except (PixelPruneError, OSError) as error:
            if found.is_named:
                raise
            yield _bad(found, error)
            return
        if item is None:
            return
        yield item


def _read(found: Found, reading: Reading) -> Iterator[Item]:
    if found.suffix in IMAGES:
        return iter([Item(found.source, None, found.kind, partial(Path, found.path), found.size)])
    return _READERS[found.suffix](found, reading)


def _bad(found: Found, error: Exception) -> Item:
    def take() -> Given:
        raise error

    return Item(found.source, None, found.kind, take, found.size)


def _refuse(source: str, excludes: bool) -> NoReturn:
    name = escaped(source)
    if not Path(source).is_dir():
        raise PixelPruneError(f"{name}: no file matches; expected images, PDFs or other sources")
    kinds = f"{', '.join('*' + suffix for suffix in IMAGES)} or *.pdf"
    rest = " that exclude= does not leave out" if excludes else ""
    raise PixelPruneError(f"{name}: no images; expected files named {kinds}{rest}{other_files(source)}")
