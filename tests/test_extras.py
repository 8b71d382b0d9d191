"""Without torch or transformers: what needs them says so, and how they are installed."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pixelprune as pp
import pytest

if TYPE_CHECKING:
    from conftest import RunChild

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "tiny.py")  # which they share
EXTRA = "pip install 'pixelprune[hf]'"


def pretend(**versions: str | None) -> None:
    """Take packages for installed in that version, or for missing."""
    for name, version in versions.items():
        module: Any = None  # makes the import fail
        if version is not None:
            module = ModuleType(name)
            module.__version__ = version
        sys.modules[name] = module


def import_hf(torch: str | None, transformers: str | None) -> None:
    pretend(torch=torch, transformers=transformers)
    for name in ("pixelprune.hf", "pixelprune.hf.inputs", "pixelprune.hf.versions"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(error)


@pytest.mark.parametrize(
    ("torch", "transformers", "found"),
    [
        (None, None, "import of torch halted"),
        (None, "5.23.0", "import of torch halted"),
        ("2.8.0", None, "import of transformers halted"),
        ("2.8.0", "4.56.2", r"found transformers 4\.56\.2"),
        ("2.8.0", "4.5.0.dev0", r"found transformers 4\.5\.0\.dev0"),
        ("2.8.0", "3.57rc1", r"found transformers 3\.57rc1"),
    ],
)
def test_importing_hf_names_the_extra(
    torch: str | None, transformers: str | None, found: str, run_child: RunChild
) -> None:
    lines = run_child(import_hf, torch, transformers).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert EXTRA in line
        assert "transformers 4.57 or later" in line
        assert re.search(found, line), line


def make_tensors() -> None:
    pretend(torch=None)
    read: list[str] = []

    class File:
        def read(self, *size: int) -> bytes:
            read.append("read")
            return b""

    processor = pp.ImageProcessor("qwen3_vl")
    for images in ([np.zeros((64, 64, 3), np.uint8)], [File()], []):
        try:
            processor(images, return_tensors="pt")
        except ImportError as error:
            print(error)
    assert not read
    assert processor(np.zeros((64, 64, 3), np.uint8)).pixel_values.shape == (4, 1536)


def test_tensors_without_torch(run_child: RunChild) -> None:
    """Said before any image is read."""
    lines = run_child(make_tensors).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("return_tensors='pt' needs torch")
        assert EXTRA in line
        assert "'np'" in line


def extras() -> dict[str, set[str]]:
    """The packages of every extra."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    found: dict[str, set[str]] = {}
    for name, packages in re.findall(r"^(\w+) = (\[.*\])$", table, re.MULTILINE):
        found[name] = set()
        for package in ast.literal_eval(packages):
            same = re.fullmatch(r"pixelprune\[(\w+)\]", package)
            found[name] |= found[same[1]] if same else {re.split("[<>=]", package)[0]}
    return found


def needs(path: Path) -> set[str]:
    """The packages that an example needs beside pixelprune's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[0] for name in names}
        if isinstance(node, ast.ImportFrom) and "Trainer" in {alias.name for alias in node.names}:
            found.add("accelerate")
    own = {"pixelprune", "numpy", "PIL", *sys.stdlib_module_names, *(path.stem for path in path.parent.glob("*.py"))}
    return found - own


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_name_the_extra_that_they_need(path: Path) -> None:
    [named] = re.findall(
        r"pip install '\.\[(\w+)\]'", ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    )
    assert needs(path) <= extras()[named]
    smaller = [packages for name, packages in extras().items() if name != named and packages < extras()[named]]
    assert not any(needs(path) <= packages for packages in smaller)
