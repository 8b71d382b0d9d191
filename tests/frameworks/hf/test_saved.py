"""The file beside a saved processor that says how it prunes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pixelprune import PixelPruneError, PruneSettings
from pixelprune.hf import saved

SETTINGS = PruneSettings(method="raster", metric="mae", threshold=0.1, anchored=False, seed=7)


@pytest.mark.parametrize("settings", [PruneSettings(), SETTINGS])
def test_what_is_saved_is_loaded(settings: PruneSettings, tmp_path: Path) -> None:
    path = saved.save_settings(settings, tmp_path / "new" / "folder")
    assert Path(path) == tmp_path / "new" / "folder" / "pixelprune.json"
    assert saved.load_settings(tmp_path / "new" / "folder") == settings
    assert saved.load_settings(str(tmp_path / "new" / "folder")) == settings
    assert saved.load_settings(path) == settings  # a file of the folder


def test_a_folder_within_a_checkpoint(tmp_path: Path) -> None:
    saved.save_settings(SETTINGS, tmp_path / "part")
    assert saved.load_settings(tmp_path, subfolder="part", revision=None, use_fast=True) == SETTINGS
    assert saved.load_settings(tmp_path) is None


def test_the_file_holds_plain_values(tmp_path: Path) -> None:
    data = json.loads(Path(saved.save_settings(SETTINGS, tmp_path)).read_text(encoding="utf-8"))
    assert data == {
        "version": 1,
        "method": "raster",
        "metric": "mae",
        "threshold": 0.1,
        "anchored": False,
        "seed": 7,
        "protect": "nothing",
    }


def test_a_function_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    def mine(left: Any, up: Any) -> Any:
        return ~left

    with pytest.raises(PixelPruneError, match=r"method is .*mine.*a function.*expected the name"):
        saved.save_settings(PruneSettings(method=mine), tmp_path / "none")
    assert not (tmp_path / "none").exists()


GOOD = json.loads(saved.as_json(SETTINGS))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "has version None; expected 1"),
        ("{}", "has version None; expected 1"),
        (json.dumps({**GOOD, "version": 2}), "has version 2; expected 1"),
        (json.dumps({**GOOD, "budget": 3}), "lacks or has too much: 'budget'"),
        (json.dumps({name: value for name, value in GOOD.items() if name != "seed"}), "lacks or has too much: 'seed'"),
        (json.dumps({**GOOD, "threshold": 3}), "threshold is 3"),
        (json.dumps({**GOOD, "threshold": "high"}), "threshold is 'high'"),
        (json.dumps({**GOOD, "method": None}), "method is None"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pixelprune.json").write_text(text, encoding="utf-8")
    with pytest.raises(PixelPruneError, match=message) as caught:
        saved.load_settings(tmp_path)
    assert "pixelprune.json" in str(caught.value)
