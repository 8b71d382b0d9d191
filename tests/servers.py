"""A small server that speaks the chat completions of OpenAI, for tests."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Reply = Callable[[list[Image.Image], str], Any]


class Served:
    """What arrived: the images, the prompts, and the bodies of the requests."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.images: list[list[Image.Image]] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""


def completion(text: str, tokens: int | None = 7, finish: str = "stop") -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], **({} if tokens is None else {"usage": {"prompt_tokens": tokens}})}


@contextmanager
def served(reply: Reply, models: Any = ("tiny",)) -> Iterator[Served]:
    """Run the server; ``reply`` gets the images and the prompt, and returns JSON, a text, or a status and a text."""
    known = Served(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            self.send({"data": [{"id": name} for name in models]} if isinstance(models, tuple) else models)

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known.bodies.append(body)
            known.keys.append(self.headers["Authorization"])
            [message] = body["messages"]
            images, prompt = [], ""
            for part in message["content"]:
                if part["type"] == "image_url":
                    kind, _, data = part["image_url"]["url"].partition(";base64,")
                    assert kind == "data:image/png"
                    image = Image.open(io.BytesIO(base64.b64decode(data)))
                    assert image.format == "PNG"
                    images.append(image)
                else:
                    prompt = part["text"]
            known.images.append(images)
            self.send(known.reply(images, prompt))

        def send(self, content: Any) -> None:
            status, content = content if isinstance(content, tuple) else (200, content)
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield known
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
