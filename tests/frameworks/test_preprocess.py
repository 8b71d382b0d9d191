"""preprocess against the models' own image processors, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pixelprune import _core, reference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torchvision.transforms.v2 import functional  # noqa: E402

from .test_families import PROCESSORS, make_processor  # noqa: E402

BACKENDS = {"torchvision": "", "pillow": "Pil"}
"""Our ``resample``, and how the class that it stands for ends."""

DATA = Path(os.environ.get("PIXELPRUNE_DATA", ""))
STILLS = sorted(DATA.glob("images/*/*.*")) if "PIXELPRUNE_DATA" in os.environ else []


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_images() -> list[Image.Image]:
    """Scaled up and down, long and thin, one pixel wide or high; grey, with alpha, with a palette, flat and not."""
    rng = np.random.default_rng(8)

    def noise(height: int, width: int, channels: int = 3) -> Any:
        return rng.integers(0, 256, (height, width, channels), np.uint8)

    page = np.full((300, 420, 3), 250, np.uint8)
    page[50:54, 20:400] = (20, 30, 200)
    page[100:180, 200:330] = noise(80, 130)
    page[200:290] = noise(1, 420)
    photo = Image.fromarray(noise(9, 12)).resize((500, 333), Image.Resampling.BICUBIC)
    rgba = noise(70, 90, 4)
    rgba[..., 3] = 255
    made = [Image.fromarray(pixels) for pixels in (page, noise(90, 140), noise(1, 150), noise(190, 1), noise(3, 500))]
    made += [
        Image.fromarray(noise(640, 5)),
        Image.fromarray(noise(1, 1)),
        Image.fromarray((noise(64, 96) > 127) * np.uint8(255)),
    ]
    made += [photo, Image.fromarray(noise(80, 60, 1)[..., 0]), Image.fromarray(rgba)]
    made += [photo.convert("P"), photo.convert("1"), photo.resize((224, 448))]
    return made


def theirs(processor: Any, images: list[Any]) -> tuple[Any, Any]:
    made = processor(images, return_tensors="pt")
    return made["pixel_values"], made["image_grid_thw"]


def assert_equal(batch: pp.Batch, values: Any, grids: Any) -> None:
    assert batch.grid_thw.tolist() == grids.tolist()
    assert batch.pixel_values.dtype == np.float32
    assert batch.pixel_values.shape == tuple(values.shape)
    assert torch.equal(torch.from_numpy(batch.pixel_values).view(torch.int32), values.view(torch.int32))


@pytest.mark.parametrize("lowered", [False, True], ids=["own limits", "lowered limits"])
@pytest.mark.parametrize("resample", BACKENDS)
@pytest.mark.parametrize("preset", PROCESSORS)
def test_equal_to_the_processor_of_every_preset(preset: str, resample: Any, lowered: bool) -> None:
    spec = pp.VisionSpec.preset(preset)
    told: dict[str, Any] = {}
    if lowered:
        spec = replace(spec, min_pixels=6 * 28 * 28, max_pixels=40 * 28 * 28)
        told["size"] = {"shortest_edge": spec.min_pixels, "longest_edge": spec.max_pixels}
    processor = make_processor(preset, BACKENDS[resample], **told)
    images = make_images()
    values, grids = theirs(processor, images)
    whole = pp.preprocess(images, spec, resample=resample, prune=False, threads=2)
    assert_equal(whole, values, grids)
    kept = pp.preprocess(images, spec, resample=resample)
    rows = pp.patch_indices(kept.selections, flat=True)
    assert 0 < len(rows) < len(values)
    assert kept.pixel_values.tobytes() == values[torch.from_numpy(rows)].numpy().tobytes()
    for one, image in zip(kept.selections, images, strict=True):
        [alone] = pp.prune_pixel_values(*alone_of(processor, image), spec)
        assert np.array_equal(alone.keep, one.keep)


def alone_of(processor: Any, image: Image.Image) -> tuple[Any, Any]:
    values, grids = theirs(processor, [image])
    return values.numpy(), grids.numpy()


@pytest.mark.parametrize("preset", ["qwen2_vl", "qwen3_vl"])
@pytest.mark.parametrize("resample", BACKENDS)
def test_halves_are_torch_s_own_casts(preset: str, resample: Any) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    images = [Image.fromarray(np.tile(levels, (14, 14, 1))), *make_images()[:2]]
    values, _ = theirs(make_processor(preset, BACKENDS[resample]), images)
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        found = pp.preprocess(images, preset, resample=resample, prune=False, dtype=name)  # type: ignore[arg-type]
        bits = torch.from_numpy(found.pixel_values.view(np.int16))
        assert torch.equal(bits, values.to(dtype).view(torch.int16))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_any_mean_and_std_are_cast_as_torch_does(name: Any) -> None:
    @settings(max_examples=200, deadline=None)
    @given(st.tuples(*[st.floats(-2, 2)] * 3), st.tuples(*[st.floats(2**-8, 4)] * 3))
    def check(mean: Any, std: Any) -> None:
        spec = pp.VisionSpec(
            patch_size=16, merge_size=1, temporal_patch_size=1, min_pixels=1, mean=mean, std=std, patch_layout="cpp"
        )
        image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
        exact = torch.from_numpy(pp.preprocess([image], spec).pixel_values)
        center, scale = (torch.tensor(v, dtype=torch.float32)[:, None] * 255 for v in (mean, std))
        assert torch.equal(exact.reshape(3, 256), (torch.arange(256, dtype=torch.float32) - center) / scale)
        found = pp.preprocess([image], spec, dtype=name).pixel_values
        assert torch.equal(torch.from_numpy(found.view(np.int16)), exact.to(getattr(torch, name)).view(torch.int16))

    check()


def by_torchvision(pixels: Any, height: int, width: int) -> Any:
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    how = {"interpolation": functional.InterpolationMode.BICUBIC, "antialias": True}
    return functional.resize(tensor, [height, width], **how).permute(1, 2, 0).numpy()


def test_resizing_is_torchvision_s() -> None:
    """The core's at every level, and the oracle's."""
    rng = np.random.default_rng(2)
    sides = rng.integers(1, 150, (120, 4)).tolist()
    sides += [[1, 1, 28, 28], [1, 200, 56, 9], [300, 1, 2, 40], [64, 64, 64, 90], [90, 64, 30, 64], [500, 700, 3, 2]]
    for i, (height, width, to_height, to_width) in enumerate(sides):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        if i % 3 == 1:
            image = (image > 127) * np.uint8(255)
        if i % 3 == 2:
            image[:] = np.repeat(image[::4], 4, axis=0)[:height]
        expected = by_torchvision(image, to_height, to_width)
        assert np.array_equal(reference.resize(image, to_height, to_width), expected), image.shape
        for level in _core.simd_levels():
            assert np.array_equal(_core.resize(image, to_height, to_width, 1, level), expected), (image.shape, level)


def test_resizing_is_torchvision_s_far_down_and_far_up() -> None:
    """Weights become few bits wide, or many: the flat stay flat in both."""
    rng = np.random.default_rng(3)
    for length, target in product((1, 2, 3, 40, 5000, 60000), (1, 2, 9, 28, 3000)):
        image = rng.integers(0, 256, (length, 1, 3), np.uint8)
        if length > 40:
            image[: length // 2] = (255, 254, 1)
        for pixels, size in ((image, (target, 1)), (image.reshape(1, length, 3), (1, target))):
            assert np.array_equal(_core.resize(pixels, *size), by_torchvision(pixels, *size)), (length, target)


@pytest.mark.filterwarnings("ignore::pixelprune.PixelPruneWarning")
@pytest.mark.parametrize("resample", BACKENDS)
@pytest.mark.parametrize("file", STILLS, ids=lambda file: file.name)
def test_real_images(file: Path, resample: Any) -> None:
    """Stills of PIXELPRUNE_DATA, with the limits of the published configs and as small images."""
    image = pp.load_image(file)
    for preset, limit in (("qwen3_vl", None), ("qwen2_vl", 300 * 28 * 28)):
        spec = pp.VisionSpec.preset(preset)
        told: dict[str, Any] = {}
        if limit:
            spec = replace(spec, max_pixels=limit)
            told["size"] = {"shortest_edge": spec.min_pixels, "longest_edge": limit}
        values, grids = theirs(make_processor(preset, BACKENDS[resample], **told), [image])
        whole = pp.preprocess([file], spec, resample=resample, prune=False)
        assert_equal(whole, values, grids)
        del whole
        kept = pp.preprocess([file], spec, resample=resample, threads=2)
        rows = torch.from_numpy(pp.patch_indices(kept.selections, flat=True))
        assert torch.equal(torch.from_numpy(kept.pixel_values), values[rows])
        for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
            half = pp.preprocess([file], spec, resample=resample, dtype=name)  # type: ignore[arg-type]
            bits = torch.from_numpy(half.pixel_values.view(np.int16))
            assert torch.equal(bits, values[rows].to(dtype).view(torch.int16))
