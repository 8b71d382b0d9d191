"""An endpoint: what is sent, what comes back, and what servers do instead."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pixelprune import PixelPruneError, PruneSettings, prune, resize_image, smart_resize
from pixelprune.evaluate import Condition, Endpoint, conditions_of
from servers import completion, served

STOCK = Condition("stock")
PAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8))
PAGE.paste((255, 255, 255), (0, 100, 600, 400))


def test_pixels_arrive_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with served(lambda images, prompt: completion(f"{prompt}: {len(images)}", 77)) as server:
        engine = Endpoint(server.url, "qwen3_vl")
        answer = engine.answer("How many", [PAGE, PAGE], STOCK, length=9)
    assert (answer.text, answer.prompt_tokens, answer.finished) == ("How many: 2", 77, True)
    assert answer.tokens is None
    assert answer.prefill is None
    assert answer.sizes == ((600, 400), (600, 400))
    assert answer.seen == (smart_resize(400, 600, "qwen3_vl")[::-1],) * 2
    [images] = server.images
    assert [image.tobytes() for image in images] == [PAGE.tobytes()] * 2
    [body] = server.bodies
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0, 9)
    assert server.keys == [None]


def test_the_key_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with served(lambda *_: completion("")) as server:
        Endpoint(server.url, "qwen3_vl").answer("", [], STOCK, length=1)
    assert server.keys == ["Bearer secret"]


def test_shrunk_images_have_as_many_tokens_as_pruning_leaves() -> None:
    settings = PruneSettings(threshold=0.02)
    with served(lambda *_: completion("x", None, "length")) as server:
        engine = Endpoint(server.url, "qwen3_vl", model="named")
        counts = engine.count([PAGE], settings)
        answer = engine.answer("q", [PAGE], Condition("shrunk", settings), counts=counts, length=1)
    kept = prune(resize_image(PAGE, "qwen3_vl"), "qwen3_vl", settings=settings).kept
    assert counts == (kept,)
    [[image]] = server.images
    assert 0.7 * kept < image.width * image.height // 1024 <= kept
    assert image.width % 32 == image.height % 32 == 0
    assert (answer.finished, answer.prompt_tokens) == (False, None)
    assert server.bodies[0]["model"] == "named"


def test_a_second_server_prunes() -> None:
    with served(lambda *_: completion("stock")) as stock, served(lambda *_: completion("pruned"), ("p",)) as pruned:
        engine = Endpoint(stock.url, "qwen3_vl", pruned_url=pruned.url + "/")
        found = conditions_of("pred_2d@0", ["shrunk"])
        engine.check(found)
        said = [engine.answer("q", [PAGE], condition, counts=(9,), length=1).text for condition in found]
    assert said == ["stock", "pruned", "stock"]
    assert [body["model"] for body in pruned.bodies] == ["p"]
    assert engine.identity["models"] == ["p", "tiny"]
    assert engine.identity["spec"] != Endpoint("http://x", "qwen2_vl", model="p").identity["spec"]


@pytest.mark.parametrize(
    ("settings", "baselines", "pruned_url", "reason"),
    [
        ("pred_2d@0", ["random"], True, "random tokens can't be asked of an endpoint; expected --baselines shrunk"),
        ("pred_2d@0", [], False, "pred_2d@0 needs a server that prunes; expected --pruned-endpoint"),
        ("pred_2d@0,raster@0", [], True, "does so in one way, and 2 settings are given"),
    ],
)
def test_what_no_server_does_is_refused(settings: str, baselines: list[str], pruned_url: bool, reason: str) -> None:
    with served(lambda *_: completion("")) as server:
        engine = Endpoint(server.url, "qwen3_vl", pruned_url=server.url if pruned_url else None)
        with pytest.raises(PixelPruneError, match=reason):
            engine.check(conditions_of(settings, baselines))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, "out of memory"), "/chat/completions answers 500: out of memory"),
        ((404, ""), "answers 404: "),
        ("<html>", "does not answer in JSON"),
        ({"error": "no"}, "expected a chat completion"),
        ({"choices": []}, "expected a chat completion"),
        ([1], "expected a chat completion"),
    ],
)
def test_other_replies_are_one_sentence(reply: Any, reason: str) -> None:
    with served(lambda *_: reply) as server:
        engine = Endpoint(server.url, "qwen3_vl")
        with pytest.raises(PixelPruneError, match=reason):
            engine.answer("q", [PAGE], STOCK, length=1)


def test_an_answer_of_nothing_is_empty() -> None:
    reply = completion("")
    reply["choices"][0]["message"]["content"] = None
    with served(lambda *_: reply) as server:
        assert Endpoint(server.url, "qwen3_vl").answer("q", [], STOCK, length=1).text == ""


@pytest.mark.parametrize("models", [(), {"error": 1}, []])
def test_a_server_without_a_model_is_refused(models: Any) -> None:
    with served(lambda *_: "", models) as server, pytest.raises(PixelPruneError, match="lists no model"):
        Endpoint(server.url, "qwen3_vl")


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(PixelPruneError, match="can't be reached"):
        Endpoint(url, "qwen3_vl")
    with pytest.raises(PixelPruneError, match="is no address"):
        Endpoint("localhost", "qwen3_vl")


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(PixelPruneError, match=r"has not answered in 0.2 seconds|timed out"):
            Endpoint(url, "qwen3_vl", timeout=0.2)
