"""How long contestants take, and whether they compute the same values.

Everything runs on the same images in one process, on one thread, in turns, so that a slow moment of the machine hits
all alike. A figure is the median over the rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arguments import as_int, escaped, shown
from ..errors import PixelPruneError, PixelPruneWarning
from ..images.batch import Batch
from ..images.preprocessing import preprocess
from ..selection.result import patch_indices
from ..spec import VisionSpec
from .contestants import Jobs, Work
from .samples import Sample, read_sample

CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "thread": time.thread_time,
    "process": time.process_time,
}
"""Wall-clock time; processor time of the calling thread; processor time of all threads. On a machine that others use
too, processor time is the steadier one. That of the calling thread says nothing about work done in a pool."""

_SLOW_ROUNDS = 3

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Measured:
    """The times of one sample.

    Attributes:
        name: the sample's.
        pixels: how many its images have in all, as decoded.
        kept: fraction of the tokens that is kept at threshold 0.
        seconds: for each job the median seconds of each contestant.
        equal: for each contestant of ``"patches"`` whether its values are the first contestant's, bit for bit
            (those of the patches that it keeps); None where it gives another type.
    """

    name: str
    pixels: int
    kept: float
    seconds: dict[str, dict[str, float]]
    equal: dict[str, bool | None]


def measure(
    sample: Sample, spec: VisionSpec, jobs: Jobs, *, rounds: int, clock: str = "wall", pause: float = 0.0
) -> Measured:
    """Measure all contestants on one sample, in turns.

    Args:
        sample: the images.
        spec: what they are prepared for.
        jobs: the contestants of each job, as `contestants.jobs` returns them.
        rounds: times that each is run and timed; the slow ones fewer times.
        clock: one of `CLOCKS`.
        pause: seconds to wait before each run.

    Raises:
        PixelPruneError: `preprocess` can't work with an image; the message names it.

    Example:
        >>> import pixelprune as pp
        >>> from PIL import Image
        >>> from pixelprune.cli import contestants, samples, timing
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> sample = samples.Sample("white", [], [Image.new("RGB", (256, 256), "white")])
        >>> found = timing.measure(sample, spec, {"patches": {"ours": contestants.ours(spec)}}, rounds=1)
        >>> found.kept, list(found.seconds["patches"])
        (0.015625, ['ours'])
    """
    with warnings.catch_warnings(), torch_threads(1):
        warnings.simplefilter("ignore")  # about clipped values and the like
        try:
            kept = preprocess(sample.images, spec, dtype="uint8", copies="single", threads=1).selections
        except PixelPruneError as error:
            raise PixelPruneError(f"{escaped(sample.name)}: {error}") from error
        works = {(job, name): c.make(sample) for job, members in jobs.items() for name, c in members.items()}
        equal = _warm_up(works)
        counts = {(j, n): min(rounds, _SLOW_ROUNDS) if jobs[j][n].slow else rounds for j, n in works}
        medians = take_turns(works, counts, clock, pause)
    seconds: dict[str, dict[str, float]] = {job: {} for job in jobs}
    for (job, name), median in medians.items():
        seconds[job][name] = median
    pixels = sum(image.height * image.width for image in sample.images)
    share = sum(s.kept for s in kept) / sum(s.total for s in kept)
    return Measured(sample.name, pixels, share, seconds, equal)


def measure_all(
    images: Sequence[tuple[str, Path | bytes]],
    spec: VisionSpec,
    jobs: Jobs,
    *,
    rounds: int,
    clock: str = "wall",
) -> Iterator[Measured]:
    """Measure images one after the other; those that can't be worked with are left out, with a warning.

    Args:
        images: their names, and their files or the bytes of those.
        spec: what they are prepared for.
        jobs: the contestants of each job, as `contestants.jobs` returns them.
        rounds: as for `measure`.
        clock: as for `measure`.

    Raises:
        PixelPruneError: none of them can be worked with (the last one's error, without a warning if there is one only).
        OSError: a file can't be read.

    Warns:
        PixelPruneWarning: an image is left out.

    Example:
        >>> import io
        >>> import pixelprune as pp
        >>> from PIL import Image
        >>> from pixelprune.cli import contestants, timing
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (256, 256)).save(file, "PNG")
        >>> spec = pp.VisionSpec.preset("qwen3_vl")
        >>> jobs = {"patches": {"ours": contestants.ours(spec)}}
        >>> [one.name for one in timing.measure_all([("black", file.getvalue())], spec, jobs, rounds=1)]
        ['black']
    """
    failed, good = None, 0
    for name, source in images:
        try:
            measured = measure(read_sample(name, source), spec, jobs, rounds=rounds, clock=clock)
        except PixelPruneError as error:
            if len(images) == 1:
                raise
            failed = error
            warnings.warn(f"left out: {error}", PixelPruneWarning, stacklevel=2)
        else:
            good += 1
            yield measured
    if failed and not good:
        raise failed


def take_turns(
    works: Mapping[Name, Work], rounds: Mapping[Name, int], clock: str = "wall", pause: float = 0.0
) -> dict[Name, float]:
    """Return the median seconds of each work, run in turns.

    Args:
        works: what to run.
        rounds: how often each.
        clock: one of `CLOCKS`.
        pause: seconds to wait before each run, for what the one before left running in other threads.

    Raises:
        PixelPruneError: there is no such clock, or a number of rounds is below 1.
        TypeError: a number of rounds is not an integer.

    Example:
        >>> from pixelprune.cli import timing
        >>> sorted(timing.take_turns({"a": list, "b": dict}, {"a": 3, "b": 1}))
        ['a', 'b']
    """
    if clock not in CLOCKS:
        raise PixelPruneError(f"clock is {shown(clock)}; expected one of {', '.join(CLOCKS)}")
    for name in works:
        if as_int(rounds[name], "rounds", "an integer of at least 1") < 1:
            raise PixelPruneError(f"rounds is {shown(rounds[name])}; expected at least 1")
    now = CLOCKS[clock]
    times: dict[Name, list[float]] = {name: [] for name in works}
    for turn in range(max(rounds[name] for name in works)):
        for name, work in works.items():
            if turn < rounds[name]:
                time.sleep(pause)
                start = now()
                result = work()
                times[name].append(now() - start)
                del result  # not timed
    return {name: statistics.median(taken) for name, taken in times.items()}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use that many threads, if it has been imported.

    Args:
        count: the number of threads.

    Example:
        >>> from pixelprune.cli import timing
        >>> with timing.torch_threads(1):
        ...     pass
    """
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    try:
        if torch:
            torch.set_num_threads(count)
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


def _warm_up(works: dict[tuple[str, str], Work]) -> dict[str, bool | None]:
    """Run each work once, and compare the patches with those of the first contestant."""
    expected: NDArray[Any] | None = None
    equal: dict[str, bool | None] = {}
    for (job, name), work in works.items():
        result = work()
        if job == "patches":
            if expected is None:
                expected = _values(result)
            equal[name] = _same(result, expected)
    return equal


def _values(result: Any) -> NDArray[Any]:
    return result.pixel_values if isinstance(result, Batch) else np.asarray(result)


def _same(result: Any, expected: NDArray[Any]) -> bool | None:
    values = _values(result)
    if values.dtype != expected.dtype:
        return None
    if isinstance(result, Batch) and len(values) < len(expected):
        expected = expected[patch_indices(result.selections, flat=True)]
    return np.array_equal(values, expected)
