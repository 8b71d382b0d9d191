"""The layouts of examples that `PrunedCollator` takes: nothing of an example is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pixelprune.hf as hf
import pytest
from PIL import Image
from pixelprune import PixelPruneError

from . import cases, zoo
from .test_processor import assert_same

FAMILY = zoo.BY_NAME["qwen3_vl"]
A, B, C = (zoo.draw_image(FAMILY, rows, cols, seed) for rows, cols, seed in ((4, 5, 1), (3, 6, 2), (5, 3, 3)))
MARKED = pytest.mark.skipif(zoo.VERSION < (5, 18), reason="stock processors lose track where placeholders grow")

Message = dict[str, Any]


def pruned() -> Any:
    return hf.PrunedProcessor(zoo.processor(FAMILY), zoo.model(FAMILY).config)


def collate(*examples: dict[str, Any], **how: Any) -> Any:
    return hf.PrunedCollator(pruned(), **how)(examples)


def text(words: str) -> Message:
    return {"type": "text", "text": words}


def image(of: Image.Image | None = None) -> Message:
    return {"type": "image"} if of is None else {"type": "image", "image": of}


def user(*parts: Message) -> Message:
    return {"role": "user", "content": list(parts)}


def assistant(words: str) -> Message:
    return {"role": "assistant", "content": [text(words)]}


def chat(*parts: Message, answer: str = "ok") -> Message:
    """The layout to which the others are compared: every image in its place."""
    return {"messages": [user(*parts), assistant(answer)]}


OK = {"role": "assistant", "content": "ok"}
WHERE = {"role": "user", "content": "Where?"}
SAME = {
    "images before the text of the first user message": (
        {"messages": [WHERE, OK], "images": [A, B]},
        chat(image(A), image(B), text("Where?")),
    ),
    "image": ({"messages": [WHERE, OK], "image": A}, chat(image(A), text("Where?"))),
    "image that is a list": ({"messages": [WHERE, OK], "image": [A, B]}, chat(image(A), image(B), text("Where?"))),
    "images that are one": ({"messages": [WHERE, OK], "images": A}, chat(image(A), text("Where?"))),
    "parts": (
        {"messages": [user(image(), text("Where?"), image()), OK], "images": [A, B]},
        chat(image(A), text("Where?"), image(B)),
    ),
    "parts, some of them filled": (
        {"messages": [user(image(), image(C), image(), text("Where?")), OK], "images": [A, B]},
        chat(image(A), image(C), image(B), text("Where?")),
    ),
    "parts as an Arrow table has them": (
        {
            "messages": [
                user({"type": "image", "text": None}, {"type": "text", "text": "Where?", "image": None}),
                {"role": "assistant", "content": [{"type": "text", "text": "ok", "image": None}], "name": None},
            ],
            "images": [A],
            "videos": None,
            "text": None,
        },
        chat(image(A), text("Where?")),
    ),
    "marks": (
        {"messages": [{"role": "user", "content": "<image>\nWhere <image>?"}, OK], "images": [A, B]},
        chat(image(A), text("\nWhere "), image(B), text("?")),
    ),
    "marks in a later turn": (
        {"messages": [WHERE, OK, {"role": "user", "content": "<image>"}, OK], "images": [A]},
        {"messages": [user(text("Where?")), assistant("ok"), user(image(A)), assistant("ok")]},
    ),
    "a system message": (
        {"messages": [{"role": "system", "content": "Be brief."}, WHERE, OK], "images": [A]},
        {
            "messages": [
                {"role": "system", "content": [text("Be brief.")]},
                user(image(A), text("Where?")),
                assistant("ok"),
            ]
        },
    ),
    "sharegpt": (
        {
            "conversations": [{"from": "human", "value": "<image>Where?"}, {"from": "gpt", "value": "ok"}],
            "images": [A],
        },
        chat(image(A), text("Where?")),
    ),
    "sharegpt without marks": (
        {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "ok"}], "image": A},
        chat(image(A), text("Where?")),
    ),
    "messages under conversations": ({"conversations": [WHERE, OK], "image": A}, chat(image(A), text("Where?"))),
    "text only": ({"messages": [WHERE, OK], "images": []}, chat(text("Where?"))),
    "prompt and completion that are conversations": (
        {"prompt": [WHERE], "completion": [OK], "images": [A]},
        chat(image(A), text("Where?")),
    ),
    "prompt with marks": (
        {"prompt": [{"role": "user", "content": "Where <image>?"}], "completion": [OK], "images": [A]},
        chat(text("Where "), image(A), text("?")),
    ),
    "prompt and completion that are strings": (
        {"prompt": f"{FAMILY.image}Where?", "completion": " ok", "images": [A]},
        {"text": f"{FAMILY.image}Where? ok", "images": [A]},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_layouts(name: str) -> None:
    example, same = SAME[name]
    found, expected = collate(example), collate(same)
    assert len(expected.pixelprune.grids) == str(same).count("PIL")
    assert_same(found, expected)


def test_examples_are_left_as_they_are() -> None:
    for example, _ in SAME.values():
        before = str(example)
        collate(example)
        assert str(example) == before


def test_videos_beside_messages() -> None:
    cases.skip_unless_pruned(FAMILY, (cases.VIDEO,))
    given = cases.images_of(FAMILY, [cases.VIDEO])["videos"]
    [clip] = given
    expected = collate({"text": FAMILY.video + "Where?", "videos": given})
    assert len(expected.pixelprune.video_grids) == 1
    for example in (
        {"messages": [WHERE], "videos": given},
        {"messages": [WHERE], "video": clip},
        {"messages": [{"role": "user", "content": "<video>Where?"}], "videos": given},
        {"messages": [user({"type": "video"}, text("Where?"))], "videos": given},
    ):
        found = collate(example)
        assert found.pixelprune.video_selections == expected.pixelprune.video_selections
        assert found["pixel_values_videos"].equal(expected["pixel_values_videos"])


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(SAME[name][0], id=name)
        if name.startswith("prompt")
        else pytest.param(SAME[name][0], id=name, marks=MARKED)
        for name in ("images before the text of the first user message", "sharegpt", *SAME)
        if name.startswith(("images before", "sharegpt", "prompt"))
    ],
)
def test_the_answer_is_learned(example: dict[str, Any]) -> None:
    processor = pruned()
    for given in (example, {**example, "image": None}):
        [labels] = hf.PrunedCollator(processor, labels="assistant")([given])["labels"]
        said = processor.decode(labels[labels != -100])
        assert said.removesuffix("\n").removesuffix("<|im_end|>").strip() == "ok"


@pytest.mark.parametrize("image", [A, None], ids=["image", "text"])
def test_marks_of_the_template_beside_images(image: Image.Image | None) -> None:
    """Where a stock processor loses track of them, that is an error."""
    collator = hf.PrunedCollator(pruned(), labels="assistant")
    example = {"messages": [WHERE, OK], "image": image}
    if image is not None and zoo.VERSION < (5, 18):
        with pytest.raises(PixelPruneError, match=r"marks other tokens than the assistant's.*prompt and completion"):
            collator([example])
    else:
        [labels] = collator([example])["labels"]
        assert collator.processor.decode(labels[labels != -100]) == "ok<|im_end|>"


def test_completions_end_as_the_template_ends_a_turn() -> None:
    processor = pruned()
    collator = hf.PrunedCollator(processor, labels="assistant")
    asked, answered = user(text("Where?")), assistant("ok")
    [labels] = collator([{"prompt": [asked, answered, asked], "completion": [answered, asked, answered]}])["labels"]
    said = processor.decode(labels[labels != -100])
    template = processor.apply_chat_template
    prompt = template([asked, answered, asked], add_generation_prompt=True)
    assert prompt + said == template([asked, answered, asked, answered, asked, answered])


def test_keep_beside_messages() -> None:
    with pytest.raises(PixelPruneError, match=r"examples\[0\]: keep has 1 entries; expected one per image, 2"):
        collate({"messages": [WHERE, OK], "images": [A, B], "keep": [[0]]})
    keep = [cases.some(4, 5, 31), [0, 3, 7]]
    found = collate({"messages": [WHERE, OK], "images": [A, B], "keep": keep}).pixelprune.selections
    assert [np.flatnonzero(s.mask).tolist() for s in found] == [np.flatnonzero(keep[0]).tolist(), [0, 3, 7]]


PLACES = f"{FAMILY.image}Where?"
WRONG = {
    "an image without a place": (
        {"messages": [user(image(), text("Where?")), OK], "images": [A, B]},
        "the example has 2 images, and messages has places for 1; expected as many",
    ),
    "an image and only parts": (
        {"messages": [user(text("Where?"))], "images": [A]},
        "1 images, and messages has places for 0",
    ),
    "a part without an image": ({"messages": [user(image())]}, "0 images, and messages has places for 1"),
    "a mark without an image": ({"messages": [{"role": "user", "content": "<image>?"}]}, "0 images, .* for 1"),
    "a video in the place of an image": (
        {"messages": [{"role": "user", "content": "<video>?"}], "images": [A]},
        "0 videos, and messages has places for 1",
    ),
    "marks for some": (
        {"conversations": [{"from": "human", "value": "<image>Where?"}], "images": [A, B]},
        "2 images, and conversations has places for 1",
    ),
    "an image in a completion": (
        {"prompt": [WHERE], "completion": [{"role": "assistant", "content": "<image>"}], "images": [A]},
        "0 images, and completion has places for 1",
    ),
    "image and images": ({"messages": [WHERE], "image": A, "images": [A]}, "has image and images; expected one"),
    "no keys": ({}, r"has the keys \[\]; expected messages.*set remove_unused_columns=False"),
    "labels only": ({"labels": [1]}, r"has the keys \['labels'\]; .*remove_unused_columns=False"),
    "two layouts": ({"messages": [WHERE], "text": "a"}, "has messages and text; expected one of them"),
    "another key": ({"messages": [WHERE], "chosen": [OK], "id": 3}, "has chosen, id beside messages; .* as inner"),
    "images beside tokens": ({"input_ids": [1, 2], "images": [A]}, "has images beside input_ids"),
    "no completion": ({"prompt": "a"}, "a prompt without completion"),
    "text that is a list": ({"text": ["a"]}, "text is a list; expected a string"),
    "messages that are a string": ({"messages": "a"}, "messages is a string; expected a list of messages"),
    "prompt and completion of two kinds": ({"prompt": "a", "completion": [OK]}, "completion is a list; expected a str"),
    "completion that is a string": ({"prompt": [WHERE], "completion": "a"}, "completion is a str; expected a list"),
    "a role of tools": (
        {"conversations": [{"from": "observation", "value": "3"}]},
        r"conversations\[0\] is .*; expected from \(human, gpt or system\)",
    ),
    "a message without a role": ({"messages": [{"content": "a"}]}, r"messages\[0\] has the keys \['content'\]"),
    "a message that is a string": ({"messages": ["a"]}, r"messages\[0\] is a str; expected a dict"),
    "a content that is a number": ({"messages": [{"role": "user", "content": 3}]}, "a content that is a int"),
    "a part that is a string": ({"messages": [{"role": "user", "content": ["a"]}]}, r"content\[0\] is a str"),
    "text without a place": (
        {"text": "Where?", "images": [A]},
        "(refuses it: .* 0 <.image_pad.> tokens and 1 images|has 0 image placeholders, its 1 images have 20 tokens)",
    ),
    "text with a place too many": (
        {"text": PLACES},
        "(refuses it: .* no images were passed|has 1 image placeholders, its 0 images have 0 tokens)",
    ),
    "prompt without a place": (
        {"prompt": "a", "completion": "b", "images": [A]},
        "(refuses it: .* 0 <.image_pad.> tokens|has 0 image placeholders)",
    ),
    "a column of text": ({"input_ids": [1, 2], "id": "x"}, "id is 'x'; expected numbers, one entry per token"),
    "a column of another length": ({"input_ids": [1, 2], "weight": [1]}, r"has weight of shape \(1,\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_nothing_is_left_over(name: str) -> None:
    example, message = WRONG[name]
    fine = {"messages": [WHERE, OK]}
    with pytest.raises(PixelPruneError, match=rf"^examples\[1\]: .*{message}"):
        collate(fine, example)


def test_a_key_of_some_examples_only() -> None:
    some, more = {"input_ids": [1, 2]}, {"input_ids": [1, 2], "weight": [1, 1]}
    with pytest.raises(PixelPruneError, match=r"examples\[1\] has no weight; expected it, because examples\[0\]"):
        collate(more, some)
    with pytest.raises(PixelPruneError, match=r"examples\[0\] has no weight; expected it, because examples\[1\]"):
        collate(some, more)
