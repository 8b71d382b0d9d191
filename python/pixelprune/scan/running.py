"""Running a scan: images in, rows out."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

from .. import _core
from ..arguments import escaped, one_of, shown
from ..errors import PixelPruneError
from ..files.whole import write_text
from ..images.decode import Alpha
from ..images.options import Resample
from ..images.workers import Task, in_order
from ..runtime import resolve
from ..selection.settings import PruneSettings
from ..spec import VisionSpec
from .cluster import connected, measure_items
from .measuring import Measured, taking
from .options import ScanOptions, fingerprint
from .parts import ROWS_FILE, Parts
from .reading import SUMMARY_FILE, Scan, read
from .requirements import need
from .settings import DEFAULT_SWEEP
from .sources.item import Item, Reading
from .sources.reading import read_sources
from .summary import summarize

PART_ROWS = 200
PART_SECONDS = 5.0
"""A part is written when it has this many rows, or is this old."""
Engine: TypeAlias = Literal["embedded", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Results: TypeAlias = "Generator[tuple[float, Measured], None, None]"


class Progress(NamedTuple):
    """How far a scan has come."""

    rows: int
    """Rows that are there, with those of an earlier run."""
    errors: int
    """Rows of this run that have an error."""
    measured: int
    """Rows of this run."""
    share: float
    """Share of the sources' bytes that has been read, from 0 to 1."""
    seconds: float
    """Since this run began to measure."""
    seconds_left: float | None
    """Until the end, as far as can be told."""


def scan(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    spec: VisionSpec | str = "qwen3_vl",
    resample: Resample = "torchvision",
    alpha: Alpha = "white",
    sweep: Iterable[PruneSettings | str] = DEFAULT_SWEEP,
    indices: Iterable[PruneSettings | str] = (),
    dpi: int = 144,
    exclude: Iterable[str] = (),
    column: str | None = None,
    group_by: str | None = None,
    threads: int | None = None,
    engine: Engine = "embedded",
    address: str | None = None,
    resume: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Scan:
    """Measure every image of some sources, and write a row for each.

    Sources are folders, images, PDFs, parquet, Arrow and Feather files, TSV files of VLMEvalKit, JSONL files of
    conversations, tar files of WebDataset, data sets saved by the `datasets` library, and globs of files. Folders are
    searched for images and PDFs. An image that can't be read is a row with an error. Rows are written as the scan
    runs, so that one that was stopped can go on.

    Args:
        sources: one or more paths or globs.
        out: the folder to write to; made if there is none.
        spec: the model's image input, a `VisionSpec` or the name of a preset.
        resample: as in `preprocess`.
        alpha: as in `preprocess`.
        sweep: the settings to compare, as `PruneSettings` or labels like ``"pred_2d@0.05+content"``.
        indices: those of ``sweep`` whose kept tokens are stored, for `KeepIndices`.
        dpi: dots per inch at which pages of PDFs are rendered.
        exclude: globs of files and folders to leave out, relative to the folder that was given.
        column: the column or field that holds the images; None: look for it.
        group_by: the column or field whose value is the kind of an image; None: the first folder below the source.
        threads: how many images to measure at a time; None: as in `set_num_threads`. The rows do not depend on it.
        engine: ``"embedded"``: measure in this process; ``"ray"``: measure on a Ray cluster, whose nodes have to see
            the sources under the same paths. The rows do not depend on it.
        address: of the cluster, ``"HOST:PORT"`` or ``"auto"``; None: what ``RAY_ADDRESS`` names, or a cluster on this
            machine.
        resume: go on with the scan in ``out``, if there is one. Its settings must be the same.
        progress: called after every row.

    Returns:
        The scan, as `read` returns it.

    Raises:
        PixelPruneError: a source has no images or can't be read, ``out`` holds another scan, or an argument has a value
            that is not allowed.
        TypeError: an argument of the wrong type.
        OSError: a source can't be read, or ``out`` can't be written to. What was measured before is kept.
        ImportError: a package of the extra ``scan`` is not installed, or of the extra ``ray``.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from pixelprune.scan import scan
        >>> Path("pages").mkdir()
        >>> Image.new("RGB", (640, 320)).save("pages/black.png")
        >>> found = scan("pages", "found", sweep=["pred_2d@0"])
        >>> found.rows.select(["source", "tokens", "kept:pred_2d@0"]).to_pylist()
        [{'source': 'black.png', 'tokens': 200, 'kept:pred_2d@0': 1}]
    """
    need("pyarrow", "pixelprune.scan")
    options = ScanOptions(spec=spec, resample=resample, alpha=alpha, sweep=sweep, indices=indices, dpi=dpi)
    named = [os.fsdecode(one) for one in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    exclude = [exclude] if isinstance(exclude, str) else list(exclude)
    count = resolve(threads)
    _check_engine(engine, address, threads)
    reading = Reading(options.dpi, column, group_by)
    found = read_sources(named, exclude, reading)
    settings = {
        **options.as_dict(),
        "sources": named,
        "exclude": exclude,
        "column": column,
        "group_by": group_by,
        "version": _core.version(),
    }
    settings["fingerprint"] = fingerprint(settings)
    settings = json.loads(json.dumps({**settings, "base": os.getcwd()}))  # as they are read back
    folder = Path(out)
    with connected(address) if engine == "ray" else contextlib.nullcontext():
        parts = Parts(folder, options, settings, resume=resume)
        if not parts.is_finished:
            items = _after(iter(found), parts)
            results = measure_items(items, options, reading) if engine == "ray" else _embedded(items, options, count)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, about damaged files: the rows tell
                _run(results, parts, found.size, progress)
    parts.finish()
    summary = json.dumps(summarize(folder / ROWS_FILE, options.labels), indent=1)
    write_text(folder / SUMMARY_FILE, summary)
    return read(folder)


def _check_engine(engine: str, address: str | None, threads: int | None) -> None:
    one_of(engine, "engine", ENGINES)
    if engine == "ray" and threads is not None:
        raise PixelPruneError(f"threads is {threads} with engine='ray'; expected None: it uses all CPUs of the cluster")
    if engine != "ray" and address is not None:
        raise PixelPruneError(f"address is {shown(address)} without engine='ray'; expected both, or neither")


def _after(items: Iterator[Item], parts: Parts) -> Iterator[Item]:
    """Pass over the images whose rows are there."""
    for i, place in enumerate(parts.places()):
        item = next(items, None)
        if item is None or (item.source, item.member) != place:
            raise PixelPruneError(
                f"row {i} of the scan is {escaped('/'.join(filter(None, place)))}, and the sources have "
                f"{'nothing' if item is None else escaped('/'.join(filter(None, item[:2])))} there; expected the same "
                "files: scan them into another folder"
            )
    return items


def _run(
    results: Results,
    parts: Parts,
    size: int,
    progress: Callable[[Progress], object] | None,
) -> None:
    waiting: list[Measured] = []
    errors = measured = 0
    first_share = 0.0
    start = written = time.monotonic()
    try:
        with contextlib.closing(results):
            for read_bytes, one in results:
                waiting.append(one)
                measured += 1
                errors += one.row["error"] is not None
                now = time.monotonic()
                if len(waiting) >= PART_ROWS or now - written >= PART_SECONDS:
                    full, waiting = waiting, []
                    parts.write(full)
                    written = now
                if progress is not None:
                    share = min(1.0, read_bytes / size) if size else 1.0
                    if measured == 1:
                        first_share = share
                    gained = share - first_share
                    left = (now - start) * (1 - share) / gained if gained > 0 else None
                    done = parts.count + len(waiting)
                    progress(Progress(done, errors, measured, share, now - start, left))
    finally:
        parts.write(waiting)


def _embedded(items: Iterator[Item], options: ScanOptions, threads: int) -> Results:
    """Measure in threads of this process. What has to be read in order is read in this one."""

    def task(item: Item) -> Task[tuple[float, Measured]]:
        measure = taking(item, options)
        done = item.done
        return lambda: (done, measure())

    return in_order(map(task, items), threads, 2 * threads)
