from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .images.preprocessing import Job, OutputFormat
from .selection.pruning import ValuesFormat
from .selection.settings import CoreSettings

__all__ = [
    "available_threads",
    "check_settings",
    "content",
    "content_of_pixel_values",
    "cpu_features",
    "decode",
    "forget_threads",
    "hash_tokens",
    "is_plain_image",
    "is_within_tau",
    "pixels_of_pillow",
    "planes",
    "planes_of_pixel_values",
    "preprocess",
    "prune",
    "prune_batch",
    "prune_pixel_values",
    "resize",
    "share_from",
    "simd_levels",
    "sweep",
    "version",
]

_Indices = NDArray[np.int64]
_Bools = NDArray[np.bool_]
_Selected = tuple[_Indices, _Indices | None]
_Grid = tuple[int, int, int]
_Values = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.uint16]

def prune(
    image: NDArray[np.uint8], token: int, given: CoreSettings, threads: int = 1, level: str | None = None
) -> _Selected: ...
def prune_batch(
    images: Sequence[NDArray[np.uint8]], token: int, given: CoreSettings, threads: int = 1, level: str | None = None
) -> list[_Selected]: ...
def sweep(
    image: NDArray[np.uint8],
    token: int,
    given: Sequence[CoreSettings],
    threads: int = 1,
    level: str | None = None,
) -> list[tuple[_Indices, int]]: ...
def planes(
    image: NDArray[np.uint8], token: int, metric: str, threshold: float, level: str | None = None
) -> tuple[_Bools, _Bools]: ...
def content(image: NDArray[np.uint8], token: int, threshold: float, level: str | None = None) -> _Bools: ...
def prune_pixel_values(
    values: _Values,
    grids: Sequence[_Grid],
    format: ValuesFormat,
    given: CoreSettings,
    threads: int = 1,
    level: str | None = None,
    sampled: bool = True,
    skip: float | None = None,
) -> list[_Selected]: ...
def planes_of_pixel_values(
    values: _Values, grids: Sequence[_Grid], format: ValuesFormat, metric: str, threshold: float
) -> list[tuple[_Bools, _Bools]]: ...
def content_of_pixel_values(
    values: _Values, grids: Sequence[_Grid], format: ValuesFormat, threshold: float
) -> list[_Bools]: ...
def check_settings(given: CoreSettings) -> None: ...
def pixels_of_pillow(image: object) -> NDArray[np.uint8] | None: ...
def preprocess(
    jobs: Sequence[Job],
    format: OutputFormat,
    given: CoreSettings,
    prune: bool,
    output: tuple[_Values, _Values],
    affine: Sequence[tuple[float, float]] | None = None,
    bfloat16: bool = False,
    threads: int = 1,
    level: str | None = None,
) -> list[_Selected]: ...
def resize(
    image: NDArray[np.uint8], height: int, width: int, threads: int = 1, level: str | None = None
) -> NDArray[np.uint8]: ...
def share_from(bytes: int | None = None) -> None: ...
def is_within_tau(image: NDArray[np.uint8], token: int, source: _Indices, metric: str, threshold: float) -> bool: ...
def decode(
    mask: _Bools, grid: _Grid, tokens: NDArray[np.uint8], method: str, metric: str, threshold: float
) -> _Indices: ...
def hash_tokens(image: NDArray[np.uint8], token: int) -> NDArray[np.uint64]: ...
def available_threads() -> int: ...
def forget_threads() -> None: ...
def is_plain_image(image: object) -> bool: ...
def simd_levels() -> list[str]: ...
def cpu_features() -> list[str]: ...
def version() -> str: ...
