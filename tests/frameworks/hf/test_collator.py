"""Batches of limited length, packed rows, rows that were pruned before, batches without images."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
import torch
from pixelprune import PixelPruneError
from pixelprune.hf.collate.packing import cut, first_fit

from . import cases, oracle, zoo
from .cases import MIXED, ONE, PLAIN, TWO, VIDEO
from .conftest import Close
from .test_processor import assert_same
from .test_training import ONCE, TRAINED, TRAINER, processor_of

RECORD = "pixelprune_hf_attach"
LONG: cases.Prompt = ("see ", cases.Still(4, 6, 8), " and read all of this text, to its very end")


@pytest.fixture
def trained(request: pytest.FixtureRequest) -> zoo.Family:
    family = zoo.BY_NAME[request.param]
    if family.missing:
        pytest.skip(family.missing)
    cases.skip_unless_pruned(family, (ONE, TWO))
    return family


def examples(family: zoo.Family, *prompts: cases.Prompt) -> list[dict[str, Any]]:
    return [{"text": cases.text_of(family, p), **cases.images_of(family, [p])} for p in prompts]


def same(found: Any, expected: Any) -> None:
    """Packed batches have one key that is no tensor."""
    assert found.get("use_cache") is expected.get("use_cache")
    assert found.pixelprune.lengths == expected.pixelprune.lengths
    assert_same(*({k: v for k, v in batch.items() if k != "use_cache"} for batch in (found, expected)))


def loss_of(model: Any, batch: Any) -> tuple[float, int]:
    """The sum of a batch's losses, and of how many tokens."""
    count = int((batch["labels"][:, 1:] != -100).sum())
    with torch.no_grad():
        return float(hf.forward(model, batch).loss) * count, count


def alone(family: zoo.Family, model: Any, rows: Sequence[dict[str, Any]], **how: Any) -> float:
    """The mean loss of examples, each in a batch of its own."""
    collator = hf.PrunedCollator(processor_of(family.name), **how)
    losses, counts = zip(*(loss_of(model, collator([row])) for row in rows), strict=True)
    return sum(losses) / sum(counts)


# --- max_length ---------------------------------------------------------------------------------------------


def test_cut() -> None:
    kept = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], bool)
    media = np.array([0, 1, 1, 1, 1, 1, 0, 0, 0], bool)
    assert [cut(kept, media, length) for length in (3, 4, 5, 6, 99)] == [6, 7, 8, 9, 9]
    for length in (1, 2):
        with pytest.raises(PixelPruneError, match=rf"max_length is {length}, .* after 3 of 6 pruned .* at least 3,"):
            cut(kept, media, length)
    tail = np.array([0, 1, 1], bool)  # an image whose last token is dropped is whole at its last kept one
    assert cut(np.array([1, 1, 0], bool), tail, 2) == 3
    assert cut(np.array([1, 0, 0, 1, 1], bool), np.array([0, 1, 1, 0, 0], bool), 1) == 3
    assert cut(np.zeros(0, bool), np.zeros(0, bool), 1) == 0


def test_only_text_after_pruning_is_cut() -> None:
    """The whole prompt may be longer than max_length; what is left is the begin of the pruned one."""
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, LONG, PLAIN)
    whole = hf.PrunedCollator(pruned)(rows[:1])
    length = whole["input_ids"].shape[1] - 7
    assert whole.pixelprune.tokens_before > length
    [found] = [hf.PrunedCollator(pruned, max_length=length)(rows[:1])]
    assert found["input_ids"].tolist() == whole["input_ids"][:, :length].tolist()
    assert found["labels"].tolist() == whole["labels"][:, :length].tolist()
    assert found["position_ids"].tolist() == whole["position_ids"][..., :length].tolist()
    assert found["pixel_values"].equal(whole["pixel_values"])
    assert_same(hf.PrunedCollator(pruned, max_length=length + 7)(rows), hf.PrunedCollator(pruned)(rows))
    both = hf.PrunedCollator(pruned, max_length=length)([*rows, {"text": "no"}])
    assert both["attention_mask"].sum(1).tolist() == [length, min(length, len(PLAIN[0])), 2]


def test_images_are_never_cut() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, PLAIN, LONG)
    batch = hf.PrunedCollator(pruned)(rows[1:])
    [last] = np.flatnonzero(batch["input_ids"][0] == zoo.IDS["<|image_pad|>"])[-1:]
    least = int(last) + 1
    with pytest.raises(
        PixelPruneError, match=rf"examples\[1\]: max_length is {least - 1}, .* at least {least}, .* text"
    ):
        hf.PrunedCollator(pruned, max_length=least - 1)(rows)
    collator = hf.PrunedCollator(pruned, max_length=least)
    assert collator(rows)["attention_mask"].sum(1).tolist() == [min(least, len(PLAIN[0])), least]


def test_something_is_left_to_learn() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    row = {
        "prompt": f"{family.image}a long question, is it?",
        "completion": "yes",
        "images": [zoo.draw_image(family, 4, 6)],
    }
    collator = hf.PrunedCollator(processor_of("qwen3_vl"), labels="assistant", max_length=20)
    with pytest.raises(PixelPruneError, match=r"examples\[1\]: max_length leaves no token that is to be learned"):
        collator([{"prompt": "a", "completion": "b"}, row])
    unlabelled = hf.PrunedCollator(processor_of("qwen3_vl"), labels=None, max_length=20)
    assert unlabelled([row])["input_ids"].shape == (1, 20)


# --- pack_to ------------------------------------------------------------------------------------------------


def test_first_fit() -> None:
    assert first_fit([5, 4, 3, 6, 2, 1], 8) == [[0, 2], [1, 4, 5], [3]]
    assert first_fit([9, 1], 8) == [[0], [1]]
    assert first_fit([], 8) == []


@TRAINER
@pytest.mark.parametrize("trained", TRAINED, indirect=True)
def test_rows_are_filled(trained: zoo.Family, close: Close) -> None:
    """Examples keep their logits wherever they stand, and the loss is that of padding."""
    family = trained
    model, pruned = zoo.model(family), processor_of(family.name)
    rows = examples(family, ONE, TWO, PLAIN, LONG, ("short",))
    apart = [hf.PrunedCollator(pruned)([row]) for row in rows]
    sizes = [one["input_ids"].shape[1] for one in apart]
    limit = max(sizes) + min(sizes)
    packed = hf.PrunedCollator(pruned, pack_to=limit)(rows)
    groups = first_fit(sizes, limit)
    assert 1 < len(groups) < len(rows)
    assert packed["input_ids"].shape == (len(groups), max(sum(sizes[i] for i in group) for group in groups))
    assert "attention_mask" not in packed
    for lengths, group in zip(packed.pixelprune.lengths, groups, strict=True):
        assert lengths[: len(group)] == [sizes[i] for i in group]
        assert sum(lengths) == packed["input_ids"].shape[1]
    with torch.no_grad():
        found = hf.forward(model, packed)
        for logits, group in zip(found.logits, groups, strict=True):
            expected = torch.cat([hf.forward(model, apart[i]).logits[0] for i in group])
            close(logits[: len(expected)], expected)
    assert abs(float(found.loss) - alone(family, model, rows)) < cases.TOLERANCE


@TRAINER
def test_what_does_not_fit_a_row() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, ("short",), LONG)
    size = hf.PrunedCollator(pruned)(rows[1:])["input_ids"].shape[1]
    with pytest.raises(PixelPruneError, match=rf"examples\[1\]: .* {size} tokens after pruning, pack_to is {size - 1}"):
        hf.PrunedCollator(pruned, pack_to=size - 1)(rows)
    fitted = hf.PrunedCollator(pruned, pack_to=size - 1, max_length=size - 1)(rows)
    assert fitted["input_ids"].shape == (2, size - 1)
    assert hf.PrunedCollator(pruned, pack_to=size)(rows).pixelprune.lengths == [[5, size - 5], [size]]


@TRAINER
def test_one_row_is_packing() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, ONE, TWO, PLAIN)
    same(hf.PrunedCollator(pruned, pack_to=10_000)(rows), hf.PrunedCollator(pruned, packing=True)(rows))


def test_options() -> None:
    pruned = processor_of("qwen3_vl")
    for how, error, message in (
        ({"max_length": 0}, PixelPruneError, "max_length is 0; expected at least 1"),
        ({"pack_to": -3}, PixelPruneError, "pack_to is -3; expected at least 1"),
        ({"max_length": 8.5}, TypeError, "max_length is a float; expected an integer"),
        ({"pack_to": True}, TypeError, "pack_to is a bool; expected an integer"),
        ({"packing": True, "pack_to": 9}, PixelPruneError, "packing and pack_to are given; expected one"),
        ({"inner": 3}, TypeError, "inner is a int; expected a collator"),
        ({"inner": list, "packing": True}, PixelPruneError, "expected inner alone"),
        ({"inner": list, "labels": None}, PixelPruneError, "expected inner alone"),
        ({"labels": "some"}, PixelPruneError, "labels is 'some'; expected 'all'"),
    ):
        with pytest.raises(error, match=message):
            hf.PrunedCollator(pruned, **how)
    with pytest.raises(PixelPruneError, match="examples is empty"):
        hf.PrunedCollator(pruned)([])


# --- Rows that were pruned before ---------------------------------------------------------------------------


def as_lists(inputs: Any) -> dict[str, Any]:
    """What a data set makes of a row: lists, and nothing but the keys."""
    return {name: value.tolist() for name, value in inputs.items() if isinstance(value, torch.Tensor)}


def as_dict(inputs: Any) -> dict[str, Any]:
    return dict(inputs)


@pytest.mark.parametrize("form", [copy.copy, lambda x: pickle.loads(pickle.dumps(x)), as_lists, as_dict])
def test_stored_rows_are_joined(family: zoo.Family, model: Any, form: Callable[[Any], Any]) -> None:
    """They make the batch that pruning in the collator makes."""
    prompts = (TWO, PLAIN, LONG)
    cases.skip_unless_pruned(family, prompts)
    pruned = hf.PrunedProcessor(zoo.processor(family), model)
    collator = hf.PrunedCollator(pruned)
    rows = examples(family, *prompts)
    stored = [form(pruned(text=[row["text"]], images=row.get("images"), return_tensors="pt")) for row in rows]
    expected = collator(rows)
    assert_same(collator(stored), expected)
    assert_same(collator([rows[0], stored[1], stored[2]]), expected)
    length = int(expected["attention_mask"].sum(1).max()) - 5
    cutting = hf.PrunedCollator(pruned, max_length=length)
    assert_same(cutting(stored), cutting(rows))


def test_stored_videos_are_joined(family: zoo.Family, model: Any) -> None:
    prompts = (MIXED, VIDEO, ONE) if family.mixes else (VIDEO,)
    cases.skip_unless_pruned(family, prompts)
    pruned = hf.PrunedProcessor(zoo.processor(family), model)
    collator = hf.PrunedCollator(pruned)
    rows = examples(family, *prompts)
    stored = [
        as_lists(pruned(text=[row["text"]], return_tensors="pt", **{k: row[k] for k in row if k != "text"}))
        for row in rows
    ]
    assert_same(collator(stored), collator(rows))


@TRAINER
def test_stored_rows_are_packed() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, ONE, TWO, PLAIN)
    stored = [as_lists(pruned(text=[row["text"]], images=row.get("images"), return_tensors="pt")) for row in rows]
    for how in ({"packing": True}, {"pack_to": 60}):
        collator = hf.PrunedCollator(pruned, **how)
        same(collator(stored), collator(rows))
    packed = hf.PrunedCollator(pruned, packing=True)(rows)
    with pytest.raises(PixelPruneError, match=r"examples\[0\]: .*packed .* expected one sequence per row"):
        hf.PrunedCollator(pruned)([as_lists(packed)])


def test_stored_rows_of_text_need_no_plan() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, PLAIN, ("short",))
    inputs = pruned(text=[row["text"] for row in rows], padding=True, return_tensors="pt")
    stored = [{name: value[..., i : i + 1, :] for name, value in inputs.items()} for i in range(2)]
    collator = hf.PrunedCollator(pruned)
    assert_same(collator(stored), collator(rows))


def test_stored_rows_keep_their_labels() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    [row] = examples(family, ONE)
    batch = hf.PrunedCollator(pruned, labels=None)([row])
    batch["labels"] = torch.arange(batch["input_ids"].shape[1])[None] + 1000
    batch["weights"] = torch.rand(batch["input_ids"].shape)
    again = hf.PrunedCollator(pruned)([batch])
    assert again["labels"].tolist() == [[-100, *batch["labels"][0, 1:].tolist()]]
    assert again["weights"].equal(batch["weights"])


def test_stored_rows_whose_plan_is_lost() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    [row] = examples(family, ONE)
    inputs = pruned(text=[row["text"]], images=row["images"], return_tensors="pt")
    collator = hf.PrunedCollator(pruned)
    with pytest.raises(PixelPruneError, match=r"examples\[0\]: .* pruned already .* as keep"):
        collator([{name: value for name, value in inputs.items() if name != RECORD}])
    broken = inputs[RECORD]
    for damaged in (broken[:-1], broken[1:], broken * 0 + 2, torch.cat([broken, broken[:3]])):
        with pytest.raises(PixelPruneError, match=r"examples\[0\]: .*"):
            collator([{**inputs, RECORD: damaged}])
    with pytest.raises(PixelPruneError, match=r"examples\[0\]: .* 0 placeholders; expected"):
        collator([{**inputs, RECORD: broken, "input_ids": inputs["input_ids"] * 0 + 1}])
    with pytest.raises(PixelPruneError, match="pruned already; expected no keep"):
        collator([{**as_dict(inputs), "keep": [[0]]}])
    other = zoo.processor(zoo.BY_NAME["qwen2_vl"])
    with pytest.raises(PixelPruneError, match="pruned for another model"):
        hf.PrunedCollator(hf.PrunedProcessor(other, zoo.model(zoo.BY_NAME["qwen2_vl"]).config))([inputs])


def use_map_of_pruned_rows() -> None:
    """Store pruned rows with `datasets.map`, and train on them."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, ONE, TWO)

    def prune(row: dict[str, Any]) -> dict[str, Any]:
        images = [np.array(image, np.uint8) for image in row.pop("images")]
        inputs = pruned(text=[row.pop("text")], images=images, return_tensors="pt")
        return dict(inputs)

    plain = [{**row, "images": [np.asarray(image) for image in row["images"]]} for row in rows]
    stored = Dataset.from_list(plain).map(prune, remove_columns=["text", "images"])
    collator = hf.PrunedCollator(pruned)
    assert_same(collator(list(stored)), collator(rows))
    assert_same(collator(list(stored.with_format("torch"))), collator(rows))
    print("done")


@ONCE
def test_map_of_pruned_rows(run_child: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    assert run_child(use_map_of_pruned_rows, timeout=120, env={"HF_HOME": str(tmp_path)}).split()[-1] == "done"


# --- Batches without images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"packing": True}, {"pack_to": 40}], ids=["padding", "packing", "pack_to"])
def test_a_dummy_image_leaves_the_loss(family: zoo.Family, how: dict[str, Any]) -> None:
    """The tower has gradients, all zero; those of the language model are what they are without it."""
    cases.skip_unless_pruned(family, (ONE,))
    if how and (family.recurrent or zoo.VERSION < (5, 9) or family.name.startswith(("glm4v", "paddle"))):
        pytest.skip("packed sequences would mix")
    model = copy.deepcopy(zoo.model(family)).train()
    pruned = processor_of(family.name)
    rows = examples(family, PLAIN, ("no ",), ("words only",))
    losses, gradients = [], []
    for dummy in (False, True):
        batch = hf.PrunedCollator(pruned, dummy_image=dummy, **how)(rows)
        assert ("pixel_values" in batch) is dummy
        model.zero_grad()
        loss = hf.forward(model, batch).loss
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert abs(losses[0] - losses[1]) < 1e-6
    tower = {name for name, _ in model.named_parameters() if ".visual." in f".{name}"}
    without, with_image = gradients
    assert tower
    assert not tower & without.keys()
    missing = {name for name, p in model.named_parameters() if p.requires_grad} - with_image.keys()
    assert not missing & tower, missing
    assert all(not with_image[name].any() for name in tower)
    for name, gradient in without.items():
        assert torch.allclose(with_image[name], gradient, atol=1e-6), name


def test_a_dummy_image_only_where_none_is() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    rows = examples(family, PLAIN, ONE)
    assert_same(hf.PrunedCollator(pruned, dummy_image=True)(rows), hf.PrunedCollator(pruned)(rows))
    found = hf.PrunedCollator(pruned, dummy_image=True)(rows[:1])
    assert len(found.pixelprune.selections) == 1
    assert found["pixel_values"].shape[0] == 4
    assert found["input_ids"].shape[1] == len(PLAIN[0]) + 1
    assert found["labels"][0, -1] == -100
    full = hf.PrunedCollator(pruned, dummy_image=True, max_length=8)(rows[:1])
    assert full["input_ids"].shape[1] == 9


# --- Inner collators ----------------------------------------------------------------------------------------


def stock_batch(family: zoo.Family, side: str, prompts: Sequence[cases.Prompt]) -> Any:
    batch = cases.process(family, prompts, side)
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    batch["completion_mask"] = batch["attention_mask"].clone()
    batch["completion_mask"][:, :3] = 0
    batch["scores"] = torch.arange(len(prompts))
    return batch


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("trained", TRAINED, indirect=True)
def test_inner(trained: zoo.Family, side: str, close: Close) -> None:
    family = trained
    model, pruned = zoo.model(family), processor_of(family.name)
    prompts = (ONE, TWO, PLAIN)
    stock = stock_batch(family, side, prompts)
    given = {**stock, "position_ids": torch.zeros((3, *stock["input_ids"].shape)), "rope_deltas": torch.zeros(3, 1)}
    kept = {name: value.clone() for name, value in stock.items()}
    batch = hf.PrunedCollator(pruned, inner=lambda rows: [given][len(rows) - 3])(prompts)
    assert all(stock[name].equal(value) for name, value in kept.items())
    expected = hf.prune_inputs(stock, model, padding_side=side, pad_token_id=zoo.IDS["<|endoftext|>"])
    assert_same(batch, expected)
    assert batch["scores"].tolist() == [0, 1, 2]
    assert batch["completion_mask"].shape == batch["labels"].shape == batch["input_ids"].shape
    here = batch["attention_mask"].bool()
    assert bool(here[:, 0].all()) == (side == "right")
    # Only pruned tokens count, as in the oracle.
    loss, count = torch.zeros(()), 0
    for i, prompt in enumerate(prompts):
        row = cases.process(family, [prompt])
        keep = [s.mask.ravel() for s in hf.prune_inputs(row, model).pixelprune.selections]
        ids = row["input_ids"][0][oracle.kept_tokens(model.config, row, keep)]
        assert batch["input_ids"][i][here[i]].equal(ids)
        with torch.no_grad():
            logits = oracle.logits(model, row, keep, order=family.order)
        loss = loss + torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum")
        count += len(ids) - 1
    if side == "right":
        with torch.no_grad():
            close(hf.forward(model, batch).loss, loss / count)


def test_inner_without_padding_is_padded_on_the_right() -> None:
    """A label of a first token, which nothing foretells, is then not foretold by padding either."""
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    assert zoo.processor(family).tokenizer.padding_side == "left"
    rows = (("a ", cases.Still(4, 6, 1)), ("a ", cases.Still(6, 4, 2)))
    batch = hf.PrunedCollator(pruned, inner=lambda rows: stock_batch(family, "left", rows))(rows)
    mask = batch["attention_mask"]
    assert not mask.all()
    assert mask[:, 0].all()


def test_inner_with_max_length() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    for side in ("left", "right"):

        def inner(prompts: Any, side: str = side) -> Any:
            return stock_batch(family, side, prompts)

        whole = hf.PrunedCollator(pruned, inner=inner)((LONG, PLAIN))
        for row, length in enumerate(whole["attention_mask"].sum(1).tolist()):
            limit = length - 4
            found = hf.PrunedCollator(pruned, inner=inner, max_length=limit)((LONG, PLAIN))
            sizes = found["attention_mask"].sum(1)
            assert sizes.tolist() == whole["attention_mask"].sum(1).clamp(max=limit).tolist()
            for name in ("input_ids", "labels", "completion_mask"):
                old = whole[name][row][whole["attention_mask"][row].bool()]
                assert found[name][row][found["attention_mask"][row].bool()].equal(old[: int(sizes[row])])
        with pytest.raises(PixelPruneError, match=r"row 0 of inner's batch: max_length is 7, .* only text is cut"):
            hf.PrunedCollator(pruned, inner=inner, max_length=7)((LONG, PLAIN))


def test_what_inner_with_max_length_cuts_off_is_not_padding() -> None:
    """Padding has the collator's own value for it, or none is learned: not what the cut tokens had there."""
    family, pruned = zoo.BY_NAME["qwen3_vl"], processor_of("qwen3_vl")
    for side in ("left", "right"):
        for prompts in ((LONG, PLAIN), (PLAIN, LONG)):
            batch = stock_batch(family, side, prompts)
            whole = hf.PrunedCollator(pruned, inner=itemgetter(0))([batch])
            limit = int(whole["attention_mask"].sum(1).max()) - 4
            found = hf.PrunedCollator(pruned, inner=itemgetter(0), max_length=limit)([batch])
            padding = found["attention_mask"] == 0
            assert (found["labels"][padding] == -100).all()
            assert (found["completion_mask"][padding] == 0).all()


def test_inner_with_a_dummy_image() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    model, pruned = zoo.model(family), processor_of("qwen3_vl")
    for side in ("left", "right"):
        for prompts in ((PLAIN, ("no ",)), (PLAIN,)):
            stock = stock_batch(family, side, prompts)
            batches = [
                hf.PrunedCollator(pruned, inner=itemgetter(0), dummy_image=dummy)([stock]) for dummy in (False, True)
            ]
            assert len(batches[1].pixelprune.selections) == 1
            plain, dummy = (loss_of(model, batch) for batch in batches)
            assert plain[1] == dummy[1]
            assert abs(plain[0] - dummy[0]) < 1e-4


def test_inner_that_makes_no_stock_batch() -> None:
    family = zoo.BY_NAME["qwen3_vl"]
    pruned = processor_of("qwen3_vl")
    stock = stock_batch(family, "right", (ONE,))
    inputs = hf.prune_inputs(stock, pruned.model_spec)
    ids = stock["input_ids"]
    twice = torch.arange(ids.shape[1]).remainder(ids.shape[1] // 2 + 1)
    for batch, message in (
        ([1], "inner returned a list; expected a dict of tensors"),
        ({"labels": ids}, r"inner returned no input_ids of shape \(rows, length\)"),
        (inputs, r"inner returned a batch that is pruned already; .*PrunedProcessor\.processor"),
        (as_dict(inputs), r"inner returned a batch that is pruned already; .*PrunedProcessor\.processor"),
        ({**stock, "position_ids": twice[None]}, "inner packs several sequences into a row"),
        ({**stock, "position_ids": twice.expand(4, 1, -1)}, "inner packs several sequences into a row"),
        ({**stock, "cu_seq_lens_q": torch.tensor([0, 3])}, "inner packs several sequences into a row"),
    ):
        with pytest.raises(PixelPruneError, match=message):
            hf.PrunedCollator(pruned, inner=itemgetter(0))([batch])
    collator = hf.PrunedCollator(pruned, inner=lambda rows: stock)
    with pytest.raises(PixelPruneError, match=r"examples\[1\] has keep, which an inner collator would ignore"):
        collator([{}, {"keep": [[0]]}])
    if zoo.VERSION >= (5, 9):
        half = len(ONE[0])
        packed = {**stock, "position_ids": twice[None], "seq_lengths": [[half, ids.shape[1] - half]]}
        del packed["attention_mask"]
        assert len(hf.PrunedCollator(pruned, inner=lambda rows: packed)([{}]).pixelprune.lengths[0]) == 2
        with pytest.raises(PixelPruneError, match="max_length can't cut packed sequences"):
            hf.PrunedCollator(pruned, inner=lambda rows: packed, max_length=9)([{}])
