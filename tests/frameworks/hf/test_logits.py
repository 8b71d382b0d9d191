"""Logits, positions and gradients of pruned inputs: against the stock model, and against the masking oracle."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
import torch
import transformers
from pixelprune import PixelPruneError
from pixelprune.hf import versions
from pixelprune.plan import ModelSpec, PositionTable
from torch.nn import functional as F

from . import cases, oracle, zoo
from .cases import MIXED, ONE, PLAIN, TWO, VIDEO
from .conftest import Close

BATCHES: dict[str, tuple[cases.Prompt, ...]] = {
    "one": (ONE,),
    "two": (TWO,),
    "video": (VIDEO,),
    "mixed": (MIXED,),
    "batch": (ONE, PLAIN, TWO),
    "batch of videos": (VIDEO, ONE, MIXED),
}


def build(family: zoo.Family, name: str, side: str = "left") -> cases.Case:
    cases.skip_unless_pruned(family, BATCHES[name])
    return cases.make(family, BATCHES[name], side)


def unpad(values: torch.Tensor, inputs: Any) -> list[torch.Tensor]:
    """The rows of a batch without padding."""
    return [row[mask.bool()] for row, mask in zip(values, inputs["attention_mask"], strict=True)]


# --- Nothing dropped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one", "batch", "mixed", "video"])
def test_keep_all_is_the_stock_model(family: zoo.Family, model: Any, name: str, close: Close) -> None:
    case = build(family, name)
    inputs = hf.prune_inputs(case.batch, model, "all", video_keep="all")
    with torch.no_grad():
        stock = model(**case.batch).logits
        model.model.rope_deltas = None
        found = hf.forward(model, inputs).logits
    assert torch.equal(inputs["input_ids"], case.batch["input_ids"])
    if family.order == "raster":  # its patches come in another order
        close(found, stock, 1e-6)
    else:
        close(found, stock, 0)


def test_keep_all_is_the_stock_model_in_bfloat16(family: zoo.Family, model: Any) -> None:
    if family.order == "raster":
        pytest.skip("patches in another order round differently")
    half = copy.deepcopy(model).to(torch.bfloat16)
    case = build(family, "two")
    with torch.no_grad():
        stock = half(**case.batch).logits
        half.model.rope_deltas = None
        found = hf.forward(half, hf.prune_inputs(case.batch, half, "all")).logits
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, stock)


# --- Something dropped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", BATCHES)
def test_logits_are_those_of_the_oracle(family: zoo.Family, model: Any, name: str, side: str, close: Close) -> None:
    case = build(family, name, side)
    if len(case.rows) == 1 and side == "right":
        pytest.skip("one row is not padded")
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    with torch.no_grad():
        found = hf.forward(model, inputs).logits
    close(unpad(found, inputs), case.expected)


@pytest.mark.parametrize("name", BATCHES)
def test_the_model_runs_the_inputs_as_they_are(family: zoo.Family, model: Any, name: str, close: Close) -> None:
    """Data only: `model(**inputs)`, no helper and no context."""
    case = build(family, name)
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    needs_help = zoo.VERSION < (5, 9) or hf_seam(model) != "flat"
    with torch.no_grad():
        if needs_help:
            with pytest.raises((ValueError, RuntimeError, IndexError)):
                model(**inputs)
            model.model.rope_deltas = None
            return
        found = model(**inputs).logits
    close(unpad(found, inputs), case.expected)


def hf_seam(model: Any) -> str:
    from pixelprune.plan import ModelSpec

    return ModelSpec.from_config(model).seam


@pytest.mark.parametrize("attention", ["eager"])
def test_eager_attention(family: zoo.Family, model: Any, attention: str, close: Close) -> None:
    case = build(family, "batch")
    other = copy.deepcopy(model)
    other.set_attn_implementation(attention)
    inputs = hf.prune_inputs(case.batch, other, **case.masks)
    with torch.no_grad():
        found = hf.forward(other, inputs).logits
    close(unpad(found, inputs), case.expected)


def masks_of(kind: str, rows: int, cols: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((rows, cols), bool)
    if kind == "first":
        mask[0, 0] = True
    elif kind == "last":
        mask[-1, -1] = True
    elif kind == "no last row, no last column":
        mask[:-1, :-1] = True
    elif kind == "every other":
        mask.flat[::2] = True
    return mask.ravel()


@pytest.mark.parametrize("kind", ["first", "last", "no last row, no last column", "every other"])
def test_masks_of_a_kind(family: zoo.Family, model: Any, kind: str, close: Close) -> None:
    case = build(family, "two")
    keep = [masks_of(kind, p.rows, p.cols) for p in TWO if type(p) is cases.Still]
    inputs = hf.prune_inputs(case.batch, model, keep)
    with torch.no_grad():
        found = hf.forward(model, inputs).logits
        expected = oracle.truth(model, case.rows[0].alone, keep, order=family.order, recurrent=family.recurrent)
    close(found[0], expected)


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_are_the_stock_ones_cut(family: zoo.Family, model: Any, name: str, side: str) -> None:
    case = build(family, name, side)
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    given = inputs["position_ids"]
    assert given.shape == (4, *inputs["input_ids"].shape)
    for i, row in enumerate(case.rows):
        kept = oracle.kept_tokens(model.config, row.alone, row.keep, row.video_keep)
        here = inputs["attention_mask"][i].bool()
        stock = oracle.positions(model, row.alone)[:, 0]
        assert torch.equal(inputs["input_ids"][i][here], row.alone["input_ids"][0][kept])
        assert torch.equal(given[1:, i][:, here], stock[:, kept])
        assert torch.equal(given[0, i][here], torch.arange(int(here.sum())))
        following = int(inputs.pixelprune.rope_deltas[i, 0]) + int(kept.sum())
        assert following == int(stock.max()) + 1


@pytest.mark.parametrize("name", BATCHES)
def test_what_is_reported(family: zoo.Family, model: Any, name: str) -> None:
    case = build(family, name)
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    about = inputs.pixelprune
    before, after = int(case.batch["attention_mask"].sum()), int(inputs["attention_mask"].sum())
    dropped = sum(int((~mask).sum()) for mask in case.keep + case.video_keep)
    assert (about.tokens_before, about.tokens_after) == (before, after)
    assert before - after == dropped
    for grids, selections, masks, key in (
        (about.grids, about.selections, case.keep, "image_grid_thw"),
        (about.video_grids, about.video_selections, case.video_keep, "video_grid_thw"),
    ):
        assert np.asarray(grids).tolist() == case.batch.get(key, torch.empty(0, 3)).tolist()
        assert [s.mask.ravel().tolist() for s in selections] == [mask.tolist() for mask in masks]
    images = [p for prompt in BATCHES[name] for p in prompt if type(p) is cases.Still]
    sizes = [(p.rows * family.token, p.cols * family.token) for p in images]
    assert list(about.image_sizes) == sizes


# --- Training ---------------------------------------------------------------------------------------------------


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def weighted(rows: Iterable[torch.Tensor]) -> torch.Tensor:
    """A scalar that depends on every logit with its own weight."""
    generator = torch.Generator().manual_seed(3)
    parts = [(row * torch.randn(row.shape, generator=generator)).sum() for row in rows]
    return torch.stack(parts).sum()


@pytest.mark.parametrize(
    ("name", "dtype"), [("batch", "float32"), ("mixed", "float32"), ("two", "float64"), ("mixed", "float64")]
)
def test_gradients_are_those_of_the_oracle(family: zoo.Family, model: Any, name: str, dtype: str, close: Close) -> None:
    if family.recurrent and dtype == "float32":
        pytest.skip("the gradients of its recurrent layers are too rough in float32, and hang on padding in stock too")
    case = build(family, name)
    double = copy.deepcopy(model).to(getattr(torch, dtype))
    if hasattr(double, "set_experts_implementation"):
        double.set_experts_implementation("eager")  # the default one takes no float64
    weighted(case.truth(double)).backward()
    expected = gradients(double)
    inputs = hf.prune_inputs(case.batch, double, **case.masks)
    weighted(unpad(hf.forward(double, inputs).logits, inputs)).backward()
    found = gradients(double)
    assert found.keys() == expected.keys()
    assert any("visual" in key and bool(grad.any()) for key, grad in expected.items())
    # Relative to the largest gradient of a tensor; one that is zero but for rounding has none of its own.
    floor = 1e-3 * max(float(grad.abs().max()) for grad in expected.values())
    scale = {key: max(float(grad.abs().max()), floor) for key, grad in expected.items()}
    close(
        [found[key] / scale[key] for key in scale],
        [expected[key] / scale[key] for key in scale],
        1e-6 if dtype == "float64" else 1e-5,  # some of a float64 model is in float32 all the same
        what=dtype,
    )


def with_labels(case: cases.Case) -> tuple[Any, list[torch.Tensor]]:
    """The batch with labels, and those of each row: the text, without images, padding and what nothing precedes."""
    ids, here = case.batch["input_ids"], case.batch["attention_mask"].bool()
    first = here & (here.cumsum(1) == 1)
    labels = ids.masked_fill((ids >= 256) | ~here | first, -100)
    return {**case.batch, "labels": labels}, [row[mask] for row, mask in zip(labels, here, strict=True)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["one", "batch", "mixed"])
def test_loss_of_labels(family: zoo.Family, model: Any, name: str, side: str, close: Close) -> None:
    case = build(family, name, side)
    batch, labels = with_labels(case)
    inputs = hf.prune_inputs(batch, model, **case.masks)
    assert inputs["labels"].shape == inputs["input_ids"].shape
    with torch.no_grad():
        found = hf.forward(model, inputs).loss
        losses, count = torch.zeros(()), 0
        for row, logits, whole in zip(case.rows, case.expected, labels, strict=True):
            kept = whole[oracle.kept_tokens(model.config, row.alone, row.keep, row.video_keep)]
            losses += F.cross_entropy(logits[:-1], kept[1:], ignore_index=-100, reduction="sum")
            count += int((kept[1:] != -100).sum())
    assert count > 5
    close(found, losses / count)


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_key_with_a_value_per_token_is_pruned(family: zoo.Family, model: Any, side: str) -> None:
    case = build(family, "batch", side)
    length = case.batch["input_ids"].shape[1]
    numbers = torch.arange(3 * length).reshape(3, length)
    batch = {
        **case.batch,
        "numbers": numbers,
        "pairs": torch.stack([numbers, -numbers], dim=-1),
        "weights": torch.rand(3, length),
        "names": ["a", "b", "c"],
        "of_a_row": torch.arange(3),
    }
    inputs = hf.prune_inputs(batch, model, **case.masks)
    assert inputs["names"] == ["a", "b", "c"]
    assert torch.equal(inputs["of_a_row"], torch.arange(3))
    for i, row in enumerate(case.rows):
        kept = oracle.kept_tokens(model.config, row.alone, row.keep, row.video_keep)
        before, after = case.batch["attention_mask"][i].bool(), inputs["attention_mask"][i].bool()
        for name in ("numbers", "pairs", "weights", "input_ids"):
            assert torch.equal(inputs[name][i][after], batch[name][i][before][kept]), name


# --- These tests can fail ---------------------------------------------------------------------------------------


def worst(model: Any, case: cases.Case, inputs: Any) -> float:
    with torch.no_grad():
        found = unpad(hf.forward(model, inputs).logits, inputs)
    return max(float((a - b).abs().max()) for a, b in zip(found, case.expected, strict=True))


@pytest.mark.parametrize("side", ["left", "right"])
def test_wrong_text_positions_are_seen(family: zoo.Family, model: Any, side: str) -> None:
    """Without positions a model would take rows and columns from the flat grid."""
    case = build(family, "batch", side)
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    assert worst(model, case, inputs) < cases.TOLERANCE
    axis = inputs["position_ids"].clone()
    inputs["position_ids"][1:] = axis[0]  # counted through
    assert worst(model, case, inputs) > 1000 * cases.TOLERANCE
    inputs["position_ids"] = axis[[0, 1, 3, 2]]  # rows for columns
    assert worst(model, case, inputs) > 1000 * cases.TOLERANCE


def test_a_shifted_keep_is_seen(family: zoo.Family, model: Any) -> None:
    case = build(family, "two")
    shifted = [np.roll(mask, 1) for mask in case.keep]
    inputs = hf.prune_inputs(case.batch, model, shifted)
    assert worst(model, case, inputs) > 1000 * cases.TOLERANCE


def test_swapped_masks_of_two_images_are_seen(family: zoo.Family, model: Any) -> None:
    prompt: cases.Prompt = (cases.Still(4, 5, 1), " ", cases.Still(4, 5, 2))
    cases.skip_unless_pruned(family, (prompt,))
    case = cases.make(family, (prompt,))
    one, two = case.keep
    assert (one != two).any()
    swapped = oracle.truth(model, case.rows[0].alone, [two, one], order=family.order, recurrent=family.recurrent)
    with torch.no_grad():
        found = hf.forward(model, hf.prune_inputs(case.batch, model, [one, two])).logits[0]
    if found.shape == swapped.shape:
        assert (found - swapped).abs().max() > 1000 * cases.TOLERANCE
    assert worst(model, case, hf.prune_inputs(case.batch, model, [one, two])) < cases.TOLERANCE


VISION_KEYS = ("position_ids", "interp_indices", "bilinear_indices", "window_index")


@pytest.mark.skipif(zoo.VERSION < (5, 9), reason="the tower takes no positions before transformers 5.9")
@pytest.mark.parametrize("key", VISION_KEYS)
def test_lost_positions_of_the_tower_are_refused(family: zoo.Family, model: Any, key: str, close: Close) -> None:
    """As with a version that ignores unknown arguments: a marked grid has no rows and columns to compute them from."""
    case = build(family, "two")
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    names = [f"image_{key}"]
    if names[0] not in inputs:
        pytest.skip(f"{family} needs no {key}")
    names += {"window_index": ["image_cu_window_seqlens"], "position_ids": []}.get(
        key, [names[0].replace("indices", "weights")]
    )
    for name in names:
        del inputs[name]
    if key != "interp_indices":
        with torch.no_grad(), pytest.raises((RuntimeError, ValueError, IndexError)):
            model(**inputs)
        return
    # The stock code takes a grid of -2 rows for some image, if all else is there; `attach` and `forward` do not.
    with torch.no_grad():
        found = unpad(hf.forward(model, inputs).logits, inputs)
    close(found, case.expected)


# --- Refused ----------------------------------------------------------------------------------------------------


def test_mismatched_inputs_are_refused(family: zoo.Family, model: Any) -> None:
    case = build(family, "two")
    one, two = case.keep
    for wrong in ([one], [one, two, two], [two, one], [one, two[:-1]], [one, np.zeros_like(two)]):
        with pytest.raises(PixelPruneError):
            hf.prune_inputs(case.batch, model, wrong)
    with pytest.raises(PixelPruneError):
        hf.prune_inputs(hf.prune_inputs(case.batch, model, [one, two]), model, [one, two])
    short = {**case.batch, "input_ids": case.batch["input_ids"][:, :-8]}
    short["attention_mask"] = case.batch["attention_mask"][:, :-8]
    cut_off = {**short}
    cut_off["input_ids"] = short["input_ids"][:, : int(short["input_ids"].shape[1] // 2)]
    cut_off["attention_mask"] = torch.ones_like(cut_off["input_ids"])
    with pytest.raises(PixelPruneError):  # truncated within an image
        hf.prune_inputs(cut_off, model, [one, two])


def test_versions_that_cannot_run_it_are_refused(family: zoo.Family, model: Any) -> None:
    if family.pruned_since <= zoo.VERSION:
        pytest.skip("this version can")
    with pytest.raises(PixelPruneError, match=f"{transformers.__version__}.*{family}"):
        hf.prune_inputs(cases.process(family, (ONE,)), model)


@pytest.mark.skipif(zoo.VERSION < (5, 9), reason="refused for the version")
@pytest.mark.parametrize("prompts", [(MIXED,), (VIDEO, ONE)], ids=["prompt", "batch"])
def test_images_beside_videos_of_glm_are_refused(prompts: tuple[cases.Prompt, ...]) -> None:
    """By the stock model if not before; a wrong answer must not be returned."""
    family = zoo.BY_NAME["glm4v"]
    model = zoo.model(family)
    with pytest.raises(ValueError, match=r"video|do not match|placeholders"):
        hf.forward(model, hf.prune_inputs(cases.process(family, prompts), model))


def test_unsupported_models_are_refused() -> None:
    with pytest.raises(PixelPruneError, match="qwen3_vl"):
        hf.prune_inputs({"input_ids": torch.zeros(1, 3, dtype=torch.long)}, {"model_type": "llava_next"})


def test_inputs_for_another_model_are_refused() -> None:
    """Qwen2.5-VL would run on what was pruned for Qwen2-VL, without the windows of its attention."""
    families = [zoo.BY_NAME[name] for name in ("qwen2_vl", "qwen2_5_vl")]
    case = cases.make(families[0], (ONE,))
    inputs = hf.prune_inputs(case.batch, zoo.model(families[0]), **case.masks)
    model = zoo.model(families[1])
    calls: list[Any] = [lambda: hf.forward(model, inputs), lambda: hf.generate(model, inputs, max_new_tokens=1)]
    calls += [lambda: hf.encode(model, inputs)] if zoo.VERSION >= (5, 18) else []
    calls += [lambda: hf.vision_positions(model, inputs).__enter__()]
    for call in calls:
        with pytest.raises(PixelPruneError, match=r"pruned for qwen2_vl; the model is a .*qwen2_5_vl"):
            call()


@pytest.mark.parametrize("model", ["qwen2_vl", None, object()], ids=str)
def test_what_is_no_model_is_refused(model: Any) -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    case = cases.make(family, (ONE,))
    inputs = hf.prune_inputs(case.batch, zoo.model(family), **case.masks)
    for call in (hf.forward, hf.generate):
        with pytest.raises(TypeError, match=f"model is a {type(model).__name__}; expected a model"):
            call(model, inputs)


@pytest.fixture
def unread() -> Iterator[None]:
    """Clear the cached facts about the installed version, before and after."""
    versions.resolve.cache_clear()
    yield
    versions.resolve.cache_clear()


@pytest.mark.usefixtures("unread")
@pytest.mark.skipif(zoo.VERSION < (5, 9), reason="there are no such arguments yet")
@pytest.mark.parametrize("change", ["arguments swallowed", "another helper", "other positions"])
def test_a_version_that_would_go_wrong_is_refused(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A future version that takes flat grids literally must be refused."""
    from transformers import vision_utils
    from transformers.models.qwen3_vl import modeling_qwen3_vl as modeling

    family = zoo.BY_NAME["qwen3_vl"]
    case, model = build(family, "one"), zoo.model(family)
    hf.prune_inputs(case.batch, model, **case.masks)
    versions.resolve.cache_clear()
    helper, index = vision_utils.get_vision_position_ids, modeling.Qwen3VLModel.get_rope_index
    if change == "arguments swallowed":
        monkeypatch.setattr(vision_utils, helper.__name__, lambda *args, kwargs=None: helper(*args))
        monkeypatch.setattr(modeling, helper.__name__, vision_utils.get_vision_position_ids)
    elif change == "another helper":
        monkeypatch.delattr(modeling, helper.__name__)
    else:

        @functools.wraps(index)
        def moved(self: Any, *args: Any, **kwargs: Any) -> Any:
            positions, deltas = index(self, *args, **kwargs)
            return positions * 2, deltas

        monkeypatch.setattr(modeling.Qwen3VLModel, "get_rope_index", moved)
    with pytest.raises(PixelPruneError, match="not as expected"):
        hf.prune_inputs(case.batch, model, **case.masks)


@pytest.mark.usefixtures("unread")
def test_no_source_code_is_needed(family: zoo.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where packages are installed as byte code, or frozen into a program."""
    if family.pruned_since > zoo.VERSION:
        pytest.skip("this version cannot run it")
    spec = ModelSpec.from_config(zoo.model(family))
    expected = versions.resolve(spec)
    versions.resolve.cache_clear()

    def gone(*args: Any) -> Any:
        raise OSError("could not get source code")

    for name in ("getsource", "getsourcelines", "findsource"):
        monkeypatch.setattr(inspect, name, gone)
    assert versions.resolve(spec) == expected


@pytest.mark.usefixtures("unread")
@pytest.mark.skipif(zoo.VERSION < (5, 15), reason="the tower does not say how it interpolates yet")
@pytest.mark.parametrize("change", ["corners", "mode", "unknown", "broken"])
def test_a_tower_that_stretches_its_table_in_another_way(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tower itself says is followed, or refused."""
    from transformers.models.qwen3_vl import modeling_qwen3_vl as modeling

    spec = ModelSpec.from_config(zoo.model(zoo.BY_NAME["qwen3_vl"]))
    init = modeling.Qwen3VLVisionModel.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if change == "corners":
            self.interpolation_align_corners = False
        elif change == "mode":
            self.interpolation_mode = "bicubic"
        elif change == "unknown":
            del self.interpolation_align_corners
        else:
            raise RuntimeError("no such luck")

    monkeypatch.setattr(modeling.Qwen3VLVisionModel, "__init__", made)
    if change == "corners":
        [table] = {versions.resolve(spec)[0].table}
        assert table == PositionTable(side=spec.table.side, align_corners=False)
        return
    with pytest.raises(PixelPruneError, match=r"transformers .* qwen3_vl .* not as expected"):
        versions.resolve(spec)


def test_looking_at_a_tower_draws_no_random_numbers(family: zoo.Family) -> None:
    if family.pruned_since > zoo.VERSION:
        pytest.skip("this version cannot run it")
    versions.resolve.cache_clear()
    before = torch.get_rng_state()
    versions.resolve(ModelSpec.from_config(zoo.model(family)))
    assert torch.equal(torch.get_rng_state(), before)
