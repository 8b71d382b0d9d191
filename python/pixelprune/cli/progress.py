"""The progress bar of ``pixelprune scan``."""

from __future__ import annotations

import time

from ..scan import Progress
from .console import show_status

WIDTH = 24
INTERVAL = 0.1
"""Seconds between two updates."""


class Bar:
    """Draws progress on standard error if that is a terminal; call it after every image, and `clear` it at the end."""

    def __init__(self) -> None:
        self._drawn = 0.0

    def __call__(self, progress: Progress) -> None:
        """Draw, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._drawn >= INTERVAL:
            self._drawn = now
            show_status(line(progress))

    def clear(self) -> None:
        """Remove the bar."""
        show_status("")


def line(progress: Progress) -> str:
    """Return the bar with what is done, the rate, the remaining time and the errors.

    Example:
        >>> from pixelprune.cli.progress import line
        >>> from pixelprune.scan import Progress
        >>> line(Progress(rows=1500, errors=2, measured=500, share=0.5, seconds=10.0, seconds_left=75.0))
        '[############            ]  50 %  1,500 images  50.0/s  1:15 left  2 errors'
    """
    filled = int(WIDTH * progress.share)
    parts = [
        f"[{'#' * filled}{' ' * (WIDTH - filled)}] {100 * progress.share:3.0f} %",
        f"{progress.rows:,} images",
        f"{progress.measured / max(progress.seconds, 1e-9):.1f}/s",
    ]
    if progress.seconds_left is not None:
        parts.append(f"{_clock(progress.seconds_left)} left")
    if progress.errors:
        parts.append(f"{progress.errors:,} errors")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
