"""The golden masks of real images, which are not part of the repository.

Set PIXELPRUNE_DATA to the folder that holds ``images``; ``golden/golden_real.json`` lies beside that folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from pixelprune.images.resizing import resize_image
from strategies import still

DATA = Path(os.environ.get("PIXELPRUNE_DATA", ""))
ENTRIES: list[dict[str, Any]] = []
if "PIXELPRUNE_DATA" in os.environ:
    golden = DATA.resolve().parent / "golden" / "golden_real.json"
    ENTRIES = json.loads(golden.read_text(encoding="utf-8"))["images"]


@pytest.mark.filterwarnings("ignore::pixelprune.PixelPruneWarning")
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["image"])
def test_masks(entry: dict[str, Any]) -> None:
    spec = pp.VisionSpec.preset(entry["preset"])
    image = pp.load_image(DATA / "images" / entry["image"])
    pixels = np.asarray(resize_image(image, spec, resample="pillow"))
    one_frame = pp.VisionSpec(patch_size=spec.patch_size, merge_size=spec.merge_size, temporal_patch_size=1)
    rows, _ = still(pixels, one_frame)
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    assert digest == entry["patches_u8_sha256"], "decoded or resized otherwise"
    for case in entry["cases"]:
        how = {name: case[name] for name in ("method", "metric", "threshold", "anchored")}
        sel = pp.prune(pixels, spec, **how)
        packed = np.frombuffer(bytes.fromhex(case["mask_packed_hex"]), np.uint8)
        mask = np.unpackbits(packed, count=entry["tokens"]).astype(bool)
        assert sel.grid_thw == tuple(entry["grid_thw"])
        assert np.array_equal(sel.mask.ravel(), mask), how
