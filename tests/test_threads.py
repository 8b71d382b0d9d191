"""How many threads a call uses, and that it uses no more."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from pixelprune import _core
from test_concurrency import large, prune_all

if TYPE_CHECKING:
    from conftest import RunChild

VARIABLE = "PIXELPRUNE_NUM_THREADS"
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="as on Linux")


def test_one_thread_unless_told_otherwise() -> None:
    assert pp.get_num_threads() == 1


def test_a_setting_holds_until_it_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (2, 7, 1024, np.int16(5)):
        pp.set_num_threads(n)  # type: ignore[arg-type]
        assert pp.get_num_threads() == n
        assert type(pp.get_num_threads()) is int
    monkeypatch.setenv(VARIABLE, "3")
    assert pp.get_num_threads() == 5
    pp.set_num_threads(None)
    assert pp.get_num_threads() == 3
    monkeypatch.delenv(VARIABLE)
    assert pp.get_num_threads() == 1


def test_0_is_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    available = _core.available_threads()
    assert 1 <= available <= (os.cpu_count() or 1)
    pp.set_num_threads(0)
    assert pp.get_num_threads() == available
    pp.set_num_threads(None)
    monkeypatch.setenv(VARIABLE, "0")
    assert pp.get_num_threads() == available


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("2", 2), (" 3 ", 3), ("007", 7), ("1024", 1024), ("", 1)])
def test_the_environment_variable(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert pp.get_num_threads() == expected


def test_the_environment_may_be_any_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The private dictionary is used only where there is one."""
    monkeypatch.setattr(os, "environ", {VARIABLE: "3"})
    assert pp.get_num_threads() == 3
    monkeypatch.setattr(os, "environ", {})
    assert pp.get_num_threads() == 1


@pytest.mark.parametrize("text", ["x", "-1", "1.0", "2x", "1025", "0x2", "+2", "1_0", "²", "9" * 30, "9" * 5000, "  "])
def test_an_environment_variable_that_is_no_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    image = np.zeros((32, 32), np.uint8)
    for call in (pp.get_num_threads, lambda: pp.prune(image, "qwen3_vl")):
        with pytest.raises(pp.PixelPruneError, match=f"{VARIABLE} is .* from 0 to 1024") as raised:
            call()
        assert len(str(raised.value)) < 300
    assert pp.prune(image, "qwen3_vl", threads=1).kept == 1  # not looked at then
    pp.set_num_threads(1)
    assert pp.prune(image, "qwen3_vl").kept == 1


@pytest.mark.parametrize("n", [-1, 1025, 1 << 40, -(1 << 70)])
def test_numbers_out_of_range(n: int) -> None:
    pp.set_num_threads(2)
    with pytest.raises(pp.PixelPruneError, match=f"n is {n}; expected from 0 to 1024"):
        pp.set_num_threads(n)
    assert pp.get_num_threads() == 2


@pytest.mark.parametrize("n", ["2", 2.0, [2], True, False, 1j, object()])
def test_numbers_of_another_type(n: Any) -> None:
    with pytest.raises(TypeError, match="n is"):
        pp.set_num_threads(n)
    assert pp.get_num_threads() == 1


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 64, None])
def test_results_do_not_depend_on_threads(threads: int | None) -> None:
    image = large()
    expected = pp.prune(image, "qwen3_vl", threads=1)
    assert pp.prune(image, "qwen3_vl", threads=threads) == expected
    assert pp.prune_batch([image, image], "qwen3_vl", threads=threads) == [expected] * 2
    pp.set_num_threads(threads)
    assert pp.prune(image, "qwen3_vl") == expected


# --- In processes of their own ---------------------------------------------------------------------------


def started_threads() -> int:
    """The threads of this process besides the main one."""
    return len(os.listdir("/proc/self/task")) - 1


def calls_with_threads(image: npt.NDArray[np.uint8]) -> dict[str, Callable[..., object]]:
    """Every public call that takes a number of threads, on an image that is worth them."""
    values = image.reshape(-1)[: 2112 * 1536].reshape(-1, 1536)
    return {
        "prune": lambda **how: pp.prune(image, "qwen3_vl", **how),
        "prune_batch": lambda **how: pp.prune_batch([image, image[:64]], "qwen3_vl", **how),
        "prune_pixel_values": lambda **how: pp.prune_pixel_values(values, [(1, 44, 48)], "qwen3_vl", **how),
        "preprocess": lambda **how: pp.preprocess([image, image[:64]], "qwen2_vl", **how),
        "preprocess, tau 0.1": lambda **how: pp.preprocess([image], "qwen2_vl", threshold=0.1, **how),
        "preprocess, unique": lambda **how: pp.preprocess([image], "qwen2_vl", method="unique", **how),
        "preprocess, not resized": lambda **how: pp.preprocess([image], "qwen3_vl", resample="none", **how),
        "preprocess_stream": lambda **how: [*pp.preprocess_stream([image, image[:64]], "qwen2_vl", **how)],
        "ImageProcessor": lambda **how: pp.ImageProcessor("qwen2_vl", **how)([image, image[:64]]),
    }


CALLS = tuple(calls_with_threads(np.zeros((33 * 32, 34 * 32, 3), np.uint8)))


def count_threads(kind: str) -> None:
    image = large()
    call = calls_with_threads(image)[kind]
    assert started_threads() == 0, "importing starts threads"
    call()
    pp.set_num_threads(2)
    call(threads=1)
    assert started_threads() == 0
    if kind == "preprocess_stream":
        return  # ends its threads with itself
    call()
    started = started_threads()
    assert 1 <= started <= 2
    for _ in range(3):
        call()
        call(threads=2)
    assert started_threads() == started
    pp.set_num_threads(None)
    call()
    assert started_threads() == started


# OpenBLAS starts threads of its own when numpy is imported.
ONE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@only_linux
@pytest.mark.parametrize("kind", CALLS)
def test_threads_are_started_when_they_are_needed_and_kept(kind: str, run_child: RunChild) -> None:
    run_child(count_threads, kind, env=ONE)


def count_threads_of_calls_without() -> None:
    image = large()
    pp.set_num_threads(2)
    selection = pp.prune(image, "qwen3_vl", threshold=0.1, threads=1)
    pp.decode(selection.mask, selection.tokens(image), "qwen3_vl", threshold=0.1)
    pp.verify(image, selection)
    pp.hash_tokens(image, "qwen3_vl")
    assert started_threads() == 0


@only_linux
def test_calls_without_a_number_of_threads_start_none(run_child: RunChild) -> None:
    run_child(count_threads_of_calls_without, env=ONE)


def take_turns_with_two_numbers() -> None:
    image = large()
    for threads in (2, 3) * 3:
        pp.prune(image, "qwen3_vl", threads=threads)
    threads_by_id = set(os.listdir("/proc/self/task"))
    assert len(threads_by_id) == 1 + 2 + 3
    for threads in (2, 3) * 3:
        pp.prune(image, "qwen3_vl", threads=threads)
    assert set(os.listdir("/proc/self/task")) == threads_by_id


@only_linux
def test_two_numbers_in_turn_start_no_new_threads(run_child: RunChild) -> None:
    run_child(take_turns_with_two_numbers, env=ONE)


def print_threads() -> None:
    print(pp.get_num_threads())


def test_the_variable_of_a_process(run_child: RunChild) -> None:
    assert run_child(print_threads, env={VARIABLE: "5"}).strip() == "5"
    run_child(prune_all, 2, env={VARIABLE: "3"})


def stay_on_one_cpu() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    assert _core.available_threads() == 1
    pp.set_num_threads(0)
    assert pp.get_num_threads() == 1
    prune_all(0)
    prune_all(2)


@only_linux
def test_affinity_is_honoured(run_child: RunChild) -> None:
    run_child(stay_on_one_cpu)


def prune_where_no_thread_can_be_started() -> None:
    import resource

    image = large()
    expected = pp.prune(image, "qwen3_vl")
    calls = calls_with_threads(image)
    if os.getuid() == 0:
        os.setuid(65534)  # the limit is not for root
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        pass
    else:
        print("threads can be started")
        return
    for threads in (2, 1000):
        assert pp.prune(image, "qwen3_vl", threads=threads) == expected
        assert pp.prune_batch([image] * 2, "qwen3_vl", threads=threads) == [expected] * 2
    for kind, call in calls.items():
        call(threads=1)
        if kind != "preprocess_stream":
            call(threads=2)


@only_linux
def test_without_threads_the_caller_s_own_does_the_work(run_child: RunChild) -> None:
    if "can be started" in run_child(prune_where_no_thread_can_be_started):
        pytest.skip("can't limit the number of threads here")


def use_a_thousand_threads() -> None:
    image = large()
    expected = pp.prune(image, "qwen3_vl")
    assert pp.prune(image, "qwen3_vl", threads=1000) == expected


def test_a_thousand_threads(run_child: RunChild) -> None:
    run_child(use_a_thousand_threads)
