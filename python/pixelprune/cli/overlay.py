"""Drawings of a selection: what is kept, what is dropped, and how many tokens each kept one stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFont

from ..arguments import shown
from ..errors import PixelPruneError
from ..selection.result import Selection, sources

Colour: TypeAlias = tuple[int, int, int]

_KEPT: Colour = (38, 194, 108)
_EDGE: Colour = (22, 128, 70)
_DROPPED: Colour = (128, 128, 128)
_CONTENT: Colour = (236, 112, 20)  # dropped, although it is not of one colour
_PAPER, _INK, _SOFT = (255, 255, 255), (32, 36, 42), (98, 104, 112)
_TINT, _DIM = 0.18, 0.66  # how much their colour covers of kept and of dropped tokens
_SHADE = 0.5  # how much of the image's light and shade the heat map shows

_HEAT_STOPS = ((255, 243, 176), (253, 180, 74), (227, 74, 51), (142, 18, 72), (60, 10, 78))
"""Colours of the heat map, from a token that stands for itself only to the one that stands for the most."""

_NARROWEST = 400
"""Pixels that a caption needs; a narrower image gets a wider strip."""


def draw_overlay(image: Image.Image, selection: Selection, caption: Sequence[str] = ()) -> Image.Image:
    """Draw an image with its dropped tokens dimmed and its kept tokens clear, a legend below.

    Dropped tokens that carry content (`Selection.dropped_content`) have a colour of their own.

    Args:
        image: the image that was pruned: mode ``"RGB"``, as many pixels as the selection's tokens have.
        selection: what was selected on it, of one frame.
        caption: lines for the strip below the image; the first is set larger. They are wrapped at spaces,
            not at no-break spaces.

    Returns:
        A new RGB image: the image and the strip below it (which is wider than a very narrow image).

    Raises:
        PixelPruneError: the selection has more than one frame, or is of an image of another size.
        TypeError: not a Pillow image, a `Selection` and lines of text.

    Example:
        >>> import pixelprune as pp
        >>> from PIL import Image
        >>> from pixelprune.cli.overlay import draw_overlay
        >>> page = Image.new("RGB", (640, 320), "white")
        >>> draw_overlay(page, pp.prune(page, "qwen3_vl"), ["a blank page"]).width
        640
    """
    mask = _mask_of_frame(image, selection, caption)
    kept = Image.blend(image, Image.new("RGB", image.size, _KEPT), _TINT)
    shown = np.array(_composite(kept, image, mask))
    size = selection.spec.token_size
    content = np.zeros(mask.size, np.bool_)
    content[selection.dropped_content(image)] = True
    if content.any():
        marked = np.asarray(Image.blend(image, Image.new("RGB", image.size, _CONTENT), _DIM))
        where = content.reshape(mask.shape).repeat(size, axis=0).repeat(size, axis=1)
        shown[where] = marked[where]
    # A line where kept and dropped meet: first between rows of tokens, then between columns.
    shown[size::size][np.repeat(mask[1:] != mask[:-1], size, axis=1)] = _EDGE
    shown[:, size::size][np.repeat(mask[:, 1:] != mask[:, :-1], size, axis=0)] = _EDGE
    dropped = "dropped" if selection.source is None else "dropped: a kept token stands for it"
    legend = [("kept", _KEPT), (dropped, _DROPPED)]
    if content.any():
        legend.append(("dropped, with content", _CONTENT))
    return _with_caption(Image.fromarray(shown), caption, "", legend)


def draw_heatmap(image: Image.Image, selection: Selection, caption: Sequence[str] = ()) -> Image.Image:
    """Draw an image with each kept token coloured by how many tokens it stands for, a scale below.

    Args:
        image: the image that was pruned: mode ``"RGB"``, as many pixels as the selection's tokens have.
        selection: what was selected on it, of one frame and with a source map.
        caption: lines for the strip below the image; the first is set larger. They are wrapped at spaces,
            not at no-break spaces.

    Returns:
        A new RGB image: the image and the strip below it (which is wider than a very narrow image).

    Raises:
        PixelPruneError: the selection has no source map (the baselines make none), has more than one frame,
            or is of an image of another size.
        TypeError: not a Pillow image, a `Selection` and lines of text.

    Example:
        >>> import pixelprune as pp
        >>> from PIL import Image
        >>> from pixelprune.cli.overlay import draw_heatmap
        >>> page = Image.new("RGB", (640, 320), "white")
        >>> draw_heatmap(page, pp.prune(page, "qwen3_vl")).width
        640
    """
    mask = _mask_of_frame(image, selection, caption)
    counts = np.bincount(sources(selection), minlength=mask.size).reshape(mask.shape)
    highest = int(counts.max())
    colours = Image.fromarray(_heat(counts, highest)).resize(image.size, Image.Resampling.NEAREST)
    # The image shows through as light and shade, so that the hues stay those of the scale.
    shade = image.convert("L").point([round(255 - _SHADE * (255 - value)) for value in range(256)])
    shown = _composite(ImageChops.multiply(colours, shade.convert("RGB")), image, mask)
    steps = np.unique(np.geomspace(1, highest, 6).round().astype(np.int64))
    legend: list[tuple[str, Colour]] = [
        (str(step), (int(red), int(green), int(blue)))
        for step, (red, green, blue) in zip(steps, _heat(steps, highest), strict=True)
    ]
    legend.append(("dropped", _DROPPED))
    return _with_caption(shown, caption, "Tokens that a kept token stands for:", legend)


def _mask_of_frame(image: Image.Image, selection: Selection, caption: Sequence[str]) -> npt.NDArray[np.bool_]:
    """The mask (rows, cols), once it is known to be of this image."""
    if not isinstance(image, Image.Image):
        raise TypeError(f"image is a {type(image).__name__}; expected a Pillow image")
    if not isinstance(selection, Selection):
        raise TypeError(f"selection is {shown(selection)}; expected a Selection, as prune returns")
    if not isinstance(caption, (list, tuple)) or not all(isinstance(line, str) for line in caption):
        raise TypeError(f"caption is {shown(caption)}; expected a list of lines")
    frames, rows, cols = selection.grid
    size = selection.spec.token_size
    if frames != 1:
        raise PixelPruneError(f"the selection has {frames} frames; expected 1, as an image shows one")
    if image.size != (cols * size, rows * size) or image.mode != "RGB":
        raise PixelPruneError(
            f"the image is {image.width} x {image.height} pixels, mode {image.mode!r}; "
            f"expected {cols * size} x {rows * size}, mode 'RGB', for a selection of {cols} x {rows} tokens"
        )
    return selection.mask.reshape(rows, cols)


def _composite(kept: Image.Image, image: Image.Image, mask: npt.NDArray[np.bool_]) -> Image.Image:
    """``kept`` where the mask is set, the dimmed image elsewhere."""
    dimmed = Image.blend(image, Image.new("RGB", image.size, _DROPPED), _DIM)
    stencil = Image.fromarray(mask.astype(np.uint8) * 255).resize(image.size, Image.Resampling.NEAREST)
    return Image.composite(kept, dimmed, stencil)


def _heat(counts: npt.NDArray[Any], highest: int) -> npt.NDArray[np.uint8]:
    """A colour for each count on a logarithmic scale, in a last axis of three."""
    where = np.log(np.maximum(counts, 1)) / np.log(max(highest, 2)) * (len(_HEAT_STOPS) - 1)
    channels = [np.interp(where, range(len(_HEAT_STOPS)), stops) for stops in zip(*_HEAT_STOPS, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _with_caption(
    image: Image.Image, lines: Sequence[str], title: str, legend: Sequence[tuple[str, Colour]]
) -> Image.Image:
    """The image above a strip with the lines and the legend, wrapped to its width."""
    width = max(image.width, _NARROWEST)
    unit = max(14, min(40, width // 60))  # the height of the text, and what the spaces are made of
    strip = _Strip(width, unit)
    for number, line in enumerate(lines):
        words: list[tuple[str, Colour | None]] = [
            # Pillow's own font has no glyph for the no-break space.
            (word.replace("\u00a0", " "), None)
            for word in re.split("[ \t\r\n]+", line)
        ]
        size, ink = (unit * 3 // 2, _INK) if number == 0 else (unit, _SOFT)
        strip.add(words, size=size, ink=ink, gap=size // 4)
    strip.add([*([(title, None)] if title else []), *legend], size=unit, ink=_INK, gap=unit)
    canvas = Image.new("RGB", (width, image.height + strip.height), _PAPER)
    canvas.paste(image, ((width - image.width) // 2, 0))
    strip.draw(ImageDraw.Draw(canvas), image.height)
    return canvas


class _Strip:
    """Items, each a text and maybe a coloured box before it, set in rows from the top down."""

    def __init__(self, width: int, margin: int) -> None:
        self.height = 2 * margin
        self._right, self._margin = width - margin, margin
        self._placed: list[tuple[int, int, str, Colour | None, int, Colour]] = []

    def add(self, items: Sequence[tuple[str, Colour | None]], *, size: int, ink: Colour, gap: int) -> None:
        """Add a paragraph of items, starting a new row wherever the next one does not fit."""
        font = ImageFont.load_default(size=size)
        x, y = self._margin, self.height - self._margin
        for text, box in items:
            length = math.ceil(font.getlength(text)) + (size * 3 // 2 if box else 0)
            if x > self._margin and x + length > self._right:
                x, y = self._margin, y + size * 3 // 2
            self._placed.append((x, y, text, box, size, ink))
            x += length + gap
        self.height = y + size * 3 // 2 + size // 4 + self._margin

    def draw(self, draw: ImageDraw.ImageDraw, top: int) -> None:
        """Draw everything, the strip beginning at pixel row ``top``."""
        for x, y, text, box, size, ink in self._placed:
            middle = top + y + size * 3 // 4
            if box:
                draw.rectangle((x, middle - size // 2, x + size, middle + size // 2), box, _SOFT)
                x += size * 3 // 2
            draw.text((x, middle), text, ink, ImageFont.load_default(size=size), anchor="lm")
