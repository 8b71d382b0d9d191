"""The images of a selection: kept clear, dropped dimmed, and a scale whose colours are those shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune.cli.overlay import draw_heatmap, draw_overlay

SIDE = 32
MASK = np.array([[1, 0, 0, 1] + [0] * 9, [1, 1, 0, 0] + [1] * 9, [0] * 13], bool)
ROWS, COLS = MASK.shape


def selection(mask: Any = MASK, frames: int = 1) -> pp.Selection:
    grid = (frames, 2 * len(mask), 2 * mask.shape[1])
    return pp.Selection.from_keep(np.tile(mask.ravel(), frames), grid, "qwen3_vl")


def chequered() -> Image.Image:
    """Black and white in turn, so that a token's contrast can be read off any part of it."""
    y, x = np.mgrid[: ROWS * SIDE, : COLS * SIDE]
    return Image.fromarray((((x + y) % 2) * 255).astype(np.uint8)).convert("RGB")


def blobs() -> Image.Image:
    """White with a few black dots, so that kept tokens stand for one, for some and for many."""
    pixels = np.full((ROWS * SIDE, COLS * SIDE, 3), 255, np.uint8)
    pixels[[5, SIDE + 5, SIDE + 5], [9 * SIDE + 5, SIDE + 5, 5 * SIDE + 5]] = 0
    return Image.fromarray(pixels)


def inside(shown: Image.Image, row: int, col: int) -> Any:
    """A token without its rim, where a line may run."""
    top, left = row * SIDE, col * SIDE
    return np.asarray(shown)[top + 1 : top + SIDE - 1, left + 1 : left + SIDE - 1].astype(int)


def strip(shown: Image.Image, height: int = ROWS * SIDE) -> Any:
    return np.asarray(shown)[height:]


def test_kept_tokens_are_clear_and_dropped_ones_dimmed() -> None:
    image = chequered()
    shown = draw_overlay(image, selection())
    for row in range(ROWS):
        for col in range(COLS):
            token = inside(shown, row, col)
            contrast = int((token.max(axis=(0, 1)) - token.min(axis=(0, 1))).max())
            assert contrast > 200 if MASK[row, col] else contrast < 100
    assert image.tobytes() == chequered().tobytes()


def test_dropped_tokens_with_content_have_a_colour_of_their_own() -> None:
    chosen = selection(np.eye(3, 20, dtype=bool))
    flat = Image.new("RGB", (20 * SIDE, 3 * SIDE), "white")
    marked = flat.copy()
    marked.putpixel((2 * SIDE + 5, 5), (0, 0, 0))  # a dropped token
    marked.putpixel((5, 5), (0, 0, 0))  # a kept one
    before, after = (draw_overlay(image, chosen) for image in (flat, marked))
    for row, col in np.ndindex(3, 20):
        grey, now = inside(before, row, col)[-1, -1], inside(after, row, col)[-1, -1]
        assert np.array_equal(grey, now) == ((row, col) != (0, 2))
    red, green, blue = inside(after, 0, 2)[-1, -1]
    assert red > green > blue
    assert not np.array_equal(strip(before, 3 * SIDE), strip(after, 3 * SIDE))  # the legend names it


@pytest.mark.parametrize("axis", [0, 1])
def test_a_line_runs_where_kept_and_dropped_meet_and_nowhere_else(axis: int) -> None:
    along = np.array([1, 1, 0, 0, 1] * 3, bool)
    mask = np.tile(along, (15, 1)) if axis else np.tile(along[:, None], (1, 15))
    image = Image.new("RGB", (15 * SIDE, 15 * SIDE), "white")
    shown = np.asarray(draw_overlay(image, selection(mask)))[: 15 * SIDE]
    line = shown[7] if axis else shown[:, 7]
    kept, dropped, edge = line[1], line[2 * SIDE + 1], line[2 * SIDE]
    assert not np.array_equal(edge, kept)
    assert not np.array_equal(edge, dropped)
    meets = np.flatnonzero(np.diff(along.astype(int))) + 1
    assert np.flatnonzero((line == edge).all(axis=1)).tolist() == (meets * SIDE).tolist()


def test_an_image_narrower_than_its_caption_is_centred() -> None:
    image = Image.new("RGB", (64, 32), "black")
    shown = np.asarray(draw_overlay(image, selection(np.ones((1, 2), bool))))[:32]
    dark = (shown != 255).any(axis=(0, 2))
    assert np.flatnonzero(dark).tolist() == list(range(len(dark) // 2 - 32, len(dark) // 2 + 32))


def test_the_strip_holds_caption_and_legend() -> None:
    image = Image.new("RGB", (640, 96), "white")
    mask = np.ones((3, 20), bool)
    shown = draw_overlay(image, selection(mask), ["a caption"])
    bare = draw_overlay(image, selection(mask))
    assert shown.mode == "RGB"
    assert shown.width == bare.width == 640
    assert shown.height > bare.height > 96
    assert (strip(bare, 96) == 255).all(axis=-1).mean() > 0.8  # ink on paper
    assert (strip(bare, 96) == (38, 194, 108)).all(axis=-1).any()  # the colour of kept tokens


@pytest.mark.parametrize("width", [32, 320, 3200])
def test_a_long_caption_is_wrapped_inside_the_strip(width: int) -> None:
    image = Image.new("RGB", (width, 32), "white")
    chosen = selection(np.ones((1, width // 32), bool))
    heights = []
    for words in (1, 60, 120):
        shown = draw_overlay(image, chosen, ["title", " ".join(["caption"] * words)])
        heights.append(shown.height)
        ink = (strip(shown, 32) != 255).any(axis=(0, 2))
        assert not ink[:8].any()
        assert not ink[-8:].any()
    assert heights[0] < heights[1] < heights[2]


def test_any_text_can_be_a_caption() -> None:
    image = Image.new("RGB", (640, 32), "white")
    chosen = selection(np.ones((1, 20), bool))
    odd = draw_overlay(image, chosen, ["", "two\nlines\t\u00e9\u4e2d\U0001f600", "x" * 500])
    assert odd.width == 640


def test_a_no_break_space_looks_like_a_space_and_does_not_break() -> None:
    narrow = Image.new("RGB", (32, 32), "white")
    chosen = selection(np.ones((1, 1), bool))
    spaced, joined = (draw_overlay(narrow, chosen, [f"a{space}b"]) for space in " \u00a0")
    assert spaced.tobytes() == joined.tobytes()
    wrapped, unbroken = (draw_overlay(narrow, chosen, ["", space.join(["11111111"] * 8)]) for space in " \u00a0")
    assert wrapped.height > unbroken.height


def test_the_heat_map_colours_by_count_and_its_scale_shows_those_colours() -> None:
    image = blobs()
    chosen = pp.prune(image, "qwen3_vl")
    counts = np.bincount(chosen.source, minlength=chosen.total)
    shown = draw_heatmap(image, chosen)
    colours: dict[int, set[tuple[int, ...]]] = {}
    for token in chosen.keep.tolist():
        row, col = divmod(token, COLS)
        patch = np.asarray(shown)[row * SIDE + 9, col * SIDE + 9]
        colours.setdefault(int(counts[token]), set()).add(tuple(patch.tolist()))
    assert len(colours) >= 3
    assert all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == len(colours)
    scale = {tuple(colour) for colour in strip(shown).reshape(-1, 3).tolist()}
    for count in (1, int(counts.max())):
        assert colours[count] <= scale
    # Brightness falls as the count grows.
    brightness = [sum(next(iter(colours[count]))) for count in sorted(colours)]
    assert brightness == sorted(brightness, reverse=True)


def test_the_heat_map_dims_dropped_tokens_as_the_overlay_does() -> None:
    image = blobs()
    chosen = pp.prune(image, "qwen3_vl")
    heat, overlay = draw_heatmap(image, chosen), draw_overlay(image, chosen)
    for row, col in np.argwhere(~chosen.mask[0]):
        assert np.array_equal(inside(heat, row, col), inside(overlay, row, col))


def test_where_nothing_is_dropped_the_scale_has_one_step() -> None:
    noise = np.random.default_rng(5).integers(0, 256, (64, 640, 3), dtype=np.uint8)
    shown = draw_heatmap(Image.fromarray(noise), pp.prune(noise, "qwen3_vl"))
    assert shown.width == 640


@pytest.mark.parametrize("draw", [draw_overlay, draw_heatmap])
def test_a_selection_of_another_image_is_refused(draw: Any) -> None:
    with pytest.raises(pp.PixelPruneError, match=r"416 x 64 pixels, mode 'RGB'; expected 416 x 96"):
        draw(Image.new("RGB", (416, 64)), selection())
    with pytest.raises(pp.PixelPruneError, match="mode 'L'; expected 416 x 96, mode 'RGB'"):
        draw(Image.new("L", (416, 96)), selection())
    with pytest.raises(pp.PixelPruneError, match="the selection has 2 frames; expected 1"):
        draw(chequered(), selection(frames=2))


@pytest.mark.parametrize("draw", [draw_overlay, draw_heatmap])
def test_arguments_of_another_type_are_refused(draw: Any) -> None:
    image = blobs()
    chosen = pp.prune(image, "qwen3_vl")
    for wrong, message in (
        ((np.asarray(image), chosen), "image is a ndarray; expected a Pillow image"),
        (("page.png", chosen), "image is a str"),
        ((image, None), "selection is None; expected a Selection"),
        ((image, "page"), "selection is 'page'"),
        ((image, chosen, "one line"), "caption is 'one line'; expected a list of lines"),
        ((image, chosen, [5]), r"caption is \[5\]"),
        ((image, chosen, None), "caption is None"),
    ):
        with pytest.raises(TypeError, match=message):
            draw(*wrong)


def test_a_heat_map_needs_sources() -> None:
    with pytest.raises(pp.PixelPruneError, match="has no source"):
        draw_heatmap(chequered(), selection())
