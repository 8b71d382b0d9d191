"""Used from forked, spawned and many threads' worth of places at once: never a hang, never another answer."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from pixelprune.reference import BASELINES, METHODS

if TYPE_CHECKING:  # the children import this module, and should not wait for Hypothesis
    from conftest import RunChild

Plane = npt.NDArray[np.bool_]
HAS_FORK = hasattr(os, "fork")
needs_fork = pytest.mark.skipif(not HAS_FORK, reason="no fork here")
CHILD_SECONDS = 20
"""What a child may take at most; it needs a second."""


def large(seed: int = 0) -> npt.NDArray[np.uint8]:
    """An image large enough for bands, a third of its tokens copies of their neighbours."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    kinds = rng.choice(4, (33, 34), p=(0.7, 0.1, 0.1, 0.1))
    return tokens[kinds].transpose(0, 2, 1, 3, 4).reshape(33 * 32, 34 * 32, 3)


def prune_all(threads: int) -> None:
    """Prune in every way that uses threads, and compare with one thread."""
    image = large()
    values = image.reshape(-1, 1536)[: 33 * 64]
    for method in ("pred_2d", "unique"):
        expected = pp.prune(image, "qwen3_vl", method=method, threads=1)
        assert 1 < expected.kept < expected.total
        assert pp.prune(image, "qwen3_vl", method=method, threads=threads) == expected
        assert pp.prune_batch([image] * 3, "qwen3_vl", method=method, threads=threads) == [expected] * 3
        how: dict[str, Any] = {"method": method, "temporal": "frames"}
        one = pp.prune_pixel_values(values, [(33, 8, 8)], "qwen3_vl", threads=1, **how)
        assert pp.prune_pixel_values(values, [(33, 8, 8)], "qwen3_vl", threads=threads, **how) == one


# --- Processes -------------------------------------------------------------------------------------------


def fork_and_wait(work: Callable[[], None], seconds: float = CHILD_SECONDS) -> None:
    """Run ``work`` in a forked child; fails when that raises, crashes or hangs."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0, f"the child left with {status}"
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


def use_then_start(how: str) -> None:
    prune_all(2)
    context = multiprocessing.get_context(how)
    child = context.Process(target=prune_all, args=(2,))
    child.start()
    child.join(CHILD_SECONDS)
    hangs = child.is_alive()
    if hangs:
        child.kill()
        child.join()
    assert not hangs, "the child hangs"
    assert child.exitcode == 0
    prune_all(2)


@pytest.mark.parametrize("how", multiprocessing.get_all_start_methods())
def test_used_in_the_parent_and_then_in_children(how: str, run_child: RunChild) -> None:
    run_child(use_then_start, how, timeout=120)


def use_in_a_worker_pool(how: str) -> None:
    prune_all(2)
    with multiprocessing.get_context(how).Pool(2) as workers:
        workers.map_async(prune_all, [2, 3, 1, 2]).get(2 * CHILD_SECONDS)


@pytest.mark.parametrize("how", multiprocessing.get_all_start_methods())
def test_workers(how: str, run_child: RunChild) -> None:
    run_child(use_in_a_worker_pool, how, timeout=120)


def fork_generations() -> None:
    def grandchild() -> None:
        prune_all(2)
        fork_and_wait(lambda: prune_all(3))
        prune_all(2)

    prune_all(2)
    fork_and_wait(grandchild)
    prune_all(2)
    for _ in range(5):
        fork_and_wait(lambda: prune_all(2))


@needs_fork
def test_children_of_children(run_child: RunChild) -> None:
    run_child(fork_generations, timeout=90)


def fork_beside_a_busy_thread() -> None:
    """Forks while another thread is inside prune, wherever that happens to be."""
    image, stop = large(), threading.Event()
    failures: list[BaseException] = []

    def busy() -> None:
        try:
            # More numbers than pools are kept: a fresh one each time, so that some forks meet one being made.
            for threads in itertools.cycle((2, 3, 4)):
                if stop.is_set():
                    break
                pp.prune(image, "qwen3_vl", threads=threads)
        except BaseException as error:
            failures.append(error)
            raise

    workers = [threading.Thread(target=busy) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(15):
            fork_and_wait(lambda: prune_all(2))
    finally:
        stop.set()
        for worker in workers:
            worker.join(CHILD_SECONDS)
    assert not failures
    assert not any(worker.is_alive() for worker in workers)
    prune_all(2)


@needs_fork
def test_fork_while_another_thread_prunes(run_child: RunChild) -> None:
    run_child(fork_beside_a_busy_thread, timeout=120)


def fork_into_the_same_pid() -> None:
    """In a new pid namespace a child has the number 1, and so has its own child in yet another one."""
    unshare = ctypes.CDLL(None, use_errno=True).unshare

    def first() -> None:
        assert os.getpid() == 1
        prune_all(2)
        assert unshare(0x20000000) == 0
        fork_and_wait(second, seconds=8)

    def second() -> None:
        assert os.getpid() == 1
        prune_all(2)

    if unshare(0x20000000) != 0:  # CLONE_NEWPID
        print("not permitted")
        return
    fork_and_wait(first)


@pytest.mark.skipif(sys.platform != "linux", reason="pid namespaces")
def test_a_child_with_its_parent_s_pid(run_child: RunChild) -> None:
    if "not permitted" in run_child(fork_into_the_same_pid):
        pytest.skip("may not make pid namespaces here")


def leave_beside_busy_threads() -> None:
    image = large()

    def busy() -> None:
        while True:
            pp.prune(image, "qwen3_vl", threads=2)

    for _ in range(2):
        threading.Thread(target=busy, daemon=True).start()
    prune_all(2)


def test_the_interpreter_leaves_while_threads_prune(run_child: RunChild) -> None:
    for _ in range(2):
        run_child(leave_beside_busy_threads)


# --- Threads ---------------------------------------------------------------------------------------------


def together(work: Callable[[int], None], count: int) -> None:
    """Run ``work(0)`` .. ``work(count - 1)`` in threads that start at the same moment."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)
            raise

    workers = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers), "hangs"
    assert not errors


def use_from_many_threads() -> None:
    large_images = [large(seed) for seed in range(3)]
    expected = {
        (i, method): pp.prune(image, "qwen3_vl", method=method)
        for (i, image), method in product(enumerate(large_images), METHODS + BASELINES)
    }

    def work(number: int) -> None:
        for turn, (i, method) in enumerate(expected):
            threads = 1 + (number + turn) % 3
            assert pp.prune(large_images[i], "qwen3_vl", method=method, threads=threads) == expected[i, method]
        found = pp.prune_batch(large_images, "qwen3_vl", threads=1 + number % 3)
        assert found == [expected[i, "pred_2d"] for i in range(3)]

    together(work, 8)


def test_many_python_threads_at_once(run_child: RunChild) -> None:
    run_child(use_from_many_threads, timeout=120)


def test_threads_inside_a_callable() -> None:
    image = large()
    expected = pp.prune(image, "qwen3_vl")

    def nested(left: Plane, up: Plane) -> Plane:
        assert pp.prune(image, "qwen3_vl", threads=2) == expected
        return ~(left | up)

    mask = pp.prune(image, "qwen3_vl", method=nested, threads=2).mask
    assert mask.sum() == pp.prune(image, "qwen3_vl", method="either").kept


def test_after_an_exception() -> None:
    image = large()
    expected = pp.prune(image, "qwen3_vl")
    values = np.zeros((2048, 1536), np.float32)
    values[2000] = np.nan
    for _ in range(3):
        with pytest.raises(pp.PixelPruneError, match=r"images\[1\]"):
            pp.prune_batch([image, image[:31], image], "qwen3_vl", threads=2)
        with pytest.raises(pp.PixelPruneError, match="NaN"):
            pp.prune_pixel_values(values, [(1, 32, 64)], "qwen3_vl", threads=2)
        with pytest.raises(ZeroDivisionError):
            pp.prune(image, "qwen3_vl", threads=2, method=lambda left, up: 1 / 0)  # type: ignore[arg-type,return-value]
        assert pp.prune(image, "qwen3_vl", threads=2) == expected
        assert pp.prune_batch([image] * 2, "qwen3_vl", threads=2) == [expected] * 2


def run_beside_a_call(kind: str) -> None:
    """With a switch interval of minutes, this thread runs during the call only if the call lets go of the GIL."""
    image = np.zeros((4096, 4096, 3), np.uint8)
    values = image.reshape(-1).view(np.float32).reshape(-1, 1536)
    calls: dict[str, Callable[[], object]] = {
        "prune": lambda: pp.prune(image, "qwen3_vl", metric="rmse", threshold=0.1),
        "prune_batch": lambda: pp.prune_batch([image], "qwen3_vl", metric="rmse", threshold=0.1),
        "prune_pixel_values": lambda: pp.prune_pixel_values(values, [(1, 64, 128)], "qwen3_vl", threshold=0.1),
        "sweep": lambda: pp.sweep(image, "qwen3_vl", [pp.PruneSettings(metric="rmse", threshold=0.1)]),
        "hash_tokens": lambda: pp.hash_tokens(image, "qwen3_vl"),
    }
    sys.setswitchinterval(600)
    # Where the call is quick, this thread may wake up too late to see it: so several times.
    assert any(runs_beside(calls[kind]) for _ in range(20)), f"{kind} never let another thread run"


def runs_beside(call: Callable[[], object]) -> bool:
    """Whether this thread ran while another one was inside the call."""
    started, left = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        call()
        left.set()

    worker = threading.Thread(target=work)
    worker.start()
    started.wait()
    beside = not left.is_set()
    worker.join()
    return beside


@pytest.mark.parametrize("kind", ["prune", "prune_batch", "prune_pixel_values", "sweep", "hash_tokens"])
def test_the_gil_is_released(kind: str, run_child: RunChild) -> None:
    run_child(run_beside_a_call, kind)


# --- An image that changes meanwhile ---------------------------------------------------------------------


def prune_what_another_thread_writes() -> None:
    rng = np.random.default_rng(1)
    rows, cols = 33, 20
    image = np.zeros((rows * 32, cols * 32, 3), np.uint8)
    values = np.zeros((rows * cols * 4, 768), np.uint8)
    spec = pp.VisionSpec(patch_size=16, merge_size=2, temporal_patch_size=1)
    stop = threading.Event()

    def scribble() -> None:
        noise = rng.integers(0, 2, (4, *image.shape), np.uint8)
        turn = 0
        while not stop.is_set():
            turn += 1
            image[...] = noise[turn % 4] if turn % 3 else 0
            values.reshape(-1)[: image.size] = image.reshape(-1)

    writer = threading.Thread(target=scribble)
    writer.start()

    def check(sel: pp.Selection) -> None:
        assert 1 <= sel.kept <= rows * cols
        assert (np.diff(sel.keep) > 0).all()
        assert 0 <= sel.keep[0] <= sel.keep[-1] < rows * cols
        if sel.source is not None:
            assert np.array_equal(np.unique(sel.source), sel.keep)
            assert np.array_equal(sel.source[sel.keep], sel.keep)

    try:
        for method, threads, tau in product(METHODS + BASELINES, (1, 2), (0.0, 0.5 / 255, 1 / 255)):
            if method == "unique" and tau:
                continue
            for metric in ("max", "mae", "rmse"):
                how: dict[str, Any] = {"method": method, "metric": metric, "threshold": tau, "threads": threads}
                check(pp.prune(image, spec, **how))
                [sel] = pp.prune_pixel_values(values, [(1, rows * 2, cols * 2)], spec, **how)
                check(sel)
        for _ in range(10):
            sel = pp.prune(image, spec, threshold=1 / 255)
            pp.verify(image, sel)
            decoded = pp.decode(sel.mask, sel.tokens(image), spec, threshold=1 / 255)
            assert decoded.shape == image.shape
            assert pp.hash_tokens(image, spec).shape == (rows, cols)
    finally:
        stop.set()
        writer.join()


def test_an_image_that_another_thread_writes(run_child: RunChild) -> None:
    run_child(prune_what_another_thread_writes)
