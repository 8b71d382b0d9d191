"""Loading: every kind of image comes out as transformers' loader sees it, every bad one as one error."""

from __future__ import annotations

import builtins
import errno
import http.client
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image, ImageFile, features
from pixelprune import _core
from pixelprune.errors import PixelPruneError, PixelPruneWarning
from pixelprune.images.decode import load_image
from pixelprune.images.resizing import resize_image

ORIENTATION = 0x0112


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def make_image(mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Image.Image:
    """Smooth, so that JPEG can hold it, and different everywhere."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    rgb = np.stack([x * 20 + y * 3, 200 - x * 9 - y * 11, y * 25 + 60], axis=-1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def same(image: Image.Image, other: Image.Image) -> bool:
    return image.mode == other.mode and image.size == other.size and image.tobytes() == other.tobytes()


def pixel(image: Image.Image) -> Any:
    return image.getpixel((0, 0))


# --- sources ---------------------------------------------------------------------------------------------


def test_all_sources_of_an_image_agree(tmp_path: Path) -> None:
    expected = make_image()
    data = encode(expected)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        file.seek(11)
        from_file = load_image(file)
        assert not file.closed
    views: list[Any] = [data, bytearray(data), memoryview(data), io.BytesIO(data)]
    for image in (from_file, *map(load_image, [str(path), path, *views, expected])):
        assert same(image, expected)


def test_a_stream_that_cannot_seek_is_read() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as file:
        file.write(encode(make_image()))
    with os.fdopen(read_end, "rb") as file:
        assert same(load_image(file), make_image())


def test_a_file_object_is_read_as_a_whole_and_once() -> None:
    """So that nothing else has to be done in the thread that owns the file."""
    calls: list[tuple[str, tuple[Any, ...]]] = []

    class File:
        name = "page.png"

        def seek(self, *args: Any) -> None:
            calls.append(("seek", args))

        def read(self, *args: Any) -> bytes:
            calls.append(("read", args))
            return encode(make_image())

    assert same(load_image(File()), make_image())  # type: ignore[arg-type]
    assert calls == [("seek", (0,)), ("read", ())]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ("text", TypeError, r"^page\.png: read\(\) of File returned str; expected bytes"),
        (None, TypeError, r"^page\.png: read\(\) of File returned NoneType; expected bytes"),
        (b"", PixelPruneError, r"^cannot read page\.png: not an image"),
        (encode(make_image())[:50], PixelPruneError, r"^cannot read page\.png: "),
    ],
)
def test_what_a_file_object_reads_is_checked(data: Any, error: type[Exception], message: str) -> None:
    class File:
        name = "page.png"

        def read(self) -> Any:
            return data

    with pytest.raises(error, match=message):
        load_image(File())  # type: ignore[arg-type]


def test_the_result_is_the_callers_own() -> None:
    given = make_image()
    image = load_image(given)
    image.putpixel((0, 0), (1, 2, 3))
    assert same(given, make_image())
    assert type(load_image(encode(given))) is Image.Image  # holds no file


@pytest.mark.parametrize("source", [None, 7, np.zeros((4, 4, 3), np.uint8), io.StringIO("text"), ["a.png"]])
def test_other_sources_are_type_errors(source: Any) -> None:
    with pytest.raises(TypeError, match=f"source is a {type(source).__name__}; expected a path"):
        load_image(source)


# --- modes -----------------------------------------------------------------------------------------------


def test_grey_and_bilevel_are_spread_over_three_channels() -> None:
    grey = make_image("L")
    assert same(load_image(encode(grey)), Image.merge("RGB", [grey] * 3))
    bilevel = grey.point(lambda value: 255 * (value > 120)).convert("1")
    values = np.asarray(load_image(encode(bilevel)))
    assert np.array_equal(values[..., 1], np.asarray(bilevel) * np.uint8(255))
    assert set(values.ravel().tolist()) == {0, 255}


def test_a_palette_is_looked_up() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 210, 220])
    palette.putpixel((1, 0), 1)
    assert np.asarray(load_image(encode(palette))).tolist() == [[[10, 20, 30], [200, 210, 220]]]


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("L", "JPEG")])
def test_colour_models_are_converted_as_pillow_does(mode: str, kind: str) -> None:
    data = encode(make_image(mode), kind)
    with Image.open(io.BytesIO(data)) as opened:
        assert same(load_image(data), opened.convert("RGB"))


def test_cmyk_without_ink_is_white() -> None:
    assert pixel(load_image(Image.new("CMYK", (4, 4), (0, 0, 0, 0)))) == (255, 255, 255)


def test_a_mode_that_pillow_cannot_convert_is_an_error() -> None:
    with pytest.raises(PixelPruneError, match=r"^cannot read the Pillow image: .*La"):
        load_image(Image.new("La", (4, 4)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_wide_grey_is_clipped_with_a_warning(kind: str, tmp_path: Path) -> None:
    values = np.array([[0, 5, 255, 256, 40_000, 65_535]], np.uint16)
    path = tmp_path / f"wide.{kind.lower()}"
    path.write_bytes(encode(Image.fromarray(values), kind))
    with pytest.warns(PixelPruneWarning, match=r"wide\.\w+: .* mode 'I.*', do not fit 8 bits") as caught:
        image = load_image(path)
    assert len(caught) == 1
    with Image.open(path) as opened:
        assert same(image, opened.convert("RGB"))


@pytest.mark.parametrize(
    ("values", "share"),
    [
        (np.array([[0, 7, 255, 255]], np.int32), None),
        (np.array([[-1, 7, 255, 255]], np.int32), "25.00 %"),
        (np.array([[0, 7, 256, 255]], np.int32), "25.00 %"),
        (np.array([[0, 7, 254, 255]], np.float32), None),
        (np.array([[0.5, 0.25, 254, 255]], np.float32), "50.00 %"),
        (np.array([[0, 7, np.nan, np.inf]], np.float32), "50.00 %"),
    ],
)
def test_integers_and_floats_warn_only_if_a_value_changes(values: Any, share: str | None) -> None:
    image = Image.fromarray(values)
    if share is None:
        assert np.array_equal(np.asarray(load_image(image))[..., 2], values)
    else:
        with pytest.warns(PixelPruneWarning, match=f"the Pillow image: {share} of the values"):
            load_image(image)


def animation(kind: str) -> bytes:
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    options = {"lossless": True} if kind == "WEBP" else {}
    return encode(first, kind, save_all=True, append_images=[second], **options)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_frame_is_taken(kind: str) -> None:
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    assert pixel(load_image(animation(kind))) == (250, 0, 0)


def test_the_first_image_of_an_mpo_is_taken() -> None:
    red, _, blue = pixel(load_image(animation("MPO")))
    assert red > 200 > 50 > blue


def test_of_a_pillow_image_the_present_frame_is_taken() -> None:
    with Image.open(io.BytesIO(animation("GIF"))) as image:
        image.seek(1)
        assert pixel(load_image(image)) == (0, 0, 250)


# --- EXIF orientation ------------------------------------------------------------------------------------

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_files_are_turned_upright_and_pillow_images_are_not(orientation: int, tmp_path: Path) -> None:
    stored = make_image()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(stored, exif=exif)
    path = tmp_path / "turned.png"
    path.write_bytes(data)
    expected = UPRIGHT[orientation](np.asarray(stored))
    for source in (path, data, io.BytesIO(data)):
        assert np.array_equal(np.asarray(load_image(source)), expected)
    with Image.open(path) as opened:
        assert same(load_image(opened), stored)


# --- alpha -----------------------------------------------------------------------------------------------


def transparent(kind: str) -> Image.Image:
    """Left pixel (10, 20, 30) or grey 10 with alpha 0, right pixel opaque."""
    if kind in ("RGBA", "LA"):
        image = make_image("RGB", (2, 1)).convert(kind)
        image.putpixel((0, 0), (10, 20, 30, 0) if kind == "RGBA" else (10, 0))
        return image
    mode = kind.split()[0]
    image = Image.new(mode, (2, 1))
    if mode == "P":
        image.putpalette([10, 20, 30, 200, 210, 220])
        image.putpixel((1, 0), 1)
        image.info["transparency"] = 0 if kind == "P index" else b"\x00\xff"
    else:
        colour, other = ((10, 20, 30), (9, 9, 9)) if mode == "RGB" else (10, 99)
        image.putpixel((0, 0), colour)
        image.putpixel((1, 0), other)
        image.info["transparency"] = colour
    return image


KINDS = ["RGBA", "LA", "P index", "P table", "L key", "RGB key"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_file", [True, False])
def test_alpha_is_dropped_with_one_warning_naming_the_file(kind: str, as_file: bool, tmp_path: Path) -> None:
    image = transparent(kind)
    source: Any = image
    if as_file:
        source = tmp_path / "glass.png"
        image.save(source)
    with pytest.warns(PixelPruneWarning) as caught:
        loaded = load_image(source)
    assert pixel(loaded) == ((10, 10, 10) if kind in ("LA", "L key") else (10, 20, 30))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    name = str(source) if as_file else "the Pillow image"
    assert str(caught[0].message).startswith(f"{name}: 50.00 % of the pixels are not opaque")
    assert ("transparency" in image.info) == (kind not in ("RGBA", "LA"))  # what was given is as it was


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_is_laid_on_the_colour_asked_for(kind: str) -> None:
    data = encode(transparent(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        right = load_image(data).getpixel((1, 0))
    for alpha, expected in (("white", (255, 255, 255)), ((1, 2, 3), (1, 2, 3))):
        image = load_image(data, alpha=alpha)
        assert image.mode == "RGB"
        assert pixel(image) == expected
        assert image.getpixel((1, 0)) == right


def test_half_transparent_pixels_are_mixed() -> None:
    image = Image.new("RGBA", (2, 2), (10, 20, 255, 128))
    # 10 * 128/255 + 255 * 127/255 = 132.02, 20 -> 137.04; on black 5.02 and 10.04
    assert pixel(load_image(image, alpha="white")) == (132, 137, 255)
    assert pixel(load_image(image, alpha=(0, 0, 0))) == (5, 10, 128)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_opaque_alpha_is_nothing_to_warn_of(mode: str) -> None:
    image = make_image("L" if mode == "LA" else "RGB").convert("P" if mode == "PA" else mode).convert(mode)
    for alpha in ("drop", "white"):
        assert same(load_image(image, alpha=alpha), image.convert("RGB"))


def test_a_transparent_palette_entry_that_is_not_used_is_nothing_to_warn_of() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 200, 210, 220])
    assert pixel(load_image(encode(image, transparency=0))) == (200, 210, 220)


@pytest.mark.parametrize(
    "alpha",
    ["black", "", None, 3, (1, 2), (1, 2, 3, 4), (0, 0, 256), (-1, 0, 0), (0.5, 0, 0), ("a", "b", "c")],
)
def test_another_alpha_is_an_error(alpha: Any) -> None:
    with pytest.raises(PixelPruneError, match=r"^alpha is .*; expected 'drop', 'white' or three integers"):
        load_image(make_image(), alpha=alpha)


# --- bad files -------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "absent.png")
    with pytest.raises(OSError) as caught:  # noqa: PT011 (IsADirectoryError, on Windows PermissionError)
        load_image(tmp_path)
    assert caught.value.errno in (errno.EISDIR, errno.EACCES)

    def locked(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "locked.png")

    monkeypatch.setattr(builtins, "open", locked)
    with pytest.raises(PermissionError):
        load_image("locked.png")


def test_a_failing_disk_is_an_os_error() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        load_image(Broken())


class LostError(OSError):
    """An error of a file system, without number."""


FAILURES = [
    TimeoutError("timed out"),
    ConnectionResetError(),
    OSError("connection lost"),
    LostError("try again"),
    OSError(errno.EIO, "Input/output error"),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
]


class Failing:
    """A file of which no more can be read once ``error`` is set."""

    def __init__(self, data: bytes, error: BaseException | None = None) -> None:
        self.error = error
        self._file = io.BytesIO(data)
        self.seek, self.tell, self.readline = self._file.seek, self._file.tell, self._file.readline

    def read(self, size: int = -1) -> bytes:
        if self.error is not None:
            raise self.error
        return self._file.read(size)


@pytest.mark.parametrize(
    "error", [*FAILURES, OSError(errno.EINVAL, "Invalid argument"), http.client.IncompleteRead(b"")], ids=repr
)
def test_what_a_file_object_raises_passes_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        load_image(Failing(encode(make_image()), error))  # type: ignore[arg-type]
    assert caught.value is error


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "TIFF by libtiff"])
@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_what_the_file_of_a_lazy_image_raises_passes_unchanged(kind: str, error: Exception) -> None:
    kind, _, by_libtiff = kind.partition(" ")
    options = {"compression": "tiff_lzw"} if by_libtiff else {}
    data = encode(Image.effect_noise((200, 200), 99), kind, **options)
    file = Failing(data)
    with Image.open(file) as image:  # type: ignore[arg-type]
        file.error = error
        with pytest.raises(type(error)) as caught:
            load_image(image)
    assert caught.value is error


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("too deep")], ids=repr)
def test_what_the_machine_lacks_says_nothing_of_the_image(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(make_image())
    path = tmp_path / "a.png"
    path.write_bytes(data)
    lazy = Image.open(io.BytesIO(data))

    def load(_: Image.Image) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for source in (data, path, io.BytesIO(data), lazy):
        with pytest.raises(type(error)) as caught:
            load_image(source)
        assert caught.value is error


def test_a_closed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(make_image()))
    with path.open("rb") as file:
        pass
    with pytest.raises(PixelPruneError, match=r"^cannot read \S*a\.png: .*closed file"):
        load_image(file)
    with path.open("ab") as file, pytest.raises(io.UnsupportedOperation):
        load_image(file)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines.png", r"two\nlines.png"),
        ("\x1b[31mred\x07.png", r"\x1b[31mred\x07.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028.png", r"\u2028.png"),
        ("\udcff.png", r"\udcff.png"),
        ("größe 写真 😀.png", "größe 写真 😀.png"),
        ("a  b\\c.png", "a  b\\c.png"),
    ],
)
def test_names_take_one_line_of_what_can_be_seen(name: str, shown: str, tmp_path: Path) -> None:
    class File(io.BytesIO):
        pass

    file = File(b"no image")
    file.name = name  # type: ignore[attr-defined]
    with pytest.raises(PixelPruneError) as caught:
        load_image(file)
    assert str(caught.value).startswith(f"cannot read {shown}: not an image")
    image = transparent("RGBA")
    image.filename = name  # type: ignore[attr-defined]
    with pytest.warns(PixelPruneWarning) as warned:
        load_image(image)
    assert str(warned[0].message).startswith(f"{shown}: 50.00 %")
    try:
        path = tmp_path / name
        path.write_bytes(b"no image")
    except OSError:
        return  # the file system takes no such name
    with pytest.raises(PixelPruneError) as caught:
        load_image(path)
    assert str(caught.value).startswith(f"cannot read {tmp_path / shown}: not an image")


def test_causes_take_one_line_of_what_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(*_: object) -> None:
        raise SyntaxError("bad\nheader \x1b[31m\u202e")

    monkeypatch.setattr(Image, "open", say)
    with pytest.raises(PixelPruneError) as caught:
        load_image(b"")
    assert str(caught.value) == r"cannot read the image of 0 bytes: bad header \x1b[31m\u202e"


def test_a_path_with_a_nul_is_an_error() -> None:
    with pytest.raises(PixelPruneError, match="null"):
        load_image("a\0b.png")


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_an_image_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fake.png"
    path.write_bytes(data)
    with pytest.raises(PixelPruneError, match=r"^cannot read \S*fake\.png: not an image") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(PixelPruneError, match=rf"^cannot read the image of {len(data)} bytes: "):
        load_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_files_raise_nothing_but_our_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, or with one byte changed, a file loads or raises PixelPruneError."""
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {} if kind in ("GIF", "BMP") else {"exif": exif}
    data = encode(make_image("P" if kind == "GIF" else "RGB", (5, 3)), kind, **options)
    messages = []
    cut = [data[:length] for length in range(len(data))]
    changed = [data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :] for i in range(len(data))]
    for damaged in cut + changed:
        try:
            assert load_image(damaged).mode == "RGB"
        except PixelPruneError as error:
            messages.append(str(error))
    assert len(messages) > len(data) // 4
    assert all(message.startswith("cannot read the image of ") for message in messages)
    assert not any("\n" in message for message in messages)


def test_a_truncated_file_names_itself_and_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "short.bmp"
    path.write_bytes(encode(make_image(), "BMP")[:-30])
    with pytest.raises(PixelPruneError, match=r"short\.bmp: .*truncated"):
        load_image(path)
    with Image.open(path) as lazy, pytest.raises(PixelPruneError, match=r"short\.bmp: .*truncated"):
        load_image(lazy)


def test_a_seek_to_before_the_beginning_is_the_image_s_fault(tmp_path: Path) -> None:
    path = tmp_path / "short.pcx"
    # Pillow looks for the palette 769 bytes before the end.
    path.write_bytes(encode(make_image("P"), "PCX")[:200])
    with pytest.raises(PixelPruneError, match=r"^cannot read \S*short\.pcx: "):
        load_image(path)


def test_a_closed_image_and_one_without_pixels_are_errors() -> None:
    image = make_image()
    image.close()
    with pytest.raises(PixelPruneError, match="closed"):
        load_image(image)
    with pytest.raises(PixelPruneError, match="it has 0 x 5 pixels; expected at least 1 x 1"):
        load_image(Image.new("RGB", (0, 5)))


def test_pillows_limits_hold_for_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(PixelPruneError, match=r"121 pixels.*MAX_IMAGE_PIXELS, which is 50; set it higher"):
        load_image(encode(make_image(size=(11, 11))))
    with pytest.warns(Image.DecompressionBombWarning):
        image = load_image(encode(make_image(size=(8, 8))))
    assert same(image, make_image(size=(8, 8)))
    assert load_image(make_image(size=(40, 40))).size == (40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(encode(make_image(size=(11, 11)))).size == (11, 11)


# --- resizing --------------------------------------------------------------------------------------------


def test_resize_goes_to_the_processors_size() -> None:
    image = resize_image(make_image(size=(300, 270)), "qwen3_vl")
    assert (image.mode, image.size) == ("RGB", (288, 256))
    assert resize_image(make_image(size=(300, 270)), "qwen2_vl").size == (308, 280)


def test_resize_leaves_a_fitting_image_and_a_flat_one_alone() -> None:
    fitting = make_image(size=(288, 256))
    assert same(resize_image(fitting, "qwen3_vl"), fitting)
    flat = resize_image(Image.new("RGB", (300, 270), (7, 8, 9)), "qwen3_vl")
    assert flat.getextrema() == ((7, 7), (8, 8), (9, 9))


def test_resize_is_bicubic() -> None:
    """Beside an edge, only a bicubic kernel leaves the range of the levels it is given."""
    stripes = np.full((270, 300, 3), 50, np.uint8)
    stripes[:, np.arange(300) // 37 % 2 == 1] = 200
    resized = np.asarray(resize_image(Image.fromarray(stripes), "qwen3_vl"))
    assert resized.min() < 50 < 200 < resized.max()


def test_resize_wants_rgb() -> None:
    with pytest.raises(PixelPruneError, match="image has mode 'L'; expected 'RGB'"):
        resize_image(make_image("L", (300, 270)), "qwen3_vl")


# --- against transformers --------------------------------------------------------------------------------


@pytest.mark.frameworks
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", [*KINDS, "1", "L", "P", "CMYK"])
def test_files_load_as_transformers_loads_them(kind: str, orientation: int, tmp_path: Path) -> None:
    image_utils = pytest.importorskip("transformers.image_utils")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = transparent(kind) if kind in KINDS else make_image(kind)
    path = tmp_path / f"image.{'jpg' if kind == 'CMYK' else 'png'}"
    image.save(path, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(load_image(path), image_utils.load_image(str(path)))


def test_resizing_takes_an_image_in_every_form(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    expected = pp.resize_image(Image.fromarray(pixels), "qwen3_vl")
    for image in (pixels, path, str(path), path.read_bytes()):
        assert pp.resize_image(image, "qwen3_vl").tobytes() == expected.tobytes()


@pytest.mark.parametrize("image", [None, 5, [[0]]])
def test_resizing_refuses_what_is_no_image(image: Any) -> None:
    with pytest.raises(TypeError, match=r"image is a .*; expected a numpy array, a tensor, a PIL image, a path"):
        pp.resize_image(image, "qwen3_vl")


def test_resizing_refuses_other_modes_and_missing_files() -> None:
    with pytest.raises(pp.PixelPruneError, match="mode 'L'; expected 'RGB'"):
        pp.resize_image(np.zeros((64, 64), np.uint8), "qwen3_vl")
    with pytest.raises(FileNotFoundError):
        pp.resize_image("missing.png", "qwen3_vl")


@pytest.mark.parametrize("resample", ["torchvision", "pillow", "pad", "none"])
@pytest.mark.parametrize("size", [(0, 4096), (5, 0), (0, 0)])
def test_images_without_pixels(size: tuple[int, int], resample: Any) -> None:
    with pytest.raises(pp.PixelPruneError, match=r"image is .*; expected at least 1 x 1 pixels"):
        pp.preprocess([Image.new("RGB", size)], "qwen3_vl", resample=resample)
    assert _core.pixels_of_pillow(Image.new("RGB", size)) is None


@pytest.mark.parametrize("size", [(300, 270), (700, 50), (256, 256), (31, 1000)])
def test_resizing_is_that_of_preprocess(size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB")
    ways: list[Any] = [{}, {"resample": "torchvision"}, {"resample": "pillow"}]
    for how in ways:
        [whole] = pp.preprocess([image], "qwen3_vl", threshold=0.1, **how).selections
        assert pp.prune(resize_image(image, "qwen3_vl", **how), "qwen3_vl", threshold=0.1) == whole
    if size != (256, 256):
        assert not same(resize_image(image, "qwen3_vl"), resize_image(image, "qwen3_vl", resample="pillow"))
    for wrong in ("none", "pad", None):
        with pytest.raises(PixelPruneError, match=r"resample is .*; expected one of torchvision, pillow"):
            resize_image(image, "qwen3_vl", resample=wrong)  # type: ignore[arg-type]
