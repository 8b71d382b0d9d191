"""Collate training examples into pruned, padded or packed batches with labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...arguments import shown
from ...errors import PixelPruneError
from ...plan import TEXT, kinds_of
from ..batch import PrunedInputs
from ..processor import PrunedProcessor
from . import dummy, inner
from .joining import filler, join
from .packing import Mask, cut, first_fit
from .rows import Labels, Row, check_labels, make_row


class PrunedCollator:
    """Makes pruned batches with labels, for ``Trainer(data_collator=...)`` and ``DataLoader(collate_fn=...)``.

    An example is a dict in one of these layouts:

    * ``{"messages": conversation}``: goes through the processor's chat template. Images may be in the messages, or
      beside them under ``images`` (or ``image``, for one) and ``videos``, as TRL, LLaMA-Factory and many data sets have
      it. Then they fill, in order, the parts ``{"type": "image"}`` and the marks ``<image>`` in contents that are
      strings; ``{"type": "video"}`` and ``<video>`` likewise. Without any such place all go before the text of the
      first user message that is a string.
    * ``{"conversations": turns}``: the same in the layout of sharegpt, ``{"from": "human", "value": "<image>Where?"}``.
    * ``{"prompt": ..., "completion": ...}``: both strings, of which the prompt holds the model's own placeholders for
      ``images``, or both conversations, whose images are the prompt's. The two are tokenized apart and joined.
    * ``{"text": prompt, "images": [...], "videos": [...]}``: goes through the processor; the text holds the model's own
      placeholders.
    * what the processor returned for one example, whole or pruned, with ``labels``, loss masks or any other key that
      has one entry per token.

    Nothing is left over: an image without a place, a place without an image, or a column that the layout does not know
    is an error. Columns whose value is None count as absent.

    An example may have ``keep`` and ``video_keep`` as in `prune_inputs`, with one entry per image of the example, to
    use masks or indices that were computed before.

    Args:
        processor: a `PrunedProcessor`.
        labels: ``"all"``: every token is a target except padding, placeholders of images, and the first token of an
            example, which has no preceding token to predict it from; ``"assistant"``: only completions and the
            assistant's turns of conversations (the chat template has to mark them); None: no labels. Examples that have
            labels keep theirs, except at the first token.
        packing: concatenate all examples of a batch into one row instead of padding them.
        inner: a collator that makes a batch with the processor without pruning (``processor.processor``), such as those
            of TRL: it is called with the examples, and its batch is pruned. Labels and masks with one entry per token
            are cut, padding stays on its side, positions are computed anew. It decides on layouts, labels and packing.
        max_length: tokens of an example after pruning. Longer ones lose the end of their text; images are never cut.
        pack_to: tokens of a row after pruning: each example goes into the first row that has room for it. Rows are
            filled up with padding, as a sequence of its own, to the longest of the batch.
        dummy_image: add a tiny image, of which one token is kept, to a batch without images and videos: every process
            of distributed training then has gradients for the vision tower, zero ones here. It comes after the last
            token of the shortest example, so that no other token sees it; the loss stays the same.

    Raises:
        PixelPruneError: examples in none of the layouts, or that do not fit each other; ``max_length`` or ``pack_to``
            that is too small for the images of an example.
        TypeError: ``processor`` is not a `PrunedProcessor`, ``inner`` is not callable, or a number is not an int.

    Example:
        >>> from pixelprune.hf import PrunedCollator
        >>> collator = PrunedCollator(processor, labels="all")  # Trainer(..., data_collator=collator)
        >>> turns = [{"role": "user", "content": "<image>Where?"}, {"role": "assistant", "content": "Here."}]
        >>> batch = collator([{"messages": messages}, {"messages": turns, "images": [page]}])
        >>> batch["labels"].shape == batch["input_ids"].shape
        True
        >>> batch.pixelprune.image_sizes
        [(1632, 1248), (1632, 1248)]
    """

    def __init__(
        self,
        processor: PrunedProcessor,
        *,
        labels: Labels = "all",
        packing: bool = False,
        inner: Callable[[list[Any]], Any] | None = None,
        max_length: int | None = None,
        pack_to: int | None = None,
        dummy_image: bool = False,
    ) -> None:
        if not isinstance(processor, PrunedProcessor):
            raise TypeError(f"processor is a {type(processor).__name__}; expected a PrunedProcessor")
        if labels not in ("all", "assistant", None):
            raise PixelPruneError(f"labels is {shown(labels)}; expected 'all', 'assistant' or None")
        if inner is not None and not callable(inner):
            raise TypeError(f"inner is a {type(inner).__name__}; expected a collator")
        for name, value in (("max_length", max_length), ("pack_to", pack_to)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is a {type(value).__name__}; expected an integer")
            if value < 1:
                raise PixelPruneError(f"{name} is {shown(value)}; expected at least 1")
        if packing and pack_to is not None:
            raise PixelPruneError("packing and pack_to are given; expected one of them: pack_to makes rows of its own")
        if inner is not None and (packing or pack_to is not None or labels != "all"):
            raise PixelPruneError(
                "inner is given with labels, packing or pack_to; expected inner alone: its batch has rows and labels"
            )
        self.processor = processor
        self.labels = labels
        self.packing = packing
        self.inner = inner
        self.max_length = max_length
        self.pack_to = pack_to
        self.dummy_image = dummy_image

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> PrunedInputs:
        """Return one batch."""
        if not len(examples):
            raise PixelPruneError("examples is empty; expected at least one example")
        if self.inner is not None:
            return inner.prune(self.inner, examples, self.processor, self.max_length, self.dummy_image)
        rows, sizes = [], []
        for i, example in enumerate(examples):
            try:
                row = make_row(example, self.processor, self.labels)
                sizes.append(self._fit(row))
            except PixelPruneError as error:
                raise PixelPruneError(f"examples[{i}]: {error}") from None
            rows.append(row)
        if self.dummy_image and not any(dummy.has_media(row.media) for row in rows):
            shortest = min(range(len(rows)), key=sizes.__getitem__)
            rows[shortest].media = dummy.append_image(rows[shortest].tokens, 0, self.processor)
            rows[shortest].keep["image"] = [dummy.KEEP]
            sizes[shortest] += 1
        return self._batch(rows, sizes)

    def _fit(self, row: Row) -> int:
        """Cut a row to its length after pruning; return that, or its whole length if nobody asks."""
        if self.max_length is None and self.pack_to is None:
            return len(row)
        kept, media = self._choose(row)
        if self.max_length is not None:
            end = cut(kept, media, self.max_length)
            check_labels(row.tokens.get("labels"), end)
            row.cut(end)
            kept = kept[:end]
        size = int(kept.sum())
        if self.pack_to is not None and size > self.pack_to:
            raise PixelPruneError(
                f"the example has {size} tokens after pruning, pack_to is {self.pack_to}; expected a pack_to of at "
                "least as many, or a max_length"
            )
        return size

    def _choose(self, row: Row) -> tuple[Mask, Mask]:
        """Settle what is kept of a row; return which of its tokens stay, and which are placeholders."""
        plan = self._prune({**row.tokens, **row.media}, [row], None).pixelprune.plan  # type: ignore[union-attr]
        row.keep = {"image": list(plan.images.selections), "video": list(plan.videos.selections)}
        ids = row.tokens["input_ids"].numpy()
        return plan.token_mask(ids)[0], kinds_of(ids, np.ones(ids.shape, np.bool_), plan.spec)[0] != TEXT

    def _batch(self, rows: list[Row], sizes: list[int]) -> PrunedInputs:
        tokenizer = self.processor.processor.tokenizer
        if self.packing:
            groups = [list(range(len(rows)))]
        elif self.pack_to is not None:
            groups = first_fit(sizes, self.pack_to)
        else:
            batch = join(rows, [[i] for i in range(len(rows))], tokenizer)
            return self._prune(batch, rows, None)
        filled = [sum(sizes[i] for i in group) for group in groups]
        for group, size in zip(groups, filled, strict=True):
            if size < max(filled):
                group.append(len(rows))
                rows.append(filler(rows[0], max(filled) - size, tokenizer))
        lengths = [[len(rows[i]) for i in group] for group in groups]
        return self._prune(join(rows, groups, tokenizer), [rows[i] for group in groups for i in group], lengths)

    def _prune(self, batch: dict[str, Any], rows: list[Row], lengths: list[list[int]] | None) -> PrunedInputs:
        keep, video_keep = (_entries(rows, kind) for kind in ("image", "video"))
        return self.processor.prune(batch, keep=keep, video_keep=video_keep, lengths=lengths)


def _entries(rows: list[Row], kind: str) -> list[Any] | None:
    """One entry per image of the batch, or nothing at all."""
    entries = [entry for row in rows for entry in row.keep.get(kind, ())]
    return entries if any(entry is not None for entry in entries) else None
