"""The presets: the published configs of the model families."""

from __future__ import annotations

from typing import Any

from .layout import PRESETS, VisionSpec

__all__ = ["PRESETS"]

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_CLIP: dict[str, Any] = {"mean": _CLIP_MEAN, "std": _CLIP_STD}
_GLM = VisionSpec(
    patch_size=14, merge_size=2, min_pixels=112 * 112, max_pixels=28 * 28 * 15000, resize_rule="glm", **_CLIP
)

PRESETS |= {
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_5_vl"),
        VisionSpec(patch_size=14, merge_size=2, min_pixels=56 * 56, max_pixels=28 * 28 * 16384, **_CLIP),
    ),
    **dict.fromkeys(
        ("qwen3_vl", "qwen3_5"),
        VisionSpec(patch_size=16, merge_size=2, min_pixels=65536, max_pixels=16777216),
    ),
    **dict.fromkeys(("glm4v", "glm46v", "glm_ocr"), _GLM),
    "paddleocr_vl": VisionSpec(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=1,
        patch_order="raster",
        patch_layout="cpp",
        flat_patches=False,
        min_pixels=384 * 384,
        max_pixels=1536 * 1536,
        resize_rule="paddleocr",
        **_CLIP,
    ),
    "ernie4_5_vl_moe": VisionSpec(
        patch_size=14, merge_size=2, temporal_patch_size=1, max_pixels=28 * 28 * 6177, **_CLIP
    ),
    "dots3_note": VisionSpec(patch_size=14, merge_size=2, temporal_patch_size=1, **_CLIP),
    "video_llama_3": VisionSpec(patch_size=14, merge_size=1, temporal_patch_size=1),
    "cohere_compass": VisionSpec(patch_size=16, merge_size=2, **_CLIP),
    "minimax_m3_vl": VisionSpec(patch_size=14, merge_size=2, max_pixels=451584, **_CLIP),
    "hunyuan_vl": VisionSpec(
        patch_size=16,
        merge_size=2,
        temporal_patch_size=1,
        patch_order="raster",
        min_pixels=512 * 512,
        max_pixels=2048 * 2048,
        **_CLIP,
    ),
    "cosmos3_edge": VisionSpec(
        patch_size=16,
        merge_size=2,
        temporal_patch_size=1,
        patch_layout="ppc",
        min_pixels=256 * 256,
        max_pixels=4096 * 4096,
        resize_rule="glm",
    ),
}
"""The presets by name.

Those of the Qwen families hold the values of the published configs. The others hold the defaults of the families'
processor classes (transformers 5.23), except that ``cohere_compass`` has the patch size of its model, 16. If you have
the model's config, prefer `VisionSpec.from_config`. A preset describes how images become patches; it does not mean that
the model can run on pruned ones.
"""
