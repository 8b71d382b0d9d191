"""Files in folders, found or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...arguments import shown
from ...errors import PixelPruneError


def find_image(name: str, folders: Sequence[Path], owner: str) -> Path:
    """Return the first file of that name in the folders.

    Args:
        name: a path relative to one of the folders, or an absolute one.
        folders: where to look.
        owner: what has the image, for the message.

    Raises:
        PixelPruneError: there is no such file.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(map(str, folders))
    raise PixelPruneError(f"{owner} has the image {shown(name)}, which is not in {looked} (--images names a folder)")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Args:
        path: the file.

    Raises:
        PixelPruneError: it is not JSON.
        OSError: it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PixelPruneError(f"{path} is not JSON ({error})") from None
