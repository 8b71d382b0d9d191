"""``pixelprune bench``: measure preprocessing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..arguments import shown
from ..errors import PixelPruneError
from . import measuring, tables
from .console import is_terminal, write
from .values import SAMPLE, SPEC_HELP, check_threshold, integer, name_of, sample, spec_of, threshold


def add_to(commands: Any) -> None:
    """Add the command."""
    measure = commands.add_parser(
        "bench",
        help="measure preprocessing on pictures of yours",
        description="Measure how long it takes to turn pictures into a model's input, beside the image processors of "
        "transformers where those are installed. One thread; takes about a second per picture and round.",
    )
    measure.set_defaults(run=_bench)
    add = measure.add_argument
    add("pictures", nargs="?", metavar="DIR", help="a folder of pictures, or a picture (default: the sample page)")
    add("--spec", default="qwen3_vl", help=SPEC_HELP)
    add("--threshold", type=threshold, default=0.0, metavar="T", help="another threshold to prune with, beside 0")
    add(
        "--rounds",
        type=integer,
        default=5,
        metavar="N",
        help="times to run each; medians count (default: %(default)s)",
    )
    add("--every", type=integer, default=1, metavar="N", help="take every Nth picture only")
    add("--json", action="store_true", help="print all times as one JSON object")


def _bench(args: argparse.Namespace) -> None:
    spec = spec_of(args.spec)
    check_threshold(args.threshold)
    for name in ("rounds", "every"):
        if getattr(args, name) < 1:
            raise PixelPruneError(f"--{name} is {shown(getattr(args, name))}; expected at least 1")
    if args.pictures == "":
        raise PixelPruneError("DIR is empty; expected an image or a folder of images")
    if args.pictures is None:
        pictures: list[tuple[str, Path | bytes]] = [(SAMPLE, sample())]
    else:
        pictures = [(str(path), path) for path in measuring.find_pictures(args.pictures)[:: args.every]]
    contestants, reason = measuring.jobs(spec, sorted({0.0, args.threshold}))
    found = []
    for measured in measuring.measure_all(pictures, spec, contestants, rounds=args.rounds):
        found.append(measured)
        if is_terminal():
            print(f"\r{len(found)} of {len(pictures)} pictures", end="", file=sys.stderr, flush=True)
    if is_terminal():
        print("\r\033[K", end="", file=sys.stderr)
    made_with = tables.machine(tables.COMPARED)
    if args.json:
        report = {
            "spec": args.spec,
            "rounds": args.rounds,
            "machine": made_with,
            "without_transformers": reason or None,
        }
        write(json.dumps({**report, "pictures": [asdict(one) for one in found]}))
        return
    lines = [
        f"{name_of(args.pictures or SAMPLE)} for {name_of(args.spec)}: medians, rounds: {args.rounds}, threads: 1",
        made_with,
    ]
    if reason:
        lines.append(f"transformers is not in the comparison: {reason}")
    columns = tables.groups(found)
    write("\n".join([*lines, *(f"\n{tables.table(job, columns)}" for job in contestants)]))
