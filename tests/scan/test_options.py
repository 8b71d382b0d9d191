"""What a scan's options accept."""

from __future__ import annotations

import pickle
import re

import pixelprune as pp
import pytest
from pixelprune.scan import DEFAULT_SWEEP, ScanOptions, label
from pixelprune.scan.options import fingerprint


def test_the_default_sweep() -> None:
    names = [label(settings) for settings in DEFAULT_SWEEP]
    assert len(names) == len(set(names)) == 49
    assert names[:2] == ["pred_2d@0", "pred_2d@0.01"]
    assert {"either@0.2+content", "raster@0.02", "serpentine@0.1+content", "unique@0"} < set(names)


def test_options_take_labels_and_settings_once_each() -> None:
    options = ScanOptions(sweep=["pred_2d@0.02", pp.PruneSettings(threshold=0.02), "unique@0"])
    assert options.labels == ("pred_2d@0.02", "unique@0")
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sweep": []}, "sweep is empty"),
        ({"sweep": "pred_2d@0"}, "expected a list"),
        ({"indices": ["raster@0.5"]}, "sweep has not"),
        ({"dpi": 0}, "dpi is 0"),
        ({"resample": "nearest"}, "resample"),
        ({"alpha": "red"}, "alpha"),
        ({"spec": "gpt"}, "preset"),
    ],
)
def test_options_that_are_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises((pp.PixelPruneError, TypeError), match=why):
        ScanOptions(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"spec": "qwen2_vl"}, {"resample": "pillow"}, {"alpha": "drop"}, {"sweep": ["pred_2d@0"]}, {"dpi": 100}],
)
def test_every_option_changes_the_fingerprint(change: dict[str, object]) -> None:
    assert fingerprint(ScanOptions(**change).as_dict()) != fingerprint(ScanOptions().as_dict())  # type: ignore[arg-type]


def test_fingerprints_are_the_same_everywhere() -> None:
    assert re.fullmatch("[0-9a-f]{16}", fingerprint({}))
    assert fingerprint({"a": [1, 0.02]}) == fingerprint({"a": (1, 0.02)}) == "27ca6c27bc15f84e"
