"""The docstrings: every example runs, every public function, method and class has one; the import is light."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import Any

import pixelprune as pp
import pytest
from conftest import RunChild

FRAMEWORKS = {"compat": "torch", "hf": "transformers"}
"""Modules whose examples need a framework."""

MODULES = sorted(
    module.name for module in pkgutil.iter_modules(pp.__path__) if module.name not in ("__main__", "_core")
)


@pytest.mark.parametrize("name", ["", *MODULES])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in FRAMEWORKS:
        pytest.importorskip(FRAMEWORKS[name])
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"pixelprune.{name}".rstrip("."))
    assert doctest.testmod(module).failed == 0


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
            if parameter.name not in ("self", "cls"):
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
