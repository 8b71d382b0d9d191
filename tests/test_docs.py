"""The docstrings: every example runs, every public function, method and class has one; the import is light."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import pixelprune as pp
import pytest
from conftest import RunChild

PACKAGE = Path(pp.__file__).parent
TESTS = Path(__file__).parent
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NEEDED = {
    "compat": ("torch",),
    **dict.fromkeys(("cli.scan", "ray", "scan.indices", "scan.reading", "scan.running", "scan.summary"), ("pyarrow",)),
    "scan.report.writing": ("pyarrow", "plotly"),
}
"""Modules whose examples need packages beside numpy and Pillow."""


def examples() -> dict[str, int]:
    """The examples that the source files of the package hold, by module."""
    parse = doctest.DocTestParser().get_examples
    counts = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, DOCUMENTED)]
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        counts[name] = sum(len(parse(text)) for text in texts)
    return {name: count for name, count in counts.items() if count}


EXAMPLES = examples()
OF_HF = [name for name in EXAMPLES if name.split(".")[0] == "hf"]


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in OF_HF])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDED.get(name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testmod(importlib.import_module(f"pixelprune.{name}".rstrip(".")))
    assert outcome.failed == 0
    assert outcome.attempted == EXAMPLES[name]


def test_examples_that_need_a_model_run_elsewhere() -> None:
    """They need what a fixture in that file makes."""
    assert "hf.inputs" in OF_HF
    elsewhere = (TESTS / "frameworks" / "hf" / "test_docs.py").read_text(encoding="utf-8")
    for name in OF_HF:
        assert f'"{name.removeprefix("hf")}"' in elsewhere, f"no test runs the examples of pixelprune.{name}"


def documented() -> list[tuple[str, Any]]:
    """What the package offers: its names, and the methods of its classes."""
    found = []
    for name in pp.__all__:
        value = getattr(pp, name)
        if not callable(value) or (inspect.isclass(value) and issubclass(value, BaseException | Warning)):
            continue  # a constant or an error
        found.append((name, value))
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                function = getattr(member, "__func__", member)
                if not attribute.startswith("_") and inspect.isfunction(function):
                    found.append((f"{name}.{attribute}", function))
    return found


@pytest.mark.parametrize(("name", "value"), documented(), ids=lambda value: value if isinstance(value, str) else "")
def test_everything_public_has_an_example(name: str, value: Any) -> None:
    text = inspect.getdoc(value) or ""
    assert ">>> " in text, f"{name} has no example"
    if inspect.isfunction(value):
        for parameter in inspect.signature(value).parameters.values():
            if parameter.annotation == "Unpack[PruneOptions]" and parameter.name == "options":
                assert "settings: " in text, f"{name} does not say where its keywords are documented"
                assert "fields as keywords (`PruneSettings`)" in text
            elif parameter.name not in ("self", "cls"):
                assert f"{parameter.name}: " in text, f"{name} does not say what {parameter.name} is"


def test_every_public_name_is_there_and_listed() -> None:
    assert len(set(pp.__all__)) == len(pp.__all__)
    for name in pp.__all__:
        assert hasattr(pp, name)
    public = {name for name, value in vars(pp).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(pp.__all__) - {"__version__"}


def test_cpu_features_and_version() -> None:
    features = pp.cpu_features()
    assert all(isinstance(feature, str) for feature in features)
    assert len(set(features)) == len(features)
    parts = pp.__version__.split(".")
    assert len(parts) >= 3
    assert parts[0].isdecimal()


def list_imports() -> None:
    """Which packages `import pixelprune` loads."""
    before = set(sys.modules)
    for name in [name for name in before if name.split(".")[0] == "pixelprune"]:
        del sys.modules[name]
    importlib.import_module("pixelprune")
    print(*sorted({name.split(".")[0] for name in sys.modules}))


def test_importing_loads_no_framework(run_child: RunChild) -> None:
    loaded = set(run_child(list_imports).split())
    assert "pixelprune" in loaded
    assert not loaded & {"torch", "torchvision", "transformers", "vllm", "sglang", "tensorflow", "jax", "scipy", "cv2"}
