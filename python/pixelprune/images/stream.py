"""Preprocessing many images: results come one by one, in order, with several images in progress."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ..arguments import as_int, shown
from ..caller import warn
from ..errors import PixelPruneError, PixelPruneWarning
from ..runtime import resolve
from ..selection.settings import PruneOptions, PruneSettings, settings_of
from ..spec import VisionSpec
from .batch import Batch
from .decode import Alpha
from .options import Copies, DType, PreprocessOptions, Resample
from .preprocessing import run
from .sources import Intake, Taken, iterate, prepare_image
from .workers import Task, in_order

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamResult:
    """The result for one image of a stream: its patches, or an error. Made by `preprocess_stream`.

    The class of an error tells whether a retry makes sense. `PixelPruneError` and `TypeError` are about the image or
    the settings and would occur again. Any other exception is passed on unchanged, and the image may be good:
    ``OSError`` (`FileNotFoundError`, `TimeoutError`, ...) and whatever else a file object's ``read`` raises,
    ``MemoryError``, an error in a ``method`` function.

    Attributes:
        index: position of the image among the sources, from 0.
        source: the object that ``sources`` yielded.
        batch: a `Batch` of this one image; None if there was an error.
        error: the exception that `preprocess` would have raised, without the index of the image; None if there was
            no error. Its traceback is removed, because the frames would keep the decoded image in memory.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> [bad] = pp.preprocess_stream([b"not an image"], "qwen3_vl")
        >>> bad.batch is None, type(bad.error).__name__
        (True, 'PixelPruneError')
    """

    index: int
    source: Any
    batch: Batch | None = None
    error: Exception | None = None


Outcome: TypeAlias = tuple[StreamResult, list[str]]
"""The result for an image, and its warnings."""


def preprocess_stream(
    sources: Iterable[Any],
    spec: VisionSpec | str,
    *,
    settings: PruneSettings | None = None,
    prune: bool = True,
    resample: Resample = "torchvision",
    alpha: Alpha = "white",
    dtype: DType = "float32",
    copies: Copies = "repeat",
    channels_first: bool = False,
    threads: int | None = None,
    in_flight: int | None = None,
    **options: Unpack[PruneOptions],
) -> Generator[StreamResult, None, None]:
    """Preprocess images one by one, in order; several threads work on several images at a time.

    Every image gives one `StreamResult` with its `Batch` or its error, so a damaged file among thousands does not end
    the loop. `Batch.concatenate` joins batches that go through a model together. Arguments are checked immediately;
    images are read as results are requested.

    If the iterator of sources raises, the results before it are yielded first, and then the exception is raised.
    ``KeyboardInterrupt`` and ``SystemExit`` never become results. When the stream ends early (``close()``, its last
    reference is gone, an exception, the process exits), its threads finish the images they are working on and start
    no others. A warning about an image is given once, when its result is requested; if warning filters turn it into
    an error, it becomes the image's error.

    Args:
        sources: images as in `preprocess`: any iterable, including an endless one. It is iterated in the calling
            thread, at most ``in_flight`` images ahead. File objects and lazy PIL images are read in that thread too;
            only paths and bytes are decoded in other threads. Images in a list or tuple are borrowed and must not be
            modified until their result is returned; those of any other iterable are copied if they could change
            before they are used.
        spec: a `VisionSpec` or the name of a preset.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`). A ``method``
            function is called in several threads.
        prune: as in `preprocess`.
        resample: as in `preprocess`.
        alpha: as in `preprocess`.
        dtype: as in `preprocess`.
        copies: as in `preprocess`.
        channels_first: as in `preprocess`.
        threads: number of images to work on at a time, each in one thread; None: as in `set_num_threads`. With 1, no
            thread is started and images are read one at a time. If the system can't start as many threads, fewer are
            used. The results do not depend on it.
        in_flight: the most images, with their patches, that are in memory at a time: read ahead, in work, or waiting
            for the caller; None: twice ``threads``.

    Returns:
        A generator of `StreamResult`, in the order of the sources.

    Raises:
        PixelPruneError: an argument has a value that is not allowed. When iterated: the stream was created before a
            fork and is used in the child process.
        TypeError: an argument of the wrong type; ``sources`` is a single image.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((64, 96, 3), 255, np.uint8)
        >>> good = []
        >>> for result in pp.preprocess_stream([page, b"damaged", page], "qwen3_vl", resample="none", threads=2):
        ...     if result.batch is None:
        ...         print(result.index, result.error)
        ...     else:
        ...         good.append(result.batch)
        1 cannot read the image of 7 bytes: not an image that Pillow can identify (empty, damaged or unknown format)
        >>> pp.Batch.concatenate(good)
        Batch(2 images, kept 2 of 12 tokens, pixel_values float32 (8, 1536))
    """
    chosen = PreprocessOptions.checked(
        spec,
        settings=settings_of(settings, options),
        prune=prune,
        resample=resample,
        alpha=alpha,
        dtype=dtype,
        copies=copies,
        channels_first=channels_first,
    )
    count = resolve(threads)
    ahead = 2 * count if in_flight is None else _check_in_flight(in_flight)
    iterator = iter(iterate(sources))
    stream = _Stream(sources, chosen, waits=min(count, ahead) > 1)
    return _in_order(map(stream.task, itertools.count(), iterator), count, ahead)


def _check_in_flight(in_flight: Any) -> int:
    ahead = as_int(in_flight, "in_flight", "an integer of at least 1")
    if ahead < 1:
        raise PixelPruneError(f"in_flight is {shown(ahead)}; expected at least 1")
    return ahead


class _Stream:
    """Makes a task for each source."""

    def __init__(self, sources: Any, options: PreprocessOptions, *, waits: bool) -> None:
        self._options = options
        self._intake = Intake(sources, options, waits=waits)

    def task(self, index: int, source: Any) -> Task[Outcome]:
        """Take the source in the thread that iterates the sources, and leave the rest to a worker."""
        try:
            taken = self._intake.take(source)
        except Exception as error:
            result = StreamResult(index=index, source=source, error=_without_frames(error))
            return lambda: (result, [])
        return partial(_work, self._options, index, source, taken)


def _work(options: PreprocessOptions, index: int, source: Any, taken: Taken) -> Outcome:
    try:
        image, notes = prepare_image(taken, options)
        batch = run([image], options, 1, None)
    except Exception as error:
        return StreamResult(index=index, source=source, error=_without_frames(error)), []
    return StreamResult(index=index, source=source, batch=batch), notes


def _in_order(tasks: Iterator[Task[Outcome]], threads: int, ahead: int) -> Generator[StreamResult, None, None]:
    with contextlib.closing(in_order(tasks, threads, ahead)) as results:
        # No "yield from": Python 3.12 crashes when another thread closes a running generator that delegates.
        for result, notes in results:
            yield _warned(result, notes)


def _warned(result: StreamResult, notes: list[str]) -> StreamResult:
    """Give the warnings, which point at the line that asks for the result; if filters make one an error, record it."""
    try:
        for note in notes:
            warn(f"sources[{result.index}]: {note}")
    except PixelPruneWarning as warning:
        return replace(result, batch=None, error=_without_frames(warning))
    return result


def _without_frames(error: Exception) -> Exception:
    """Return the error without tracebacks, whose frames would keep the decoded image in memory."""
    links: list[BaseException | None] = [error]
    seen = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += [link.__cause__, link.__context__]
    return error
