"""Conversations for training: JSONL with the paths of images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ...arguments import escaped, shown
from ...errors import PixelPruneError
from ...files.lines import Lines
from .columns import as_given
from .finding import Found
from .item import Item, Reading

FIELDS = ("images", "image")
"""Where the images of a conversation are, if they are beside it."""


def read(found: Found, reading: Reading) -> Iterator[Item]:
    """Yield the images of a JSONL file; ``member`` is ``LINE/PLACE``: the line, from 1, and which image of it, from 0.

    Raises:
        PixelPruneError: a line is not a JSON object, or no line has a field for images.
        OSError: it can't be read.
    """
    name = escaped(found.source)
    empty = True
    with open(found.path, "rb") as file:
        lines = Lines(file, name)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                example = json.loads(line)
                if not isinstance(example, dict):
                    raise ValueError
            except (ValueError, RecursionError):
                raise PixelPruneError(f"{name}: line {number} is not a JSON object; expected one a line") from None
            if reading.column is not None and reading.column not in example:
                have = ", ".join(map(escaped, example))
                raise PixelPruneError(
                    f"{name}: line {number} has the fields {have}; expected {shown(reading.column)} among them"
                )
            kind = found.kind
            if reading.group_by is not None:
                if reading.group_by not in example:
                    raise PixelPruneError(
                        f"{name}: line {number} has no field {shown(reading.group_by)}; expected it: group_by= names it"
                    )
                kind = str(example[reading.group_by])
            for place, image in enumerate(_images(example, reading.column)):
                empty = False
                take = partial(as_given, image, found.path.parent)
                yield Item(found.source, f"{number}/{place}", kind, take, lines.offset)
    if empty:
        raise PixelPruneError(
            f"{name}: no images; expected lines with images, image, or messages with parts of type image"
        )


def _images(example: dict[str, Any], column: str | None) -> list[Any]:
    """Return the images of an example: those beside the conversation, or else those in it."""
    for field in FIELDS if column is None else (column,):
        beside = example.get(field)
        if beside is not None:
            return beside if isinstance(beside, list) else [beside]
    turns = example.get("messages") or example.get("conversations") or example.get("prompt") or ()
    found = []
    for turn in turns if isinstance(turns, list) else ():
        parts = turn.get("content") if isinstance(turn, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and part.get("type") in ("image", "image_url"):
                found.append(image_of(part))
    return found


def image_of(part: Mapping[str, Any]) -> Any:
    """Return the image of a part of a message: a path, a data URL, or what else it holds.

    Example:
        >>> from pixelprune.scan.sources.conversations import image_of
        >>> image_of({"type": "image", "path": "a.png"}), image_of({"type": "image", "base64": "aW1hZ2U="})
        ('a.png', 'data:;base64,aW1hZ2U=')
    """
    key = next((key for key in ("image", "image_url", "url", "path", "base64") if part.get(key) is not None), None)
    value = None if key is None else part[key]
    if key == "base64":
        return f"data:;base64,{value}"
    return value["url"] if isinstance(value, dict) and "url" in value else value
