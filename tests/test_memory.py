"""Too little memory: a `MemoryError`, never the end of the process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune import _core
from pixelprune.reference import BASELINES, METHODS

if TYPE_CHECKING:
    from conftest import RunChild

TINY = pp.VisionSpec(patch_size=1, merge_size=1, temporal_patch_size=1, min_pixels=1, max_pixels=1 << 30)
"""Tokens of one pixel: what is kept per token takes more memory than the image."""

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")


def calls() -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, (600, 800, 3), np.uint8) * 9
    values = noise.reshape(-1, 3)
    grid = [(1, *noise.shape[:2])]
    selection = pp.prune(noise, TINY)
    kept = selection.tokens(noise)
    close = pp.prune(noise, TINY, threshold=0.01)
    how: dict[str, Any] = {"resample": "none", "dtype": "uint8"}
    loaded = Image.fromarray(rng.integers(0, 256, (1200, 1600, 3), np.uint8))
    return {
        **{name: lambda name=name: pp.prune(noise, TINY, method=name) for name in METHODS},
        **{name: lambda name=name: pp.prune(noise, TINY, method=name) for name in BASELINES},
        "closed loop": lambda: pp.prune(noise, TINY, threshold=0.01),
        "prune_batch": lambda: pp.prune_batch([noise] * 4, TINY, threads=2),
        "Pillow image": lambda: pp.preprocess([loaded], "qwen3_vl", dtype="uint8"),
        "resize": lambda: _core.resize(noise, 4, 100_000),
        "prune_pixel_values": lambda: pp.prune_pixel_values(values, grid, TINY),
        "unique pixel_values": lambda: pp.prune_pixel_values(values, grid, TINY, method="unique"),
        "decode": lambda: pp.decode(selection.mask, kept, TINY),
        "verify": lambda: pp.verify(noise, close),
        "hash_tokens": lambda: pp.hash_tokens(noise, TINY),
        "preprocess": lambda: pp.preprocess([noise], TINY, **how),
        "preprocess in bands": lambda: pp.preprocess([noise] * 3, TINY, resample="pad", dtype="uint8"),
        "resized": lambda: pp.preprocess([noise], "qwen3_vl"),
        "resized, closed loop": lambda: pp.preprocess([noise], "qwen3_vl", threshold=0.01),
        "resized by two threads": lambda: pp.preprocess([noise] * 4, "qwen3_vl", threads=2),
        "resized whole": lambda: pp.preprocess([noise], "qwen3_vl", method="raster", threads=2),
    }


def squeeze(name: str) -> None:
    """Call with less and less memory to spare, from what suffices down to nearly nothing."""
    import resource

    call = calls()[name]
    call()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    refused = 0
    for spare in reversed([*range(32 << 10, 1 << 20, 32 << 10), *range(1 << 20, 24 << 20, 1 << 20)]):
        print(f"{spare >> 10} KB to spare", flush=True)  # the last line tells where it ended
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + spare, hard))
        try:
            call()
        except MemoryError:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    assert refused, "the memory always sufficed"


@only_linux
@pytest.mark.parametrize("name", calls())
def test_too_little_memory_is_an_error(name: str, run_child: RunChild) -> None:
    # glibc returns free memory at once, so that every large allocation needs room of its own.
    env = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
    run_child(squeeze, name, env=env)
