"""Values of a batch (tensors, arrays or lists) as arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays import read_array


def to_numpy(value: Any, name: str) -> NDArray[Any] | None:
    """Return a numpy array on the CPU; None for None."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return read_array(value, name, "rows of one length: give the processor return_tensors and padding=True")


def to_array(value: Any) -> Any:
    """Return lists as an array where possible; anything else (arrays, tensors, text, ragged lists) as it is."""
    if isinstance(value, (np.ndarray, torch.Tensor)) or not isinstance(value, (list, tuple)):
        return value
    try:
        return np.asarray(value)
    except ValueError:
        return value


def like_input(like: Any, value: Any) -> Any:
    """Return arrays as tensors on the device of ``like`` if that is a tensor; else tensors as arrays."""
    if isinstance(like, torch.Tensor):
        return torch.as_tensor(value).to(like.device) if isinstance(value, np.ndarray) else value
    return value.numpy() if isinstance(value, torch.Tensor) and not value.requires_grad else value
