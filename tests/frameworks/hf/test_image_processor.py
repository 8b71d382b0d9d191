"""`PrunedImageProcessor` does what the image processors do, bit for bit, and with pruning returns rows of theirs."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import logging
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
import torch
import transformers
from PIL import Image
from pixelprune import hf
from pixelprune.hf import PrunedImageProcessor, PrunedProcessor

from . import zoo

KEY = "pixelprune_hf_attach"
BY_PIXELPRUNE = "by pixelprune.preprocess"
V5 = zoo.VERSION >= (5,)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Passing `min_pixels`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array:UserWarning"),
    pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning"),
]


# --- Image processors ---------------------------------------------------------------------------------------


def of_each_class() -> dict[str, zoo.Family]:
    """One family for each class of image processors."""
    return {family.images: family for family in reversed((*zoo.FAMILIES, *zoo.RELATIVES))}


def made(family: zoo.Family, backend: str, **told: Any) -> Any:
    """Return the family's image processor with that backend."""
    if family.missing:
        pytest.skip(family.missing)
    suffix = ("Fast", "") if zoo.VERSION < (5, 3) else ("", "Pil")
    kind = getattr(transformers, family.images + suffix[backend == "pillow"], None)
    if kind is None:
        pytest.skip(f"transformers {transformers.__version__} has no {family.images} with {backend}")
    settings: dict[str, Any] = {"size": family.size, **family.image_settings, **told}
    return kind(**copy.deepcopy(settings))


@pytest.fixture(params=of_each_class().values(), ids=of_each_class())
def family(request: pytest.FixtureRequest) -> zoo.Family:
    found: zoo.Family = request.param
    return found


@pytest.fixture(params=["torchvision", "pillow"])
def backend(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def stock(family: zoo.Family, backend: str) -> Any:
    return made(family, backend)


@pytest.fixture
def twin(stock: Any) -> Any:
    return PrunedImageProcessor(stock, prune=False)


@pytest.fixture
def pruned(stock: Any) -> Any:
    return PrunedImageProcessor(stock)


@pytest.fixture
def qwen() -> Any:
    return made(zoo.BY_NAME["qwen2_vl"], "torchvision")


@pytest.fixture
def ways(caplog: pytest.LogCaptureFixture) -> Callable[[], list[bool]]:
    """Return how the calls since the last question were done: True by pixelprune, False by the stock code."""
    name = "pixelprune.hf.image_processor"
    caplog.set_level(logging.DEBUG, name)

    def ask() -> list[bool]:
        found = [BY_PIXELPRUNE in record.getMessage() for record in caplog.records if record.name == name]
        caplog.clear()
        return found

    return ask


def by_pixelprune(stock: Any) -> bool:
    """Whether plain calls are pixelprune's: all but those of the Pillow backends before 5."""
    return V5 or type(stock).__name__.endswith("Fast")


# --- Images ---------------------------------------------------------------------------------------------------


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).integers(0, 256, shape, np.uint8)


def page(family: zoo.Family, rows: int = 4, cols: int = 5, seed: int = 0) -> Any:
    """An image of whole tokens, (height, width, 3), of which most repeat a neighbor."""
    return np.array(zoo.draw_image(family, rows, cols, seed))


def inputs() -> dict[str, Any]:
    """Images in all the forms that image processors take."""
    rgb, other, rgba, grey = noise(90, 120, 3), noise(70, 100, 3), noise(64, 96, 4), noise(60, 100)
    first = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    palette = Image.fromarray(rgb).quantize(16)
    keyed = palette.copy()
    keyed.info["transparency"] = bytes([0, 40, 255, 128])
    colored = Image.fromarray(rgb // 64)
    colored.info["transparency"] = (1, 2, 3)
    turned = Image.fromarray(rgb)
    turned.getexif()[0x0112] = 6  # to be shown rotated, as cameras say it
    stacked = np.stack([rgb, noise(90, 120, 3, seed=1)])
    return {
        "Pillow": Image.fromarray(rgb),
        "Pillow, rotated by EXIF": turned,
        "Pillow, grey": Image.fromarray(grey),
        "Pillow, alpha": Image.fromarray(rgba),
        "Pillow, palette": palette,
        "Pillow, transparent palette": keyed,
        "Pillow, transparent color": colored,
        "Pillow, CMYK": Image.fromarray(rgb).convert("CMYK"),
        "array": rgb,
        "array, channels first": first,
        "array, grey": grey,
        "array, one channel": grey[..., None],
        "array, alpha": rgba,
        "array, view": rgb[::2, ::-1].copy(order="F"),
        "array, int64": rgb.astype(np.int64),
        "array, float32": rgb.astype(np.float32),
        "array, float32 fractions": (rgb / 255).astype(np.float32),
        "tensor": torch.from_numpy(first),
        "tensor, channels last": torch.from_numpy(rgb.copy()),
        "tensor, float32": torch.from_numpy(first).float(),
        "tensor, strided": torch.from_numpy(rgb.copy()).permute(2, 0, 1),
        "list": [Image.fromarray(rgb), Image.fromarray(other)],
        "tuple": (Image.fromarray(rgb), Image.fromarray(other)),
        "nested": [[Image.fromarray(rgb)], [Image.fromarray(other), Image.fromarray(rgb)]],
        "list of arrays": [rgb, other],
        "list of tensors": [torch.from_numpy(first), torch.from_numpy(other.transpose(2, 0, 1).copy())],
        "mixed": [Image.fromarray(rgb), other, torch.from_numpy(first), Image.fromarray(rgba)],
        "stacked": stacked,
        "stacked tensor": torch.from_numpy(stacked.transpose(0, 3, 1, 2).copy()),
        "list of stacked": [stacked, stacked[:1]],
        "empty list": [],
        "nothing": None,
        "a number": 3,
        "a wrong shape": noise(4, 5, 6, 7, 8),
    }


BLURRED = ("size", "min_pixels and max_pixels", "min_pixels", "max_pixels")
"""Keywords that resize the images, so that a token may repeat no other."""

CALLS: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, True),
    "do_resize": ({"do_resize": False}, True),
    "size": ({"size": {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 9}}, True),
    "min_pixels and max_pixels": ({"min_pixels": 32 * 32, "max_pixels": 32 * 32 * 9}, True),
    "min_pixels": ({"min_pixels": 32 * 32 * 30}, True),
    "max_pixels": ({"max_pixels": 32 * 32 * 9}, True),
    "resample": ({"resample": 2}, False),
    "the same resample": ({"resample": Image.Resampling.BICUBIC}, True),
    "do_rescale": ({"do_rescale": False}, False),
    "rescale_factor": ({"rescale_factor": 1 / 127.5}, False),
    "do_normalize": ({"do_normalize": False}, False),
    "neither": ({"do_rescale": False, "do_normalize": False}, False),
    "nothing at all": ({"do_resize": False, "do_rescale": False, "do_normalize": False}, False),
    "image_mean": ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, True),
    "image_mean, tuple": ({"image_mean": (0.1, 0.2, 0.3)}, True),
    "device": ({"device": "cpu"}, True),
    "torch device": ({"device": torch.device("cpu")}, True),
    "disable_grouping": ({"disable_grouping": True}, True),
    "do_convert_rgb": ({"do_convert_rgb": False}, True),
    "input_data_format": ({"input_data_format": "channels_last"}, True),
    "data_format": ({"data_format": "channels_first"}, True),
    "data_format, last": ({"data_format": "channels_last"}, True),
    "patch_size": ({"patch_size": 8}, True),
    "merge_size": ({"merge_size": 1}, True),
    "temporal_patch_size 1": ({"temporal_patch_size": 1}, True),
    "temporal_patch_size 3": ({"temporal_patch_size": 3}, True),
    "do_pad": ({"do_pad": True}, True),
    "do_center_crop": ({"do_center_crop": True, "crop_size": {"height": 20, "width": 20}}, True),
    "unknown": ({"colour": "red"}, True),
    "wrong type": ({"do_resize": "yes"}, True),
    "wrong size": ({"size": {"height": 20, "width": 20}}, True),
}
"""Keywords of a call, and whether pixelprune can do it."""


# --- Comparing ---------------------------------------------------------------------------------------------------


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what a call returns, or the error that it raises."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return error


def assert_same(ours: Any, theirs: Any) -> None:
    """Assert that two outputs have the same keys, types and bits, or are errors of one type and text."""
    if isinstance(theirs, Exception):
        assert type(ours) is type(theirs), ours
        assert str(ours) == str(theirs)
        return
    if isinstance(ours, Exception):
        raise ours
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert type(ours[name]) is type(value), name
        assert ours[name].dtype == value.dtype, name
        assert ours[name].shape == value.shape, name
        assert np.asarray(ours[name]).tobytes() == np.asarray(value).tobytes(), name


def read(record: Any) -> list[tuple[list[int], list[int]]]:
    """Return the grid and the kept tokens of every image in a record."""
    left, found = np.asarray(record).tolist(), []
    while left:
        kind, t, h, w, kept = left[:5]
        assert kind == 0
        found.append(([t, h, w], left[5 : 5 + kept]))
        left = left[5 + kept :]
    return found


def assert_pruned(pruned: Any, whole: Any, spec: pp.VisionSpec) -> int:
    """Assert that an output has those rows of a whole one that pruning it keeps; return how many tokens went."""
    if isinstance(whole, Exception):
        assert type(pruned) is type(whole), pruned
        return 0
    if isinstance(pruned, Exception):
        raise pruned
    if not whole:
        assert not pruned
        return 0
    assert list(pruned) == [*whole, KEY]
    for name, value in whole.items():
        assert type(pruned[name]) is type(value), name
        assert pruned[name].dtype == value.dtype, name
    assert type(pruned[KEY]) is type(whole["image_grid_thw"])
    assert pruned[KEY].dtype == whole["image_grid_thw"].dtype
    record = read(pruned[KEY])
    assert [grid for grid, _ in record] == np.asarray(whole["image_grid_thw"]).tolist()
    selections = [pp.Selection.from_keep(tokens, grid, spec) for grid, tokens in record]
    rows = pp.patch_indices(selections, flat=True)
    assert np.asarray(pruned["pixel_values"]).tobytes() == np.asarray(whole["pixel_values"])[rows].tobytes()
    assert pruned["pixel_values"].shape[1:] == whole["pixel_values"].shape[1:]
    assert np.asarray(pruned["image_grid_thw"]).tolist() == [list(s.flat_grid_thw) for s in selections]
    if "image_merge_sizes" in whole:
        assert np.asarray(pruned["image_merge_sizes"]).tolist() == np.asarray(whole["image_merge_sizes"]).tolist()
    keep = pp.prune_pixel_values(whole["pixel_values"], np.asarray(whole["image_grid_thw"]), spec)
    assert [s.keep.tolist() for s in selections] == [s.keep.tolist() for s in keep]
    return sum(s.total - s.kept for s in selections)


def spec_of(stock: Any, **told: Any) -> pp.VisionSpec:
    """Return the spec of the image processor's rows in a call with these keywords."""
    cut = {name: told[name] for name in ("patch_size", "merge_size", "temporal_patch_size") if name in told}
    return dataclasses.replace(pp.VisionSpec.from_config(stock), **cut)


# --- The same bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", inputs())
def test_every_form_of_images(kind: str, stock: Any, twin: Any) -> None:
    images = inputs()[kind]
    theirs = outcome(stock, copy.deepcopy(images), return_tensors="pt")
    assert_same(outcome(twin, images, return_tensors="pt"), theirs)


@pytest.mark.parametrize("kind", ["Pillow", "list", "nested", "array", "tensor", "stacked", "mixed"])
def test_plain_calls_are_pixelprunes(kind: str, stock: Any, twin: Any, pruned: Any, ways: Any) -> None:
    for processor in (twin, pruned):
        processor(inputs()[kind], return_tensors="pt")
        assert ways() == ([True] if by_pixelprune(stock) else [])


@pytest.mark.parametrize("form", ["pt", "np", None])
@pytest.mark.parametrize("name", CALLS)
def test_keywords(
    name: str, form: str | None, family: zoo.Family, stock: Any, twin: Any, pruned: Any, ways: Any
) -> None:
    keywords, possible = CALLS[name]
    images = [page(family), noise(3 * family.token, 4 * family.token, 3)]

    def run(processor: Any) -> Any:
        return outcome(processor, images, return_tensors=form, **copy.deepcopy(keywords))

    whole = run(stock)
    assert_same(run(twin), whole)
    done = ways()
    if family.name == "paddleocr_vl" and name == "temporal_patch_size 3":
        # Its rows hold one frame whatever it is told.
        assert isinstance(run(pruned), Exception if isinstance(whole, Exception) else pp.PixelPruneError)
        return
    dropped = assert_pruned(run(pruned), whole, spec_of(stock, **keywords))
    if not isinstance(whole, Exception):
        assert dropped > 0 or name in BLURRED
        if by_pixelprune(stock):
            assert done == ways() == [possible]


@pytest.mark.parametrize("where", ["channels_first", "channels_last", None])
@pytest.mark.parametrize("shape", [(3, 70, 4), (3, 90, 3), (1, 40, 3)])
def test_arrays_whose_channels_could_be_first_or_last(
    shape: tuple[int, ...], where: str | None, stock: Any, twin: Any
) -> None:
    told = {"size": {"shortest_edge": 1, "longest_edge": 1 << 20}, "input_data_format": where, "return_tensors": "pt"}
    whole = outcome(stock, noise(*shape), **told)
    assert_same(outcome(twin, noise(*shape), **told), whole)


def test_a_class_derived_from_a_stock_one_runs_its_own_code(family: zoo.Family, stock: Any, ways: Any) -> None:
    kind = type(stock)

    class Darker(kind):  # type: ignore[misc, valid-type]
        def preprocess(self, images: Any, **kwargs: Any) -> Any:
            return super().preprocess(images // 2, **kwargs)

        def _preprocess(self, images: Any, *args: Any, **kwargs: Any) -> Any:
            few = [image // 2 for image in images] if isinstance(images, list) else images
            return super()._preprocess(few, *args, **kwargs)

    darker, image = Darker(**stock.to_dict()), page(family)
    whole = darker(image, return_tensors="pt")
    assert not torch.equal(whole["pixel_values"], stock(image, return_tensors="pt")["pixel_values"])
    assert_same(PrunedImageProcessor(darker, prune=False)(image, return_tensors="pt"), whole)
    assert ways() == ([False] if by_pixelprune(stock) else [])
    assert assert_pruned(PrunedImageProcessor(darker)(image, return_tensors="pt"), whole, spec_of(stock)) > 0


@pytest.mark.parametrize("whose", ["class", "object"])
@pytest.mark.parametrize("name", ["resize", "_preprocess"])
def test_replaced_methods_are_called(
    name: str, whose: str, qwen: Any, ways: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some frameworks replace them."""
    calls = []
    original = getattr(type(qwen), name)

    def replacement(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return original(self, *args, **kwargs)

    if whose == "class":
        monkeypatch.setattr(type(qwen), name, replacement)
    else:
        setattr(qwen, name, functools.partial(replacement, qwen))
    PrunedImageProcessor(qwen)(noise(90, 120, 3), return_tensors="pt")
    assert calls == [name]
    assert ways() == [False]


@pytest.mark.parametrize("form", ["mlx", "tf", "jax", "none", 3])
def test_other_kinds_of_tensors(form: Any, stock: Any, twin: Any, pruned: Any) -> None:
    """Of what is not installed or not known, the error is the stock one."""
    image = noise(90, 120, 3)
    whole = outcome(stock, image, return_tensors=form)
    assert_same(outcome(twin, image, return_tensors=form), whole)
    assert_pruned(outcome(pruned, image, return_tensors=form), whole, spec_of(stock))


def test_threads_share_one(family: zoo.Family, pruned: Any) -> None:
    pages = [page(family, seed=seed) for seed in range(4)]
    expected = [pruned(image, return_tensors="pt") for image in pages]
    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(lambda image: pruned(image, return_tensors="pt"), pages * 4))
    for one, other in zip(found, expected * 4, strict=True):
        assert_same(one, other)
        assert [s.keep.tolist() for s in one.selections] == [tokens for _, tokens in read(one[KEY])]


@pytest.mark.parametrize("kind", inputs())
def test_every_form_of_images_pruned(kind: str, family: zoo.Family, stock: Any, pruned: Any) -> None:
    images = inputs()[kind]
    whole = outcome(stock, copy.deepcopy(images), return_tensors="pt")
    if kind == "empty list" and not isinstance(whole, Exception):
        whole = ValueError()
    assert_pruned(outcome(pruned, images, return_tensors="pt"), whole, spec_of(stock))


@pytest.mark.parametrize("size", [(1, 1), (3, 560), (560, 5), (200, 1), (1, 201), (29, 999), (27, 90), (1400, 900)])
def test_sizes(size: tuple[int, int], stock: Any, twin: Any, pruned: Any) -> None:
    """Tiny, long, too long and large images, and the same without resizing."""
    image = noise(*size, 3)
    for told in ({}, {"do_resize": False}):
        whole = outcome(stock, image, return_tensors="pt", **told)
        assert_same(outcome(twin, image, return_tensors="pt", **told), whole)
        if size != (1, 201) or told:  # an error of another type would do, with a message
            assert_pruned(outcome(pruned, image, return_tensors="pt", **told), whole, spec_of(stock))


def test_images_that_are_not_resized_go_through_pixelprune_if_they_are_whole_tokens(
    family: zoo.Family, stock: Any, twin: Any, ways: Any
) -> None:
    whole, part = page(family), noise(family.token * 2 + 1, family.token, 3)
    assert_same(twin(whole, do_resize=False), stock(whole, do_resize=False))
    assert ways() == ([True] if by_pixelprune(stock) else [])
    large = noise(family.token * 25, family.token * 25, 3)  # above the limits, which don't count
    assert_same(twin([whole, large], do_resize=False), stock([whole, large], do_resize=False))
    assert ways() == ([True] if by_pixelprune(stock) else [])
    assert_same(outcome(twin, part, do_resize=False), outcome(stock, part, do_resize=False))
    assert ways() == ([False] if by_pixelprune(stock) else [])


def test_settings_of_the_object_are_those_of_its_calls(family: zoo.Family, backend: str, ways: Any) -> None:
    """The switches and numbers at construction, in an attribute, and in a call come to the same."""
    image = noise(family.token * 4, family.token * 5, 3)
    for name in ("do_resize", "do_rescale", "do_normalize", "size", "image_mean, tuple", "temporal_patch_size 1"):
        keywords, _ = CALLS[name]
        stock = made(family, backend, **keywords)
        whole = stock(image, return_tensors="pt")
        assert_same(PrunedImageProcessor(stock, prune=False)(image, return_tensors="pt"), whole)
        twin = PrunedImageProcessor(made(family, backend), prune=False)
        for attribute, value in stock.__dict__.items():
            setattr(twin, attribute, value)
        assert_same(twin(image, return_tensors="pt"), whole)


def test_what_is_set_on_one_is_not_set_on_the_other(qwen: Any) -> None:
    twin = PrunedImageProcessor(qwen, prune=False)
    twin.merge_size = 1
    if isinstance(twin.size, dict):
        twin.size["longest_edge"] = 5
    else:
        twin.size.longest_edge = 5
    assert twin.to_dict()["size"]["longest_edge"] == 5
    assert qwen.merge_size == 2
    assert qwen.to_dict()["size"]["longest_edge"] != 5


@pytest.mark.parametrize("convert", [True, False])
def test_four_channels(convert: bool, family: zoo.Family, backend: str) -> None:
    """RGBA is laid on white, or stays as it is where the mean has four channels."""
    told = {} if convert else {"image_mean": [0.1, 0.2, 0.3, 0.4], "image_std": [0.5] * 4, "do_convert_rgb": False}
    stock = made(family, backend, **told)
    image = np.concatenate([page(family), page(family, seed=0)[..., :1]], axis=2)
    for images in (image, image.transpose(2, 0, 1).copy(), Image.fromarray(image)):
        whole = outcome(stock, images, return_tensors="pt")
        assert_same(outcome(PrunedImageProcessor(stock, prune=False), images, return_tensors="pt"), whole)
        found = outcome(PrunedImageProcessor(stock), images, return_tensors="pt")
        if isinstance(whole, Exception) or whole["pixel_values"].shape[1] in (3, 4):
            continue
        channels = whole["pixel_values"].shape[1] // (stock.temporal_patch_size * stock.patch_size**2)
        spec = dataclasses.replace(spec_of(stock), mean=(0.5,) * channels, std=(0.5,) * channels)
        assert assert_pruned(found, whole, spec) > 0


def test_both_backends_are_close(family: zoo.Family) -> None:
    """As close as the stock ones are to each other."""
    image = Image.fromarray(noise(300, 400, 3)).resize((300, 200))
    ours, theirs = [], []
    for backend in ("torchvision", "pillow"):
        stock = made(family, backend)
        theirs.append(stock(image, return_tensors="pt")["pixel_values"])
        ours.append(PrunedImageProcessor(stock, prune=False)(image, return_tensors="pt")["pixel_values"])
    assert float((ours[0] - ours[1]).abs().max()) == float((theirs[0] - theirs[1]).abs().max())
    assert float((ours[0] - ours[1]).abs().mean()) < 5e-3


# --- Thresholds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        {"image_mean": [0.2, 0.3, 0.4], "image_std": [0.9, 0.8, 0.7]},
    ],
    ids=str,
)
def test_thresholds_are_fractions_of_full_scale_whatever_the_values_are(
    told: dict[str, Any], family: zoo.Family, stock: Any
) -> None:
    image = page(family) // 2 + np.random.default_rng(0).integers(0, 9, page(family).shape, np.uint8)
    record = PrunedImageProcessor(stock, threshold=0.04)(image, return_tensors="pt", **told)[KEY]
    expected = pp.prune(image, spec_of(stock), threshold=0.04)
    assert read(record)[0][1] == expected.keep.tolist()
    assert 0 < expected.kept < expected.total


def test_full_scale_of_floats_that_are_not_rescaled_is_one(family: zoo.Family, stock: Any) -> None:
    image = page(family) // 2 + np.random.default_rng(0).integers(0, 9, page(family).shape, np.uint8)
    pruned = PrunedImageProcessor(stock, threshold=0.04)
    floats = (image / 255).astype(np.float32)
    record = pruned(floats, return_tensors="pt", do_rescale=False)[KEY]
    assert read(record)[0][1] == pp.prune(image, spec_of(stock), threshold=0.04).keep.tolist()
    with pytest.raises(pp.PixelPruneError, match="do_rescale is False for images of integers and of floats"):
        pruned([floats, image], return_tensors="pt", do_rescale=False)


@pytest.mark.parametrize("options", [{"method": "unique"}, {"metric": "mae", "threshold": 0.1}, {"anchored": False}])
def test_settings(options: Any, family: zoo.Family, stock: Any) -> None:
    settings = pp.PruneSettings(**options)
    image = page(family)
    found = PrunedImageProcessor(stock, settings=settings)(image, return_tensors="pt")[KEY]
    assert read(found)[0][1] == pp.prune(image, spec_of(stock), settings=settings).keep.tolist()
    assert PrunedImageProcessor(stock, settings=settings) == PrunedImageProcessor(stock, **options)
    assert PrunedImageProcessor(stock, settings=settings, threads=2)(image, return_tensors="pt")[KEY].tolist() == (
        found.tolist()
    )


# --- As an object of transformers --------------------------------------------------------------------------------


def test_attributes_and_methods(stock: Any, twin: Any, pruned: Any) -> None:
    names = {"size", "patch_size", "merge_size", "temporal_patch_size", "image_mean", "image_std", "do_resize"}
    names |= {"do_rescale", "rescale_factor", "do_normalize", "do_convert_rgb", "resample"}
    for name in names | set(stock.__dict__):
        assert getattr(twin, name) == getattr(pruned, name) == getattr(stock, name), name
    for processor in (twin, pruned):
        assert isinstance(processor, type(stock))
        assert type(processor).__name__ == type(stock).__name__
        assert processor.to_dict() == stock.to_dict()
        assert processor.to_json_string() == stock.to_json_string()
        assert pp.VisionSpec.from_config(processor) == pp.VisionSpec.from_config(stock)
    assert twin.model_input_names == stock.model_input_names
    assert pruned.model_input_names == [*stock.model_input_names, KEY]
    if not hasattr(stock, "get_number_of_image_patches"):
        return
    for size in ((100, 200), (1, 1), (1, 300)):
        expected = outcome(stock.get_number_of_image_patches, *size, {})
        found = outcome(pruned.get_number_of_image_patches, *size, {})
        assert str(found) == str(expected)
        told = {"size": {"shortest_edge": 784, "longest_edge": 7840}, "patch_size": 7}
        expected = outcome(stock.get_number_of_image_patches, *size, told)
        found = outcome(pruned.get_number_of_image_patches, *size, told)
        assert str(found) == str(expected)


def test_preprocess_is_what_a_call_does(stock: Any, pruned: Any) -> None:
    image = noise(90, 120, 3)
    assert_pruned(pruned.preprocess(image, return_tensors="pt"), stock(image, return_tensors="pt"), spec_of(stock))
    assert_pruned(
        pruned.preprocess(images=image, return_tensors="pt"), stock(image, return_tensors="pt"), spec_of(stock)
    )


def test_images_are_fetched_as_the_stock_one_does(stock: Any, twin: Any, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.png", "b.jpg")]
    for seed, path in enumerate(paths):
        Image.fromarray(noise(70, 90, 3, seed=seed)).save(path)
    for found, expected in zip(twin.fetch_images(paths), stock.fetch_images(paths), strict=True):
        assert type(found) is type(expected)
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert_same(twin(paths, return_tensors="pt"), stock(paths, return_tensors="pt"))
    assert_same(twin([paths], return_tensors="pt"), stock([paths], return_tensors="pt"))


def test_the_result_moves_as_any_batch_feature(pruned: Any) -> None:
    out = pruned(noise(90, 120, 3), return_tensors="pt").to("cpu", torch.bfloat16)
    assert isinstance(out, transformers.BatchFeature)
    assert out.pixel_values.dtype == torch.bfloat16
    assert out[KEY].dtype == out.image_grid_thw.dtype == torch.int64
    assert {value.device.type for value in out.to("meta").values()} == {"meta"}


def test_from_dict(stock: Any, pruned: Any) -> None:
    told = {"image_mean": [0.1, 0.2, 0.3], "size": {"shortest_edge": 784, "longest_edge": 78400}}
    expected = type(stock).from_dict(stock.to_dict(), **copy.deepcopy(told))
    found = type(pruned).from_dict(stock.to_dict(), threshold=0.1, prune=False, **copy.deepcopy(told))
    assert found == PrunedImageProcessor(expected, threshold=0.1, prune=False)
    assert type(pruned)(**stock.to_dict(), seed=3) == PrunedImageProcessor(stock, seed=3)
    again, unused = type(pruned).from_dict(stock.to_dict(), return_unused_kwargs=True, colour="red")
    assert again == pruned
    assert unused["colour"] == "red"
    assert PrunedImageProcessor.from_dict({**stock.to_dict(), "image_processor_type": type(stock).__name__}) == pruned


def test_save_and_load(stock: Any, tmp_path: Path) -> None:
    pruned = PrunedImageProcessor(stock, method="raster", threshold=0.1)
    files = pruned.save_pretrained(tmp_path / "new")
    assert {Path(file).name for file in files} == {"preprocessor_config.json", "pixelprune.json"}
    stock.save_pretrained(tmp_path / "stock")
    saved, other = (tmp_path / name / "preprocessor_config.json" for name in ("new", "stock"))
    assert saved.read_text() == other.read_text()

    plain = type(stock).from_pretrained(tmp_path / "new")
    assert type(plain) is type(stock)
    assert plain.to_dict() == stock.to_dict()
    assert type(pruned).from_pretrained(tmp_path / "new") == pruned
    auto = transformers.AutoImageProcessor.from_pretrained(tmp_path / "new")
    assert type(auto).__module__.startswith("transformers.")
    assert PrunedImageProcessor.from_pretrained(tmp_path / "new") == PrunedImageProcessor(
        auto, settings=pruned.settings
    )
    load = type(pruned).from_pretrained
    assert load(tmp_path / "new", threshold=0.2).settings == pruned.settings.replace(threshold=0.2)
    assert load(tmp_path / "new", settings=pp.PruneSettings()).settings == pp.PruneSettings()
    assert load(tmp_path / "stock").settings == pp.PruneSettings()
    assert load(tmp_path / "new", prune=False, threads=1, patch_size=7).patch_size == 7
    again, unused = load(tmp_path / "new", return_unused_kwargs=True, colour="red")
    assert (again, unused) == (pruned, {"colour": "red"})
    pruned.to_json_file(tmp_path / "file.json")
    assert type(pruned).from_json_file(tmp_path / "file.json") == PrunedImageProcessor(stock)


def test_what_a_file_cannot_hold_is_not_saved(qwen: Any, tmp_path: Path) -> None:
    with pytest.raises(pp.PixelPruneError, match="push_to_hub is True"):
        PrunedImageProcessor(qwen).save_pretrained(tmp_path / "new", push_to_hub=True)
    with pytest.raises(pp.PixelPruneError, match="a function, which can't be saved"):
        PrunedImageProcessor(qwen, method=lambda left, up: ~left).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_copies(stock: Any) -> None:
    pruned = PrunedImageProcessor(stock, threshold=0.1, threads=1)
    image = noise(90, 120, 3)
    whole = pruned(image, return_tensors="pt")
    for again in (copy.copy(pruned), copy.deepcopy(pruned), pickle.loads(pickle.dumps(pruned))):
        assert again == pruned
        assert hash(again) == hash(pruned)
        assert type(again) is type(pruned)
        assert_same(again(image, return_tensors="pt"), whole)
        again.patch_size = 7
        assert again != pruned
        assert pruned.patch_size == stock.patch_size
    assert PrunedImageProcessor(pruned, prune=False) == PrunedImageProcessor(
        stock, prune=False, threshold=0.1, threads=None
    )
    assert pruned != PrunedImageProcessor(stock)
    assert pruned != stock


def _run(processor: Any, image: Any) -> Any:
    return dict(processor(image, return_tensors="pt"))


def test_a_spawned_worker_makes_the_same(qwen: Any) -> None:
    pruned = PrunedImageProcessor(qwen, threshold=0.1)
    image = noise(90, 120, 3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_same(pool.apply(_run, (pruned, image)), pruned(image, return_tensors="pt"))


def test_repr(qwen: Any) -> None:
    text = repr(PrunedImageProcessor(qwen, threshold=0.1, prune=False))
    assert text.startswith(f"PrunedImageProcessor({type(qwen).__name__} {{")
    assert text.endswith(f"}}, {pp.PruneSettings(threshold=0.1)}, prune=False)")
    assert json.loads(text[text.index("{") : text.rindex("}") + 1]) == json.loads(qwen.to_json_string())


def test_wrong_arguments(qwen: Any) -> None:
    for stock in (None, 3, "qwen2_vl", zoo.processor(zoo.BY_NAME["qwen2_vl"])):
        with pytest.raises(TypeError, match=r"stock is a .*expected an image processor of transformers"):
            PrunedImageProcessor(stock)
    with pytest.raises(pp.PixelPruneError, match=r"CLIPImageProcessor.*is not supported"):
        PrunedImageProcessor(transformers.CLIPImageProcessor())
    with pytest.raises(TypeError, match=r"unknown keyword 'tau'; expected .*prune, threads, method"):
        PrunedImageProcessor(qwen, tau=0.1)
    with pytest.raises(TypeError, match="prune is 'no'"):
        PrunedImageProcessor(qwen, prune="no")
    with pytest.raises(TypeError, match="threads is"):
        PrunedImageProcessor(qwen, threads="2")
    with pytest.raises(pp.PixelPruneError, match="threshold is 2"):
        PrunedImageProcessor(qwen, threshold=2)
    with pytest.raises(pp.PixelPruneError, match="image_processor_type is 'NoneSuch'"):
        PrunedImageProcessor.from_dict({"image_processor_type": "NoneSuch"})


# --- In a processor ------------------------------------------------------------------------------------------------


@pytest.fixture(params=(*zoo.FAMILIES, *zoo.RELATIVES), ids=str)
def trained(request: pytest.FixtureRequest) -> zoo.Family:
    found: zoo.Family = request.param
    if found.missing:
        pytest.skip(found.missing)
    return found


def with_twin(family: zoo.Family, **settings: Any) -> Any:
    """The family's own processor with a pruning image processor."""
    processor = copy.copy(zoo.processor(family))
    processor.image_processor = PrunedImageProcessor(processor.image_processor, **settings)
    return processor


def prompt_of(family: zoo.Family) -> dict[str, Any]:
    images = [zoo.draw_image(family, 4, 5), zoo.draw_image(family, 3, 6, 1)]
    texts = [f"what is {family.image}?", f"{family.image} is longer than the other one"]
    return {"text": texts, "images": images, "padding": True, "return_tensors": "pt"}


def test_processors_take_it_for_their_own(trained: zoo.Family) -> None:
    """Without pruning all keys are the same; the constructor's check of types passes."""
    given, stock = prompt_of(trained), zoo.processor(trained)
    processor = with_twin(trained, prune=False)
    assert_same(processor(**given), stock(**given))
    assert_same(processor(**given, do_resize=False), stock(**given, do_resize=False))
    parts = {name: getattr(processor, name) for name in type(stock).attributes} if not V5 else {}
    names = parts or {name: getattr(processor, name) for name in stock.get_attributes()}
    again = type(stock)(**names, chat_template=stock.chat_template)
    assert_same(again(**given), stock(**given))
    assert again.image_processor is processor.image_processor
    assert str(outcome(again.to_dict)) == str(outcome(stock.to_dict))
    assert sorted(processor.model_input_names) == sorted(stock.model_input_names)


def test_prompts_have_a_placeholder_for_every_kept_token(trained: zoo.Family) -> None:
    given = prompt_of(trained)
    found = with_twin(trained)(**given)
    counts = [len(tokens) for _, tokens in read(found[KEY])]
    token = trained.config["image_token_id"]
    assert (found["input_ids"] == token).sum(1).tolist() == counts
    if trained.pruned_since <= zoo.VERSION:
        expected = PrunedProcessor(zoo.processor(trained), zoo.model(trained))(**given)
        for name in ("input_ids", "attention_mask", "pixel_values"):
            assert torch.equal(found[name], expected[name]), name
        selections = [selection.keep.tolist() for selection in expected.pixelprune.selections]
        assert [tokens for _, tokens in read(found[KEY])] == selections


def test_an_attached_model_takes_what_it_returns(trained: zoo.Family) -> None:
    """A plain dict of a stock processor with this image processor, of which nothing knows pixelprune."""
    if trained.pruned_since > zoo.VERSION:
        pytest.skip(f"{trained} is not pruned before transformers {trained.pruned_since}")
    given, model = prompt_of(trained), zoo.model(trained)
    how = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    expected = hf.generate(model, PrunedProcessor(zoo.processor(trained), model)(**given), **how)
    inputs = dict(with_twin(trained)(**given))
    with hf.attached(model):
        found = model.generate(**inputs, **how)
    assert torch.equal(found, expected)


def test_a_processor_with_it_is_saved_as_the_stock_one(tmp_path: Path) -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    with_twin(family, threshold=0.1).save_pretrained(tmp_path)
    loaded = PrunedImageProcessor.from_pretrained(tmp_path)
    assert type(loaded).__name__ == family.images + ("Fast" if zoo.VERSION < (5, 3) else "")
    assert pp.VisionSpec.from_config(loaded) == pp.VisionSpec.from_config(zoo.processor(family))


def test_videos_are_left_to_the_video_processor(trained: zoo.Family) -> None:
    if trained.videos is None:
        pytest.skip(f"{trained} has no videos")
    clip = torch.from_numpy(zoo.clip(trained, 3, 4, 3)).permute(0, 3, 1, 2)
    given = {"text": [f"see {trained.video}"], "videos": [clip], "return_tensors": "pt"}
    assert_same(with_twin(trained)(**given), zoo.processor(trained)(**given))


@pytest.mark.skipif(V5, reason="image processors take videos before 5 only")
def test_videos_before_5(stock: Any, twin: Any, pruned: Any) -> None:
    image, clip = noise(56, 84, 3), np.zeros((4, 56, 84, 3), np.uint8)
    for images in (image, None):
        whole = outcome(stock, images=images, videos=[clip], return_tensors="pt")
        assert_same(outcome(twin, images=images, videos=[clip], return_tensors="pt"), whole)
        found = outcome(pruned, images=images, videos=[clip], return_tensors="pt")
        if isinstance(whole, Exception):
            assert type(found) is type(whole)
            continue
        assert list(found) == [*whole, *([KEY] if images is not None else [])]
        for name in {"pixel_values_videos", "video_grid_thw"} & set(whole):
            assert torch.equal(found[name], whole[name])
