"""The file in which a saved processor keeps how it prunes; loaders of transformers ignore it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from ..arguments import escaped, shown, text_of
from ..errors import PixelPruneError
from ..selection.settings import FIELDS, PruneSettings

FILE = "pixelprune.json"
VERSION = 1
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
"""The arguments of ``from_pretrained`` that say where and how a checkpoint's files are looked for."""


def as_json(settings: PruneSettings) -> str:
    """Return the contents of the file.

    Raises:
        PixelPruneError: the method is a function, which a file can't hold.
    """
    if callable(settings.method):
        raise PixelPruneError(
            f"method is {shown(settings.method)}, a function, which can't be saved; expected the name of a method"
        )
    fields = {name: getattr(settings, name) for name in PruneSettings.__dataclass_fields__}
    return json.dumps({"version": VERSION, **fields}, indent=2) + "\n"


def save_settings(settings: PruneSettings, folder: str | os.PathLike[str]) -> str:
    """Write the file into a folder, which is made if there is none, and return its path.

    Raises:
        PixelPruneError: as in `as_json`; nothing is written then.
        OSError: the file can't be written.
    """
    text = as_json(settings)
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def load_settings(path: Any, **options: Any) -> PruneSettings | None:
    """Return the settings that are saved beside a processor; None if there are none.

    Args:
        path: folder or name of a checkpoint, or the path of a file in the folder.
        options: as in ``from_pretrained``; those that are not among `HUB_OPTIONS` have no effect.

    Raises:
        PixelPruneError: the file is not one that `save_settings` writes.
        OSError: it can't be read.
    """
    where = {name: options[name] for name in HUB_OPTIONS if options.get(name) is not None}
    folder = (os.path.dirname(path) or ".") if os.path.isfile(path) else path
    found = cached_file(
        folder,
        FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **where,
    )
    if found is None:
        return None
    try:
        data = json.loads(Path(found).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PixelPruneError(f"{escaped(str(found))} is not JSON: {text_of(error)}") from None
    return _settings(data, escaped(str(found)))


def _settings(data: Any, path: str) -> PruneSettings:
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        version = data.get("version") if isinstance(data, Mapping) else None
        raise PixelPruneError(
            f"{path} has version {shown(version)}; expected {VERSION} (a later version of pixelprune may read it)"
        )
    fields = {name: value for name, value in data.items() if name != "version"}
    if fields.keys() != FIELDS:
        odd = ", ".join(map(shown, sorted(fields.keys() ^ FIELDS)))
        raise PixelPruneError(f"{path} lacks or has too much: {odd}; expected version, {', '.join(sorted(FIELDS))}")
    try:
        return PruneSettings(**fields)
    except (PixelPruneError, TypeError) as error:
        raise PixelPruneError(f"{path}: {error}") from None
