"""From the files of a benchmark to its questions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..arguments import shown
from ..errors import PixelPruneError
from . import prompts
from .files.olmocr import read_olmocr
from .files.pages import decode, render_page
from .files.parquet import read_parquet
from .files.screenspot import read_annotations, read_pro
from .files.tsv import read_tsv, texts
from .metrics.points import Points
from .metrics.rules import Rules
from .questions import Question
from .rows import Row
from .scoring import box_numbers
from .tasks import TASKS, Task


def read_questions(
    task: str,
    path: Path,
    *,
    images: Path | None = None,
    rules: Rules = "lmms-eval",
    points: Points = "harness",
    template: str | None = None,
    dpi: float = 144,
) -> list[Question]:
    """Read the questions of a benchmark from the files that the harnesses read.

    Args:
        task: a key of `TASKS`.
        path: a TSV file of VLMEvalKit, a parquet file or a folder of them, the JSON file of ScreenSpot v2, the folder
            of ScreenSpot-Pro, or the folder of olmOCR-bench.
        images: the folder with the images, where they are files; for ``"mmlongbench"`` the folder with the PDFs.
        rules: whose prompts.
        points: what coordinates the prompt asks for.
        template: a prompt in place of the harness's, with ``{question}`` in it.
        dpi: pixels per inch of rendered PDFs.

    Raises:
        PixelPruneError: the file is not what the benchmark needs.
        ImportError: a package that reads it is missing.
        OSError: it can't be read.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.evaluate import read_questions
        >>> _ = Path("images.tsv").write_text("index\\timage_path\\tquestion\\tanswer\\n1\\tpage.png\\tTotal?\\t12\\n")
        >>> _ = Path("page.png").write_bytes(b"")
        >>> read_questions("docvqa", Path("images.tsv"))[0].fields["answers"]
        ['12']
    """
    if task not in TASKS:
        raise PixelPruneError(f"the task is {shown(task)}; expected one of {', '.join(TASKS)}")
    found = TASKS[task]
    if template is not None and "{question}" not in template:
        raise PixelPruneError(f"the prompt is {shown(template)}; expected {{question}} in it")
    rows = _read(task, path, images)
    if not rows:
        raise PixelPruneError(f"{path} has no questions")
    _check(found, rows, path)
    questions = []
    for row in rows:
        prompt = found.prompt(row.fields, rules, points)
        if template is not None:
            prompt = template.replace("{question}", str(row.fields.get("question", row.fields.get("instruction", ""))))
        kind = next((str(row.fields[name]) for name in found.kinds if name in row.fields), "")
        cluster = row.blobs[0].key if row.blobs else str(row.fields.get("doc_id", row.id))
        fields = row.fields
        if ("answers", "answer") in found.needs:
            fields = {**fields, "answers": _answers(row, path)}
        if "bbox" in found.needs:
            fields = {**fields, "box_form": _box_form(task, row, path, rules)}
        if task in ("olmocr", "mmlongbench"):  # answers about pages of another size are not mixed with these
            fields = {**fields, "dpi": dpi}
        questions.append(Question(row.id, prompt, _images(task, row, path, images, dpi), fields, cluster, kind))
    return questions


def _answers(row: Row, path: Path) -> list[str]:
    """The expected answers: those of a list, one text, or in a TSV a text that is written as a list."""
    value = row.fields["answers"] if "answers" in row.fields else row.fields["answer"]
    if path.suffix == ".tsv":
        found = texts(value)
    else:
        found = [str(one) for one in value] if isinstance(value, list) else [str(value)]
    if not found:
        raise PixelPruneError(f"{path}: row {row.id} has no expected answer; expected at least one")
    return found


def _box_form(task: str, row: Row, path: Path, rules: Rules) -> str:
    """How the box of a row is written; the rows that lmms-eval reads say so by their numbers only."""
    try:
        numbers = box_numbers(row.fields)
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise PixelPruneError(f"{path}: row {row.id} has the box {shown(row.fields['bbox'])}; expected four numbers")
    if rules == "vlmevalkit" and max(numbers) <= 1:
        raise PixelPruneError(
            f"{path}: row {row.id} has the box {numbers}, which is not in pixels; VLMEvalKit's boxes are: expected "
            "--rules lmms-eval"
        )
    if task == "screenspot_pro":
        return "xyxy"
    return "xywh" if path.suffix in (".tsv", ".json") or rules == "vlmevalkit" else "guess"


def _read(task: str, path: Path, images: Path | None) -> list[Row]:
    if not path.exists():
        raise PixelPruneError(f"{path} does not exist")
    if task == "olmocr":
        return read_olmocr(path)
    if path.suffix == ".tsv":
        return read_tsv(path, images)
    if path.suffix == ".parquet" or (path.is_dir() and any(path.glob("**/*.parquet"))):
        return read_parquet(path, images)
    if task == "screenspot" and path.suffix == ".json":
        return read_annotations(path, images)
    if task == "screenspot_pro" and path.is_dir():
        return read_pro(path, images)
    own = {"screenspot": ", its JSON file", "screenspot_pro": ", its folder with annotations"}.get(task, "")
    raise PixelPruneError(f"{path} is no file of {task}; expected a .tsv of VLMEvalKit, .parquet{own}")


def _check(task: Task, rows: Sequence[Row], path: Path) -> None:
    """Refuse rows that lack a field or an image, and ids that are not unique."""
    seen = set()
    for row in rows:
        for need in task.needs:
            names = (need,) if isinstance(need, str) else need
            if all(row.fields.get(name) is None for name in names):
                raise PixelPruneError(
                    f"{path}: row {row.id} has no {' or '.join(names)}; {task.name} needs it (it has "
                    f"{', '.join(map(str, row.fields))})"
                )
        if not row.blobs and task.name != "mmlongbench":
            raise PixelPruneError(f"{path}: row {row.id} has no image; expected a column image or image_path")
        if row.id in seen:
            raise PixelPruneError(f"{path}: two rows have the index {row.id}; expected unique ones")
        seen.add(row.id)


def _images(task: str, row: Row, path: Path, folder: Path | None, dpi: float) -> tuple[Callable[[], Any], ...]:
    if task == "olmocr":
        return (functools.partial(render_page, row.blobs[0], row.fields["page"], dpi),)
    if task == "mmlongbench":
        try:
            pages = list(dict.fromkeys(int(page) for page in texts(row.fields["evidence_pages"])))
        except ValueError:
            found = shown(row.fields["evidence_pages"])
            raise PixelPruneError(
                f"{path}: row {row.id} has evidence_pages {found}; expected a list of numbers"
            ) from None
        pages = [page for page in pages if page > 0]
        if not pages:
            return ()
        blob = row.blobs[0] if row.blobs else prompts.document_blob(row, folder)
        return tuple(functools.partial(render_page, blob, page, dpi) for page in pages)
    return tuple(functools.partial(decode, blob) for blob in row.blobs)
