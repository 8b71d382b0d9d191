"""torch tensors where arrays may stand, without pixelprune ever importing torch."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from pixelprune import arrays
from strategies import normalise, still

torch = pytest.importorskip("torch")

SPEC = pp.VisionSpec.preset("qwen3_vl")
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.uint8]:
    """Flat tokens and textured ones; some 5, some 6 levels from their left neighbour in a single value."""
    rng = np.random.default_rng(5)
    pixels = np.full((160, 224, 3), 90, np.uint8)
    pixels[32:96, 64:160] = rng.integers(0, 256, (64, 96, 3))
    for row, (col, levels) in enumerate(((1, 5), (3, 6), (5, 5), (6, 6), (2, 1))):
        pixels[32 * row + 7, 32 * col + 11, row % 3] += levels
    return pixels


@pytest.fixture(scope="module")
def values(image: npt.NDArray[np.uint8]) -> Any:
    return torch.from_numpy(still(normalise(image, SPEC), SPEC)[0])


GRID = [[1, 10, 14]]


# --- Images ----------------------------------------------------------------------------------------------


def test_image_tensors(image: npt.NDArray[np.uint8]) -> None:
    tensor = torch.from_numpy(image)
    expected = pp.prune(image, SPEC, threshold=5 / 255)
    assert 1 < expected.kept < pp.prune(image, SPEC).kept < expected.total
    first = tensor.permute(2, 0, 1)
    for height_first in (tensor, first.contiguous().permute(1, 2, 0)):
        assert pp.prune(height_first, SPEC, threshold=5 / 255) == expected
    for channels_first in (first, first.contiguous()):
        assert pp.prune(channels_first, SPEC, threshold=5 / 255, channels_first=True) == expected
    crop = torch.zeros((200, 300, 3), dtype=torch.uint8)[10:170, 20:244]
    crop.copy_(tensor)
    assert pp.prune(crop, SPEC, threshold=5 / 255) == expected
    stacked = torch.stack([tensor, tensor.flip(0)])
    assert pp.prune_batch(stacked, SPEC, threshold=5 / 255) == [
        expected,
        pp.prune(image[::-1], SPEC, threshold=5 / 255),
    ]
    assert np.array_equal(pp.hash_tokens(tensor, SPEC), pp.hash_tokens(image, SPEC))
    assert np.array_equal(expected.reconstruct(tensor), expected.reconstruct(image))


def test_grey_image_tensor(image: npt.NDArray[np.uint8]) -> None:
    assert pp.prune(torch.from_numpy(image)[..., 0].contiguous(), SPEC) == pp.prune(image[..., 0], SPEC)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64])
def test_image_tensors_of_another_type_are_type_errors(image: npt.NDArray[np.uint8], dtype: Any) -> None:
    with pytest.raises(TypeError, match="image "):
        pp.prune(torch.from_numpy(image).to(dtype), SPEC)
    with pytest.raises(TypeError, match="image "):
        pp.prune(torch.empty((64, 64, 3), dtype=torch.uint8, device="meta"), SPEC)


def preprocess(image: Any, **how: Any) -> pp.Batch:
    return pp.preprocess([image], SPEC, **how)


def preprocess_stream(image: Any, **how: Any) -> pp.Batch:
    [result] = pp.preprocess_stream([image], SPEC, **how)
    if result.error is not None:
        raise result.error
    assert result.batch is not None
    return result.batch


def image_processor(image: Any, **how: Any) -> pp.Batch:
    return pp.ImageProcessor(SPEC)(image, **how).batch


every_door = pytest.mark.parametrize("door", [preprocess, preprocess_stream, image_processor])


def assert_same_batch(found: pp.Batch, expected: pp.Batch) -> None:
    assert found.selections == expected.selections
    assert found.original_sizes.tolist() == expected.original_sizes.tolist()
    assert np.array_equal(found.pixel_values, expected.pixel_values)


@every_door
@pytest.mark.parametrize("size", [(160, 224), (150, 217)], ids=["as it is", "resized"])
def test_image_tensors_are_preprocessed(image: npt.NDArray[np.uint8], size: tuple[int, int], door: Any) -> None:
    crop = np.ascontiguousarray(image[: size[0], : size[1]])
    expected = pp.preprocess([crop], SPEC)
    assert expected.selections[0].kept < expected.selections[0].total
    tensor = torch.from_numpy(crop)
    first = tensor.permute(2, 0, 1)
    with torch.inference_mode():
        inference = tensor.clone()
    strided = torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]
    for height_first in (tensor, first.contiguous().permute(1, 2, 0), torch.from_numpy(image)[: size[0], : size[1]]):
        assert_same_batch(door(height_first), expected)
        assert_same_batch(door(height_first, channels_first=False), expected)
    for other in (inference, strided, tensor.flip(0).flip(0), tensor.flip(1).flip(1)):
        assert_same_batch(door(other), expected)
    for channels_first in (first, first.contiguous()):
        assert_same_batch(door(channels_first, channels_first=True), expected)


@every_door
def test_grey_and_transparent_image_tensors_are_preprocessed(image: npt.NDArray[np.uint8], door: Any) -> None:
    grey = np.ascontiguousarray(image[..., :1])
    transparent = np.concatenate([image, image[..., :1]], axis=2)
    for pixels in (grey, grey[..., 0], transparent):
        assert_same_batch(door(torch.from_numpy(pixels)), pp.preprocess([pixels], SPEC))
    for pixels in (grey, transparent):
        first = torch.from_numpy(pixels).permute(2, 0, 1)
        assert_same_batch(door(first, channels_first=True), pp.preprocess([pixels], SPEC))


@every_door
def test_image_tensors_that_cannot_be_preprocessed_are_type_errors(image: npt.NDArray[np.uint8], door: Any) -> None:
    tensor = torch.from_numpy(image)
    learnt = tensor.float().requires_grad_()
    unreadable = "image is a Tensor that can't be read as an array"
    for given, message in (
        (tensor.to(torch.bfloat16), f"{unreadable}: .*BFloat16.*; expected uint8 values from 0 to 255 in CPU memory"),
        (tensor.to(torch.float16), r"image has dtype float16; expected uint8 .*: scale to 0-255, round and use"),
        (tensor.float(), r"image has dtype float32; expected uint8"),
        (learnt, f"{unreadable}: .*requires grad.*; expected uint8 values from 0 to 255 in CPU memory"),
        (tensor.to(torch.int64), "image has dtype int64; expected uint8"),
        (torch.empty((64, 64, 3), dtype=torch.uint8, device="meta"), f"{unreadable}: .*; expected .* in CPU memory"),
    ):
        with pytest.raises(TypeError, match=message):
            door(given)


def test_a_tensor_that_an_iterator_refills_is_copied(image: npt.NDArray[np.uint8]) -> None:
    images = [image, image[::-1].copy(), np.zeros_like(image)]
    expected = [pp.preprocess([one], SPEC).selections[0] for one in images]
    memory = torch.empty(image.shape, dtype=torch.uint8)

    def refilled() -> Any:
        for one in images:
            memory.copy_(torch.from_numpy(one))
            yield memory

    assert pp.preprocess(refilled(), SPEC).selections == expected
    results = list(pp.preprocess_stream(refilled(), SPEC, threads=2))
    assert [result.batch.selections[0] for result in results if result.batch is not None] == expected
    assert pp.prune_batch(refilled(), SPEC) == pp.prune_batch(images, SPEC)


def test_out_may_not_be_the_memory_of_an_image_tensor() -> None:
    memory = torch.zeros((16, 1536), dtype=torch.uint8)
    image = memory.view(-1)[: 64 * 64 * 3].view(64, 64, 3)
    with pytest.raises(pp.PixelPruneError, match=r"images\[0\] shares memory with out"):
        pp.preprocess([image], SPEC, resample="none", dtype="uint8", out=memory.numpy())


def test_loading_refuses_tensors(image: npt.NDArray[np.uint8]) -> None:
    tensor = torch.from_numpy(image)
    for given in (tensor, tensor.permute(2, 0, 1), tensor.to(torch.bfloat16)):
        with pytest.raises(TypeError, match=r"source is a Tensor; expected a path, .* \(arrays need no loading\)"):
            pp.load_image(given)


def test_resizing_takes_tensors(image: npt.NDArray[np.uint8]) -> None:
    tensor = torch.from_numpy(image)
    expected = pp.resize_image(image, SPEC)
    assert pp.resize_image(tensor, SPEC).tobytes() == expected.tobytes()
    assert pp.resize_image(tensor.permute(2, 0, 1).contiguous().permute(1, 2, 0), SPEC).tobytes() == expected.tobytes()
    with pytest.raises(TypeError, match="expected uint8 values"):
        pp.resize_image(tensor.to(torch.bfloat16), SPEC)


# --- pixel_values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temporal", ["repeat", "frames"])
def test_pixel_values(image: npt.NDArray[np.uint8], values: Any, temporal: str) -> None:
    for threshold in (0.0, 5 / 255, 5.5 / 255):
        for method in ("pred_2d", "raster", "serpentine", "either"):
            how = {"method": method, "threshold": threshold}
            expected = pp.prune(image, SPEC, **how)
            assert pp.prune_pixel_values(values, GRID, SPEC, temporal=temporal, **how) == [expected]
    for dtype in FLOATS:
        # In bfloat16 5 and 6 levels can come out alike.
        for threshold in (0.0, 5.5 / 255) if dtype != torch.bfloat16 else (0.0, 20 / 255):
            expected = pp.prune(image, SPEC, threshold=threshold)
            given = values.to(dtype)
            [sel] = pp.prune_pixel_values(given, GRID, SPEC, threshold=threshold, temporal=temporal)
            assert sel == expected, dtype


def test_uint8_pixel_values(image: npt.NDArray[np.uint8]) -> None:
    tensor = torch.from_numpy(still(image, SPEC)[0])
    for threshold in (0.0, 5 / 255):
        expected = pp.prune(image, SPEC, threshold=threshold)
        assert pp.prune_pixel_values(tensor, GRID, SPEC, threshold=threshold) == [expected]


@pytest.mark.parametrize("dtype", FLOATS)
def test_how_pixel_values_may_lie(values: Any, dtype: Any) -> None:
    given = values.to(dtype)
    expected = pp.prune_pixel_values(given, GRID, SPEC, threshold=0.05)
    apart = torch.stack([given, torch.ones_like(given)], dim=-1)[..., 0]
    with torch.inference_mode():
        inference = given.clone()
    lying: dict[str, Any] = {
        "learnt": given.clone().requires_grad_(),
        "a parameter": torch.nn.Parameter(given),
        "every other value": apart,
        "columns first": given.t().contiguous().t(),
        "an inference tensor": inference,
        "part of a larger one": torch.cat([torch.ones_like(given[:3]), given])[3:],
        "in three dimensions": given.reshape(len(given), 3, -1),
    }
    assert not apart.is_contiguous()
    for name, same in lying.items():
        assert pp.prune_pixel_values(same, GRID, SPEC, threshold=0.05) == expected, name
    for grid in (torch.tensor(GRID), torch.tensor(GRID, dtype=torch.int32)):
        assert pp.prune_pixel_values(given, grid, SPEC, threshold=0.05) == expected


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
def test_tensor_of_a_read_only_array(values: Any) -> None:
    array = values.numpy().copy()
    array.flags.writeable = False
    expected = pp.prune_pixel_values(values, GRID, SPEC)
    assert pp.prune_pixel_values(torch.from_numpy(array), GRID, SPEC) == expected


@pytest.mark.parametrize("dtype", [*FLOATS, torch.uint8])
def test_contiguous_pixel_values_are_borrowed(values: Any, dtype: Any) -> None:
    given = values.to(dtype)
    array, _ = arrays.as_pixel_values(given)
    assert array.ctypes.data == given.data_ptr()
    assert array.shape == given.shape


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_borrowed_tensor_lives_as_long_as_its_array(values: Any, dtype: Any) -> None:
    bits = values.to(dtype).view(torch.int16 if dtype != torch.float32 else torch.int32).numpy().copy()
    array, _ = arrays.as_pixel_values(values.to(dtype))
    gc.collect()
    for _ in range(8):  # would take over the memory, were it free
        torch.full_like(values.to(dtype), 3)
    assert np.array_equal(array.view(bits.dtype), bits)


def test_an_empty_batch() -> None:
    for dtype in FLOATS:
        assert pp.prune_pixel_values(torch.empty((0, 1536), dtype=dtype), torch.empty((0, 3)), SPEC) == []


def test_not_finite(values: Any) -> None:
    for dtype in FLOATS:
        for bad in (float("nan"), float("inf")):
            given = values.to(dtype).clone()
            given[9, 255] = bad
            with pytest.raises(pp.PixelPruneError, match="NaN or an infinity in row 9"):
                pp.prune_pixel_values(given, GRID, SPEC)
            given = values.to(dtype).clone()
            given[9, 256] = bad  # in the second temporal copy, which "repeat" does not look at
            pp.prune_pixel_values(given, GRID, SPEC)
            with pytest.raises(pp.PixelPruneError, match="NaN or an infinity in row 9"):
                pp.prune_pixel_values(given, GRID, SPEC, temporal="frames")


def test_pixel_values_that_cannot_be_used_are_type_errors(values: Any) -> None:
    with pytest.raises(TypeError, match="dtype float64"):
        pp.prune_pixel_values(values.double(), GRID, SPEC)
    with pytest.raises(TypeError, match=r"is on meta; expected CPU memory: use .cpu\(\)"):
        pp.prune_pixel_values(values.to("meta"), GRID, SPEC)


def test_kept_rows_by_tensor_indexing(values: Any) -> None:
    """What the selection is for: the rows of the tensor that are kept."""
    two = torch.cat([values, values.flip(0)])
    sels = pp.prune_pixel_values(two, GRID * 2, SPEC)
    rows = two[torch.from_numpy(pp.patch_indices(sels))]
    parts = [part[sel.patch_indices()] for part, sel in zip((two[:140], two[140:]), sels, strict=True)]
    assert torch.equal(rows, torch.cat(parts))
    assert len(rows) == 4 * sum(sel.kept for sel in sels)


# --- Imports ---------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
import numpy as np
import pixelprune as pp
import pixelprune.cli, pixelprune.compat
from PIL import Image
page = np.zeros((64, 64, 3), np.uint8)
pp.prune(page, "qwen3_vl").reconstruct(page)
pp.prune_pixel_values(np.zeros((16, 1536), np.float16), [[1, 4, 4]], "qwen3_vl")
pp.VisionSpec.from_config({
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
})
pp.load_image(Image.new("RGB", (3, 3)))
print(json.dumps(sorted(sys.modules)))
"""


def test_nothing_imports_a_framework() -> None:
    """torch and transformers are installed here, so an import of them would work and be seen."""
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    loaded = set(json.loads(run.stdout))
    assert {"pixelprune", "pixelprune.compat", "pixelprune.cli"} <= loaded
    assert not loaded & {"torch", "torchvision", "transformers", "jax", "tensorflow", "ml_dtypes"}
