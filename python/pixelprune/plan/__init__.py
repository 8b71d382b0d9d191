"""Everything that a model needs to run on kept patches only, computed with numpy alone.

A `ModelSpec` says how a model family reads positions out of its grids; `make_plan` turns grids and kept tokens
into a `Plan`: the rows of ``pixel_values``, the grids, positions and windows of the vision tower, and the mask
and positions of the tokens of the language model. Integrations pass these to an unchanged model.

Example:
    >>> import numpy as np
    >>> from pixelprune.plan import ModelSpec, make_plan
    >>> spec = ModelSpec.from_config({"model_type": "qwen3_vl", "image_token_id": 7, "video_token_id": 8})
    >>> plan = make_plan(spec, [[1, 4, 6]], [[0, 2, 5]])
    >>> plan.images.flat_grids
    array([[-1, -2,  6]])
    >>> prompt = np.array([[1, 7, 7, 7, 7, 7, 7, 2]])
    >>> pruned = prompt[plan.token_mask(prompt)][None]
    >>> plan.positions(pruned).position_ids[:, 0]
    array([[0, 1, 2, 3, 4],
           [0, 1, 1, 1, 4],
           [0, 1, 1, 2, 4],
           [0, 1, 3, 3, 4]])
"""

from .models import FAMILIES, Family, ModelSpec, PositionTable
from .planning import Plan, make_plan
from .planning import read_grids as read_grids
from .planning import read_keep as read_keep
from .tokens import IMAGE as IMAGE
from .tokens import TEXT as TEXT
from .tokens import VIDEO as VIDEO
from .tokens import Mask as Mask
from .tokens import Positions
from .tokens import keep_mask as keep_mask
from .tokens import kinds_of as kinds_of
from .tokens import media_of_rows as media_of_rows
from .tokens import read_lengths as read_lengths
from .tokens import read_prompts as read_prompts
from .vision import VisionPlan

# The names below are public. Those imported "as" themselves are for pixelprune's own integrations.

__all__ = ["FAMILIES", "Family", "ModelSpec", "Plan", "PositionTable", "Positions", "VisionPlan", "make_plan"]
