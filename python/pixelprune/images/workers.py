"""Threads that run tasks and return the results in order."""

from __future__ import annotations

import atexit
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar, cast

from ..errors import PixelPruneError

T = TypeVar("T")
Task: TypeAlias = Callable[[], T]


def in_order(tasks: Iterator[Task[T]], threads: int, ahead: int) -> Generator[T, None, None]:
    """Yield the results of tasks in order, running up to ``threads`` tasks at a time.

    ``tasks`` is iterated in the calling thread, at most ``ahead`` tasks in advance. An exception in a task or in the
    iterator is raised after the results before it; no task after a failed one is started. ``KeyboardInterrupt``
    and ``SystemExit`` in the calling thread are raised immediately. However it ends, the threads finish the tasks they
    are running and start no others. With ``threads=1`` no thread is started.
    """
    if min(threads, ahead) == 1:
        for task in tasks:
            yield task()
        return
    crew: _Crew[T] = _Crew(min(threads, ahead))
    waiting: deque[_Job[T]] = deque()
    end: Exception | None = None
    try:
        while True:
            crew.check()
            while end is None and len(waiting) < ahead and not crew.has_failed():
                try:
                    waiting.append(crew.begin(next(tasks)))
                except Exception as error:  # StopIteration or a failure, raised after the tasks before it
                    end = error
            if not waiting:
                break
            yield crew.result(waiting.popleft())
        if end is not None and not isinstance(end, StopIteration):
            raise end
    finally:
        del end  # its traceback holds this frame
        crew.stop()


class _Job(Generic[T]):
    """A task, and later its result or error."""

    def __init__(self, place: int, task: Task[T]) -> None:
        self.place = place
        self._task: Task[T] | None = task
        self._outcome: T | None = None
        self._error: BaseException | None = None
        self._is_done = threading.Event()

    def run(self) -> bool:
        """Run the task; return whether it succeeded."""
        assert self._task is not None
        succeeded = False
        try:
            self._outcome = self._task()
            succeeded = True
        except BaseException as error:
            self._error = error
        finally:
            self._task = None
            self._is_done.set()
        return succeeded

    def result(self) -> T:
        """Wait for the result and return it; can be called once."""
        self._is_done.wait()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds this frame
        outcome, self._outcome = self._outcome, None
        return cast("T", outcome)


class _Worker(threading.Thread):
    """A daemon thread: only `_Crew.stop` waits for it, so it does not delay the end of the process."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(target=work, name="pixelprune", daemon=True)


class _Crew(Generic[T]):
    """Workers that take jobs from a queue; they are started as jobs arrive.

    The garbage collector may close a generator that holds a crew in any thread, a worker included, and at any point.
    So there are no locks, only a queue whose ``put`` is reentrant.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads
        self._workers: list[_Worker] = []
        self._queue: SimpleQueue[_Job[T] | None] = SimpleQueue()
        self._begun = 0
        self._failed = sys.maxsize
        """Place of a failed job; jobs after it are not started."""
        self._is_stopped = False

    def begin(self, task: Task[T]) -> _Job[T]:
        """Queue a task."""
        job = _Job(self._begun, task)
        self._begun += 1
        self._queue.put(job)
        if len(self._workers) < self._most:
            self._add_worker()
        return job

    def _add_worker(self) -> None:
        _crews.add(self)
        worker = _Worker(self._work)
        try:
            worker.start()
        except RuntimeError:  # the system can't start more threads: go on with those there are
            self._most = len(self._workers)
        else:
            self._workers.append(worker)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.place < self._failed and not self._is_stopped and not job.run():
                self._failed = job.place
            del job
        self._queue.put(None)  # for the next worker

    def result(self, job: _Job[T]) -> T:
        """Wait for the result of a job, which must be the earliest one not yet returned."""
        if not self._workers:
            first = self._queue.get()
            assert first is job
            job.run()
        return job.result()

    def has_failed(self) -> bool:
        return self._failed < sys.maxsize

    def check(self) -> None:
        """Raise if the workers are gone: a forked child does not inherit its parent's threads."""
        if self._workers and not self._workers[0].is_alive():
            raise PixelPruneError(
                "the stream's threads are gone, because the process was forked or is exiting; expected a stream "
                "to be used in the process that created it: create another one here"
            )

    def stop(self) -> None:
        """Let the workers finish the jobs they are running, and wait for them."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._queue.put(None)
        _crews.discard(self)
        # A worker must not wait for another worker, which may be waiting for it.
        if not isinstance(threading.current_thread(), _Worker):
            for worker in self._workers:
                if worker.is_alive():
                    worker.join()


_crews: set[_Crew[Any]] = set()
"""The crews at work."""


@atexit.register
def _stop_all() -> None:
    for crew in list(_crews):
        crew.stop()
