"""A server that speaks the chat completions of OpenAI."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image

from ...arguments import shown, text_of
from ...errors import PixelPruneError
from ...images.resizing import resize_image
from ...selection.pruning import prune
from ...selection.settings import PruneSettings
from ...spec import VisionSpec, as_spec, smart_resize
from ..conditions import Condition
from ..metrics.points import Points
from ..questions import Answer
from ..shrinking import shrink

KEY = "OPENAI_API_KEY"
"""The environment variable with the key of the server."""


class Endpoint:
    """A server, which prunes or does not: that can't be told from here.

    Images are sent as PNG, so that pixels arrive as they are. A pruned condition is asked of a second server. For the
    shrunk images, this machine counts the tokens that the settings would keep.

    Args:
        url: of the server that does not prune, such as ``"http://localhost:8000/v1"``.
        spec: how the served model cuts images into tokens: a `VisionSpec` or the name of a preset.
        pruned_url: of the server that prunes; None if there is none.
        model: its name; None: the first that the server lists.
        timeout: seconds to wait for an answer.

    Attributes:
        identity: see `Engine`.
        device: the address.
        points: None: what coordinates are has to be told.

    Raises:
        PixelPruneError: the server can't be reached, or lists no model.

    Example:
        >>> from pixelprune.evaluate import Endpoint
        >>> Endpoint("localhost:8000", "qwen3_vl")
        Traceback (most recent call last):
        pixelprune.errors.PixelPruneError: 'localhost:8000' is no address; expected one like http://localhost:8000/v1
    """

    points: Points | None = None

    def __init__(
        self,
        url: str,
        spec: VisionSpec | str,
        *,
        pruned_url: str | None = None,
        model: str | None = None,
        timeout: float = 600,
    ) -> None:
        for address in (url, pruned_url or url):
            if not address.startswith(("http://", "https://")):
                raise PixelPruneError(f"{shown(address)} is no address; expected one like http://localhost:8000/v1")
        self._timeout = timeout
        self._urls = {"stock": url.rstrip("/"), "shrunk": url.rstrip("/"), "pruned": (pruned_url or "").rstrip("/")}
        self._spec = as_spec(spec)
        self._models = {address: model or self._first_model(address) for address in self._urls.values() if address}
        self.device = url
        self.identity: Mapping[str, Any] = {
            "endpoint": url,
            "pruned_endpoint": pruned_url,
            "models": sorted(set(self._models.values())),
            "spec": asdict(self._spec),
        }

    def check(self, conditions: Sequence[Condition]) -> None:
        """Refuse what no server does for us; see `Engine`."""
        pruned = [condition.name for condition in conditions if condition.kind == "pruned"]
        if any(condition.kind == "random" for condition in conditions):
            raise PixelPruneError(
                "random tokens can't be asked of an endpoint; expected --baselines shrunk, or --model"
            )
        if pruned and not self._urls["pruned"]:
            raise PixelPruneError(f"{pruned[0]} needs a server that prunes; expected --pruned-endpoint")
        if len(pruned) > 1:
            raise PixelPruneError(
                f"the server that prunes does so in one way, and {len(pruned)} settings are given; expected one"
            )

    def count(self, images: Sequence[Image.Image], settings: PruneSettings) -> tuple[int, ...]:
        """Return how many tokens the settings keep of each image, by this machine's count; see `Engine`."""
        return tuple(prune(resize_image(image, self._spec), self._spec, settings=settings).kept for image in images)

    def answer(
        self,
        prompt: str,
        images: Sequence[Image.Image],
        condition: Condition,
        *,
        counts: Sequence[int] = (),
        length: int,
        seed: int = 0,
    ) -> Answer:
        """Answer one question; see `Engine`."""
        sizes = tuple(image.size for image in images)
        sent = list(images)
        if condition.kind == "shrunk":
            sent = [shrink(image, tokens, self._spec) for image, tokens in zip(images, counts, strict=True)]
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data(image)}} for image in sent]
        content.append({"type": "text", "text": prompt})
        url = self._urls[condition.kind]
        body = {
            "model": self._models[url],
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": length,
        }
        start = time.perf_counter()
        reply = self._ask(f"{url}/chat/completions", body)
        seconds = time.perf_counter() - start
        try:
            choice = reply["choices"][0]
            return Answer(
                text=choice["message"]["content"] or "",
                sizes=sizes,
                seen=tuple(smart_resize(image.height, image.width, self._spec)[::-1] for image in sent),
                prompt_tokens=(reply.get("usage") or {}).get("prompt_tokens"),
                seconds=seconds,
                finished=choice.get("finish_reason") != "length",
            )
        except (KeyError, IndexError, TypeError, AttributeError):
            raise PixelPruneError(f"{url} answers {shown(reply)}; expected a chat completion") from None

    def _first_model(self, url: str) -> str:
        reply = self._ask(f"{url}/models")
        try:
            return str(reply["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise PixelPruneError(f"{url} lists no model; expected one, or --served-model") from None

    def _ask(self, url: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {os.environ[KEY]}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=self._timeout) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                said = text_of(error.read(400).decode("utf-8", "replace"))
            raise PixelPruneError(f"{url} answers {error.code}: {said}") from None
        except urllib.error.URLError as error:
            raise PixelPruneError(f"{url} can't be reached ({text_of(error.reason)})") from None
        except TimeoutError:
            raise PixelPruneError(f"{url} has not answered in {self._timeout:g} seconds") from None
        except OSError as error:
            raise PixelPruneError(f"{url} has broken off ({text_of(error)})") from None
        except ValueError:
            raise PixelPruneError(f"{url} does not answer in JSON") from None


def _data(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
