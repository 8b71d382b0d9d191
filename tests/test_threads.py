"""How many threads a call uses, and that it uses no more."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
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


def count_threads(kind: str) -> None:
    image = large()
    values = image.reshape(-1)[: 2112 * 1536].reshape(-1, 1536)
    calls: dict[str, Callable[..., object]] = {
        "prune": lambda **how: pp.prune(image, "qwen3_vl", **how),
        "prune_batch": lambda **how: pp.prune_batch([image, image[:64]], "qwen3_vl", **how),
        "prune_pixel_values": lambda **how: pp.prune_pixel_values(values, [(1, 44, 48)], "qwen3_vl", **how),
    }
    call = calls[kind]
    assert started_threads() == 0, "importing starts threads"
    call()
    pp.set_num_threads(2)
    call(threads=1)
    assert started_threads() == 0
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


@only_linux
@pytest.mark.parametrize("kind", ["prune", "prune_batch", "prune_pixel_values"])
def test_threads_are_started_when_they_are_needed_and_kept(kind: str, run_child: RunChild) -> None:
    # OpenBLAS starts threads of its own when numpy is imported.
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run_child(count_threads, kind, env=one)


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
