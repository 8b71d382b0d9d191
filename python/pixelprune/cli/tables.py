"""The tables of ``pixelprune bench``: Markdown that also reads well as plain text."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from ..markdown import markdown
from ..runtime import cpu_features
from .contestants import FAST
from .timing import Measured

TITLES = {
    "patches": "decoded image to `pixel_values`, times as fast",
    "file": "file to `pixel_values`, time over decoding",
    "selection": "`prune` alone, time over copying",
}
COMPARED = ("torch", "torchvision", "transformers")
"""Packages whose versions matter to the figures."""


def groups(found: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Return the columns of a table: all images, and those that keep less than 70 % of their tokens.

    Args:
        found: measurements of single images.

    Example:
        >>> from pixelprune.cli import tables
        >>> from pixelprune.cli.timing import Measured
        >>> page, photo = Measured("page", 1, 0.4, {}, {}), Measured("photo", 1, 1.0, {}, {})
        >>> list(tables.groups([page, photo]))
        ['all 2 images', '1 that keep < 70 %']
    """
    few = [one for one in found if one.kept < 0.7]
    columns = {f"all {len(found)} images" if len(found) > 1 else "1 image": list(found)}
    if 0 < len(few) < len(found):
        columns[f"{len(few)} that keep < 70 %"] = few
    return columns


def table(job: str, columns: Mapping[str, Sequence[Measured]], title: str = "", faster: bool | None = None) -> str:
    """Return a Markdown table of one job: a row for each contestant, medians over the images of each column.

    The first row has times. The others say how many times as fast they are, or how many times as long they take.

    Args:
        job: the name of one that was measured.
        columns: images by heading; a contestant that was not measured there has an empty cell.
        title: the first heading; `TITLES` has those of `jobs`.
        faster: say how many times as fast instead of as long; by default for ``"patches"`` only.

    Example:
        >>> from pixelprune.cli import tables
        >>> from pixelprune.cli.timing import Measured
        >>> seconds = {"file": {"decoding": 0.010, "ours": 0.012}}
        >>> print(tables.table("file", {"1 image": [Measured("a", 1, 1.0, seconds, {})]}))
        | file to `pixel_values`, time over decoding | 1 image |
        |--------------------------------------------|--------:|
        | decoding                                   | 10.0 ms |
        | ours                                       |    1.20 |
    """
    every = list({id(one): one for column in columns.values() for one in column}.values())
    names = list(dict.fromkeys(name for one in every for name in one.seconds.get(job, {})))
    compared = job == "patches" and names[0] == FAST
    faster = job == "patches" if faster is None else faster
    rows = [[title or TITLES[job], *(["same values"] if compared else []), *columns]]
    for name in names:
        row = [name]
        if compared:
            row.append("" if name == names[0] else _verdict([one.equal.get(name) for one in every]))
        for column in columns.values():
            pairs = [(one.seconds[job][name], one.seconds[job][names[0]]) for one in column if name in one.seconds[job]]
            row.append(_cell(pairs, name == names[0], faster))
        rows.append(row)
    return markdown(rows, right=2 if compared else 1)


def _verdict(equal: list[bool | None]) -> str:
    told = [one for one in equal if one is not None]
    if not told:
        return ""
    return "yes" if all(told) else f"in {sum(told)} of {len(told)}" if any(told) else "no"


def _cell(pairs: list[tuple[float, float]], base: bool, faster: bool) -> str:
    if not pairs:
        return ""
    if base:
        return f"{1000 * statistics.median(own for own, _ in pairs):.1f} ms"
    if faster:
        return f"{statistics.median(first / own for own, first in pairs):.1f} x"
    return f"{statistics.median(own / first for own, first in pairs):.2f}"


def machine(packages: Iterable[str] = ()) -> str:
    """Return the CPU and the versions that the figures were made with.

    Args:
        packages: besides numpy and pillow; those that are not installed are left out.

    Example:
        >>> from pixelprune.cli import tables
        >>> "numpy " in tables.machine()
        True
    """
    versions = [f"Python {platform.python_version()}"]
    for package in ("numpy", "pillow", *packages):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{cpu_name()}, {os.cpu_count()} cores, {', '.join(cpu_features())}; {', '.join(versions)}"


def cpu_name() -> str:
    """Return the name of the CPU.

    Example:
        >>> from pixelprune.cli import tables
        >>> tables.cpu_name() != ""
        True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
