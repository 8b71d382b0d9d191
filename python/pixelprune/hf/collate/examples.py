"""Layouts of training data: an example becomes a conversation, a text with its images, or finished tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...arguments import shown
from ...errors import PixelPruneError
from ...scan.indices import KeepIndices
from ...selection.result import Selection
from ..keep_indices import load, load_conversation

Message = dict[str, Any]
Media = dict[str, list[Any]]
"""Under ``"image"`` and ``"video"``."""

KEEP = {"image": "keep", "video": "video_keep"}
"""The keys of an example that say which tokens are kept."""

_LAYOUTS = {
    "messages": ("messages",),
    "conversations": ("conversations",),
    "prompt": ("prompt", "completion"),
    "text": ("text",),
    "input_ids": (),
}
"""The key that tells a layout, and all keys of it but for images, videos and what is kept of them."""

_MARKS = re.compile("<(image|video)>")
_ROLES = {"human": "user", "gpt": "assistant"}
"""The names of roles in sharegpt's layout; others are called as in messages."""
_PAYLOADS = ("url", "path", "base64")
"""What a part of a message may hold in the place of its image."""


@dataclass(frozen=True)
class Chat:
    """A conversation for the chat template, every image in its place; ``completion`` are the turns that follow it."""

    messages: list[Message]
    completion: list[Message] | None = None


@dataclass(frozen=True)
class Text:
    """A text for the processor, with the model's own placeholders; ``completion`` is the text that follows it."""

    text: str
    media: Media
    completion: str | None = None


@dataclass(frozen=True)
class Tokens:
    """Finished model inputs."""

    features: dict[str, Any]


def read_example(example: Mapping[str, Any]) -> Chat | Text | Tokens:
    """Tell the layout of an example; see `PrunedCollator`. A key whose value is None is taken for absent.

    Raises:
        PixelPruneError: no layout or several, keys that do not belong to it, or images and places for them that do not
            match.
    """
    if not isinstance(example, Mapping):
        raise PixelPruneError(f"the example is a {type(example).__name__}; expected a dict")
    given = {name: value for name, value in example.items() if value is not None}
    found = [name for name in _LAYOUTS if name in given]
    if not found:
        raise PixelPruneError(
            f"the example has the keys {sorted(given)}; expected messages, conversations, prompt and completion, text, "
            "or input_ids. Trainer removes columns that the model does not take: set remove_unused_columns=False"
        )
    if len(found) > 1:
        raise PixelPruneError(f"the example has {' and '.join(found)}; expected one of them: remove the other columns")
    [layout] = found
    beside = [name for name in ("image", "images", "video", "videos") if name in given]
    if layout == "input_ids":
        if beside:
            raise PixelPruneError(
                f"the example has {beside[0]} beside input_ids; expected all that the processor returned for it, "
                "pixel_values too, or the images with messages or text"
            )
        return Tokens({name: value for name, value in given.items() if name not in KEEP.values()})
    unknown = sorted(given.keys() - {*_LAYOUTS[layout], *beside, *KEEP.values()})
    if unknown:
        raise PixelPruneError(
            f"the example has {', '.join(unknown)} beside {layout}; expected images, videos, keep or "
            "video_keep: remove the other columns, or give the collator that knows them as inner"
        )
    if layout == "prompt" and "completion" not in given:
        raise PixelPruneError("the example has a prompt without completion; expected both")
    media = {kind: _media(given, kind) for kind in KEEP}
    if layout == "text" or isinstance(given["prompt" if layout == "prompt" else layout], str):
        return _text(given, layout, media)
    completion = None
    if layout == "prompt":
        completion = _filled(given["completion"], "completion", {})
    return Chat(_filled(given[layout], layout, media), completion)


def with_stored(form: Chat | Text, indices: KeepIndices) -> tuple[Chat | Text, list[Selection]]:
    """Return an example with its images loaded, and their stored tokens."""
    if isinstance(form, Chat):
        messages, keep = load_conversation(indices, form.messages)
        return replace(form, messages=messages), keep
    images, keep = load(indices, form.media.get("image", []))
    return replace(form, media={**form.media, "image": images}), keep


def _text(given: Mapping[str, Any], layout: str, media: Media) -> Text:
    for name in _LAYOUTS[layout]:
        if not isinstance(given[name], str):
            raise PixelPruneError(f"{name} is a {type(given[name]).__name__}; expected a string")
    if layout not in ("text", "prompt"):
        raise PixelPruneError(f"{layout} is a string; expected a list of messages")
    return Text(given[layout], media, given.get("completion"))


def _media(given: Mapping[str, Any], kind: str) -> list[Any]:
    """All images, or all videos; one that is no list is the only one."""
    one, several = given.get(kind), given.get(f"{kind}s")
    if one is not None and several is not None:
        raise PixelPruneError(f"the example has {kind} and {kind}s; expected one of them")
    if several is None:
        several = [] if one is None else one if kind == "image" and isinstance(one, (list, tuple)) else [one]
    return list(several) if isinstance(several, (list, tuple)) else [several]


def _filled(given: Any, name: str, media: Media) -> list[Message]:
    """Return the messages with lists of parts for contents, and images and videos in their places.

    Places are parts without an image, and ``<image>`` in a content that is a string. Without any, all go before the
    text of the user's first message that is a string.
    """
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
        raise PixelPruneError(f"{name} is a {type(given).__name__}; expected a list of messages")
    messages = [_message(message, f"{name}[{i}]") for i, message in enumerate(given)]
    first = next(
        (
            message
            for message, source in zip(messages, given, strict=True)
            if message["role"] == "user" and isinstance(source.get("content", source.get("value")), str)
        ),
        None,
    )
    ahead: list[Message] = []
    for kind in KEEP:
        entries = media.get(kind, [])
        places = list(_places(messages, kind))
        if not places and entries and first is not None:
            places = [{"type": kind} for _ in entries]
            ahead += places
        if len(places) != len(entries):
            raise PixelPruneError(
                f"the example has {len(entries)} {kind}s, and {name} has places for {len(places)}; expected as many: "
                f'parts {{"type": "{kind}"}} without one of their own, or <{kind}> in a content that is a string'
            )
        for place, entry in zip(places, entries, strict=True):
            place[kind] = entry
    if first is not None:
        first["content"] = ahead + first["content"]
    return messages


def _places(messages: Sequence[Message], kind: str) -> Iterator[Message]:
    """Parts that wait for an image, or for a video."""
    for message in messages:
        for part in message.get("content") or ():
            if part.get("type") == kind and not any(name in part for name in (kind, *_PAYLOADS)):
                yield part


def _message(message: Any, name: str) -> Message:
    """A message of ``role`` and ``content`` (or sharegpt's ``from`` and ``value``), whose content is a list."""
    if not isinstance(message, Mapping):
        raise PixelPruneError(f"{name} is a {type(message).__name__}; expected a dict with role and content")
    given = {key: value for key, value in message.items() if value is not None}
    if "from" in given:
        role = _ROLES.get(given["from"], given["from"])
        if role not in ("system", "user", "assistant") or "value" not in given:
            raise PixelPruneError(
                f"{name} is {shown(message)}; expected from (human, gpt or system) and value. Write tool calls as "
                "messages of the model's chat template"
            )
        given = {"role": role, "content": given["value"]}
    if not isinstance(given.get("role"), str):
        raise PixelPruneError(f"{name} has the keys {sorted(given)}; expected role and content")
    content = given.get("content", [])
    if isinstance(content, str):
        given["content"] = _split(content)
    elif isinstance(content, Mapping) or not isinstance(content, Sequence):
        raise PixelPruneError(f"{name} has a content that is a {type(content).__name__}; expected a string or a list")
    elif "content" in given:
        # Rows of an Arrow table have every key in every part, None where it means nothing.
        given["content"] = [_part(part, f"{name}.content[{i}]") for i, part in enumerate(content)]
    return given


def _part(part: Any, name: str) -> Message:
    if not isinstance(part, Mapping):
        raise PixelPruneError(f"{name} is a {type(part).__name__}; expected a dict with a type")
    return {key: value for key, value in part.items() if value is not None}


def _split(content: str) -> list[Message]:
    """The parts of a string with ``<image>`` and ``<video>`` in it."""
    pieces = _MARKS.split(content)
    parts: list[Message] = []
    for i, piece in enumerate(pieces):
        if i % 2:
            parts.append({"type": piece})
        elif piece or len(pieces) == 1:
            parts.append({"type": "text", "text": piece})
    return parts
