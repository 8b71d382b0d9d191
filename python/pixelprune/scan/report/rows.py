"""The rows of a scan as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...selection.settings import PruneSettings
from ..rows import content, kept

MOST_KINDS = 30
"""The rarest kinds above this number are shown as one."""


@dataclass(frozen=True)
class Rows:
    """The images that could be measured. Arrays have one entry an image; ``kept`` and ``content`` one row a setting."""

    row: NDArray[np.int64]
    """Row numbers in the scan's table."""
    names: list[str]
    kinds: list[str]
    kind: NDArray[np.int64]
    """Indices into ``kinds``."""
    digests: list[str]
    formats: list[str]
    qualities: list[int | None]
    tokens: NDArray[np.int32]
    unique: NDArray[np.int32]
    kept: NDArray[np.int32]
    content: NDArray[np.int32]
    errors: list[tuple[str, str]]
    """Name and error of each image that could not be measured."""


def read_rows(table: Any, labels: Sequence[str]) -> Rows:
    """Return the rows of a scan's table as arrays.

    Args:
        table: the pyarrow table of a scan.
        labels: the labels of the sweep's settings.
    """
    columns = {name: table.column(name).to_pylist() for name in ("source", "member", "kind", "sha256", "format")}
    qualities, errors = table.column("quality").to_pylist(), table.column("error").to_pylist()
    names = [
        source if member is None else f"{source} · {member}"
        for source, member in zip(columns["source"], columns["member"], strict=True)
    ]
    good = [i for i, error in enumerate(errors) if error is None]
    row = np.array(good, np.int64)

    def numbers(name: str) -> NDArray[np.int32]:
        return np.asarray(table.column(name).take(row).to_numpy(), np.int32)

    kinds, kind = _kinds([columns["kind"][i] for i in good])
    return Rows(
        row,
        [names[i] for i in good],
        kinds,
        kind,
        [columns["sha256"][i] for i in good],
        [columns["format"][i] or "unknown format" for i in good],
        [qualities[i] for i in good],
        numbers("tokens"),
        numbers("unique"),
        np.stack([numbers(kept(label)) for label in labels]),
        np.stack([numbers(content(label)) for label in labels]),
        [(names[i], error) for i, error in enumerate(errors) if error is not None],
    )


def variant_of(settings: PruneSettings) -> str:
    """Return what the settings are but for the threshold and the protection: "pred_2d", "raster/mae/open"."""
    metric = "" if settings.metric == "max" else f"/{settings.metric}"
    return f"{settings.core.method}{metric}{'' if settings.anchored else '/open'}"


def _kinds(of_images: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The kinds, most frequent first, and for each image the index of its own."""
    names, inverse, counts = np.unique(np.array(of_images, object), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    kinds = [str(names[i]) for i in order]
    if len(kinds) > MOST_KINDS:
        place = np.minimum(place, MOST_KINDS - 1)
        kinds = [*kinds[: MOST_KINDS - 1], f"{len(kinds) - MOST_KINDS + 1} other kinds"]
    return kinds, place[inverse]
