"""The command line: ``pixelprune show`` draws what is pruned, ``bench`` measures, ``info`` tells what is installed.

Exit codes:
    0: done.
    1: a picture, a file or a value is no good; one line on stderr says which and why.
    2: the command line can't be understood.
    130: interrupted (Ctrl-C).
    141: whoever reads the output closed it before its end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import PIL
from PIL import Image

from . import Selection, __version__, bench, bench_tables, cpu_features, get_num_threads, prune, verify
from .arguments import escaped, shown, text_of
from .console import is_terminal, reason, standard_output, write, write_error
from .errors import PixelPruneError, PixelPruneWarning
from .load import Alpha, Resampling, load_image, resize_image
from .overlay import draw_heatmap, draw_overlay
from .settings import MethodName, Metric
from .spec import PRESETS, VisionSpec
from .threads import check_count, resolve

_SAMPLE = "sample page"
_SAMPLE_OUTPUT = "pixelprune-demo.png"
_SPEC_HELP = f"{', '.join(PRESETS)}, or the path of a preprocessor_config.json (default: %(default)s)"
_RUNS = 5  # of which the median time is told
_OUTPUTS = {
    "overlay": ("output", "-o"),
    "heatmap": ("heatmap", "--heatmap"),
    "reconstruct": ("reconstruct", "--reconstruct"),
}
"""For each drawing the argument that holds its path, and the option that sets it."""
_IN_OPTIONS = (
    (re.compile(r"alpha='white'"), "--alpha white"),
    (re.compile(r" Pillow refuses above twice PIL\.Image\.MAX_IMAGE_PIXELS.*"), ""),
)
"""What messages say for Python, and the same for the command line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; None for those of the process.

    Returns:
        The exit code, as this module's documentation lists them.

    Example:
        >>> from pixelprune.cli import main
        >>> main(["info", "--help"])  # doctest: +ELLIPSIS
        usage: pixelprune info [-h] [--json]
        ...
        0
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", PixelPruneWarning)
            warnings.showwarning = _show_warning
            return _run(argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        return _fail(f"{_name(error.filename)}: {reason(error)}" if error.filename else reason(error))
    except PixelPruneError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("memory is too small; expected a smaller image")


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # after --help, --version or a usage error
        return stop.code if isinstance(stop.code, int) else 0
    standard_output()  # checked before any work
    args.run(args)
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose errors take one line and whose help is an error if it can't be printed."""

    def error(self, message: str) -> NoReturn:
        write_error(f"pixelprune: error: {message} (see {self.prog} --help)")
        self.exit(2)

    def print_help(self, file: Any = None) -> None:
        write(self.format_help().rstrip("\n"))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        write(f"pixelprune {__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pixelprune",
        description="Drop the image patches that a vision-language model does not need to see.",
        epilog="Exit codes: 0 done, 1 bad picture or value, 2 bad usage, 130 interrupted, 141 output closed.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    show = commands.add_parser(
        "show",
        help="prune a picture: print the figures, draw what is kept",
        description="Load a picture as the model's processor would, prune it, print the figures and draw "
        "which tokens are kept. Without a picture, do so with a sample page that comes with the package.",
    )
    show.set_defaults(run=_show)
    add = show.add_argument
    add("image", nargs="?", metavar="IMAGE", help="any picture that Pillow reads")
    add(
        "-o",
        "--output",
        metavar="PNG",
        help="draw the overlay there (default: IMAGE's name with -pruned.png, in the current directory; "
        f"{_SAMPLE_OUTPUT} for the sample page; nowhere with --json)",
    )
    add("--heatmap", metavar="PNG", help="draw how many tokens each kept token stands for")
    add("--reconstruct", metavar="PNG", help="draw the picture as rebuilt from the kept tokens")
    add("--spec", default="qwen3_vl", help=_SPEC_HELP)
    methods, metrics = get_args(MethodName), get_args(Metric)
    add("--method", default="pred_2d", choices=methods, metavar="M", help=_choice(methods))
    add("--metric", default="max", choices=metrics, metavar="M", help=_choice(metrics))
    add(
        "--threshold",
        type=_threshold,
        default=0.0,
        metavar="T",
        help="how far similar tokens may differ, as a share of full scale: 0.05 or 13/255 (default: 0, lossless)",
    )
    add("--open-loop", action="store_true", help="predict from original pixels; errors may add up")
    add(
        "--alpha",
        type=_alpha,
        default="white",
        metavar="A",
        help="white, drop, or a colour to lay the picture on, as '#rrggbb' (default: %(default)s)",
    )
    ways = get_args(Resampling)
    add("--resample", default=ways[0], choices=ways, metavar="R", help=_choice(ways))
    add("--no-resize", action="store_true", help="take the picture as it is; its sides must be whole tokens")
    add("--threads", type=_integer, metavar="N", help="threads to select with; 0: all that there are")
    add("--json", action="store_true", help="print the figures as one JSON object")

    measure = commands.add_parser(
        "bench",
        help="measure preprocessing on pictures of yours",
        description="Measure how long it takes to turn pictures into a model's input, beside the image processors of "
        "transformers where those are installed. One thread; takes about a second per picture and round.",
    )
    measure.set_defaults(run=_bench)
    add = measure.add_argument
    add("pictures", nargs="?", metavar="DIR", help="a folder of pictures, or a picture (default: the sample page)")
    add("--spec", default="qwen3_vl", help=_SPEC_HELP)
    add("--threshold", type=_threshold, default=0.0, metavar="T", help="another threshold to prune with, beside 0")
    add(
        "--rounds",
        type=_integer,
        default=5,
        metavar="N",
        help="times to run each; medians count (default: %(default)s)",
    )
    add("--every", type=_integer, default=1, metavar="N", help="take every Nth picture only")
    add("--json", action="store_true", help="print all times as one JSON object")

    info = commands.add_parser("info", help="print version, processor features and threads")
    info.set_defaults(run=_info)
    info.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _show(args: argparse.Namespace) -> None:
    spec = _spec(args.spec)
    _check_threshold(args.threshold)
    if args.method == "unique" and args.threshold > 0:
        raise PixelPruneError(
            f"--threshold is {args.threshold:g}, but --method unique compares for equality only; expected 0"
        )
    if args.threads is not None:
        check_count(args.threads, "--threads")
    files = _files(args)
    original = load_image(_sample()) if args.image is None else load_image(args.image, alpha=args.alpha)
    if args.no_resize and any(side % spec.token_size for side in original.size):
        raise PixelPruneError(
            f"{_name(args.image)} is {original.width} x {original.height} pixels; expected multiples of "
            f"{spec.token_size}, the token side of --spec {_name(args.spec)}, with --no-resize"
        )
    try:
        image = original if args.no_resize else resize_image(original, spec, resample=args.resample)
    except PixelPruneError as error:  # of its size
        raise PixelPruneError(f"{_name(args.image)}: {error}") from None
    pixels = np.asarray(image)

    def select() -> Selection:
        return prune(
            pixels,
            spec,
            method=args.method,
            metric=args.metric,
            threshold=args.threshold,
            anchored=not args.open_loop,
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
        "tokens": selection.total,
        "kept": selection.kept,
        "retained": selection.retained,
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


def _bench(args: argparse.Namespace) -> None:
    spec = _spec(args.spec)
    _check_threshold(args.threshold)
    for name in ("rounds", "every"):
        if getattr(args, name) < 1:
            raise PixelPruneError(f"--{name} is {shown(getattr(args, name))}; expected at least 1")
    if args.pictures == "":
        raise PixelPruneError("DIR is empty; expected an image or a folder of images")
    if args.pictures is None:
        pictures: list[tuple[str, Path | bytes]] = [(_SAMPLE, _sample())]
    else:
        pictures = [(str(path), path) for path in bench.find_pictures(args.pictures)[:: args.every]]
    contestants, reason = bench.jobs(spec, sorted({0.0, args.threshold}))
    found = []
    for measured in bench.measure_all(pictures, spec, contestants, rounds=args.rounds):
        found.append(measured)
        if is_terminal():
            print(f"\r{len(found)} of {len(pictures)} pictures", end="", file=sys.stderr, flush=True)
    if is_terminal():
        print("\r\033[K", end="", file=sys.stderr)
    made_with = bench_tables.machine(bench_tables.COMPARED)
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
        f"{_name(args.pictures or _SAMPLE)} for {_name(args.spec)}: medians, rounds: {args.rounds}, threads: 1",
        made_with,
    ]
    if reason:
        lines.append(f"transformers is not in the comparison: {reason}")
    columns = bench_tables.groups(found)
    write("\n".join([*lines, *(f"\n{bench_tables.table(job, columns)}" for job in contestants)]))


def _info(args: argparse.Namespace) -> None:
    facts: dict[str, Any] = {
        "pixelprune": __version__,
        "cpu": platform.machine(),
        "features": cpu_features(),
        "threads": get_num_threads(),
        "available": resolve(0),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "platform": platform.platform(),
    }
    if args.json:
        write(json.dumps(facts))
        return
    facts["features"] = ", ".join(facts["features"])
    facts["available"] = f"{facts['available']} threads"
    write("\n".join(f"{key:<12}{value}" for key, value in facts.items()))


def _sample() -> bytes:
    """The sample page's file."""
    return (resources.files("pixelprune") / "data" / "page.png").read_bytes()


def _choice(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]} (default: %(default)s)"


def _spec(text: str) -> VisionSpec:
    if text in PRESETS:
        return PRESETS[text]
    if not os.path.exists(text):
        raise PixelPruneError(
            f"--spec is {shown(text)}; expected {', '.join(PRESETS)} or the path of a preprocessor_config.json"
        )
    try:
        spec = VisionSpec.from_config(text)
    except OSError as error:
        raise PixelPruneError(f"--spec: {_name(text)}: {reason(error)}") from None
    except PixelPruneError as error:
        raise PixelPruneError(f"--spec: {error}") from None
    if len(spec.mean) != 3:
        raise PixelPruneError(f"--spec: {_name(text)} is for {len(spec.mean)} channels; expected 3 (RGB)")
    return spec


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} can't be read as an integer") from None


def _threshold(text: str) -> float:
    number, slash, full = text.partition("/")
    try:
        return float(number) / float(full) if slash else float(number)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no number; expected one like 0.05 or 13/255") from None


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise PixelPruneError(f"--threshold is {threshold:g}; expected a number from 0 to 1, like 0.05 or 13/255")


def _alpha(text: str) -> Alpha:
    if text in ("drop", "white"):
        return text
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    raise argparse.ArgumentTypeError(f"{shown(text)} is no colour; expected drop, white or one like '#ffffff'")


def _files(args: argparse.Namespace) -> dict[str, str]:
    """Which pictures to draw, and where."""
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
            raise PixelPruneError(f"{option} is {shown(path)}; expected a name that ends like out.png")
        if args.image is not None and os.path.exists(path) and os.path.samefile(path, args.image):
            raise PixelPruneError(f"{option} is {shown(path)}, which is the image itself; expected another file")
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise PixelPruneError(f"{option} is {shown(path)}, which {other} writes, too; expected another file")
    return files


def _timed(select: Callable[[], Selection]) -> tuple[Selection, float]:
    """The selection, and the seconds it takes: the median, as a first call also meets cold caches."""
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
    return how if report["anchored"] else f"{how}, open loop"


def _title(report: dict[str, Any]) -> str:
    return _SAMPLE if report["image"] is None else _name(Path(report["image"]).name)


def _caption(report: dict[str, Any]) -> list[str]:
    width, height = report["size"]
    lines = [
        f"{report['kept']} of {report['tokens']} tokens kept ({_share(report['retained'])})",
        f"{_title(report)}, {width} x {height} pixels for {_name(report['spec'])}; {_how(report)}; "
        f"{_share(report['unique'])} pixel-unique; selected in {_milliseconds(report['seconds'])}",
    ]
    # Numbers stay with their units when a line is wrapped.
    return [re.sub("(?<=[0-9x]) (?=[0-9x%m])", "\u00a0", line) for line in lines]


def _table(report: dict[str, Any]) -> str:
    width, height = report["size"]
    size = report["token_size"]
    lines = [
        f"{_title(report)}: {' x '.join(map(str, report['original_size']))} pixels",
        f"  model        {_name(report['spec'])}, which sees {width} x {height} pixels",
        f"  tokens       {report['tokens']} ({width // size} x {height // size} of {size} x {size} pixels)",
        f"  kept         {report['kept']} ({_how(report)})",
        f"  retained     {_share(report['retained'])}",
        f"  unique       {_share(report['unique'])} (tokens that differ from every earlier one)",
        f"  time         {_milliseconds(report['seconds'])} (selection only)",
    ]
    if report["threshold"] and report["max_error"] is not None:
        most, mean = 255 * report["max_error"], 255 * report["mean_error"]
        lines.append(f"  error        {most:.0f} levels of 255 at most, {mean:.2f} on average")
    lines += [f"  {kind:<12} {_name(path)}" for kind, path in report["files"].items()]
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
        raise PixelPruneError(f"cannot write {_name(path)}: {cause}") from None


def _format_of(path: str) -> str:
    """The format that a file name's extension stands for."""
    extension = os.path.splitext(path)[1].lower()
    formats = Image.registered_extensions()
    if extension not in formats:
        raise ValueError(f"unknown file extension: {extension}")
    return formats[extension]


def _name(path: object) -> str:
    """A path with escapes for undecodable bytes, line ends and other control characters."""
    return escaped(os.fsdecode(path) if isinstance(path, (bytes, os.PathLike)) else str(path))


def _in_options(message: str) -> str:
    for words, option in _IN_OPTIONS:
        message = words.sub(option, message)
    return message


def _fail(message: str) -> int:
    write_error(f"pixelprune: error: {_in_options(message)}")
    return 1


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    write_error(f"pixelprune: warning: {_in_options(str(message))}")
