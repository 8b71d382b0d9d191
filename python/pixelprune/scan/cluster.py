"""Measuring on a Ray cluster: the images of a scan in pieces, each measured by a task, with the results in order.

The process of the caller searches the sources and writes the rows; workers read, decode and measure. A file travels by
its name, so every node has to see the same files. Ray runs a task again when its worker or its node is lost.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import platform
import socket
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from .. import _core
from ..arguments import escaped, shown, text_of
from ..errors import PixelPruneError
from .measuring import Measured, measure_item
from .options import ScanOptions
from .requirements import need
from .sources.finding import Found
from .sources.item import Item, Reading
from .sources.reading import items_of

PIECE = 64
"""Images that a task measures: a second or more of work."""
WINDOW = 2048
"""Pieces of a pipeline: what the caller holds in memory."""
RETRIES = 5
"""How often a task is run again whose worker or node was lost; Ray Data would do so for ever."""
PATIENCE = 10.0
"""Seconds until a cluster has to answer."""
PURPOSE = "the engine ray"


class Span(NamedTuple):
    """Consecutive images of a file."""

    found: Found
    first: int
    end: int


class Work(NamedTuple):
    """What a task does with its piece; the same for all of them."""

    options: ScanOptions
    reading: Reading
    base: str
    """The directory that relative paths are relative to."""
    version: str

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Measure a piece. An error that ends the scan is returned: Ray would print it with its traceback."""
        try:
            outcome: list[Measured] | Exception = self.measure(pickle.loads(row["piece"]))
        except (PixelPruneError, OSError, ImportError) as error:
            outcome = error
        return {"outcome": pickle.dumps(outcome)}

    def measure(self, spans: Sequence[Span]) -> list[Measured]:
        """Measure the images of some spans."""
        node = escaped(platform.node())
        if _core.version() != self.version:
            raise PixelPruneError(
                f"{node} has pixelprune {_core.version()}; expected {self.version}, which the scan was started with"
            )
        measured = []
        with _directory(self.base, node), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about damaged files: the rows tell
            for found, first, end in spans:
                if not found.path.parent.is_dir():
                    raise _unseen(str(found.path.parent), node)
                items = itertools.islice(items_of(found, self.reading), first, end)
                measured += [measure_item(item, self.options) for item in items]
        return measured


def measure_items(
    items: Iterator[Item], options: ScanOptions, reading: Reading
) -> Generator[tuple[float, Measured], None, None]:
    """Measure images on the cluster that is `connected`, and yield the results in order.

    Args:
        items: of `Sources`.
        options: how to measure.
        reading: how the sources are read.

    Yields:
        The ``done`` of the item and what was measured.

    Raises:
        PixelPruneError: the cluster can't do the work, or the sources have changed.
        OSError: a source can't be read.
        ImportError: a worker lacks a package.
    """
    work = Work(options, reading, os.getcwd(), _core.version())
    failure: Exception | None = None
    while failure is None:
        window: list[Item] = []
        try:
            for item in itertools.islice(items, PIECE * WINDOW):
                window.append(item._replace(take=_nothing))  # which holds what it reads from
        except (PixelPruneError, OSError) as error:
            failure = error  # raised after the results before it
        if not window:
            break
        results = itertools.chain.from_iterable(_outcomes(work, pieces_of(window, PIECE)))
        for item, one in itertools.zip_longest(window, results):
            if item is None or one is None or _place(one) != (item.source, item.member):
                raise PixelPruneError(
                    f"{escaped((item or window[-1]).source)} has other images than when it was searched; expected "
                    "sources that do not change during a scan, and that all nodes see"
                )
            yield item.done, one
    if failure is not None:
        raise failure


def pieces_of(items: Iterable[Item], most: int) -> Iterator[list[Span]]:
    """Group items into spans of the same file, and those into pieces.

    Args:
        items: in order.
        most: images of a piece.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.scan.cluster import pieces_of
        >>> from pixelprune.scan.sources.finding import Found
        >>> from pixelprune.scan.sources.item import Item
        >>> found = Found(Path("a.tar"), "a.tar", "a", ".tar", True, 0)
        >>> items = [Item("a.tar", str(i), "a", lambda: b"", 0, found, i) for i in range(5)]
        >>> [[tuple(span[1:]) for span in piece] for piece in pieces_of(items, 3)]
        [[(0, 3)], [(3, 5)]]
    """
    items = iter(items)
    while some := list(itertools.islice(items, most)):
        spans: list[Span] = []
        for item in some:
            assert item.found is not None
            last = spans[-1] if spans else None
            if last is not None and last.found == item.found and last.end == item.place:
                spans[-1] = last._replace(end=item.place + 1)
            else:
                spans.append(Span(item.found, item.place, item.place + 1))
        yield spans


def _outcomes(work: Work, pieces: Iterator[list[Span]]) -> Iterator[list[Measured]]:
    """Run a pipeline: a block and a task for each piece."""
    ray = need("ray", PURPOSE, extra="ray")
    rows = [{"piece": pickle.dumps(piece)} for piece in pieces]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = dataset.map(partial(_apply, work), num_cpus=1, max_retries=RETRIES)
    dataset.context.execution_options.preserve_order = True
    try:
        for row in dataset.iter_rows():
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    except ray.exceptions.RayError as error:
        raise PixelPruneError(f"the Ray cluster has failed: {text_of(error)}") from error


def _apply(work: Work, row: dict[str, bytes]) -> dict[str, bytes]:
    return work(row)


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, unless that was done before, and keep Ray's messages and progress bars quiet.

    Args:
        address: ``"HOST:PORT"`` or ``"auto"``; None: what ``RAY_ADDRESS`` names, or a cluster on this machine.

    Raises:
        PixelPruneError: there is no cluster at the address.
        ImportError: ray is not installed.
    """
    ray = need("ray", PURPOSE, extra="ray")
    data = need("ray.data", PURPOSE, extra="ray")
    is_ours = not ray.is_initialized()
    if not is_ours and address is not None:
        raise PixelPruneError(
            f"address is {shown(address)}, and this process is connected to a Ray cluster; expected None, to use that, "
            "or ray.shutdown() before"
        )
    if is_ours:
        try:
            _check_address(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError, SystemExit) as error:
            raise PixelPruneError(
                f"address is {shown(address)}; expected that of a running Ray cluster, such as '10.0.0.1:6379' or "
                f"'auto' ({text_of(error)})"
            ) from error
    context, logger = data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    logger.setLevel(logging.CRITICAL)  # what ends the scan is raised
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])
        if is_ours:
            ray.shutdown()


def _check_address(address: str | None) -> None:
    """Raise if nothing listens there: Ray would try for more than a minute, and then end the process."""
    if address is None or ":" not in address:
        return
    if "://" in address:
        raise ValueError("a scan needs a process on a node of the cluster")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE):
        pass


@contextlib.contextmanager
def _directory(base: str, node: str) -> Iterator[None]:
    """Run with the caller's working directory, so that paths, also those in errors, are the same."""
    before = os.getcwd()
    try:
        os.chdir(base)
    except OSError:
        raise _unseen(base, node) from None
    try:
        yield
    finally:
        os.chdir(before)


def _unseen(folder: str, node: str) -> PixelPruneError:
    return PixelPruneError(f"{node} does not have the folder {escaped(folder)}; expected one that all nodes share")


def _place(measured: Measured) -> tuple[str, str | None]:
    return measured.row["source"], measured.row["member"]


def _nothing() -> Any:
    raise AssertionError("read by a task")
