"""The command line: trains, evaluates, and tells."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pixelprune as pp
import torch
from pixelprune.cli.tables import machine

from . import __doc__ as described
from .evaluation import evaluate, ways
from .pages import KINDS
from .state import State
from .tables import as_json, figures, tables
from .training import REGIMES, train

RECORDS = Path(__file__).resolve().parent.parent / "records"
STEPS, PAGES, ASKED = 1600, 200, 4
QUICK = {"seeds": 1, "steps": 6, "pages": 3}


def run(state: State, options: argparse.Namespace) -> None:
    """Train what is not trained, evaluate what is not evaluated."""
    started = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    every = max(1, min(50, options.steps // 3))
    for seed in range(options.seeds):
        for regime in options.regimes:
            model: Any = state.model(regime, seed, lambda: train(regime, seed, options.steps, progress, every))  # noqa: B023
            for kind in options.kinds:
                for name, way in ways().items():
                    key = (regime, seed, kind, name)
                    if key in state.results or not (way.everywhere or kind == options.kinds[0]):
                        continue
                    result = evaluate(model, kind, way, options.pages, ASKED)
                    state.add(key, result)
                    shares = (
                        f"{question} {100 * sum(map(sum, pages)) / sum(map(len, pages)):.1f} %"
                        for question, pages in sorted(result["right"].items())
                    )
                    progress(f"{regime}, seed {seed}, {kind}, {name}: {', '.join(shares)}")


def listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benches.accuracy",
        description=described,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of models and answers; a run goes on with it")
    parser.add_argument("--seeds", type=int, default=3, help="models of each regime")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--pages", type=int, default=PAGES, help=f"held-out pages of each kind, {ASKED} questions each")
    parser.add_argument("--regimes", type=listed, default=list(REGIMES), help=f"some of {','.join(REGIMES)}")
    parser.add_argument("--kinds", type=listed, default=list(KINDS), help=f"some of {','.join(KINDS)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="little of everything: shows that it runs, learns nothing")
    parser.add_argument("--record", action="store_true", help="write the figures to benches/records")
    found = parser.parse_args(given)
    for name, known in (("regimes", REGIMES), ("kinds", KINDS)):
        if unknown := [one for one in getattr(found, name) if one not in known]:
            parser.error(f"--{name} has {', '.join(unknown)}; expected some of {', '.join(known)}")
        if not getattr(found, name):
            parser.error(f"--{name} is empty; expected some of {', '.join(known)}")
    if found.quick:
        vars(found).update(QUICK)
    return found


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    torch.set_num_threads(options.threads)
    settings = {"steps": options.steps, "pages": options.pages, "asked": ASKED, "version": pp.__version__}
    state = State(options.out, settings)
    run(state, options)
    wanted = {key: found for key, found in state.results.items() if key[1] < options.seeds}
    found = figures(wanted)
    shown = tables(found, options.regimes, options.kinds, list(ways()))
    made_with = machine(("torch", "transformers"))
    told = (
        f"Right answers in per cent: {options.seeds} models of each regime, {options.steps} training steps; "
        f"{options.pages} held-out pages of each kind, {ASKED} questions each. Two figures in a cell are READ / FIND, "
        "on GUI pages TICK / GREY. Changes are points against all tokens of the same model and questions; intervals "
        f"are from a bootstrap over pages.\n{made_with}."
    )
    print("\n\n".join([told, *shown]))
    if options.record:
        today = datetime.date.today().isoformat()
        record = {
            "date": today,
            "machine": made_with,
            "settings": {**settings, "seeds": options.seeds},
            "figures": as_json(found),
            "tables": shown,
        }
        target = RECORDS / f"accuracy-{today}.json"
        target.write_text(json.dumps(record, indent=1) + "\n")
        print(f"wrote {target.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
