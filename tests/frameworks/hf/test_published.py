"""Logits and tokens beside the published implementation, which runs in a process of its own.

It has patches for Qwen3-VL (transformers 4.57.6) and Qwen3.5 (5.2.0). Without ``--published PATH`` it is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pixelprune.hf as hf
import pytest
import torch

from . import cases, zoo
from .conftest import Close

RUNS = {(4, 57, 6): ("qwen3_vl",), (5, 2, 0): ("qwen3_5",)}
TOLERANCE = 3e-6


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    """The folder that holds the published package."""
    given = request.config.getoption("--published", default=None) or PUBLISHED
    if not given:
        pytest.skip("needs --published PATH or PIXELPRUNE_PUBLISHED")
    path = Path(given).resolve()
    return path.parent if (path / "methods").is_dir() else path


PUBLISHED = os.environ.get("PIXELPRUNE_PUBLISHED")


@pytest.mark.parametrize("trained", ["qwen3_vl", "qwen3_5"])
def test_logits_and_tokens(trained: str, folder: Path, tmp_path: Path, close: Close) -> None:
    if trained not in RUNS.get(zoo.VERSION, ()):
        pytest.skip("the published implementation is run with transformers 4.57.6 (Qwen3-VL) and 5.2.0 (Qwen3.5)")
    here = Path(__file__).parent
    paths = (str(folder), str(here.parents[1]), os.environ.get("PYTHONPATH", ""))
    file = tmp_path / "published.npz"
    run = subprocess.run(
        [sys.executable, str(here / "published.py"), trained, str(file)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    published = np.load(file)

    family = zoo.BY_NAME[trained]
    model = zoo.model(family)
    pruned = hf.PrunedProcessor(zoo.processor(family), model)
    for i, prompt in enumerate(cases.PUBLISHED):
        inputs = pruned(text=[cases.text_of(family, prompt)], return_tensors="pt", **cases.images_of(family, [prompt]))
        assert inputs.pixelprune.tokens_after < 0.9 * inputs.pixelprune.tokens_before
        with torch.no_grad():
            found = hf.forward(model, inputs).logits[0]
        close(found, torch.from_numpy(published[f"logits {i}"]), TOLERANCE)
        ids = hf.generate(model, inputs, max_new_tokens=cases.STEPS, do_sample=False)[0]
        assert ids[-cases.STEPS :].tolist() == published[f"tokens {i}"].tolist()
