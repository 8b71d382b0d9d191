"""`VisionSpec`: what a model's image processor does to an image, as far as pruning depends on it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from ..arguments import as_float, as_int, attribute, one_of, shown
from ..errors import PixelPruneError
from .config import read_settings
from .names import PatchLayout, PatchOrder, ResizeRule

_HALF = (0.5, 0.5, 0.5)

MAX_PATCH_VALUES = 1 << 24
"""The most values in one patch."""

_LIMITS = {"mean": (-10.0, 10.0), "std": (1e-6, 10.0)}
"""Within these bounds the 256 levels stay distinct in float32, and un-normalising recovers them."""


@dataclass(frozen=True, kw_only=True)
class VisionSpec:
    """The geometry and value range of one model family's image input.

    Attributes:
        patch_size: side of a patch (one ViT input) in pixels.
        merge_size: a token is ``merge_size`` x ``merge_size`` patches.
        temporal_patch_size: frames in one patch; a still image is repeated as many times.
        patch_order: order of the rows of ``pixel_values``: ``"block"`` (the patches of a token side by
            side, tokens row-major; the Qwen family) or ``"raster"`` (all patches row-major).
        patch_layout: order of the values of one row: ``"ctpp"`` (channel, frame, y, x), ``"cpp"``
            (channel, y, x; one frame) or ``"ppc"`` (y, x, channel; one frame).
        flat_patches: whether a row of ``pixel_values`` is a vector. PaddleOCR-VL has its patches as images
            instead, so that its ``pixel_values`` is 4-D; False needs ``"cpp"`` (see `patch_shape`).
        min_pixels: images with fewer pixels are scaled up to this number.
        max_pixels: images with more pixels are scaled down to this number.
        resize_rule: how the size is chosen (`smart_resize`): ``"qwen"``, ``"glm"``, ``"paddleocr"`` or
            ``"glm_image"``. Two of them interpret the limits differently: with ``"glm"`` they count the pixels of
            all ``temporal_patch_size`` frames, with ``"glm_image"`` they are squares of a side.
        mean: per-channel mean that the processor subtracts from values in [0, 1]; from -10 to 10.
        std: per-channel standard deviation that the processor divides by; from 1e-6 to 10.

    Raises:
        PixelPruneError: a value is out of range, or the values contradict each other.

    Example:
        >>> import pixelprune as pp
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> spec.patch_size, spec.merge_size, spec.token_size
        (16, 2, 32)
    """

    patch_size: int
    merge_size: int
    temporal_patch_size: int = 2
    patch_order: PatchOrder = "block"
    patch_layout: PatchLayout = "ctpp"
    flat_patches: bool = True
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    resize_rule: ResizeRule = "qwen"
    mean: tuple[float, ...] = _HALF
    std: tuple[float, ...] = _HALF

    def __post_init__(self) -> None:
        for name, top in (
            ("patch_size", 1024),
            ("merge_size", 64),
            ("temporal_patch_size", 1024),
            ("min_pixels", 1 << 40),
            ("max_pixels", 1 << 40),
        ):
            expected = f"an integer from 1 to {top}"
            value = getattr(self, name)
            try:
                number = as_int(value, name, expected)
            except TypeError as error:
                raise PixelPruneError(str(error)) from None
            if not 1 <= number <= top:
                raise PixelPruneError(f"{name} is {shown(value)}; expected {expected}")
            object.__setattr__(self, name, number)
        for name, allowed in (
            ("patch_order", get_args(PatchOrder)),
            ("patch_layout", get_args(PatchLayout)),
            ("resize_rule", get_args(ResizeRule)),
        ):
            object.__setattr__(self, name, one_of(getattr(self, name), name, allowed))
        if not isinstance(self.flat_patches, bool):
            raise PixelPruneError(f"flat_patches is {shown(self.flat_patches)}; expected True or False")
        if self.patch_layout != "ctpp" and self.temporal_patch_size != 1:
            raise PixelPruneError(
                f"patch_layout {self.patch_layout!r} holds one frame, "
                f"but temporal_patch_size is {self.temporal_patch_size}; expected 1"
            )
        if not self.flat_patches and self.patch_layout != "cpp":
            raise PixelPruneError(
                f"flat_patches is False, but patch_layout is {self.patch_layout!r}; "
                "expected 'cpp', or flat_patches=True"
            )
        if self.min_pixels > self.max_pixels:
            raise PixelPruneError(
                f"min_pixels is {self.min_pixels}, above max_pixels {self.max_pixels}; expected at most that"
            )
        for name, (least, most) in _LIMITS.items():
            object.__setattr__(self, name, _channels(name, getattr(self, name), least, most))
        if len(self.mean) != len(self.std):
            raise PixelPruneError(f"mean has {len(self.mean)} channels, std has {len(self.std)}; expected the same")
        if (count := math.prod(self.patch_shape)) > MAX_PATCH_VALUES:
            raise PixelPruneError(
                f"a patch has {count} values ({len(self.mean)} channels x {self.temporal_patch_size} frames x "
                f"{self.patch_size} x {self.patch_size} pixels); expected at most {MAX_PATCH_VALUES}"
            )

    @property
    def token_size(self) -> int:
        """Side of a token in pixels: ``patch_size * merge_size``."""
        return self.patch_size * self.merge_size

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Shape of one row of ``pixel_values``, with one channel for every value of ``mean``.

        ``(channels * temporal_patch_size * patch_size * patch_size,)``, or
        ``(channels, patch_size, patch_size)`` if ``flat_patches`` is False.

        Example:
            >>> import pixelprune as pp
            >>> pp.VisionSpec.preset("qwen3_vl").patch_shape, pp.VisionSpec.preset("paddleocr_vl").patch_shape
            ((1536,), (3, 14, 14))
        """
        channels, side = len(self.mean), self.patch_size
        return (channels * self.temporal_patch_size * side * side,) if self.flat_patches else (channels, side, side)

    @staticmethod
    def preset(name: str) -> VisionSpec:
        """Return the spec of a model family, from its published config or its processor class (see `PRESETS`).

        Args:
            name: one of `pixelprune.PRESETS`, for example ``"qwen3_vl"``.

        Raises:
            PixelPruneError: there is no such preset; the message lists the presets.

        Example:
            >>> import pixelprune as pp
            >>> pp.VisionSpec.preset("qwen2_5_vl").token_size
            28
        """
        spec = PRESETS.get(str.__str__(name)) if isinstance(name, str) else None
        if spec is None:
            raise PixelPruneError(f"no preset {shown(name)}; expected one of {', '.join(PRESETS)}")
        return spec

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | os.PathLike[str] | object) -> VisionSpec:
        """Read the spec from a model's own processor config.

        Args:
            config: the dict of a ``preprocessor_config.json`` (or ``processor_config.json``), the path of
                that file or of the folder that holds it, or a processor object (an image processor, or a
                processor that has one). No framework is imported.

        Raises:
            PixelPruneError: the config is of a processor that is not supported, lacks a required value, or has a
                setting that a spec can't express: a step that is switched off, or resampling other than bicubic.
            TypeError: ``config`` is none of the above.
            OSError: the file can't be read.

        Example:
            >>> import pixelprune as pp
            >>> spec = pp.VisionSpec.from_config({
            ...     "image_processor_type": "Qwen2VLImageProcessor",
            ...     "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2,
            ...     "size": {"shortest_edge": 65536, "longest_edge": 16777216},
            ...     "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            ... })
            >>> spec == pp.VisionSpec.preset("qwen3_vl")
            True
        """
        return cls(**read_settings(config))


PRESETS: dict[str, VisionSpec] = {}
"""The presets by name; filled in by the module `presets`."""


def _channels(name: str, values: Any, least: float, most: float) -> tuple[float, ...]:
    """One number per channel, as floats."""
    expected = f"one number per channel, from {least:g} to {most:g}"
    try:
        # No sets, no endless iterators, and no strings, whose digits would be read as numbers.
        if not isinstance(values, (list, tuple)) and attribute(values, "ndim") != 1:
            raise TypeError
        numbers = tuple(as_float(value, name, expected) for value in values)
    except MemoryError:
        raise
    except Exception:
        numbers = ()
    if not numbers or not all(least <= number <= most for number in numbers):
        raise PixelPruneError(f"{name} is {shown(values)}; expected a list or tuple of {expected}")
    return numbers


def as_side(side: Any, name: str) -> int:
    """Return the height or width of an image as an ``int``, at least 1."""
    pixels = as_int(side, name, "an integer number of pixels")
    if pixels < 1:
        raise PixelPruneError(f"{name} is {shown(pixels)}; expected at least 1 pixel")
    return pixels


def as_spec(spec: VisionSpec | str) -> VisionSpec:
    """Return ``spec`` itself, or the preset of that name."""
    if isinstance(spec, VisionSpec):
        return spec
    if isinstance(spec, str):
        return VisionSpec.preset(spec)
    raise TypeError(f"spec is a {type(spec).__name__}; expected a VisionSpec or the name of a preset")
