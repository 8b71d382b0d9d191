"""The functions of the published PixelPrune package, for code that was written for it.

Only the import has to change::

    from pixelprune.compat import compute_merged_keep_indices, merged_indices_to_patch_indices

Arguments, method names and environment variables are those of github.com/OPPO-Mente-Lab/PixelPrune 1.0.0,
arguments and results are tensors, and ``pred_2d``, ``raster`` and ``serpentine`` keep the same tokens. Unlike
`prune_pixel_values`, these functions compare the columns unchanged: all of them, including every temporal copy,
on their own scale. Differences from the published code:

* Grids of more than one frame: each frame is pruned as a grid of its own. The published code fails or mixes frames.
* ``random`` and ``conncomp`` keep the same number of tokens but draw different ones, and a seed does not reset the
  random generators of torch and Python. ``conncomp`` spaces tokens evenly in integers, where torch's float32
  ``linspace`` sometimes selects the member before.
* ``mae`` and ``rmse`` are summed in float64, so a distance within rounding error of the threshold can fall on its
  other side. In float16 and bfloat16 torch rounds every step, which is reproduced for ``max`` only.
* NaN, infinity, a negative threshold and shapes that do not match are errors. So is float64, because comparing it in
  float32 could make different values equal.
* Selectors can't be registered; `prune_pixel_values` takes a function as its ``method``.

torch is imported when a function is first called.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from . import _core
from .arguments import as_bool, as_float, as_int, one_of, shown, text_of
from .arrays import as_pixel_values
from .errors import PixelPruneError, PixelPruneWarning
from .runtime import resolve
from .selection.pruning import ValuesFormat, check_grids
from .selection.settings import CoreSettings, check_settings
from .spec import VisionSpec

if TYPE_CHECKING:
    from torch import Tensor  # type: ignore[import-not-found, unused-ignore]

_METHODS = {
    "pred_2d": ("pred_2d", "pred_2d_loco", "loco", "loco_i", "pred_loco", "pixelprune"),
    "raster": ("raster", "rle", "rle_1d", "pixel_rle", "pixelrle"),
    "serpentine": ("serpentine", "rle_1d_zig", "rle_zigzag", "zigzag", "rle_zig"),
    "random": ("random", "rand", "random_baseline"),
    "conncomp": ("conncomp", "showui", "connected_components", "cc"),
    "either": ("either",),
    "unique": ("unique",),
}
_METRICS = ("max", "mae", "rmse", "exact")
_BASELINES = ("random", "conncomp")
_MOST_PATCHES = 64**2
_OPTIONS = ("anchored", "seed", "skip_ratio", "rand", "align_compression")


def compute_merged_keep_indices(
    pixel_values: Tensor,
    image_grid_thw: Tensor | Sequence[Sequence[int]],
    spatial_merge_size: int = 2,
    method: str | None = None,
    metric: str | None = None,
    threshold: float | None = None,
    **kwargs: Any,
) -> list[Tensor]:
    """Choose the tokens to keep of every image, as the published function does.

    An argument left at None is read from the environment: PIXELPRUNE_METHOD (``pred_2d``), PIXELPRUNE_METRIC
    (``max``), PIXELPRUNE_THRESHOLD (0).

    Args:
        pixel_values: (patches of all images, values of a patch), the patches of a token side by side;
            float32, float16 or bfloat16, or uint8 at threshold 0. Not copied if it is contiguous in
            CPU memory, otherwise copied once.
        image_grid_thw: (images, 3) integers: frames, rows and columns of each image in patches.
        spatial_merge_size: a token is that many patches wide and high.
        method: ``"pred_2d"``, ``"raster"``, ``"serpentine"``, ``"random"``, ``"conncomp"`` or one of their
            published aliases, ignoring case; or ``"either"`` or ``"unique"``.
        metric: ``"max"``, ``"mae"``, ``"rmse"``, or ``"exact"``: equality, whatever the threshold.
        threshold: the largest distance that counts as similar, on the scale of ``pixel_values`` and rounded
            to their dtype, as torch does; it may be above 1.
        **kwargs: each is read from the environment if it is not passed:

            * ``anchored`` (PIXELPRUNE_ANCHORED, true): closed loop. ``raster`` and ``serpentine`` are always in
              closed loop; the baselines, which keep as many tokens as ``pred_2d``, read the variable only.
            * ``seed`` (PIXELPRUNE_SEED, 42) of ``random`` and ``conncomp``. If the variable is ``none``,
              ``false``, ``0`` or empty, the draws differ every time; they come from torch's generator.
            * ``align_compression`` (PIXELPRUNE_CONNCOMP_ALIGN, true): ``conncomp`` keeps as many tokens as
              ``pred_2d``; otherwise it drops ``skip_ratio`` (PIXELPRUNE_CONNCOMP_SKIP_RATIO, 0) of each component.
            * ``rand`` (PIXELPRUNE_CONNCOMP_RAND, true): ``conncomp`` keeps a random sample of each component
              instead of evenly spaced members.

    Returns:
        One tensor per image: int64 (kept,), token indices of that image, ascending, on the device of
        ``pixel_values``.

    Raises:
        PixelPruneError: an unknown name, an invalid number or variable, shapes that do not match, NaN or infinity
            among the values.
        TypeError: an argument of the wrong type; a dtype of ``pixel_values`` that is not listed above.
        ImportError: torch is not installed.

    Warns:
        PixelPruneWarning: ``kwargs`` that are not listed above; they are ignored.

    Example:
        >>> import torch
        >>> from pixelprune.compat import compute_merged_keep_indices
        >>> pixel_values = torch.zeros(16, 1536)
        >>> pixel_values[12:] = 0.5
        >>> compute_merged_keep_indices(pixel_values, torch.tensor([[1, 4, 4]]))
        [tensor([0, 3])]
    """
    torch = _import_torch()
    if not isinstance(pixel_values, torch.Tensor):
        raise TypeError(f"pixel_values is a {type(pixel_values).__name__}; expected a torch tensor")
    if unknown := sorted(kwargs.keys() - set(_OPTIONS)):
        warnings.warn(
            f"ignored: {', '.join(unknown)}; expected none but {', '.join(_OPTIONS)}",
            PixelPruneWarning,
            stacklevel=2,
        )
    options = {name: kwargs.get(name) for name in _OPTIONS}

    name = _method(os.environ.get("PIXELPRUNE_METHOD", "pred_2d") if method is None else method)
    metric = os.environ.get("PIXELPRUNE_METRIC", "max") if metric is None else metric
    metric = one_of(metric, "metric", _METRICS)
    if threshold is None:
        threshold = _number("PIXELPRUNE_THRESHOLD", os.environ.get("PIXELPRUNE_THRESHOLD") or "0")
    if metric == "exact":
        metric, threshold = "max", 0.0
    anchored = _flag("anchored", "PIXELPRUNE_ANCHORED", None if name in _BASELINES else options["anchored"])
    if name in ("raster", "serpentine"):
        anchored = True
    seed = _seed(torch, options["seed"]) if name in _BASELINES else 0
    sampled, skip = True, None
    if name == "conncomp":
        sampled = _flag("rand", "PIXELPRUNE_CONNCOMP_RAND", options["rand"])
        if not _flag("align_compression", "PIXELPRUNE_CONNCOMP_ALIGN", options["align_compression"]):
            skip = _skip_ratio(options["skip_ratio"])

    _, _, threshold, anchored, seed, protect = check_settings(name, metric, threshold, anchored, seed)
    limit, scale = _limit(torch, threshold, pixel_values.dtype)
    tokens = VisionSpec(patch_size=1, merge_size=spatial_merge_size)
    values, bfloat = as_pixel_values(_patches(pixel_values))
    rows = image_grid_thw.cpu() if isinstance(image_grid_thw, torch.Tensor) else image_grid_thw
    grids = check_grids(rows, tokens, len(values))
    columns = values.shape[1]
    scales, offsets = [scale] * columns, [0.0] * columns
    runs, channels = [(0, columns)], [(0, columns, 1, scale, 0.0)]
    every_column = ValuesFormat("block", spatial_merge_size, columns, runs, scales, offsets, channels, False, bfloat)
    settings = CoreSettings(name, metric, limit * scale, anchored, seed, protect)
    selected = _core.prune_pixel_values(
        values, grids, every_column, settings, resolve(None), sampled=sampled, skip=skip
    )
    return [torch.from_numpy(keep).to(pixel_values.device) for keep, _ in selected]


def merged_indices_to_patch_indices(
    merged_indices_list: Sequence[Tensor], block_size: int, device: Any
) -> list[Tensor]:
    """Return the rows of ``pixel_values`` that belong to kept tokens, as the published function does.

    Args:
        merged_indices_list: token indices, one tensor per image: what `compute_merged_keep_indices` returns.
        block_size: patches per token: ``spatial_merge_size ** 2``.
        device: device of the results.

    Returns:
        One tensor per image: int64 (tokens * block_size,), in the order of the tokens, counted from the
        image's own first row.

    Raises:
        PixelPruneError: ``block_size`` is below 1 or above 4096, the indices of an image are not one-dimensional,
            or there is no such device.
        TypeError: ``block_size`` is not an integer, or ``merged_indices_list`` is not a list of token indices.
        ImportError: torch is not installed.

    Example:
        >>> import torch
        >>> from pixelprune.compat import merged_indices_to_patch_indices
        >>> merged_indices_to_patch_indices([torch.tensor([0, 2])], 4, torch.device("cpu"))
        [tensor([ 0,  1,  2,  3,  8,  9, 10, 11])]
    """
    torch = _import_torch()
    block_size = as_int(block_size, "block_size", "an integer number of patches in a token")
    if not 1 <= block_size <= _MOST_PATCHES:
        raise PixelPruneError(
            f"block_size is {shown(block_size)}; expected from 1 to {_MOST_PATCHES} patches in a token"
        )
    if not isinstance(merged_indices_list, (list, tuple)):
        raise TypeError(f"merged_indices_list is a {type(merged_indices_list).__name__}; expected a list of tensors")
    try:
        inside = torch.arange(block_size, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise PixelPruneError(f"device is {shown(device)}: {text_of(error)}; expected a device of torch") from None
    indices = []
    for i, merged in enumerate(merged_indices_list):
        try:
            tokens = torch.as_tensor(merged, dtype=torch.long, device=device)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"merged_indices_list[{i}]: {text_of(error)}; expected integer token indices") from None
        if tokens.ndim != 1:
            raise PixelPruneError(f"merged_indices_list[{i}] has shape {tuple(tokens.shape)}; expected (tokens,)")
        indices.append((tokens[:, None] * block_size + inside).flatten())
    return indices


def apply_pixelprune(model: str = "qwen3_vl", backend: str = "hf") -> NoReturn:
    """Raise an error: this package does not patch classes.

    Args:
        model: ignored.
        backend: ignored.

    Raises:
        PixelPruneError: always; the message says what to use instead.

    Example:
        >>> from pixelprune.compat import apply_pixelprune
        >>> apply_pixelprune()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        pixelprune.errors.PixelPruneError: apply_pixelprune would patch classes of transformers or vLLM, ...
    """
    raise PixelPruneError(
        "apply_pixelprune would patch classes of transformers or vLLM, which pixelprune does not do; use "
        "compute_merged_keep_indices(pixel_values, image_grid_thw), or pixelprune.prune_pixel_values and the "
        "selections' patch_indices(), and drop the other patches before the model is called"
    )


def _import_torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise ImportError(
            "pixelprune.compat needs torch, which can't be imported; install it, or use "
            "pixelprune.prune_pixel_values, which needs numpy only"
        ) from error


def _method(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"method is {shown(name)}; expected a name")
    for method, names in _METHODS.items():
        if name.lower() in names:
            return method
    known = ", ".join(known for names in _METHODS.values() for known in names)
    raise PixelPruneError(f"method is {shown(name)}; expected one of {known}")


def _flag(name: str, variable: str, given: Any) -> bool:
    if given is None:
        return os.environ.get(variable, "true").lower() in ("true", "1", "yes")
    return bool(given) if type(given) is int and given in (0, 1) else as_bool(given, name)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PixelPruneError(f"{name} is {shown(text)}; expected a number") from None


def _seed(torch: Any, given: int | None) -> int:
    if given is not None:
        return given
    text = os.environ.get("PIXELPRUNE_SEED", "42")
    if text.lower() in ("none", "false", "0", ""):
        return int(torch.randint(2**62, ()))
    try:
        return int(text)
    except ValueError:
        raise PixelPruneError(f"PIXELPRUNE_SEED is {shown(text)}; expected an integer, or none") from None


def _skip_ratio(given: float | None) -> float:
    variable = "PIXELPRUNE_CONNCOMP_SKIP_RATIO"
    if given is None:
        skip = _number(variable, os.environ.get(variable, "0.0"))
    else:
        skip = as_float(given, "skip_ratio", "a number from 0 to 1")
    if not 0 <= skip <= 1:
        raise PixelPruneError(f"skip_ratio is {skip}; expected from 0 to 1")
    return skip


def _patches(pixel_values: Any) -> Any:
    """Return the values as (patches, values) in CPU memory."""
    if pixel_values.ndim < 2:
        raise PixelPruneError(
            f"pixel_values has shape {tuple(pixel_values.shape)}; expected (patches, values of a patch)"
        )
    try:
        return pixel_values.cpu().flatten(0, -2)
    except (RuntimeError, NotImplementedError) as error:
        raise TypeError(f"pixel_values can't be read: {text_of(error)}; expected a dense tensor") from None


def _limit(torch: Any, threshold: float, dtype: Any) -> tuple[float, float]:
    """Return the largest float32 distance that torch counts as within ``threshold``, and a scale for it and the values.

    torch rounds distance and threshold to the dtype of the values. The scale is a power of two, which changes
    no comparison; it brings thresholds above 1 into the range that the core takes.
    """
    if dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.uint8):
        raise TypeError(
            f"pixel_values has dtype {dtype}; expected float32, float16, bfloat16 or uint8: use .float() (it "
            "makes float64 values equal that differ in their last digits only)"
        )
    if threshold == 0:
        return 0.0, 1.0
    if dtype == torch.uint8:
        raise PixelPruneError(
            f"threshold is {threshold}, but uint8 pixel_values are compared for equality only; expected 0 "
            "(or use .float() and a threshold on the scale of 0 to 255)"
        )
    limit = torch.tensor(threshold, dtype=dtype)
    if dtype != torch.float32:
        # A distance half way to the next value is rounded to the one with even bits.
        bits = limit.view(torch.int16)
        limit = (limit.float() + (bits + 1).view(dtype).float()) / 2
        if bits % 2:
            limit = torch.nextafter(limit, torch.zeros(()))
    limit = float(limit)
    if not 0 <= limit < math.inf:
        raise PixelPruneError(f"threshold is {threshold}; expected at least 0 and finite in {dtype}")
    return limit, 2.0 ** -max(0, math.frexp(limit)[1])
