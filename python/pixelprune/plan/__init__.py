"""Everything that a model needs to run on kept patches only, computed with numpy alone.

A `ModelSpec` says how a model family reads positions out of its grids; `make_plan` turns grids and kept tokens
into a `Plan`: the rows of ``pixel_values``, the grids, positions and windows of the vision tower, and the places
and positions of the tokens in the language model. Integrations hand these to an unchanged model.

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
from .tokens import Positions
from .vision import VisionPlan

__all__ = ["FAMILIES", "Family", "ModelSpec", "Plan", "PositionTable", "Positions", "VisionPlan", "make_plan"]
