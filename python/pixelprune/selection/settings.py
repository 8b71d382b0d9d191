"""The settings that every pruning function takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..arguments import as_bool, as_float, as_int, attribute, shown
from ..errors import PixelPruneError

if TYPE_CHECKING:
    from typing_extensions import Unpack

Plane: TypeAlias = NDArray[np.bool_]
MethodName = Literal["pred_2d", "raster", "serpentine", "either", "unique", "random", "conncomp"]
MethodFunction = Callable[[Plane, Plane], "Plane | tuple[Plane, NDArray[Any]]"]
Method = MethodName | MethodFunction
Metric = Literal["max", "mae", "rmse"]
Protect = Literal["nothing", "content"]

_LONGEST_NAME = 20
"""Length limit for a name."""


class CoreSettings(NamedTuple):
    """Settings in the types that the core takes; a method function is represented by its name."""

    method: str
    metric: str
    threshold: float
    anchored: bool
    seed: int
    protect: str


class PruneOptions(TypedDict, total=False):
    """The fields of `PruneSettings` as keyword arguments."""

    method: Method
    metric: Metric
    threshold: float
    anchored: bool
    seed: int
    protect: Protect


def check_settings(
    method: object, metric: object, threshold: Any, anchored: object, seed: Any, protect: object = "nothing"
) -> CoreSettings:
    """Return the settings in the types that the core takes. The core checks names and ranges."""
    if isinstance(method, str):
        method = _name(method, "method")
    elif callable(method):
        name = attribute(method, "__name__")
        method = name if type(name) is str else type(method).__name__
    else:
        raise TypeError(f"method is {shown(method)}; expected a name or a function of two bool planes")
    if not isinstance(metric, str):
        raise TypeError(f"metric is {shown(metric)}; expected 'max', 'mae' or 'rmse'")
    metric = _name(metric, "metric")
    if type(threshold) is not float:
        threshold = as_float(threshold, "threshold", "a number from 0 to 1")
    if type(anchored) is not bool:
        anchored = as_bool(anchored, "anchored")
    if type(seed) is not int:
        seed = as_int(seed, "seed", "an integer")
    if not isinstance(protect, str):
        raise TypeError(f"protect is {shown(protect)}; expected 'nothing' or 'content'")
    protect = _name(protect, "protect")
    return CoreSettings(method, metric, threshold, anchored, seed & 0xFFFF_FFFF_FFFF_FFFF, protect)


def _name(name: str, argument: str) -> str:
    """Return a plain string that the core can read; refuse what can't be a known name."""
    name = str.__str__(name)
    if not name.isascii() or len(name) > _LONGEST_NAME:
        raise PixelPruneError(f"{argument} is {shown(name)}, which is not a known name")
    return name


FIELDS = frozenset(PruneOptions.__annotations__)


@dataclass(frozen=True, init=False)
class PruneSettings:
    """How tokens are chosen. Every pruning function takes one as ``settings``, or its fields as keywords.

    Immutable, hashable, compared by value, and checked when it is created. It can be pickled if its ``method`` can.

    Attributes:
        method: ``"pred_2d"`` (PixelPrune, arXiv 2604.00886, after the predictor of ITU-T T.87), ``"raster"``,
            ``"serpentine"``, ``"either"``, ``"unique"``, the baselines ``"random"`` and ``"conncomp"``, or a
            function ``f(same_left, same_up)``. Its arguments are bool (rows, columns): whether a token
            is similar to its left and to its upper neighbour. It returns the keep mask, bool (rows, columns), or a
            tuple of the mask and the source of every token (an index within the frame).
        metric: the distance between two tokens: ``"max"``, ``"mae"`` or ``"rmse"`` of their differences.
        threshold: tau, the largest distance that counts as similar, as a fraction of full scale; 0 is lossless.
        anchored: True: closed loop: predict from what a decoder would have, so that no dropped token is further
            than tau from its source. False: open loop: predict from the original pixels; errors can accumulate.
        seed: random seed of the baselines; only the low 64 bits are used.
        protect: ``"nothing"``: the published method. ``"content"``: a token is dropped only if it is of one colour,
            too: in each channel its smallest and largest values are at most ``threshold`` apart. Whatever the method
            says, text, lines and texture are kept, also where they repeat. Applies to every method, functions
            included; the baselines keep as many tokens as ``"pred_2d"`` does with it.

    Raises:
        PixelPruneError: an unknown name, a number out of range, or a combination that is not supported.
        TypeError: a value of the wrong type.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> settings = pp.PruneSettings(threshold=0.02)
        >>> settings
        PruneSettings(method='pred_2d', metric='max', threshold=0.02, anchored=True, seed=42, protect='nothing')
        >>> page = np.full((64, 96, 3), 255, np.uint8)
        >>> pp.prune(page, "qwen3_vl", settings=settings) == pp.prune(page, "qwen3_vl", threshold=0.02)
        True
    """

    method: Method
    metric: Metric
    threshold: float
    anchored: bool
    seed: int
    protect: Protect

    def __init__(
        self,
        *,
        method: Method = "pred_2d",
        metric: Metric = "max",
        threshold: float = 0.0,
        anchored: bool = True,
        seed: int = 42,
        protect: Protect = "nothing",
    ) -> None:
        core = check_settings(method, metric, threshold, anchored, seed, protect)
        is_name = isinstance(method, str)
        _core.check_settings(core if is_name else core._replace(method="pred_2d"))
        name, metric, threshold, anchored, seed, protect = core  # type: ignore[assignment]
        self.__dict__.update(
            method=name if is_name else method,
            metric=metric,
            threshold=threshold,
            anchored=anchored,
            seed=seed,
            protect=protect,
            core=core,
        )

    if TYPE_CHECKING:

        @property
        def core(self) -> CoreSettings:
            """The settings in the types that the core takes."""

    def replace(self, **changes: Unpack[PruneOptions]) -> PruneSettings:
        """Return a copy with some fields changed.

        Args:
            changes: fields and their new values.

        Raises:
            PixelPruneError: as in `PruneSettings`.
            TypeError: as in `PruneSettings`; a field that does not exist.

        Example:
            >>> import pixelprune as pp
            >>> pp.PruneSettings(threshold=0.02).replace(metric="mae").threshold
            0.02
        """
        if not FIELDS.issuperset(changes):
            raise _unknown(changes, [])
        return replace(self, **changes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PruneOptions.__annotations__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


DEFAULT = PruneSettings()

_PLAIN = frozenset((str, float, int, bool))


@lru_cache(maxsize=128, typed=True)
def _made(**options: Any) -> PruneSettings:
    """Cached: most programs use few settings, and creating one takes as long as pruning a small image."""
    return PruneSettings(**options)


def settings_of(
    settings: PruneSettings | None, options: Mapping[str, Any], own: PruneSettings | None = None
) -> PruneSettings:
    """Return the settings of a call, passed as one object or as keywords.

    The keywords replace fields of ``own``, if there are such settings and no object is passed.

    Raises:
        TypeError: both are passed, ``settings`` is of another type, or the calling function does not know a keyword.
        PixelPruneError: as in `PruneSettings`.
    """
    if settings is None and own is not None:
        return own.replace(**options)
    if options:
        if not FIELDS.issuperset(options):
            code = sys._getframe(1).f_code
            known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            raise _unknown(options, [name for name in known if name not in ("self", "cls")])
        if settings is not None:
            raise TypeError(
                f"settings is given, and {', '.join(options)} too; expected one or the other "
                "(settings.replace changes a field)"
            )
        plain = _PLAIN.issuperset(map(type, options.values()))
        return _made(**options) if plain else PruneSettings(**options)
    if settings is None:
        return DEFAULT
    if not isinstance(settings, PruneSettings):
        raise TypeError(f"settings is {shown(settings)}; expected a PruneSettings")
    return settings


def _unknown(options: Mapping[str, Any], known: list[str]) -> TypeError:
    names = ", ".join(shown(name) for name in options if name not in FIELDS)
    return TypeError(f"unknown keyword {names}; expected {', '.join([*known, *PruneOptions.__annotations__])}")
