"""What a model's processor makes of one example: the inputs of its whole prompt, padding and labels aside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
import transformers

from ...arguments import text_of
from ...errors import PixelPruneError
from ..batch import NOT_PER_TOKEN
from .examples import Chat, Text

LEARNED = "assistant_masks"
"""Marks the assistant's tokens, or those of a completion."""

_PLAIN = {"add_special_tokens": False}
"""Parts of one text are joined, so that none may begin or end it."""


def render(form: Chat | Text, stock: Any, marked: bool) -> dict[str, Any]:
    """Return the inputs of one whole prompt.

    Args:
        form: what to render.
        stock: the processor without pruning.
        marked: whether the assistant's tokens have to be marked under `LEARNED`; those of completions always are.

    Raises:
        PixelPruneError: images and places that do not match; marks or completions that can't be told from the rest.
    """
    if isinstance(form, Chat):
        return _of_chat(form, stock, marked and form.completion is None)
    features = _of_text(stock, form.text, form.media, {} if form.completion is None else _PLAIN)
    if form.completion is not None:
        _append(features, stock, form.completion, learned=True)
    return features


@contextmanager
def _naming_the_processor() -> Iterator[None]:
    """Turn a refusal of the processor, of images and places that do not match, into an error of the example."""
    try:
        yield
    except ValueError as error:
        raise PixelPruneError(f"the model's processor refuses it: {text_of(error)}") from error


def _of_text(stock: Any, text: str, media: Mapping[str, list[Any]], how: Mapping[str, Any]) -> dict[str, Any]:
    given = {f"{kind}s": entries for kind, entries in media.items() if entries}
    with _naming_the_processor():
        return dict(stock(text=[text], return_tensors="pt", **how, **given))


def _of_chat(form: Chat, stock: Any, marked: bool) -> dict[str, Any]:
    how: dict[str, Any] = {"return_assistant_tokens_mask": True} if marked else {}
    with _naming_the_processor():
        features = dict(
            stock.apply_chat_template(form.messages, tokenize=True, return_dict=True, return_tensors="pt", **how)
        )
    if marked:
        _check_marks(features, form.messages, stock)
    if form.completion is not None:
        header, said = _completion(form, stock)
        _append(features, stock, header, learned=False)
        _append(features, stock, said, learned=True)
    return features


def _check_marks(features: Mapping[str, Any], messages: list[dict[str, Any]], stock: Any) -> None:
    """Compare the assistant's tokens with those of the same conversation before placeholders are multiplied."""
    template = stock.chat_template
    plain = stock.tokenizer.apply_chat_template(
        messages,
        chat_template=template.get("default") if isinstance(template, Mapping) else template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    expected = [token for token, mark in zip(plain["input_ids"], plain[LEARNED], strict=True) if mark]
    found = features["input_ids"][torch.as_tensor(features[LEARNED]) == 1].tolist()
    if found != expected:
        raise PixelPruneError(
            f"the processor of transformers {transformers.__version__} marks other tokens than the assistant's beside "
            "images; expected 5.18 or later, prompt and completion, or examples with labels"
        )


def _completion(form: Chat, stock: Any) -> tuple[str, str]:
    """What the chat template writes after the prompt: the begin of the answer's turn, and what is to be learned."""
    assert form.completion is not None
    if not form.messages or not form.completion:
        raise PixelPruneError("prompt or completion has no messages; expected at least one each")
    asks = form.messages[-1]["role"] != "assistant"
    base = stock.apply_chat_template(form.messages, tokenize=False)
    prompt = stock.apply_chat_template(form.messages, tokenize=False, add_generation_prompt=asks)
    whole = stock.apply_chat_template(form.messages + form.completion, tokenize=False)
    begin = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False)))
    if not whole[:begin].startswith(base):
        raise PixelPruneError(
            "the chat template writes a prompt otherwise when a completion follows; expected the conversation as "
            "messages (labels='assistant' learns the assistant's turns), or prompt and completion as strings"
        )
    return whole[len(base) : begin], whole[begin:]


def _append(features: dict[str, Any], stock: Any, text: str, learned: bool) -> None:
    """Add the tokens of a text without images."""
    ids = features["input_ids"]
    added = torch.tensor([stock.tokenizer(text, **_PLAIN)["input_ids"]], dtype=ids.dtype).reshape(1, -1)
    features.setdefault(LEARNED, torch.zeros_like(ids))
    values = {"input_ids": added, "attention_mask": torch.ones_like(added), LEARNED: torch.full_like(added, learned)}
    for name, value in features.items():
        if name not in NOT_PER_TOKEN and tuple(value.shape) == tuple(ids.shape):
            more = values.get(name, torch.zeros_like(added)).to(value.dtype)
            features[name] = torch.cat([value, more], dim=1)
