"""The default number of threads, and the features of the CPU."""

from __future__ import annotations

import os

from . import _core
from .arguments import as_int, shown
from .errors import PixelPruneError

ENVIRONMENT_VARIABLE = "PIXELPRUNE_NUM_THREADS"
MAX_THREADS = 1024
_LONGEST = 100
"""Length limit of the variable; Python raises ValueError for numbers of thousands of digits."""

_setting: int | None = None

# os.environ raises and catches a KeyError for a variable that is not set. That takes 0.4 to 0.5 microseconds with each
# of its public methods, a fifth of the time to prune a small image. Its private dictionary takes a tenth of that.
_KEY = os.fsencode(ENVIRONMENT_VARIABLE) if os.name == "posix" else ENVIRONMENT_VARIABLE
_UNKNOWN = (_KEY,)  # if there is no such dictionary

# A forked child has no threads. The core notices that by the process id, which may be the same in a new namespace.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.forget_threads)


def set_num_threads(n: int | None) -> None:
    """Set the default number of threads, in this process and its forked children.

    Args:
        n: number of threads. 0: as many as CPU affinity and cgroup quota allow. None: the value of the environment
            variable PIXELPRUNE_NUM_THREADS, or 1 if it is not set.

    Raises:
        PixelPruneError: ``n`` is negative or above 1024.
        TypeError: ``n`` is not an integer.

    Example:
        >>> import pixelprune as pp
        >>> pp.set_num_threads(2)
        >>> pp.get_num_threads()
        2
        >>> pp.set_num_threads(None)
    """
    global _setting
    _setting = None if n is None else check_count(n, "n")


def get_num_threads() -> int:
    """Return the default number of threads; at least 1.

    Raises:
        PixelPruneError: PIXELPRUNE_NUM_THREADS is not a number from 0 to 1024.

    Example:
        >>> import pixelprune as pp
        >>> pp.get_num_threads() >= 1
        True
    """
    return resolve(None)


def resolve(threads: int | None) -> int:
    """Return the number of threads for the ``threads`` argument of a call; at least 1."""
    if threads is None:
        threads = _setting
    if threads is None:
        if _KEY not in getattr(os.environ, "_data", _UNKNOWN):
            return 1
        text = os.environ.get(ENVIRONMENT_VARIABLE)
        if not text:
            return 1
        digits = text.strip()
        if not digits.isdecimal() or len(digits) > _LONGEST:
            raise PixelPruneError(
                f"{ENVIRONMENT_VARIABLE} is {shown(text)}; expected a number from 0 to {MAX_THREADS} (0 = all "
                "available)"
            )
        threads = check_count(int(digits), ENVIRONMENT_VARIABLE)
    else:
        threads = check_count(threads, "threads")
    return threads or _core.available_threads()


def check_count(n: int, name: str) -> int:
    """Return a number of threads as an ``int``, checked; ``name`` is its name in messages."""
    if type(n) is not int:
        n = as_int(n, name, f"an integer from 0 to {MAX_THREADS} (0 = all available)")
    if not 0 <= n <= MAX_THREADS:
        raise PixelPruneError(f"{name} is {shown(n)}; expected from 0 to {MAX_THREADS} (0 = all available)")
    return n


def cpu_features() -> list[str]:
    """Return the names of the vector instruction sets of this CPU, for example to report them with measurements.

    The list is for information only: the kernels are chosen automatically, and not every set in the list has one.

    Example:
        >>> import pixelprune as pp
        >>> isinstance(pp.cpu_features(), list)
        True
    """
    return _core.cpu_features()
