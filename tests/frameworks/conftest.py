"""For the tests that need torch and transformers: the published implementation, a clean environment."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

NAME = "published_pixelprune"

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    collect_ignore = ["hf"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--published",
        metavar="PATH",
        help="folder of the published pixelprune package, to compare with (or set PIXELPRUNE_PUBLISHED)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.frameworks)


@pytest.fixture(scope="session")
def published(request: pytest.FixtureRequest) -> Any:
    """The published package, under a name of its own; its model patches, which need ours, stay unloaded."""
    given = request.config.getoption("--published", default=None) or os.environ.get("PIXELPRUNE_PUBLISHED")
    if not given:
        pytest.skip("needs --published PATH or PIXELPRUNE_PUBLISHED")
    folder = Path(given)
    if not (folder / "methods").is_dir():
        folder /= "pixelprune"  # the repository was given
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("PIXELPRUNE_"):
            monkeypatch.delenv(variable)
