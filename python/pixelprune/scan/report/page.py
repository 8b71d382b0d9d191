"""The page: one HTML file with its style, its scripts, the charting library and the data in it."""

from __future__ import annotations

import html
import json
from importlib import resources
from string import Template
from typing import Any

from ..requirements import need

_SCRIPTS = ("state.js", "figures.js", "charts.js", "tables.js", "gallery.js", "main.js")

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""JSON in a script element must not hold what ends the element or begins a comment."""


def render(title: str, data: dict[str, Any]) -> str:
    """Return the page.

    Args:
        title: the title, as plain text.
        data: what the scripts show; must be JSON.

    Raises:
        ImportError: plotly is not installed; the message names the extra that installs it.
    """
    return Template(_text("report.html")).substitute(
        title=html.escape(title),
        theme=_text("theme.js"),
        style=_text("report.css"),
        plotly=need("plotly.offline", "the report").get_plotlyjs(),
        data=json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_ESCAPES),
        script="\n".join(_text(name) for name in _SCRIPTS),
    )


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")
