"""How many floating-point operations a model spends on the tokens of an image.

A multiplication and an addition count as two. Counted are the matrix products; norms, activations, softmax and position
embeddings are not, and neither are the tokens of the prompt.

ViT, for n patches, width d, MLP width f, depth L (``gated`` MLPs have three matrices, plain ones two)::

    patches     2 n v d                     v: values of a patch
    layer       2 n (4 d^2 + 2 d f)         3 d f instead of 2 d f if gated
    attention   4 n k d                     each patch attends to k: to all n, or to those of its window
    merger      2 (n / m^2) ((m^2 d)^2 + m^2 d D)     m: merge_size, D: width of the language model

Language model, prefill of n tokens, width D, MLP width F, a query heads and b key and value heads of width h::

    layer       2 n (2 D a h + 2 D b h + 3 D F)
    attention   2 n (n + 1) a h             causal: token i attends to i tokens

The language model's head runs on the last token only and is left out: it costs the same before and after pruning.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Vision(NamedTuple):
    """Sizes of a ViT."""

    depth: int
    width: int
    mlp: int
    gated: bool
    patch_size: int
    merge_size: int
    temporal: int
    mergers: int
    """How many mergers run on all patches: 1, and 1 for each DeepStack layer."""
    window: int
    """The most patches that a window holds; 0 if every layer attends to the whole image."""
    whole: int
    """Layers that attend to the whole image."""


class Language(NamedTuple):
    """Sizes of a language model."""

    depth: int
    width: int
    mlp: int
    """Width of the MLP; of a mixture of experts: of all experts that a token passes through."""
    heads: int
    key_heads: int
    head: int


class Model(NamedTuple):
    """What the count needs to know of a model."""

    name: str
    vision: Vision
    language: Language


def vision_flops(model: Model, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return the FLOPs of the ViT and its mergers for images of so many tokens.

    In layers with windows, every patch is taken to attend to as many patches as fit a window (or the image): an upper
    bound after pruning, which empties windows.

    Args:
        model: the model.
        tokens: the number of tokens that the ViT sees of each image; any shape.

    Returns:
        float64, of the shape of ``tokens``.

    Example:
        >>> from pixelprune.scan.report.models import PRESETS
        >>> from pixelprune.scan.report.flops import vision_flops
        >>> float(vision_flops(PRESETS["qwen3_vl_2b"], 1024)) / 1e12
        4.342211936256
    """
    v, wide = model.vision, model.language.width
    group = v.merge_size**2
    n = np.asarray(tokens, np.float64) * group
    values = 3 * v.temporal * v.patch_size**2
    layer = 2 * n * (4 * v.width**2 + (3 if v.gated else 2) * v.width * v.mlp)
    near = np.minimum(n, v.window) if v.window else n
    attention = 4 * n * v.width * (v.whole * n + (v.depth - v.whole) * near)
    merged = group * v.width
    merger = 2 * (n / group) * (merged**2 + merged * wide)
    total: NDArray[np.float64] = 2 * n * values * v.width + v.depth * layer + attention + v.mergers * merger
    return total


def prefill_flops(model: Model, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return the FLOPs of the language model's prefill of so many image tokens.

    Args:
        model: the model.
        tokens: the number of image tokens of each prompt; any shape.

    Returns:
        float64, of the shape of ``tokens``.

    Example:
        >>> from pixelprune.scan.report.models import PRESETS
        >>> from pixelprune.scan.report.flops import prefill_flops
        >>> float(prefill_flops(PRESETS["qwen3_vl_2b"], 1024)) / 1e12
        3.006594547712
    """
    t = model.language
    n: NDArray[Any] = np.asarray(tokens, np.float64)
    layer = 2 * n * (2 * t.width * t.heads * t.head + 2 * t.width * t.key_heads * t.head + 3 * t.width * t.mlp)
    attention = 2 * n * (n + 1) * t.heads * t.head
    total: NDArray[np.float64] = t.depth * (layer + attention)
    return total
