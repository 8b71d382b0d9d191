"""What decides the figures of a scan, checked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ..arguments import as_int, shown
from ..errors import PixelPruneError
from ..images.decode import Alpha
from ..images.options import PreprocessOptions, Resample
from ..selection.labels import label
from ..selection.settings import DEFAULT, PruneSettings
from ..spec import VisionSpec, as_spec
from .settings import DEFAULT_SWEEP, as_sweep

ALGORITHM = 1
"""Raised when a release chooses other tokens, so that stored indices of an earlier one are refused."""
MAX_DPI = 1200


@dataclass(frozen=True, kw_only=True, init=False)
class ScanOptions:
    """How images are measured: everything that changes the figures. Picklable.

    Args:
        spec: the model's image input, a `VisionSpec` or the name of a preset.
        resample: as in `preprocess`.
        alpha: as in `preprocess`.
        sweep: the settings to compare, as `PruneSettings` or labels (see `pixelprune.scan.label`).
        indices: those of ``sweep`` whose kept tokens are stored.
        dpi: dots per inch at which pages of PDFs are rendered.

    Raises:
        PixelPruneError: a value that is not allowed.
        TypeError: a value of the wrong type.

    Example:
        >>> from pixelprune.scan import ScanOptions
        >>> ScanOptions(spec="qwen3_vl", sweep=["pred_2d@0", "unique@0"]).labels
        ('pred_2d@0', 'unique@0')
    """

    spec: VisionSpec
    resample: Resample
    alpha: Alpha
    sweep: tuple[PruneSettings, ...]
    indices: tuple[PruneSettings, ...]
    dpi: int

    def __init__(
        self,
        *,
        spec: VisionSpec | str = "qwen3_vl",
        resample: Resample = "torchvision",
        alpha: Alpha = "white",
        sweep: Iterable[PruneSettings | str] = DEFAULT_SWEEP,
        indices: Iterable[PruneSettings | str] = (),
        dpi: int = 144,
    ) -> None:
        fields: dict[str, Any] = {"spec": as_spec(spec), "resample": resample}
        fields["alpha"] = alpha if isinstance(alpha, str) else tuple(alpha)
        fields["sweep"] = as_sweep(sweep, "sweep")
        fields["indices"] = as_sweep(indices, "indices")
        fields["dpi"] = as_int(dpi, "dpi", f"an integer from 1 to {MAX_DPI}")
        self.__dict__.update(fields)
        self.preprocessing  # noqa: B018  # checks the rest
        if not self.sweep:
            raise PixelPruneError("sweep is empty; expected at least one label, like 'pred_2d@0'")
        if not 1 <= self.dpi <= MAX_DPI:
            raise PixelPruneError(f"dpi is {self.dpi}; expected from 1 to {MAX_DPI}")
        for one in self.indices:
            if one not in self.sweep:
                raise PixelPruneError(
                    f"indices has {shown(label(one))}, which sweep has not; expected one of its labels"
                )

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the sweep's settings."""
        return tuple(map(label, self.sweep))

    @cached_property
    def preprocessing(self) -> PreprocessOptions:
        """The options that decoding and resizing take."""
        return PreprocessOptions.checked(
            self.spec,
            settings=DEFAULT,
            prune=False,
            resample=self.resample,
            alpha=self.alpha,
            dtype="uint8",
            copies="single",
            channels_first=None,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScanOptions:
        """Return the options that `as_dict` gave; other values are passed over, and so are ``indices``."""
        names = ("resample", "alpha", "sweep", "dpi")
        return cls(spec=VisionSpec(**values["spec"]), **{name: values[name] for name in names})

    def as_dict(self) -> dict[str, Any]:
        """Return the options as JSON has them."""
        return {
            "spec": asdict(self.spec),
            "resample": self.resample,
            "alpha": self.alpha,
            "sweep": self.labels,
            "indices": tuple(map(label, self.indices)),
            "dpi": self.dpi,
        }


def fingerprint(values: Any) -> str:
    """Return 16 hexadecimal digits that differ when the values differ.

    Args:
        values: what JSON can express.

    Example:
        >>> from pixelprune.scan.options import fingerprint
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
