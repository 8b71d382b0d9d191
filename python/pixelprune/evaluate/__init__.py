"""Compare a model's answers on a benchmark: stock, pruned, and with as many random or shrunk tokens.

`read_questions` reads the files that lmms-eval and VLMEvalKit read, `evaluate` asks a `Checkpoint` or an `Endpoint`,
and its `Summary` has the table and the verdict. ``pixelprune eval`` does all of it. The metrics are in
`pixelprune.evaluate.metrics`.

Example:
    >>> from pixelprune.evaluate import conditions_of
    >>> [condition.name for condition in conditions_of("pred_2d@0.02", ["shrunk"])]
    ['stock', 'pred_2d@0.02', 'shrunk:pred_2d@0.02']
"""

from .answers import AnswerFile
from .conditions import Condition, conditions_of
from .engines import Engine
from .engines.checkpoint import Checkpoint
from .engines.endpoint import Endpoint
from .intervals import Interval, paired_intervals
from .questions import Answer, Question, Score
from .reading import read_questions
from .report import Line, Summary
from .running import evaluate
from .shrinking import shrink, shrunk_size
from .summary import summarize
from .tasks import TASKS, Task
from .verdicts import verdict

__all__ = [
    "TASKS",
    "Answer",
    "AnswerFile",
    "Checkpoint",
    "Condition",
    "Endpoint",
    "Engine",
    "Interval",
    "Line",
    "Question",
    "Score",
    "Summary",
    "Task",
    "conditions_of",
    "evaluate",
    "paired_intervals",
    "read_questions",
    "shrink",
    "shrunk_size",
    "summarize",
    "verdict",
]
