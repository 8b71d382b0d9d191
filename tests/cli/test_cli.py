"""The command line: figures as `prune` gives them, images where they were asked for, one line per error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pixelprune.cli.show
import pytest
from PIL import Image
from pixelprune import cli
from pixelprune.images.decode import load_image
from pixelprune.images.resizing import resize_image


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def page(here: Path) -> str:
    """An image that prunes well and is resized (300 x 270 becomes 288 x 256 for qwen3_vl)."""
    pixels = np.full((270, 300, 3), 250, np.uint8)
    pixels[40:90, 30:200] = np.arange(170, dtype=np.uint8)[:, None]
    pixels[150:170, 100:290] = 12
    Image.fromarray(pixels).save("page.png")
    return "page.png"


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def figures(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code, out, err = run(capsys, "show", *argv, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def refused(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 1) -> str:
    """The one line that an error takes, and nothing on stdout."""
    found, out, err = run(capsys, *argv)
    assert (found, out) == (code, "")
    assert err.startswith("pixelprune: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    return err


# --- show ------------------------------------------------------------------------------------------------


def test_without_an_image_the_sample_page_is_shown(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    code, out, err = run(capsys, "show")
    assert (code, err) == (0, "")
    assert out.startswith("sample page: ")
    assert os.listdir(here) == ["pixelprune-demo.png"]
    report = figures(capsys)
    assert report["image"] is None
    assert 0.2 <= report["retained"] <= 0.5
    for line in (f"tokens       {report['tokens']} ", f"kept         {report['kept']} "):
        assert line in out
    with Image.open("pixelprune-demo.png") as shown:
        assert shown.width == report["size"][0]
        assert shown.height > report["size"][1]


def test_the_sample_page_is_small_and_needs_no_resampling() -> None:
    data = (resources.files("pixelprune") / "data" / "page.png").read_bytes()
    assert len(data) < 80_000
    image = load_image(data)
    assert resize_image(image, "qwen3_vl").tobytes() == image.tobytes()


def test_the_figures_are_those_of_prune(capsys: pytest.CaptureFixture[str], page: str, here: Path) -> None:
    image = resize_image(load_image(page), "qwen3_vl")
    selection = pp.prune(image, "qwen3_vl")
    report = figures(capsys, page)
    assert report["original_size"] == [300, 270]
    assert report["size"] == [288, 256]
    assert (report["tokens"], report["kept"]) == (72, selection.kept)
    assert report["retained"] == selection.retained
    assert report["dropped_content"] == len(selection.dropped_content(image)) > 0
    assert report["unique"] == pp.prune(image, "qwen3_vl", method="unique").retained
    assert (report["max_error"], report["mean_error"]) == (0, 0)
    assert report["seconds"] > 0
    assert report["files"] == {}
    assert os.listdir(here) == [page]  # --json writes no image that was not asked for


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--threshold", "0.05"], {"threshold": 0.05}),
        (["--threshold", "13/255", "--metric", "mae"], {"threshold": 13 / 255, "metric": "mae"}),
        (["--threshold", "0.1", "--open-loop"], {"threshold": 0.1, "anchored": False}),
        (["--method", "either"], {"method": "either"}),
        (["--protect", "content"], {"protect": "content"}),
        (["--method", "random", "--threads", "2"], {"method": "random"}),
        (["--spec", "qwen2_vl"], {"spec": "qwen2_vl"}),
    ],
)
def test_settings_reach_prune(
    capsys: pytest.CaptureFixture[str], page: str, options: list[str], settings: dict[str, Any]
) -> None:
    report = figures(capsys, page, *options)
    spec = settings.pop("spec", "qwen3_vl")
    selection = pp.prune(resize_image(load_image(page), spec), spec, **settings)
    assert (report["kept"], report["keep"]) == (selection.kept, selection.keep.tolist())
    for name in ("method", "metric", "threshold", "anchored", "protect"):
        assert report[name] == getattr(selection, name)
    assert report["token_size"] == selection.spec.token_size
    assert (report["max_error"] is None) == (selection.source is None)


def test_a_lossy_run_tells_its_error(capsys: pytest.CaptureFixture[str], page: str) -> None:
    _, lossless, _ = run(capsys, "show", page)
    assert "error" not in lossless
    _, lossy, _ = run(capsys, "show", page, "--threshold", "20/255")
    image = resize_image(load_image(page), "qwen3_vl")
    most = pp.verify(image, pp.prune(image, "qwen3_vl", threshold=20 / 255)).max_error
    assert 0 < most <= 20 / 255
    assert f"error        {255 * most:.0f} levels of 255 at most" in lossy


def test_a_config_file_can_be_the_spec(capsys: pytest.CaptureFixture[str], page: str) -> None:
    config = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 8,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": 256, "longest_edge": 65536},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    Path("preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    report = figures(capsys, page, "--spec", "preprocessor_config.json")
    assert report["token_size"] == 16
    assert report["size"][0] * report["size"][1] <= 65536


def test_images_are_written_where_asked(capsys: pytest.CaptureFixture[str], page: str, here: Path) -> None:
    code, out, _ = run(capsys, "show", page, "-o", "o.png", "--heatmap", "h.png", "--reconstruct", "r.png")
    assert code == 0
    assert sorted(os.listdir(here)) == ["h.png", "o.png", page, "r.png"]
    for line in ("overlay      o.png", "heatmap      h.png", "reconstruct  r.png"):
        assert line in out
    with Image.open("r.png") as rebuilt:
        assert rebuilt.tobytes() == resize_image(load_image(page), "qwen3_vl").tobytes()
    with Image.open("o.png") as overlay, Image.open("h.png") as heatmap:
        assert overlay.size != rebuilt.size != heatmap.size
        assert overlay.tobytes() != heatmap.tobytes()
    assert figures(capsys, page, "--reconstruct", "r.png")["files"] == {"reconstruct": "r.png"}


def test_the_overlay_goes_to_the_current_directory(capsys: pytest.CaptureFixture[str], page: str) -> None:
    os.mkdir("elsewhere")
    os.rename(page, f"elsewhere/{page}")
    assert run(capsys, "show", f"elsewhere/{page}")[0] == 0
    assert sorted(os.listdir()) == ["elsewhere", "page-pruned.png"]


def test_no_resize_takes_the_image_as_it_is(capsys: pytest.CaptureFixture[str], page: str) -> None:
    assert "page.png is 300 x 270 pixels; expected multiples of 32" in refused(capsys, "show", page, "--no-resize")
    Image.new("RGB", (96, 64)).save("fits.png")
    assert figures(capsys, "fits.png", "--no-resize")["size"] == [96, 64]


def test_alpha_is_laid_on_a_colour_or_dropped_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[100:120, :, 3] = 255  # black all over, and all of it but a bar transparent
    Image.fromarray(pixels).save("glass.png")
    code, out, err = run(capsys, "show", "glass.png", "--alpha", "drop", "--json")
    assert code == 0
    assert err.startswith("pixelprune: warning: glass.png: ")
    assert err.endswith(" (--alpha white composites them onto white)\n")
    assert "alpha=" not in err
    assert err.count("\n") == 1
    assert json.loads(out)["kept"] == 1
    for alpha in ((), ("--alpha", "white"), ("--alpha", "#ff0000")):
        assert figures(capsys, "glass.png", *alpha)["kept"] > 1
    assert figures(capsys, "glass.png", "--alpha", "#000000")["kept"] == 1


ODD = os.fsdecode(b"a\nb\r\x1b[31m\t\xe2\x80\xaegnp\xff.png")
"""Line ends, a terminal escape sequence, a bidi override, and a byte that is not UTF-8."""
ESCAPED = r"a\nb\r\x1b[31m\t\u202egnp\udcff"


@pytest.mark.skipif(sys.platform == "win32", reason="such names can't be given there")
def test_odd_names_are_shown_escaped_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with open(ODD, "wb") as file:
        Image.new("RGB", (64, 64)).save(file, "PNG")
    os.mkdir("folder")
    code, out, err = run(capsys, "show", ODD)
    assert (code, err) == (0, "")
    first, *_, last = out.splitlines()
    assert first == f"{ESCAPED}.png: 64 x 64 pixels"
    assert last == f"  overlay      {ESCAPED}-pruned.png"
    assert json.loads(run(capsys, "show", ODD, "--json")[1])["image"] == ODD
    Image.new("RGBA", (64, 64)).save("glass.png")
    os.replace("glass.png", ODD)
    assert f"warning: {ESCAPED}.png: 100.00 %" in run(capsys, "show", ODD, "--alpha", "drop")[2]
    Path(ODD).write_bytes(b"no image")
    assert f"cannot read {ESCAPED}.png: " in refused(capsys, "show", ODD)
    for argv in (
        *(["show", f"{ODD}/"], ["show", "--spec", ODD], ["show", "-o", f"{ODD}/o.png"], ["show", "-o", ODD[:-4]]),
        *(["bench", f"{ODD}/"], ["bench", ODD], ["bench", "--spec", ODD]),
    ):
        assert ESCAPED in refused(capsys, *argv)
    for argv in (["show", ODD, ODD], ["show", f"--{ODD}"], ["show", "--threads", ODD], ["show", "--method", ODD]):
        assert ESCAPED in refused(capsys, *argv, code=2)


# --- errors ----------------------------------------------------------------------------------------------


def test_invalid_images_and_values_exit_with_1(capsys: pytest.CaptureFixture[str], page: str) -> None:
    Path("text.png").write_text("no image", encoding="utf-8")
    for argv, reason in (
        (["absent.png"], "absent.png: No such file or directory"),
        (["."], "."),
        (["text.png"], "cannot read text.png: not an image"),
        ([page, "--spec", "qwen9"], "--spec is 'qwen9'; expected qwen2_vl, "),
        ([page, "--spec", page], "page.png is not JSON"),
        ([page, "--threshold", "1.5"], "threshold"),
        ([page, "--threshold", "nan"], "threshold"),
        ([page, "--threads", "-3"], "threads is -3"),
        ([page, "-o", "absent/o.png"], "absent/o.png: No such file or directory"),
        ([page, "-o", "o.unknown"], "-o is 'o.unknown'; expected a file name like out.png"),
        ([page, "-o", f"./{page}"], "the image itself"),
        ([page, "--method", "random", "--heatmap", "h.png"], "--heatmap needs a source for dropped tokens"),
        ([page, "--method", "unique", "--threshold", "0.1"], "threshold"),
    ):
        assert reason in refused(capsys, "show", *argv)


NINES = "9" * 5000
"""More digits than Python converts."""


def test_errors_name_the_option_that_they_are_about(
    capsys: pytest.CaptureFixture[str], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They name no arguments of Python functions."""
    Image.new("RGB", (3000, 2)).save("thin.png")
    os.mkdir("folder")
    one_channel = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 8, "merge_size": 2}
    one_channel |= {"temporal_patch_size": 2, "min_pixels": 1, "max_pixels": 99, "image_mean": [0], "image_std": [1]}
    for name, text in (("deep", "[" * 100_000), ("grey", json.dumps(one_channel)), ("huge", f'{{"size": {NINES}}}')):
        Path(f"{name}.json").write_text(text, encoding="utf-8")
    for argv, reason in (
        (["--threshold", "2"], "--threshold is 2; expected a number from 0 to 1, like 0.05 or 13/255"),
        (["--threshold", "-0.1"], "--threshold is -0.1; "),
        (["--threshold", NINES], "--threshold is inf; "),
        (["--threshold", "1e400/1e400"], "--threshold is nan; "),
        (["--method", "unique", "--threshold", "0.1"], "--threshold is 0.1, but --method unique compares for equality"),
        (["--threads", "-3"], "--threads is -3; expected from 0 to 1024"),
        (["--threads", "9" * 4000], "--threads is an integer of about 4000 digits; expected from 0 to 1024"),
        (["--no-resize"], "page.png is 300 x 270 pixels; expected multiples of 32, the token side of --spec qwen3_vl"),
        (
            ["--method", "random", "--heatmap", "h.png"],
            "--heatmap needs a source for dropped tokens, which --method ran",
        ),
        (["--method", "conncomp", "--reconstruct", "h.png"], "--reconstruct needs a source for dropped tokens"),
        (["--spec", ""], "--spec is ''; expected qwen2_vl"),
        (["--spec", "folder"], "--spec: folder has no preprocessor_config.json"),
        (["--spec", "deep.json"], "--spec: deep.json is not JSON: "),
        (["--spec", "huge.json"], "--spec: huge.json is not JSON: Exceeds the limit"),
        (["--spec", "grey.json"], "--spec: grey.json is for 1 channels; expected 3"),
        (["-o", ""], "-o is ''; expected a file name like out.png"),
        (["-o", "folder"], "-o is 'folder'; expected a file name like out.png"),
        (
            ["--heatmap", "h.txt", "--json"],
            "--heatmap is 'h.txt'; expected a file name like out.png",
        ),
        (
            ["-o", "a.png", "--heatmap", "./a.png"],
            "--heatmap is './a.png', which -o writes, too; expected another file",
        ),
        (["--reconstruct", page], "--reconstruct is 'page.png', which is the image itself"),
    ):
        assert f"pixelprune: error: {reason}" in refused(capsys, "show", page, *argv)
    assert "error: IMAGE is empty; expected the path of an image" in refused(capsys, "show", "")
    assert "error: thin.png: the image is 2 x 3000" in refused(capsys, "show", "thin.png")
    assert sorted(path for path in os.listdir() if path.endswith(".png")) == [page, "thin.png"]
    monkeypatch.setenv("PIXELPRUNE_NUM_THREADS", NINES)
    assert len(refused(capsys, "show", page)) < 300


def test_an_image_that_pillow_refuses(
    capsys: pytest.CaptureFixture[str], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "PIL" not in refused(capsys, "show", page)  # the command line has no option for its limit


def test_outputs_that_cannot_be_written(capsys: pytest.CaptureFixture[str], page: str, here: Path) -> None:
    os.mkdir("folder.png")
    for path, reason in (("folder.png", "Is a directory"), ("absent/o.png", "No such file or directory")):
        for option in ("-o", "--heatmap", "--reconstruct"):
            assert f"error: cannot write {path}: {reason}" in refused(capsys, "show", page, option, path, "--json")
    if os.path.exists("/dev/full"):
        os.symlink("/dev/full", "full.png")
        assert "cannot write full.png: No space left" in refused(capsys, "show", page, "-o", "full.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo("fifo.png")
        assert "cannot write fifo.png: " in refused(capsys, "show", page, "-o", "fifo.png")


def test_an_image_too_large_for_its_format(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (17000, 200)).save("wide.png")
    assert "cannot write wide.webp: " in refused(capsys, "show", "wide.png", "--reconstruct", "wide.webp", "--json")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_file_that_cannot_be_written_whole_stays_what_it_was(page: str, here: Path) -> None:
    Path("out.png").write_bytes(b"precious")
    command = [sys.executable, "-m", "pixelprune", "show", page, "-o", "out.png"]
    process = subprocess.run(
        ["sh", "-c", 'trap "" XFSZ; ulimit -f 2; exec "$@"', "sh", *command], capture_output=True, timeout=60
    )
    assert process.returncode == 1
    assert process.stderr == b"pixelprune: error: cannot write out.png: File too large\n"
    assert Path("out.png").read_bytes() == b"precious"
    assert sorted(os.listdir(here)) == sorted({page, "out.png"})


def redirected(how: str, *argv: str, unbuffered: str = "") -> tuple[int, bytes, bytes]:
    """Exit code and outputs under a shell's redirection."""
    process = subprocess.run(
        ["sh", "-c", f'exec "$@" {how}', "sh", sys.executable, "-m", "pixelprune", *argv],
        capture_output=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        timeout=60,
    )
    return process.returncode, process.stdout, process.stderr


only_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")


@only_posix
@pytest.mark.parametrize("argv", [["show"], ["info", "--json"], ["bench"], ["--help"]], ids=" ".join)
def test_a_closed_output_is_an_error_before_anything_is_done(argv: list[str], here: Path) -> None:
    line = b"pixelprune: error: standard output is closed; expected a file or a terminal to print to\n"
    assert redirected(">&-", *argv) == (1, b"", line)
    assert os.listdir(here) == []


@only_linux
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [["show", "--json"], ["--help"], ["--version"]], ids=" ".join)
def test_a_full_output_is_an_error(argv: list[str], unbuffered: str) -> None:
    line = b"pixelprune: error: can't write to standard output: No space left on device\n"
    assert redirected(">/dev/full", *argv, unbuffered=unbuffered) == (1, b"", line)


@only_linux
@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_without_standard_error_nothing_is_printed(how: str) -> None:
    assert redirected(how, "info")[0] == 0
    assert redirected(how, "show", "absent.png") == (1, b"", b"")
    assert redirected(how, "show", "--what") == (2, b"", b"")


def test_invalid_usage_exits_with_2(capsys: pytest.CaptureFixture[str], page: str) -> None:
    for argv, reason in (
        ([], "COMMAND"),
        (["draw"], "draw"),
        (["show", page, "--colour"], "--colour"),
        (["show", page, "--method", "best"], "'best'"),
        (["show", page, "--threshold", "1/0"], "'1/0' is not a number; expected one like 0.05 or 13/255"),
        (["show", page, "--threshold", "low"], "'low' is not a number"),
        (["show", page, "--alpha", "#fff"], "'#fff' is not a colour"),
        (["show", page, "--threads", "two"], "--threads: 'two' can't be read as an integer"),
        (["show", page, "--threads", NINES], "--threads: '999"),
        (["show", page, "--threshold", f"x{NINES}"], "--threshold: 'x999"),
        (["show", page, "--method", f"x{NINES}"], "--method: invalid choice: 'x999"),
    ):
        line = refused(capsys, *argv, code=2)
        assert reason in line
        assert len(line) < 2100


def test_control_c_exits_with_130(
    capsys: pytest.CaptureFixture[str], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pixelprune.cli.show, "prune", interrupted)
    assert run(capsys, "show", page) == (130, "", "")


# --- info and the rest -----------------------------------------------------------------------------------


def test_info_tells_versions_features_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "info", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["pixelprune"] == pp.__version__
    assert facts["features"] == pp.cpu_features()
    assert facts["threads"] == pp.get_num_threads()
    assert facts["available"] >= 1
    assert facts["numpy"] == np.__version__
    code, out, err = run(capsys, "info")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(facts)
    assert f"pixelprune  {pp.__version__}\n" in out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"pixelprune {pp.__version__}\n", "")
    for argv in (["--help"], ["show", "--help"], ["bench", "--help"], ["info", "--help"]):
        code, out, err = run(capsys, *argv)
        assert (code, err) == (0, "")
        assert out.startswith("usage: pixelprune")
    _, out, _ = run(capsys, "show", "--help")
    for name in ("pred_2d", "conncomp", "rmse", *pp.PRESETS):
        assert name in out


def python_m(*argv: str, **options: Any) -> subprocess.Popen[bytes]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "pixelprune", *filter(None, argv)], **{**pipes, **options})


def test_python_m_runs_the_same(page: str) -> None:
    os.rename(page, "\u00e9.png")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with python_m("show", "\u00e9.png", env=environment) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"\\xe9.png: 300 x 270 pixels")
    with python_m("show", "absent.png") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"pixelprune: error: absent.png: ")


@pytest.mark.parametrize(
    ("argv", "unbuffered"), [(["info"], ""), (["info"], "1"), (["--help"], ""), (["show", "--json"], "")]
)
def test_a_closed_pipe_exits_quietly(argv: list[str], unbuffered: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with subprocess.Popen(
        [sys.executable, "-m", "pixelprune", *argv],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        os.close(write_end)
        _, err = process.communicate()
    assert (process.returncode, err) == (141, b"")
