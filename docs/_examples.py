"""Extension of griffe, for the API reference: an `Example:` of a docstring is a section of code, as `Examples:` is."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Renames the sections as docstrings are read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
