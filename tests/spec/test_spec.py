"""VisionSpec, its presets and configs, and smart_resize."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import json
import math
import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from pixelprune import VisionSpec

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden.json").read_text(encoding="utf-8"))

QWEN2_CONFIG: dict[str, Any] = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": 14,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "min_pixels": 56 * 56,
    "max_pixels": 28 * 28 * 16384,
    "image_mean": list(CLIP_MEAN),
    "image_std": list(CLIP_STD),
}
QWEN3_CONFIG: dict[str, Any] = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


# --- The dataclass ---------------------------------------------------------------------------------------


def test_presets_of_the_qwen_families_are_the_published_configs() -> None:
    for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"):
        spec = VisionSpec.preset(name)
        qwen2 = name.startswith("qwen2")
        assert spec.token_size == (28 if qwen2 else 32)
        assert (spec.patch_size, spec.merge_size, spec.temporal_patch_size) == (14 if qwen2 else 16, 2, 2)
        assert (spec.patch_order, spec.patch_layout, spec.resize_rule) == ("block", "ctpp", "qwen")
        assert (spec.mean, spec.std) == ((CLIP_MEAN, CLIP_STD) if qwen2 else ((0.5,) * 3, (0.5,) * 3))
        assert (spec.min_pixels, spec.max_pixels) == ((3136, 12845056) if qwen2 else (65536, 16777216))


OTHER_PRESETS: dict[str, tuple[Any, ...]] = {
    # patch, merge, frames, order, layout, rule, CLIP's mean and std, limits, shape of a row
    "glm4v": (14, 2, 2, "block", "ctpp", "glm", True, 12544, 11760000, (1176,)),
    "glm46v": (14, 2, 2, "block", "ctpp", "glm", True, 12544, 11760000, (1176,)),
    "glm_ocr": (14, 2, 2, "block", "ctpp", "glm", True, 12544, 11760000, (1176,)),
    "paddleocr_vl": (14, 2, 1, "raster", "cpp", "paddleocr", True, 147456, 2359296, (3, 14, 14)),
    "ernie4_5_vl_moe": (14, 2, 1, "block", "ctpp", "qwen", True, 3136, 4842768, (588,)),
    "dots3_note": (14, 2, 1, "block", "ctpp", "qwen", True, 3136, 1003520, (588,)),
    "video_llama_3": (14, 1, 1, "block", "ctpp", "qwen", False, 3136, 1003520, (588,)),
    "cohere_compass": (16, 2, 2, "block", "ctpp", "qwen", True, 3136, 1003520, (1536,)),
    "minimax_m3_vl": (14, 2, 2, "block", "ctpp", "qwen", True, 3136, 451584, (1176,)),
    "hunyuan_vl": (16, 2, 1, "raster", "ctpp", "qwen", True, 262144, 4194304, (768,)),
    "cosmos3_edge": (16, 2, 1, "block", "ppc", "glm", False, 65536, 16777216, (768,)),
}


def test_there_are_no_other_presets() -> None:
    assert list(pp.PRESETS) == ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", *OTHER_PRESETS]


@pytest.mark.parametrize(("name", "expected"), OTHER_PRESETS.items(), ids=OTHER_PRESETS)
def test_presets_of_the_other_families(name: str, expected: tuple[Any, ...]) -> None:
    spec = VisionSpec.preset(name)
    assert (
        *(spec.patch_size, spec.merge_size, spec.temporal_patch_size),
        *(spec.patch_order, spec.patch_layout, spec.resize_rule),
        (spec.mean, spec.std) == (CLIP_MEAN, CLIP_STD),
        *(spec.min_pixels, spec.max_pixels),
        spec.patch_shape,
    ) == expected
    assert (spec.mean, spec.std) in ((CLIP_MEAN, CLIP_STD), ((0.5,) * 3, (0.5,) * 3))


def test_shapes_of_a_row() -> None:
    spec = VisionSpec(patch_size=4, merge_size=2, temporal_patch_size=3)
    assert spec.flat_patches
    assert spec.patch_shape == (3 * 3 * 4 * 4,)
    assert replace(spec, mean=(0.5,), std=(0.5,)).patch_shape == (3 * 4 * 4,)
    one = replace(spec, temporal_patch_size=1, patch_layout="cpp")
    assert one.patch_shape == (48,)
    assert replace(one, flat_patches=False).patch_shape == (3, 4, 4)
    for layout in ("ctpp", "ppc"):
        with pytest.raises(pp.PixelPruneError, match=f"flat_patches is False, but patch_layout is '{layout}'"):
            replace(one, flat_patches=False, patch_layout=layout)


@pytest.mark.parametrize("name", ["qwen4_vl", "", "QWEN3_VL", None, 3, [], "\ud800"])
def test_presets_that_do_not_exist(name: Any) -> None:
    with pytest.raises(pp.PixelPruneError, match=r"expected one of qwen2_vl, .*, qwen3_5, glm4v, .*, cosmos3_edge$"):
        VisionSpec.preset(name)


def test_specs_are_frozen_values() -> None:
    spec = VisionSpec.preset("qwen3_vl")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.patch_size = 14  # type: ignore[misc]
    assert {spec: 1}[replace(spec)] == 1
    assert replace(spec, patch_size=14) != spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(TypeError):
        VisionSpec(16, 2)  # type: ignore[misc]


def test_mean_and_std_become_tuples_of_floats() -> None:
    spec = VisionSpec(patch_size=1, merge_size=1, mean=np.array([0, 1]), std=[1, 2])  # type: ignore[arg-type]
    assert (spec.mean, spec.std) == ((0.0, 1.0), (1.0, 2.0))
    assert all(type(v) is float for v in spec.mean + spec.std)
    assert hash(spec) == hash(replace(spec))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, bad) for name in ("patch_size", "merge_size", "temporal_patch_size", "min_pixels", "max_pixels")
          for bad in (0, -1, 1.0, "1", None, True, 1 << 41, float("nan"), [1])],
        ("patch_size", 1025),
        ("merge_size", 65),
        ("temporal_patch_size", 1025),
        ("patch_order", "zigzag"),
        ("patch_order", None),
        ("patch_order", ["block"]),
        ("patch_layout", "pcc"),
        ("patch_layout", "cpp"),  # one frame, but temporal_patch_size is 2
        ("patch_layout", "ppc"),
        ("flat_patches", None),
        ("flat_patches", "no"),
        ("flat_patches", False),  # the layout is "ctpp"
        ("resize_rule", "none"),
        ("resize_rule", None),
        ("resize_rule", ["qwen"]),
        ("min_pixels", 28 * 28 * 1280 + 1),  # above max_pixels
        ("mean", (0.5, 0.5)),
        ("mean", ()),
        ("mean", None),
        ("mean", 0.5),
        ("mean", ("a", "b", "c")),
        ("mean", (0.5, 0.5, float("nan"))),
        ("mean", (0.5, 0.5, float("inf"))),
        ("mean", (0.5, 0.5, None)),
        ("mean", (0.5, 0.5, 10**400)),
        ("std", (0.5, 0.5, 0.0)),
        ("std", (0.5, 0.5, -1.0)),
        ("std", (0.5, 0.5, float("inf"))),
        ("std", (0.5,)),
        ("std", (0.5, 0.5, 1e-320)),  # 1 / std is infinite
        ("std", (0.5, 0.5, 1e-46)),  # 0 in float32
        ("std", (0.5, 0.5, 1e-40)),  # denormal in float32: levels overflow
        ("std", (0.5, 0.5, 9e-7)),
        ("std", (0.5, 0.5, 10.1)),
        ("std", (0.5, 0.5, 1e300)),  # infinite in float32
        ("mean", (0.5, 0.5, 1e300)),
        ("mean", (0.5, 0.5, -10.1)),
        ("mean", (0.5, 0.5, True)),
        ("mean", "123"),
        ("mean", b"123"),
        ("mean", {0.5, 0.25, 0.125}),
        ("mean", {0.5: 1, 0.25: 1, 0.125: 1}),
        ("mean", np.full((3, 1), 0.5)),
        ("mean", itertools.repeat(0.5)),
        ("mean", [0.5, [0.5], 0.5]),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_values_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(pp.PixelPruneError, match=name):
        VisionSpec(**{"patch_size": 16, "merge_size": 2, name: value})


def test_configs_whose_numbers_do_not_suit_float32() -> None:
    for change in ({"image_std": [0.5, 0.5, 1e-320]}, {"image_mean": [0.5, 0.5, 1e300]}, {"image_std": [0.5, True, 1]}):
        with pytest.raises(pp.PixelPruneError, match="expected a list or tuple of one number per channel, from"):
            VisionSpec.from_config({**QWEN3_CONFIG, **change})


LIMITS = [(mean, std) for mean in (-10.0, 0.0, 0.5, 10.0) for std in (1e-6, 1 / 255, 0.5, 10.0)]


@pytest.mark.parametrize(("mean", "std"), LIMITS)
@pytest.mark.parametrize("resample", ["torchvision", "pillow"])
def test_mean_and_std_within_the_bounds_keep_all_levels(mean: float, std: float, resample: Any) -> None:
    spec = VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=1, mean=(mean,) * 3, std=(std,) * 3, min_pixels=1)
    image = np.random.default_rng(1).permutation(np.arange(256, dtype=np.uint8)).reshape(16, 16, 1).repeat(3, axis=2)
    sizes: dict[str, Any] = {"max_pixels": 256}
    batch = pp.preprocess([image], replace(spec, **sizes), prune=False, resample=resample)
    assert np.isfinite(batch.pixel_values).all()
    assert len(np.unique(batch.pixel_values)) == 256
    for threshold in (0.0, 1 / 255, 20 / 255):
        how: dict[str, Any] = {"threshold": threshold, "method": "raster"}
        expected = pp.prune(image, batch.selections[0].spec, **how)
        assert pp.prune_pixel_values(batch.pixel_values, batch.grid_thw, batch.selections[0].spec, **how) == [expected]


def test_a_patch_of_too_many_values() -> None:
    with pytest.raises(pp.PixelPruneError, match=r"a patch has 3221225472 values .*; expected at most 16777216"):
        VisionSpec(patch_size=1024, merge_size=1, temporal_patch_size=1024)
    with pytest.raises(pp.PixelPruneError, match="a patch has"):
        VisionSpec(patch_size=1024, merge_size=1, temporal_patch_size=1, mean=(0.5,) * 17, std=(0.5,) * 17)
    VisionSpec(patch_size=1024, merge_size=1, temporal_patch_size=1, mean=(0.5,) * 16, std=(0.5,) * 16)


def test_integers_of_any_type_become_int() -> None:
    spec = VisionSpec(patch_size=np.int16(16), merge_size=np.uint8(2))  # type: ignore[arg-type]
    assert spec == VisionSpec(patch_size=16, merge_size=2)
    assert type(spec.patch_size) is type(spec.merge_size) is int


@pytest.mark.parametrize("spec", [None, 5, {}, ["qwen3_vl"], b"qwen3_vl", VisionSpec])
def test_a_spec_is_a_spec_or_a_name(spec: Any) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    for call in (
        lambda: pp.prune(image, spec),
        lambda: pp.prune_batch([image], spec),
        lambda: pp.prune_pixel_values(np.zeros((4, 1536), np.uint8), [(1, 2, 2)], spec),
        lambda: pp.hash_tokens(image, spec),
        lambda: pp.analyze(image, spec),
        lambda: pp.decode([[True]], image[np.newaxis], spec),
        lambda: pp.Selection.from_keep([0], (1, 2, 2), spec),
        lambda: pp.smart_resize(32, 32, spec),
    ):
        with pytest.raises(TypeError, match="expected a VisionSpec or the name of a preset"):
            call()


# --- smart_resize ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", GOLDEN["images"], ids=lambda entry: entry["image"])
def test_sizes_of_the_golden_images(entry: dict[str, Any]) -> None:
    width, height = entry["size"]
    assert pp.smart_resize(height, width, entry["preset"]) == tuple(reversed(entry["resized"]))


@pytest.mark.parametrize(
    ("height", "width", "preset", "expected"),
    [
        (1080, 1920, "qwen3_vl", (1088, 1920)),
        (1080, 1920, "qwen2_vl", (1092, 1932)),
        (32, 32, "qwen3_vl", (256, 256)),  # up to min_pixels
        (1, 1, "qwen2_vl", (56, 56)),
        (1, 200, "qwen2_vl", (28, 812)),  # 4 px high, ceiled to one token
        (8000, 8000, "qwen3_vl", (4096, 4096)),  # down to max_pixels
        (100, 20000, "qwen3_vl", (96, 20000)),
        (1000, 20000, "qwen3_vl", (896, 18304)),
        (368, 1000, "qwen3_vl", (384, 992)),  # 11.5 tokens: half to even
        (336, 1000, "qwen3_vl", (320, 992)),  # 10.5
    ],
)
def test_sizes_by_hand(height: int, width: int, preset: str, expected: tuple[int, int]) -> None:
    assert pp.smart_resize(height, width, preset) == expected
    assert pp.smart_resize(width, height, preset) == expected[::-1]
    assert pp.smart_resize(np.int64(height), np.uint16(width), preset) == expected


SIZES_OF_FAMILIES = {
    # What the families' own processors make of 1080 x 1920, 2480 x 3508, 20 x 300 and 1 x 200 pixels.
    "glm4v": ((1092, 1932), (2016, 2856), (28, 420), (28, 5600)),
    "paddleocr_vl": ((1092, 1932), (1288, 1820), (112, 1512), (28, 5600)),
    "ernie4_5_vl_moe": ((1092, 1932), (1848, 2604), (28, 308), (28, 812)),
    "video_llama_3": ((742, 1330), (840, 1190), (14, 294), (14, 798)),
    "cohere_compass": ((736, 1312), (832, 1184), (32, 288), (32, 800)),
    "minimax_m3_vl": ((504, 896), (560, 784), (28, 308), (28, 812)),
    "hunyuan_vl": ((1088, 1920), (1696, 2432), (160, 1984), (64, 7264)),
    "cosmos3_edge": ((1088, 1920), (2496, 3520), (96, 992), (32, 6400)),
}


@pytest.mark.parametrize(("preset", "expected"), SIZES_OF_FAMILIES.items(), ids=SIZES_OF_FAMILIES)
def test_sizes_of_the_other_families(preset: str, expected: tuple[tuple[int, int], ...]) -> None:
    for (height, width), size in zip(((1080, 1920), (2480, 3508), (20, 300), (1, 200)), expected, strict=True):
        assert pp.smart_resize(height, width, preset) == size
        assert pp.smart_resize(width, height, preset) == size[::-1]


def test_order_of_operations() -> None:
    """429 * 28 / 24 is 500.5, which goes to the even 500; 429 * (28 / 24) is a little more."""
    assert pp.smart_resize(24, 429, "paddleocr_vl") == (112, 1624)


def test_the_limits_of_glm_count_the_frames() -> None:
    two = replace(VisionSpec.preset("glm4v"), min_pixels=2 * 28 * 28 * 16, max_pixels=2 * 28 * 28 * 16)
    assert pp.smart_resize(500, 500, two) == (112, 112)
    assert pp.smart_resize(112, 112, two) == (112, 112)
    assert pp.smart_resize(500, 500, replace(two, temporal_patch_size=1)) == (140, 140)
    assert pp.smart_resize(500, 500, replace(two, temporal_patch_size=4)) == (56, 56)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1080, 1920, (280, 504)),
        (2480, 3508, (364, 504)),
        (4000, 6000, (336, 504)),  # scaled down to a longer side of 1002
        (28, 28, (28, 28)),  # up to a shorter side of 56
        (28, 112, (28, 112)),  # four times as long
        (100, 130, (56, 56)),
    ],
)
def test_sizes_of_glm_image(height: int, width: int, expected: tuple[int, int]) -> None:
    spec = VisionSpec(patch_size=14, merge_size=2, resize_rule="glm_image")
    assert pp.smart_resize(height, width, spec) == expected
    assert pp.smart_resize(width, height, spec) == expected[::-1]


def test_images_that_glm_image_refuses() -> None:
    spec = VisionSpec(patch_size=14, merge_size=2, resize_rule="glm_image")
    for height, width in ((27, 40), (40, 27), (1, 1), (27, 500)):
        with pytest.raises(pp.PixelPruneError, match=f"{height} x {width}.*expected sides of at least one token, 28"):
            pp.smart_resize(height, width, spec)
    for height, width in ((28, 113), (451, 110)):
        with pytest.raises(pp.PixelPruneError, match=f"{height} x {width}.*about 4; expected at most 4"):
            pp.smart_resize(height, width, spec)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 40), st.integers(1, 10**6), st.integers(0, 10**7))
def test_small_sides_are_all_that_the_rules_differ_in(
    height: int, width: int, factor: int, least: int, more: int
) -> None:
    """With one frame; enlarging an image of sides below a token comes before everything else."""
    qwen = VisionSpec(patch_size=factor, merge_size=1, temporal_patch_size=1, min_pixels=least, max_pixels=least + more)
    assume(max(height, width) <= 200 * min(height, width))
    for rule in ("glm", "paddleocr"):
        size = pp.smart_resize(height, width, replace(qwen, resize_rule=rule))  # type: ignore[arg-type]
        assert size[0] % factor == size[1] % factor == 0
        assert min(size) >= factor
        if min(height, width) >= factor:
            assert size == pp.smart_resize(height, width, qwen)


@given(
    st.integers(1, 20000),
    st.integers(1, 20000),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 10**6),
    st.integers(0, 10**7),
)
def test_sizes_lie_between_the_limits(height: int, width: int, patch: int, merge: int, least: int, more: int) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    spec = VisionSpec(patch_size=patch, merge_size=merge, min_pixels=least, max_pixels=least + more)
    h, w = pp.smart_resize(height, width, spec)
    factor = patch * merge
    assert type(h) is int
    assert h % factor == w % factor == 0
    assert min(h, w) >= factor
    near = [max(factor, round(Fraction(side, factor)) * factor) for side in (height, width)]
    area = math.prod(round(Fraction(side, factor)) * factor for side in (height, width))
    if least <= area <= least + more:
        assert [h, w] == near
    elif area > least + more:
        assert h * w <= least + more or factor in (h, w)
        assert h <= near[0]
        assert w <= near[1]
    else:
        assert h * w >= least
    assert pp.smart_resize(width, height, spec) == (w, h)


@pytest.mark.parametrize("size", [(1, 201), (201, 1), (10, 2001), (1, 10**9)])
@pytest.mark.parametrize("preset", ["qwen3_vl", "glm4v", "paddleocr_vl"])
def test_images_that_are_too_long(size: tuple[int, int], preset: str) -> None:
    found = f"the image is {size[0]} x {size[1]} .*aspect ratio of about"
    with pytest.raises(pp.PixelPruneError, match=rf"{found}.*expected at most 200"):
        pp.smart_resize(*size, preset)


@pytest.mark.parametrize("size", [(2**31 + 1, 2**31), (1, 10**400), (10**160, 10**160)], ids=["31 bits", "400", "160"])
@pytest.mark.parametrize("rule", ["qwen", "glm", "paddleocr", "glm_image"])
def test_images_that_are_too_large(size: tuple[int, int], rule: Any) -> None:
    spec = replace(VisionSpec.preset("qwen3_vl"), resize_rule=rule)
    for height, width in (size, size[::-1]):
        with pytest.raises(pp.PixelPruneError, match="expected at most 2147483648 pixels a side"):
            pp.smart_resize(height, width, spec)
    largest = {"glm": 2880, "glm_image": 2048}.get(rule, 4096)
    assert pp.smart_resize(2**31, 2**31, spec) == (largest, largest)


@pytest.mark.parametrize("side", [0, -1, -(10**30)])
def test_sides_below_1(side: int) -> None:
    with pytest.raises(pp.PixelPruneError, match=f"height is {side}; expected at least 1"):
        pp.smart_resize(side, 32, "qwen3_vl")
    with pytest.raises(pp.PixelPruneError, match=f"width is {side}"):
        pp.smart_resize(32, side, "qwen3_vl")


@pytest.mark.parametrize("side", [32.0, "32", None, [32], 1j, float("nan"), np.float32(32), True, np.True_])
def test_sides_of_another_type(side: Any) -> None:
    with pytest.raises(TypeError, match="height is"):
        pp.smart_resize(side, 32, "qwen3_vl")
    with pytest.raises(TypeError, match="width is"):
        pp.smart_resize(32, side, "qwen3_vl")


# --- from_config -----------------------------------------------------------------------------------------


class Qwen2VLImageProcessorFast:
    """A processor object, as the frameworks have them."""

    def __init__(self, **config: Any) -> None:
        self.config = config

    def to_dict(self) -> dict[str, Any]:
        return self.config

    @classmethod
    def made_of(cls, config: Any) -> Any:
        processor = cls()
        processor.config = config
        return processor


class Qwen3VLProcessor:
    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor


def test_configs_of_every_kind(tmp_path: Path) -> None:
    expected = VisionSpec.preset("qwen3_vl")
    file, nested = tmp_path / "preprocessor_config.json", tmp_path / "nested"
    file.write_text(json.dumps(QWEN3_CONFIG), encoding="utf-8")
    nested.mkdir()
    (nested / "processor_config.json").write_text(
        json.dumps({"image_processor": QWEN3_CONFIG, "processor_class": "Qwen3VLProcessor"}), encoding="utf-8"
    )
    image_processor = Qwen2VLImageProcessorFast(
        **{key: value for key, value in QWEN3_CONFIG.items() if key != "image_processor_type"}
    )
    for config in (
        QWEN3_CONFIG,
        {"image_processor": QWEN3_CONFIG},
        file,
        str(file),
        tmp_path,
        nested,
        nested / "processor_config.json",
        image_processor,
        Qwen3VLProcessor(image_processor),
    ):
        assert VisionSpec.from_config(config) == expected
    assert VisionSpec.from_config(QWEN2_CONFIG) == VisionSpec.preset("qwen2_vl")


@pytest.mark.parametrize("name", ["Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLImageProcessorPil"])
def test_variants_of_a_processor(name: str) -> None:
    for key in ("image_processor_type", "feature_extractor_type"):
        config = {k: v for k, v in QWEN2_CONFIG.items() if k != "image_processor_type"}
        assert VisionSpec.from_config({**config, key: name}) == VisionSpec.preset("qwen2_vl")


SIZE = {"shortest_edge": 9000, "longest_edge": 90000}
RASTER = {"patch_order": "raster"}
PROCESSORS: dict[str, tuple[dict[str, Any], bool]] = {
    # What the processor adds to its config, and whether min_pixels and max_pixels win over size.
    "Qwen2VL": ({}, True),
    "CohereCompass": ({}, True),
    "Cosmos3Edge": ({"patch_layout": "ppc", "resize_rule": "glm"}, False),
    "Ernie4_5_VLMoe": ({}, False),
    "Ernie4_5_VL_Moe": ({}, False),
    "Glm46V": ({"resize_rule": "glm"}, False),
    "Glm4v": ({"resize_rule": "glm"}, False),
    "GlmImage": ({"resize_rule": "glm_image"}, True),
    "Glmga": ({"resize_rule": "glm"}, False),
    "HunYuanVL": (RASTER, True),
    "MiniMaxM3VL": ({}, True),
    "PaddleOCRVL": ({**RASTER, "patch_layout": "cpp", "flat_patches": False, "resize_rule": "paddleocr"}, True),
    "VideoLlama3": ({}, True),
}


@pytest.mark.parametrize("family", PROCESSORS)
@pytest.mark.parametrize("variant", ["", "Fast", "Pil"])
def test_processors_and_what_they_add(family: str, variant: str) -> None:
    more, reads_limits = PROCESSORS[family]
    config = {
        "image_processor_type": f"{family}ImageProcessor{variant}",
        **{"patch_size": 14, "merge_size": 3, "temporal_patch_size": 1, "size": SIZE, "min_pixels": 7},
        **{"image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    }
    expected = VisionSpec(
        patch_size=14,
        merge_size=3,
        temporal_patch_size=1,
        min_pixels=7 if reads_limits else 9000,
        max_pixels=90000,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        **more,
    )
    assert VisionSpec.from_config(config) == expected
    without = {**config, "size": None, "max_pixels": 77}
    if reads_limits:
        assert VisionSpec.from_config(without) == replace(expected, max_pixels=77)
    else:
        with pytest.raises(pp.PixelPruneError, match=r"has no min_pixels, max_pixels \(this processor takes .* size"):
            VisionSpec.from_config(without)


@pytest.mark.parametrize(
    ("family", "reason"),
    [("Glm5Next", "it pads"), ("Kimi_K25", "it pads"), ("MuseGlimmer", "it resamples with Lanczos")],
)
def test_processors_that_do_something_else(family: str, reason: str) -> None:
    for variant in ("", "Pil"):
        config = {**QWEN2_CONFIG, "image_processor_type": f"{family}ImageProcessor{variant}"}
        with pytest.raises(pp.PixelPruneError, match=f"'{family}ImageProcessor', which is not supported: {reason}"):
            VisionSpec.from_config(config)


def test_the_size_that_minimax_replaces() -> None:
    config = {**QWEN2_CONFIG, "min_pixels": None, "max_pixels": None, "size": [672, 672]}
    minimax = {**config, "image_processor_type": "MiniMaxM3VLImageProcessor"}
    assert VisionSpec.from_config(minimax) == VisionSpec.preset("minimax_m3_vl")
    for other in (config, {**minimax, "size": [672, 336]}):
        with pytest.raises(pp.PixelPruneError, match="has no min_pixels, max_pixels"):
            VisionSpec.from_config(other)


def test_resampling_that_a_spec_stands_for() -> None:
    expected = VisionSpec.preset("qwen2_vl")
    for resample in (3, Image.Resampling.BICUBIC, enum.Enum("InterpolationMode", {"BICUBIC": "bicubic"}).BICUBIC):
        assert VisionSpec.from_config({**QWEN2_CONFIG, "resample": resample, "rescale_factor": 1 / 255}) == expected
    for resample in (0, 1, 2, None, "3", Image.Resampling.LANCZOS):
        with pytest.raises(pp.PixelPruneError, match=r"resample = .*; expected 3, which is bicubic"):
            VisionSpec.from_config({**QWEN2_CONFIG, "resample": resample})
    hunyuan = {**QWEN2_CONFIG, "image_processor_type": "HunYuanVLImageProcessor"}
    assert VisionSpec.from_config({**hunyuan, "resample": 1}) == VisionSpec.from_config(hunyuan)


def test_which_limits_a_config_means() -> None:
    def limits(**more: Any) -> tuple[int, int]:
        spec = VisionSpec.from_config({**QWEN2_CONFIG, "min_pixels": None, "max_pixels": None, **more})
        return spec.min_pixels, spec.max_pixels

    assert limits(min_pixels=7, max_pixels=77) == (7, 77)
    assert limits(size=SIZE) == (9000, 90000)
    # The older pair of names wins, each by itself.
    assert limits(size=SIZE, min_pixels=7, max_pixels=77) == (7, 77)
    assert limits(size=SIZE, min_pixels=7) == (7, 90000)
    assert limits(size={"shortest_edge": None, "longest_edge": 90000}, min_pixels=7) == (7, 90000)
    for other in (None, {"height": 5}, 5):
        with pytest.raises(pp.PixelPruneError, match="has no min_pixels, max_pixels"):
            limits(size=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "'CLIPImageProcessor', which is not supported"),
        ({"image_processor_type": None}, "no image_processor_type"),
        ({"image_processor_type": 5}, "no image_processor_type"),
        ({"patch_size": None}, "has no patch_size"),
        ({"merge_size": None}, "has no merge_size"),
        ({"image_mean": None, "image_std": None}, "has no mean, std"),
        ({"min_pixels": None}, "has no min_pixels"),
        ({"patch_size": "14"}, "patch_size is '14'"),
        ({"patch_size": {"height": 14}}, "patch_size is"),
        ({"image_mean": [0.5]}, "mean has 1 channels, std has 3"),
        ({"do_resize": False}, "do_resize = false"),
        ({"do_rescale": False}, "do_rescale = false"),
        ({"do_normalize": False}, "do_normalize = false"),
        ({"do_resize": None}, "do_resize = false"),
        ({"rescale_factor": 1 / 127.5}, r"rescale_factor = 0\.0078.*; expected 0\.0039"),
        ({"rescale_factor": None}, "rescale_factor = None"),
        ({"patch_expand_factor": 2}, "patch_expand_factor = 2; expected 1"),
    ],
)
def test_configs_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=message):
        VisionSpec.from_config({**QWEN2_CONFIG, **change})


@pytest.mark.parametrize("text", ["", "{", "[1]", "5", "null", "\x00", "[" * 100_000, "9" * 5000])
def test_files_that_are_no_config(text: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(pp.PixelPruneError, match=r"preprocessor_config\.json"):
        VisionSpec.from_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(pp.PixelPruneError, match="is not JSON"):
        VisionSpec.from_config(str(path))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        VisionSpec.from_config(tmp_path / "none.json")
    with pytest.raises(pp.PixelPruneError, match=r"no preprocessor_config\.json"):
        VisionSpec.from_config(tmp_path)


def test_names_of_config_files_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\u202e.json"
    path.write_text("", encoding="utf-8")
    with pytest.raises(pp.PixelPruneError, match=r"a\\nb\\u202e\.json is not JSON"):
        VisionSpec.from_config(path)


@pytest.mark.parametrize(
    "config", [None, 5, b"config.json", [], ("a", 1), object(), Qwen2VLImageProcessorFast], ids=repr
)
def test_what_is_no_config(config: Any) -> None:
    with pytest.raises(TypeError, match="expected a dict, the path of a JSON file, or a processor"):
        VisionSpec.from_config(config)


def test_processors_that_give_no_dict() -> None:
    for config in (None, [("patch_size", 2)], "config"):
        with pytest.raises(pp.PixelPruneError, match=r"to_dict\(\) gives a \w+; expected a dict"):
            VisionSpec.from_config(Qwen2VLImageProcessorFast.made_of(config))
    ambiguous = {**QWEN3_CONFIG, "do_resize": np.zeros(2)}
    with pytest.raises(pp.PixelPruneError, match="config is a dict that can't be read"):
        VisionSpec.from_config(ambiguous)
