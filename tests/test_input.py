"""What prune accepts as an image and as settings, what it copies, and that everything else is a typed error."""

from __future__ import annotations

import io
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from conftest import RunChild
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from pixelprune import _core
from pixelprune.arrays import as_pixels
from pixelprune.reference import BASELINES, METHODS, METRICS, PROTECT
from pixelprune.selection.pruning import ValuesFormat
from pixelprune.selection.settings import CoreSettings

QWEN3 = pp.VisionSpec.preset("qwen3_vl")
SMALL = pp.VisionSpec(patch_size=2, merge_size=1)
HUGE = 10**5000


def make_image(*shape: int) -> Any:
    return np.random.default_rng(9).integers(0, 256, shape, np.uint8)


# --- Accepted --------------------------------------------------------------------------------------------


class ArrayInterface:
    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


class ArrayMethod:
    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a: a,
        ArrayInterface,
        ArrayMethod,
        lambda a: a.view(Subclass),
        np.ma.masked_array,
        lambda a: a.astype(np.dtype("u1")),
        lambda a: np.frombuffer(a.tobytes(), np.uint8).reshape(a.shape),  # read-only
        np.asfortranarray,
        lambda a: a[::-1].copy()[::-1],
        lambda a: a[:, ::-1].copy()[:, ::-1],
    ],
)
@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 1), (64, 96, 3), (64, 96, 4)])
def test_arrays_of_every_kind(wrap: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    image = make_image(*shape)
    image[:32, 32:64] = image[:32, :32]
    for method in METHODS:
        assert pp.prune(wrap(image), QWEN3, method=method).keep.tolist() == [0, 2, 3, 4, 5]
    assert np.array_equal(pp.hash_tokens(wrap(image), QWEN3), pp.hash_tokens(image, QWEN3))
    assert pp.analyze(wrap(image), QWEN3).unique == 5 / 6


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_pil_images(mode: str, channels: int) -> None:
    pixels = make_image(64, 96, channels)
    pixels[32:, 32:64] = pixels[32:, :32]
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode=None)
    assert image.mode == mode
    expected = pp.prune(pixels, QWEN3)
    assert expected.kept == 5
    assert pp.prune(image, QWEN3) == expected
    assert pp.prune(image.crop((0, 0, 96, 32)), QWEN3) == pp.prune(pixels[:32], QWEN3)
    reconstructed = expected.reconstruct(image)
    assert np.array_equal(reconstructed.reshape(pixels.shape), pixels)


def test_alpha_is_compared_as_it_stands() -> None:
    image = np.zeros((32, 64, 4), np.uint8)
    image[5, 40, 3] = 1
    assert pp.prune(image, QWEN3).kept == 2
    assert pp.prune(image[..., :3], QWEN3).kept == 1


def test_channels_first() -> None:
    image = make_image(64, 96, 3)
    image[:32, 32:64] = image[:32, :32]
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    expected = pp.prune(image, QWEN3)
    assert pp.prune(planes, QWEN3, channels_first=True) == expected
    assert pp.prune(planes[:1], QWEN3, channels_first=True) == pp.prune(image[..., 0], QWEN3)
    with pytest.raises(pp.PixelPruneError, match=r"\(3, 64, 96\).*pass channels_first=True"):
        pp.prune(planes, QWEN3)
    for wrong in (image[..., 0], make_image(1, 3, 64, 96)):
        with pytest.raises(pp.PixelPruneError, match=r"expected \(channels, height, width\) with channels_first=True"):
            pp.prune(wrong, QWEN3, channels_first=True)
    with pytest.raises(pp.PixelPruneError, match="1, 3 or 4 channels"):
        pp.prune(make_image(2, 64, 96), QWEN3, channels_first=True)


# --- Copies ----------------------------------------------------------------------------------------------

FRAME = make_image(12, 16, 3)

BORROWED = {
    "as it is": FRAME,
    "rows of a taller one": FRAME[3:9],
    "a crop": FRAME[3:9, 2:10],
    "every other row": FRAME[::2],
    "one row": FRAME[4:5],
    "one column": FRAME[:, 5:6],
    "grey": FRAME[..., 0].copy(),
    "grey crop": FRAME[..., 0].copy()[1:5, 3:9],
    "grey with a channel axis": FRAME[..., 0].copy()[..., np.newaxis],
    "one channel": FRAME[..., :1].copy(),
    "rgba": make_image(4, 6, 4)[1:],
    "a transposed (channels, height, width) view": FRAME.transpose(2, 0, 1).transpose(1, 2, 0),
}

COPIED = {
    "upside down": FRAME[::-1],
    "mirrored": FRAME[:, ::-1],
    "every other column": FRAME[:, ::2],
    "Fortran order": np.asfortranarray(FRAME),
    "some of the channels": make_image(4, 6, 4)[..., :3],
    "channels reversed": FRAME[..., ::-1],
    "one channel of three": FRAME[..., 1],
    "rows that overlap": np.lib.stride_tricks.as_strided(FRAME, (6, 8, 3), (12, 3, 1)),
    "one row many times": np.broadcast_to(FRAME[:1], (6, 16, 3)),
    "one pixel many times": np.broadcast_to(FRAME[:1, :1], (6, 8, 3)),
    "one byte many times": np.broadcast_to(np.uint8(3), (6, 8, 3)),
}


@pytest.mark.parametrize("image", BORROWED.values(), ids=BORROWED)
def test_what_is_borrowed(image: Any) -> None:
    for writeable in (True, False):
        view = image[...]
        view.flags.writeable = writeable
        pixels = as_pixels(view)
        assert np.shares_memory(pixels, image)
        assert pixels.shape == image.shape
        assert np.array_equal(pixels, image)


@pytest.mark.parametrize("image", COPIED.values(), ids=COPIED)
def test_what_is_copied(image: Any) -> None:
    pixels = as_pixels(image)
    assert not np.shares_memory(pixels, image)
    assert np.array_equal(pixels, image)
    spec = pp.VisionSpec(patch_size=1, merge_size=1)
    assert pp.prune(image, spec) == pp.prune(np.array(image, order="C"), spec)


def test_the_core_itself_refuses_what_it_cannot_borrow() -> None:
    given = CoreSettings("pred_2d", "max", 0.0, True, 0, "nothing")
    for image in COPIED.values():
        with pytest.raises(pp.PixelPruneError, match="side by side"):
            _core.prune(image, 1, given)
    for wrong in (np.zeros((2, 2), np.int8), np.zeros((2, 2), np.float32), [[1]], None):
        with pytest.raises(TypeError):
            _core.prune(wrong, 1, given)  # type: ignore[arg-type]
    for shape in ((), (4,), (1, 1, 1, 1), (0, 4), (4, 0), (4, 4, 0)):
        with pytest.raises(pp.PixelPruneError):
            _core.prune(np.zeros(shape, np.uint8), 1, given)


@pytest.mark.parametrize("token", [0, 3, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_the_core_itself_refuses_token_sides_that_do_not_fit(token: int) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    given = CoreSettings("pred_2d", "rmse", 0.5, True, 0, "nothing")
    calls: list[Callable[[], object]] = [
        lambda: _core.prune(image, token, given),
        lambda: _core.prune_batch([image], token, given),
        lambda: _core.planes(image, token, "max", 0.5),
        lambda: _core.hash_tokens(image, token),
        lambda: _core.is_within_tau(image, token, np.zeros(16, np.int64), "max", 0.5),
    ]
    for call in calls:
        with pytest.raises(pp.PixelPruneError, match="multiples of the token side"):
            call()


def test_the_core_itself_refuses_formats_that_do_not_fit() -> None:
    values = np.zeros((4, 6), np.float32)
    given = CoreSettings("pred_2d", "max", 0.0, True, 0, "nothing")
    ones = [1.0] * 6
    channels = [(0, 6, 1, 1.0, 1.0)]
    good = ValuesFormat("block", 1, 6, [(0, 6)], ones, ones, channels, True, False)
    assert len(_core.prune_pixel_values(values, [(1, 2, 2)], good, given)) == 1
    for wrong in (
        ("block", 0, 6, [(0, 6)], ones, ones, channels, True, False),
        ("block", 1, 0, [(0, 6)], ones, ones, channels, True, False),
        ("block", 1, 6, [(1, 6)], ones, ones, channels, True, False),
        ("block", 1, 6, [((1 << 64) - 1, 6)], ones, ones, channels, True, False),
        ("block", 1, 6, [(0, 6)], ones[:5], ones, channels, True, False),
        ("block", 1, 6, [(0, 6)], ones, ones[:5], channels, True, False),
        ("block", 1, 6, [], [], [], channels, True, False),
        ("raster", 1, 6, [], [], [], channels, True, False),
        ("", 1, 6, [(0, 6)], ones, ones, channels, True, False),
        ("block", 1 << 40, 6, [(0, 6)], ones, ones, channels, True, False),
        ("block", 1, 1 << 62, [(0, 6)], ones, ones, channels, True, False),
        ("block", 1, 6, [(0, 6)], ones, ones, [], True, False),
        ("block", 1, 6, [(0, 6)], ones, ones, [(0, 7, 1, 1.0, 1.0)], True, False),
        ("block", 1, 6, [(0, 6)], ones, ones, [(6, 6, 1, 1.0, 1.0)], True, False),
        ("block", 1, 6, [(0, 6)], ones, ones, [(0, 6, 0, 1.0, 1.0)], True, False),
    ):
        with pytest.raises(pp.PixelPruneError):
            _core.prune_pixel_values(values, [(1, 2, 2)], ValuesFormat(*wrong), given)
    big = (1 << 64) - 1
    for grid in ((big, big, big), (big, 1, 1), (0, 1, 1), (1 << 32, 1, 1), (1, 1 << 31, 1 << 33)):
        with pytest.raises(pp.PixelPruneError):
            _core.prune_pixel_values(values, [grid], good, given)
    with pytest.raises(pp.PixelPruneError, match="contiguous"):
        _core.prune_pixel_values(np.asfortranarray(values), [(1, 2, 2)], good, given)


def test_the_core_itself_refuses_sources_and_masks_that_do_not_fit() -> None:
    image = np.zeros((2, 2), np.uint8)
    for source in ([0, 0, 0], [0, 0, 0, 4], [0] * 5, [0, 0, 0, 1 << 62]):
        with pytest.raises(pp.PixelPruneError):
            _core.is_within_tau(image, 1, np.array(source), "max", 0.5)
    big = (1 << 64) - 1
    for grid in ((1, 2, 3), (big, big, big), (0, 2, 2), (1, 1, 3)):
        with pytest.raises(pp.PixelPruneError):
            _core.decode(np.ones(4, bool), grid, image.reshape(4, 1), "pred_2d", "max", 0.0)


def test_an_unknown_simd_level() -> None:
    assert "portable" in _core.simd_levels()
    for level in ("", "avx1024", "AVX2"):
        with pytest.raises(pp.PixelPruneError, match="level is"):
            _core.prune(
                np.zeros((4, 4), np.uint8), 1, CoreSettings("pred_2d", "max", 0.0, True, 0, "nothing"), 1, level
            )


# --- Images that are none --------------------------------------------------------------------------------


def test_files_are_read(tmp_path: Path) -> None:
    """On white, and without resizing."""
    pixels = np.random.default_rng(0).integers(0, 2, (64, 96, 4), np.uint8) * 255
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    image = np.asarray(pp.load_image(path, alpha="white"))
    selection = pp.prune(image, QWEN3)
    for form in (path, str(path), path.read_bytes(), bytearray(path.read_bytes())):
        for channels_first in (False, True):
            assert np.array_equal(pp.prune(form, QWEN3, channels_first=channels_first).keep, selection.keep)
        assert np.array_equal(pp.prune_batch([form], QWEN3)[0].keep, selection.keep)
        assert np.array_equal(pp.hash_tokens(form, QWEN3), pp.hash_tokens(image, QWEN3))
        assert pp.analyze(form, QWEN3) == pp.analyze(image, QWEN3)
        assert pp.verify(form, selection).max_error == 0
        assert np.array_equal(selection.reconstruct(form), image)
    with pytest.raises(FileNotFoundError):
        pp.prune(tmp_path / "missing.png", QWEN3)
    with pytest.raises(pp.PixelPruneError, match=r"images\[0\]: cannot read the image of 4 bytes"):
        pp.prune_batch([b"\x89PNG"], QWEN3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((32, 32, 3)), r"dtype float64.*prune_pixel_values"),
        (np.zeros((32, 32, 3), np.float32), "dtype float32"),
        (np.zeros((32, 32, 3), bool), "dtype bool.*255"),
        (np.zeros((32, 32, 3), np.int8), r"dtype int8.*astype\(numpy.uint8\)"),
        (np.zeros((32, 32, 3), np.int64), "dtype int64"),
        (np.zeros((32, 32, 3), np.uint16), "dtype uint16"),
        (np.zeros((32, 32, 3), np.complex64), "dtype complex64"),
        (np.zeros((32, 32, 3), "S1"), "dtype"),
        (np.zeros((32, 32), [("r", "u1")]), "dtype"),
        (np.zeros((32, 32, 3), "datetime64[s]"), "dtype"),
        (np.full((32, 32), None), "dtype object"),
        (np.zeros((32, 33, 3)), "dtype float64"),
        (np.float32(1), "dtype float32"),
        (np.uint8, "dtype object"),
        (np.ndarray, "dtype object"),
        (None, "NoneType"),
        (5, "int"),
        ([[0] * 32] * 32, "list"),
        ((1, 2), "tuple"),
        ({}, "dict"),
        (memoryview(bytes(1024)).cast("B", (32, 32)), "memoryview"),
        (object(), "object"),
        (Image.new("P", (32, 32)), r"mode 'P'.*convert\('RGB'\)"),
        (Image.new("1", (32, 32)), "mode '1'"),
        (Image.new("LA", (32, 32)), "mode 'LA'"),
        (Image.new("CMYK", (32, 32)), "mode 'CMYK'"),
        (Image.new("I;16", (32, 32)), "mode 'I;16'"),
        (Image.new("F", (32, 32)), "mode 'F'"),
        (Image.new("YCbCr", (32, 32)), "mode 'YCbCr'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_of_another_type(image: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        pp.prune(image, QWEN3)
    with pytest.raises(TypeError, match=rf"images\[0\].*{message}"):
        pp.prune_batch([image], QWEN3)
    with pytest.raises(TypeError, match=message):
        pp.hash_tokens(image, QWEN3)
    with pytest.raises(TypeError, match=message):
        pp.analyze(image, QWEN3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), r"shape \(\)"),
        ((32,), r"shape \(32,\); expected \(height, width\)"),
        ((32, 32, 2), "1, 3 or 4 channels"),
        ((32, 32, 0), "1, 3 or 4 channels"),
        ((32, 32, 5), "1, 3 or 4 channels"),
        ((3, 32, 32), "channels_first=True"),
        ((1, 32, 32, 3), "prune_batch"),
        ((1, 1, 1, 1, 1), "shape"),
        ((0, 32, 3), "no empty side"),
        ((32, 0, 3), "no empty side"),
        ((0, 0), "no empty side"),
        ((31, 32, 3), r"31 x 32.*multiples of the token side, 32.*smart_resize"),
        ((32, 33, 3), "32 x 33"),
        ((16, 64), "16 x 64"),
        ((1, 1), "1 x 1"),
    ],
)
def test_images_of_another_shape(shape: tuple[int, ...], message: str) -> None:
    image = np.zeros(shape, np.uint8)
    for method in ("pred_2d", "unique", lambda left, up: left == up):
        with pytest.raises(pp.PixelPruneError, match=message):
            pp.prune(image, QWEN3, method=method)
    with pytest.raises(pp.PixelPruneError, match=message):
        pp.hash_tokens(image, QWEN3)
    with pytest.raises(pp.PixelPruneError, match=message):
        pp.analyze(image, QWEN3)
    with pytest.raises(pp.PixelPruneError, match=rf"images\[1\].*{message}"):
        pp.prune_batch([np.zeros((32, 32), np.uint8), image], QWEN3)


GREY = np.zeros((32, 32), np.uint8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        *[
            (value, "expected a sequence of images")
            for value in (None, 5, "ab", b"ab", bytearray(5), memoryview(b"ab"))
        ],
        *[(value, "expected a sequence of images") for value in (Path("page.png"), io.BytesIO(b"page"), list, iter)],
        *[(value, "expected a sequence of images") for value in ({"page": GREY}, {1, 2}, frozenset())],
        (Image.new("L", (32, 32)), "a single Pillow image; .*put it in a list, or use prune"),
        (GREY, r"one array of shape \(32, 32\); .*put a single image in a list, or use prune"),
        (np.zeros((64, 64, 3), np.uint8), r"one array of shape \(64, 64, 3\)"),  # not 64 images of 64 x 3
        (np.zeros((3, 64, 64), np.uint8), r"shape \(3, 64, 64\).*turn a stack of grey images into a list"),
        (np.zeros((5, 64, 64), np.uint8), "expected a sequence"),
        (np.zeros((1, 5, 64, 64, 3), np.uint8), "expected a sequence"),
        (np.zeros(5, np.uint8), "expected a sequence"),
        (np.array(GREY[0, 0]), r"shape \(\)"),
        (np.array(None), r"shape \(\)"),
        (np.full((2, 2), None), r"shape \(2, 2\)"),
        (ArrayMethod(np.zeros((64, 64, 3), np.uint8)), "a sequence of images"),
        (SimpleNamespace(ndim=3), "one array of shape None"),
    ],
    ids=lambda value: "",
)
def test_what_is_no_sequence_of_images(images: Any, message: str) -> None:
    for channels_first in (False, True):
        with pytest.raises(TypeError, match=f"^images is .*{message}"):
            pp.prune_batch(images, QWEN3, channels_first=channels_first)


def test_an_array_of_objects_is_a_sequence() -> None:
    images = np.empty(2, object)
    images[:] = [GREY, np.zeros((32, 64, 3), np.uint8)]
    assert [sel.total for sel in pp.prune_batch(images, QWEN3)] == [1, 2]


def test_an_iterator_may_refill_one_array() -> None:
    """Each image is copied when it is met."""
    buffer = np.zeros((32, 64, 3), np.uint8)

    def frames() -> Iterator[Any]:
        for level in range(3):
            buffer[:, 32:] = level
            yield buffer

    assert [sel.kept for sel in pp.prune_batch(frames(), QWEN3)] == [1, 2, 2]
    assert [sel.kept for sel in pp.prune_batch([buffer] * 2, QWEN3)] == [2, 2]
    image = Image.fromarray(buffer)
    assert len(pp.prune_batch((image for _ in range(3)), QWEN3)) == 3


def test_frames_of_one_file() -> None:
    file = io.BytesIO()
    levels = (0, 9, 0)
    frames = [Image.fromarray(np.repeat(np.uint8([0, level]), 32)[None].repeat(32, 0)) for level in levels]
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    with Image.open(file) as image:
        assert [sel.kept for sel in pp.prune_batch(ImageSequence.Iterator(image), QWEN3)] == [1, 2, 1]
        copies = [frame.copy() for frame in ImageSequence.Iterator(image)]
        assert [sel.kept for sel in pp.prune_batch(copies, QWEN3)] == [1, 2, 1]
        with pytest.raises(pp.PixelPruneError, match=r"images\[1\]: the same image object was given before"):
            pp.prune_batch([*ImageSequence.Iterator(image)], QWEN3)


def lying(**interface: Any) -> Any:
    return type("Lying", (), {"__array_interface__": {"version": 3, "typestr": "|u1", **interface}})()


@pytest.mark.parametrize(
    "image",
    [
        lying(shape=(32, 32)),
        lying(shape=(-32, 32), data=(0, False)),
        lying(shape="32", data=(0, False)),
        lying(shape=(32, 32), typestr="?!", data=(0, False)),
        type("Lying", (), {"__array_interface__": 5})(),
        type("Lying", (), {"__array__": lambda self, *_, **__: [[1, 2], [3]]})(),
        type("Lying", (), {"__array__": lambda self, *_, **__: None})(),
    ],
)
def test_arrays_that_lie(image: Any) -> None:
    with pytest.raises(TypeError, match="Lying"):
        pp.prune(image, SMALL)
    with pytest.raises(TypeError, match="Lying"):
        pp.prune_pixel_values(image, [(1, 2, 2)], SMALL)


class Failing:
    """Every attribute access raises ZeroDivisionError."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__"):
            return object.__getattribute__(self, name)
        raise ZeroDivisionError(name)


def failing(*names: str) -> Any:
    """An object with these methods, which raise ZeroDivisionError; array interfaces are properties."""

    def fail(self: Any, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("x" * 10**6)

    return type("Failing", (), {name: property(fail) if name.endswith("interface__") else fail for name in names})()


FAILING = [
    Failing(),
    *map(failing, ("__array_interface__", "__array__", "__dlpack__", "__index__", "__float__", "__repr__", "__len__")),
    failing("__array__", "__repr__", "__str__", "__index__", "__float__", "__getitem__", "__len__"),
]


@pytest.mark.parametrize("value", FAILING, ids=lambda value: "")
def test_objects_whose_methods_fail(value: Any, tmp_path: Path) -> None:
    """Any argument gives one of the two documented errors, with a message of limited length."""
    image, spec, values = np.zeros((2, 2, 3), np.uint8), SMALL, np.zeros((4, 24), np.uint8)
    sel = pp.prune(image, spec)
    calls: list[Callable[[], object]] = [
        lambda: pp.prune(value, spec),
        lambda: pp.prune(image, value),
        *[
            lambda name=name: pp.prune(image, spec, **{name: value})  # type: ignore[misc]
            for name in ("method", "metric", "threshold", "anchored", "seed", "protect", "threads")
        ],
        lambda: pp.prune_batch(value, spec),
        lambda: pp.prune_batch([value], spec),
        lambda: pp.prune_pixel_values(value, [(1, 2, 2)], spec),
        lambda: pp.prune_pixel_values(values, value, spec),
        lambda: pp.prune_pixel_values(values, [(1, 2, value)], spec),
        lambda: pp.prune_pixel_values(values, [(1, 2, 2)], spec, temporal=value),
        lambda: pp.verify(value, sel),
        lambda: pp.verify(image, value),
        lambda: pp.decode(value, image[None], spec),
        lambda: pp.decode([[True]], value, spec),
        lambda: pp.hash_tokens(value, spec),
        lambda: pp.analyze(value, spec),
        lambda: pp.smart_resize(value, 5, spec),
        lambda: pp.set_num_threads(value),
        *[
            lambda name=name: pp.VisionSpec(**{"patch_size": 2, "merge_size": 1, name: value})  # type: ignore[misc]
            for name in pp.VisionSpec.__dataclass_fields__
        ],
        lambda: pp.VisionSpec.preset(value),
        lambda: pp.VisionSpec.from_config(value),
        lambda: pp.VisionSpec.from_config({"image_processor_type": "Qwen2VLImageProcessor", "size": value}),
    ]
    for call in calls:
        with pytest.raises((pp.PixelPruneError, TypeError)) as raised:
            call()
        assert len(str(raised.value)) < 1000


class Text(str):
    def __hash__(self) -> int:
        raise ZeroDivisionError

    __eq__ = __iter__ = __len__ = __hash__  # type: ignore[assignment]


def test_text_whose_methods_fail() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    for how in ({"method": Text("raster")}, {"metric": Text("mae")}):
        assert pp.prune(image, QWEN3, **how).kept == 1
    assert pp.prune(image, Text("qwen3_vl")).spec is QWEN3


# --- Settings --------------------------------------------------------------------------------------------

CALLS: list[Callable[..., object]] = [
    lambda **how: pp.prune(np.zeros((4, 4, 3), np.uint8), SMALL, **how),
    lambda **how: pp.prune_batch([np.zeros((4, 4, 3), np.uint8)], SMALL, **how),
    lambda **how: pp.prune_pixel_values(np.zeros((4, 24), np.uint8), [(1, 2, 2)], SMALL, **how),
]
CALL_IDS = ["prune", "prune_batch", "prune_pixel_values"]

WRONG_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"method": "pred_3d"}, "method is \"pred_3d\"; expected one of 'pred_2d'"),
    ({"method": ""}, 'method is ""'),
    ({"method": "PRED_2D"}, "method"),
    ({"method": "a\0b"}, "method"),
    ({"metric": "l2"}, "metric is \"l2\"; expected one of 'max'"),
    ({"metric": "exact"}, "metric"),
    ({"threshold": -1e-9}, "threshold is -0.000000001; expected a number from 0 to 1"),
    ({"threshold": 1.0000001}, "threshold is 1.0000001"),
    ({"threshold": 255}, "threshold is 255"),
    ({"threshold": float("nan")}, "threshold is NaN"),
    ({"threshold": float("inf")}, "threshold is inf"),
    ({"threshold": -float("inf")}, "threshold is -inf"),
    ({"method": "unique", "threshold": 0.1}, "'unique' compares for equality only"),
    ({"method": "unique", "threshold": 5e-324}, "'unique'"),
    ({"threads": -1}, "threads is -1; expected from 0 to 1024"),
    ({"threads": 1025}, "threads is 1025"),
    ({"threads": 1 << 70}, "threads"),
]


@pytest.mark.parametrize("call", CALLS, ids=CALL_IDS)
@pytest.mark.parametrize(("how", "message"), WRONG_VALUES, ids=lambda value: ascii(value)[:40])
def test_settings_out_of_range(call: Callable[..., object], how: dict[str, Any], message: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=message):
        call(**how)


@pytest.mark.parametrize("call", CALLS[:2], ids=CALL_IDS[:2])
@pytest.mark.parametrize("value", [None, "no", 1, np.zeros(2)], ids=repr)
def test_channels_first_of_another_type(call: Callable[..., object], value: Any) -> None:
    with pytest.raises(TypeError, match=r"channels_first is .*; expected True or False"):
        call(channels_first=value)


@pytest.mark.parametrize("call", CALLS, ids=CALL_IDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("method", value) for value in (None, 5, b"pred_2d", ["pred_2d"], np.zeros(2))],
        *[("metric", value) for value in (None, 5, b"max", ["max"], max)],
        *[("threshold", value) for value in (None, "0.1", b"0.1", [0.1], 1j, np.zeros(2), object())],
        *[("threshold", value) for value in (True, False, np.True_, np.array(True), np.array("0.1"), np.array([0.1]))],
        *[("seed", value) for value in (None, 1.0, "1", [1], True, np.True_)],
        *[("threads", value) for value in (1.0, "1", [1], True, np.float64(1))],
        *[("anchored", value) for value in ("no", np.ones(2))],
        *[("protect", value) for value in (None, True, b"content")],
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_settings_of_another_type(call: Callable[..., object], name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        call(**{name: value})


@pytest.mark.parametrize(
    "how",
    [
        *({"method": "\ud800"}, {"metric": "\ud800"}, {"threshold": 10**400}, {"threshold": HUGE}, {"threads": -HUGE}),
        *({"method": "x" * 10**6}, {"metric": "x" * 10**6}, {"threads": HUGE}),
    ],
    ids=lambda how: next(iter(how)),
)
def test_settings_that_python_itself_cannot_convert(how: dict[str, Any]) -> None:
    for call in CALLS:
        with pytest.raises(pp.PixelPruneError, match=next(iter(how))) as raised:
            call(**how)
        assert len(str(raised.value)) < 400


def test_integers_of_any_length() -> None:
    """Python raises ValueError when it formats those of more than 4,300 digits."""
    image = np.zeros((4, 4, 3), np.uint8)
    assert pp.prune(image, SMALL, seed=HUGE) == pp.prune(image, SMALL, seed=HUGE % 2**64)
    calls: list[Callable[[], object]] = [
        lambda: pp.set_num_threads(HUGE),
        lambda: pp.smart_resize(HUGE, 5, SMALL),
        lambda: pp.smart_resize(5, -HUGE, SMALL),
        lambda: pp.prune_pixel_values(np.zeros((4, 24), np.uint8), [(1, 2, HUGE)], SMALL),
        lambda: pp.decode([[HUGE]], np.zeros((1, 2, 2, 3), np.uint8), SMALL),
        lambda: pp.VisionSpec.from_config({"image_processor_type": "Qwen2VLImageProcessor", "resample": HUGE}),
        *[
            lambda name=name: pp.VisionSpec(**{"patch_size": 2, "merge_size": 1, name: HUGE})  # type: ignore[misc]
            for name in pp.VisionSpec.__dataclass_fields__
        ],
        lambda: pp.VisionSpec(patch_size=2, merge_size=1, mean=(HUGE,) * 3),
        *[
            lambda name=name: pp.preprocess([], SMALL, **{name: HUGE})  # type: ignore[misc]
            for name in ("method", "metric", "threshold", "anchored", "protect", "prune", "resample", "dtype", "copies")
        ],
    ]
    for call in calls:
        with pytest.raises((pp.PixelPruneError, TypeError)) as raised:
            call()
        assert "digit" in str(raised.value) or "dtype object" in str(raised.value)


@pytest.mark.parametrize("how", [{"threads": -1}, {"threshold": 7}, {"metric": "l2"}, {"protect": "x"}], ids=str)
@pytest.mark.parametrize("call", CALLS, ids=CALL_IDS)
def test_settings_are_checked_for_a_callable_too(call: Callable[..., object], how: dict[str, Any]) -> None:
    with pytest.raises(pp.PixelPruneError, match=next(iter(how))):
        call(method=lambda left, up: ~(left | up), **how)


@pytest.mark.parametrize(
    "how", [{"threads": -1}, {"threshold": 7}, {"metric": "l2"}, {"method": "x"}, {"protect": "x"}], ids=str
)
def test_settings_are_checked_without_images_too(how: dict[str, Any]) -> None:
    with pytest.raises(pp.PixelPruneError, match=next(iter(how))):
        pp.prune_batch([], SMALL, **how)
    with pytest.raises(pp.PixelPruneError, match=next(iter(how))):
        pp.prune_pixel_values(np.zeros((0, 24), np.uint8), [], SMALL, **how)


@pytest.mark.parametrize("call", CALLS, ids=CALL_IDS)
def test_settings_of_numpy_s_types(call: Callable[..., object]) -> None:
    expected = call(threshold=0.5, anchored=False, seed=3, threads=2)
    found = call(threshold=np.float32(0.5), anchored=np.bool_(False), seed=np.uint8(3), threads=np.int64(2))
    assert found == expected
    assert call(threshold=0) == call(threshold=np.array(0.0)) == call()
    assert call(threshold=1) == call(threshold=np.array(1)) == call(threshold=Fraction(1))


def test_names_that_are_strings_of_a_kind() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    expected = pp.prune(image, SMALL, method="raster", metric="mae")
    assert pp.prune(image, SMALL, method=np.str_("raster"), metric=np.str_("mae")) == expected


@pytest.mark.parametrize("call", [pp.prune, pp.prune_batch])
def test_settings_are_named(call: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="positional"):
        call(np.zeros((1, 4, 4), np.uint8), SMALL, "raster")
    with pytest.raises(TypeError, match="tau"):
        call(np.zeros((1, 4, 4), np.uint8), SMALL, tau=0.1)


# --- Hostile input ---------------------------------------------------------------------------------------

text = st.text(st.characters(), max_size=5) | st.sampled_from(METHODS + BASELINES + METRICS)
numbers = (
    st.integers()
    | st.integers(-3, 40)
    | st.sampled_from((10**400, -(10**400), 1 << 31, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1, 1 << 64))
    | st.floats()
    | st.complex_numbers()
)
DTYPES = ("u1", "i1", "u2", "i8", "u8", "f2", "f4", "f8", ">f4", "c8", "?", "O", "S1", "U1", "m8[s]", "u1,u1")


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape = draw(st.lists(st.integers(0, 4) | st.sampled_from((8, 24, 32)), max_size=5))
    array = np.zeros(shape[:3] + [min(side, 4) for side in shape[3:]], draw(st.sampled_from(DTYPES)))
    kind = draw(st.sampled_from(("plain", "transposed", "reversed", "nan", "ones", "broadcast")))
    if kind == "transposed":
        return array.T
    if kind == "reversed" and array.ndim:
        return array[::-1]
    if kind == "nan" and array.dtype.kind in "fc":
        array[...] = np.nan
    if kind == "ones" and array.dtype.kind in "biuf":
        array[...] = 1
    if kind == "broadcast":
        return np.broadcast_to(array, (2, *array.shape))
    return array


json = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
scalars = st.none() | st.booleans() | numbers | text | st.binary(max_size=5)
junk = st.recursive(
    scalars | arrays(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)
specs = st.sampled_from((SMALL, "qwen3_vl", pp.VisionSpec(patch_size=1, merge_size=1))) | junk


def setting(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return good | junk


hows = st.fixed_dictionaries(
    {},
    optional={
        "method": setting(st.sampled_from(METHODS + BASELINES) | st.just(lambda left, up: ~(left | up))),
        "metric": setting(st.sampled_from(METRICS)),
        "threshold": setting(st.floats(0, 1)),
        "anchored": setting(st.booleans()),
        "seed": setting(st.integers()),
        "protect": setting(st.sampled_from(PROTECT)),
        "threads": setting(st.integers(0, 3)),
    },
)
grids = st.lists(st.tuples(*[st.integers(-1, 4) | numbers] * 3), max_size=3) | junk


def is_polite(call: Callable[[], object]) -> object:
    """The outcome of a call, or None where it was refused as documented; OSError is for files that are missing."""
    try:
        return call()
    except (pp.PixelPruneError, TypeError, OSError):
        return None


def check(selection: object) -> None:
    assert isinstance(selection, pp.Selection)
    assert 1 <= selection.kept <= selection.total
    assert selection.mask.sum() == selection.kept
    assert selection.patch_indices().max() < np.prod(selection.grid_thw)


@settings(max_examples=150)
@given(arrays() | junk, specs, hows, st.booleans())
def test_prune_is_polite(image: Any, spec: Any, how: dict[str, Any], channels_first: bool) -> None:
    result = is_polite(lambda: pp.prune(image, spec, channels_first=channels_first, **how))
    if result is not None:
        check(result)
        assert is_polite(lambda: pp.prune_batch([image], spec, channels_first=channels_first, **how)) == [result]


@given(junk, specs, hows)
def test_prune_batch_is_polite(images: Any, spec: Any, how: dict[str, Any]) -> None:
    is_polite(lambda: pp.prune_batch(images, spec, **how))


@settings(max_examples=150)
@given(arrays() | junk, grids, specs, hows, st.sampled_from(("repeat", "frames")) | junk)
def test_prune_pixel_values_is_polite(values: Any, grid: Any, spec: Any, how: dict[str, Any], temporal: Any) -> None:
    result = is_polite(lambda: pp.prune_pixel_values(values, grid, spec, temporal=temporal, **how))
    for sel in result or ():  # type: ignore[attr-defined]
        check(sel)


@settings(max_examples=150)
@given(st.data(), specs, hows)
def test_decode_is_polite(data: st.DataObject, spec: Any, how: dict[str, Any]) -> None:
    mask: Any
    if data.draw(st.booleans()):
        mask = data.draw(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=3))
        tokens = np.zeros((sum(map(sum, mask)), 2, 2, 3), np.uint8)
    else:
        mask, tokens = data.draw(arrays() | junk), data.draw(arrays() | junk)
    kwargs = {name: value for name, value in how.items() if name not in ("seed", "threads")}
    result = is_polite(lambda: pp.decode(mask, tokens, spec, **kwargs))
    assert result is None or isinstance(result, np.ndarray)


@settings(max_examples=150)
@given(junk, junk | st.tuples(*[st.integers(-1, 9) | numbers] * 3), specs)
def test_from_keep_is_polite(keep: Any, grid: Any, spec: Any) -> None:
    result = is_polite(lambda: pp.Selection.from_keep(keep, grid, spec))
    if isinstance(result, pp.Selection) and result.total < 1000:
        check(result)


@given(arrays() | junk, specs)
def test_hash_tokens_and_analyze_are_polite(image: Any, spec: Any) -> None:
    is_polite(lambda: pp.hash_tokens(image, spec))
    is_polite(lambda: pp.analyze(image, spec))


@given(st.dictionaries(st.sampled_from(sorted(pp.VisionSpec.__dataclass_fields__)), junk), junk, junk)
def test_specs_are_polite(values: dict[str, Any], height: Any, width: Any) -> None:
    is_polite(lambda: pp.VisionSpec(**{"patch_size": 2, "merge_size": 1, **values}))
    is_polite(lambda: pp.smart_resize(height, width, "qwen3_vl"))
    is_polite(lambda: pp.set_num_threads(height))
    pp.set_num_threads(None)


@given(st.lists(st.tuples(st.integers(0, 8), json), max_size=3))
def test_configs_are_polite(changes: list[tuple[int, Any]]) -> None:
    good = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 2,
        "merge_size": 1,
        "temporal_patch_size": 1,
        "min_pixels": 1,
        "max_pixels": 9,
        "image_mean": [0.5],
        "image_std": [0.5],
    }
    names = [*good, "size"]
    changed = {names[i]: value for i, value in changes}
    is_polite(lambda: pp.VisionSpec.from_config({**good, **changed}))


# --- Sizes whose products overflow -----------------------------------------------------------------------


def prune_giants_of_one_byte() -> None:
    """Arrays of terabytes that take one byte each: nothing may try to copy them."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # a try fails at once
    tiny = np.uint8(7)
    for shape in ((1 << 20, 1 << 20, 3), (1 << 20, (1 << 20) + 1, 3), (1 << 31, 1 << 31), (1 << 40, 32, 1)):
        image = np.broadcast_to(tiny, shape)
        for call in (
            lambda image=image: pp.prune(image, "qwen3_vl"),
            lambda image=image: pp.prune_batch([image], "qwen3_vl"),
            lambda image=image: pp.hash_tokens(image, "qwen3_vl"),
            lambda image=image: pp.prune(image.T, "qwen3_vl", channels_first=True),
        ):
            assert is_polite(call) is None, shape
    for dtype in (np.uint8, np.float32):
        values = np.broadcast_to(dtype(0), (1 << 34, 1536))
        for grid in ((1, 4, 4), (1, 1 << 17, 1 << 17)):
            result = is_polite(lambda v=values, g=grid: pp.prune_pixel_values(v, [g], "qwen3_vl"))
            assert result is None
    mask = np.broadcast_to(np.True_, (1 << 20, 1 << 20))
    assert is_polite(lambda: pp.decode(mask, np.zeros((1, 32, 32, 3), np.uint8), "qwen3_vl")) is None
    tokens = np.broadcast_to(tiny, (1 << 40, 32, 32, 3))
    assert is_polite(lambda: pp.decode([[True]], tokens, "qwen3_vl")) is None
    with_one = np.zeros((4096, 4096), bool)
    with_one[0, 0] = True
    assert is_polite(lambda: pp.decode(with_one, np.zeros((1, 32, 32, 3), np.uint8), "qwen3_vl")) is None
    grids = np.broadcast_to(np.array([1, 2, 2]), (1 << 40, 3))
    assert is_polite(lambda: pp.prune_pixel_values(np.zeros((4, 1536), np.uint8), grids, "qwen3_vl")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_giants_of_one_byte_are_refused(run_child: RunChild) -> None:
    run_child(prune_giants_of_one_byte)


REPEATING = np.broadcast_to(np.zeros((1, 1 << 16, 3), np.uint8), (1 << 16, 1 << 16, 3))
"""12 GiB in 192 KiB of memory."""


def test_copies_of_repeated_memory_are_refused_before_allocation() -> None:
    values = np.broadcast_to(np.zeros((1, 1536), np.float32), (1 << 20, 1536))
    tokens = np.broadcast_to(np.zeros((1, 32, 32, 3), np.uint8), (1 << 19, 32, 32, 3))
    mask = np.broadcast_to(np.True_, (1 << 10, 1 << 9))
    tracemalloc.start()
    try:
        for call in (
            lambda: pp.prune(REPEATING, QWEN3),
            lambda: pp.prune(REPEATING.transpose(2, 0, 1), QWEN3, channels_first=True),
            lambda: pp.prune_batch([REPEATING], QWEN3),
            lambda: pp.hash_tokens(REPEATING, QWEN3),
            lambda: pp.prune_pixel_values(values, [(1, 1 << 10, 1 << 10)], QWEN3),
            lambda: pp.decode(mask, tokens, QWEN3),
        ):
            with pytest.raises(pp.PixelPruneError, match=r"bytes are a repetition of .*at most 1073741824 are copied"):
                call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


def test_a_grid_of_more_tokens_than_indices() -> None:
    # 2**32 tokens of one pixel, all of them views of one byte: the core refuses before it reads.
    image = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (1 << 31, 2), (2, 1))
    with pytest.raises(pp.PixelPruneError, match=r"product below 2\*\*32"):
        _core.prune(image, 1, CoreSettings("pred_2d", "max", 0.0, True, 0, "nothing"))


# --- Tensors ---------------------------------------------------------------------------------------------


class OnlyDlpack:
    """A tensor that numpy can read by DLPack only."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self._pixels = pixels
        self.shape, self.dtype = pixels.shape, "uint8"

    def __dlpack__(self, **how: Any) -> Any:
        return self._pixels.__dlpack__(**how)

    def __dlpack_device__(self) -> Any:
        return self._pixels.__dlpack_device__()


class OnlyArray:
    """A tensor that numpy can read by `__array__` only."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self._pixels = pixels
        self.shape, self.dtype = pixels.shape, "uint8"

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[np.uint8]:
        return self._pixels


@pytest.mark.parametrize("kind", [OnlyDlpack, OnlyArray])
def test_tensors_are_images_at_every_door(kind: Callable[[npt.NDArray[np.uint8]], Any]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (70, 90, 3), np.uint8)
    fitting = np.ascontiguousarray(image[:64, :64])
    [expected] = pp.preprocess([image], "qwen3_vl").selections
    for channels_first in (False, True):
        given, small = (kind(x.transpose(2, 0, 1).copy() if channels_first else x) for x in (image, fitting))
        how: Any = {"channels_first": channels_first}
        assert pp.preprocess([given], "qwen3_vl", **how).selections == [expected]
        [record] = pp.preprocess_stream([given], "qwen3_vl", **how)
        assert record.batch is not None
        assert record.batch.selections == [expected]
        assert pp.ImageProcessor("qwen3_vl")([given]).batch.selections == [expected]
        assert pp.ImageProcessor("qwen3_vl")([given], **how).batch.selections == [expected]
        assert pp.prune(small, "qwen3_vl", **how) == pp.prune(fitting, "qwen3_vl")
        assert pp.prune_batch([small], "qwen3_vl", **how) == [pp.prune(fitting, "qwen3_vl")]
        with pytest.raises(TypeError, match=r"images is .*; expected a sequence"):
            pp.preprocess(given, "qwen3_vl", **how)


def test_channels_first_is_about_arrays_alone() -> None:
    image = np.random.default_rng(2).integers(0, 256, (70, 90, 3), np.uint8)
    sources = [image.transpose(2, 0, 1), Image.fromarray(image)]
    first, second = pp.preprocess(sources, "qwen3_vl", channels_first=True).selections
    assert first == second
    resized = pp.resize_image(Image.fromarray(image), "qwen3_vl")
    assert pp.prune(resized, "qwen3_vl", channels_first=True) == first
    assert pp.prune_batch([resized], "qwen3_vl", channels_first=True) == [first]
    with pytest.raises(TypeError, match="channels_first"):
        pp.preprocess(sources, "qwen3_vl", channels_first=1)  # type: ignore[arg-type]
