"""Descriptions of what a model's image processor does to an image."""

from .layout import VisionSpec, as_side, as_spec
from .presets import PRESETS
from .sizes import smart_resize

__all__ = ["PRESETS", "VisionSpec", "as_side", "as_spec", "smart_resize"]
