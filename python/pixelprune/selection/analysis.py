"""How many tokens of an image each method keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, get_args

from ..arrays import as_pixels
from ..spec import VisionSpec, as_spec
from .pruning import prune
from .settings import MethodName

_BASELINES = ("random", "conncomp")
_Number = TypeVar("_Number", int, float)


class _Frozen(dict[str, _Number]):
    """An immutable dict. Unlike a mapping proxy it works with `dataclasses.asdict`, `copy.deepcopy` and `json`."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the figures of an Analysis can't be changed; make a copy with dict(...)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Frozen, (dict(self),)


@dataclass(frozen=True)
class Analysis:
    """The result of `analyze`.

    Attributes:
        tokens: number of tokens in the image.
        unique: number of different tokens over all tokens (the paper's "pixel-unique" share), in (0, 1].
        retained: for each method, the share of tokens that it keeps at threshold 0, in (0, 1].
        dropped_content: for each method but the baselines, how many of the tokens that it drops are not of one colour.
            With ``protect="content"`` it keeps them, too.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        >>> pp.analyze(noise, "qwen3_vl").retained["pred_2d"]
        1.0
    """

    tokens: int
    unique: float
    retained: Mapping[str, float]
    dropped_content: Mapping[str, int]

    def __hash__(self) -> int:
        return hash((self.tokens, self.unique, *self.retained.items(), *self.dropped_content.items()))


def analyze(image: Any, spec: VisionSpec | str) -> Analysis:
    """Return the share of an image's tokens that each method keeps at threshold 0.

    Takes little longer than five calls of `prune`: the two baselines keep as many tokens as ``"pred_2d"`` by
    definition, and are not run.

    Args:
        image: as in `prune`.
        spec: a `VisionSpec` or the name of a preset.

    Returns:
        An `Analysis`.

    Raises:
        PixelPruneError: as in `prune`.
        TypeError: as in `prune`.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((64, 96, 3), 255, np.uint8)
        >>> found = pp.analyze(page, "qwen3_vl")
        >>> found.tokens, round(found.unique, 3), round(found.retained["pred_2d"], 3)
        (6, 0.167, 0.167)
        >>> found.dropped_content["pred_2d"]
        0
    """
    spec = as_spec(spec)
    pixels = as_pixels(image)
    retained: dict[str, float] = {}
    dropped_content: dict[str, int] = {}
    tokens = 0
    for method in get_args(MethodName):
        if method in _BASELINES:
            retained[method] = retained["pred_2d"]
            continue
        selection = prune(pixels, spec, method=method)
        tokens, retained[method] = selection.total, selection.retained
        dropped_content[method] = len(selection.dropped_content(pixels))
    return Analysis(tokens, retained["unique"], _Frozen(retained), _Frozen(dropped_content))
