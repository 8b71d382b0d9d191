"""Presets, resize rules and rows of every family against the family's own image processor."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pixelprune.images.resizing import resize_image
from strategies import normalise, still

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torchvision.transforms.v2 import functional  # noqa: E402

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

HUB_QWEN2 = {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}
HUB_QWEN3 = {
    "patch_size": 16,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    # The processor of every preset, and what it is told besides the defaults of its class.
    "qwen2_vl": ("Qwen2VL", HUB_QWEN2),
    "qwen2_5_vl": ("Qwen2VL", HUB_QWEN2),
    "qwen3_vl": ("Qwen2VL", HUB_QWEN3),
    "qwen3_5": ("Qwen2VL", HUB_QWEN3),
    "glm4v": ("Glm4v", {}),
    "glm46v": ("Glm46V", {}),
    "glm_ocr": ("Glm46V", {}),
    "paddleocr_vl": ("PaddleOCRVL", {}),
    "ernie4_5_vl_moe": ("Ernie4_5_VLMoe", {}),
    "dots3_note": ("Qwen2VL", {"temporal_patch_size": 1}),
    "video_llama_3": ("VideoLlama3", {}),
    "cohere_compass": ("CohereCompass", {"patch_size": 16}),
    "minimax_m3_vl": ("MiniMaxM3VL", {}),
    "hunyuan_vl": ("HunYuanVL", {}),
    "cosmos3_edge": ("Cosmos3Edge", {}),
}
ORACLES = {
    # The modules that hold a rule, each its own copy.
    "qwen": ("qwen2_vl", "cohere_compass", "ernie4_5_vl_moe", "hunyuan_vl", "minimax_m3_vl", "video_llama_3"),
    "glm": ("glm4v", "glm46v", "glmga", "cosmos3_edge"),
    "paddleocr": ("paddleocr_vl",),
    "glm_image": ("glm_image",),
}
MODULES = [(rule, name, pil) for rule, names in ORACLES.items() for name in names for pil in ("", "pil_")]
BACKENDS = ("", "Pil")


def make_processor(preset: str, backend: str, **more: Any) -> Any:
    family, told = PROCESSORS[preset]
    found = getattr(transformers, f"{family}ImageProcessor{backend}", None)
    if found is None:
        pytest.skip(f"transformers {transformers.__version__} has no {family}ImageProcessor{backend}")
    return found(**{**told, **more})


def test_every_preset_has_a_processor() -> None:
    assert PROCESSORS.keys() == pp.PRESETS.keys()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preset", PROCESSORS)
def test_presets_are_what_the_processors_say(preset: str, backend: str) -> None:
    processor = make_processor(preset, backend)
    assert pp.VisionSpec.from_config(processor) == pp.VisionSpec.preset(preset)
    assert pp.VisionSpec.from_config(processor.to_dict()) == pp.VisionSpec.preset(preset)


# --- Sizes -----------------------------------------------------------------------------------------------


def oracle(rule: str, module: str, pil: str = "") -> Callable[[int, int, pp.VisionSpec], Size]:
    """The function of the family that `pp.smart_resize` has to equal; it raises ValueError where that does."""
    try:
        found = importlib.import_module(f"transformers.models.{module}.image_processing_{pil}{module}").smart_resize
    except ModuleNotFoundError:
        pytest.skip(f"transformers {transformers.__version__} has no such processor of {module}")

    def size(height: int, width: int, spec: pp.VisionSpec) -> Size:
        how: dict[str, Any] = {"min_pixels": spec.min_pixels, "max_pixels": spec.max_pixels}
        if rule == "glm":
            how |= {"num_frames": spec.temporal_patch_size, "temporal_factor": spec.temporal_patch_size}
        expected: Size = found(height=height, width=width, factor=spec.token_size, **how)
        return expected

    return size


def assert_same_size(expected: Callable[[int, int, pp.VisionSpec], Size], height: int, width: int, spec: Any) -> bool:
    """Both give one size, or both refuse the image; say which."""
    try:
        size = expected(height, width, spec)
    except ValueError as error:
        if spec.resize_rule == "glm" and "larger than factor" in str(error):
            return False  # transformers 4.57 refuses what later versions enlarge
        with pytest.raises(pp.PixelPruneError, match=r"expected at most|expected sides of at least one token"):
            pp.smart_resize(height, width, spec)
        return False
    assert pp.smart_resize(height, width, spec) == size, (height, width, spec)
    return True


def specs(rule: Any) -> list[pp.VisionSpec]:
    """Tokens of 14, 28 and 32 pixels; limits far apart, met by whole tokens, and just not met."""
    base = pp.VisionSpec(patch_size=14, merge_size=2, resize_rule=rule, temporal_patch_size=1)
    token = 28 * 28
    return [
        base,
        replace(base, merge_size=1),
        replace(base, patch_size=16, min_pixels=65536, max_pixels=16777216, temporal_patch_size=2),
        replace(base, min_pixels=1, max_pixels=token),
        replace(base, min_pixels=16 * token, max_pixels=16 * token, temporal_patch_size=2),
        replace(base, min_pixels=16 * token + 1, max_pixels=25 * token - 1),
        replace(base, patch_size=101, merge_size=3),
        replace(base, patch_size=7, merge_size=7, temporal_patch_size=3),  # 11 * (49 / 11) is below 49
    ]


@pytest.mark.parametrize(("rule", "module", "pil"), MODULES, ids=lambda value: str(value))
def test_sizes_are_those_of_the_processors(rule: str, module: str, pil: str) -> None:
    expected = oracle(rule, module, pil)
    rng = np.random.default_rng(0)
    sides = np.concatenate([rng.integers(1, high, (count, 2)) for high, count in ((60, 700), (400, 300), (6000, 700))])
    # At and beside the largest aspect ratio, sides below a token included.
    short = np.arange(1, 51)
    limit = 4 if rule == "glm_image" else 200
    edges = [np.stack([short, short * limit + more], axis=1) for more in (-1, 0, 1)]
    # Squares, which meet a limit exactly, and images where 105 * (28 / 24) is not 105 * 28 / 24.
    exact = [np.tile(np.arange(1, 301)[:, np.newaxis], 2), [[24, 105], [12, 105]]]
    sides = np.concatenate([sides, *edges, *(edge[:, ::-1] for edge in edges), *exact])
    done = {assert_same_size(expected, height, width, spec) for height, width in sides.tolist() for spec in specs(rule)}
    assert done == {True, False}


@pytest.mark.parametrize("rule", ORACLES)
def test_sizes_of_all_small_images(rule: str) -> None:
    expected = oracle(rule, ORACLES[rule][0])
    for height in range(1, 66):
        for width in range(1, 66):
            for spec in specs(rule)[:3]:
                assert_same_size(expected, height, width, spec)


@pytest.mark.parametrize("rule", ORACLES)
def test_sizes_of_any_image_and_any_limits(rule: Any) -> None:
    expected = oracle(rule, ORACLES[rule][0])

    @settings(max_examples=400, deadline=None)
    @given(
        st.integers(1, 30000),
        st.one_of(st.integers(1, 30000), st.fractions(0, 210)),
        st.integers(1, 20),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(1, 10**6),
        st.integers(0, 10**7),
    )
    def check(height: int, other: Any, patch: int, merge: int, frames: int, least: int, more: int) -> None:
        width = other if isinstance(other, int) else max(1, round(height * other))
        spec = pp.VisionSpec(
            patch_size=patch,
            merge_size=merge,
            temporal_patch_size=frames,
            min_pixels=least,
            max_pixels=least + more,
            resize_rule=rule,
        )
        assert_same_size(expected, height, width, spec)

    check()


# --- Rows ------------------------------------------------------------------------------------------------


def make_images() -> list[Image.Image]:
    """Textures of unlike sizes, two of them of one size, with sides below a token and some above the limits."""
    rng = np.random.default_rng(5)
    sizes = ((90, 140), (33, 47), (90, 140), (9, 110), (700, 800))
    made = [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]
    made[-1][100:600, 50:700] = (7, 130, 255)
    return [Image.fromarray(pixels) for pixels in made]


def resized(image: Image.Image, spec: pp.VisionSpec, backend: str) -> Pixels:
    """The image that the rows are cut from, by the library that the backend stands on."""
    if backend == "Pil":
        return np.asarray(resize_image(image, spec, resample="pillow"))
    tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    how = {"interpolation": functional.InterpolationMode.BICUBIC, "antialias": True}
    size = list(pp.smart_resize(image.height, image.width, spec))
    pixels: Pixels = functional.resize(tensor, size, **how).permute(1, 2, 0).numpy()
    return pixels


def fused(pixels: Pixels, spec: pp.VisionSpec) -> npt.NDArray[np.float32]:
    """Normalise levels in one step, as the torchvision backend does; the other backend rescales first."""
    mean, std = (np.array(values, np.float32) * np.float32(255) for values in (spec.mean, spec.std))
    return (pixels.astype(np.float32) - mean) / std


@pytest.mark.parametrize("lowered", [False, True], ids=["own limits", "lowered limits"])
@pytest.mark.parametrize("backend", BACKENDS, ids=["torchvision", "pillow"])
@pytest.mark.parametrize("preset", PROCESSORS)
def test_rows_are_those_of_the_processors(preset: str, backend: str, lowered: bool) -> None:
    """To the last bit: count and order of the rows, order and values in a row, shape and dtype."""
    spec = pp.VisionSpec.preset(preset)
    told: dict[str, Any] = {}
    if lowered:
        spec = replace(spec, min_pixels=6 * 28 * 28, max_pixels=40 * 28 * 28)
        told["size"] = {"shortest_edge": spec.min_pixels, "longest_edge": spec.max_pixels}
    processor = make_processor(preset, backend, **told)
    assert pp.VisionSpec.from_config(processor) == spec
    images = make_images()
    made = processor(images, return_tensors="pt")
    rows, grids = [], []
    for image in images:
        pixels = resized(image, spec, backend)
        values, grid = still((normalise if backend else fused)(pixels, spec), spec)
        rows.append(values.reshape(-1, *spec.patch_shape))
        grids.append(list(grid))
    assert made["image_grid_thw"].dtype == torch.int64
    assert made["image_grid_thw"].tolist() == grids
    expected = np.concatenate(rows)
    assert expected.dtype == np.float32
    assert made["pixel_values"].dtype == torch.float32
    assert made["pixel_values"].shape == expected.shape
    assert np.array_equal(made["pixel_values"].numpy(), expected)
