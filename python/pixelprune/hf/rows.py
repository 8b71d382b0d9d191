"""Whole prompts of single examples: what the processor makes of them, with labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import torch
import transformers

from ..arguments import shown, text_of
from ..errors import PixelPruneError
from ..plan.tokens import IMAGE, VIDEO, kinds_of
from .examples import KEEP, Chat, Text, Tokens, read_example
from .inputs import NOT_PER_TOKEN
from .processor import PrunedProcessor
from .stored import RECORD, is_pruned, plan_of, restore, starts_again

Labels = Literal["all", "assistant"] | None

IGNORED = -100
"""The label of a token that is not to be learned."""

_LEARNED = "assistant_masks"
"""Marks the assistant's tokens, or those of a completion."""
_KINDS = {"image": IMAGE, "video": VIDEO}


@dataclass
class Row:
    """A whole prompt without padding.

    Attributes:
        tokens: what has one entry per token: ``input_ids`` (1, length) and others, (1, length, ...).
        media: pixels, grids and what else belongs to images and videos.
        keep: under ``"image"`` and ``"video"``, one entry per image as in `prune_inputs`.
    """

    tokens: dict[str, torch.Tensor]
    media: dict[str, torch.Tensor] = field(default_factory=dict)
    keep: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.tokens["input_ids"].shape[1])

    def count(self, kind: str) -> int:
        """How many images, or videos, it has."""
        return len(self.media.get(f"{kind}_grid_thw", ()))

    def cut(self, length: int) -> None:
        """Leave the first tokens."""
        self.tokens = {name: value[:, :length] for name, value in self.tokens.items()}


def make_row(example: Mapping[str, Any], processor: PrunedProcessor, labels: Labels) -> Row:
    """Make the whole prompt of an example in one of the layouts of `PrunedCollator`.

    Raises:
        PixelPruneError: see `PrunedCollator`.
    """
    form = read_example(example)
    stock, spec = processor.processor, processor.model_spec
    pruned = isinstance(form, Tokens) and is_pruned(example)
    plan = plan_of(example, spec) if pruned else None
    if isinstance(form, Chat):
        features = _of_chat(form, stock, labels == "assistant" and form.completion is None)
    elif isinstance(form, Text):
        features = _of_text(stock, form.text, form.media, {} if form.completion is None else _PLAIN)
        if form.completion is not None:
            _append(features, stock, form.completion, learned=True)
    else:
        features = {name: value for name, value in form.features.items() if not (pruned and _is_position(name))}
    row = _split(features)
    if pruned:
        _check_unpacked(example, row)
    if plan is not None:
        restore(row.tokens, row.media, plan)
    _check_places(row, processor)
    for kind, name in KEEP.items():
        given = example.get(name)
        if plan is not None:
            if given is not None:
                raise PixelPruneError(f"the example is pruned already; expected no {name}")
            media = plan.images if kind == "image" else plan.videos
            given = list(media.selections)
        row.keep[kind] = _keep(given, name, row.count(kind))
    _label(row, processor, labels)
    return row


_PLAIN = {"add_special_tokens": False}
"""Parts of one text are joined, so that none may begin or end it."""


def _is_position(name: str) -> bool:
    """Whether pruning adds a key of this name, for the tower or the language model."""
    of_media = name.startswith(("image_", "video_")) and name not in NOT_PER_TOKEN
    return of_media or name in ("position_ids", "use_cache", RECORD)


@contextmanager
def _naming_the_processor() -> Iterator[None]:
    """Turn a refusal of the processor, of images and places that do not match, into an error of the example."""
    try:
        yield
    except ValueError as error:
        raise PixelPruneError(f"the model's processor refuses it: {text_of(error)}") from error


def _check_unpacked(example: Mapping[str, Any], row: Row) -> None:
    """Positions are computed anew, so that they may not tell sequences of a row apart."""
    given = example.get("position_ids")
    if given is None:
        return
    positions, mask = torch.as_tensor(given), example.get("attention_mask")
    flat = positions.reshape(-1, 1, positions.shape[-1])
    present = torch.ones(flat.shape[-1]).bool() if mask is None else torch.as_tensor(mask).bool().reshape(-1)
    if len(present) != flat.shape[-1] or int(present.sum()) != len(row):
        raise PixelPruneError(f"position_ids has shape {tuple(positions.shape)}; expected {len(row)} positions")
    if starts_again(flat, present[None]):
        raise PixelPruneError(
            "the example has packed sequences, whose positions start again; expected one sequence per row"
        )


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
    expected = [token for token, mark in zip(plain["input_ids"], plain[_LEARNED], strict=True) if mark]
    found = features["input_ids"][torch.as_tensor(features[_LEARNED]) == 1].tolist()
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
    features.setdefault(_LEARNED, torch.zeros_like(ids))
    values = {"input_ids": added, "attention_mask": torch.ones_like(added), _LEARNED: torch.full_like(added, learned)}
    for name, value in features.items():
        if name not in NOT_PER_TOKEN and tuple(value.shape) == tuple(ids.shape):
            more = values.get(name, torch.zeros_like(added)).to(value.dtype)
            features[name] = torch.cat([value, more], dim=1)


def _split(features: Mapping[str, Any]) -> Row:
    """Tell apart what has one entry per token, without padding, and the rest."""
    one = {name: _tensor(value, name) for name, value in features.items() if value is not None}
    if one["input_ids"].ndim == 1:
        length = len(one["input_ids"])
        one = {
            name: value[None] if name not in NOT_PER_TOKEN and value.shape[:1] == (length,) else value
            for name, value in one.items()
        }
    shape = one["input_ids"].shape
    if len(shape) != 2 or shape[0] != 1:
        raise PixelPruneError(f"input_ids has shape {tuple(shape)}; expected one prompt")
    mask = one.pop("attention_mask", None)
    row = Row({})
    for name, value in one.items():
        if name in NOT_PER_TOKEN:
            row.media[name] = value
            continue
        if value.shape[:2] != shape:
            raise PixelPruneError(
                f"the example has {name} of shape {tuple(value.shape)}; expected images, videos and what has one entry "
                f"per token, {tuple(shape)}"
            )
        row.tokens[name] = value if mask is None or bool(mask.all()) else value[:, mask[0].bool()]
    return row


def _tensor(value: Any, name: str) -> torch.Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise PixelPruneError(
            f"{name} is {shown(value)}; expected numbers, one entry per token: remove the column"
        ) from None


def _check_places(row: Row, processor: PrunedProcessor) -> None:
    """Every image has its placeholders, and all placeholders have an image."""
    spec = processor.model_spec
    ids = row.tokens["input_ids"].numpy()
    kinds = kinds_of(ids, np.ones(ids.shape, np.bool_), spec)
    for kind, number in _KINDS.items():
        grids = row.media.get(f"{kind}_grid_thw")
        expected = 0 if grids is None else int(grids.prod(dim=1).sum()) // spec.vision.merge_size**2
        found = int((kinds == number).sum())
        if found != expected:
            raise PixelPruneError(
                f"the prompt has {found} {kind} placeholders, its {row.count(kind)} {kind}s have {expected} tokens; "
                f"expected as many: one {kind} for each place in the text, with the model's own marks, and no "
                "truncation (max_length of the collator cuts after pruning)"
            )


def _keep(given: Sequence[Any] | None, name: str, count: int) -> list[Any]:
    if given is None:
        return [None] * count
    if len(given) != count:
        raise PixelPruneError(f"{name} has {len(given)} entries; expected one per {name_of(name)}, {count}")
    return list(given)


def name_of(keep: str) -> str:
    """What an argument like ``keep`` has one entry of."""
    return next(kind for kind, name in KEEP.items() if name == keep)


def _label(row: Row, processor: PrunedProcessor, labels: Labels) -> None:
    """Add labels, or take the given ones; the first token, which nothing foretells, has none."""
    learned = row.tokens.pop(_LEARNED, None)
    if labels is not None and "labels" not in row.tokens:
        made = row.tokens["input_ids"].clone()
        spec = processor.model_spec
        for token in (spec.image_token_id, spec.video_token_id):
            if token is not None:
                made[made == token] = IGNORED
        if labels == "assistant":
            if learned is None or not bool(learned.any()):
                raise PixelPruneError(
                    "no token is marked as the assistant's; expected messages with an assistant's turn and a chat "
                    "template that marks it ({% generation %}), or prompt and completion"
                )
            made[learned == 0] = IGNORED
        row.tokens["labels"] = made
    if "labels" in row.tokens:
        row.tokens["labels"] = row.tokens["labels"].clone()
        row.tokens["labels"][:, :1] = IGNORED


def check_labels(labels: torch.Tensor | None, end: int) -> None:
    """Raise if a cut leaves nothing to learn of a prompt that had something."""
    if labels is not None and bool((labels[:, end:] != IGNORED).any()) and not bool((labels[:, :end] != IGNORED).any()):
        raise PixelPruneError(
            "max_length leaves no token that is to be learned; expected a larger one, smaller images or a "
            "higher threshold"
        )
