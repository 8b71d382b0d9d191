"""``pixelprune show``: prune an image, print figures and draw what is kept."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from ..arguments import shown, text_of
from ..errors import PixelPruneError
from ..images.decode import load_image
from ..images.resizing import Resampling, resize_image
from ..runtime import check_count
from ..selection.codec import verify
from ..selection.pruning import prune
from ..selection.result import Selection
from ..selection.settings import MethodName, Metric, Protect
from .console import reason, write
from .overlay import draw_heatmap, draw_overlay
from .values import SAMPLE, SPEC_HELP, alpha, check_threshold, choice, integer, name_of, sample, spec_of, threshold

_SAMPLE_OUTPUT = "pixelprune-demo.png"
_RUNS = 5  # the median of their times is reported
_OUTPUTS = {
    "overlay": ("output", "-o"),
    "heatmap": ("heatmap", "--heatmap"),
    "reconstruct": ("reconstruct", "--reconstruct"),
}
"""For each drawing the argument that holds its path, and the option that sets it."""


def add_to(command: argparse.ArgumentParser) -> None:
    """Add the description and the arguments."""
    command.description = (
        "Load an image as the model's image processor does, prune it, print figures and draw which "
        "tokens are kept. Without IMAGE, use the sample page that comes with the package."
    )
    command.set_defaults(run=_show)
    add = command.add_argument
    add("image", nargs="?", metavar="IMAGE", help="an image in any format that Pillow reads")
    add(
        "-o",
        "--output",
        metavar="PNG",
        help="write the overlay to this file (default: the name of IMAGE with -pruned.png, in the current directory; "
        f"{_SAMPLE_OUTPUT} for the sample page; none with --json)",
    )
    add("--heatmap", metavar="PNG", help="write a heat map of how many tokens each kept token stands for")
    add("--reconstruct", metavar="PNG", help="write the image as rebuilt from the kept tokens")
    add("--spec", default="qwen3_vl", help=SPEC_HELP)
    methods, metrics, protect = get_args(MethodName), get_args(Metric), get_args(Protect)
    add("--method", default="pred_2d", choices=methods, metavar="M", help=choice(methods))
    add("--metric", default="max", choices=metrics, metavar="M", help=choice(metrics))
    add(
        "--threshold",
        type=threshold,
        default=0.0,
        metavar="T",
        help="how far similar tokens may differ, as a fraction of full scale: 0.05 or 13/255 (default: 0, lossless)",
    )
    add("--open-loop", action="store_true", help="compare with the original neighbours, so that errors may add up")
    add(
        "--protect",
        default="nothing",
        choices=protect,
        metavar="P",
        help="what is never dropped: nothing, or content, which is every token of more than one colour "
        "(default: %(default)s)",
    )
    add(
        "--alpha",
        type=alpha,
        default="white",
        metavar="A",
        help="what to do with alpha: white, drop, or a background like '#rrggbb' (default: %(default)s)",
    )
    ways = get_args(Resampling)
    add("--resample", default=ways[0], choices=ways, metavar="R", help=choice(ways))
    add(
        "--no-resize", action="store_true", help="don't resize the image; its sides must be multiples of the token size"
    )
    add(
        "--threads",
        type=integer,
        metavar="N",
        help="number of threads for the selection; 0 uses all that are available",
    )
    add("--json", action="store_true", help="print the figures and the kept tokens as one JSON object")


def _show(args: argparse.Namespace) -> None:
    spec = spec_of(args.spec)
    check_threshold(args.threshold)
    if args.method == "unique" and args.threshold > 0:
        raise PixelPruneError(
            f"--threshold is {args.threshold:g}, but --method unique compares for equality only; expected 0"
        )
    if args.threads is not None:
        check_count(args.threads, "--threads")
    files = _files(args)
    original = load_image(sample()) if args.image is None else load_image(args.image, alpha=args.alpha)
    if args.no_resize and any(side % spec.token_size for side in original.size):
        raise PixelPruneError(
            f"{name_of(args.image)} is {original.width} x {original.height} pixels; expected multiples of "
            f"{spec.token_size}, the token side of --spec {name_of(args.spec)}, with --no-resize"
        )
    try:
        image = original if args.no_resize else resize_image(original, spec, resample=args.resample)
    except PixelPruneError as error:  # of its size
        raise PixelPruneError(f"{name_of(args.image)}: {error}") from None
    pixels = np.asarray(image)

    def select() -> Selection:
        return prune(
            pixels,
            spec,
            method=args.method,
            metric=args.metric,
            threshold=args.threshold,
            anchored=not args.open_loop,
            protect=args.protect,
            threads=args.threads,
        )

    selection, seconds = _timed(select)
    for kind in ("heatmap", "reconstruct"):
        if kind in files and selection.source is None:
            raise PixelPruneError(
                f"--{kind} needs a source for dropped tokens, which --method {args.method} does not have; expected "
                "another --method"
            )
    errors = None if selection.source is None else verify(pixels, selection)
    report: dict[str, Any] = {
        "image": args.image,
        "original_size": original.size,
        "size": image.size,
        "spec": args.spec,
        "token_size": spec.token_size,
        "method": selection.method,
        "metric": selection.metric,
        "threshold": selection.threshold,
        "anchored": selection.anchored,
        "protect": selection.protect,
        "tokens": selection.total,
        "kept": selection.kept,
        "keep": selection.keep.tolist(),
        "retained": selection.retained,
        "dropped_content": len(selection.dropped_content(pixels)),
        "unique": prune(pixels, spec, method="unique", threads=args.threads).retained,
        "max_error": errors and errors.max_error,
        "mean_error": errors and errors.mean_error,
        "seconds": seconds,
        "files": files,
    }
    caption = _caption(report)
    if "overlay" in files:
        _save(draw_overlay(image, selection, caption), files["overlay"])
    if "heatmap" in files:
        _save(draw_heatmap(image, selection, caption), files["heatmap"])
    if "reconstruct" in files:
        _save(Image.fromarray(selection.reconstruct(pixels)), files["reconstruct"])
    write(json.dumps(report) if args.json else _table(report))


def _files(args: argparse.Namespace) -> dict[str, str]:
    """Which images to draw, and where."""
    if args.image == "":
        raise PixelPruneError("IMAGE is empty; expected the path of an image")
    files = {kind: getattr(args, argument) for kind, (argument, _) in _OUTPUTS.items()}
    if args.output is None and not args.json:
        files["overlay"] = _SAMPLE_OUTPUT if args.image is None else f"{Path(args.image).stem}-pruned.png"
    files = {kind: path for kind, path in files.items() if path is not None}
    formats = Image.registered_extensions()
    taken: dict[str, str] = {}
    for kind, path in files.items():
        option = _OUTPUTS[kind][1]
        if formats.get(Path(path).suffix.lower()) not in Image.SAVE:
            raise PixelPruneError(f"{option} is {shown(path)}; expected a file name like out.png")
        if args.image is not None and os.path.exists(path) and os.path.samefile(path, args.image):
            raise PixelPruneError(f"{option} is {shown(path)}, which is the image itself; expected another file")
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise PixelPruneError(f"{option} is {shown(path)}, which {other} writes, too; expected another file")
    return files


def _timed(select: Callable[[], Selection]) -> tuple[Selection, float]:
    """The selection, and the median of the seconds it takes: the first call runs with cold caches."""
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        selection = select()
        times.append(time.perf_counter() - start)
    return selection, statistics.median(times)


def _how(report: dict[str, Any]) -> str:
    """The settings in words."""
    how = f"{report['method']}, threshold {report['threshold']:g}"
    if report["threshold"]:
        how += f", {report['metric']}"
    if not report["anchored"]:
        how += ", open loop"
    return how if report["protect"] == "nothing" else f"{how}, {report['protect']} protected"


def _title(report: dict[str, Any]) -> str:
    return SAMPLE if report["image"] is None else name_of(Path(report["image"]).name)


def _caption(report: dict[str, Any]) -> list[str]:
    width, height = report["size"]
    lines = [
        f"{report['kept']} of {report['tokens']} tokens kept ({_share(report['retained'])})",
        f"{_title(report)}, {width} x {height} pixels for {name_of(report['spec'])}; {_how(report)}; "
        f"{_share(report['unique'])} pixel-unique; selected in {_milliseconds(report['seconds'])}",
    ]
    # Numbers stay with their units when a line is wrapped.
    return [re.sub("(?<=[0-9x]) (?=[0-9x%m])", "\u00a0", line) for line in lines]


def _table(report: dict[str, Any]) -> str:
    width, height = report["size"]
    size = report["token_size"]
    lines = [
        f"{_title(report)}: {' x '.join(map(str, report['original_size']))} pixels",
        f"  model        {name_of(report['spec'])}, which sees {width} x {height} pixels",
        f"  tokens       {report['tokens']} ({width // size} x {height // size} of {size} x {size} pixels)",
        f"  kept         {report['kept']} ({_how(report)})",
        f"  retained     {_share(report['retained'])}",
        f"  dropped      {report['tokens'] - report['kept']}, "
        f"{report['dropped_content']} of them with content (more than one colour)",
        f"  unique       {_share(report['unique'])} (tokens that differ from every earlier one)",
        f"  time         {_milliseconds(report['seconds'])} (selection only)",
    ]
    if report["threshold"] and report["max_error"] is not None:
        most, mean = 255 * report["max_error"], 255 * report["mean_error"]
        lines.append(f"  error        {most:.0f} levels of 255 at most, {mean:.2f} on average")
    lines += [f"  {kind:<12} {name_of(path)}" for kind, path in report["files"].items()]
    return "\n".join(lines)


def _share(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def _save(image: Image.Image, path: str) -> None:
    """Write an image; where that fails, a file of that name stays what it was."""
    target = os.path.realpath(path)
    is_plain = not os.path.exists(target) or os.path.isfile(target)
    draft = f"{target}.{os.getpid()}.part" if is_plain else target  # a pipe or a device is written to directly
    try:
        try:
            image.save(draft, format=_format_of(path))
            if draft != target:
                os.replace(draft, target)
        except BaseException:
            if draft != target:
                with contextlib.suppress(OSError):
                    os.remove(draft)
            raise
    except MemoryError:
        raise
    except Exception as error:  # Pillow's writers raise errors of many types
        cause = reason(error) if isinstance(error, OSError) else text_of(error)
        raise PixelPruneError(f"cannot write {name_of(path)}: {cause}") from None


def _format_of(path: str) -> str:
    """The format that a file name's extension stands for."""
    extension = os.path.splitext(path)[1].lower()
    formats = Image.registered_extensions()
    if extension not in formats:
        raise ValueError(f"unknown file extension: {extension}")
    return formats[extension]
