"""Threads that work on tasks whose results are taken in order."""

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
    """Yield what the tasks return, in their order, while up to ``threads`` of them are worked on at a time.

    ``tasks`` is iterated in the caller's thread, no further than ``ahead`` tasks in advance. An exception of a task or
    of the iterator is raised after the results before it; no task after a failed one is begun. ``KeyboardInterrupt``
    and ``SystemExit`` in the caller's thread are raised at once. However it ends, the threads finish the tasks that
    they are at, and no others. With one thread none is started.
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
                except Exception as error:  # the end of the tasks, or their failure, once the others are through
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
    """A task, and then what became of it."""

    def __init__(self, place: int, task: Task[T]) -> None:
        self.place = place
        self._task: Task[T] | None = task
        self._outcome: T | None = None
        self._error: BaseException | None = None
        self._is_done = threading.Event()

    def run(self) -> bool:
        """Do the task; whether that went well."""
        assert self._task is not None
        went_well = False
        try:
            self._outcome = self._task()
            went_well = True
        except BaseException as error:
            self._error = error
        finally:
            self._task = None
            self._is_done.set()
        return went_well

    def result(self) -> T:
        """Wait for the outcome, and hand it out once."""
        self._is_done.wait()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds this frame
        outcome, self._outcome = self._outcome, None
        return cast("T", outcome)


class _Worker(threading.Thread):
    """A daemon: nothing but `_Crew.stop` waits for it, so that no end of a process does."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(target=work, name="pixelprune", daemon=True)


class _Crew(Generic[T]):
    """Workers that take jobs from a queue; started as jobs come.

    A generator that holds a crew may be closed by the garbage collector, in any thread and at any point of it, in one
    of the workers, too. So there are no locks, only a queue whose ``put`` may interrupt itself.
    """

    def __init__(self, threads: int) -> None:
        self._most = threads
        self._workers: list[_Worker] = []
        self._queue: SimpleQueue[_Job[T] | None] = SimpleQueue()
        self._begun = 0
        self._failed = sys.maxsize
        """The place of a job that failed; those after it are not begun."""
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
        except RuntimeError:  # the system has no more threads: those that there are do the work
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
        """Wait for a job, the earliest one without result."""
        if not self._workers:
            first = self._queue.get()
            assert first is job
            job.run()
        return job.result()

    def has_failed(self) -> bool:
        return self._failed < sys.maxsize

    def check(self) -> None:
        """Refuse to go on without workers: a forked child has none of its parent's."""
        if self._workers and not self._workers[0].is_alive():
            raise PixelPruneError(
                "the stream's threads are gone, because the process was forked or is ending; expected a stream "
                "to be used where it was made: make another one here"
            )

    def stop(self) -> None:
        """Let the workers finish the jobs that they are at, and wait for that."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._queue.put(None)
        _crews.discard(self)
        # One worker may not wait for another one, which may be waiting for it.
        if not isinstance(threading.current_thread(), _Worker):
            for worker in self._workers:
                if worker.is_alive():
                    worker.join()


_crews: set[_Crew[Any]] = set()
"""Those at work."""


@atexit.register
def _stop_all() -> None:
    for crew in list(_crews):
        crew.stop()
