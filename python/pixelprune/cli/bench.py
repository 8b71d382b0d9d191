"""``pixelprune bench``: measure preprocessing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ..arguments import shown
from ..errors import PixelPruneError
from . import tables
from .console import show_status, write
from .contestants import jobs
from .samples import find_images
from .timing import measure_all
from .values import SAMPLE, SPEC_HELP, check_threshold, integer, name_of, sample, spec_of, threshold


def add_to(command: argparse.ArgumentParser) -> None:
    """Add the description and the arguments."""
    command.description = (
        "Measure how long it takes to turn images into a model's input, next to the image processors of "
        "transformers if those are installed. Runs on one thread and takes about a second per image and round."
    )
    command.set_defaults(run=_bench)
    add = command.add_argument
    add("images", nargs="?", metavar="DIR", help="a folder of images, or an image (default: the sample page)")
    add("--spec", default="qwen3_vl", help=SPEC_HELP)
    add("--threshold", type=threshold, default=0.0, metavar="T", help="measure this threshold as well as 0")
    add(
        "--rounds",
        type=integer,
        default=5,
        metavar="N",
        help="how often to run each; medians are reported (default: %(default)s)",
    )
    add("--every", type=integer, default=1, metavar="N", help="measure only every Nth image")
    add("--json", action="store_true", help="print all times as one JSON object")


def _bench(args: argparse.Namespace) -> None:
    spec = spec_of(args.spec)
    check_threshold(args.threshold)
    for name in ("rounds", "every"):
        if getattr(args, name) < 1:
            raise PixelPruneError(f"--{name} is {shown(getattr(args, name))}; expected at least 1")
    if args.images == "":
        raise PixelPruneError("DIR is empty; expected an image or a folder of images")
    if args.images is None:
        images: list[tuple[str, Path | bytes]] = [(SAMPLE, sample())]
    else:
        images = [(str(path), path) for path in find_images(args.images)[:: args.every]]
    contestants, reason = jobs(spec, sorted({0.0, args.threshold}))
    found = []
    for measured in measure_all(images, spec, contestants, rounds=args.rounds):
        found.append(measured)
        show_status(f"{len(found)} of {len(images)} images")
    show_status("")
    made_with = tables.machine(tables.COMPARED)
    if args.json:
        report = {
            "spec": args.spec,
            "rounds": args.rounds,
            "machine": made_with,
            "without_transformers": reason or None,
        }
        write(json.dumps({**report, "images": [asdict(one) for one in found]}))
        return
    lines = [
        f"{name_of(args.images or SAMPLE)} for {name_of(args.spec)}: medians, rounds: {args.rounds}, threads: 1",
        made_with,
    ]
    if reason:
        lines.append(f"transformers is not in the comparison: {reason}")
    columns = tables.groups(found)
    write("\n".join([*lines, *(f"\n{tables.table(job, columns)}" for job in contestants)]))
