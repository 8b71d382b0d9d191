"""What pruning would do to an image, by every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, get_args

from ..arrays import as_pixels
from ..spec import VisionSpec, as_spec
from .pruning import prune
from .settings import MethodName

TARGET = 0.9
"""The share of tokens that `Analysis.least_k` asks for."""

_BASELINES = ("random", "conncomp")

Figure = TypeVar("Figure")


class _Frozen(dict[str, Figure]):
    """An immutable dict. Unlike a mapping proxy it works with `dataclasses.asdict`, `copy.deepcopy` and `json`."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the figures of an Analysis can't be changed; make a copy with dict(...)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Frozen, (dict(self),)


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found.

    Attributes:
        tokens: tokens of the image.
        unique: share of tokens that are pixel-distinct (the paper's "pixel-unique"), in (0, 1].
        retained: for every method the share of tokens that it keeps at threshold 0, in (0, 1].
        least_k: for every method the least k, from 0 to 255, at which a threshold of k/255 (metric ``"max"``,
            closed loop) retains at most 0.9 of the tokens; None if there is none.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        >>> pp.analyze(noise, "qwen3_vl").retained["pred_2d"]
        1.0
    """

    tokens: int
    unique: float
    retained: Mapping[str, float]
    least_k: Mapping[str, int | None]

    def __hash__(self) -> int:
        return hash((self.tokens, self.unique, *self.retained.items(), *self.least_k.items()))


def analyze(image: Any, spec: VisionSpec | str) -> Analysis:
    """Tell how much of an image every method would keep.

    The baselines keep as many tokens as ``"pred_2d"`` by definition; ``"unique"`` knows threshold 0 only.

    Args:
        image: as in `prune`.
        spec: a `VisionSpec` or the name of a preset.

    Raises:
        PixelPruneError: as in `prune`.
        TypeError: as in `prune`.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((64, 96, 3), 255, np.uint8)
        >>> found = pp.analyze(page, "qwen3_vl")
        >>> round(found.unique, 3), found.least_k["pred_2d"]
        (0.167, 0)
    """
    spec = as_spec(spec)
    pixels = as_pixels(image)
    retained: dict[str, float] = {}
    least_k: dict[str, int | None] = {}
    tokens = 0
    for method in get_args(MethodName):
        if method in _BASELINES:
            retained[method], least_k[method] = retained["pred_2d"], least_k["pred_2d"]
            continue
        selection = prune(pixels, spec, method=method)
        tokens, retained[method], least_k[method] = selection.total, selection.retained, None
        # Every k in turn: the share need not fall from one k to the next.
        for k in range(1 if method == "unique" else 256):
            share = retained[method] if k == 0 else prune(pixels, spec, method=method, threshold=k / 255).retained
            if share <= TARGET:
                least_k[method] = k
                break
    return Analysis(tokens, retained["unique"], _Frozen(retained), _Frozen(least_k))
