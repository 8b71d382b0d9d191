"""What the models' own processors make of images, pruned as the pixels that they resized to."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune import reference
from pixelprune.images.resizing import resize_image
from strategies import patchify, still

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torchvision.transforms.v2 import functional  # noqa: E402

QWEN3 = {
    "patch_size": 16,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}
QWEN2 = {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}
SUPPORTED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Qwen2VLImageProcessor", QWEN2),
    ("Qwen2VLImageProcessor", QWEN3),
    ("CohereCompassImageProcessor", {}),
    ("Cosmos3EdgeImageProcessor", {}),
    ("Ernie4_5_VLMoeImageProcessor", {}),
    ("Glm46VImageProcessor", {}),
    ("Glm4vImageProcessor", {}),
    ("GlmImageImageProcessor", {"size": {"shortest_edge": 896 * 896, "longest_edge": 1792 * 1792}}),
    ("GlmgaImageProcessor", {}),
    ("HunYuanVLImageProcessor", {}),
    ("MiniMaxM3VLImageProcessor", {}),
    ("PaddleOCRVLImageProcessor", {}),
    ("VideoLlama3ImageProcessor", {"merge_size": 2}),
)
UNSUPPORTED = ("Glm5NextImageProcessor", "Kimi_K25ImageProcessor", "MuseGlimmerImageProcessor")
BACKENDS = ("", "Pil")


def processor_class(name: str) -> Any:
    found = getattr(transformers, name, None)
    if found is None:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    return found


def limits(processor: Any) -> tuple[int, int]:
    return processor.size["shortest_edge"], processor.size["longest_edge"]


@pytest.fixture(params=SUPPORTED, ids=lambda family: f"{family[0]}{len(family[1])}")
def family(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param


@pytest.fixture(params=BACKENDS, ids=["torchvision", "pillow"])
def processor(request: pytest.FixtureRequest, family: tuple[str, dict[str, Any]]) -> Any:
    name, settings = family
    return processor_class(name + request.param)(**settings)


def make_images() -> list[Image.Image]:
    """A page with flat parts, lines and a texture, that is scaled; a nearly flat one of the right size."""
    rng = np.random.default_rng(11)
    page = np.full((500, 700, 3), 250, np.uint8)
    page[60:64, 40:600] = (20, 30, 200)
    page[200:300, 100:400] = (90, 140, 90)
    page[320:420, 450:640] = rng.integers(0, 256, (100, 190, 3))
    shades = np.full((448, 896, 3), 120, np.uint8)  # sides are multiples of both 28 and 32
    for level, (y, x) in enumerate(rng.integers(0, 448, (40, 2))):
        shades[y, 2 * x] += level % 7 + 2
    return [Image.fromarray(page), Image.fromarray(shades)]


def unpatchify(values: npt.NDArray[Any], grid: list[int], spec: pp.VisionSpec) -> npt.NDArray[np.uint8]:
    """The image that a processor cut up, in levels, from its first temporal copy."""
    _, h, w = grid
    values = values.reshape(h * w, -1)
    count = values.shape[-1]
    index, _ = still(np.arange(h * w * spec.patch_size**2 * 3).reshape(h * spec.patch_size, -1, 3), spec)
    image = np.empty(h * w * spec.patch_size**2 * 3, np.uint8)
    assert (values == np.rint(values)).all()
    image[index.reshape(-1, count)] = values
    return image.reshape(h * spec.patch_size, w * spec.patch_size, 3)


def outcome(processor: Any, images: list[Image.Image]) -> tuple[Any, Any, list[npt.NDArray[np.uint8]]]:
    """Its pixel_values and grids, and the images as it resized them."""
    spec = pp.VisionSpec.from_config(processor)
    made = processor(images, return_tensors="pt")
    resized = []
    for image in images:
        raw = processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")
        resized.append(unpatchify(raw["pixel_values"].numpy(), raw["image_grid_thw"][0].tolist(), spec))
    return made["pixel_values"], made["image_grid_thw"], resized


# --- Specs -----------------------------------------------------------------------------------------------


def test_object_dict_and_files_agree(processor: Any, tmp_path: Path) -> None:
    spec = pp.VisionSpec.from_config(processor)
    assert spec.mean == tuple(processor.image_mean)
    assert spec.std == tuple(processor.image_std)
    assert (spec.min_pixels, spec.max_pixels) == limits(processor)
    kind = type(processor).__name__.removesuffix("Pil")
    assert pp.VisionSpec.from_config(processor.to_dict()) == spec
    for variant in ("", "Fast", "Pil"):
        config = {**processor.to_dict(), "image_processor_type": kind + variant}
        assert pp.VisionSpec.from_config(config) == spec
    processor.save_pretrained(tmp_path)
    assert pp.VisionSpec.from_config(tmp_path) == spec
    assert pp.VisionSpec.from_config(str(tmp_path / "preprocessor_config.json")) == spec


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("Qwen2VLProcessor", "Qwen2VLVideoProcessor"),
        ("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
        ("Qwen3VLProcessor", "Qwen3VLVideoProcessor"),
    ],
)
def test_whole_processors(name: str, video: str, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    vocabulary = {word: index for index, word in enumerate(["?", *marks, "what"])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(marks)
    whole = processor_class(name)(
        image_processor=processor_class("Qwen2VLImageProcessor")(**QWEN3),
        tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?", pad_token="?"),
        video_processor=processor_class(video)(),
    )
    spec = pp.VisionSpec.from_config(whole)
    assert spec == pp.VisionSpec.preset("qwen3_vl")
    whole.save_pretrained(tmp_path)
    assert pp.VisionSpec.from_config(tmp_path) == spec
    files = list(tmp_path.glob("*processor_config.json"))
    assert files
    for file in files:
        assert pp.VisionSpec.from_config(file) == spec

    made = whole(text=["what <|image_pad|>"], images=make_images()[:1], return_tensors="pt")
    [sel] = pp.prune_pixel_values(made["pixel_values"], made["image_grid_thw"], spec)
    assert sel.total == int((made["input_ids"] == vocabulary["<|image_pad|>"]).sum())
    assert sel.kept < sel.total


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_processors_that_do_something_else_are_refused(name: str, backend: str) -> None:
    processor = processor_class(name + backend)()
    with pytest.raises(pp.PixelPruneError, match=f"'{name}', which is not supported: it .*; expected one of Qwen2VL"):
        pp.VisionSpec.from_config(processor)


def test_keys_that_a_processor_ignores(processor: Any) -> None:
    """Some read min_pixels and max_pixels, some only size; a spec goes by what the processor does."""
    kind = type(processor)
    config = {**processor.to_dict(), "min_pixels": 28 * 28 * 5, "max_pixels": 28 * 28 * 50}
    told = kind.from_dict(copy.deepcopy(config))  # which writes into its "size"
    spec = pp.VisionSpec.from_config(config)
    assert (spec.min_pixels, spec.max_pixels) == limits(told)
    assert pp.VisionSpec.from_config(told) == spec
    grid = told(make_images()[0], return_tensors="pt")["image_grid_thw"][0].tolist()
    assert [side * spec.patch_size for side in grid[1:]] == list(pp.smart_resize(500, 700, spec))


def test_resampling_is_what_the_config_says(processor: Any) -> None:
    """Bicubic, or no spec; one processor is bicubic whatever its config says."""
    image = make_images()[0]
    processor.resample = Image.Resampling.BICUBIC
    spec, usual = pp.VisionSpec.from_config(processor), processor(image, return_tensors="pt")
    processor.resample = Image.Resampling.BILINEAR
    if type(processor).__name__.startswith("HunYuan"):
        assert pp.VisionSpec.from_config(processor) == spec
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"], usual["pixel_values"])
        return
    assert not torch.equal(processor(image, return_tensors="pt")["pixel_values"], usual["pixel_values"])
    with pytest.raises(pp.PixelPruneError, match=r"resample = .*; expected 3"):
        pp.VisionSpec.from_config(processor)


@pytest.mark.parametrize("backend", BACKENDS)
def test_larger_tokens_of_glmga_are_refused(backend: str) -> None:
    """Its two backends make different sizes of it."""
    processor = processor_class(f"GlmgaImageProcessor{backend}")(patch_expand_factor=2)
    with pytest.raises(pp.PixelPruneError, match="patch_expand_factor = 2"):
        pp.VisionSpec.from_config(processor)


def test_the_size_that_minimax_replaces() -> None:
    kind = processor_class("MiniMaxM3VLImageProcessor")
    config = {**kind().to_dict(), "size": [672, 672]}
    spec = pp.VisionSpec.from_config(config)
    assert (spec.min_pixels, spec.max_pixels) == limits(kind.from_dict(copy.deepcopy(config)))


@pytest.mark.parametrize("step", ["do_resize", "do_rescale", "do_normalize"])
def test_processors_that_skip_a_step_are_refused(processor: Any, step: str) -> None:
    setattr(processor, step, False)
    with pytest.raises(pp.PixelPruneError, match=f"{step} = false"):
        pp.VisionSpec.from_config(processor)


# --- Sizes -----------------------------------------------------------------------------------------------


def test_sizes_of_the_families(processor: Any) -> None:
    """A processor tells the number of patches, or their rows and columns, without an image."""
    spec = pp.VisionSpec.from_config(processor)
    rng = np.random.default_rng(1)
    for height, width in rng.integers(30, 3000, (300, 2)).tolist():
        if max(height, width) > (4 if spec.resize_rule == "glm_image" else 200) * min(height, width):
            continue
        h, w = (side // spec.patch_size for side in pp.smart_resize(height, width, spec))
        assert processor.get_number_of_image_patches(height, width, {}) in (h * w, (h, w))


# --- Pixels ----------------------------------------------------------------------------------------------


def test_the_resized_image_is_the_one_we_know(processor: Any) -> None:
    """Of the Pillow backend byte for byte; of the other what torchvision makes of that size."""
    spec = pp.VisionSpec.from_config(processor)
    images = make_images()
    _, _, resized = outcome(processor, images)
    for image, got in zip(images, resized, strict=True):
        if type(processor).__name__.endswith("Pil"):
            expected = np.asarray(resize_image(image, spec, resample="pillow"))
        else:
            tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
            size = list(pp.smart_resize(image.height, image.width, spec))
            how = {"interpolation": functional.InterpolationMode.BICUBIC, "antialias": True}
            expected = functional.resize(tensor, size, **how).permute(1, 2, 0).numpy()
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("threshold", [0.0, 5 / 255])
@pytest.mark.parametrize("method", ["pred_2d", "raster", "either"])
def test_pixel_values_are_pruned_as_the_pixels(processor: Any, method: str, threshold: float) -> None:
    spec = pp.VisionSpec.from_config(processor)
    values, grids, resized = outcome(processor, make_images())
    how: dict[str, Any] = {"method": method, "threshold": threshold}
    expected = [pp.prune(image, spec, **how) for image in resized]
    assert [sel.grid_thw for sel in expected] == [tuple(grid) for grid in grids.tolist()]
    assert all(1 < sel.kept < sel.total for sel in expected)
    for temporal in ("repeat", "frames"):
        assert pp.prune_pixel_values(values, grids, spec, temporal=temporal, **how) == expected
        as_arrays = values.numpy(), grids.numpy()
        assert pp.prune_pixel_values(*as_arrays, spec, temporal=temporal, **how) == expected


def test_the_kept_rows_hold_the_kept_tokens(processor: Any) -> None:
    """Raster order included: the rows of patch_indices, put back where they were, are the kept pixels."""
    spec = pp.VisionSpec.from_config(processor)
    image = make_images()[0]
    raw = processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")
    values, grid = raw["pixel_values"].numpy(), raw["image_grid_thw"][0].tolist()
    sel = pp.prune(unpatchify(values, grid, spec), spec)
    only_kept = np.zeros_like(values)
    rows = sel.patch_indices()
    only_kept[rows] = values[rows]
    tokens = reference.image_tokens(unpatchify(only_kept, grid, spec), spec).reshape(sel.total, -1)
    assert np.array_equal(tokens[sel.keep], sel.tokens(unpatchify(values, grid, spec)).reshape(sel.kept, -1))
    assert not np.delete(tokens, sel.keep, axis=0).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_uint8_pixel_values(backend: str) -> None:
    """Some engines normalise on the device and hand over the levels as they are."""
    processor = processor_class(f"Qwen2VLImageProcessor{backend}")(**QWEN3)
    _, _, resized = outcome(processor, make_images()[:1])
    raw = processor(make_images()[0], do_rescale=False, do_normalize=False, return_tensors="pt")
    levels = raw["pixel_values"].to(torch.uint8)
    for threshold in (0.0, 5 / 255):
        expected = pp.prune(resized[0], "qwen3_vl", threshold=threshold)
        sels = pp.prune_pixel_values(levels, raw["image_grid_thw"], "qwen3_vl", threshold=threshold)
        assert sels == [expected]


@pytest.mark.parametrize("temporal", ["repeat", "frames"])
def test_frames_of_a_video(temporal: str) -> None:
    """The two frames of a patch are compared, or the first stands for both; every pair is its own grid."""
    spec = pp.VisionSpec.preset("qwen2_5_vl")
    processor = processor_class("Qwen2VLVideoProcessor")(do_sample_frames=False, do_resize=False)
    clip = np.full((6, 112, 168, 3), 77, np.uint8)
    clip[2, :28, :28] = 90
    clip[3, 28:56, 28:56] = 90  # the second of its pair
    clip[4:, 80:] = np.random.default_rng(2).integers(0, 256, (2, 32, 168, 3))
    made = processor(torch.from_numpy(clip).permute(0, 3, 1, 2), return_tensors="pt")
    values, grids = made["pixel_values_videos"], made["video_grid_thw"]
    assert grids.tolist() == [[3, 8, 12]]
    for method in ("pred_2d", "serpentine"):
        for threshold in (0.0, 0.02):
            how: dict[str, Any] = {"method": method, "threshold": threshold, "temporal": temporal}
            [sel] = pp.prune_pixel_values(values, grids, spec, **how)
            mask, _ = reference.prune_pixel_values(values.numpy(), (3, 8, 12), spec, **how)
            assert np.array_equal(sel.mask, mask)
    first = [pp.prune(frame, spec).mask[0] for frame in clip[::2]]
    if temporal == "repeat":
        assert np.array_equal(pp.prune_pixel_values(values, grids, spec)[0].mask, first)
    else:
        assert pp.prune_pixel_values(values, grids, spec, temporal="frames")[0].kept > sum(map(np.sum, first))


def test_our_patches_are_theirs() -> None:
    """The patch order that other tests build their pixel_values with is that of the processor."""
    processor = processor_class("Qwen2VLImageProcessorPil")(**QWEN3)
    image = make_images()[0]
    raw = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
    pixels = np.asarray(resize_image(image, "qwen3_vl", resample="pillow"))
    values = patchify(np.stack([pixels, pixels]), pp.VisionSpec.preset("qwen3_vl"))
    assert np.array_equal(raw["pixel_values"], values)


def test_a_config_of_an_older_version(tmp_path: Path) -> None:
    """No size but the pair of limits, and a feature extractor's key."""
    config = processor_class("Qwen2VLImageProcessor")(**QWEN2).to_dict()
    size = config.pop("size")
    config["min_pixels"], config["max_pixels"] = size["shortest_edge"], size["longest_edge"]
    config["feature_extractor_type"] = config.pop("image_processor_type")
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(config, default=int), encoding="utf-8")
    assert pp.VisionSpec.from_config(tmp_path) == pp.VisionSpec.preset("qwen2_vl")
