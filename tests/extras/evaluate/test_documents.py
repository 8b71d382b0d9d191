"""Parquet files of data sets, and pages of PDFs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from pixelprune import PixelPruneError
from pixelprune.evaluate import Answer, Question, conditions_of, evaluate, read_questions

for package in ("pyarrow", "pypdfium2"):
    pytest.importorskip(package)

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(colour: str, kind: str = "PNG", pages: int = 1) -> bytes:
    buffer = io.BytesIO()
    sheets = [Image.new("RGB", (144, 72), colour if at == 0 else "blue") for at in range(pages)]
    more = {"save_all": True, "append_images": sheets[1:], "resolution": 72} if kind == "PDF" else {}
    sheets[0].save(buffer, kind, **more)
    return buffer.getvalue()


def write(path: Path, *rows: dict[str, Any], group: int = 2) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=group)
    return path


def image(colour: str) -> dict[str, Any]:
    return {"bytes": encoded(colour), "path": None}


def colour(found: Image.Image) -> tuple[int, ...]:
    """The colour of an image, which in a PDF was a JPEG."""
    return tuple(5 * round(level / 5) for level in found.getpixel((30, 30)))  # type: ignore[union-attr]


def colours(questions: list[Question]) -> list[Any]:
    return [colour(load()) for question in questions for load in question.images]


def test_parquet(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        {"questionId": "9", "question": "q", "image": image("red"), "answers": ["a", "b"]},
        {"questionId": "9", "question": "q", "image": image("blue"), "answers": ["[c"]},
        {"questionId": "9", "question": "q", "image": image("red"), "answers": ["d"]},
    )
    questions = read_questions("docvqa", path)
    assert [question.id for question in questions] == ["0", "1", "2"]
    assert colours(questions) == [RED, BLUE, RED]
    assert colours(questions[::-1]) == [RED, BLUE, RED]
    assert questions[0].cluster == questions[2].cluster != questions[1].cluster
    assert [question.fields["answers"] for question in questions] == [["a", "b"], ["[c"], ["d"]]


def test_a_folder_of_parquet_files_with_paths_of_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "red.png").write_bytes(encoded("red"))
    row = {"question": "q", "answer": "['not a list here']", "type": "human_test"}
    write(tmp_path / "data" / "b.parquet", {**row, "image": encoded("blue")})
    write(tmp_path / "data" / "a.parquet", {**row, "image": "red.png"})
    questions = read_questions("chartqa", tmp_path / "data", images=tmp_path)
    assert colours(questions) == [RED, BLUE]
    assert questions[0].fields["answers"] == ["['not a list here']"]
    assert questions[0].kind == "human_test"


def test_options_and_boxes(tmp_path: Path) -> None:
    [question] = read_questions(
        "ai2d",
        write(
            tmp_path / "a.parquet", {"question": "q", "options": ["leaf", "root"], "answer": "1", "image": image("red")}
        ),
    )
    assert question.prompt.startswith("q\nA. leaf\nB. root\n")
    screen = {"instruction": "go", "bbox": [0.1, 0.2, 0.3, 0.4], "data_type": "text", "image": image("red")}
    [question] = read_questions("screenspot", write(tmp_path / "b.parquet", screen))
    assert question.fields["box_form"] == "guess"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no parquet", "is not parquet"), (b"", "is not parquet")],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(PixelPruneError, match=reason):
        read_questions("docvqa", tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q", "image": "no.png", "answer": "a"}, "image 'no.png', which is not in"),
        ({"question": "q", "answer": "a"}, "row 0 has no image"),
        ({"question": "q", "image": image("red"), "answer": None}, "row 0 has no answers or answer"),
    ],
)
def test_bad_rows_are_one_sentence(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(PixelPruneError, match=reason):
        read_questions("docvqa", write(tmp_path / "a.parquet", row))


def test_evidence_pages_of_a_document(tmp_path: Path) -> None:
    pdf = base64.b64encode(encoded("red", "PDF", pages=3)).decode()
    lines = ["index\timage\timage_path\tquestion\tanswer\tanswer_format\tevidence_pages"]
    for index, pages in enumerate(("[2, 1, 2]", "[]", "[7]")):
        lines.append(f"{index}\t{pdf}\t['d_1.jpg']\tq\t5\tInt\t{pages}")
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n")
    questions = read_questions("mmlongbench", tmp_path / "a.tsv")
    assert [len(question.images) for question in questions] == [2, 0, 1]
    assert colours(questions[:1]) == [BLUE, RED]
    assert questions[0].images[0]().size == (288, 144)  # 144 dots per inch
    assert questions[0].cluster == questions[1].cluster
    with pytest.raises(PixelPruneError, match="has 3 pages; expected page 7 among them"):
        questions[2].images[0]()


def test_documents_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "d.pdf").write_bytes(encoded("red", "PDF"))
    row = {"doc_id": "d.pdf", "question": "q", "answer": "5", "answer_format": "Int", "evidence_pages": "[1]"}
    path = write(tmp_path / "a.parquet", row, {**row, "evidence_pages": "[]"})
    questions = read_questions("mmlongbench", path, images=tmp_path, dpi=72)
    assert colours(questions) == [RED]
    assert questions[0].images[0]().size == (144, 72)
    with pytest.raises(PixelPruneError, match=r"is about d\.pdf, and no folder is given; expected --images"):
        read_questions("mmlongbench", path)
    bad = write(tmp_path / "b.parquet", {**row, "evidence_pages": "page 1"})
    with pytest.raises(PixelPruneError, match="row 0 has evidence_pages 'page 1'; expected a list of numbers"):
        read_questions("mmlongbench", bad, images=tmp_path)


class Reader:
    """Says the same of every image."""

    device, points = "", None

    def __init__(self, text: str) -> None:
        self.text = text
        self.identity = {"text": text}
        self.colours: list[Any] = []

    def check(self, *_: Any) -> None:
        """Everything is read."""

    def answer(self, prompt: str, images: Any, condition: Any, **_: Any) -> Answer:
        self.colours += [colour(image) for image in images]
        return Answer(self.text)


def test_what_a_judge_would_read_is_counted_and_not_scored(tmp_path: Path) -> None:
    fields = {"answer": "1", "answer_format": "Int", "evidence_pages": "[]"}
    given = [Question(str(i), "q", (), fields, "") for i in range(5)]
    found: Any = conditions_of("pred_2d@0", [])
    reader: Any = Reader("1")
    summary = evaluate("mmlongbench", given, reader, found, tmp_path / "a", rules="vlmevalkit")
    assert (summary.scored, summary.not_scored[0]) == (0, 5)
    assert summary.lines[1].score is None
    assert summary.verdict.startswith("no verdict: nothing could be scored (VLMEvalKit has a judge model extract")
    assert "not scored: 5 (VLMEvalKit has a judge" in summary.as_markdown()
    assert evaluate("mmlongbench", given, reader, found, tmp_path / "b").lines[0].score == 100


def test_a_page_of_the_bench_and_its_score(tmp_path: Path) -> None:
    """The mean over files of their pass rates; formulas are left out and counted."""
    for package in ("rapidfuzz", "fuzzysearch", "bs4"):
        pytest.importorskip(package)
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs" / "a.pdf").write_bytes(encoded("red", "PDF"))
    head = '{"pdf": "a.pdf", "page": 1, "id": "1", '
    texts = [
        '"type": "present", "text": "total"}',
        '"type": "present", "text": "page"}',
        '"type": "absent", "text": "x"}',
    ]
    (tmp_path / "text.jsonl").write_text("\n".join(head + text for text in texts))
    (tmp_path / "math.jsonl").write_text(head + '"type": "math", "math": "x^2"}')
    [question] = read_questions("olmocr", tmp_path)

    reader: Any = Reader("the total")
    summary = evaluate("olmocr", [question], reader, conditions_of("pred_2d@0", []), tmp_path / "out")
    assert reader.colours == [RED, RED]
    assert summary.scored == 4
    assert summary.not_scored[0] == 1
    assert "KaTeX" in summary.not_scored[1]
    assert summary.lines[0].score == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert summary.lines[0].kinds == {"text.jsonl": pytest.approx(200 / 3), "baseline": 100}


def test_other_bytes_are_no_document(tmp_path: Path) -> None:
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs" / "a.pdf").write_bytes(b"no PDF")
    (tmp_path / "a.jsonl").write_text('{"pdf": "a.pdf", "page": 1, "type": "baseline"}')
    [question] = read_questions("olmocr", tmp_path)
    with pytest.raises(PixelPruneError, match=r"a\.pdf: not a PDF, or a damaged one"):
        question.images[0]()


def test_a_page_of_a_huge_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs" / "a.pdf").write_bytes(encoded("red", "PDF"))
    (tmp_path / "a.jsonl").write_text('{"pdf": "a.pdf", "page": 1, "type": "baseline"}')
    [question] = read_questions("olmocr", tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PixelPruneError, match=r"a\.pdf: page 1 has 288 x 144 pixels at 144 dpi; expected at most 2000"):
        question.images[0]()


def test_pages_are_drawn_as_they_are(tmp_path: Path) -> None:
    sheet = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(sheet).rectangle((100, 0, 199, 99), fill="red")
    (tmp_path / "pdfs").mkdir()
    sheet.save(tmp_path / "pdfs" / "a.pdf", "PDF", resolution=144, quality=95)
    (tmp_path / "a.jsonl").write_text('{"pdf": "a.pdf", "page": 1, "type": "baseline"}')
    [load] = read_questions("olmocr", tmp_path)[0].images
    assert load().size == (200, 100)
    assert load().getpixel((20, 50)) == (255, 255, 255)
    red, green, blue = load().getpixel((180, 50))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 15
