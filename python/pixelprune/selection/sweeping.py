"""Sweeping: many settings on one image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .. import _core
from ..arguments import as_bool, shown
from ..arrays import as_pixels
from ..errors import PixelPruneError
from ..runtime import resolve
from ..spec import VisionSpec, as_spec
from .result import Indices
from .settings import CoreSettings, PruneSettings


class Swept(NamedTuple):
    """What one of the settings does to an image, see `sweep`.

    Attributes:
        kept: number of kept tokens.
        dropped_content: number of dropped tokens that are not of one colour, as in `Selection.dropped_content`.
        keep: with ``indices=True`` the indices of the kept tokens, int64 (kept,), ascending; otherwise None.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> pp.sweep(np.zeros((64, 64, 3), np.uint8), "qwen3_vl", [pp.PruneSettings()])
        [Swept(kept=1, dropped_content=0, keep=None)]
    """

    kept: int
    dropped_content: int
    keep: Indices | None = None


def sweep(
    image: Any,
    spec: VisionSpec | str,
    settings: Iterable[PruneSettings],
    *,
    indices: bool = False,
    threads: int | None = None,
    channels_first: bool = False,
) -> list[Swept]:
    """Count what each of many settings keeps of one image, faster than by calling `prune` for each.

    ``sweep(image, spec, settings)[i].kept`` equals ``prune(image, spec, settings=settings[i]).kept``. Distances between
    tokens are measured once for all settings of a metric, so another threshold or method costs little.

    Args:
        image: the pixels as the ViT will see them, as in `prune`. For an image of another size, or the file of one,
            call ``sweep(resize_image(load_image(file, alpha="white"), spec), spec, settings)``.
        spec: a `VisionSpec` or the name of a preset.
        settings: any number of `PruneSettings` whose method is a name; the same ones may occur twice.
        indices: whether to return the indices of the kept tokens, too.
        threads: as in `prune`.
        channels_first: as in `prune`.

    Returns:
        One `Swept` for each of the settings, in order.

    Raises:
        PixelPruneError: as in `prune`; a method that is a function.
        TypeError: as in `prune`; something else than a `PruneSettings` among the settings.
        OSError: a file can't be read.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((1088, 1920, 3), 255, np.uint8)
        >>> page[320:640, 320:640] = 250
        >>> settings = [pp.PruneSettings(threshold=threshold) for threshold in (0, 0.01, 0.02)]
        >>> [swept.kept for swept in pp.sweep(page, "qwen3_vl", settings)]
        [4, 4, 1]
        >>> pp.sweep(page, "qwen3_vl", settings[:1], indices=True)[0].keep
        array([   0,  610,  620, 1210])
    """
    spec = as_spec(spec)
    pixels = as_pixels(image, channels_first is not False and as_bool(channels_first, "channels_first"))
    given = [_core_settings(i, one) for i, one in enumerate(_listed(settings))]
    indices = as_bool(indices, "indices")
    outcomes = _core.sweep(pixels, spec.token_size, given, resolve(threads))
    return [Swept(len(keep), content, keep if indices else None) for keep, content in outcomes]


def _listed(settings: object) -> Iterable[object]:
    if isinstance(settings, PruneSettings) or not isinstance(settings, Iterable):
        raise TypeError(f"settings is {shown(settings)}; expected a list of PruneSettings")
    return settings


def _core_settings(i: int, settings: object) -> CoreSettings:
    if not isinstance(settings, PruneSettings):
        raise TypeError(f"settings[{i}] is {shown(settings)}; expected a PruneSettings")
    if callable(settings.method):
        raise PixelPruneError(
            f"settings[{i}] has a function as its method; expected a name (call prune for {shown(settings.method)})"
        )
    return settings.core
