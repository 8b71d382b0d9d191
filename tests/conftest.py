"""What the tests share: Hypothesis profiles, a clean thread setting, functions in processes of their own."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pixelprune as pp
import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None, max_examples=80)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

RunChild = Callable[..., str]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "large: holds an image of 200 megapixels (under 1 GB, under 10 s)")


@pytest.fixture(autouse=True)
def one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PIXELPRUNE_NUM_THREADS", raising=False)
    yield
    pp.set_num_threads(None)


@pytest.fixture
def run_child() -> RunChild:
    """Run ``child(function, *arguments)``: a module-level test function in a fresh interpreter.

    Fails when it raises, crashes or takes longer than ``timeout`` seconds; returns what it printed.
    """

    def run(
        function: Callable[..., None],
        *arguments: object,
        timeout: float = 60,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> str:
        name = function.__qualname__
        code = f"from {function.__module__} import {name}; {name}(*{arguments!r})"
        folders = dict.fromkeys([str(Path(__file__).parent), str(Path(inspect.getfile(function)).parent)])
        path = os.pathsep.join(filter(None, [*folders, os.environ.get("PYTHONPATH")]))
        # CPython warns of fork() beside threads, which is what some of these functions are about.
        command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-X", "faulthandler"]
        process = subprocess.Popen(
            [*command, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            if hasattr(os, "killpg"):  # its children too
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            output, _ = process.communicate()
            pytest.fail(f"{name} took longer than {timeout} s\n{output}")
        assert process.returncode == 0, f"{name} left with {process.returncode}\n{output}"
        return output

    return run
