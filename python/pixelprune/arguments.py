"""Reading callers' arguments, and formatting values for error messages."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import PixelPruneError

LONGEST = 120
"""The most characters of a value that a message shows."""
LONGEST_TEXT = 400
"""The most characters of another error's message that a message repeats."""

_OTHER_KINDS = "bcmMOSU"
"""Kinds of numpy dtypes that ``float`` accepts although they are not real numbers."""


class _Repr(reprlib.Repr):
    """`repr` that shortens long values; values of built-in types are not formatted in full first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST
        self.maxlevel = 3

    def repr_int(self, x: int, level: int) -> str:
        # Python raises ValueError above 4,300 digits.
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
    """Return ``repr(value)`` for a message: one line of limited length. Never raises."""
    try:
        text = escaped(_REPR.repr(value))
    except Exception:  # __repr__ of the value failed
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def text_of(value: object) -> str:
    """Return ``str(value)`` of an error or a dtype for a message: one line of limited length. Never raises."""
    try:
        text = escaped(" ".join(str(value).split()))
    except Exception:  # __str__ of the value failed
        text = ""
    return text[:LONGEST_TEXT] or type(value).__name__


def attribute(value: object, name: str) -> Any:
    """Return an attribute, or None if it is missing or its getter raises."""
    try:
        return getattr(value, name, None)
    except MemoryError:
        raise
    except Exception:
        return None


def escaped(text: str) -> str:
    """Return ``text`` on one line: line ends, control and format characters and surrogates become escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def as_int(value: Any, name: str, expected: str) -> int:
    """Return an integer of any type as an ``int``; a bool is not an integer.

    Raises:
        TypeError: ``value`` is not an integer; the message names the argument.
    """
    try:
        if _is_bool(value):
            raise TypeError
        return operator.index(value)
    except MemoryError:
        raise
    except Exception:  # __index__ of the value failed
        raise TypeError(f"{name} is {shown(value)}; expected {expected}") from None


def as_float(value: Any, name: str, expected: str) -> float:
    """Return a real number of any type as a ``float``; text, bools and 1-d arrays are not numbers.

    Raises:
        TypeError: ``value`` is not a number; the message names the argument.
        PixelPruneError: ``value`` is too large for a float.
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


def as_bool(value: Any, name: str) -> bool:
    """Return a Python or numpy bool as a ``bool``.

    Raises:
        TypeError: ``value`` is not a bool; the message names the argument.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {shown(value)}; expected True or False")
    return bool(value)


def one_of(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of the allowed names.

    Raises:
        PixelPruneError: ``value`` is not one of them; the message names the argument.
    """
    for known in allowed:
        if isinstance(value, str) and str.__eq__(value, known):
            return known
    raise PixelPruneError(f"{name} is {shown(value)}; expected one of {', '.join(allowed)}")


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) or "bool" in str(attribute(value, "dtype"))


def _is_real(value: Any) -> bool:
    kind = type(value)
    converts = hasattr(kind, "__float__") or hasattr(kind, "__index__")
    kind_of_array = attribute(attribute(value, "dtype"), "kind") or "f"
    return converts and not attribute(value, "ndim") and kind_of_array not in _OTHER_KINDS
