"""Points that a model gives, and the boxes that they have to be in (ScreenSpot v2, ScreenSpot-Pro)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ...errors import PixelPruneError
from .rules import Rules

Points = Literal["harness", "thousand", "seen"]
POINTS: tuple[Points, ...] = ("harness", "thousand", "seen")
"""What a model's coordinates are: as the harness takes them, thousandths, or pixels of the image as it sees it."""

_NUMBER = r"-?\d+(?:\.\d+)?%?"
_TAGGED_BOX = re.compile(r"<\s*bbox[^>]*>(.*?)<\s*/\s*bbox\s*>", re.IGNORECASE | re.DOTALL)
_PAIR = re.compile(rf"[\[(]\s*({_NUMBER})\s*(?:,|\s)\s*({_NUMBER})\s*[\])]")
_NAMED = re.compile(
    rf"['\"]?x['\"]?\s*[:=]\s*({_NUMBER}).*?['\"]?y['\"]?\s*[:=]\s*({_NUMBER})", re.IGNORECASE | re.DOTALL
)
_CLICK = re.compile(r"x=([\d.]+), y=([\d.]+)")


class Box(NamedTuple):
    """A box in fractions of the image's width and height; its edges belong to it.

    Example:
        >>> from pixelprune.evaluate.metrics import Box
        >>> Box.of([42, 1102, 197, 70], (1000, 2000), "xywh", "vlmevalkit")
        Box(left=0.042, top=0.551, right=0.238, bottom=0.5855)
    """

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(
        cls,
        numbers: Sequence[float],
        size: tuple[int, int],
        form: Literal["xywh", "xyxy", "guess"],
        rules: Rules = "lmms-eval",
    ) -> Box:
        """Return the box of a row.

        Args:
            numbers: the four of the row.
            size: (width, height) of the image in pixels.
            form: ``"xywh"``: corner and size (ScreenSpot v2); ``"xyxy"``: two corners (ScreenSpot-Pro);
                ``"guess"``: what lmms-eval makes of rows of ScreenSpot v2: fractions if all four are within [0, 1],
                two corners if the second is to the right and below the first, corner and size otherwise.
            rules: whose. VLMEvalKit's box of a corner and a size ends one pixel earlier, its boxes are always
                pixels, and it takes -1 for 0.

        Raises:
            PixelPruneError: there are not four numbers; a box of VLMEvalKit's that leaves the image.
        """
        if len(numbers) != 4:
            raise PixelPruneError(f"the box has {len(numbers)} numbers; expected 4")
        left, top, third, fourth = map(float, numbers)
        width, height = size
        if rules == "lmms-eval":
            if form == "guess":
                if left >= 0 and top >= 0 and left <= third <= 1 and top <= fourth <= 1:
                    return cls(left, top, third, fourth)
                form = "xyxy" if third > left and fourth > top else "xywh"
            elif form == "xyxy" and third <= 1 and fourth <= 1:
                return cls(left, top, third, fourth)
            if form == "xywh":
                third, fourth = left + third, top + fourth
            return cls(left / width, top / height, third / width, fourth / height)
        if form != "xyxy":
            third, fourth = left + third - 1, top + fourth - 1
        left, top, third, fourth = (0 if value == -1 else value for value in (left, top, third, fourth))
        box = cls(left / width, top / height, third / width, fourth / height)
        if min(box) < 0 or max(box) > 1:
            raise PixelPruneError(f"the box {list(numbers)} leaves the image of {width} x {height} pixels")
        return box


def point_of(
    prediction: str,
    size: tuple[int, int],
    rules: Rules = "lmms-eval",
    points: Points = "harness",
    seen: tuple[int, int] | None = None,
) -> tuple[float, float] | None:
    """Return the point that an answer names, as fractions of the image's width and height, or None.

    lmms-eval takes the middle of a tagged box, a pair in brackets, ``x: .. y: ..``, the middle of four numbers of an
    answer that speaks of a box, or the first two numbers. VLMEvalKit takes ``x=.., y=..``, and (0, 0) without it.

    Args:
        prediction: the model's answer.
        size: (width, height) of the image in pixels.
        rules: whose.
        points: ``"harness"``: fractions, and pixels of the image if one is above 1; ``"thousand"``: from 0 to 999 or
            1000, as Qwen3-VL gives them; ``"seen"``: pixels of the image as the model sees it, as Qwen2.5-VL does.
        seen: (width, height) of that image, for ``"seen"``.

    Example:
        >>> from pixelprune.evaluate.metrics import point_of
        >>> point_of("[0.5, 0.25]", (1920, 1080)), point_of("click (960, 270)", (1920, 1080))
        ((0.5, 0.25), (0.5, 0.25))
        >>> point_of('{"coordinate": [500, 250]}', (1920, 1080), points="thousand")
        (0.5, 0.25)
        >>> point_of("no idea", (1920, 1080)), point_of("no idea", (1920, 1080), "vlmevalkit")
        (None, (0.0, 0.0))
    """
    found = _any_point(prediction) if rules == "lmms-eval" else _click(prediction)
    if found is None:
        return None
    x, y = found
    if points == "thousand":
        return x / 1000, y / 1000
    if points == "seen":
        if seen is None:
            raise PixelPruneError("points is 'seen', and the size that the model sees is not known")
        return x / seen[0], y / seen[1]
    return (x / size[0], y / size[1]) if x > 1 or y > 1 else (x, y)


def hits(point: tuple[float, float] | None, box: Box) -> float:
    """Return 1 if a point is in a box, its edges included.

    Args:
        point: as `point_of` returns it.
        box: the box.

    Example:
        >>> from pixelprune.evaluate.metrics import Box, hits
        >>> hits((0.5, 0.5), Box(0.5, 0.25, 1, 0.5)), hits(None, Box(0, 0, 1, 1))
        (1.0, 0.0)
    """
    return float(point is not None and box.left <= point[0] <= box.right and box.top <= point[1] <= box.bottom)


def _any_point(prediction: str) -> tuple[float, float] | None:
    tagged = _TAGGED_BOX.search(prediction)
    corners = re.findall(_NUMBER, tagged[1]) if tagged else []
    if len(corners) >= 4:
        return _middle(corners)
    for pattern in (_PAIR, _NAMED):
        found = pattern.search(prediction)
        if found:
            return _value(found[1]), _value(found[2])
    numbers = re.findall(_NUMBER, prediction)
    if len(numbers) >= 4 and any(word in prediction.lower() for word in ("box", "rect")):
        return _middle(numbers)
    return (_value(numbers[0]), _value(numbers[1])) if len(numbers) >= 2 else None


def _middle(numbers: Sequence[str]) -> tuple[float, float]:
    left, top, right, bottom = map(_value, numbers[:4])
    return (left + right) / 2, (top + bottom) / 2


def _value(number: str) -> float:
    return float(number[:-1]) / 100 if number.endswith("%") else float(number)


def _click(prediction: str) -> tuple[float, float] | None:
    found = _CLICK.search(prediction)
    if found is None:
        return 0.0, 0.0
    try:
        return float(found[1]), float(found[2])
    except ValueError:  # a number such as 1.2.3
        return None
