"""``pixelprune scan``: what pruning does to a data set."""

from __future__ import annotations

import argparse

from ..errors import PixelPruneError
from ..images.options import RESAMPLES
from ..markdown import markdown
from ..runtime import check_count
from ..scan import DEFAULT_SWEEP, Scan, report, scan
from ..scan.report.models import model_for
from ..scan.requirements import need
from ..scan.running import ENGINES
from .console import write
from .progress import Bar
from .values import SPEC_HELP, alpha, choice, integer, name_of, spec_of

REPORT = "report.html"
COLUMNS = 6
"""Settings in the table: the first ones of the sweep."""


def add_to(command: argparse.ArgumentParser) -> None:
    """Add the description and the arguments."""
    command.description = (
        "Measure every image of a data set: size, tokens, and how many of them each method keeps at each "
        "threshold. Writes a row for each image to DIR/rows.parquet, and a report."
    )
    command.set_defaults(run=_scan)
    add = command.add_argument
    add(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders (searched for images and PDFs), images, PDFs, parquet, Arrow and Feather files, TSV files of "
        "VLMEvalKit, JSONL files of conversations, tar files of WebDataset, saved data sets, or globs of files",
    )
    add("-o", "--output", required=True, metavar="DIR", help="the folder to write to")
    add(
        "--exclude",
        action="append",
        default=[],
        metavar="GLOB",
        help="files and folders to leave out, such as '**/thumbs-*'; can be repeated",
    )
    add("--column", metavar="NAME", help="the column or field that holds the images (default: look for it)")
    add(
        "--group-by",
        metavar="NAME",
        help="the column or field whose value is the kind of an image (default: the first folder below SOURCE)",
    )
    add("--spec", default="qwen3_vl", help=SPEC_HELP)
    add("--resample", default=RESAMPLES[0], choices=RESAMPLES, metavar="R", help=choice(RESAMPLES))
    add(
        "--alpha",
        type=alpha,
        default="white",
        metavar="A",
        help="what to do with alpha: white, drop, or a background like '#rrggbb' (default: %(default)s)",
    )
    add("--dpi", type=integer, default=144, metavar="N", help="resolution of pages of PDFs (default: %(default)s)")
    add(
        "--sweep",
        type=_labels,
        metavar="LABELS",
        help="the settings to compare, such as pred_2d@0,pred_2d@0.02+content,unique@0 (default: four methods at six "
        "thresholds, without and with +content, and unique)",
    )
    add(
        "--indices",
        type=_labels,
        default=[],
        metavar="LABELS",
        help="store the kept tokens of these settings of the sweep, for training",
    )
    add("--resume", action="store_true", help="go on with the scan in DIR")
    add("--threads", type=integer, metavar="N", help="images to measure at a time; 0 uses all available cores")
    add(
        "--engine",
        default=ENGINES[0],
        choices=ENGINES,
        metavar="E",
        help="embedded: measure in this process; ray: on a Ray cluster whose nodes see the same files (default: "
        "%(default)s)",
    )
    add(
        "--address",
        metavar="A",
        help="of the Ray cluster, HOST:PORT or auto (default: what RAY_ADDRESS names, or a cluster on this machine)",
    )
    add(
        "--report",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write DIR/report.html, which shows the figures (default: yes)",
    )
    add(
        "--model",
        metavar="M",
        help="whose FLOPs the report counts: a name such as qwen3_vl_8b, or the folder of a checkpoint (default: the "
        "smallest known one that sees images so)",
    )


def _labels(text: str) -> list[str]:
    return [label.strip() for label in text.split(",") if label.strip()]


def _scan(args: argparse.Namespace) -> None:
    spec = spec_of(args.spec)
    if args.threads is not None:
        check_count(args.threads, "--threads")
    if not args.output:
        raise PixelPruneError("--output is empty; expected a folder to write to")
    if args.report:  # checked before any work
        need("plotly", "the report")
        model_for(args.model, spec)
    bar = Bar()
    try:
        found = scan(
            args.sources,
            args.output,
            spec=spec,
            resample=args.resample,
            alpha=args.alpha,
            sweep=DEFAULT_SWEEP if args.sweep is None else args.sweep,
            indices=args.indices,
            dpi=args.dpi,
            exclude=args.exclude,
            column=args.column,
            group_by=args.group_by,
            threads=args.threads,
            engine=args.engine,
            address=args.address,
            resume=args.resume,
            progress=bar,
        )
    finally:
        bar.clear()
    write(summary(found))
    if args.report and found.summary["all"]["images"]:
        write(f"report: {name_of(report.write(found, found.folder / REPORT, args.model))}")
    if found.summary["errors"] == found.summary["rows"]:
        raise PixelPruneError(
            "no image could be measured; expected at least one: the column error of the rows says why"
        )


def summary(found: Scan) -> str:
    """Return the figures of a scan as text.

    Args:
        found: the scan.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.cli.scan import summary
        >>> from pixelprune.scan import scan
        >>> Image.new("RGB", (640, 320)).save("black.png")
        >>> print(summary(scan(".", "found", sweep=["pred_2d@0"])).split("\\n\\n")[0])
        1 image, median share of tokens kept:
    """
    figures = found.summary
    labels = found.sweep[:COLUMNS]
    groups = figures["kinds"] if len(figures["kinds"]) == 1 else {**figures["kinds"], "all": figures["all"]}
    rows = [["kind", "images", "tokens", "unique", *labels, f"content dropped, {labels[0]}"]]
    for kind, one in groups.items():
        if one["images"]:
            shares = [one["unique"], *(one["retained"][name] for name in labels)]
            dropped = one["dropped_content"][labels[0]] / one["tokens"]
            cells = [f"{share:.2f}" for share in [*shares, dropped]]
            rows.append([name_of(kind), f"{one['images']:,}", f"{one['tokens']:,}", *cells])
    count = figures["rows"]
    lines = [f"{count:,} image{'' if count == 1 else 's'}, median share of tokens kept:", ""]
    lines += [markdown(rows), ""]
    if figures["errors"]:
        lines.append(f"not measured: {figures['errors']:,}, see the column error")
    lines.append(f"rows: {name_of(found.folder / 'rows.parquet')}")
    return "\n".join(lines)
