"""The metrics on tables of cases. The values are those of lmms-eval 0.7.3 and VLMEvalKit e8e78f0 for them."""

from __future__ import annotations

import pytest
from pixelprune import PixelPruneError
from pixelprune.evaluate.metrics import (
    Box,
    anls,
    contains,
    hits,
    mmlongbench,
    option,
    point_of,
    relaxed_accuracy,
)
from pixelprune.evaluate.metrics.points import POINTS
from pixelprune.evaluate.metrics.text import edit_distance

LMMS, VLM = "lmms-eval", "vlmevalkit"

ANLS = [  # prediction, expected answers, score: the same in both
    ("total", ["total"], 1.0),
    ("TOTAL", ["total"], 1.0),
    ("  to  tal\n", ["to tal"], 1.0),
    ("a  b", ["a c"], 0.75),  # one letter of three differs, and the longer raw text has four characters
    ("ab", ["ax"], 0.5),  # exactly 0.5 counts
    ("abx", ["ayz"], 0.0),
    ("abcde", ["abxyz"], 0.0),
    ("abcd", ["xbcd"], 0.75),
    ("b", ["a", "b", "c"], 1.0),  # the best of the answers
    ("bxx", ["a", "bxy", "bxxxxxx"], 1 - 1 / 3),
    ("", [""], 1.0),
    ("", ["a"], 0.0),
    (" ", [""], 1.0),
    ("strasse", ["straße"], 1 - 2 / 7),
    ("ß", ["x"], 0.5),  # the length is that of the upper case, SS
]

NUMBERS = [  # prediction, expected answer, score by lmms-eval, by VLMEvalKit
    ("100", "100", 1, 1),
    ("105", "100", 1, 1),  # 5 % is within
    ("95", "100", 1, 1),
    ("105.1", "100", 0, 0),
    ("94.9", "100", 0, 0),
    ("-100", "100", 0, 0),
    ("-104", "-100", 1, 1),
    ("5%", "5%", 1, 1),
    ("0.05", "5%", 1, 1),
    ("5", "5%", 0, 0),
    ("5%", "5", 0, 0),
    ("5 %", "5%", 1, 1),
    ("1,000", "1000", 0, 0),  # no number
    ("1,000", "1,000", 1, 1),
    ("1e3", "1000", 1, 1),
    ("1_000", "1000", 1, 1),
    ("0", "0", 1, 1),
    ("0.0", "0", 0, 0),  # of a target of 0 the text counts
    ("0.01", "0", 0, 0),
    ("0%", "0", 0, 0),
    ("nan", "nan", 0, 0),
    ("inf", "inf", 0, 0),
    ("%", "%", 1, 1),
    ("Yes", "yes", 1, 1),
    (" Yes", "yes", 0, 1),  # only VLMEvalKit strips
    ("yes\n", "yes", 0, 1),
    (" 105 ", "100", 1, 1),  # a number may have space around it
    ("yes.", "yes", 0, 0),
    ("", "", 1, 1),
]

TEXTS = [  # prediction, expected answers, a formula, score by lmms-eval, by VLMEvalKit
    ("It says STOP.", ["stop"], False, 1, 1),
    ("st op", ["stop"], False, 0, 0),
    ("line\none", ["line one"], False, 1, 1),
    ("line one", [" line\none "], False, 1, 1),
    ("no", ["yes", "no"], False, 1, 1),
    ("", ["a"], False, 0, 0),
    ("a", [""], False, 1, 1),
    ("\uff21\uff11", ["a1"], False, 1, 0),  # full width
    ("a1", ["\uff21\uff11"], False, 1, 0),
    ("a\u3000b", ["a b"], False, 1, 0),
    ("\u3000a", ["a"], False, 1, 1),
    ("x ^ 2 = y", ["x^2"], True, 1, 1),
    ("x ^\n2", ["x ^ 2"], True, 1, 1),
    ("X^2", ["x^2"], True, 0, 0),  # of formulas case counts
    ("x\t^2", ["x^2"], True, 0, 0),
    ("\uff58^2", ["x^2"], True, 0, 0),
]

OPTIONS = {"A": "leaf", "B": "root", "C": "stem of the plant", "D": "the"}
CHOICES = [  # prediction, right letter, score by lmms-eval, by VLMEvalKit without a judge
    ("B", "B", 1, 1),
    ("b", "B", 1, 0),
    ("B.", "B", 1, 1),
    ("B. root", "B", 1, 1),
    ("  B. root", "B", 1, 1),
    ("b. root", "B", 0, 1),
    ("(B)", "B", 1, 1),
    ("(B) root", "B", 0, 1),
    ("**B**", "B", 1, 1),
    (" B", "B", 0, 1),
    ("B\n", "B", 0, 1),
    ("A", "B", 0, 0),
    ("A. root", "B", 0, 0),
    ("A or B", "B", 0, 0),
    ("The answer is B", "B", 0, 1),
    ("B is what I would choose from these", "B", 0, 0),  # not among the last five words, and no text of an option
    ("The correct answer is **B**: A and C are not", "B", 0, 1),
    ("The answer is b, not A", "A", 0, 1),
    ("root", "B", 0, 1),
    ("Root", "B", 0, 1),
    ("root and leaf", "B", 0, 0),
    ("I can't process this file.", "B", 0, 0),
    ("Z", "Z", 1, 1),
    ("", "B", 0, 0),
]

DOCUMENTS = [  # prediction, expected answer, format, score by lmms-eval, of an extracted answer by VLMEvalKit
    ("5", "5", "Int", 1, 1),
    ("5.9", "5", "Int", 1, 1),
    ("about 5 men", "5", "Int", 1, 0),
    ("1,204", "1204", "Int", 1, 0),
    ("none", "5", "Int", 0, 0),
    ("-5", "5", "Int", 0, 0),
    ("12.5%", "0.125", "Float", 1, 1),
    ("0.125", "12.5%", "Float", 1, 1),
    ("12.5", "0.125", "Float", 1, 1),
    ("101", "100", "Float", 1, 1),  # within 1 %
    ("102", "100", "Float", 0, 0),
    ("$5", "5", "Float", 1, 1),
    ("five", "5", "Float", 0, 0),
    ("0.001", "0.0012", "Float", 1, 1),  # equal in the decimals that both have
    ("0.02", "0.01", "Float", 0, 0),
    ("apple", "Apple", "Str", 1, 1),
    ("'apple'", "apple", "Str", 1, 1),
    ("apple (a fruit)", "apple", "Str", 1, 1),
    ("ab", "ax", "Str", 0, 0),  # here exactly 0.5 does not count
    ("abx", "aby", "Str", 2 / 3, 2 / 3),
    ("5 miles", "5", "Str", 1, 0),
    ("two  words", "two words", "Str", 1, 0.9),
    ("page 4", "page 3", "Str", 0, 0),  # right or wrong as a whole
    ("555-1234", "555-1235", "Str", 0, 0),
    ("2020-01-02", "2020-01-03", "Str", 0, 0),
    ("https://a.bc", "https://a.bd", "Str", 0, 0),
    ("http://a.bc", "http://a.bd", "Str", 0, 10 / 11),
    ("a@b.co", "a@b.com", "Str", 0, 0),
    ("10 a.m", "10 a.m.", "Str", 0, 0),
    ("x.pz", "x.py", "Str", 0, 0),
    ("ss", "\u00df", "Str", 0, 0),
    ("", "", "Str", 1, 1),
    ("", "a", "Str", 0, 0),
    ("['b', 'a']", "['a', 'b']", "List", 1, 1),
    ("['a']", "['a', 'b']", "List", 0, 0),
    ("['abcd', 'abxy']", "['abcd', 'abxz']", "List", 0.75, 0.75),
    ("['1', '3']", "['1', '2']", "List", 0, 0),
    ("a", "['a']", "List", 1, 1),
    ("[]", "[]", "List", 1, 0),
    ("['a', 'b'", "['a', 'b']", "List", 0, 0),
    ("Not answerable", "Not answerable", "None", 1, 1),
    ("not answerable.", "Not answerable", "None", 0, 1 - 1 / 15),
    ("I do not know", "Not answerable", "None", 0, 0),
]

SCREEN = (1920, 1080)
ANSWERS = [  # answer, point by lmms-eval, by VLMEvalKit
    ("[0.5, 0.25]", (0.5, 0.25), (0, 0)),
    ("(0.5 0.25)", (0.5, 0.25), (0, 0)),
    ("[960, 270]", (0.5, 0.25), (0, 0)),
    ("[50%, 25%]", (0.5, 0.25), (0, 0)),
    ("[1, 1]", (1, 1), (0, 0)),
    ("[960, 0.5]", (0.5, 0.5 / 1080), (0, 0)),  # one is above 1: both are pixels
    ('{"coordinate": [960, 540]}', (0.5, 0.5), (0, 0)),
    ("x: 0.5, y: 0.25", (0.5, 0.25), (0, 0)),
    ('{"x": 960, "y": 270}', (0.5, 0.25), (0, 0)),
    ("<bbox>0.4, 0.2, 0.6, 0.3</bbox>", (0.5, 0.25), (0, 0)),
    ("<BBOX id=7>960 0 960 540</bbox>", (0.5, 0.25), (0, 0)),
    ("box: 0.4 0.2 0.6 0.3", (0.5, 0.25), (0, 0)),
    ("0.4 0.2 0.6 0.3", (0.4, 0.2), (0, 0)),
    ("at 0.5 and 0.25", (0.5, 0.25), (0, 0)),
    ("[-5, 0.5]", (-5, 0.5), (0, 0)),
    ("pyautogui.click(x=0.5, y=0.25)", (0.5, 0.25), (0.5, 0.25)),
    ("pyautogui.click(x=960, y=270)", (0.5, 0.25), (0.5, 0.25)),
    ("click(x=1.2.3, y=4)", (1.2 / 1920, 4 / 1080), None),
    ("nowhere", None, (0, 0)),
    ("only 7", None, (0, 0)),
    ("", None, (0, 0)),
]


@pytest.mark.parametrize(("prediction", "answers", "score"), ANLS)
def test_anls(prediction: str, answers: list[str], score: float) -> None:
    assert anls(prediction, answers) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(("prediction", "answer", "lmms", "vlm"), NUMBERS)
def test_relaxed_accuracy(prediction: str, answer: str, lmms: int, vlm: int) -> None:
    assert relaxed_accuracy(prediction, [answer], LMMS) == lmms
    assert relaxed_accuracy(prediction, [answer], VLM) == vlm
    assert relaxed_accuracy(prediction, ["something else", answer], LMMS) == lmms


@pytest.mark.parametrize(("prediction", "answers", "formula", "lmms", "vlm"), TEXTS)
def test_contains(prediction: str, answers: list[str], formula: bool, lmms: int, vlm: int) -> None:
    assert contains(prediction, answers, LMMS, formula=formula) == lmms
    assert contains(prediction, answers, VLM, formula=formula) == vlm


@pytest.mark.parametrize(("prediction", "answer", "lmms", "vlm"), CHOICES)
def test_option(prediction: str, answer: str, lmms: int, vlm: int) -> None:
    assert option(prediction, OPTIONS, answer, LMMS) == lmms
    assert option(prediction, OPTIONS, answer, VLM) == vlm


@pytest.mark.parametrize(("prediction", "answer", "form", "lmms", "vlm"), DOCUMENTS)
def test_mmlongbench(prediction: str, answer: str, form: str, lmms: float, vlm: float) -> None:
    assert mmlongbench(prediction, answer, form, LMMS) == pytest.approx(lmms, abs=1e-12)
    assert mmlongbench(prediction, answer, form, VLM) == pytest.approx(vlm, abs=1e-12)


@pytest.mark.parametrize(("answer", "lmms", "vlm"), ANSWERS)
def test_points(answer: str, lmms: tuple[float, float] | None, vlm: tuple[float, float] | None) -> None:
    for rules, expected in ((LMMS, lmms), (VLM, vlm)):
        found = point_of(answer, SCREEN, rules)  # type: ignore[arg-type]
        assert (found is None) == (expected is None)
        assert found is None or found == pytest.approx(expected, abs=1e-12)


def test_coordinates_in_other_scales() -> None:
    """Qwen3-VL gives thousandths, Qwen2.5-VL pixels of the image as it sees it. Read as the harness does, both miss."""
    box = Box(0.45, 0.45, 0.55, 0.55)
    points = [point_of("[500, 500]", SCREEN, points=scale, seen=(1000, 1000)) for scale in POINTS]
    assert points == [(500 / 1920, 500 / 1080), (0.5, 0.5), (0.5, 0.5)]
    assert [hits(point, box) for point in points] == [0, 1, 1]
    assert point_of("[999, 999]", SCREEN, points="thousand") == (0.999, 0.999)
    assert point_of("[1, 1]", SCREEN, points="thousand") == (0.001, 0.001)
    assert point_of("click(x=500, y=250)", SCREEN, VLM, "thousand") == (0.5, 0.25)
    with pytest.raises(PixelPruneError, match="size that the model sees is not known"):
        point_of("[1, 1]", SCREEN, points="seen")


@pytest.mark.parametrize(
    ("numbers", "form", "rules", "box"),
    [
        ([42, 1102, 197, 70], "xywh", VLM, (42, 1102, 238, 1171)),  # ends a pixel earlier
        ([42, 1102, 197, 70], "xywh", LMMS, (42, 1102, 239, 1172)),
        ([42, 1102, 197, 70], "guess", LMMS, (42, 1102, 239, 1172)),
        ([10, 10, 200, 100], "guess", LMMS, (10, 10, 200, 100)),
        ([10, 10, 200, 100], "xywh", LMMS, (10, 10, 210, 110)),
        ([10, 10, 200, 100], "xyxy", LMMS, (10, 10, 200, 100)),
        ([10, 10, 200, 100], "xyxy", VLM, (10, 10, 200, 100)),
        ([0.1, 0.2, 0.3, 0.4], "guess", LMMS, (200, 400, 600, 800)),
        ([0.1, 0.2, 0.3, 0.4], "xyxy", LMMS, (200, 400, 600, 800)),
        ([0.5, 0.5, 0.1, 0.1], "guess", LMMS, (0.5, 0.5, 0.6, 0.6)),  # its second corner is not below the first
        ([-1, 5, 20, 30], "xyxy", VLM, (0, 5, 20, 30)),
        ([0, 0, 2000, 2000], "xywh", VLM, (0, 0, 1999, 1999)),
    ],
)
def test_boxes(numbers: list[float], form: str, rules: str, box: tuple[float, ...]) -> None:
    found = Box.of(numbers, (2000, 2000), form, rules)  # type: ignore[arg-type]
    assert found == pytest.approx([edge / 2000 for edge in box], abs=1e-12)


def test_the_edges_of_a_box_belong_to_it() -> None:
    box = Box.of([100, 100, 51, 51], (1000, 1000), "xywh", VLM)
    for x, y in ((0.1, 0.1), (0.15, 0.15), (0.15, 0.1), (0.12, 0.14)):
        assert hits((x, y), box) == 1
    for x, y in ((0.0999, 0.1), (0.1501, 0.1), (0.12, 0.1501), (0.12, 0.0999)):
        assert hits((x, y), box) == 0
    assert hits((0.151, 0.12), Box.of([100, 100, 51, 51], (1000, 1000), "xywh", LMMS)) == 1


def test_boxes_that_are_none_are_refused() -> None:
    with pytest.raises(PixelPruneError, match="leaves the image of 100 x 100 pixels"):
        Box.of([90, 90, 20, 20], (100, 100), "xywh", VLM)
    with pytest.raises(PixelPruneError, match="has 3 numbers; expected 4"):
        Box.of([1, 2, 3], (100, 100), "xyxy")


def test_edit_distance() -> None:
    for one, other, distance in (("", "", 0), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)):
        assert edit_distance(one, other) == distance
