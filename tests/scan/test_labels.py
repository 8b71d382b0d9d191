"""The names of settings, and what a scan's options accept."""

from __future__ import annotations

import pickle
import re

import pixelprune as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixelprune.scan import DEFAULT_SWEEP, ScanOptions, label, parse
from pixelprune.scan.options import fingerprint


@st.composite
def any_settings(draw: st.DrawFn) -> pp.PruneSettings:
    method = draw(st.sampled_from(("pred_2d", "raster", "serpentine", "either", "unique", "random", "conncomp")))
    return pp.PruneSettings(
        method=method,
        metric=draw(st.sampled_from(("max", "mae", "rmse"))),
        threshold=0.0 if method == "unique" else draw(st.floats(0, 1)),
        anchored=draw(st.booleans()),
        seed=draw(st.sampled_from((42, 0, 7, (1 << 64) - 1))),
        protect=draw(st.sampled_from(("nothing", "content"))),
    )


@given(any_settings())
def test_parse_is_the_inverse_of_label(settings: pp.PruneSettings) -> None:
    assert parse(label(settings)) == settings


@given(any_settings(), any_settings())
def test_different_settings_have_different_labels(one: pp.PruneSettings, other: pp.PruneSettings) -> None:
    assert (label(one) == label(other)) == (one == other)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "pred_2d@0"),
        ({"threshold": 1}, "pred_2d@1"),
        ({"threshold": 0.05, "protect": "content"}, "pred_2d@0.05+content"),
        ({"metric": "rmse", "anchored": False, "threshold": 1e-05}, "pred_2d@1e-05/rmse/open"),
        ({"method": "random", "seed": 7}, "random@0/seed=7"),
    ],
)
def test_labels_are_short(settings: dict[str, object], name: str) -> None:
    assert label(pp.PruneSettings(**settings)) == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "pred_2d", "pred_2d@", "pred_2d@x", "pred_2d@0+text", "pred_2d@0/max", " pred_2d@0", "pred_2d@0/open/mae"],
)
def test_other_text_is_no_label(text: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=r"pred_2d@0\.05\+content"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "why"), [("median@0", "median"), ("pred_2d@2", "threshold"), ("unique@0.1", "unique")]
)
def test_labels_of_settings_that_are_not_allowed(text: str, why: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=why):
        parse(text)


def test_a_function_has_no_label() -> None:
    with pytest.raises(pp.PixelPruneError, match="function"):
        label(pp.PruneSettings(method=lambda left, up: ~(left | up)))


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
