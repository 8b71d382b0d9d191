"""What a model's image processor does to an image, as far as pruning has to know it."""

from .layout import VisionSpec, as_side, as_spec
from .presets import PRESETS
from .sizes import smart_resize

__all__ = ["PRESETS", "VisionSpec", "as_side", "as_spec", "smart_resize"]
