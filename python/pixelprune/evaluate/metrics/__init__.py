"""The metrics of the benchmarks, as the harnesses compute them: one question at a time, from 0 to 1.

Where lmms-eval and VLMEvalKit differ, a function takes ``rules``.
"""

from .choices import option
from .documents import mmlongbench
from .points import Box, hits, point_of
from .text import anls, contains, relaxed_accuracy

__all__ = [
    "Box",
    "anls",
    "contains",
    "hits",
    "mmlongbench",
    "option",
    "point_of",
    "relaxed_accuracy",
]
