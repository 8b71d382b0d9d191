"""Patterns of paths, with ``**``."""

from __future__ import annotations

import re

MAGIC = re.compile(r"[*?\[]")


def compiled(pattern: str) -> re.Pattern[str]:
    """Return an expression that matches whole relative paths with ``/``.

    Args:
        pattern: ``*`` and ``?`` stand for characters of one name, ``[...]`` for one of a set, ``**/`` for any number
            of folders. A pattern without ``/`` matches a name at any depth.

    Example:
        >>> from pixelprune.scan.sources.globs import compiled
        >>> found = compiled("**/sequence-*")
        >>> bool(found.fullmatch("gui/sequence-1")), bool(found.fullmatch("gui/sequence-1/a.png"))
        (True, False)
    """
    pattern = pattern.strip("/")
    if "/" not in pattern:
        pattern = f"**/{pattern}"
    parts, at = [], 0
    for token in re.finditer(r"\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\]", pattern):
        parts.append(re.escape(pattern[at : token.start()]))
        at, text = token.end(), token[0]
        if text.startswith("["):
            inner = text[1:-1].replace("\\", r"\\")
            parts.append(f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]")
        else:
            parts.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[text])
    parts.append(re.escape(pattern[at:]))
    return re.compile("".join(parts), re.DOTALL)
