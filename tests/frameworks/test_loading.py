"""Images come out of `load_image` as out of transformers' own loader."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image, ImageDraw

image_utils = pytest.importorskip("transformers.image_utils")

ORIENTATION = 0x0112


def make_image(mode: str = "RGB") -> Image.Image:
    """Different in every corner, smooth enough for JPEG."""
    y, x = np.mgrid[:24, :40]
    image = Image.fromarray(np.stack([x * 6, y * 10, 255 - x * 3 - y], axis=-1).astype(np.uint8))
    ImageDraw.Draw(image).rectangle((2, 3, 12, 6), fill=(250, 20, 30))
    return image.convert(mode)


def save_exif(orientation: int, kind: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        make_image().save(path, kind, exif=exif)

    return save


def save_mode(mode: str, kind: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: make_image(mode).save(path, kind, **options)


def save_translucent(mode: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        image = make_image("LA" if mode == "LA" else "RGBA")
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(path, "PNG")

    return save


def save_palette_with_transparency(transparency: int | bytes) -> Callable[[Path], None]:
    return lambda path: make_image("P").save(path, "PNG", transparency=transparency)


def save_rgb_with_a_transparent_colour(path: Path) -> None:
    make_image().save(path, "PNG", transparency=(250, 20, 30))


def save_wide(values: Any, kind: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(values).save(path, kind)


def save_animation(kind: str) -> Callable[[Path], None]:
    return lambda path: make_image().save(path, kind, save_all=True, append_images=[make_image().rotate(180)])


RAMP = np.linspace(0, 65535, 24 * 40).reshape(24, 40)
FILES: dict[str, Callable[[Path], None]] = {
    **{f"jpeg_orientation_{n}": save_exif(n, "JPEG") for n in range(1, 9)},
    "png_orientation_6": save_exif(6, "PNG"),
    "tiff_orientation_8": save_exif(8, "TIFF"),
    "webp_orientation_3": save_exif(3, "WEBP"),
    "orientation_out_of_range": save_exif(11, "JPEG"),
    **{f"png_{mode}": save_mode(mode, "PNG") for mode in ("RGB", "L", "1", "P")},
    "jpeg_grey": save_mode("L", "JPEG"),
    "jpeg_cmyk": save_mode("CMYK", "JPEG"),
    "tiff_cmyk": save_mode("CMYK", "TIFF"),
    "tiff_lab": save_mode("LAB", "TIFF"),
    "bmp": save_mode("RGB", "BMP"),
    "gif": save_mode("P", "GIF"),
    "png_rgba": save_translucent("RGBA"),
    "png_la": save_translucent("LA"),
    "png_palette_one_transparent": save_palette_with_transparency(3),
    "png_palette_alpha_table": save_palette_with_transparency(bytes(range(0, 256, 2))),
    "png_rgb_transparent_colour": save_rgb_with_a_transparent_colour,
    "png_16_bit": save_wide(RAMP.astype(np.uint16), "PNG"),
    "tiff_16_bit": save_wide(RAMP.astype(np.uint16), "TIFF"),
    "tiff_32_bit": save_wide((RAMP * 3 - 70000).astype(np.int32), "TIFF"),
    "tiff_float": save_wide((RAMP / 200 - 20).astype(np.float32), "TIFF"),
    "animated_gif": save_animation("GIF"),
    "animated_png": save_animation("PNG"),
    "animated_webp": save_animation("WEBP"),
}


def load_theirs(source: Any) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's advice about transparency; the file, which it leaves open
        image = image_utils.load_image(source)
        image.load()
    return image


def assert_same(ours: Image.Image, theirs: Image.Image) -> None:
    assert (ours.mode, ours.size) == (theirs.mode, theirs.size)
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.filterwarnings("ignore::pixelprune.PixelPruneWarning")
@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    theirs = load_theirs(str(path))
    assert len(theirs.getcolors(1 << 16)) > 1
    assert_same(pp.load_image(path), theirs)
    assert_same(pp.load_image(path.read_bytes()), theirs)


def test_orientation_matters(tmp_path: Path) -> None:
    """The images above can tell a loader that ignores EXIF."""
    path = tmp_path / "turned"
    save_exif(6, "JPEG")(path)
    with Image.open(path) as stored:
        assert stored.size == (40, 24)
    assert pp.load_image(path).size == load_theirs(str(path)).size == (24, 40)


@pytest.mark.filterwarnings("ignore::pixelprune.PixelPruneWarning")
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"])
def test_pillow_images(mode: str) -> None:
    image = Image.fromarray(RAMP.astype(np.uint16)) if mode == "I;16" else make_image(mode)
    assert image.mode == mode
    assert_same(pp.load_image(image), load_theirs(image))


def test_a_pillow_image_with_exif_is_taken_as_it_stands(tmp_path: Path) -> None:
    """Here the loaders differ on purpose: transformers turns an opened file, which knows its orientation."""
    path = tmp_path / "turned"
    save_exif(6, "PNG")(path)
    with Image.open(path) as image:
        assert load_theirs(image).size == (24, 40)
        assert_same(pp.load_image(image), make_image())
