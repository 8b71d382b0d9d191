"""Kept tokens that a scan stores are those of `prune`, and no others are ever given."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import made
import numpy as np
import pixelprune as pp
import pytest
from pixelprune.scan import KeepIndices, ScanOptions, keep_file, scan

LABELS = ["pred_2d@0.1+content", "pred_2d@0"]
OWN: dict[str, Any] = {"spec": "qwen3_vl", "resample": "torchvision", "alpha": "white", "settings": pp.PruneSettings()}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored")
    top = made.folder(path / "top", 40)
    (top / "even" / "00008.png").write_bytes(b"damaged")
    scan([str(top), str(made.lists(path))], path / "out", sweep=made.SWEEP, indices=LABELS)
    return path


@pytest.mark.parametrize("name", LABELS)
def test_indices_are_those_of_prune(name: str, stored: Path) -> None:
    indices = KeepIndices(stored / "out", name)
    assert len(indices) == 44
    for path in sorted(stored.glob("top/*/0*.png")):
        if path.name == "00008.png":
            continue
        expected = pp.prune(pp.resize_image(path, "qwen3_vl"), "qwen3_vl", settings=indices.settings)
        assert np.array_equal(indices[path].keep, expected.keep)
        for given in (str(path), path.read_bytes(), {"bytes": path.read_bytes(), "path": None}, {"path": str(path)}):
            found = indices[given]
            assert np.array_equal(found.keep, expected.keep)
            assert (found.grid_thw, found.spec) == (expected.grid_thw, expected.spec)


def test_indices_go_into_a_plan(stored: Path) -> None:
    from pixelprune.plan import make_plan

    path = stored / "top" / "odd" / "00001.png"
    selection = KeepIndices(stored / "out", "pred_2d@0")[path]
    batch = pp.preprocess([path], "qwen3_vl")
    spec = pytest.importorskip("pixelprune.plan").ModelSpec.from_config(
        {"model_type": "qwen3_vl", "image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3}
    )
    plan = make_plan(spec, batch.grid_thw, [selection])
    assert plan.images.kept.tolist() == [batch.selections[0].kept]


def test_indices_travel_to_workers(stored: Path) -> None:
    indices = pickle.loads(pickle.dumps(KeepIndices(stored / "out", "pred_2d@0")))
    assert indices[made.FILES[0]].kept == KeepIndices(stored / "out", "pred_2d@0")[made.FILES[0]].kept


def test_they_are_compact(stored: Path) -> None:
    """A bit a token and a digest, besides what the file says of itself."""
    pixels = 7 * 10  # 96 x 64 pixels, scaled up to the least size
    size = (stored / "out" / keep_file.FOLDER / keep_file.FILE).stat().st_size
    assert size < 44 * (32 + 8 + 2 * (-(-pixels // 8) + 4)) + 4000


@pytest.mark.parametrize("image", [b"other", made.image(1000), made.image(0, form="JPEG")])
def test_other_images_have_none(image: bytes, stored: Path) -> None:
    with pytest.raises(pp.PixelPruneError, match=r"no indices .*; expected one that was scanned"):
        KeepIndices(stored / "out", "pred_2d@0")[image]


def test_bad_images_have_none(stored: Path) -> None:
    with pytest.raises(pp.PixelPruneError, match="no indices"):
        KeepIndices(stored / "out", "pred_2d@0")[stored / "top" / "even" / "00008.png"]


def test_pixels_have_no_bytes(stored: Path) -> None:
    with pytest.raises(TypeError, match=r"path or the bytes of its file"):
        KeepIndices(stored / "out", "pred_2d@0")[np.zeros((64, 64, 3), np.uint8)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"spec": "qwen2_vl"}, "patch_size 16"),
        (
            {"spec": pp.VisionSpec(patch_size=16, merge_size=2, min_pixels=65536, max_pixels=1 << 20)},
            "max_pixels 16777",
        ),
        ({"resample": "pillow"}, "resample 'torchvision'; expected resample 'pillow'"),
        ({"alpha": "drop"}, "alpha 'white'"),
        ({"settings": pp.PruneSettings(threshold=0.1)}, "settings 'pred_2d@0'; expected settings 'pred_2d@0.1'"),
        ({"settings": pp.PruneSettings(protect="content")}, "settings"),
    ],
)
def test_what_prunes_otherwise_is_refused(change: dict[str, Any], named: str, stored: Path) -> None:
    indices = KeepIndices(stored / "out", "pred_2d@0")
    indices.check(**OWN)
    with pytest.raises(pp.PixelPruneError, match=f"{named}.*: scan again"):
        indices.check(**{**OWN, **change})


def test_another_version_of_the_algorithm_is_refused(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelprune.scan.indices.ALGORITHM", 2)
    with pytest.raises(pp.PixelPruneError, match="version 1 of the algorithm; expected 2"):
        KeepIndices(stored / "out", "pred_2d@0")


def test_settings_that_were_not_stored(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(
        pp.PixelPruneError, match=r"has indices for pred_2d@0\.1\+content, pred_2d@0; expected .*unique@0"
    ):
        KeepIndices(stored / "out", "unique@0")
    with pytest.raises(pp.PixelPruneError, match="--indices pred_2d@0"):
        KeepIndices(tmp_path, "pred_2d@0")
    (tmp_path / keep_file.FOLDER).mkdir()
    (tmp_path / keep_file.FOLDER / keep_file.FILE).write_bytes(b"ARROW1 damaged")
    with pytest.raises(pp.PixelPruneError, match="is damaged"):
        KeepIndices(tmp_path, "pred_2d@0")


def test_only_settings_of_the_sweep_are_stored() -> None:
    with pytest.raises(pp.PixelPruneError, match="sweep has not"):
        ScanOptions(sweep=["pred_2d@0"], indices=["raster@0"])


def test_digests_that_begin_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are told apart by whole digests, not by what is held in memory."""
    made.folder(tmp_path / "top")
    scan(tmp_path / "top", tmp_path / "out", sweep=made.SWEEP, indices=LABELS)
    indices = KeepIndices(tmp_path / "out", "pred_2d@0")
    kept = [indices[data].keep.tolist() for data in made.FILES]
    assert len(set(map(tuple, kept))) > 1
    monkeypatch.setattr(indices, "_sorted", np.zeros(5, np.uint64))
    monkeypatch.setattr("pixelprune.scan.indices.np.frombuffer", _zeros_for_digests(np.frombuffer))
    assert [indices[data].keep.tolist() for data in made.FILES] == kept
    with pytest.raises(pp.PixelPruneError, match="no indices"):
        indices[b"other"]


def _zeros_for_digests(real: Any) -> Any:
    def read(data: Any, dtype: Any) -> Any:
        return np.zeros(1, dtype) if dtype is np.uint64 else real(data, dtype)

    return read
