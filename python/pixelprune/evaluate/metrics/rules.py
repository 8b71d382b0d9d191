"""The two sets of rules that figures are published under."""

from __future__ import annotations

from typing import Literal

Rules = Literal["lmms-eval", "vlmevalkit"]
RULES: tuple[Rules, ...] = ("lmms-eval", "vlmevalkit")
