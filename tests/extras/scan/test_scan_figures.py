"""The figures of a scan agree with the golden masks of real images, which are not part of the repository.

Set PIXELPRUNE_DATA to the folder that holds ``images``; ``golden/golden_real.json`` lies beside that folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from pixelprune.scan import Scan, label, scan

pytestmark = pytest.mark.skipif("PIXELPRUNE_DATA" not in os.environ, reason="needs PIXELPRUNE_DATA")
DATA = Path(os.environ.get("PIXELPRUNE_DATA", "")).resolve()
MEDIANS = {"document": 0.55, "gui": 0.39, "chart": 0.64, "natural": 1.00}
"""Retained tokens at threshold 0."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return _scan(tmp_path_factory.mktemp("out"), "qwen3_vl", ["pred_2d@0"], ["**/sequence-*"])


def _scan(out: Path, spec: str, sweep: list[Any], exclude: list[str]) -> Scan:
    how: Any = {"resample": "pillow", "alpha": "drop", "exclude": exclude}
    return scan(DATA / "images", out / "scan", spec=spec, sweep=sweep, **how)


def test_medians_by_kind(found: Scan) -> None:
    assert {kind: round(one["retained"]["pred_2d@0"], 2) for kind, one in found.summary["kinds"].items()} == MEDIANS


def test_golden_masks(tmp_path: Path) -> None:
    """As many tokens as each mask has, for every setting of every image."""
    entries = json.loads((DATA.parent / "golden" / "golden_real.json").read_text(encoding="utf-8"))["images"]
    for spec in {entry["preset"] for entry in entries}:
        mine = [entry for entry in entries if entry["preset"] == spec]
        names = ("method", "metric", "threshold", "anchored")
        every = {pp.PruneSettings(**{name: case[name] for name in names}) for entry in mine for case in entry["cases"]}
        (tmp_path / spec).mkdir()
        rows = {row["source"]: row for row in _scan(tmp_path / spec, spec, [*every], []).rows.to_pylist()}
        for entry in mine:
            row = rows[entry["image"]]
            assert [1, row["grid_h"], row["grid_w"]] == entry["grid_thw"]
            assert row["tokens"] == entry["tokens"]
            for case in entry["cases"]:
                how = label(pp.PruneSettings(**{name: case[name] for name in names}))
                packed = np.frombuffer(bytes.fromhex(case["mask_packed_hex"]), np.uint8)
                assert row[f"kept:{how}"] == np.unpackbits(packed, count=entry["tokens"]).sum(), (entry["image"], how)
