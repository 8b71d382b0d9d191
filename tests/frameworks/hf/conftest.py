"""The families that the installed version of transformers has, and a check that tests leave their models unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from . import oracle, zoo  # noqa: E402
from .cases import TOLERANCE  # noqa: E402

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

IGNORED = (
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",  # GLM-4V's processor
)
"""Warnings that stock transformers gives without pixelprune."""

Close = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for text in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(params=zoo.FAMILIES, ids=str)
def family(request: pytest.FixtureRequest) -> zoo.Family:
    found: zoo.Family = request.param
    if found.missing:
        pytest.skip(found.missing)
    return found


def attributes(model: Any) -> list[set[str]]:
    """Attributes and hooks of the model and its modules."""
    parts = (model, model.model, oracle.tower_of(model), model.model.language_model)
    hooks = {str(hook) for part in parts for hook in (*part._forward_pre_hooks, *part._forward_hooks)}
    # Stock generate keeps a static cache here.
    return [*({name for name in vars(part) if "cache" not in name} for part in parts), hooks]


@pytest.fixture
def model(family: zoo.Family) -> Iterator[Any]:
    """The family's model; the test fails if it leaves anything on it."""
    made = zoo.model(family)
    before = attributes(made)
    yield made
    assert attributes(made) == before, "something was left on the model"
    if hasattr(made.model, "rope_deltas"):
        made.model.rope_deltas = None


WORST: dict[str, dict[str, float]] = {}
"""The largest difference that was found, by test and family."""


@pytest.fixture
def close(request: pytest.FixtureRequest) -> Close:
    """Assert that tensors, or lists of them, differ by less than a tolerance."""
    name = str(request.node.originalname).removeprefix("test_")
    given = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    family = str(given.get("family", given.get("trained", "qwen3_vl")))

    def check(found: Any, expected: Any, tolerance: float = TOLERANCE, *, what: str = "") -> None:
        found, expected = ([x] if isinstance(x, torch.Tensor) else list(x) for x in (found, expected))
        assert [x.shape for x in found] == [x.shape for x in expected]
        worst = max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))
        row = WORST.setdefault(f"{name} {what}".strip(), {})
        row[family] = max(worst, row.get(family, 0))
        assert worst <= tolerance  # not so for NaN either

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how far from the stock model and the oracle the answers were."""
    if not WORST:
        return
    families = [family for family in zoo.BY_NAME if any(family in row for row in WORST.values())]
    terminalreporter.section(f"largest differences, transformers {transformers.__version__}")
    terminalreporter.line(" " * 52 + "".join(f"{name[-12:]:>13}" for name in families))
    for name, row in WORST.items():
        cells = (f"{row[family]:.1e}" if family in row else "-" for family in families)
        terminalreporter.line(f"{name[:52]:52}" + "".join(f"{cell:>13}" for cell in cells))
