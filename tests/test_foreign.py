"""Another package of the same import name is noticed, and told from this one."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import pixelprune as pp
import pytest
from conftest import RunChild
from pixelprune import foreign

FILES = ["core.py", "dedup.py", "methods", "patches"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pixelprune").mkdir()
    return tmp_path


def test_none_is_seen_here() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        foreign.check()


@pytest.mark.parametrize("name", FILES)
def test_one_on_the_path_is_warned_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    foreign.check()  # a folder of that name alone is nothing
    (folder / "pixelprune" / name).touch()
    with pytest.warns(pp.PixelPruneWarning, match="pip uninstall pixelprune") as caught:
        foreign.check()
    assert len(caught) == 1
    assert str(folder / "pixelprune") in str(caught[0].message)


def test_one_in_the_working_directory_is_warned_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pixelprune" / "dedup.py").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with pytest.warns(pp.PixelPruneWarning, match="another package"):
        foreign.check()


@pytest.mark.parametrize("names", [FILES[:1], FILES[1:]])
def test_mixed_files_are_an_error(names: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_OWN", folder / "pixelprune")
    foreign.check()
    for name in names:
        (folder / "pixelprune" / name).touch()
    with pytest.raises(ImportError, match=rf"{', '.join(names)}.*pip uninstall pixelprune"):
        foreign.check()


def test_importing_beside_another_one(folder: Path, run_child: RunChild) -> None:
    (folder / "pixelprune" / "dedup.py").write_text("raise RuntimeError('imported')")
    (folder / "pixelprune" / "__init__.py").write_text("raise RuntimeError('imported')")
    run_child(import_again, str(folder), True)


def import_again(entry: object, warned: bool) -> None:
    """Import the package afresh with one more entry, the last, on the path."""
    for name in [name for name in sys.modules if name.split(".")[0] == "pixelprune"]:
        del sys.modules[name]
    sys.path.append(entry)  # type: ignore[arg-type]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import pixelprune
    assert [w.category.__name__ for w in caught] == ["PixelPruneWarning"] * warned
    assert all(w.filename == __file__ for w in caught), "the warning names the line that imports"
    assert pixelprune.prune.__module__ == "pixelprune.selection.pruning"


def import_with_strange_path_entries() -> None:
    for entry in ("\0", "/no/such/folder", os.devnull, None, 5, b"bytes", Path("."), ""):
        import_again(entry, warned=False)


def test_importing_with_strange_entries_on_the_path(run_child: RunChild) -> None:
    """The import system ignores what is no string; so must the check."""
    run_child(import_with_strange_path_entries)


def import_from_a_folder_that_is_gone(folder: str) -> None:
    os.chdir(folder)
    os.rmdir(folder)
    import_again("", warned=False)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use stays")
@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="3.13.0 raises SystemError for missing attributes")
def test_importing_in_a_folder_that_is_gone(tmp_path: Path, run_child: RunChild) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    run_child(import_from_a_folder_that_is_gone, str(gone))
