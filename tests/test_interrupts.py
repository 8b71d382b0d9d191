"""Ctrl-C: a call on many images ends between two of them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import pixelprune as pp
import pytest

if TYPE_CHECKING:
    from conftest import RunChild

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")


def interrupted(call: Callable[[], object], seconds: float = 0.3) -> None:
    """Expect the call to end with what the handler of a signal raises."""

    def handler(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        call()
    except KeyboardInterrupt:
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    raise AssertionError("the call was not interrupted")


def interrupt_preprocess(threads: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4096, 4096, 3), np.uint8)
    spec = pp.VisionSpec(patch_size=16, merge_size=2, temporal_patch_size=1, min_pixels=1 << 16, max_pixels=1 << 16)
    # Seconds of work into one output. What is written there tells how far it came.
    count = 500
    out = np.full((count * 16 * 16, 768), 7, np.uint8)
    how: dict[str, Any] = {"prune": False, "dtype": "uint8", "threads": threads}
    interrupted(lambda: pp.preprocess([image] * count, spec, out=out, **how))
    assert (out[-16 * 16 :] == 7).all(), "it went on to the last image"
    assert pp.preprocess([image], spec, **how).selections[0].kept == 8 * 8


@pytest.mark.parametrize("threads", [1, 2])
def test_preprocess(threads: int, run_child: RunChild) -> None:
    run_child(interrupt_preprocess, threads)


def interrupt_prune_batch(threads: int) -> None:
    image = np.zeros((1024, 1024, 3), np.uint8)
    images = [image] * 400_000  # minutes of work, more than the test has
    interrupted(lambda: pp.prune_batch(images, "qwen3_vl", metric="rmse", threshold=0.01, threads=threads), 2)
    assert len(pp.prune_batch(images[:3], "qwen3_vl", threads=threads)) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_prune_batch(threads: int, run_child: RunChild) -> None:
    run_child(interrupt_prune_batch, threads, timeout=40)


def interrupt_sweep(threads: int) -> None:
    image = np.zeros((4096, 4096), np.uint8)
    settings = [pp.PruneSettings(threshold=0.01)] * 300_000  # minutes of work, more than the test has
    interrupted(lambda: pp.sweep(image, "qwen3_vl", settings, threads=threads), 3)
    assert len(pp.sweep(image, "qwen3_vl", settings[:3], threads=threads)) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_sweep(threads: int, run_child: RunChild) -> None:
    run_child(interrupt_sweep, threads, timeout=50)
