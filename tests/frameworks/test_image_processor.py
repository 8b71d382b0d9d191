"""`ImageProcessor` with ``prune=False`` returns what the families' own processors return, to the last bit."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("compares with the image processors of transformers 5", allow_module_level=True)

BACKENDS = {"torchvision": "", "pillow": "Pil"}
SMALL = {"size": {"shortest_edge": 6 * 28 * 28, "longest_edge": 40 * 28 * 28}}
"""Limits between which images of these tests lie, and outside of which others do."""
FAMILIES = (
    "Qwen2VL",
    "Glm4v",
    "Glm46V",
    "Glmga",
    "PaddleOCRVL",
    "VideoLlama3",
    "Ernie4_5_VLMoe",
    "CohereCompass",
    "MiniMaxM3VL",
    "HunYuanVL",
    "Cosmos3Edge",
    "GlmImage",
)


def stock(family: str, backend: str, **told: Any) -> Any:
    name = f"{family}ImageProcessor{BACKENDS[backend]}"
    found = getattr(transformers, name, None)
    if found is None:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    return found(**{**SMALL, **told})


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng([seed, height, width, channels]).integers(0, 256, (height, width, channels), np.uint8)


def make_image(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(noise(height, width, 3, seed))


def assert_same(ours: Any, theirs: Any, kind: Any = torch.Tensor) -> None:
    assert list(ours) == list(theirs)
    for name in theirs:
        one, other = ours[name], theirs[name]
        assert type(one) is type(other) is kind, name
        assert one.dtype == other.dtype, name
        assert one.shape == other.shape, name
        assert bool((one == other).all()), name


def check(family: str, backend: str, images: Any, **told: Any) -> Any:
    processor = stock(family, backend, **told)
    ours = pp.ImageProcessor.from_config(processor, prune=False)
    assert ours.resample == backend
    made = ours(images, return_tensors="pt")
    assert_same(made, processor(images, return_tensors="pt"))
    return made


# --- Families and sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, backend: str) -> None:
    """A batch of mixed sizes: scaled down, hardly, not at all, and up."""
    sizes = ((200, 300), (140, 168), (56, 84), (28 * 4, 28 * 3), (90, 31))
    made = check(family, backend, [make_image(*size) for size in sizes])
    assert made.pixel_values.dtype == torch.float32
    assert len(made.image_grid_thw) == len(sizes)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["Qwen2VL", "Glm4v", "PaddleOCRVL", "VideoLlama3", "Cosmos3Edge"])
@pytest.mark.parametrize(
    ("height", "width"), [(3, 560), (560, 5), (1, 150), (200, 1), (1, 1), (7, 7), (640, 4), (29, 999), (320, 33)]
)
def test_extreme_sizes(family: str, backend: str, height: int, width: int) -> None:
    images = [make_image(height, width)]
    made = check(family, backend, images)
    assert made.batch.original_sizes.tolist() == [[height, width]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["Qwen2VL", "Glm4v", "PaddleOCRVL"])
def test_both_refuse_what_is_too_long(family: str, backend: str) -> None:
    processor = stock(family, backend)
    for size in ((1, 201), (300, 1)):
        with pytest.raises(ValueError, match="aspect ratio"):
            processor(make_image(*size))
        with pytest.raises(pp.PixelPruneError, match=r"images\[0\].*aspect ratio"):
            pp.ImageProcessor.from_config(processor)(make_image(*size))


def test_the_class_s_own_limits() -> None:
    processor = transformers.Qwen2VLImageProcessor()
    images = [make_image(1100, 1300), make_image(20, 30)]
    ours = pp.ImageProcessor.from_config(processor, prune=False)
    assert_same(ours(images, "pt"), processor(images, return_tensors="pt"))


# --- Kinds of images -------------------------------------------------------------------------------------


def pil_kinds() -> dict[str, Image.Image]:
    rgba = Image.fromarray(noise(60, 90, 4))
    palette = Image.fromarray(noise(60, 90, 3)).quantize(16)
    see_through = palette.copy()
    see_through.info["transparency"] = bytes([0, 40, 255, 128])
    keyed = Image.fromarray(noise(60, 90, 3) // 64)
    keyed.info["transparency"] = (1, 2, 3)
    return {
        "RGB": Image.fromarray(noise(60, 90, 3)),
        "grey": Image.fromarray(noise(60, 90, 1)[..., 0]),
        "1-bit": Image.fromarray(noise(60, 90, 1)[..., 0]).convert("1"),
        "grey and alpha": rgba.convert("LA"),
        "RGBA": rgba,
        "opaque RGBA": Image.fromarray(noise(60, 90, 3)).convert("RGBA"),
        "palette": palette,
        "palette with transparency": see_through,
        "RGB with a transparent colour": keyed,
        "CMYK": Image.fromarray(noise(60, 90, 3)).convert("CMYK"),
        "YCbCr": Image.fromarray(noise(60, 90, 3)).convert("YCbCr"),
    }


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", pil_kinds())
def test_kinds_of_pillow_images(kind: str, backend: str) -> None:
    check("Qwen2VL", backend, pil_kinds()[kind])


def array_kinds() -> dict[str, Any]:
    rgb, rgba, grey = noise(60, 90, 3), noise(60, 90, 4), noise(60, 90, 1)
    ramp = np.empty((256, 256, 4), np.uint8)  # every level on every opacity
    ramp[..., :3] = np.arange(256, dtype=np.uint8)[None, :, None]
    ramp[..., 3] = np.arange(256, dtype=np.uint8)[:, None]
    return {
        "HWC": rgb,
        "CHW": np.ascontiguousarray(rgb.transpose(2, 0, 1)),
        "CHW view": rgb.transpose(2, 0, 1),
        "HWC, one channel": grey,
        "CHW, one channel": grey.transpose(2, 0, 1),
        "HWC, four channels": rgba,
        "CHW, four channels": rgba.transpose(2, 0, 1),
        "all opacities": ramp,
        "opaque": np.concatenate([rgb, np.full((60, 90, 1), 255, np.uint8)], axis=2),
        "upside down": rgb[::-1],
        "crop": noise(100, 120, 3)[10:80, 5:95],
        "Fortran order": np.asfortranarray(rgb),
    }


def as_tensor(array: Any) -> Any:
    return torch.from_numpy(array.copy(order="K"))


@pytest.mark.filterwarnings("ignore:The given NumPy array:UserWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", array_kinds())
def test_kinds_of_arrays(kind: str, backend: str) -> None:
    array = array_kinds()[kind]
    size = {"shortest_edge": 1, "longest_edge": 1 << 20}
    check("Qwen2VL", backend, np.ascontiguousarray(array) if kind == "upside down" else array, size=size)
    check("Qwen2VL", backend, as_tensor(array), size=size)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 70, 4), (3, 90, 3), (4, 60, 1), (1, 40, 3)])
def test_ambiguous_arrays(shape: tuple[int, int, int], backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Taken channels first, with a warning, unless the caller says which it is."""
    logging.getLogger("transformers").propagate = True
    array = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    processor = stock("Qwen2VL", backend)
    ours = pp.ImageProcessor.from_config(processor, prune=False)
    theirs = processor(array, return_tensors="pt")
    with pytest.warns(pp.PixelPruneWarning, match="could both be channels"):
        made = ours(array, "pt")
    assert_same(made, theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(ours(array, "pt", channels_first=True), theirs)
        theirs = processor(array, return_tensors="pt", input_data_format="channels_last")
        assert_same(ours(array, "pt", channels_first=False), theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["Qwen2VL", "VideoLlama3", "PaddleOCRVL"])
def test_nesting(family: str, backend: str) -> None:
    one, other = make_image(60, 90), make_image(100, 56, 1)
    # Copies: torch warns about memory that it may not write to.
    arrays = [np.array(one), np.array(other).transpose(2, 0, 1).copy()]
    stacked = np.stack([np.asarray(make_image(60, 90, seed)) for seed in range(3)])
    first = as_tensor(stacked.transpose(0, 3, 1, 2))
    for images in (
        one,
        [one],
        (one, other),
        [[one], [other, one]],
        [[one], [], [other]],
        ((one, other), (one,)),
        [one, arrays[0], as_tensor(arrays[1])],
        [[arrays[1]], [as_tensor(arrays[0]), one]],
        stacked,
        first,
        [stacked, stacked[:1]],
        [first, first],
    ):
        check(family, backend, images)


# --- The result ------------------------------------------------------------------------------------------


def test_numpy_arrays_are_what_transformers_returns() -> None:
    processor = stock("VideoLlama3", "torchvision")
    ours = pp.ImageProcessor.from_config(processor, prune=False)
    images = [make_image(100, 80), make_image(33, 66)]
    assert_same(ours(images), processor(images, return_tensors="np"), np.ndarray)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")]
)
@pytest.mark.parametrize("prune", [True, False])
def test_tensors_share_the_arrays_memory(dtype: Any, expected: str, prune: bool) -> None:
    processor = stock("Qwen2VL", "torchvision")
    ours = pp.ImageProcessor.from_config(processor, dtype=dtype, prune=prune)
    image = make_image(100, 80)
    made = ours(image, "pt")
    assert made.pixel_values.dtype == getattr(torch, expected)
    theirs = processor(image, return_tensors="pt")
    assert torch.equal(made.pixel_values, theirs["pixel_values"].to(made.pixel_values.dtype))  # noise: nothing dropped
    assert made.pixel_values.data_ptr() == made.batch.pixel_values.ctypes.data
    made.batch.pixel_values[:] = 0
    assert not made.pixel_values.any()


def test_raw_levels() -> None:
    values = pp.ImageProcessor("qwen3_vl", dtype="uint8", resample="none")(np.full((64, 32, 3), 7, np.uint8), "pt")
    assert values.pixel_values.dtype == torch.uint8
    assert values.pixel_values.unique().tolist() == [7]


def page(rows: int, columns: int, side: int) -> Image.Image:
    """Mostly equal tokens, some of noise, of such a size that no resampling blurs them."""
    pixels = np.full((rows * side, columns * side, 3), 255, np.uint8)
    pixels[side : side * 3 - 5, side * 2 : side * 4 - 9] = noise(side * 2 - 5, side * 2 - 9, 3)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("family", ["Qwen2VL", "PaddleOCRVL", "HunYuanVL", "VideoLlama3"])
def test_pruned_rows_are_rows_of_the_whole(family: str) -> None:
    processor = stock(family, "torchvision", size={"shortest_edge": 1, "longest_edge": 1 << 20})
    ours = pp.ImageProcessor.from_config(processor)
    side = pp.VisionSpec.from_config(processor).token_size
    images = [page(5, 7, side), make_image(side * 2, side * 3), page(4, 5, side)]
    whole = processor(images, return_tensors="pt")
    made = ours(images, "pt")
    batch = made.batch
    assert list(made) == list(whole)
    assert batch.grid_thw.tolist() == whole["image_grid_thw"].tolist()
    kept = [selection.kept for selection in batch.selections]
    assert kept[0] < batch.selections[0].total
    assert kept[1] == batch.selections[1].total
    rows = whole["pixel_values"][torch.from_numpy(pp.patch_indices(batch.selections, flat=True))]
    assert torch.equal(made.pixel_values, rows)
    assert np.array_equal(batch.pixel_values, rows.numpy())
    assert made.image_grid_thw.tolist() == batch.flat_grid_thw.tolist()


def test_raster_rows_come_in_the_order_in_which_models_read_them() -> None:
    from pixelprune.plan import ModelSpec, make_plan

    processor = stock("PaddleOCRVL", "torchvision", size={"shortest_edge": 1, "longest_edge": 1 << 20})
    images = [page(5, 7, 28), make_image(56, 84), page(4, 6, 28)]
    whole = processor(images, return_tensors="pt")
    made = pp.ImageProcessor.from_config(processor)(images, "pt")
    model = ModelSpec.from_config({"model_type": "paddleocr_vl"})
    plan = make_plan(model, made.batch.grid_thw, made.batch.selections).images
    assert plan.patch_indices.tolist() != sorted(plan.patch_indices)
    assert torch.equal(made.pixel_values, whole["pixel_values"][torch.from_numpy(plan.patch_indices)])
    assert made.image_grid_thw.tolist() == plan.flat_grids.tolist()


# --- from_config -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_configs_in_every_form(backend: str, tmp_path: Path) -> None:
    processor = stock("VideoLlama3", backend)
    ours = pp.ImageProcessor.from_config(processor, threshold=0.1)
    assert (ours.resample, ours.settings.threshold, ours.merge_sizes) == (backend, 0.1, True)

    class Whole:
        image_processor = processor

    assert pp.ImageProcessor.from_config(Whole(), threshold=0.1) == ours
    processor.save_pretrained(tmp_path)
    expected = pp.ImageProcessor(pp.VisionSpec.from_config(processor), merge_sizes=True)
    assert pp.ImageProcessor.from_config(tmp_path) == expected  # a file does not say which backend
    config = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert pp.ImageProcessor.from_config(config) == expected
    assert pp.ImageProcessor.from_config(processor, resample="pad").resample == "pad"


def test_sent_elsewhere_it_gives_the_same() -> None:
    ours = pp.ImageProcessor.from_config(stock("Qwen2VL", "pillow"), dtype="bfloat16")
    again = pickle.loads(pickle.dumps(ours))
    assert again == ours
    assert_same(again(make_image(60, 90), "pt"), ours(make_image(60, 90), "pt"))


def test_a_processor_takes_it_for_its_own() -> None:
    """`transformers` merges its output with the text's as it does with its own image processor's."""
    ours = pp.ImageProcessor.from_config(stock("Qwen2VL", "torchvision"), prune=False)
    features = ours(images=make_image(60, 90), return_tensors="pt")
    merged = transformers.BatchFeature({"input_ids": torch.zeros(1, 3), **features})
    assert set(merged) == {"input_ids", "pixel_values", "image_grid_thw"}

    def model(*, pixel_values: Any, image_grid_thw: Any) -> Any:
        return pixel_values.shape, image_grid_thw.shape

    assert model(**features)[1] == (1, 3)


# --- to --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("cpu",), {}),
        ((torch.bfloat16,), {}),
        (("cpu", torch.float16), {}),
        ((torch.device("meta"),), {}),
        ((), {"device": "meta"}),
        ((), {"dtype": torch.float16}),
        (("meta",), {"dtype": torch.float16, "non_blocking": True}),
    ],
)
def test_to_is_that_of_a_batch_feature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    features = pp.ImageProcessor("qwen3_vl", merge_sizes=True)(image, "pt")
    expected = transformers.BatchFeature(dict(features)).to(*args, **kwargs)
    assert features.to(*args, **kwargs) is features
    assert list(features) == list(expected)
    for name, value in features.items():
        other = expected[name]
        assert (value.device, value.dtype, value.shape) == (other.device, other.dtype, other.shape), name
        if value.device.type == "cpu":
            assert torch.equal(value, other)
    assert features.batch.pixel_values.dtype == np.float32


def test_arrays_have_no_device() -> None:
    features = pp.ImageProcessor("qwen3_vl")(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(TypeError, match="pixel_values, image_grid_thw are numpy arrays"):
        features.to("cpu")
