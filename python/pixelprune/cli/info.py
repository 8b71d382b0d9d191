"""``pixelprune info``: what is installed."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

import numpy as np
import PIL

from .._core import version
from ..runtime import cpu_features, get_num_threads, resolve
from .console import write


def add_to(command: argparse.ArgumentParser) -> None:
    """Add the description and the arguments."""
    command.set_defaults(run=_info)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _info(args: argparse.Namespace) -> None:
    facts: dict[str, Any] = {
        "pixelprune": version(),
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
