"""What the commands share: the sample page, and the parsing of option values."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from importlib import resources

from ..arguments import escaped, shown
from ..errors import PixelPruneError
from ..images.decode import Alpha
from ..spec import PRESETS, VisionSpec
from .console import reason

SAMPLE = "sample page"
SPEC_HELP = f"{', '.join(PRESETS)}, or the path of a preprocessor_config.json (default: %(default)s)"


def sample() -> bytes:
    """The sample page's file."""
    return (resources.files("pixelprune") / "data" / "page.png").read_bytes()


def choice(names: Sequence[str]) -> str:
    """Help that lists the names of an option."""
    return f"{', '.join(names[:-1])} or {names[-1]} (default: %(default)s)"


def spec_of(text: str) -> VisionSpec:
    """The spec of ``--spec``: a preset, or that of a config file."""
    if text in PRESETS:
        return PRESETS[text]
    if not os.path.exists(text):
        raise PixelPruneError(
            f"--spec is {shown(text)}; expected {', '.join(PRESETS)} or the path of a preprocessor_config.json"
        )
    try:
        spec = VisionSpec.from_config(text)
    except OSError as error:
        raise PixelPruneError(f"--spec: {name_of(text)}: {reason(error)}") from None
    except PixelPruneError as error:
        raise PixelPruneError(f"--spec: {error}") from None
    if len(spec.mean) != 3:
        raise PixelPruneError(f"--spec: {name_of(text)} is for {len(spec.mean)} channels; expected 3 (RGB)")
    return spec


def integer(text: str) -> int:
    """An integer of any length."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} can't be read as an integer") from None


def threshold(text: str) -> float:
    """A number or a fraction such as 13/255."""
    number, slash, full = text.partition("/")
    try:
        return float(number) / float(full) if slash else float(number)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a number; expected one like 0.05 or 13/255") from None


def check_threshold(threshold: float) -> None:
    """Refuse a threshold outside [0, 1]."""
    if not 0 <= threshold <= 1:
        raise PixelPruneError(f"--threshold is {threshold:g}; expected a number from 0 to 1, like 0.05 or 13/255")


def alpha(text: str) -> Alpha:
    """``drop``, ``white`` or a colour."""
    if text in ("drop", "white"):
        return text
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    raise argparse.ArgumentTypeError(f"{shown(text)} is not a colour; expected drop, white or a colour like '#ffffff'")


def name_of(path: object) -> str:
    """A path with escapes for undecodable bytes, line ends and other control characters."""
    return escaped(os.fsdecode(path) if isinstance(path, (bytes, os.PathLike)) else str(path))
