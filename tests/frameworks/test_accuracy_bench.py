"""The benchmark of answers, on a few pages and steps: what it draws, asks and measures, and that a run can go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from pixelprune import PruneSettings, preprocess  # noqa: E402
from pixelprune.hf import forward, prune_inputs  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benches is not installed

from benches.accuracy import __main__ as command  # noqa: E402
from benches.accuracy import training  # noqa: E402
from benches.accuracy.batches import SPEC, make_batch, shrunk  # noqa: E402
from benches.accuracy.evaluation import held_out  # noqa: E402
from benches.accuracy.network import make_model  # noqa: E402
from benches.accuracy.pages import GLYPHS, KINDS  # noqa: E402
from benches.accuracy.questions import IMAGE, START, STOP  # noqa: E402
from benches.accuracy.tables import interval  # noqa: E402
from benches.accuracy.training import answer_logits  # noqa: E402

PROTECTED = PruneSettings(protect="content")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> Any:

    return make_model(0).eval()


def some(kind: str, asked: int = 4) -> tuple[Any, Any]:

    return held_out(kind, 3, asked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_shows_what_its_lines_say(kind: str) -> None:

    pages, _ = some(kind)
    for page in pages:
        assert page.pixels.shape == (256, 320, 3)
        for line in page.lines:
            row = [GLYPHS[shown] for shown in page.shown[line.row]]
            assert "".join(row[line.column : line.column + 2]) == line.word
            if kind == "gui":
                assert row[line.right] == ("ticked" if line.ticked else "box")
                assert row[line.button : line.button + 3] == ["grey" if line.grey else "button"] * 3
            else:
                assert "".join(row[line.right : line.right + 2]) == f"{line.number:02}"
        drawn = page.shown != 0
        patches = page.pixels.reshape(16, 16, 20, 16, 3).astype(int)
        contrast = (patches.max((1, 3)) - patches.min((1, 3))).max(-1)
        assert contrast[drawn].min() > contrast[~drawn].max() or kind in ("jpeg", "pale", "gradient")


def test_stacked_pages_repeat_numbers_that_pruning_drops_and_protection_keeps(model: Any) -> None:

    pages, questions = some("stacked")
    pixels = [page.pixels for page in pages]

    plain = make_batch(pixels, questions, model, PruneSettings())
    protected = make_batch(pixels, questions, model, PROTECTED)
    for page, dropped, kept in zip(pages, plain.kept, protected.kept, strict=True):
        numbers = {line.row // 2 * 10 + (line.right + step) // 2 for line in page.lines for step in (0, 1)}
        assert numbers - set(dropped.tolist())
        assert not numbers - set(kept.tolist())


def test_held_out_pages_are_the_same_each_time() -> None:
    (first, asked), (second, again) = some("mixed"), some("mixed")
    assert all((a.pixels == b.pixels).all() for a, b in zip(first, second, strict=True))
    assert asked == again


@pytest.mark.parametrize("settings", [None, PruneSettings(), PROTECTED], ids=["all tokens", "pred_2d", "protected"])
def test_questions_in_one_sequence_are_answered_as_each_alone(model: Any, settings: PruneSettings | None) -> None:
    """Also: as `pixelprune.hf.forward` answers a prompt that was pruned by itself."""

    pages, questions = some("stacked")
    with torch.inference_mode():
        found = answer_logits(model, make_batch([page.pixels for page in pages], questions, model, settings))
        for page, own, together in zip(pages, questions, found, strict=True):
            for question, expected in zip(own, together, strict=True):
                image = preprocess([page.pixels], SPEC, prune=False)
                prompt = [START, *[IMAGE] * 80, STOP, *question.prompt]
                inputs = prune_inputs(
                    {
                        "input_ids": torch.tensor([prompt]),
                        "pixel_values": torch.from_numpy(image.pixel_values),
                        "image_grid_thw": torch.from_numpy(image.grid_thw),
                    },
                    model,
                    "all" if settings is None else None,
                    settings=settings,
                )
                alone = forward(model, inputs).logits[0, -1]
                torch.testing.assert_close(alone, expected, atol=2e-5, rtol=0)


def test_answers_depend_on_the_own_question_and_the_page(model: Any) -> None:

    pages, questions = some("mixed")
    pixels = [page.pixels for page in pages]
    swapped = [[own[0], *reversed(own[1:])] for own in questions]
    with torch.inference_mode():
        first = answer_logits(model, make_batch(pixels, questions, model))
        second = answer_logits(model, make_batch(pixels, swapped, model))
        other = answer_logits(model, make_batch(pixels[::-1], questions, model))
    torch.testing.assert_close(first[:, 0], second[:, 0], atol=2e-5, rtol=0)
    assert (first[:, 1] - second[:, 1]).abs().max() > 1e-3
    assert (first[0] - other[0]).abs().max() > 1e-3


def test_renumbered_positions_have_no_gaps(model: Any) -> None:

    pages, questions = some("mixed")
    pixels = [page.pixels for page in pages]
    batch = make_batch(pixels, questions, model, PruneSettings(), renumber=True)
    usual = make_batch(pixels, questions, model, PruneSettings())
    assert any((batch.inputs[name] != usual.inputs[name]).any() for name in ("image_position_ids", "position_ids"))
    start = 0
    for page, kept in enumerate(batch.kept):
        at = batch.inputs["input_ids"][page] == IMAGE
        rows, columns = batch.inputs["position_ids"][1:, page, at] - 1
        counts = np.bincount(kept // 10)
        assert rows.tolist() == [rank for rank, count in enumerate(counts[counts > 0]) for _ in range(count)]
        assert columns.tolist() == [place for count in counts for place in range(count)]
        places = batch.inputs["image_position_ids"][start * 4 : (start + len(kept)) * 4 : 4] // 2
        assert torch.equal(places, torch.stack([rows, columns], dim=1))
        start += len(kept)


@pytest.mark.parametrize("tokens", [1, 7, 40, 79])
def test_shrunk_pages_have_no_more_tokens_than_allowed(tokens: int) -> None:

    height, width, _ = shrunk(some("mixed")[0][0].pixels, tokens).shape
    assert height % 32 == width % 32 == 0
    assert 0.75 * tokens <= height * width / 32**2 <= tokens


def test_intervals_are_paired() -> None:

    assert interval(np.zeros(50)) == (0.0, 0.0)
    low, high = interval(np.repeat([0.0, -1.0], 100))
    assert -0.6 < low < -0.5 < high < -0.4


def test_training_makes_the_losses_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PAGES", 4)

    told: list[str] = []
    training.train("protect", 0, 16, told.append, every=4)
    first, last = (
        sum(float(part) for part in text.split("loss ")[1].split(",")[0].split(" + ")) for text in (told[0], told[-1])
    )
    assert last < 0.95 * first


def test_a_run_goes_on_where_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ["--out", str(tmp_path), "--steps", "1", "--pages", "2", "--seeds", "1", "--threads", "1"]
    few += ["--regimes", "full", "--kinds", "gui,stacked"]
    command.main(few)
    first = capsys.readouterr().out
    assert "trained on full, gui pages" in first
    assert "all tokens" in first
    answers = tmp_path / "answers.jsonl"
    lines = answers.read_text().splitlines(keepends=True)
    assert len(lines) == len({(json.loads(line)["kind"], json.loads(line)["way"]) for line in lines})
    answers.write_text("".join(lines[:-1]) + lines[-1][:30])  # stopped while it wrote the last one
    monkeypatch.setattr(command, "train", lambda *_: pytest.fail("trained again"))
    command.main(few)
    assert capsys.readouterr().out == first
    assert answers.read_text() == "".join(lines)
    with pytest.raises(SystemExit, match="give another --out"):
        command.main([*few, "--pages", "3"])
