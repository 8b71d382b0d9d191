"""Drops predictable image patches before a vision-language model sees them: fast, exact, training-free.

PixelPrune (arXiv 2604.00886) finds image patches that their neighbours predict, by predictive coding in pixel
space, and drops them before the ViT. `prune` is the main function; a `VisionSpec` describes how a model cuts images
into tokens.

Example:
    >>> import numpy as np, pixelprune as pp
    >>> page = np.full((1088, 1920, 3), 255, np.uint8)
    >>> pp.prune(page, "qwen3_vl").keep
    array([0])
"""

from . import foreign as _foreign

_foreign.check()

from ._core import version as _version
from .errors import PixelPruneError, PixelPruneWarning
from .images.batch import Batch
from .images.decode import load_image
from .images.preprocessing import preprocess
from .images.processor import ImageProcessor
from .images.resizing import resize_image
from .images.stream import StreamResult, preprocess_stream
from .runtime import cpu_features, get_num_threads, set_num_threads
from .selection.analysis import Analysis, analyze
from .selection.codec import Verification, decode, verify
from .selection.fingerprints import hash_tokens
from .selection.pruning import prune, prune_batch, prune_pixel_values
from .selection.result import Selection, patch_indices
from .selection.settings import PruneSettings
from .selection.sweeping import Swept, sweep
from .spec import PRESETS, VisionSpec, smart_resize

__version__ = _version()

__all__ = [
    "PRESETS",
    "Analysis",
    "Batch",
    "ImageProcessor",
    "PixelPruneError",
    "PixelPruneWarning",
    "PruneSettings",
    "Selection",
    "StreamResult",
    "Swept",
    "Verification",
    "VisionSpec",
    "__version__",
    "analyze",
    "cpu_features",
    "decode",
    "get_num_threads",
    "hash_tokens",
    "load_image",
    "patch_indices",
    "preprocess",
    "preprocess_stream",
    "prune",
    "prune_batch",
    "prune_pixel_values",
    "resize_image",
    "set_num_threads",
    "smart_resize",
    "sweep",
    "verify",
]
