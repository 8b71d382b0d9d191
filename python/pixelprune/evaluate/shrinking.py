"""The baseline that pruning has to beat: the whole image, shrunk until it has as few tokens."""

from __future__ import annotations

from PIL import Image

from ..arguments import as_int
from ..errors import PixelPruneError
from ..images.resizing import Resampling, resize_to
from ..spec import VisionSpec, as_spec, smart_resize


def shrunk_size(height: int, width: int, tokens: int, spec: VisionSpec | str) -> tuple[int, int]:
    """Return the largest size of an image, in the proportions that the model sees, with at most so many tokens.

    Both sides of the size that the model would see are scaled by one factor, and rounded down to whole tokens, as the
    processors of Qwen-VL do above ``max_pixels``. A side stays at least one token.

    Args:
        height: pixels.
        width: pixels.
        tokens: at least 1.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        ``(height, width)`` in pixels.

    Raises:
        PixelPruneError: ``tokens`` is below 1, or the processor refuses the image.

    Example:
        >>> from pixelprune.evaluate import shrunk_size
        >>> height, width = shrunk_size(1632, 1248, 783, "qwen3_vl")
        >>> height, width, height // 32 * width // 32
        (1024, 768, 768)
    """
    tokens = as_int(tokens, "tokens", "at least 1")
    if tokens < 1:
        raise PixelPruneError(f"tokens is {tokens}; expected at least 1")
    spec = as_spec(spec)
    tall, wide = smart_resize(height, width, spec)
    rows, columns = tall // spec.token_size, wide // spec.token_size
    by_rows = [(i, max(1, i * columns // rows)) for i in range(1, rows + 1)]
    by_columns = [(max(1, i * rows // columns), i) for i in range(1, columns + 1)]
    few = [(r * c, r, c) for r, c in (*by_rows, *by_columns) if r * c <= tokens]
    _, rows, columns = max(few)
    return rows * spec.token_size, columns * spec.token_size


def shrink(
    image: Image.Image, tokens: int, spec: VisionSpec | str, resample: Resampling = "torchvision"
) -> Image.Image:
    """Return an image that has at most so many tokens; see `shrunk_size`.

    Args:
        image: a Pillow image of mode ``"RGB"``.
        tokens: at least 1.
        spec: a `VisionSpec` or the name of a preset.
        resample: as in `resize_image`.

    Raises:
        PixelPruneError: as in `shrunk_size`.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.evaluate import shrink
        >>> shrink(Image.new("RGB", (1248, 1632)), 783, "qwen3_vl").size
        (768, 1024)
    """
    return resize_to(image, *shrunk_size(image.height, image.width, tokens, spec), resample)
