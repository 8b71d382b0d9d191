"""Reading numbers that callers pass, and showing values in error messages."""

from __future__ import annotations

import operator
import reprlib
from typing import Any

from .errors import PixelPruneError

LONGEST = 120
"""Characters of a value that a message shows at most."""
LONGEST_TEXT = 400
"""Characters of another error's message that a message repeats at most."""

_OTHER_KINDS = "bcmMOSU"
"""Numpy's kinds of types that ``float`` would convert, although they hold no real number."""


class _Repr(reprlib.Repr):
    """`repr` with a bound on its length and, for what Python has built in, on the work that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST
        self.maxlevel = 3

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to convert integers of more than 4,300 digits, and takes long for others.
        if x.bit_length() <= 128:
            return repr(x)
        return f"an integer of about {int((x.bit_length() - 1) * 0.30103) + 1} digits"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[:LONGEST])

    def repr_bytearray(self, x: bytearray, level: int) -> str:
        return repr(x[:LONGEST])

    def repr_instance(self, x: object, level: int) -> str:
        return " ".join(repr(x).split())


_REPR = _Repr()


def shown(value: object) -> str:
    """Return ``repr(value)`` for a message: on one line, never long, and without an error of its own."""
    try:
        text = escaped(_REPR.repr(value))
    except Exception:  # a __repr__ that fails
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def text_of(value: object) -> str:
    """Return ``str(value)`` of an error or a dtype for a message: on one line, and not too long."""
    try:
        text = " ".join(escaped(str(value)).split())
    except Exception:  # a __str__ that fails
        text = ""
    return text[:LONGEST_TEXT] or type(value).__name__


def attribute(value: object, name: str) -> Any:
    """Return an attribute, or None where there is none or an object of unknown kind fails to give it."""
    try:
        return getattr(value, name, None)
    except MemoryError:
        raise
    except Exception:
        return None


def escaped(text: str) -> str:
    """Return a text on one line: with escapes for line ends, control and formatting characters, and surrogates."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def as_int(value: Any, name: str, expected: str) -> int:
    """Return an integer of any type as an ``int``; a bool is none.

    Raises:
        TypeError: ``value`` is not an integer; the message names the argument.
    """
    try:
        if _is_bool(value):
            raise TypeError
        return operator.index(value)
    except MemoryError:
        raise
    except Exception:  # of a type of one's own
        raise TypeError(f"{name} is {shown(value)}; expected {expected}") from None


def as_float(value: Any, name: str, expected: str) -> float:
    """Return a real number of any type as a ``float``; text, bools and arrays of one element are none.

    Raises:
        TypeError: ``value`` is not a number; the message names the argument.
        PixelPruneError: it is too large for a float.
    """
    try:
        if _is_bool(value) or not _is_real(value):
            raise TypeError
        return float(value)
    except OverflowError:
        raise PixelPruneError(f"{name} is {shown(value)}; expected {expected}") from None
    except MemoryError:
        raise
    except Exception:
        raise TypeError(f"{name} is {shown(value)}; expected {expected}") from None


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or "bool" in str(attribute(value, "dtype"))


def _is_real(value: Any) -> bool:
    kind = type(value)
    converts = hasattr(kind, "__float__") or hasattr(kind, "__index__")
    kind_of_array = attribute(attribute(value, "dtype"), "kind") or "f"
    return converts and not attribute(value, "ndim") and kind_of_array not in _OTHER_KINDS
