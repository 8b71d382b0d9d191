"""``pixelprune eval``: compare a model's answers with and without pruning on a benchmark."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import get_args

from ..arguments import shown
from ..errors import PixelPruneError
from ..evaluate import TASKS, Checkpoint, Endpoint, Engine, conditions_of, evaluate, read_questions
from ..evaluate.conditions import BASELINES
from ..evaluate.metrics.points import POINTS, Points
from ..evaluate.metrics.rules import RULES
from .console import show_status, write
from .values import SPEC_HELP, choice, integer, spec_of

OUT = "pixelprune-eval"
SETTINGS = "pred_2d@0,pred_2d@0.02"
SPEC = "qwen3_vl"


def add_to(command: argparse.ArgumentParser) -> None:
    """Add the description and the arguments."""
    command.description = (
        "Ask a model the questions of a benchmark: as it is, pruned, with as many random tokens, and with "
        "images shrunk to as few tokens. Prints a table with the benchmark's own metric, paired confidence intervals, "
        "tokens and times, and a verdict. All answers go to a file; the same command goes on where it was stopped."
    )
    command.set_defaults(run=_eval)
    add = command.add_argument
    add("--data", required=True, metavar="FILE", help="the benchmark's file or folder, as the harnesses read it")
    add("--task", required=True, choices=list(TASKS), help="the benchmark")
    add("--model", metavar="DIR", help="a checkpoint of transformers with its processor")
    add("--endpoint", metavar="URL", help="instead of --model: a server, such as http://localhost:8000/v1")
    add("--pruned-endpoint", metavar="URL", help="a second server, which prunes as --settings says")
    add("--served-model", metavar="NAME", help="the model's name at the endpoint (default: the first that it lists)")
    add("--spec", help=f"how the served model cuts images: {SPEC_HELP % {'default': SPEC}}")
    add("--settings", default=SETTINGS, metavar="LABELS", help="labels with commas between them (default: %(default)s)")
    add(
        "--baselines",
        metavar="NAMES",
        help=f"{', '.join(BASELINES)}, or none (default: both; with --endpoint shrunk)",
    )
    add("-o", "--out", default=OUT, metavar="DIR", help="folder for answers and report (default: %(default)s)")
    add("--images", metavar="DIR", help="folder of the images or PDFs that the file names (default: beside it)")
    add("--rules", choices=RULES, default=RULES[0], help="the harness whose prompts and metric are used")
    add("--points", choices=POINTS, help="what coordinates in answers are (default: what the model is known for)")
    add("--prompt", metavar="TEXT", help="a prompt in place of the harness's, with {question} in it")
    add("--limit", type=integer, metavar="N", help="ask only N questions, drawn at random")
    add("--margin", type=float, default=1.0, metavar="P", help="points that may be lost (default: %(default)s)")
    add("--max-new-tokens", type=integer, metavar="N", help="longest answer (default: the benchmark's)")
    add("--min-pixels", type=integer, metavar="N", help="of the image processor (default: the checkpoint's)")
    add("--max-pixels", type=integer, metavar="N", help="of the image processor (default: the checkpoint's)")
    add("--dpi", type=float, default=144, help="pixels per inch of rendered PDFs (default: %(default)s)")
    add("--device", help="such as cuda or cpu (default: the accelerator if there is one)")
    add("--dtype", help="of the weights, such as bfloat16 (default: the checkpoint's)")
    add("--seed", type=integer, default=0, help="of everything that is drawn at random (default: %(default)s)")
    add("--json", action="store_true", help="print the summary as one JSON object")


def _eval(args: argparse.Namespace) -> None:
    baselines = _baselines(args)
    _check(args)
    conditions = conditions_of(args.settings, baselines, pruned=not args.endpoint or bool(args.pruned_endpoint))
    engine = _engine(args)
    engine.check(conditions)
    points = _points(args, engine)
    questions = read_questions(
        args.task,
        Path(args.data),
        images=None if args.images is None else Path(args.images),
        rules=args.rules,
        points=points,
        template=args.prompt,
        dpi=args.dpi,
    )
    summary = evaluate(
        args.task,
        questions,
        engine,
        conditions,
        Path(args.out),
        rules=args.rules,
        points=points,
        limit=args.limit,
        length=args.max_new_tokens,
        margin=args.margin,
        seed=args.seed,
        progress=_Progress(),
    )
    show_status("")
    if args.json:
        write(json.dumps(summary.as_dict()))
        return
    limits = {name: summary.made_with[name] for name in ("min_pixels", "max_pixels") if name in summary.made_with}
    facts = [engine.device, f"rules of {args.rules}", *(f"{name} {value}" for name, value in limits.items())]
    write(f"{', '.join(facts)}\n\n{summary.as_markdown()}\n\nanswers and report: {args.out}")


def _check(args: argparse.Namespace) -> None:
    if (args.model is None) == (args.endpoint is None):
        raise PixelPruneError("expected either --model DIR or --endpoint URL")
    of_endpoints = [name for name in ("pruned_endpoint", "served_model", "spec") if getattr(args, name) is not None]
    if args.model is not None and of_endpoints:
        raise PixelPruneError(f"--{of_endpoints[0].replace('_', '-')} belongs to --endpoint, and --model is given")
    of_models = [name for name in ("min_pixels", "max_pixels", "device", "dtype") if getattr(args, name) is not None]
    if args.endpoint is not None and of_models:
        raise PixelPruneError(f"--{of_models[0].replace('_', '-')} belongs to --model, and --endpoint is given")
    for name in ("limit", "max_new_tokens", "min_pixels", "max_pixels"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise PixelPruneError(f"--{name.replace('_', '-')} is {shown(value)}; expected at least 1")
    if not args.margin > 0:
        raise PixelPruneError(f"--margin is {args.margin:g}; expected more than 0")
    if not 10 <= args.dpi <= 1200:
        raise PixelPruneError(f"--dpi is {args.dpi:g}; expected from 10 to 1200")


def _baselines(args: argparse.Namespace) -> list[str]:
    if args.baselines is None:
        return ["shrunk"] if args.endpoint else list(BASELINES)
    return [] if args.baselines == "none" else [name.strip() for name in args.baselines.split(",")]


def _engine(args: argparse.Namespace) -> Engine:
    if args.endpoint is not None:
        return Endpoint(
            args.endpoint, spec_of(args.spec or SPEC), pruned_url=args.pruned_endpoint, model=args.served_model
        )
    return Checkpoint(
        args.model,
        device=args.device,
        dtype=args.dtype or "auto",
        min_pixels=args.min_pixels,
        max_pixels=args.max_pixels,
    )


def _points(args: argparse.Namespace, engine: Engine) -> Points:
    """What coordinates are. Read in the wrong scale they all miss, and nothing is compared."""
    if args.points is None and "bbox" in TASKS[args.task].needs:
        if engine.points is None:
            raise PixelPruneError(
                f"{args.task} needs --points: what the coordinates in the model's answers are; expected "
                f"{choice(get_args(Points)).partition(' (')[0]}"
            )
        return engine.points
    given: Points = args.points or "harness"
    return given


class _Progress:
    """A line that says how far it is."""

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None

    def __call__(self, have: int, wanted: int) -> None:
        now = time.monotonic()
        if self._start is None:
            self._start = (now, have)
        since, first = self._start
        rate = (have - first) / (now - since) if now > since else 0.0
        left = f", {rate:.1f} a second, {(wanted - have) / rate / 60:.0f} min left" if rate else ""
        show_status(f"{have} of {wanted} answers{left}")
