"""The images that ``pixelprune bench`` measures on: finding and reading them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..arguments import escaped
from ..errors import PixelPruneError
from ..images.decode import load_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Sample(NamedTuple):
    """Images for one call: their name, the bytes of their files, and the decoded RGB images."""

    name: str
    files: list[bytes]
    images: list[Image.Image]


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files in a folder and below it, sorted, or the one file that it is.

    Args:
        folder: a folder or an image.

    Raises:
        PixelPruneError: there is no image in it.
        OSError: it does not exist.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from pixelprune.cli import samples
        >>> Image.new("RGB", (64, 64)).save("black.png")
        >>> [path.name for path in samples.find_images(".")]
        ['black.png']
        >>> Path("black.png").unlink()
    """
    top = Path(folder)
    if top.is_file():
        return [top]
    os.scandir(top).close()  # raises what is wrong with it
    found = [path for path in sorted(top.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise PixelPruneError(
            f"{escaped(str(top))}: no images; expected files named {', '.join('*' + s for s in SUFFIXES)}"
        )
    return found


def read_sample(name: str, source: Path | bytes) -> Sample:
    """Return the sample of one image.

    Args:
        name: what to call it.
        source: the file, or its bytes.

    Raises:
        PixelPruneError: the image can't be read.
        OSError: the file can't be read.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from pixelprune.cli import samples
        >>> file = io.BytesIO()
        >>> Image.new("L", (64, 32)).save(file, "PNG")
        >>> samples.read_sample("black", file.getvalue()).images[0].mode
        'RGB'
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Sample(name, [data], [load_image(data, alpha="white")])  # as `preprocess` does by default
        except PixelPruneError as error:
            raise PixelPruneError(f"{escaped(name)}: {error}") from error
