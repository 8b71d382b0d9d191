"""The file of all answers, ``answers.jsonl``: written as they come, and read again by a run that goes on."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..arguments import shown
from ..errors import PixelPruneError
from .questions import Answer

FILE = "answers.jsonl"


class AnswerFile:
    """A JSONL file whose first line says what the answers depend on.

    A last line that was cut as it was written is dropped. Each answer is on disk before the next is asked for.

    Args:
        path: the file.
        made_with: what the answers depend on: values of JSON by name.

    Raises:
        PixelPruneError: the file was made with something else, or is not such a file.
        OSError: it can't be read or written.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.evaluate.answers import AnswerFile
        >>> from pixelprune.evaluate.questions import Answer
        >>> with AnswerFile(Path("answers.jsonl"), {"model": "a"}) as answers:
        ...     answers.add("1", "stock", Answer("yes"))
        >>> with AnswerFile(Path("answers.jsonl"), {"model": "a"}) as answers:
        ...     answers["1", "stock"].text
        'yes'
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        self.path = path
        self._answers: dict[tuple[str, str], Answer] = {}
        header = {"pixelprune_eval": json.loads(json.dumps(made_with))}
        self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        try:
            whole = self._read(header)
            self._file.truncate(whole)
            self._file.seek(whole)
            if whole == 0:
                self._write(header)
        except BaseException:
            self._file.close()
            raise

    def _read(self, header: Mapping[str, Any]) -> int:
        """Read the answers; return the length of the whole lines."""
        whole = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                found = json.loads(line)
                if number == 1:
                    self._compare(found["pixelprune_eval"], header["pixelprune_eval"])
                else:
                    self._keep(found)
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, PixelPruneError):
                    raise
                raise PixelPruneError(
                    f"{self.path}: line {number} is no answer; expected a file of this command"
                ) from None
            whole += len(line)
        return whole

    def _compare(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        for name in {**wanted, **found}:
            if found.get(name) != wanted.get(name):
                raise PixelPruneError(
                    f"{self.path} has answers made with {name} {shown(found.get(name))}; now it is "
                    f"{shown(wanted.get(name))}: expected another folder, or the same settings"
                )

    def _keep(self, found: Any) -> None:
        key = (found.pop("question"), found.pop("condition"))
        for name in ("sizes", "seen"):
            if found[name] is not None:
                found[name] = tuple((width, height) for width, height in found[name])
        if found["tokens"] is not None:
            found["tokens"] = tuple(found["tokens"])
        self._answers.setdefault(key, Answer(**found))

    def _write(self, value: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()

    def add(self, question: str, condition: str, answer: Answer) -> None:
        """Add an answer.

        Args:
            question: the question's id.
            condition: the condition's name.
            answer: what was said.
        """
        self._write({"question": question, "condition": condition, **dataclasses.asdict(answer)})
        self._answers[question, condition] = answer

    def __contains__(self, key: object) -> bool:
        return key in self._answers

    def __getitem__(self, key: tuple[str, str]) -> Answer:
        return self._answers[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
