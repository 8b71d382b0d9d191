"""The masks that the paper's published implementation computed, reproduced from pixels and from pixel_values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune import _core
from pixelprune.selection.settings import CoreSettings
from strategies import Pixels, normalise, still

GOLDEN = Path(__file__).parents[1] / "golden"
ENTRIES: list[dict[str, Any]] = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))["images"]

Case = tuple[dict[str, Any], npt.NDArray[np.bool_]]


class GoldenImage:
    """One golden image as the ViT sees it, and its cases: settings and expected mask."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry
        self.spec = pp.VisionSpec.preset(entry["preset"])
        with Image.open(GOLDEN / "images" / entry["image"]) as image:
            resized = image.convert("RGB").resize(entry["resized"], Image.Resampling.BICUBIC)
        self.pixels: Pixels = np.asarray(resized)
        t, h, w = entry["grid_thw"]
        shape = (t, h // self.spec.merge_size, w // self.spec.merge_size)
        self.cases: list[Case] = []
        for case in entry["cases"]:
            packed = np.frombuffer(bytes.fromhex(case["mask_packed_hex"]), np.uint8)
            mask = np.unpackbits(packed, count=entry["tokens"]).astype(bool).reshape(shape)
            how = {name: case[name] for name in ("method", "metric", "threshold", "anchored")}
            self.cases.append((how, mask))


@pytest.fixture(scope="module", params=ENTRIES, ids=lambda entry: Path(entry["image"]).stem)
def golden(request: pytest.FixtureRequest) -> GoldenImage:
    return GoldenImage(request.param)


def check(golden: GoldenImage, values: npt.NDArray[Any], spec: pp.VisionSpec, temporal: str) -> None:
    grid = [golden.entry["grid_thw"]]
    for how, mask in golden.cases:
        [sel] = pp.prune_pixel_values(values, grid, spec, temporal=temporal, **how)
        assert np.array_equal(sel.mask, mask), how


def test_pixels(golden: GoldenImage) -> None:
    for how, mask in golden.cases:
        sel = pp.prune(golden.pixels, golden.spec, **how)
        assert np.array_equal(sel.mask, mask), how
        assert sel.grid_thw == tuple(golden.entry["grid_thw"])


def test_pixels_at_every_simd_level(golden: GoldenImage) -> None:
    for level in _core.simd_levels():
        for how, mask in golden.cases:
            given = CoreSettings(how["method"], how["metric"], how["threshold"], how["anchored"], 0, "nothing")
            keep, _ = _core.prune(golden.pixels, golden.spec.token_size, given, 2, level)
            assert np.array_equal(keep, np.flatnonzero(mask)), (level, how)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("temporal", ["repeat", "frames"])
def test_float_pixel_values(golden: GoldenImage, dtype: type[np.floating[Any]], temporal: str) -> None:
    values, _ = still(normalise(golden.pixels, golden.spec), golden.spec)
    check(golden, values.astype(dtype), golden.spec, temporal)


@pytest.mark.parametrize("temporal", ["repeat", "frames"])
def test_uint8_pixel_values(golden: GoldenImage, temporal: str) -> None:
    values, _ = still(golden.pixels, golden.spec)
    check(golden, values, golden.spec, temporal)


@pytest.mark.parametrize("layout", ["ctpp", "cpp", "ppc"])
def test_raster_order(golden: GoldenImage, layout: Any) -> None:
    spec = replace(golden.spec, patch_order="raster", patch_layout=layout, temporal_patch_size=1)
    values, _ = still(normalise(golden.pixels, spec), spec)
    check(golden, values, spec, "repeat")


def test_unique(golden: GoldenImage) -> None:
    sel = pp.prune(golden.pixels, golden.spec, method="unique")
    assert (sel.total, sel.kept) == (golden.entry["tokens"], golden.entry["unique_tokens"])
    values, grid = still(normalise(golden.pixels, golden.spec), golden.spec)
    [same] = pp.prune_pixel_values(values, [grid], golden.spec, method="unique")
    assert same == sel
