"""Settings of models that people use: number formats, quantised weights, placement, compilation, flash attention."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pixelprune.hf as hf
import pytest
import torch
import transformers

from . import cases, oracle, zoo
from .cases import ONE, TOLERANCE, TWO
from .conftest import Close
from .test_logits import unpad

NAMES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest) -> zoo.Family:
    return zoo.BY_NAME[request.param]


def changed(family: zoo.Family, how: Callable[[Any], Any]) -> Any:
    """A copy of the family's model after a change."""
    model = copy.deepcopy(zoo.model(family))
    return how(model) or model


@torch.no_grad()
def truth(model: Any, case: cases.Case) -> list[torch.Tensor]:
    """What the whole prompts give in a model of any dtype, with the dropped tokens masked."""
    dtype = next(model.parameters()).dtype
    rows = []
    for row in case.rows:
        alone = {
            name: value.to(dtype) if torch.is_floating_point(value) else value for name, value in row.alone.items()
        }
        rows.append(oracle.truth(model, alone, row.keep, row.video_keep, **case.how).float())
    return rows


@torch.no_grad()
def run(model: Any, case: cases.Case) -> list[torch.Tensor]:
    """What the model gives on pruned inputs of its dtype."""
    inputs = hf.prune_inputs(case.batch, model, **case.masks).to(next(model.parameters()).dtype)
    return [row.float() for row in unpad(hf.forward(model, inputs).logits, inputs)]


def furthest(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """The largest difference."""
    return max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True))


def generated(model: Any, case: cases.Case) -> list[list[int]]:
    """Greedily decoded tokens."""
    inputs = hf.prune_inputs(case.batch, model, **case.masks).to(next(model.parameters()).dtype)
    output: torch.Tensor = hf.generate(model, inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    tokens: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
    return tokens


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(family: zoo.Family, dtype: torch.dtype) -> None:
    """Pruned and masked prompts are equally far from float32, up to a factor."""
    case, model = cases.make(family, (ONE, TWO)), changed(family, lambda model: model.to(dtype))
    exact, masked, pruned = truth(zoo.model(family), case), truth(model, case), run(model, case)
    bound = furthest(masked, exact)
    assert 0 < bound < 0.5
    assert furthest(pruned, exact) < 2 * bound
    assert len(generated(model, case)[0]) == 4


def test_placed_by_a_device_map(family: zoo.Family, tmp_path: Path) -> None:
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("needs accelerate")
    zoo.model(family).save_pretrained(tmp_path)
    case = cases.make(family, (ONE, TWO))
    model = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path, device_map="cpu").eval()
    expected = zoo.model(family)
    assert furthest(run(model, case), run(expected, case)) == 0
    model.generation_config = copy.deepcopy(expected.generation_config)
    assert generated(model, case) == generated(expected, case)


def test_weights_in_int8(family: zoo.Family, close: Close) -> None:
    """By torchao; the masked prompt is run with the same quantised weights."""
    torchao = pytest.importorskip("torchao.quantization")
    model = changed(family, lambda model: torchao.quantize_(model, torchao.Int8WeightOnlyConfig()))
    case = cases.make(family, (ONE, TWO))
    found, expected = run(model, case), truth(model, case)
    assert furthest(expected, truth(zoo.model(family), case)) > 10 * TOLERANCE, "nothing is quantised"
    close(found, expected, 2 * TOLERANCE)
    assert len(generated(model, case)[0]) == 4


def test_compiled(close: Close) -> None:
    """By `torch.compile` with the backend that needs no compiler; one family, because it takes seconds."""
    family = zoo.BY_NAME["qwen2_vl"]
    case, model = cases.make(family, (ONE, TWO)), changed(family, lambda model: None)
    expected, tokens = run(model, case), generated(model, case)
    torch.compiler.reset()
    model.forward = torch.compile(model.forward, backend="eager")
    close(run(model, case), expected)
    assert generated(model, case) == tokens
    torch.compiler.reset()


FLASH = "flash_attention_stand_in"
"""transformers gives what it gives flash attention to every implementation whose name has "flash" in it."""


class Flash:
    """Computes, from the arguments that a kernel of flash attention gets, what it would compute."""

    def __init__(self) -> None:
        self.vision: list[list[int]] = []
        self.text: list[list[int]] = []

    def __call__(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        scaling: Any = None,
        **rest: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attend within each sequence: those of ``cu_seq_lens_q``, or the unpadded rows."""
        groups = query.shape[1] // key.shape[1]
        key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
        attend = torch.nn.functional.scaled_dot_product_attention
        out = torch.zeros_like(query)
        if rest.get("cu_seq_lens_q") is not None:
            ends = rest["cu_seq_lens_q"]
            assert ends.dtype == torch.int32
            assert ends.equal(rest["cu_seq_lens_k"])
            assert rest["max_length_q"] == rest["max_length_k"] == (ends[1:] - ends[:-1]).max()
            assert not rest["is_causal"]
            self.vision.append(ends.tolist())
            for a, b in zip(ends.tolist(), ends.tolist()[1:], strict=False):
                part = [tensor[:, :, a:b] for tensor in (query, key, value)]
                out[:, :, a:b] = attend(*part, scale=scaling)
        else:
            assert attention_mask is None or attention_mask.ndim == 2
            for row in range(len(query)):
                mask = torch.ones(key.shape[2]) if attention_mask is None else attention_mask[row]
                tokens = mask.bool().nonzero().ravel()
                if rest.get("position_ids") is not None:
                    self.text.append(rest["position_ids"][row, tokens[-query.shape[2] :]].tolist())
                part = [tensor[row : row + 1, :, tokens] for tensor in (query, key, value)]
                out[row : row + 1, :, tokens] = attend(*part, scale=scaling, is_causal=True)
        return out.transpose(1, 2), None


@pytest.mark.skipif(zoo.VERSION < (5, 9), reason='only "flash_attention_2" itself is asked for by name')
def test_flash_attention(family: zoo.Family, close: Close, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments describe the kept patches and tokens: each image apart, padding left out, nothing packed."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask

    flash = Flash()
    monkeypatch.setitem(AttentionInterface._global_mapping, FLASH, flash)
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, FLASH, flash_attention_mask)
    case, model = cases.make(family, (ONE, TWO)), changed(family, lambda model: None)
    expected = run(model, case)
    for part in (model.config, model.config.text_config, model.config.vision_config):
        part._attn_implementation_internal = FLASH
    inputs = hf.prune_inputs(case.batch, model, **case.masks)
    found = run(model, case)
    close(found, expected)
    media = inputs.pixelprune.plan.images
    ends = media.cu_seqlens.tolist()
    windows = [] if media.cu_window_seqlens is None else [media.cu_window_seqlens.tolist()]
    assert ends in flash.vision
    assert all(given in (ends, *windows) for given in flash.vision)
    rows = [list(range(int(mask.sum()))) for mask in inputs["attention_mask"]]
    assert flash.text, "no positions arrive"
    assert all(given in rows for given in flash.text)
