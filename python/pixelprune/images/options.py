"""The arguments of `preprocess` that apply to every image, checked once."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from ..arguments import as_bool, shown
from ..errors import PixelPruneError
from ..selection.settings import PruneSettings
from ..spec import VisionSpec, as_spec
from .decode import Alpha, background_of

Resample = Literal["torchvision", "pillow", "pad", "none"]
DType = Literal["float32", "float16", "bfloat16", "uint8"]
Copies = Literal["repeat", "single"]

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),  # the bits: numpy has no bfloat16
    "uint8": np.dtype(np.uint8),
}
RESAMPLES = ("torchvision", "pillow", "pad", "none")


class PreprocessOptions(NamedTuple):
    """The checked arguments of `preprocess` that apply to every image. Made by `PreprocessOptions.checked`."""

    spec: VisionSpec
    settings: PruneSettings | None
    """How to prune; None keeps every token."""
    resample: Resample
    background: tuple[int, int, int] | None
    """The colour to composite transparent images onto; None drops alpha."""
    dtype: DType
    copies: Copies
    channels_first: bool | None
    """Whether arrays are (channels, height, width); None decides by the shape of each (`is_channels_first`)."""

    @classmethod
    def checked(
        cls,
        spec: VisionSpec | str,
        *,
        settings: PruneSettings,
        prune: bool,
        resample: Resample,
        alpha: Alpha,
        dtype: DType,
        copies: Copies,
        channels_first: bool | None,
    ) -> PreprocessOptions:
        """Check the arguments.

        Raises:
            PixelPruneError: a name or number is not among those that `preprocess` takes.
            TypeError: an argument of the wrong type.
        """
        spec = as_spec(spec)
        _check_options(spec, resample, dtype, copies)
        background = background_of(alpha)
        prune = as_bool(prune, "prune")
        if channels_first is not None:
            channels_first = as_bool(channels_first, "channels_first")
        return cls(spec, settings if prune else None, resample, background, dtype, copies, channels_first)


def _check_options(spec: VisionSpec, resample: object, dtype: object, copies: object) -> None:
    for name, value, allowed in (
        ("resample", resample, RESAMPLES),
        ("dtype", dtype, tuple(DTYPES)),
        ("copies", copies, ("repeat", "single")),
    ):
        if not isinstance(value, str):
            raise TypeError(f"{name} is {shown(value)}; expected one of {', '.join(map(repr, allowed))}")
        if value not in allowed:
            raise PixelPruneError(f"{name} is {shown(value)}; expected one of {', '.join(map(repr, allowed))}")
    if len(spec.mean) != 3:
        raise PixelPruneError(f"the spec has {len(spec.mean)} channels; expected 3: images are converted to RGB")
