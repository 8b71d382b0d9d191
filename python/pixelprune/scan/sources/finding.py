"""From what a caller names to files: folders are searched, globs expanded, files taken as they are."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ...arguments import escaped
from ...errors import PixelPruneError
from .globs import MAGIC, compiled

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Suffixes of the images that are searched for in folders."""
SEARCHED = (*IMAGES, ".pdf")
TABLES = (".parquet", ".arrow", ".feather")
CONTAINERS = (".pdf", *TABLES, ".tsv", ".jsonl", ".tar", ".tar.gz", ".tgz")
DATA_SET = ("dataset_info.json", "state.json")
SPLITS = "dataset_dict.json"


class Found(NamedTuple):
    """A file to read, or a folder that the datasets library has saved."""

    path: Path
    source: str
    """What the rows call it."""
    kind: str
    """The group of its images."""
    suffix: str
    """What tells how it is read: a lower-case suffix, or ``""`` for a saved data set."""
    is_named: bool
    """Whether the caller named it, so that an error of it ends the scan; others are rows with an error."""
    size: int
    """Bytes."""


class Finder:
    """The files of a scan's sources. Iterating it again searches again, so no list of them is held.

    Args:
        sources: folders, files and globs.
        exclude: globs of what to leave out, relative to the folder that was given.

    Raises:
        PixelPruneError: a source that can't be read as anything.
        OSError: a source that does not exist.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.scan.sources.finding import Finder
        >>> Image.new("RGB", (8, 8)).save("black.png")
        >>> [found.source for found in Finder(["."], ["white*"])]
        ['black.png']
    """

    def __init__(self, sources: Iterable[str], exclude: Iterable[str] = ()) -> None:
        self._sources = list(sources)
        self._exclude = [compiled(pattern) for pattern in exclude]

    def __iter__(self) -> Iterator[Found]:
        for source in self._sources:
            yield from self._of(source)

    def _of(self, source: str) -> Iterator[Found]:
        path = Path(source)
        if MAGIC.search(source) and not path.exists():
            base = Path(*names_before_glob(path.parts))
            matches = sorted(Path(match) for match in glob.iglob(source, recursive=True))
            nested = set()
            for match in matches:
                if match.is_dir():
                    nested.add(match)
                elif nested.isdisjoint(match.parents) and suffix_of(match) and not self._leaves_out(match, base):
                    yield _made(match, base)
            for match in sorted(nested):
                if nested.isdisjoint(match.parents):
                    yield from self._below(match, base)
        elif path.is_dir():
            yield from self._in_folder(path, source)
        else:
            size = path.stat().st_size
            suffix = suffix_of(path)
            if not suffix:
                raise PixelPruneError(
                    f"{escaped(source)}: not known by its name; expected a folder, an image ({', '.join(IMAGES)}), or "
                    f"{', '.join(CONTAINERS)}"
                )
            kind = path.absolute().parent.name if suffix in IMAGES else path.name[: -len(suffix)]
            yield Found(path, source, kind, suffix, True, size)

    def _in_folder(self, path: Path, source: str) -> Iterator[Found]:
        if all((path / name).is_file() for name in DATA_SET):
            size = sum(file.stat().st_size for file in path.glob("*.arrow"))
            yield Found(path, source, path.absolute().name, "", True, size)
        elif (path / SPLITS).is_file():
            for split in sorted(child for child in path.iterdir() if child.is_dir()):
                yield from self._in_folder(split, f"{source.rstrip('/')}/{split.name}")
        else:
            yield from self._below(path, path)

    def _below(self, folder: Path, base: Path) -> Iterator[Found]:
        """Search a folder: its files by name, then its folders by name."""
        files, folders = [], []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(folder / entry.name)
                elif suffix_of(entry.name) in SEARCHED:
                    files.append(folder / entry.name)
        for path in sorted(files):
            if not self._leaves_out(path, base):
                yield _made(path, base)
        for path in sorted(folders):
            if not self._leaves_out(path, base):
                yield from self._below(path, base)

    def _leaves_out(self, path: Path, base: Path) -> bool:
        parts = path.relative_to(base).parts
        below = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        return any(pattern.fullmatch(part) for pattern in self._exclude for part in below)


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return what tells how a file is read, or ``""``.

    Example:
        >>> from pixelprune.scan.sources.finding import suffix_of
        >>> suffix_of("a/Scan.JPG"), suffix_of("shard.tar.gz"), suffix_of("notes.txt")
        ('.jpg', '.tar.gz', '')
    """
    name = os.fsdecode(path).lower()
    return next((suffix for suffix in (*IMAGES, *CONTAINERS) if name.endswith(suffix)), "")


def other_files(folder: str) -> str:
    """Say which files a folder holds that are read only if they are named.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.scan.sources.finding import other_files
        >>> _ = Path("train.parquet").write_bytes(b"")
        >>> other_files(".")
        "; it holds .parquet files, which have to be named, as in './**/*.parquet'"
    """
    suffixes = {suffix_of(path) for path in Path(folder).rglob("*") if path.is_file()} - {"", *SEARCHED}
    if not suffixes:
        return ""
    name = f"{folder.rstrip('/')}/**/*{min(suffixes)}"
    return f"; it holds {' and '.join(sorted(suffixes))} files, which have to be named, as in {name!r}"


def names_before_glob(parts: Iterable[str]) -> Iterator[str]:
    """Yield the leading parts of a path that are names and not patterns.

    Example:
        >>> from pixelprune.scan.sources.finding import names_before_glob
        >>> list(names_before_glob(["data", "*", "a.png"]))
        ['data']
    """
    for part in parts:
        if MAGIC.search(part):
            return
        yield part


def _made(path: Path, base: Path) -> Found:
    try:
        size = path.stat().st_size
    except OSError:  # a broken link: reading it says so
        size = 0
    below = path.relative_to(base)
    kind = below.parts[0] if len(below.parts) > 1 else base.absolute().name
    return Found(path, below.as_posix(), kind, suffix_of(path), False, size)
