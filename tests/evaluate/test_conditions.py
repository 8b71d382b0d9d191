"""Conditions by their names, and images shrunk to as many tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pixelprune import PRESETS, PixelPruneError, PruneSettings, VisionSpec, resize_image, smart_resize
from pixelprune.evaluate import conditions_of, shrink, shrunk_size


def test_names() -> None:
    found = conditions_of("pred_2d@0, either@0.05+content")
    assert [one.name for one in found] == [
        "stock",
        "pred_2d@0",
        "random:pred_2d@0",
        "shrunk:pred_2d@0",
        "either@0.05+content",
        "random:either@0.05+content",
        "shrunk:either@0.05+content",
    ]
    assert found[4].settings == PruneSettings(method="either", threshold=0.05, protect="content")
    only = conditions_of("pred_2d@0", ["shrunk"], pruned=False)
    assert [one.name for one in only] == ["stock", "shrunk:pred_2d@0"]


@pytest.mark.parametrize(
    ("settings", "baselines", "reason"),
    [
        ("", [], "names no settings"),
        ("pred_2d@0,,raster@0", [], "names no settings"),
        ("pred_2d@0,pred_2d@0.0", [], "pred_2d@0 are there twice"),
        ("pred_2d@0", ["blurred"], "'blurred' is no baseline; expected random, shrunk"),
    ],
)
def test_other_conditions_are_refused(settings: str, baselines: list[str], reason: str) -> None:
    with pytest.raises(PixelPruneError, match=reason):
        conditions_of(settings, baselines)


def tokens(size: tuple[int, int], spec: VisionSpec) -> int:
    return size[0] * size[1] // spec.token_size**2


@given(
    st.integers(20, 2500),
    st.integers(20, 2500),
    st.integers(1, 4000),
    st.sampled_from(["qwen3_vl", "qwen2_vl", "glm4v"]),
)
def test_shrunk_images_have_at_most_as_many_tokens(height: int, width: int, most: int, name: str) -> None:
    spec = PRESETS[name]
    whole = smart_resize(height, width, spec)
    size = shrunk_size(height, width, most, spec)
    assert tokens(size, spec) <= most
    assert all(side % spec.token_size == 0 and 0 < side <= full for side, full in zip(size, whole, strict=True))
    if most >= tokens(whole, spec):
        assert size == whole
    else:  # with both sides one token longer in proportion it has more
        rows, columns = (full // spec.token_size for full in whole)
        larger = max((size[0] // spec.token_size + 1) / rows, (size[1] // spec.token_size + 1) / columns)
        more = max(1, int(rows * larger + 1e-9)) * max(1, int(columns * larger + 1e-9))
        assert more > most


def test_an_image_that_is_not_shrunk_is_as_the_processor_makes_it() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 410, 3), np.uint8))
    for resample in ("torchvision", "pillow"):
        whole = shrink(image, 10**6, "qwen3_vl", resample)  # type: ignore[arg-type]
        assert whole.tobytes() == resize_image(image, "qwen3_vl", resample=resample).tobytes()  # type: ignore[arg-type]
    assert shrink(image, 12, "qwen3_vl").size == (128, 96)


def test_tokens_are_at_least_one() -> None:
    assert shrunk_size(3000, 20, 1, "qwen3_vl") == (32, 32)
    with pytest.raises(PixelPruneError, match="tokens is 0; expected at least 1"):
        shrunk_size(300, 300, 0, "qwen3_vl")
    with pytest.raises(TypeError, match="expected at least 1"):
        shrunk_size(300, 300, 1.5, "qwen3_vl")  # type: ignore[arg-type]
