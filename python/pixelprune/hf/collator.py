"""Collate training examples into pruned, padded or packed batches with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from ..arguments import shown
from ..errors import PixelPruneError
from .batch import NOT_PER_TOKEN, PrunedInputs
from .processor import PrunedProcessor

Labels = Literal["all", "assistant"] | None
Features = dict[str, Any]

_IGNORED = -100


class PrunedCollator:
    """Makes pruned batches with labels, for ``Trainer(data_collator=...)`` and ``DataLoader(collate_fn=...)``.

    An example is a dict, one of:

    * ``{"messages": conversation}``: goes through the processor's chat template;
    * ``{"text": prompt, "images": [...], "videos": [...]}``: goes through the processor;
    * the stock processor's output for one example, with ``labels``, loss masks or any other key with one entry per
      token.

    An example may have ``keep`` and ``video_keep`` as in `prune_inputs`, with one entry per image of the example, to
    use masks or indices that were computed before.

    Args:
        processor: a `PrunedProcessor`.
        labels: ``"all"``: every token is a target except padding, placeholders of images, and the first token of an
            example, which has no preceding token to predict it from; ``"assistant"``: the assistant's turns only (of
            ``messages``; the chat template has to mark them); None: no labels. Examples that have labels keep theirs,
            except at the first token.
        packing: concatenate all examples of a batch into one row instead of padding them.

    Raises:
        PixelPruneError: an example is none of the above, or examples have different keys or shapes.
        TypeError: ``processor`` is not a `PrunedProcessor`.

    Example:
        >>> from pixelprune.hf import PrunedCollator
        >>> collator = PrunedCollator(processor, labels="all")  # Trainer(..., data_collator=collator)
        >>> batch = collator([{"messages": messages}, {"messages": messages}])
        >>> batch["labels"].shape == batch["input_ids"].shape
        True
    """

    def __init__(self, processor: PrunedProcessor, *, labels: Labels = "all", packing: bool = False) -> None:
        if not isinstance(processor, PrunedProcessor):
            raise TypeError(f"processor is a {type(processor).__name__}; expected a PrunedProcessor")
        if labels not in ("all", "assistant", None):
            raise PixelPruneError(f"labels is {shown(labels)}; expected 'all', 'assistant' or None")
        self.processor = processor
        self.labels = labels
        self.packing = packing

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> PrunedInputs:
        """Return one batch."""
        features, keeps = [], {"keep": _Keeps("image_grid_thw"), "video_keep": _Keeps("video_grid_thw")}
        for i, example in enumerate(examples):
            try:
                one = self._features(example)
                for name, given in keeps.items():
                    given.add(one, example.get(name))
            except PixelPruneError as error:
                raise PixelPruneError(f"examples[{i}]: {error}") from None
            features.append(one)
        if not features:
            raise PixelPruneError("examples is empty; expected at least one example")
        lengths = [[one["input_ids"].shape[1] for one in features]] if self.packing else None
        batch = self._join(features)
        chosen = {name: given.entries for name, given in keeps.items()}
        return self.processor.prune(batch, lengths=lengths, **chosen)

    def _features(self, example: Mapping[str, Any]) -> Features:
        """Return the unpruned inputs of one example: tensors (1, length), pixels and grids."""
        stock = self.processor.processor
        if "messages" in example:
            marks = {"return_assistant_tokens_mask": True} if self.labels == "assistant" else {}
            out = stock.apply_chat_template(
                example["messages"], tokenize=True, return_dict=True, return_tensors="pt", **marks
            )
        elif "text" in example:
            media = {name: example[name] for name in ("images", "videos") if example.get(name)}
            out = stock(text=[example["text"]], return_tensors="pt", **media)
        elif "input_ids" in example:
            out = {name: value for name, value in example.items() if name not in ("keep", "video_keep")}
        else:
            raise PixelPruneError(f"the example has the keys {sorted(example)}; expected messages, text or input_ids")
        one = {name: torch.as_tensor(value) for name, value in out.items() if value is not None}
        if one["input_ids"].ndim == 1:
            length = len(one["input_ids"])
            one = {
                name: value[None] if name not in NOT_PER_TOKEN and value.shape[:1] == (length,) else value
                for name, value in one.items()
            }
        self._drop_padding(one)
        if self.labels is not None and "labels" not in one:
            one["labels"] = self._labelled(one)
        one.pop("assistant_masks", None)
        if "labels" in one:  # a first token is not predicted from padding or the sequence packed before it
            one["labels"] = one["labels"].clone()
            one["labels"][:, 0] = _IGNORED
        return one

    def _drop_padding(self, one: Features) -> None:
        mask = one.pop("attention_mask", None)
        shape = one["input_ids"].shape
        if len(shape) != 2 or shape[0] != 1:
            raise PixelPruneError(f"input_ids has shape {tuple(shape)}; expected one prompt")
        if mask is not None and not bool(mask.all()):
            for name, value in one.items():
                if name not in NOT_PER_TOKEN and value.shape[:2] == shape:
                    one[name] = value[:, mask[0].bool()]

    def _labelled(self, one: Features) -> torch.Tensor:
        labels: torch.Tensor = one["input_ids"].clone()
        spec = self.processor.model_spec
        for token in (spec.image_token_id, spec.video_token_id):
            if token is not None:
                labels[labels == token] = _IGNORED
        if self.labels == "assistant":
            marked = one.get("assistant_masks")
            if marked is None or not bool(marked.any()):
                raise PixelPruneError(
                    "no token is marked as the assistant's; expected messages with an assistant turn, and a chat "
                    "template that marks it ({% generation %})"
                )
            labels[marked == 0] = _IGNORED
        return labels

    def _join(self, features: list[Features]) -> Features:
        """Return one batch of all examples, padded or packed."""
        for i, one in enumerate(features):
            for name, value in one.items():
                if name not in NOT_PER_TOKEN and value.shape[:2] != one["input_ids"].shape:
                    raise PixelPruneError(
                        f"examples[{i}] has {name} of shape {tuple(value.shape)}; expected keys of images and videos, "
                        f"and others with one entry per token, {tuple(one['input_ids'].shape)}"
                    )
        batch: Features = {}
        for name in [name for name in features[0] if name not in NOT_PER_TOKEN]:
            missing = [i for i, one in enumerate(features) if name not in one]
            if missing:
                raise PixelPruneError(f"examples[{missing[0]}] has no {name}; expected it, because examples[0] has it")
            batch[name] = self._rows([one[name] for one in features], name)
        ones = [torch.ones_like(one["input_ids"]) for one in features]
        batch["attention_mask"] = self._rows(ones, "attention_mask")
        for name in NOT_PER_TOKEN:
            parts = [one[name] for one in features if name in one]
            if parts:
                batch[name] = torch.cat(parts)
        return batch

    def _rows(self, rows: list[torch.Tensor], name: str) -> torch.Tensor:
        if self.packing:
            return torch.cat(rows, dim=1)
        tokenizer = getattr(self.processor, "tokenizer", None)
        ids = getattr(tokenizer, "pad_token_id", None)
        value = {"labels": _IGNORED, "input_ids": 0 if ids is None else ids}.get(name, 0)
        longest = max(row.shape[1] for row in rows)
        padded = []
        for row in rows:
            padding = row.new_full((1, longest - row.shape[1], *row.shape[2:]), value)
            left = getattr(tokenizer, "padding_side", "left") == "left"
            padded.append(torch.cat([padding, row] if left else [row, padding], dim=1))
        return torch.cat(padded)


class _Keeps:
    """The entries of ``keep`` of all examples: one per image of the batch, or None."""

    def __init__(self, grids: str) -> None:
        self.grids = grids
        self.all: list[Any] = []

    def add(self, one: Features, given: Sequence[Any] | None) -> None:
        images = len(one.get(self.grids, ()))
        if given is not None and len(given) != images:
            raise PixelPruneError(f"keep has {len(given)} entries; expected one per image, {images}")
        self.all.extend([None] * images if given is None else given)

    @property
    def entries(self) -> list[Any] | None:
        return self.all if any(entry is not None for entry in self.all) else None
