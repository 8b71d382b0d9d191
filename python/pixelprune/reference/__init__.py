"""The oracle: everything pixelprune computes, written for the reader in plain numpy.

Every fast path is tested against it. It is slow on purpose: one token at a time, one comparison at a time. Use
`pixelprune.prune` to get work done, and this module to see what the answer must be.

The terms, for one image:

* a *patch* is ``patch_size`` x ``patch_size`` pixels, a *token* is ``merge_size`` x ``merge_size`` patches;
* the causal neighbours of a token X are A (left), B (above) and C (above-left);
* a dropped token has a *source*, the kept token that stands for it; a kept token is its own source;
* in the closed loop (``anchored=True``) the neighbours are what a decoder would have, in the open loop
  they are the original tokens.
"""

from .methods import BASELINES, METHODS, PROTECT, baseline_count, prune, prune_pixel_values, prune_tokens
from .preprocessing import normalise, patchify, preprocess, resize
from .results import decode, hash_token_bytes, patch_indices, reconstruct
from .similarity import METRICS, budget, neighbour_planes, one_colour, similar
from .tokens import image_tokens, pixel_value_tokens, to_unit_range

__all__ = [
    "BASELINES",
    "METHODS",
    "METRICS",
    "PROTECT",
    "baseline_count",
    "budget",
    "decode",
    "hash_token_bytes",
    "image_tokens",
    "neighbour_planes",
    "normalise",
    "one_colour",
    "patch_indices",
    "patchify",
    "pixel_value_tokens",
    "preprocess",
    "prune",
    "prune_pixel_values",
    "prune_tokens",
    "reconstruct",
    "resize",
    "similar",
    "to_unit_range",
]
