"""`ImageProcessor` without any framework: what it is, what it takes, what it returns."""

from __future__ import annotations

import copy
import io
import json
import pickle
import sys
import warnings
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from PIL import Image

if TYPE_CHECKING:
    from conftest import RunChild

SPEC = pp.VisionSpec(patch_size=4, merge_size=2, min_pixels=64, max_pixels=64 * 64)
RASTER = replace(SPEC, patch_order="raster")
CONFIG = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": 4,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 64, "longest_edge": 4096},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


def pixels(seed: int = 0, height: int = 24, width: int = 40, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Noise with some equal tokens."""
    image = np.random.default_rng([seed, channels]).integers(0, 256, (height, width, channels), np.uint8)
    image[8:24, : 8 + 8 * (seed % 3)] = 255
    return image


def same(one: Any, other: Any) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in other
    )


def answer_of(left: Any, up: Any) -> Any:
    return ~(left & up)


# --- The object ------------------------------------------------------------------------------------------

SETTINGS: list[dict[str, Any]] = [
    {},
    {"threshold": 0.1, "metric": "mae", "method": "either", "anchored": False, "seed": 3},
    {"prune": False, "dtype": "bfloat16", "copies": "single", "resample": "pillow"},
    {"alpha": (1, 2, 3), "threads": 2, "merge_sizes": True},
    {"method": answer_of},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_copies_are_equal_and_work_alike(settings: Any) -> None:
    processor = pp.ImageProcessor(SPEC, **settings)
    for other in (
        pickle.loads(pickle.dumps(processor)),
        copy.deepcopy(processor),
        replace(processor),
        pp.ImageProcessor(SPEC, **settings),
    ):
        assert other == processor
        assert hash(other) == hash(processor)
        assert repr(other) == repr(processor)
        assert same(other(pixels()), processor(pixels()))
    assert pickle.dumps(processor) == pickle.dumps(pp.ImageProcessor(SPEC, **settings))


def test_other_settings_make_another_one() -> None:
    processors = [pp.ImageProcessor(SPEC, **settings) for settings in SETTINGS]
    assert len(set(processors)) == len(SETTINGS)
    assert pp.ImageProcessor("qwen2_vl") != pp.ImageProcessor("qwen3_vl")


def test_values_are_compared_and_not_their_spelling() -> None:
    processor = pp.ImageProcessor("qwen3_vl", alpha=(1, 2, 3))
    spelled = pp.ImageProcessor(pp.PRESETS["qwen3_vl"], threshold=0, anchored=np.True_, alpha=[1, 2, np.int64(3)])  # type: ignore[arg-type]
    assert spelled == processor
    assert hash(spelled) == hash(processor)
    assert pickle.dumps(spelled) == pickle.dumps(processor)


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        pp.ImageProcessor(SPEC).prune = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"method": "nonsense"}, pp.PixelPruneError),
        ({"method": 3}, TypeError),
        ({"metric": "nonsense"}, pp.PixelPruneError),
        ({"threshold": 2.0}, pp.PixelPruneError),
        ({"threshold": "none"}, TypeError),
        ({"anchored": 1}, TypeError),
        ({"prune": 1}, TypeError),
        ({"resample": "nearest"}, pp.PixelPruneError),
        ({"alpha": "blue"}, pp.PixelPruneError),
        ({"dtype": "float64"}, pp.PixelPruneError),
        ({"copies": "frames"}, pp.PixelPruneError),
        ({"threads": -1}, pp.PixelPruneError),
        ({"merge_sizes": 1}, TypeError),
        ({"size": 3}, TypeError),
    ],
)
def test_settings_are_checked_when_it_is_made(settings: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(settings))):
        pp.ImageProcessor(SPEC, **settings)


# --- What it returns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
def test_values_are_those_of_preprocess(settings: Any) -> None:
    images = [pixels(1), pixels(2, 33, 17), pixels(3, 90, 90)]
    features = pp.ImageProcessor(SPEC, **settings)(images)
    plain = {name: value for name, value in settings.items() if name != "merge_sizes"}
    batch = pp.preprocess(images, SPEC, **plain)
    assert features.batch.selections == batch.selections
    assert features["pixel_values"].dtype == batch.pixel_values.dtype
    assert np.array_equal(features["pixel_values"], batch.pixel_values)
    expected = batch.grid_thw if settings.get("prune") is False else batch.flat_grid_thw
    assert np.array_equal(features["image_grid_thw"], expected)
    assert features["image_grid_thw"].dtype == np.int64
    assert ("image_merge_sizes" in features) == settings.get("merge_sizes", False)


def test_keys_are_what_the_model_takes_and_the_rest_is_an_attribute() -> None:
    def model(*, pixel_values: Any, image_grid_thw: Any) -> int:
        return len(pixel_values)

    features = pp.ImageProcessor(SPEC)(pixels())
    assert model(**features) == len(features.pixel_values)
    assert features.pixel_values is features["pixel_values"]
    assert features.batch.grid_thw.tolist() == [[1, 6, 10]]
    assert features.batch.original_sizes.tolist() == [[24, 40]]
    with pytest.raises(AttributeError, match="'pixels'; expected batch or one of pixel_values, image_grid_thw"):
        _ = features.pixels
    for again in (pickle.loads(pickle.dumps(features)), copy.deepcopy(features), copy.copy(features)):
        assert same(again, features)
        assert again.batch.selections == features.batch.selections


def test_merge_sizes_come_with_the_preset_that_has_them() -> None:
    features = pp.ImageProcessor("video_llama_3")([pixels(), pixels()])
    assert list(features) == ["pixel_values", "image_grid_thw", "image_merge_sizes"]
    assert features.image_merge_sizes.tolist() == [1, 1]
    assert features.image_merge_sizes.dtype == np.int64
    assert list(pp.ImageProcessor("video_llama_3", merge_sizes=False)(pixels())) == ["pixel_values", "image_grid_thw"]
    assert pp.ImageProcessor("qwen3_vl", merge_sizes=True)(pixels()).image_merge_sizes.tolist() == [2]


def test_no_images() -> None:
    for prune in (True, False):
        for spec in (SPEC, RASTER):
            features = pp.ImageProcessor(spec, prune=prune, merge_sizes=True)([])
            shapes = {name: value.shape for name, value in features.items()}
            assert shapes == {"pixel_values": (0, 96), "image_grid_thw": (0, 3), "image_merge_sizes": (0,)}


@pytest.mark.parametrize("merge", [1, 2, 3])
def test_raster_rows_are_those_of_an_image_of_the_kept_tokens(merge: int) -> None:
    """The kept tokens side by side, preprocessed whole: that is what a model sees in the flat grid."""
    spec = replace(RASTER, merge_size=merge)
    side = spec.token_size
    image = np.random.default_rng(0).integers(0, 256, (3 * side, 4 * side, 3), np.uint8)
    image[side:, : 2 * side] = 7
    processor = pp.ImageProcessor(spec, resample="none")
    whole = image[: 2 * side].copy()
    whole[side:] = 255 - whole[:side]
    features = processor([image, whole])
    first, second = features.batch.selections
    assert 1 < first.kept < first.total
    assert second.kept == second.total
    strip = np.concatenate(list(first.tokens(image)), axis=1)
    expected = pp.preprocess([strip, whole], spec, prune=False, resample="none")
    assert np.array_equal(features.pixel_values, expected.pixel_values)
    assert np.abs(features.image_grid_thw).tolist() == expected.grid_thw.tolist()
    assert (features.image_grid_thw < 0).any(axis=1).tolist() == [True, False]


# --- What it takes ---------------------------------------------------------------------------------------


def test_one_image_and_lists_of_lists() -> None:
    processor = pp.ImageProcessor(SPEC)
    one, two, three = pixels(1), pixels(2, 30, 30), pixels(3, 16, 8)
    assert same(processor(one), processor([one]))
    flat = processor([one, two, three])
    assert len(flat.batch) == 3
    ragged = np.empty(3, object)
    ragged[:] = [one, two, three]
    for images in (
        [[one], [two, three]],
        ((one, two), (three,)),
        [[one, two], [], [three]],
        [[[one]], two, three],
        ragged,
    ):
        assert same(processor(images), flat)
    stacked = np.stack([pixels(seed) for seed in range(3)])
    assert same(processor(stacked), processor(list(stacked)))
    assert same(processor(stacked.transpose(0, 3, 1, 2)), processor(list(stacked)))
    assert same(processor([stacked, one]), processor([*stacked, one]))


def test_decoded_kinds(tmp_path: Path) -> None:
    processor = pp.ImageProcessor(SPEC)
    path = tmp_path / "one.png"
    Image.fromarray(pixels()).save(path)
    expected = processor(pixels())
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), Image.open(path)):
        assert same(processor(source), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_first_and_last(channels: int) -> None:
    processor = pp.ImageProcessor(SPEC)
    last = pixels(5, channels=channels)
    first = np.ascontiguousarray(last.transpose(2, 0, 1))
    assert same(processor(first), processor(last))
    assert same(processor(first, channels_first=True), processor(last))
    if channels != 1:
        assert same(processor(last, channels_first=False), processor(last))
    with pytest.raises(pp.PixelPruneError, match=r"images\[0\]"):
        processor(first, channels_first=False)
    if channels == 1:
        assert same(processor(last[..., 0]), processor(np.repeat(last, 3, axis=2)))


def test_ambiguous_arrays_are_taken_channels_first() -> None:
    processor = pp.ImageProcessor(SPEC)
    array = pixels(0, 3, 24)
    with pytest.warns(pp.PixelPruneWarning, match=r"shape \(3, 24, 3\)") as caught:
        features = processor(array)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(pp.PixelPruneWarning, match=r"shape \(3, 24, 3\)") as caught:
        processor.__call__([[array]])
    assert [warning.filename for warning in caught] == [__file__]
    assert features.batch.original_sizes.tolist() == [[24, 3]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(processor(array, channels_first=True), features)
        last = processor(array, channels_first=False)
    assert last.batch.original_sizes.tolist() == [[3, 24]]


def test_alpha_is_laid_on_white_unless_told_otherwise() -> None:
    rgba = pixels(4, channels=4)
    image = Image.fromarray(rgba)
    white, drop = pp.ImageProcessor(SPEC, prune=False), pp.ImageProcessor(SPEC, prune=False, alpha="drop")
    assert same(white(image), white(pp.load_image(image, alpha="white")))
    for source in (image, rgba):
        with pytest.warns(pp.PixelPruneWarning, match="alpha"):
            assert same(drop(source), white(rgba[..., :3].copy()))
    assert same(pp.ImageProcessor(SPEC, prune=False, alpha=(255, 255, 255))(rgba), white(rgba))
    opaque = rgba.copy()
    opaque[..., 3] = 255
    assert same(white(opaque), white(rgba[..., :3].copy()))
    gone = rgba.copy()
    gone[..., 3] = 0
    assert same(white(gone), white(np.full_like(rgba[..., :3], 255)))
    assert not same(white(rgba), white(rgba[..., :3].copy()))


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (3, TypeError, r"images\[0\]: source is a int"),
        ([pixels(), None], TypeError, r"images\[1\]: source is a NoneType"),
        ([[pixels()], [pixels().astype(np.float32)]], TypeError, r"images\[1\]: image has dtype float32"),
        (
            np.zeros((5, 9, 7), np.uint8),
            pp.PixelPruneError,
            r"images\[0\].*shape \(5, 9, 7\); expected 1, 3 or 4 channels",
        ),
        (np.zeros((5, 9, 2), np.uint8), pp.PixelPruneError, "expected 1, 3 or 4 channels"),
        (np.zeros(7, np.uint8), pp.PixelPruneError, r"images\[0\].*shape \(7,\)"),
        (np.zeros((3, 0, 8), np.uint8), pp.PixelPruneError, r"images\[0\]"),
        ([pixels(0, 2, 500)], pp.PixelPruneError, r"images\[0\].*aspect ratio"),
        ([pixels(), b"damaged"], pp.PixelPruneError, r"images\[1\]: cannot read the image"),
        ("missing.png", FileNotFoundError, "missing.png"),
        ({"image": pixels()}, TypeError, "source is a dict"),
    ],
)
def test_bad_images(images: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pp.ImageProcessor(SPEC)(images)


def test_bad_arguments_of_a_call() -> None:
    processor = pp.ImageProcessor(SPEC)
    for value in ("tf", None, "numpy"):
        with pytest.raises(pp.PixelPruneError, match=r"return_tensors is .* expected 'np' or 'pt'"):
            processor(pixels(), return_tensors=value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="channels_first is 'last'; expected True or False"):
        processor(pixels(), channels_first="last")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="do_resize"):
        processor(pixels(), do_resize=False)  # type: ignore[call-arg]


# --- from_config -----------------------------------------------------------------------------------------


def test_from_config(tmp_path: Path) -> None:
    expected = pp.ImageProcessor(SPEC)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    for config in (CONFIG, path, str(tmp_path), {"image_processor": CONFIG}):
        assert pp.ImageProcessor.from_config(config) == expected
    settings: dict[str, Any] = {"threshold": 0.1, "resample": "pad", "prune": False}
    assert pp.ImageProcessor.from_config(CONFIG, **settings) == pp.ImageProcessor(SPEC, **settings)
    for ending, backend in (("Pil", "pillow"), ("Fast", "torchvision")):
        for config in ({**CONFIG, "image_processor_type": f"Qwen2VLImageProcessor{ending}"},):
            assert pp.ImageProcessor.from_config(config).resample == backend
            assert pp.ImageProcessor.from_config({"image_processor": config}).resample == backend
    llama = {**CONFIG, "image_processor_type": "VideoLlama3ImageProcessor"}
    assert pp.ImageProcessor.from_config(llama).merge_sizes is True
    assert pp.ImageProcessor.from_config(llama, merge_sizes=False).merge_sizes is False


def test_from_a_processor_object() -> None:
    class Stock:
        def to_dict(self) -> dict[str, Any]:
            return dict(CONFIG)

    torchvision = type("TorchvisionBackend", (Stock,), {})
    former = type("BaseImageProcessorFast", (Stock,), {})
    for base, backend in ((torchvision, "torchvision"), (former, "torchvision"), (Stock, "pillow")):
        processor = type("Qwen2VLImageProcessor", (base,), {})()
        expected = pp.ImageProcessor(SPEC, resample=backend)  # type: ignore[arg-type]
        assert pp.ImageProcessor.from_config(processor) == expected
        whole = type("Whole", (), {"image_processor": processor})()
        assert pp.ImageProcessor.from_config(whole) == expected


@pytest.mark.parametrize("config", [{}, {**CONFIG, "image_processor_type": "CLIPImageProcessor"}])
def test_configs_that_are_refused(config: Any) -> None:
    with pytest.raises(pp.PixelPruneError, match=r"image_processor_type|not supported"):
        pp.ImageProcessor.from_config(config)


# --- The import ------------------------------------------------------------------------------------------


def make_arrays() -> None:
    pp.ImageProcessor(SPEC, dtype="bfloat16")(pixels())
    print("torch" in sys.modules)


def test_arrays_need_no_framework(run_child: RunChild) -> None:
    assert run_child(make_arrays).split() == ["False"]
