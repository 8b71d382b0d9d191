"""The files of the benchmarks that need no other package: TSV, annotations in JSON, folders."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pixelprune import PixelPruneError
from pixelprune.evaluate import Question, read_questions
from pixelprune.evaluate.questions import drawn, fingerprint


def png(colour: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(colour: str) -> str:
    return base64.b64encode(png(colour)).decode()


def tsv(path: Path, *rows: dict[str, str], end: str = "\n") -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if set(text) & set('\t\n"') else text

    lines = [names, *([cell(row.get(name, "")) for name in names] for row in rows)]
    path.write_bytes("".join("\t".join(line) + end for line in lines).encode())
    return path


def colours(questions: list[Question]) -> list[tuple[int, ...]]:
    return [image().getpixel((0, 0)) for question in questions for image in question.images]  # type: ignore[misc]


RED, GREEN, BLUE = (255, 0, 0), (0, 128, 0), (0, 0, 255)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_images_in_base64_and_references(tmp_path: Path, end: str) -> None:
    path = tsv(
        tmp_path / "a.tsv",
        {"index": "7", "image": encoded("red"), "question": "Which\tcolour\nis it?", "answer": "['red', 'Red']"},
        {"index": "8", "image": "9", "question": 'The "other"?', "answer": "green"},
        {"index": "9", "image": encoded("green"), "question": "q", "answer": "[green"},
        {"index": "10", "image": "", "question": "without an image", "answer": "x"},
        {"index": "11", "image": encoded("red"), "question": "ä", "answer": "['1']"},
        end=end,
    )
    questions = read_questions("docvqa", path)
    assert [question.id for question in questions] == ["7", "8", "9", "11"]
    assert colours(questions) == [RED, GREEN, GREEN, RED]
    assert [question.fields["answers"] for question in questions] == [["red", "Red"], ["green"], ["[green"], ["1"]]
    assert questions[0].prompt == "Which\tcolour\nis it?\nAnswer the question using a single word or phrase."
    assert questions[1].prompt.startswith('The "other"?')
    clusters = [question.cluster for question in questions]
    assert clusters[0] == clusters[3] != clusters[1] == clusters[2]


def test_several_images_and_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "blue.png").write_bytes(png("blue"))
    path = tsv(
        tmp_path / "a.tsv",
        {"index": "0", "image_path": "sub/blue.png", "question": "q", "answer": "a"},
        {"index": "1", "image_path": "['sub/blue.png', 'sub/blue.png']", "question": "q", "answer": "a"},
    )
    assert colours(read_questions("docvqa", path)) == [BLUE] * 3
    other = tsv(tmp_path / "b.tsv", {"index": "0", "image_path": "blue.png", "question": "q", "answer": "a"})
    assert colours(read_questions("docvqa", other, images=tmp_path / "sub")) == [BLUE]
    both = f"['{encoded('red')}', '{encoded('green')}']"
    listed = tsv(tmp_path / "c.tsv", {"index": "0", "image": both, "question": "q", "answer": "a"})
    assert colours(read_questions("docvqa", listed)) == [RED, GREEN]


def test_a_file_from_windows_with_a_mark_at_its_start(tmp_path: Path) -> None:
    path = tsv(tmp_path / "a.tsv", {"index": "0", "image": encoded("red"), "question": "q", "answer": "a"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert colours(read_questions("docvqa", path)) == [RED]


ROW = {"index": "0", "image": encoded("red"), "question": "q", "answer": "a"}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"index": "0", "image": "3", "question": "q", "answer": "a"}], "row 0 is '3', which is no row with an image"),
        ([{"index": "0", "image": "0", "question": "q", "answer": "a"}], "which is no row with an image"),
        ([{"index": "0", "image_path": "no.png", "question": "q", "answer": "a"}], "image 'no.png', which is not in"),
        ([{**ROW, "answer": ""}], "row 0 has no answers or answer; docvqa needs it .it has index, question"),
        ([{"index": "0", "image": encoded("red"), "text": "q"}], "has no question; docvqa needs it"),
        ([{"index": "0", "question": "q", "answer": "a"}], "row 0 has no image; expected a column image or image_path"),
        ([ROW, ROW], "two rows have the index 0"),
        ([{**ROW, "image": ""}], "has no questions"),
        ([{**ROW, "answer": "[]"}], "row 0 has no expected answer; expected at least one"),
    ],
)
def test_bad_rows_are_one_sentence(tmp_path: Path, rows: list[dict[str, str]], reason: str) -> None:
    with pytest.raises(PixelPruneError, match=reason):
        read_questions("docvqa", tsv(tmp_path / "a.tsv", *rows))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no columns that tabs separate"),
        (b"index,image,question,answer\n0,x,q,a\n", "has no columns that tabs separate"),
        (b"index\tquestion\n0\tq\tmore\n", "line 2 ends a row of 3 cells; expected 2"),
        (b"index\tquestion\n0\t\xff\n", "line 2 is not UTF-8"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(PixelPruneError, match=reason):
        read_questions("docvqa", tmp_path / "a.tsv")


def test_other_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a")
    for path, reason in (
        (tmp_path / "a.csv", "is no file of docvqa; expected a .tsv"),
        (tmp_path / "b", "does not exist"),
    ):
        with pytest.raises(PixelPruneError, match=reason):
            read_questions("docvqa", path)
    with pytest.raises(PixelPruneError, match="the task is 'gqa'; expected one of docvqa"):
        read_questions("gqa", tmp_path)
    with pytest.raises(PixelPruneError, match=r"expected \{question\} in it"):
        read_questions("docvqa", tmp_path, template="What?")


def test_damaged_images_are_told_when_they_are_needed(tmp_path: Path) -> None:
    row = {**ROW, "image": base64.b64encode(b"no image" * 20).decode()}
    [question] = read_questions("docvqa", tsv(tmp_path / "a.tsv", row))
    with pytest.raises(PixelPruneError):
        question.images[0]()


def test_the_harnesses_prompts(tmp_path: Path) -> None:
    options = {"A": "leaf", "B": "root", "C": "", "hint": "Look."}
    path = tsv(tmp_path / "a.tsv", {**ROW, "question": " Which? ", "answer": "B", **options})
    prompts = {
        (task, rules): read_questions(task, path, rules=rules)[0].prompt  # type: ignore[arg-type]
        for task in ("chartqa", "ai2d", "ocrbench")
        for rules in ("lmms-eval", "vlmevalkit")
    }
    assert prompts == {
        ("chartqa", "lmms-eval"): " Which? \nAnswer the question with a single word.",
        ("chartqa", "vlmevalkit"): " Which? \nAnswer the question using a single word or phrase.",
        (
            "ai2d",
            "lmms-eval",
        ): " Which? \nA. leaf\nB. root\nAnswer with the option's letter from the given choices directly.",
        ("ai2d", "vlmevalkit"): "Hint: Look.\nQuestion:  Which? \nOptions:\nA. leaf\nB. root\n"
        "Please select the correct answer from the options above. \n",
        ("ocrbench", "lmms-eval"): "Which?",
        ("ocrbench", "vlmevalkit"): " Which? ",
    }
    assert read_questions("docvqa", path, template="Q: {question}\nA:")[0].prompt == "Q:  Which? \nA:"


def annotations(folder: Path, **changes: Any) -> Path:
    (folder / "screenspotv2_image").mkdir(exist_ok=True)
    (folder / "screenspotv2_image" / "s.png").write_bytes(png("blue", (400, 300)))
    entry = {"img_filename": "s.png", "bbox": [42, 110, 19, 7], "instruction": "go back", "data_type": "icon"}
    (folder / "v2.json").write_text(json.dumps([{**entry, **changes}]))
    return folder / "v2.json"


def test_screenspot(tmp_path: Path) -> None:
    [question] = read_questions("screenspot", annotations(tmp_path), points="thousand")
    assert (question.id, question.kind, question.fields["box_form"]) == ("v2-0", "icon", "xywh")
    assert colours([question]) == [BLUE]
    assert "go back" in question.prompt
    assert "integers from 0 to 1000" in question.prompt
    [question] = read_questions("screenspot", annotations(tmp_path), rules="vlmevalkit")
    assert "pyautogui.click(x=" in question.prompt


def test_screenspot_pro(tmp_path: Path) -> None:
    for folder in ("annotations", "images/app"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "images" / "app" / "s.png").write_bytes(png("red"))
    for name, bbox in (("b", [1, 2, 30, 20]), ("a", "[1, 2, 30, 20]")):
        entry = {"img_filename": "app/s.png", "bbox": bbox, "instruction": "go", "ui_type": "text"}
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps([entry]))
    questions = read_questions("screenspot_pro", tmp_path)
    assert [(one.id, one.kind, one.fields["box_form"]) for one in questions] == [
        ("a-0", "text", "xyxy"),
        ("b-0", "text", "xyxy"),
    ]
    assert questions[0].cluster == questions[1].cluster


@pytest.mark.parametrize(
    ("changes", "rules", "reason"),
    [
        ({"img_filename": "t.png"}, "lmms-eval", "entry 0 of .* has the image 't.png', which is not in"),
        ({"bbox": [1, 2, 3]}, "lmms-eval", "has the box .1, 2, 3.; expected four numbers"),
        ({"bbox": "here"}, "lmms-eval", "has the box 'here'; expected four numbers"),
        ({"bbox": [0.1, 0.2, 0.3, 0.4]}, "vlmevalkit", "which is not in pixels"),
        ({"instruction": None}, "lmms-eval", "row v2-0 has no instruction or question; screenspot needs it"),
    ],
)
def test_bad_annotations_are_one_sentence(tmp_path: Path, changes: dict[str, Any], rules: Any, reason: str) -> None:
    with pytest.raises(PixelPruneError, match=reason):
        read_questions("screenspot", annotations(tmp_path, **changes), rules=rules)


@pytest.mark.parametrize("text", ["{", '{"img_filename": "a"}', "[1]", "[{}]"])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(PixelPruneError, match=r"is not JSON|is not a list of objects with img_filename"):
        read_questions("screenspot", tmp_path / "a.json")
    with pytest.raises(PixelPruneError, match="has no annotations"):
        read_questions("screenspot_pro", tmp_path)


def olmocr(folder: Path, *lines: str) -> Path:
    (folder / "pdfs").mkdir()
    for name in ("a.pdf", "b.pdf"):
        (folder / "pdfs" / name).write_bytes(b"%PDF")
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n\n")
    return folder


def line(pdf: str, page: int, kind: str, **fields: Any) -> str:
    return json.dumps({"pdf": pdf, "page": page, "id": f"{pdf}{page}{kind}", "type": kind, **fields})


def test_olmocr(tmp_path: Path) -> None:
    folder = olmocr(
        tmp_path,
        line("b.pdf", 1, "present", text="x"),
        line("a.pdf", 2, "baseline"),
        line("a.pdf", 1, "absent", text="y"),
        line("b.pdf", 1, "absent", text="y"),
    )
    questions = read_questions("olmocr", folder)
    assert [question.id for question in questions] == ["a.pdf#1", "a.pdf#2", "b.pdf#1"]
    kinds = [[(group, test["type"]) for group, test in question.fields["tests"]] for question in questions]
    text = "text.jsonl"
    assert kinds == [
        [(text, "absent")],
        [(text, "baseline")],  # a.pdf has its own
        [(text, "present"), (text, "absent"), ("baseline", "baseline")],
    ]
    assert fingerprint(questions) == fingerprint(read_questions("olmocr", folder))
    assert fingerprint(questions) != fingerprint(read_questions("olmocr", folder, dpi=72))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1 is no check"),
        ('{"pdf": "a.pdf"}', "line 1 is no check"),
        ("[]", "line 1 is no check"),
        (line("c.pdf", 1, "present"), "c.pdf is not there; text.jsonl has checks of it"),
        ("", "has no questions"),
    ],
)
def test_bad_checks_are_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(PixelPruneError, match=reason):
        read_questions("olmocr", olmocr(tmp_path, text))


def test_a_folder_without_checks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PixelPruneError, match="has no pdfs folder"):
        read_questions("olmocr", tmp_path)


def test_a_draw_is_part_of_a_larger_one_and_in_order() -> None:
    questions = [Question(str(i), "", (), {}, str(i)) for i in range(100)]
    few, more = ([int(one.id) for one in drawn(questions, limit, seed=3)] for limit in (10, 40))
    assert len(few) == 10
    assert set(few) < set(more)
    assert few == sorted(few) != list(range(10))
    assert [int(one.id) for one in drawn(questions, 10, seed=4)] != few
    assert drawn(questions, None, 0) == drawn(questions, 100, 0) == questions


def test_the_fingerprint_is_that_of_what_is_asked() -> None:
    def of(prompt: str = "p", cluster: str = "c", **fields: Any) -> str:
        return fingerprint([Question("0", prompt, (), {"answer": "a", **fields}, cluster)])

    assert of() == of()
    assert len({of(), of(prompt="q"), of(cluster="d"), of(answer="b"), of(more=1)}) == 5
