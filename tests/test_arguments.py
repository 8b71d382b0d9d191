"""Values in messages are short and on one line, whatever they are; and which values are numbers."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pixelprune.arguments import (
    LONGEST,
    LONGEST_TEXT,
    as_bool,
    as_float,
    as_int,
    attribute,
    escaped,
    one_of,
    shown,
    text_of,
)
from pixelprune.plan import ModelSpec


class Hostile:
    """Its methods raise KeyError."""

    def fail(self, *_: object) -> Any:
        raise KeyError("mine")

    __repr__ = __index__ = __float__ = fail  # type: ignore[assignment]


class list_(list[int]):
    def __len__(self) -> int:
        raise KeyError("mine")


list_.__name__ = "list"

HUGE = 10**5000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, "5"),
        (-(10**30), "-1000000000000000000000000000000"),
        (True, "True"),
        (0.25, "0.25"),
        (None, "None"),
        ("text", "'text'"),
        ("a\nb\u202e\ud800", r"'a\nb\u202e\ud800'"),
        (np.zeros(2), "array([0., 0.])"),
        ([1, HUGE], "[1, an integer of about 5000 digits]"),
        (-HUGE, "an integer of about 5000 digits"),
        (Hostile(), "a Hostile"),
    ],
    ids=shown,
)
def test_values_as_messages_show_them(value: Any, expected: str) -> None:
    assert shown(value) == expected


def test_a_list_whose_length_raises_has_a_message() -> None:
    assert shown(list_([1])) in ("a list", "[1]")  # reprlib of Python 3.14 asks for no length


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        b"x" * 10**6,
        bytearray(10**6),
        memoryview(bytes(10**6)),
        list(range(10**6)),
        {"x" * 10**6: ["y" * 10**6]},
        np.zeros((100, 100)),
        np.array("x" * 10**6),
        np.array([HUGE], object),
        [[[[[["deep"] * 9] * 9] * 9] * 9] * 9] * 9,
    ],
    ids=lambda value: type(value).__name__,
)
def test_long_values_are_cut(value: Any) -> None:
    assert len(shown(value)) <= LONGEST + 3
    assert shown(value).isprintable()


def test_text_of_errors_and_dtypes() -> None:
    assert text_of(ValueError("two\n  lines\x1b")) == r"two lines\x1b"
    assert text_of(np.dtype(np.float32)) == "float32"
    assert text_of(ValueError()) == "ValueError"
    assert len(text_of(ValueError("x" * 10**6))) == LONGEST_TEXT
    assert text_of(type("Failing", (), {"__str__": Hostile.fail})()) == "Failing"


def test_attributes_that_fail_are_missing() -> None:
    failing = type("Failing", (), {"shape": property(Hostile.fail)})()
    assert attribute(failing, "shape") is None
    assert attribute(5, "shape") is None
    assert attribute(np.zeros(2), "shape") == (2,)


@pytest.mark.parametrize("value", [True, np.True_])
def test_bools(value: Any) -> None:
    assert as_bool(value, "flag") is True
    for wrong in (1, "yes", None, np.array(True)):
        with pytest.raises(TypeError, match=r"^flag is .*; expected True or False$"):
            as_bool(wrong, "flag")


def test_names() -> None:
    assert type(one_of(np.str_("max"), "metric", ("max", "mae"))) is str
    for wrong in ("MAX", "", None, 5, b"max", ["max"], np.array("max")):
        with pytest.raises(pp.PixelPruneError, match=r"^metric is .*; expected one of max, mae$"):
            one_of(wrong, "metric", ("max", "mae"))


@given(st.text(st.characters()))
def test_escaped_text_is_printable_and_names_what_it_escapes(text: str) -> None:
    assert escaped(text).isprintable()
    if text.isprintable():
        assert escaped(text) == text
    elif "\\" not in text and "'" not in text:
        assert escaped(text) == repr(text)[1:-1]


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), HUGE], ids=shown)
def test_integers(value: Any) -> None:
    found = as_int(value, "n", "an integer")
    assert found == value
    assert type(found) is int


@pytest.mark.parametrize(
    "value",
    [True, np.True_, np.array(True), 3.0, np.float64(3), "3", b"3", None, [3], np.array([3]), 3j, int, Hostile()],
    ids=shown,
)
def test_what_is_no_integer(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^n is .*; expected an integer$"):
        as_int(value, "n", "an integer")


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        np.float16(0.5),
        np.float64(0.5),
        np.longdouble(0.5),
        np.array(0.5),
        Decimal("0.5"),
        Fraction(1, 2),
    ],
    ids=shown,
)
def test_numbers(value: Any) -> None:
    assert as_float(value, "x", "a number") == 0.5
    assert type(as_float(value, "x", "a number")) is float
    assert as_float(np.array(1), "x", "a number") == as_float(1, "x", "a number") == 1.0


@pytest.mark.parametrize(
    "value",
    [
        *(True, np.True_, np.array(True), np.array(True, object)),
        *("0.5", np.str_("0.5"), np.array("0.5"), b"0.5", bytearray(b"0.5"), memoryview(b"0.5"), np.array(b"0.5")),
        *([0.5], np.array([0.5]), np.zeros(2), None, 0.5j, np.complex64(0.5), np.timedelta64(1, "s"), float, Hostile()),
    ],
    ids=shown,
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^x is .*; expected a number$"):
        as_float(value, "x", "a number")


def test_a_number_too_large_for_a_float() -> None:
    with pytest.raises(pp.PixelPruneError, match="x is an integer of about 5000 digits; expected a number"):
        as_float(HUGE, "x", "a number")


def test_messages_about_huge_numbers_can_be_made() -> None:
    huge = 10**5000
    for call in (
        lambda: pp.Selection.from_keep([0], (1, huge, 2), "qwen3_vl"),
        lambda: pp.Selection.from_keep([0], [huge], "qwen3_vl"),
        lambda: pp.ImageProcessor("qwen3_vl", merge_sizes=huge),
        lambda: pp.ImageProcessor("qwen3_vl")(np.zeros((64, 64, 3), np.uint8), return_tensors=huge),
        lambda: ModelSpec.from_config({"model_type": "qwen2_vl", "vision_config": huge}),
        lambda: pp.load_image(b"", alpha=(huge, 0, 0)),
    ):
        with pytest.raises((pp.PixelPruneError, TypeError), match=r"an integer of about 500[01] digits"):
            call()
