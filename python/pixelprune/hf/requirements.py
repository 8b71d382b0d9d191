"""What has to be installed for `pixelprune.hf`."""

from __future__ import annotations

import re
from importlib import import_module

OLDEST = (4, 57)
"""The first release of transformers that is supported."""


def check() -> None:
    """Raise if torch or transformers is missing, or transformers is too old.

    Raises:
        ImportError: the message names the extra that installs both.
    """
    expected = (
        f"pixelprune.hf needs torch and transformers {OLDEST[0]}.{OLDEST[1]} or later: pip install 'pixelprune[hf]'"
    )
    try:
        import_module("torch")
        transformers = import_module("transformers")
    except ImportError as error:
        raise ImportError(f"{expected} ({error})", name=error.name) from error
    found = str(transformers.__version__)
    if release(found) < OLDEST:
        raise ImportError(f"{expected} (found transformers {found})", name="transformers")


def release(version: str) -> tuple[int, int]:
    """Return the first two numbers of a version."""
    major, minor = (int(number) for number in re.findall(r"\d+", version)[:2])
    return major, minor
