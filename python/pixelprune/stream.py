"""Preprocessing of many pictures, one result after the other, several in flight at a time."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from .errors import PixelPruneError, PixelPruneWarning
from .load import Alpha
from .pictures import iterate, open_picture
from .preprocessing import Batch, pack
from .pruning import Method, Metric
from .spec import VisionSpec
from .steps import Copies, DType, Resample, Steps
from .threads import resolve


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamResult:
    """What became of one picture of a stream: its patches, or the error. Made by `preprocess_stream`.

    Attributes:
        index: its place among the sources, from 0.
        source: the very object that ``sources`` gave.
        batch: a `Batch` of this one picture; None where there is an error.
        error: the exception that `preprocess` would have raised; None where there is none.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> [bad] = pp.preprocess_stream([b"no picture"], "qwen3_vl")
        >>> bad.batch is None, type(bad.error).__name__
        (True, 'PixelPruneError')
    """

    index: int
    source: Any
    batch: Batch | None = None
    error: Exception | None = None


def preprocess_stream(
    sources: Iterable[Any],
    spec: VisionSpec | str,
    *,
    method: Method = "pred_2d",
    metric: Metric = "max",
    threshold: float = 0.0,
    anchored: bool = True,
    seed: int = 42,
    prune: bool = True,
    resample: Resample = "torchvision",
    alpha: Alpha = "drop",
    dtype: DType = "float32",
    temporal: Copies = "repeat",
    threads: int | None = None,
    in_flight: int | None = None,
) -> Generator[StreamResult, None, None]:
    """Preprocess pictures one by one, in order, decoding and packing several at a time in threads.

    Every picture gives one record with its `Batch` or its error: a damaged file among thousands does not end
    the loop. `Batch.concatenate` puts the batches that are to go through a model together into one. Arguments are
    checked at once; pictures are read when results are asked for.

    An iterator of sources that raises ends the stream: what came before it is yielded first. ``KeyboardInterrupt`` and
    ``SystemExit`` are never made records. Closing the stream (``close()``, the end of its last reference) ends its
    threads as soon as the pictures that they are at are done; no other picture is read. A warning about a picture is
    given where its result is asked for, once; if filters make it an error, it is that picture's error.

    Args:
        sources: pictures as in `preprocess`: any iterable, also an endless one. It is iterated in the caller's
            thread, no further than ``in_flight`` pictures ahead. Arrays, images and files must stay as they are
            until their result has come.
        spec: a `VisionSpec` or the name of a preset.
        method: as in `pixelprune.prune`; a function is called in several threads.
        metric: as in `pixelprune.prune`.
        threshold: as in `pixelprune.prune`.
        anchored: as in `pixelprune.prune`.
        seed: as in `pixelprune.prune`.
        prune: as in `preprocess`.
        resample: as in `preprocess`.
        alpha: as in `load_image`.
        dtype: as in `preprocess`.
        temporal: as in `preprocess`.
        threads: pictures that are worked on at a time, each by one thread; None: `set_num_threads`. With 1 no thread
            is started and pictures are read one at a time. The results do not depend on it.
        in_flight: pictures that are read, worked on or waiting for the caller, at most; None: twice ``threads``. So
            many pictures and their patches are in memory at a time.

    Returns:
        A generator of `StreamResult`, in the order of the sources.

    Raises:
        PixelPruneError: a name or number is not among those allowed. When iterated: the stream was made before a fork
            and is used in the child.
        TypeError: an argument of the wrong type; ``sources`` is a single picture.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((64, 96, 3), 255, np.uint8)
        >>> good = []
        >>> for result in pp.preprocess_stream([page, b"damaged", page], "qwen3_vl", resample="none", threads=2):
        ...     if result.batch is None:
        ...         print(result.index, result.error)
        ...     else:
        ...         good.append(result.batch)
        1 cannot read the picture of 7 bytes: not a picture that Pillow knows (empty, damaged or of another kind)
        >>> pp.Batch.concatenate(good)
        Batch(2 pictures, kept 2 of 12 tokens, pixel_values float32 (8, 1536))
    """
    steps = Steps.checked(
        spec,
        method=method,
        metric=metric,
        threshold=threshold,
        anchored=anchored,
        seed=seed,
        prune=prune,
        resample=resample,
        alpha=alpha,
        dtype=dtype,
        temporal=temporal,
    )
    count = resolve(threads)
    ahead = 2 * count if in_flight is None else _check_in_flight(in_flight)
    pictures = iter(iterate(sources))
    return _one_by_one(pictures, steps) if count == 1 else _in_threads(pictures, steps, min(count, ahead), ahead)


def _check_in_flight(in_flight: Any) -> int:
    if isinstance(in_flight, bool) or not hasattr(in_flight, "__index__"):
        raise TypeError(f"in_flight is {in_flight!r}; expected an integer of at least 1")
    ahead: int = in_flight.__index__()
    if ahead < 1:
        raise PixelPruneError(f"in_flight is {ahead}; expected at least 1")
    return ahead


def _one_by_one(sources: Iterator[Any], steps: Steps) -> Generator[StreamResult, None, None]:
    for index, source in enumerate(sources):
        yield _tell(*_work(steps, index, source))


def _in_threads(sources: Iterator[Any], steps: Steps, count: int, ahead: int) -> Generator[StreamResult, None, None]:
    workers: list[threading.Thread] = []
    pool = ThreadPoolExecutor(count, "pixelprune", lambda: workers.append(threading.current_thread()))
    waiting: deque[tuple[Any, Future[tuple[StreamResult, list[str]]]]] = deque()
    end: Exception | None = None
    index = 0
    try:
        while True:
            if _are_gone(workers):
                raise PixelPruneError(
                    "the stream's threads are gone, because the process was forked or is ending; expected a stream "
                    "to be used where it was made: make another one here"
                )
            while end is None and len(waiting) < ahead:
                try:
                    source = next(sources)
                except Exception as error:  # the sources' end, or their failure, once the others are through
                    end = error
                    break
                _await_same(source, waiting)
                waiting.append((source, pool.submit(_work, steps, index, source)))
                index += 1
            if not waiting:
                break
            yield _tell(*waiting.popleft()[1].result())
        if not isinstance(end, StopIteration):
            assert end is not None
            raise end
    finally:
        del end  # its traceback holds this frame
        if not _are_gone(workers):
            # The garbage collector may close a stream in any thread, and none can wait for itself.
            pool.shutdown(wait=threading.current_thread() not in workers, cancel_futures=True)


def _are_gone(workers: list[threading.Thread]) -> bool:
    """Whether this is a forked child, which has none of its parent's threads (or the interpreter has ended them)."""
    return bool(workers) and not workers[0].is_alive()


def _await_same(source: Any, waiting: Iterable[tuple[Any, Future[Any]]]) -> None:
    """Let a file or an image that is being read come to its end before it is read once more."""
    if hasattr(source, "read") or isinstance(source, Image.Image):
        wait([future for other, future in waiting if other is source])


def _work(steps: Steps, index: int, source: Any) -> tuple[StreamResult, list[str]]:
    """The result for one picture, and what its owner should know about it."""
    try:
        picture, notes = open_picture(source, steps)
        batch = pack([picture], steps, 1, None)
    except Exception as error:
        return StreamResult(index=index, source=source, error=error), []
    return StreamResult(index=index, source=source, batch=batch), notes


def _tell(result: StreamResult, notes: list[str]) -> StreamResult:
    """Give the warnings, in the name of the line that asks for the result."""
    try:
        for note in notes:
            warnings.warn(f"sources[{result.index}]: {note}", PixelPruneWarning, stacklevel=3)
    except PixelPruneWarning as warning:
        return replace(result, batch=None, error=warning)
    return result
