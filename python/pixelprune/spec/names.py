"""The names that a `VisionSpec` and its config use."""

from __future__ import annotations

from typing import Literal

PatchOrder = Literal["block", "raster"]
PatchLayout = Literal["ctpp", "cpp", "ppc"]
ResizeRule = Literal["qwen", "glm", "paddleocr", "glm_image"]
