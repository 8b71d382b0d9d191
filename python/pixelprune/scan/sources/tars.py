"""Tar files as WebDataset has them: images among other files of the same names."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from tarfile import InvalidHeaderError, ReadError, TruncatedHeaderError  # type: ignore[attr-defined]

from ...arguments import escaped, text_of
from ...errors import PixelPruneError
from .finding import IMAGES, Found
from .item import Given, Item, Reading, limited

_DAMAGED = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


class _Member(tarfile.TarInfo):
    """A member; a damaged header is an error wherever it is. By itself `tarfile` takes a later one for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:  # the name that the base class has
        try:
            return super().fromtarfile(tarfile)
        except (InvalidHeaderError, TruncatedHeaderError) as error:
            raise ReadError(str(error)) from None


def read(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the images of a tar file; ``member`` is the name in it.

    ``column`` names a suffix, such as ``"left.png"``; None takes every image.

    Raises:
        PixelPruneError: it is damaged.
        OSError: it can't be read.
    """
    suffixes = IMAGES if reading.column is None else (f".{reading.column.lower().lstrip('.')}",)
    try:
        with open(found.path, "rb") as file, tarfile.open(fileobj=file, mode="r:*", tarinfo=_Member) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would remember every one
                name = member.name
                if not member.isfile() or not name.lower().endswith(suffixes) or name.rpartition("/")[2][0] == ".":
                    continue
                take = partial(_take, tar, member)
                yield Item(found.source, name, found.kind, take, file.tell())  # where the packed file has been read to
    except _DAMAGED as error:
        raise PixelPruneError(f"{escaped(found.source)}: not a tar file, or a damaged one ({text_of(error)})") from None


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Given:
    limited(member.size, member.name)
    try:
        file = tar.extractfile(member)
        assert file is not None
        return file.read()
    except _DAMAGED as error:
        raise PixelPruneError(f"{escaped(member.name)}: the tar file is damaged ({text_of(error)})") from None
