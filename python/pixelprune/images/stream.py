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
    """What became of one image of a stream: its patches, or the error. Made by `preprocess_stream`.

    The class of an error says whether to try again. `PixelPruneError` and `TypeError` are about the image or the
    settings and would come again. Any other exception is the very one that was raised, and the image may be good:
    ``OSError`` (`FileNotFoundError`, `TimeoutError`, ...) and whatever else a file object's ``read`` raises,
    ``MemoryError``, an error of a ``method`` function.

    Attributes:
        index: its place among the sources, from 0.
        source: the very object that ``sources`` gave.
        batch: a `Batch` of this one image; None where there is an error.
        error: the exception that `preprocess` would have raised, without the number of the image; None where there
            is none. It has no traceback, whose frames would keep the decoded image in memory.

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
    """Preprocess images one by one, in order, decoding and packing several at a time in threads.

    Every image gives one record with its `Batch` or its error: a damaged file among thousands does not end
    the loop. `Batch.concatenate` puts the batches that are to go through a model together into one. Arguments are
    checked at once; images are read when results are asked for.

    An iterator of sources that raises ends the stream: what came before it is yielded first. ``KeyboardInterrupt`` and
    ``SystemExit`` are never made records. When the stream ends early (``close()``, the end of its last reference, an
    exception, the end of the process), its threads finish the images that they are at, and no other image is begun. A
    warning about an image is given where its result is asked for, once; if filters make it an error, it is that
    image's error.

    Args:
        sources: images as in `preprocess`: any iterable, also an endless one. It is iterated in the caller's
            thread, no further than ``in_flight`` images ahead; file objects and lazy PIL images are read in that
            thread, too, and only paths and bytes are decoded by others. Images in a list or tuple are borrowed, and
            must stay as they are until their result has come; those of any other iterable are copied where it could
            change them meanwhile.
        spec: a `VisionSpec` or the name of a preset.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`). A function is called in several
            threads.
        prune: as in `preprocess`.
        resample: as in `preprocess`.
        alpha: as in `preprocess`.
        dtype: as in `preprocess`.
        copies: as in `preprocess`.
        channels_first: as in `preprocess`.
        threads: images that are worked on at a time, each by one thread; None: `set_num_threads`. With 1 no thread
            is started and images are read one at a time. If the system has no more threads, fewer are used. The results
            do not depend on it.
        in_flight: images that are read, worked on or waiting for the caller, at most; None: twice ``threads``. So
            many images and their patches are in memory at a time.

    Returns:
        A generator of `StreamResult`, in the order of the sources.

    Raises:
        PixelPruneError: a name or number is not among those allowed. When iterated: the stream was made before a fork
            and is used in the child.
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
        1 cannot read the image of 7 bytes: not an image that Pillow knows (empty, damaged or of another kind)
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
    """The same error without tracebacks, whose frames hold the decoded image for as long as the error is kept."""
    links: list[BaseException | None] = [error]
    seen = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += [link.__cause__, link.__context__]
    return error
