"""What is kept in the folder of a run: its settings, the trained models, and the answers, each as it is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pixelprune.files.whole import write_text, write_whole

from .network import make_model

Key = tuple[str, int, str, str]
"""Training regime, seed, kind of pages, way."""


class State:
    """The folder of a run. Nothing in it is computed twice."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        stored = folder / "settings.json"
        if stored.exists():
            found = json.loads(stored.read_text())
            if found != settings:
                raise SystemExit(f"{folder} was made with {found}, now they are {settings}; give another --out")
        else:
            write_text(stored, json.dumps(settings, indent=1) + "\n")
        self._answers = folder / "answers.jsonl"
        self.results: dict[Key, dict[str, Any]] = {}
        if self._answers.exists():
            self._read()

    def _read(self) -> None:
        whole = self._answers.read_bytes()
        lines = whole[: whole.rfind(b"\n") + 1]  # the last one may have been cut off
        if len(lines) < len(whole):
            write_whole(self._answers, lambda file: file.write(lines))
        for line in lines.splitlines():
            found = json.loads(line)
            self.results[(found["regime"], found["seed"], found["kind"], found["way"])] = found["result"]

    def model(self, regime: str, seed: int, train: Callable[[], Any]) -> Any:
        """The stored model, or the one that `train` returns, which is stored."""
        path = self.folder / f"{regime}-{seed}.pt"
        if path.exists():
            model = make_model(seed)
            model.load_state_dict(torch.load(path, weights_only=True))
            return model.eval()
        model = train()
        write_whole(path, lambda file: torch.save(model.state_dict(), file))
        return model

    def add(self, key: Key, result: dict[str, Any]) -> None:
        """Keep a result."""
        self.results[key] = result
        line = json.dumps({**dict(zip(("regime", "seed", "kind", "way"), key, strict=True)), "result": result})
        with self._answers.open("a") as file:
            file.write(line + "\n")
