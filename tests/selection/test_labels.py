"""Labels and settings name each other, one to one."""

from __future__ import annotations

import pixelprune as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixelprune.selection.labels import label, parse

SETTINGS = st.builds(
    pp.PruneSettings,
    method=st.sampled_from(["pred_2d", "raster", "serpentine", "either", "random"]),
    metric=st.sampled_from(["max", "mae", "rmse"]),
    threshold=st.floats(0, 1) | st.sampled_from([0.0, 0.02, 1.0, 1e-7]),
    anchored=st.booleans(),
    seed=st.integers(0, 2**64 - 1) | st.just(42),
    protect=st.sampled_from(["nothing", "content"]),
)


@given(SETTINGS)
def test_parse_is_the_inverse_of_label(settings: pp.PruneSettings) -> None:
    assert parse(label(settings)) == settings


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("pred_2d@0", {}),
        ("pred_2d@0.02", {"threshold": 0.02}),
        ("pred_2d@0.05+content", {"threshold": 0.05, "protect": "content"}),
        ("raster@0.1/rmse", {"method": "raster", "threshold": 0.1, "metric": "rmse"}),
        ("either@0/open", {"method": "either", "anchored": False}),
        ("pred_2d@1+content/mae/open", {"threshold": 1.0, "protect": "content", "metric": "mae", "anchored": False}),
        ("random@0/seed7", {"method": "random", "seed": 7}),
    ],
)
def test_labels_are_these(text: str, options: dict[str, object]) -> None:
    settings = pp.PruneSettings(**options)  # type: ignore[arg-type]
    assert label(settings) == text
    assert parse(text) == settings


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pred_2d", "names no settings"),
        ("pred_2d@", "names no settings"),
        ("pred_2d@0.02 ", "names no settings"),
        ("pred_2d@0.02+text", "names no settings"),
        ("pred_2d@-1", "names no settings"),
        ("pred_2d@0.0.2", "is not a number"),
        ("pred_2d@2", "threshold"),
        ("magic@0", "magic"),
        ("unique@0.1", "unique"),
    ],
)
def test_other_texts_are_refused(text: str, reason: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=reason):
        parse(text)


def test_a_function_has_no_label() -> None:
    with pytest.raises(pp.PixelPruneError, match="a function has no label"):
        label(pp.PruneSettings(method=lambda left, up: ~left))
