"""Which releases of transformers are known to run which families, and what to do about the others."""

from __future__ import annotations

import os

import transformers

from ..caller import warn
from ..errors import PixelPruneError
from .requirements import release

VERSION = release(transformers.__version__)

TESTED = ((4, 57), (5, 8), (5, 9), (5, 18), (5, 24))
"""The releases that the tests run with. Others are accepted if trial runs of their code go as expected."""

SINCE = {
    "qwen2_vl": (4, 57),
    "qwen2_5_vl": (4, 57),
    "qwen3_vl": (4, 57),
    "qwen3_vl_moe": (4, 57),
    "cosmos3_omni": (5, 18),
    "qwen3_5": (5, 2),
    "qwen3_5_moe": (5, 2),
    "glm4v": (5, 9),
    "glm4v_moe": (5, 9),
    "glm46v": (5, 9),
    "glm_ocr": (5, 9),
    "paddleocr_vl": (5, 18),
    "qwen4_exp": (5, 18),
    "cohere_compass": (5, 18),
    "ernie4_5_vl_moe": (5, 18),
    "dots3_note": (5, 23),
    "video_llama_3": (5, 18),
}
"""The first release with which a family is known to run."""

ALLOWED = "PIXELPRUNE_ALLOW_TRANSFORMERS"
"""The environment variable with the full version of a release to use although it is refused."""


def check(model_type: str) -> None:
    """Raise, or warn if the user allows it, where the installed release is older than the family needs."""
    since = SINCE.get(model_type)
    if since is None:
        raise PixelPruneError(f"transformers can't run {model_type} on pruned inputs; expected {', '.join(SINCE)}")
    if since > VERSION:
        refuse(model_type, f"not known to run before {since[0]}.{since[1]}", can_be_allowed=True)


def refuse(model_type: str, what: str, *, can_be_allowed: bool = False) -> None:
    """Raise, or only warn if this ``can_be_allowed`` and the user allows the installed release.

    Raises:
        PixelPruneError: the message says what is wrong, and which releases to install.
    """
    found = f"transformers {transformers.__version__} can't run {model_type} on pruned inputs: {what}"
    if can_be_allowed and os.environ.get(ALLOWED) == transformers.__version__:
        warn(f"{found}; it is used because {ALLOWED} allows it, and results may be wrong")
        return
    since = SINCE[model_type]
    tested = [f"{major}.{minor}" for major, minor in TESTED if (major, minor) >= since]
    which = f"that is tested: {', '.join(tested)}" if tested else f"from {since[0]}.{since[1]} on"
    pin = f"=={tested[-1]}.*" if tested else f">={since[0]}.{since[1]}"
    instead = f", or {ALLOWED}={transformers.__version__} to use it at your own risk" if can_be_allowed else ""
    raise PixelPruneError(f"{found}; expected a release {which} (pip install 'transformers{pin}'){instead}")
