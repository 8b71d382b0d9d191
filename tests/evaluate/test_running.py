"""A whole evaluation with a model that is played: scores, intervals, verdicts, going on after a stop."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pixelprune import PixelPruneError, PruneSettings
from pixelprune.evaluate import (
    Answer,
    Condition,
    Question,
    Summary,
    conditions_of,
    evaluate,
)

WIDE = Image.new("RGB", (64, 32))


class Actor:
    """Knows every answer; forgets as many of ten as `loses` says under a kind of condition."""

    device = "stage"
    points = None

    def __init__(self, **loses: int) -> None:
        self.identity = {"model": "actor"}
        self.loses = loses
        self.asked: list[tuple[str, str, tuple[int, ...], int]] = []
        self.breaks_after = 10**9

    def check(self, conditions: Sequence[Condition]) -> None:
        """Everything is played."""

    def count(self, images: Sequence[Image.Image], settings: PruneSettings) -> tuple[int, ...]:
        return tuple(99 for _ in images)

    def answer(
        self,
        prompt: str,
        images: Sequence[Image.Image],
        condition: Condition,
        *,
        counts: Sequence[int] = (),
        length: int,
        seed: int = 0,
    ) -> Answer:
        if len(self.asked) >= self.breaks_after:
            raise KeyboardInterrupt
        self.asked.append((prompt, condition.name, tuple(counts), seed))
        number = int(prompt.split()[0])
        known = number % 10 >= self.loses.get(condition.kind, 0)
        kept = {"stock": 100, "pruned": 40}.get(condition.kind, sum(counts))
        return Answer(
            text=f"{number}" if known else "?",
            sizes=tuple(image.size for image in images),
            tokens=(kept,),
            prompt_tokens=kept + 20,
            prefill=0.25,
            seconds=0.5,
        )


def questions(count: int, per_image: int = 1, kinds: bool = False) -> list[Question]:
    return [
        Question(
            id=f"q{i}",
            prompt=f"{i} is asked",
            images=(lambda: WIDE,),
            fields={"answers": [str(i)]},
            cluster=str(i // per_image),
            kind=("odd" if i % 2 else "even") if kinds else "",
        )
        for i in range(count)
    ]


def run(actor: Actor, out: Path, count: int = 400, settings: str = "pred_2d@0.02", **options: Any) -> Summary:
    given = options.pop("questions", None) or questions(count)
    return evaluate("chartqa", given, actor, conditions_of(settings), out, **options)


def test_pruning_is_told_from_random_tokens(tmp_path: Path) -> None:
    summary = run(Actor(stock=2, pruned=2, random=6, shrunk=3), tmp_path)
    stock, pruned, random, shrunk = summary.lines
    assert [line.score for line in summary.lines] == pytest.approx([80, 80, 40, 70])
    assert [line.verdict for line in summary.lines] == [None, "adopt", "do not adopt", "do not adopt"]
    assert pruned.difference == (0, 0, 0)
    assert random.difference is not None
    assert -46 < random.difference.low < -40 < random.difference.high < -34
    assert [line.agreement for line in summary.lines] == [1, 1, 0.6, 0.9]
    assert (stock.fewer, pruned.fewer, random.fewer) == (1, 2.5, 2.5)
    assert (shrunk.tokens, shrunk.prompt_tokens, shrunk.prefill) == (40, 60, 0.25)
    assert summary.verdict == (
        "adopt pred_2d at tau 0.02: 0.0 points [0.0, 0.0], 2.5x fewer tokens (shrunk to equal tokens: -10.0 points)"
    )
    assert (tmp_path / "report.md").read_text().rstrip().endswith(summary.verdict)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["lines"][2]["difference"]["mean"] == random.difference.mean
    assert written["made_with"]["model"] == "actor"


def test_baselines_have_as_many_tokens_as_the_pruned_images(tmp_path: Path) -> None:
    actor = Actor()
    run(actor, tmp_path, 3)
    counts = {(name, tokens) for _, name, tokens, _ in actor.asked}
    name = "pred_2d@0.02"
    assert counts == {("stock", ()), (name, ()), (f"random:{name}", (40,)), (f"shrunk:{name}", (40,))}
    only = Actor()
    evaluate("chartqa", questions(2), only, conditions_of(name, ["shrunk"], pruned=False), tmp_path / "b")
    assert {tokens for _, name, tokens, _ in only.asked if name != "stock"} == {(99,)}


def test_random_tokens_differ_from_question_to_question_and_not_from_run_to_run(tmp_path: Path) -> None:
    first, second, other = Actor(), Actor(), Actor()
    run(first, tmp_path / "a", 20)
    run(second, tmp_path / "b", 20)
    run(other, tmp_path / "c", 20, seed=1)
    assert first.asked == second.asked != other.asked
    assert len({seed for *_, seed in first.asked}) == 20


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    whole = run(Actor(random=3), tmp_path / "whole", 30)
    actor = Actor(random=3)
    for stop in (1, 7, 50, 51):
        actor.breaks_after = stop
        with pytest.raises(KeyboardInterrupt):
            run(actor, tmp_path / "cut", 30)
    actor.breaks_after = 10**9
    assert run(actor, tmp_path / "cut", 30) == whole
    assert len(actor.asked) == 30 * 4, "something was asked twice"
    again = Actor()
    assert run(again, tmp_path / "cut", 30) == whole
    assert again.asked == []


def test_more_questions_and_settings_add_to_those_answered(tmp_path: Path) -> None:
    actor = Actor()
    given = questions(30)
    run(actor, tmp_path, questions=given, limit=10)
    assert len(actor.asked) == 40
    run(actor, tmp_path, questions=given, limit=15)
    assert len(actor.asked) == 60
    summary = run(actor, tmp_path, questions=given, limit=15, settings="pred_2d@0.02,pred_2d@0")
    assert len(actor.asked) == 60 + 15 * 3
    assert len(summary.lines) == 7


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"count": 31}, "made with questions"),
        ({"seed": 1}, "made with seed 0; now it is 1"),
        ({"length": 5}, "made with length 16; now it is 5"),
        ({"rules": "vlmevalkit"}, "made with rules"),
    ],
)
def test_other_settings_need_another_folder(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    run(Actor(), tmp_path, 30)
    with pytest.raises(PixelPruneError, match=reason):
        run(Actor(), tmp_path, **{"count": 30, **options})


def test_the_setting_with_the_fewest_tokens_is_adopted(tmp_path: Path) -> None:
    class Sparing(Actor):
        def answer(self, prompt: str, images: Any, condition: Condition, **options: Any) -> Answer:
            answer = super().answer(prompt, images, condition, **options)
            kept = {"pred_2d@0.02": 30, "pred_2d@0.2": 10}.get(condition.name, 40)
            text = "?" if condition.name == "pred_2d@0.2" else answer.text
            return Answer(text, answer.sizes, (100 if condition.kind == "stock" else kept,))

    summary = run(Sparing(), tmp_path, settings="pred_2d@0,pred_2d@0.02,pred_2d@0.2")
    assert summary.verdict.startswith("adopt pred_2d at tau 0.02: 0.0 points [0.0, 0.0], 3.3x fewer tokens")


def test_no_setting_is_adopted(tmp_path: Path) -> None:
    line = run(Actor(pruned=5), tmp_path / "a").verdict
    assert line.startswith("do not adopt pred_2d at tau 0.02: -50.0 points [")
    line = run(Actor(), tmp_path / "b", 100).verdict
    assert line.startswith("too few questions to tell about pred_2d at tau 0.02: 0.0 points [0.0, 0.0]")
    assert run(Actor(), tmp_path / "c", 100, margin=3.0).verdict.startswith("adopt")


def test_questions_about_one_image_are_one_observation(tmp_path: Path) -> None:
    summary = run(Actor(), tmp_path, questions=questions(400, per_image=2))
    assert (summary.questions, summary.images) == (400, 200)
    assert summary.verdict.startswith("too few")


def test_a_stock_model_that_knows_nothing_gives_no_verdict(tmp_path: Path) -> None:
    summary = run(Actor(stock=10, pruned=10, random=10, shrunk=10), tmp_path)
    assert summary.verdict.startswith("no verdict: the stock model scores 0.0, no more than the margin of 1")
    assert {line.verdict for line in summary.lines[1:]} == {"too few questions to tell"}


def test_the_benchmarks_own_split(tmp_path: Path) -> None:
    summary = run(Actor(stock=1), tmp_path, questions=questions(20, kinds=True))
    assert summary.lines[0].kinds == {"even": 80, "odd": 100}
    assert re.search(r"^\| stock +\| +80\.0 \| +100\.0 \|$", summary.as_markdown(), re.MULTILINE)


def test_a_package_that_is_missing_is_told_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    actor = Actor()
    with pytest.raises(ImportError, match=r"olmocr needs pypdfium2: pip install 'pixelprune\[eval\]'"):
        evaluate("olmocr", questions(1), actor, conditions_of("pred_2d@0"), tmp_path)
    assert actor.asked == []


def clicks(box: list[float], form: str) -> list[Question]:
    return [Question("0", "0 is asked", (lambda: WIDE,), {"bbox": box, "box_form": form}, "")]


class Pointer(Actor):
    def answer(self, prompt: str, images: Any, condition: Condition, **options: Any) -> Answer:
        seen = ((640, 320),) if condition.kind == "stock" else ((320, 160),)
        return Answer("click(x=160, y=80)", tuple(image.size for image in images), (1,), seen)


@pytest.mark.parametrize(
    ("box", "form", "rules", "points", "scores"),
    [
        ([10, 2, 3, 2], "xywh", "vlmevalkit", "thousand", (100, 100)),  # 16 % and 8 % of 64 x 32: (10.24, 2.56)
        ([15, 7, 3, 3], "xywh", "vlmevalkit", "seen", (100, 0)),  # a quarter of what stock sees, a half of the other
        ([31, 15, 3, 3], "xywh", "lmms-eval", "seen", (0, 100)),
        ([60, 30, 20, 20], "xywh", "vlmevalkit", "seen", (None, None)),  # leaves the image
    ],
)
def test_clicks(tmp_path: Path, box: list[float], form: str, rules: Any, points: Any, scores: tuple[Any, Any]) -> None:
    found = evaluate(
        "screenspot", clicks(box, form), Pointer(), conditions_of("pred_2d@0", []), tmp_path, rules=rules, points=points
    )
    assert tuple(line.score for line in found.lines) == scores
    assert found.not_scored[0] == (scores == (None, None))


def test_answers_that_were_cut_are_counted(tmp_path: Path) -> None:
    class Babbler(Actor):
        def answer(self, prompt: str, images: Any, condition: Condition, **options: Any) -> Answer:
            return Answer("?", finished=condition.kind == "stock")

    summary = run(Babbler(), tmp_path, 5)
    assert [line.unfinished for line in summary.lines] == [0, 5, 5, 5]
    assert "15 answers were cut at their greatest length" in summary.as_markdown()


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run(Actor(), tmp_path, 3, progress=lambda have, wanted: seen.append((have, wanted)))
    assert seen == [(i, 12) for i in range(1, 13)]


def broken() -> Image.Image:
    raise PixelPruneError("the image is damaged")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "gqa"}, "expected one of docvqa"),
        ({"conditions": conditions_of("pred_2d@0")[1:]}, "the first condition is not the stock model's"),
        ({"margin": 0}, "the margin is 0 points; expected more than 0"),
        ({"limit": 0}, "at least 1"),
        ({"length": 0}, "at least 1"),
        ({"questions": [Question("q7", "", (broken,), {"answers": []}, "")]}, "question q7: the image is damaged"),
    ],
)
def test_bad_calls_are_one_sentence(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    call = {"task": "chartqa", "questions": questions(1), "conditions": conditions_of("pred_2d@0"), **changes}
    with pytest.raises(PixelPruneError, match=reason):
        evaluate(call.pop("task"), call.pop("questions"), Actor(), call.pop("conditions"), tmp_path, **call)
