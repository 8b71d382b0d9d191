"""Streams: in order, lazy, an error beside its source, nothing left running, whoever stops them and how."""

from __future__ import annotations

import gc
import io
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pixelprune.images.decode
import pytest
from PIL import Image

if TYPE_CHECKING:
    from conftest import RunChild

SPEC = pp.VisionSpec(patch_size=4, merge_size=2, min_pixels=64, max_pixels=64 * 64)
THREADS = (1, 2, 5)
SECONDS = 20
"""What a wait may take at most; nothing here needs one."""


def pixels(seed: int = 0, height: int = 24, width: int = 40) -> npt.NDArray[np.uint8]:
    """Noise with some equal tokens."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image[8:24, : 8 + 8 * (seed % 3)] = 255
    return image


def png(image: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def see_through() -> bytes:
    return png(np.full((24, 40, 4), 100, np.uint8))


def same(one: pp.Batch, other: pp.Batch) -> bool:
    arrays = ("pixel_values", "grid_thw", "flat_grid_thw", "offsets", "original_sizes", "resized_sizes")
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
    typed = all(getattr(one, name).dtype == getattr(other, name).dtype for name in arrays)
    return equal and typed and one.selections == other.selections and one.resampled == other.resampled


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pixelprune")]


def collect(stream: Iterator[pp.StreamResult]) -> list[pp.Batch]:
    """The batches of a stream without errors."""
    batches = []
    for result in stream:
        if result.error is not None:
            raise result.error
        assert result.batch is not None
        batches.append(result.batch)
    return batches


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    assert own_threads() == []


class Gate:
    """A file that says when a worker opens it, and that stays shut until it may."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(png(pixels()))
        self.path = path
        self.entered, self.may = threading.Event(), threading.Event()


@pytest.fixture
def gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Gate]]:
    """Eight of them."""
    gates = [Gate(tmp_path / f"{i}.png") for i in range(8)]
    by_path = {str(gate.path): gate for gate in gates}

    def guarded(path: Any, mode: str) -> Any:
        gate = by_path[os.fspath(path)]
        gate.entered.set()
        assert gate.may.wait(SECONDS)
        return open(path, mode)

    monkeypatch.setattr(pixelprune.images.decode, "open", guarded, raising=False)
    yield gates
    for gate in gates:
        gate.may.set()


# --- Results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", THREADS)
def test_every_kind_of_source_in_order(threads: int, tmp_path: Path) -> None:
    images = [pixels(seed, 24 + seed, 50 - seed) for seed in range(6)]
    path = tmp_path / "one.png"
    path.write_bytes(png(images[0]))
    sources = [
        path,
        str(path),
        png(images[1]),
        io.BytesIO(png(images[2])),
        Image.fromarray(images[3]),
        images[4],
        memoryview(png(images[5])),
        images[3][..., 0],
    ]
    expected = [0, 0, 1, 2, 3, 4, 5]
    results = list(pp.preprocess_stream(sources, SPEC, threads=threads))
    assert [result.index for result in results] == list(range(8))
    assert all(result.source is source for result, source in zip(results, sources, strict=True))
    assert all(result.error is None for result in results)
    for result, number in zip(results, expected, strict=False):
        assert result.batch is not None
        assert same(result.batch, pp.preprocess([images[number]], SPEC))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prune": False, "dtype": "bfloat16"},
        {"method": "either", "metric": "mae", "threshold": 0.1, "anchored": False},
        {"method": "random", "seed": 7, "copies": "single", "dtype": "uint8"},
        {"resample": "pillow", "dtype": "float16"},
        {"resample": "pad"},
        {"method": lambda left, up: ~(left & up)},
    ],
)
def test_settings_are_those_of_preprocess(settings: Any) -> None:
    images = [pixels(seed) for seed in range(4)]
    for threads in (1, 2):
        batches = collect(pp.preprocess_stream(images, SPEC, threads=threads, **settings))
        assert all(
            same(batch, pp.preprocess([image], SPEC, **settings)) for batch, image in zip(batches, images, strict=True)
        )


@pytest.mark.parametrize("threads", THREADS)
def test_no_sources(threads: int) -> None:
    assert list(pp.preprocess_stream([], SPEC, threads=threads)) == []


def test_settings_that_are_asked_for_in_other_places() -> None:
    alpha = (0, 0, 255)
    [batch] = collect(pp.preprocess_stream([see_through()], SPEC, alpha=alpha, threads=2))
    assert same(batch, pp.preprocess([see_through()], SPEC, alpha=alpha))
    pp.set_num_threads(3)
    names: set[str] = set()

    def note(left: Any, up: Any) -> Any:
        names.add(threading.current_thread().name)
        return ~left

    collect(pp.preprocess_stream([pixels()] * 20, SPEC, method=note))
    assert names
    assert all(name.startswith("pixelprune") for name in names)
    names.clear()
    collect(pp.preprocess_stream([pixels()] * 3, SPEC, method=note, threads=1))
    assert names == {threading.current_thread().name}


def test_the_record_is_frozen() -> None:
    [result] = pp.preprocess_stream([pixels()], SPEC)
    with pytest.raises(AttributeError):
        result.index = 3  # type: ignore[misc]


# --- Errors and warnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", THREADS)
def test_bad_images_are_records(threads: int, tmp_path: Path) -> None:
    good = pixels()
    sources = [
        b"damaged",
        good,
        tmp_path / "missing.png",
        png(good)[:-40],
        42,
        good,
        np.zeros((1, 500, 3), np.uint8),
        np.zeros((24, 40, 3), np.float32),
        None,
        good,
    ]
    results = list(pp.preprocess_stream(sources, SPEC, threads=threads))
    assert [result.batch is None for result in results] == [result.error is not None for result in results]
    assert [result.index for result in results if result.error is None] == [1, 5, 9]
    for result, source in zip(results, sources, strict=True):
        if result.error is not None:
            with pytest.raises(type(result.error)) as caught:
                pp.preprocess([source], SPEC)
            assert str(caught.value) in (str(result.error), f"images[0]: {result.error}")


@pytest.mark.parametrize("threads", THREADS)
def test_what_is_not_the_image_s_fault_is_recorded_as_it_is(threads: int) -> None:
    """So that a consumer can tell what is damaged from what can be tried again."""
    errors = [TimeoutError("timed out"), OSError("gone"), MemoryError(), RecursionError(), LookupError("no such part")]

    class Failing(io.BytesIO):
        error: Exception

        def read(self, *_: Any) -> bytes:
            raise self.error

    files: list[Any] = [pixels()]
    for error in errors:
        files.append(Failing())
        files[-1].error = error
    results = list(pp.preprocess_stream([*files, png(pixels())[:-40]], SPEC, threads=threads))
    assert [result.source for result in results[:-1]] == files
    assert all(result.error is error for result, error in zip(results, [None, *errors], strict=False))
    assert isinstance(results[-1].error, pp.PixelPruneError)


@pytest.mark.parametrize("threads", THREADS)
def test_a_kept_error_does_not_keep_the_decoded_image(threads: int) -> None:
    def images() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Image.Image) for thing in gc.get_objects())

    before = images()
    damaged = [png(pixels(seed))[:-40] for seed in range(6)]
    records = list(pp.preprocess_stream([*damaged, see_through()[:-40]], SPEC, threads=threads))
    assert images() == before
    for record in records:
        assert isinstance(record.error, pp.PixelPruneError)
        assert str(record.error).startswith("cannot read the image of ")
        assert isinstance(record.error.__cause__, OSError)
        assert "truncated" in str(record.error.__cause__)


@pytest.mark.parametrize("threads", THREADS)
def test_a_kept_error_keeps_nothing_of_what_was_done(threads: int) -> None:
    class Kept:
        pass

    kept = []

    def method(left: Any, up: Any) -> Any:
        held = Kept()
        kept.append(weakref.ref(held))
        try:
            raise LookupError("inner")
        except LookupError as error:
            raise ValueError("outer") from error

    records = list(pp.preprocess_stream([pixels()] * 3, SPEC, threads=threads, method=method))
    gc.collect()
    assert [ref() for ref in kept] == [None] * 3
    assert [str(record.error) for record in records] == ["outer"] * 3
    assert all(isinstance(record.error.__cause__, LookupError) for record in records if record.error)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [record] = pp.preprocess_stream([see_through()], SPEC, alpha="drop", threads=threads)
    assert record.error is not None
    assert record.error.__traceback__ is None


def test_one_among_thousands() -> None:
    """Errors do not pile up anything."""
    sources = (b"damaged" if i % 500 == 3 else pixels(i, 8, 8) for i in range(2000))
    errors = [result.index for result in pp.preprocess_stream(sources, SPEC, threads=2) if result.error]
    assert errors == [3, 503, 1003, 1503]


@pytest.mark.parametrize("threads", THREADS)
def test_a_method_that_fails(threads: int) -> None:
    def picky(left: Any, up: Any) -> Any:
        if left.shape == (1, 1):
            raise LookupError("too small")
        return ~left

    sources = [pixels(), pixels(0, 8, 8), pixels()]
    first, second, third = pp.preprocess_stream(sources, SPEC, method=picky, threads=threads)
    assert first.batch is not None
    assert third.batch is not None
    assert isinstance(second.error, LookupError)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_an_iterator_that_fails(count: int, threads: int) -> None:
    """What came before it is yielded first."""

    def sources() -> Iterator[Any]:
        for seed in range(count):
            yield pixels(seed)
        raise LookupError("no more")

    stream = pp.preprocess_stream(sources(), SPEC, threads=threads)
    assert [next(stream).index for _ in range(count)] == list(range(count))
    with pytest.raises(LookupError, match="no more"):
        next(stream)
    assert next(stream, None) is None


class Stopping(io.BytesIO):
    """A file that ends the program."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__(b"x")
        self.error = error

    def read(self, *_: Any) -> bytes:
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("threads", THREADS)
def test_the_end_of_the_program_is_no_record(threads: int, error: type[BaseException]) -> None:
    def sources() -> Iterator[Any]:
        yield from itertools.repeat(pixels(), 3)
        raise error

    for given in (sources(), [*itertools.repeat(pixels(), 3), Stopping(error), pixels()]):
        results: list[pp.StreamResult] = []
        with pytest.raises(error):
            results.extend(pp.preprocess_stream(given, SPEC, threads=threads))
        assert len(results) == (3 if threads == 1 else 0)  # it does not wait for what is in flight
        assert own_threads() == []

    def method(left: Any, up: Any) -> Any:
        if left.shape == (1, 1):
            raise error
        return ~left

    stream = pp.preprocess_stream([pixels(), pixels(0, 8, 8), pixels()], SPEC, method=method, threads=threads)
    assert next(stream).batch is not None
    with pytest.raises(error):
        next(stream)
    assert own_threads() == []


@pytest.mark.parametrize("threads", THREADS)
def test_warnings_are_given_once_each_where_the_result_is_asked_for(threads: int) -> None:
    rgba = np.full((24, 40, 4), 100, np.uint8)
    sources = [see_through(), pixels(), see_through(), rgba, Image.fromarray(rgba)]
    stream = pp.preprocess_stream(sources, SPEC, alpha="drop", threads=threads)
    where = []
    for _ in sources:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = next(stream)
        assert result.batch is not None
        where.append([(warning.category, warning.filename) for warning in caught])
        assert all(str(warning.message).startswith(f"sources[{result.index}]: ") for warning in caught)
    assert where == [[(pp.PixelPruneWarning, __file__)] * (i != 1) for i in range(5)]
    assert next(stream, None) is None


@pytest.mark.parametrize("threads", THREADS)
def test_warnings_made_errors_are_errors_of_their_image(threads: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = pp.preprocess_stream([see_through(), pixels()], SPEC, alpha="drop", threads=threads)
    assert isinstance(first.error, pp.PixelPruneWarning)
    assert first.batch is None
    assert second.batch is not None


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"in_flight": 0}, pp.PixelPruneError),
        ({"in_flight": -3}, pp.PixelPruneError),
        ({"in_flight": True}, TypeError),
        ({"in_flight": 2.0}, TypeError),
        ({"threads": -1}, pp.PixelPruneError),
        ({"resample": "nearest"}, pp.PixelPruneError),
        ({"dtype": "int8"}, pp.PixelPruneError),
        ({"alpha": "blue"}, pp.PixelPruneError),
        ({"method": "nonsense"}, pp.PixelPruneError),
        ({"threshold": 2}, pp.PixelPruneError),
        ({"prune": "no"}, TypeError),
    ],
)
def test_arguments_are_checked_at_once(settings: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(settings))):
        pp.preprocess_stream([pixels()], SPEC, **settings)


@pytest.mark.parametrize("sources", ["page.png", b"x", io.BytesIO(), Image.new("RGB", (8, 8)), pixels(), 3])
def test_a_single_image_is_not_a_collection(sources: Any) -> None:
    with pytest.raises(TypeError, match="expected a sequence of images"):
        pp.preprocess_stream(sources, SPEC)


# --- In flight -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "in_flight"), [(2, None), (2, 1), (3, 4), (4, 2), (1, None), (1, 9)])
def test_sources_are_pulled_as_they_are_needed(threads: int, in_flight: int | None) -> None:
    pulled = 0

    def sources() -> Iterator[Any]:
        nonlocal pulled
        for seed in itertools.count():
            pulled += 1
            yield pixels(seed, 8, 8)

    most = 1 if threads == 1 else in_flight or 2 * threads
    stream = pp.preprocess_stream(sources(), SPEC, threads=threads, in_flight=in_flight)
    assert pulled == 0
    for done in range(20):
        assert next(stream).index == done
        assert done < pulled <= done + most
    stream.close()
    assert pulled <= 19 + most


def test_no_more_threads_than_asked_for_work_at_a_time(gates: list[Gate]) -> None:
    stream = pp.preprocess_stream([gate.path for gate in gates], SPEC, threads=2, in_flight=6)
    results: list[pp.StreamResult] = []
    consumer = threading.Thread(target=lambda: results.extend(stream))
    consumer.start()
    try:
        assert gates[0].entered.wait(SECONDS)
        assert gates[1].entered.wait(SECONDS)
        assert not any(gate.entered.wait(0.02) for gate in gates[2:])
        gates[1].may.set()  # the second is done first, and the third begins
        assert gates[2].entered.wait(SECONDS)
        assert not gates[3].entered.wait(0.02)
        assert results == []
    finally:
        for gate in gates:
            gate.may.set()
        consumer.join(SECONDS)
    assert [result.index for result in results] == list(range(8))
    assert all(result.error is None for result in results)


def test_more_threads_than_images() -> None:
    images = [pixels(seed) for seed in range(7)]
    for source in (images, map(png, images)):
        batches = collect(pp.preprocess_stream(source, SPEC, threads=64, in_flight=200))
        assert same(pp.Batch.concatenate(batches), pp.preprocess(images, SPEC))


@pytest.mark.parametrize("most", [0, 1])
def test_where_no_more_threads_can_be_started(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started = itertools.count()
    start = threading.Thread.start

    def limited(self: threading.Thread) -> None:
        if next(started) >= most:
            raise RuntimeError("can't start new thread")
        start(self)

    images = [pixels(seed) for seed in range(9)]
    sources = [png(image) for image in images]
    expected = pp.preprocess(images, SPEC)
    monkeypatch.setattr(threading.Thread, "start", limited)
    assert same(pp.Batch.concatenate(collect(pp.preprocess_stream(sources, SPEC, threads=4))), expected)
    started = itertools.count()
    assert same(pp.preprocess(sources, SPEC, threads=4), expected)
    sources[4] = b"damaged"
    with pytest.raises(pp.PixelPruneError, match=r"images\[4\]"):
        pp.preprocess(sources, SPEC, threads=4)


# --- Stopping --------------------------------------------------------------------------------------------


class Counting(io.BytesIO):
    """An image that knows whether it was read."""

    was_read = False

    def read(self, *args: Any) -> bytes:
        self.was_read = True
        return super().read(*args)


def stop_by_break(stream: Any) -> None:
    for _ in stream:
        break


def stop_by_close(stream: Any) -> None:
    next(stream)
    stream.close()


def stop_by_error(stream: Any) -> None:
    with pytest.raises(LookupError):
        stream.throw(LookupError("enough"))


def stop_by_forgetting(stream: Any) -> None:
    next(stream)


def stop_before_the_first(stream: Any) -> None:
    stream.close()


@pytest.mark.parametrize(
    "stop", [stop_by_break, stop_by_close, stop_by_error, stop_by_forgetting, stop_before_the_first]
)
@pytest.mark.parametrize("threads", THREADS)
def test_a_consumer_that_stops_early(threads: int, stop: Callable[[Any], None]) -> None:
    files = [Counting(png(pixels(seed))) for seed in range(50)]
    stop(pp.preprocess_stream(files, SPEC, threads=threads, in_flight=7))  # its last reference ends here
    assert own_threads() == []
    was_read = [file.was_read for file in files]
    time.sleep(0.02)
    assert [file.was_read for file in files] == was_read
    assert sum(was_read) <= 7
    assert not any(was_read[7:])


def test_what_is_waiting_is_not_read_any_more(gates: list[Gate]) -> None:
    stream = pp.preprocess_stream([pixels(), *(gate.path for gate in gates)], SPEC, threads=2, in_flight=8)
    next(stream)
    assert gates[0].entered.wait(SECONDS)
    assert gates[1].entered.wait(SECONDS)
    for gate in gates[:2]:
        threading.Timer(0.05, gate.may.set).start()
    stream.close()
    assert own_threads() == []
    assert not any(gate.entered.is_set() for gate in gates[2:])


def test_collected_with_a_cycle_it_is_part_of() -> None:
    class Owner:
        stream: Any
        me: Any

    owner = Owner()
    owner.me = owner
    owner.stream = pp.preprocess_stream(itertools.repeat(pixels()), SPEC, threads=2)
    next(owner.stream)
    assert own_threads()
    del owner
    gc.collect()
    assert own_threads() == []


def test_closed_by_one_of_its_own_threads() -> None:
    """As the garbage collector may do; a thread that waits for itself would raise."""
    calls, go, closed = itertools.count(), threading.Event(), threading.Event()
    errors: list[BaseException] = []

    large = pixels(0, 48, 40)

    def close(left: Any, up: Any) -> Any:
        if left.size < 20:  # not the large image, which comes first but may be asked about second
            call = next(calls)
            assert go.wait(SECONDS)
            if call == 0:
                try:
                    stream.close()
                except BaseException as error:
                    errors.append(error)
                closed.set()
        return ~left

    sources = itertools.chain([large], itertools.repeat(pixels()))
    stream = pp.preprocess_stream(sources, SPEC, method=close, threads=2, in_flight=3)
    next(stream)
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("pixelprune")]
    assert workers
    go.set()
    assert closed.wait(SECONDS)
    for worker in workers:
        worker.join(SECONDS)
    assert errors == []
    assert not any(worker.is_alive() for worker in workers)


def print_and_wait(threads: int) -> None:
    """Endless work, interrupted after a while."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started without it
    try:
        for result in pp.preprocess_stream(itertools.repeat(png(pixels(0, 200, 200))), SPEC, threads=threads):
            if result.index == 5:
                print("ready", flush=True)
                if hasattr(signal, "raise_signal"):
                    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    except KeyboardInterrupt:
        deadline = time.monotonic() + SECONDS
        while own_threads() and time.monotonic() < deadline:
            time.sleep(0.01)
        print("interrupted", *own_threads())


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c(threads: int, run_child: RunChild) -> None:
    assert run_child(print_and_wait, threads, timeout=30).split() == ["ready", "interrupted"]


def leave_one_open(threads: int) -> None:
    globals()["_open"] = pp.preprocess_stream(itertools.repeat(pixels()), SPEC, threads=threads)
    print(next(globals()["_open"]).index)


@pytest.mark.parametrize("threads", [2])
def test_the_interpreter_ends_beside_an_open_stream(threads: int, run_child: RunChild) -> None:
    assert run_child(leave_one_open, threads, timeout=30).split() == ["0"]


def leave_much_open(how: str) -> None:
    """Much work in flight, of which the process need not do more than it has begun."""

    def slow(left: Any, up: Any) -> Any:
        if left.size > 1:
            time.sleep(0.2)
            print("done", flush=True)
        return ~left

    sources = itertools.chain([pixels(0, 8, 8)], itertools.repeat(pixels()))
    stream = pp.preprocess_stream(sources, SPEC, threads=2, in_flight=60, method=slow)
    assert next(stream).index == 0
    if how == "open":
        globals()["_open"] = stream
    elif how == "closed":
        stream.close()
    elif how == "interrupted":
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    elif how == "exhausted in a thread":
        threading.Thread(target=list, args=(stream,), daemon=True).start()
    del stream
    print("left", flush=True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", ["open", "closed", "interrupted", "forgotten", "exhausted in a thread"])
def test_what_is_not_begun_is_not_done_when_the_process_ends(how: str, run_child: RunChild) -> None:
    assert run_child(leave_much_open, how).count("done") <= 6  # two, but on a slow machine


def leave_one_open_in_a_child(how: str) -> None:
    in_child(how, leave_much_open_quietly)


def leave_much_open_quietly() -> None:
    leave_much_open("open")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", multiprocessing.get_all_start_methods())
def test_what_is_not_begun_is_not_done_when_a_child_ends(how: str, run_child: RunChild) -> None:
    assert run_child(leave_one_open_in_a_child, how).count("done") <= 6


# --- Processes -------------------------------------------------------------------------------------------


def use(threads: int = 2) -> None:
    images = [pixels(seed) for seed in range(12)]
    batches = collect(pp.preprocess_stream([png(image) for image in images], SPEC, threads=threads))
    assert same(pp.Batch.concatenate(batches), pp.preprocess(images, SPEC))


def in_child(how: str, work: Callable[..., None]) -> None:
    context: Any = multiprocessing.get_context(how)
    child = context.Process(target=work)
    child.start()
    child.join(SECONDS)
    hangs = child.is_alive()
    if hangs:
        child.kill()
        child.join()
    assert not hangs
    assert child.exitcode == 0


def use_beside_children(how: str) -> None:
    use()
    open_stream = pp.preprocess_stream(itertools.repeat(pixels()), SPEC, threads=2)
    next(open_stream)
    in_child(how, use)
    assert next(open_stream).index == 1  # the parent's goes on
    open_stream.close()
    use()


@pytest.mark.parametrize("how", multiprocessing.get_all_start_methods())
def test_children(how: str, run_child: RunChild) -> None:
    run_child(use_beside_children, how, timeout=60)


def use_a_copied_stream() -> None:
    streams = {threads: pp.preprocess_stream(itertools.repeat(pixels()), SPEC, threads=threads) for threads in (1, 2)}
    for stream in streams.values():
        next(stream)

    def child() -> None:
        assert next(streams[1]).index == 1
        with pytest.raises(pp.PixelPruneError, match="forked"):
            next(streams[2])
        streams.clear()
        use()

    in_child("fork", child)
    assert [next(stream).index for stream in streams.values()] == [1, 1]


def forget_a_copied_stream() -> None:
    streams = [pp.preprocess_stream(itertools.repeat(pixels()), SPEC, threads=2)]
    next(streams[0])
    in_child("fork", streams.clear)
    assert next(streams[0]).index == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("work", [use_a_copied_stream, forget_a_copied_stream])
def test_a_stream_that_a_fork_copied(work: Callable[[], None], run_child: RunChild) -> None:
    run_child(work, timeout=60)


# --- Concatenating ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16", "prune": False}, {"resample": "pad", "threshold": 0.2}])
def test_concatenated_batches_are_the_batch_of_all(settings: Any) -> None:
    images = [pixels(seed, 20 + seed, 60) for seed in range(5)]
    batches = [pp.preprocess(part, SPEC, **settings) for part in (images[:2], [], images[2:3], images[3:])]
    whole = pp.preprocess(images, SPEC, **settings)
    assert same(pp.Batch.concatenate(batches), whole)
    assert same(pp.Batch.concatenate(iter(batches)), whole)
    alone = pp.Batch.concatenate([whole])
    assert same(alone, whole)
    assert not np.shares_memory(alone.pixel_values, whole.pixel_values)


def test_batches_that_do_not_fit_each_other() -> None:
    image = pixels()
    batch = pp.preprocess([image], SPEC)
    other = pp.VisionSpec(patch_size=4, merge_size=1, min_pixels=64, max_pixels=64 * 64)
    for unlike in (
        pp.preprocess([image], SPEC, dtype="float16"),
        pp.preprocess([image], SPEC, copies="single"),
        pp.preprocess([image], other),
        pp.preprocess([], SPEC, dtype="uint8"),
    ):
        with pytest.raises(pp.PixelPruneError, match="expected at least one"):
            pp.Batch.concatenate([batch, unlike])
    with pytest.raises(pp.PixelPruneError, match="expected at least one"):
        pp.Batch.concatenate([])
    with pytest.raises(TypeError, match=r"batches\[1\] is a StreamResult"):
        pp.Batch.concatenate([batch, *pp.preprocess_stream([image], SPEC)])  # type: ignore[list-item]


def close_while_another_thread_iterates() -> None:
    image = pixels(1, 1500, 1000)
    for n in range(60):
        stream = pp.preprocess_stream((image for _ in range(20)), "qwen3_vl", threads=3)
        closed = []

        def close(stream: Any = stream, closed: list[bool] = closed) -> None:
            try:
                stream.close()
            except ValueError as error:
                assert "already executing" in str(error)  # noqa: PT017
            closed.append(True)

        timer = threading.Timer(0.001 * (n % 20), close)
        timer.start()
        assert all(result.error is None for result in stream)
        timer.join()
        assert closed


def test_closing_while_another_thread_iterates(run_child: RunChild) -> None:
    run_child(close_while_another_thread_iterates, timeout=120)
