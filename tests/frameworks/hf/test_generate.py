"""`generate` on pruned inputs, against the oracle's decoding without a cache."""

from __future__ import annotations

from typing import Any

import pixelprune.hf as hf
import pytest
import torch
from pixelprune import PixelPruneError

from . import cases, oracle, zoo
from .cases import MIXED, ONE, PLAIN, STEPS, TWO, VIDEO
from .conftest import Close
from .test_logits import unpad


def prepared(family: zoo.Family, model: Any, *prompts: cases.Prompt, side: str = "left") -> tuple[cases.Case, Any]:
    cases.skip_unless_pruned(family, prompts)
    case = cases.make(family, prompts, side)
    return case, hf.prune_inputs(case.batch, model, **case.masks)


def new_tokens(inputs: Any, ids: torch.Tensor) -> list[list[int]]:
    length = inputs["input_ids"].shape[1]
    repeats = len(ids) // len(inputs["input_ids"])
    assert torch.equal(ids[:, :length], inputs["input_ids"].repeat_interleave(repeats, dim=0))
    return ids[:, length:].tolist()


@pytest.mark.parametrize("prompt", [ONE, TWO, VIDEO, MIXED], ids=["one", "two", "video", "mixed"])
def test_greedy_is_decoding_without_a_cache(family: zoo.Family, model: Any, prompt: cases.Prompt, close: Close) -> None:
    case, inputs = prepared(family, model, prompt)
    made = hf.generate(
        model, inputs, max_new_tokens=STEPS, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    assert new_tokens(inputs, made.sequences) == case.continuation
    close(made.logits[0][0], case.expected[0][-1])


def test_tokens_vary(family: zoo.Family) -> None:
    """Equal tokens would prove little if a model gave the same tokens for every image."""
    one, two = (cases.make(family, (prompt,)).continuation[0] for prompt in (ONE, TWO))
    assert one != two
    assert len({*one, *two}) > 1


def test_a_padded_batch_is_its_rows(family: zoo.Family, model: Any) -> None:
    case, inputs = prepared(family, model, ONE, PLAIN, TWO)
    assert (inputs["attention_mask"] == 0).any()
    ids = hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation


def test_generate_does_not_use_up_the_inputs(family: zoo.Family, model: Any) -> None:
    _, inputs = prepared(family, model, TWO)
    names = list(inputs)
    twice = [hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False) for _ in range(2)]
    assert torch.equal(*twice)
    assert list(inputs) == names


@torch.no_grad()
def mean_log_probability(model: Any, case: cases.Case, tokens: list[int]) -> float:
    """The mean log probability of tokens after the one row of a case, from the oracle alone."""
    [row] = case.rows
    how = {"order": case.family.order, "recurrent": case.family.recurrent}
    if case.family.recurrent:
        embeddings, where = oracle.cut(model, row.alone, row.keep, row.video_keep, case.family.order)
        steps = where.max() + 1 + torch.arange(len(tokens)).expand(3, 1, -1)
        more = model.get_input_embeddings()(torch.tensor([tokens]))
        logits = oracle.logits_of_cut(model, torch.cat([embeddings, more], dim=1), torch.cat([where, steps], dim=2))
    else:
        extended = dict(row.alone)
        extended["input_ids"] = torch.cat([row.alone["input_ids"], torch.tensor([tokens])], dim=1)
        extended["attention_mask"] = torch.ones_like(extended["input_ids"])
        if "mm_token_type_ids" in extended:
            extended["mm_token_type_ids"] = torch.cat(
                [row.alone["mm_token_type_ids"], torch.zeros(1, len(tokens), dtype=torch.long)], dim=1
            )
        logits = oracle.truth(model, extended, row.keep, row.video_keep, **how)
    chosen = logits[-len(tokens) - 1 : -1].log_softmax(-1)[torch.arange(len(tokens)), tokens]
    return float(chosen.mean())


BEAMS = {"do_sample": False, "num_beams": 3, "num_return_sequences": 2}
SEVERAL = pytest.mark.skipif(zoo.VERSION < (5, 18), reason="rows are not repeated before transformers 5.18")


@SEVERAL
@pytest.mark.parametrize("prompt", [ONE, TWO], ids=["one", "two"])
def test_beams(family: zoo.Family, model: Any, prompt: cases.Prompt, close: Close) -> None:
    """Beams have the scores that the oracle computes.

    Stock transformers before 5.23, and GLM-4V's to this day, mix up two images of a prompt with those of its beams.
    """
    case, inputs = prepared(family, model, prompt)
    how = {**BEAMS, "max_new_tokens": STEPS, "output_scores": True, "return_dict_in_generate": True}
    made = hf.generate(model, inputs, **how)
    best, second = new_tokens(inputs, made.sequences)
    assert best != second
    scores = [mean_log_probability(model, case, tokens) for tokens in (best, second)]
    close(made.sequences_scores, torch.tensor(scores), 1e-5)


@SEVERAL
def test_beams_of_a_padded_batch(family: zoo.Family, model: Any) -> None:
    prompts = (ONE, PLAIN, TWO)
    _, inputs = prepared(family, model, *prompts)
    ids = hf.generate(model, inputs, max_new_tokens=STEPS, **BEAMS)
    rows = new_tokens(inputs, ids)
    for prompt, tokens in zip(prompts, (rows[:2], rows[2:4], rows[4:]), strict=True):
        _, alone = prepared(family, model, prompt)
        assert new_tokens(alone, hf.generate(model, alone, max_new_tokens=STEPS, **BEAMS)) == tokens


def test_beams_are_refused_where_they_cannot_be(family: zoo.Family, model: Any) -> None:
    if zoo.VERSION >= (5, 18):
        pytest.skip("this version can")
    _, inputs = prepared(family, model, ONE)
    for how in ({"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}):
        with pytest.raises(PixelPruneError, match=r"5\.18"):
            hf.generate(model, inputs, max_new_tokens=STEPS, **how)


SAMPLING = {
    "do_sample": True,
    "top_k": 0,
    "suppress_tokens": list(range(256, zoo.VOCABULARY)),
    "output_logits": True,
    "return_dict_in_generate": True,
}


def test_sampling_with_a_seed(family: zoo.Family, model: Any) -> None:
    """Every sampled token is drawn from the oracle's distribution, by the same generator."""
    case, inputs = prepared(family, model, TWO)
    torch.manual_seed(5)
    made = hf.generate(model, inputs, max_new_tokens=STEPS, **SAMPLING)
    [tokens] = new_tokens(inputs, made.sequences)
    assert tokens != case.continuation[0]
    torch.manual_seed(5)
    for logits, token in zip(made.logits, tokens, strict=True):
        logits[:, 256:] = float("-inf")
        assert int(torch.multinomial(logits.softmax(-1), 1)) == token


@pytest.mark.parametrize("copies", [1, 3])
def test_samples_are_as_likely_as_the_oracle_says(family: zoo.Family, model: Any, copies: int) -> None:
    """A row that is drawn with another's image would not have these probabilities."""
    if copies > 1 and zoo.VERSION < (5, 18):
        pytest.skip("rows are not repeated before transformers 5.18")
    case, inputs = prepared(family, model, ONE)
    torch.manual_seed(5)
    made = hf.generate(model, inputs, max_new_tokens=STEPS, num_return_sequences=copies, **SAMPLING)
    rows = new_tokens(inputs, made.sequences)
    assert len({tuple(row) for row in rows}) == copies
    for i, tokens in enumerate(rows):
        given = [float(step[i].log_softmax(-1)[token]) for step, token in zip(made.logits, tokens, strict=True)]
        assert abs(sum(given) / STEPS - mean_log_probability(model, case, tokens)) < 1e-5


def test_a_static_cache(family: zoo.Family, model: Any) -> None:
    if family.recurrent:
        pytest.skip("its recurrent layers have no static cache")
    case, inputs = prepared(family, model, ONE, TWO)
    ids = hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False, cache_implementation="static")
    assert new_tokens(inputs, ids) == case.continuation


def test_without_a_cache(family: zoo.Family, model: Any) -> None:
    case, inputs = prepared(family, model, TWO)
    ids = hf.generate(model, inputs, max_new_tokens=STEPS, do_sample=False, use_cache=False)
    assert new_tokens(inputs, ids) == case.continuation


def test_the_stock_model_generates_as_before_afterwards(family: zoo.Family, model: Any) -> None:
    case, inputs = prepared(family, model, TWO)
    how = {"max_new_tokens": STEPS, "do_sample": False}
    before = model.generate(**case.batch, **how)
    hf.generate(model, inputs, **how)
    assert torch.equal(model.generate(**case.batch, **how), before)
    hf.forward(model, inputs)
    assert torch.equal(model.generate(**case.batch, **how), before)


@pytest.mark.skipif(zoo.VERSION >= (5, 18), reason="generate takes encoded images instead, see below")
def test_a_context_for_generate(family: zoo.Family, model: Any) -> None:
    case, inputs = prepared(family, model, TWO)
    with hf.vision_positions(model, inputs) as given:
        ids = model.generate(**given, max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation


@pytest.mark.skipif(zoo.VERSION < (5, 18), reason="forward takes no encoded images before transformers 5.18")
def test_encoded_once_for_forward(family: zoo.Family, model: Any, close: Close) -> None:
    case, inputs = prepared(family, model, ONE, TWO)
    with torch.no_grad():
        found = model(**hf.encode(model, inputs)).logits
    close(unpad(found, inputs), case.expected)
    ids = model.generate(**hf.encode(model, inputs), max_new_tokens=STEPS, do_sample=False)
    assert new_tokens(inputs, ids) == case.continuation
