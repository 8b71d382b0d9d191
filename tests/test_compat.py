"""`pixelprune.compat` where there is no torch: it can be imported, and says what it needs."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pixelprune as pp
import pytest
from pixelprune import compat


def test_import_needs_no_torch() -> None:
    code = "import pixelprune.compat, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["False"]


def test_without_torch_it_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` fail
    with pytest.raises(ImportError, match=r"needs torch.*prune_pixel_values, which needs numpy only"):
        compat.compute_merged_keep_indices([[0.0]], [[1, 1, 1]])
    with pytest.raises(ImportError, match="needs torch"):
        compat.merged_indices_to_patch_indices([], 4, "cpu")


@pytest.mark.parametrize("how", [{}, {"model": "qwen3_5"}, {"model": "qwen3_vl", "backend": "vllm"}])
def test_apply_pixelprune_names_what_there_is(how: dict[str, Any]) -> None:
    with pytest.raises(pp.PixelPruneError) as raised:
        compat.apply_pixelprune(**how)
    message = str(raised.value)
    for name, owner in (
        ("compute_merged_keep_indices", compat),
        ("prune_pixel_values", pp),
        ("patch_indices", pp.Selection),
    ):
        assert name in message
        assert hasattr(owner, name)
    assert isinstance(raised.value, builtins.ValueError)  # what the published code raises for a wrong model
