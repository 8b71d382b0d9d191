"""Preprocessing as a drop-in object for a model's image processor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..arguments import shown
from ..errors import PixelPruneError
from ..runtime import resolve
from ..selection.settings import PruneOptions, PruneSettings, settings_of
from ..spec import VisionSpec
from ..spec.config import _config_dict, _processor_kind
from .batch import Batch
from .decode import Alpha
from .options import Copies, DType, PreprocessOptions, Resample
from .preprocessing import run
from .sources import prepare_images

if TYPE_CHECKING:
    from typing_extensions import Unpack

_WITH_MERGE_SIZES = "video_llama_3"
_OPTIONS = ("settings", "prune", "resample", "alpha", "dtype", "copies")


class Features(dict[str, Any]):
    """The output of an `ImageProcessor`: a dict of arguments for the model, which are attributes too.

    Attributes:
        batch: the `Batch` that the arrays belong to, with the original grids, the sizes and the selections. It is not
            a key, so that ``model(**features)`` works.
    """

    def __init__(self, arguments: Mapping[str, Any], batch: Batch) -> None:
        super().__init__(arguments)
        self.batch = batch

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}; expected batch or one of {', '.join(self)}") from None

    def to(self, *args: Any, **kwargs: Any) -> Features:
        """Move the tensors to a device and cast floating-point ones, in place, like ``BatchFeature`` in transformers.

        Args:
            args: a device, a floating-point dtype, or both, as ``torch.Tensor.to`` takes them.
            kwargs: ``device``, ``dtype`` and other keywords of ``torch.Tensor.to``. Integers keep their dtype.

        Returns:
            This object.

        Raises:
            TypeError: the values are numpy arrays; ask for tensors with ``return_tensors="pt"``.

        Example:
            >>> import numpy as np, pixelprune as pp
            >>> features = pp.ImageProcessor("qwen3_vl")(np.zeros((64, 64, 3), np.uint8))
            >>> features.to("cpu")
            Traceback (most recent call last):
            TypeError: pixel_values, image_grid_thw are numpy arrays, which have no device; expected return_tensors='pt'
        """
        arrays = [name for name, value in self.items() if not hasattr(value, "to")]
        if arrays:
            raise TypeError(f"{', '.join(arrays)} are numpy arrays, which have no device; expected return_tensors='pt'")
        how = {name: value for name, value in kwargs.items() if name != "dtype"}
        place = [value for value in args if not _is_dtype(value)]
        moved = {
            name: value.to(*args, **kwargs) if value.is_floating_point() else value.to(*place, **how)
            for name, value in self.items()
            if value.is_floating_point() or place or how
        }
        self.update(moved)
        return self


@dataclass(frozen=True, init=False)
class ImageProcessor:
    """A drop-in replacement for a model's image processor that prunes as well.

    Immutable, hashable and picklable, so that it can be sent to the workers of a data loader; two of them are equal if
    their attributes are. With ``prune=False`` it returns what the processor of transformers (5.23) returns, key by key
    and bit for bit. The other arguments are those of `preprocess`. ``alpha`` is ``"white"`` by default, because that is
    what the processors do with images and arrays. (The loader of transformers drops the alpha of *files* before they
    reach a processor, as did the processors of transformers 4.57; ``alpha="drop"`` does the same.)

    Attributes:
        spec: a `VisionSpec`; the name of a preset is replaced by its spec.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`).
        prune: False keeps every token.
        resample: as in `preprocess`: ``"pillow"`` for the processors' Pillow backends.
        alpha: as in `preprocess`.
        dtype: as in `preprocess`.
        copies: as in `preprocess`.
        threads: as in `preprocess`.
        merge_sizes: whether the output has a key ``image_merge_sizes``, as VideoLLaMA 3 needs it. None: only if
            ``spec`` is the name of its preset; `from_config` reads it from the config.

    Raises:
        PixelPruneError: an argument has a value that is not allowed.
        TypeError: a setting of the wrong type.

    Example:
        >>> import numpy as np, pixelprune as pp
        >>> page = np.full((3, 480, 640), 255, np.uint8)
        >>> processor = pp.ImageProcessor("qwen3_vl")
        >>> features = processor(page)
        >>> {name: value.shape for name, value in features.items()}
        {'pixel_values': (4, 1536), 'image_grid_thw': (1, 3)}
        >>> features.image_grid_thw.tolist(), features.batch.grid_thw.tolist()
        ([[-1, -2, 2]], [[1, 30, 40]])
        >>> processor == pp.ImageProcessor(pp.PRESETS["qwen3_vl"], threshold=0)
        True
    """

    spec: VisionSpec
    settings: PruneSettings
    prune: bool
    resample: Resample
    alpha: Alpha
    dtype: DType
    copies: Copies
    threads: int | None
    merge_sizes: bool

    def __init__(
        self,
        spec: VisionSpec | str,
        *,
        settings: PruneSettings | None = None,
        prune: bool = True,
        resample: Resample = "torchvision",
        alpha: Alpha = "white",
        dtype: DType = "float32",
        copies: Copies = "repeat",
        threads: int | None = None,
        merge_sizes: bool | None = None,
        **options: Unpack[PruneOptions],
    ) -> None:
        if not isinstance(merge_sizes, (bool, type(None))):
            raise TypeError(f"merge_sizes is {shown(merge_sizes)}; expected True, False or None")
        resolve(threads)
        self.__dict__.update(
            spec=spec,
            settings=settings_of(settings, options),
            prune=prune,
            resample=resample,
            alpha=alpha,
            dtype=dtype,
            copies=copies,
            threads=threads,
            merge_sizes=spec == _WITH_MERGE_SIZES if merge_sizes is None else merge_sizes,
        )
        plain = self._options(None).spec, alpha if isinstance(alpha, str) else tuple(map(int, alpha))
        self.__dict__["spec"], self.__dict__["alpha"] = plain

    def _options(self, channels_first: bool | None) -> PreprocessOptions:
        chosen: dict[str, Any] = {name: getattr(self, name) for name in _OPTIONS}
        return PreprocessOptions.checked(self.spec, **chosen, channels_first=channels_first)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | str | os.PathLike[str] | object, **arguments: Any
    ) -> ImageProcessor:
        """Create one from a model's own processor config.

        Args:
            config: as in `VisionSpec.from_config`: a dict, a path, or a processor. ``resample`` follows from the
                backend of a processor object; in a dict or file, from the suffix ``Pil`` of the processor's type.
            arguments: those of `ImageProcessor`; they override the config.

        Raises:
            PixelPruneError: as in `VisionSpec.from_config`, and as in `ImageProcessor`.
            TypeError: as in `VisionSpec.from_config`, and as in `ImageProcessor`.
            OSError: the file can't be read.

        Example:
            >>> import pixelprune as pp
            >>> processor = pp.ImageProcessor.from_config({
            ...     "image_processor_type": "Qwen2VLImageProcessorPil",
            ...     "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2,
            ...     "size": {"shortest_edge": 65536, "longest_edge": 16777216},
            ...     "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            ... }, threshold=0.02)
            >>> processor == pp.ImageProcessor("qwen3_vl", resample="pillow", threshold=0.02)
            True
        """
        spec = VisionSpec.from_config(config)
        merge_sizes = _processor_kind(_config_dict(config)) == "VideoLlama3ImageProcessor"
        return cls(spec, **{"resample": _backend(config), "merge_sizes": merge_sizes, **arguments})

    def __call__(
        self,
        images: Any,
        return_tensors: Literal["np", "pt"] = "np",
        *,
        channels_first: bool | None = None,
    ) -> Features:
        """Preprocess one image or any number of them.

        Args:
            images: one image, a list of images, or nested lists, which are flattened. An image is a Pillow image; a
                uint8 numpy array or torch tensor in CPU memory with two dimensions (grey), three (1, 3 or 4 channels)
                or four (several images); or a path, bytes or a file object (`load_image`).
            return_tensors: ``"np"`` for numpy arrays (bfloat16 as its bits in uint16), ``"pt"`` for torch tensors that
                share their memory.
            channels_first: True and False: as in `preprocess`. None decides by the shape of each array, as the
                processors of transformers do: the first dimension holds the channels if it is 1, 3 or 4, else the last
                one does. If both could, the first is taken, with a warning.

        Returns:
            `Features`, a dict with ``pixel_values`` (rows of all images, *row shape); ``image_grid_thw``, int64
            (images, 3); for VideoLLaMA 3 also ``image_merge_sizes``, int64 (images,). With ``prune=True`` the first two
            are ``pixel_values`` and ``flat_grid_thw`` of the `Batch`, so that the model counts and merges correctly;
            positions must be passed to it explicitly, from the attribute ``batch``.

        Raises:
            PixelPruneError: an image can't be read or has an invalid size; the message names it.
            TypeError: an image is none of the above; an argument of the wrong type.
            OSError: a file can't be opened.
            ImportError: ``return_tensors="pt"`` without torch.

        Warns:
            PixelPruneWarning: both the first and the last dimension of an array could be its channels.
        """
        if return_tensors not in ("np", "pt"):
            raise PixelPruneError(f"return_tensors is {shown(return_tensors)}; expected 'np' or 'pt'")
        options = self._options(channels_first)
        torch = _torch() if return_tensors == "pt" else None
        threads = resolve(self.threads)
        batch = run(prepare_images(list(_flatten(images)), options, threads), options, threads, None)
        grids = batch.flat_grid_thw if self.prune else batch.grid_thw
        arrays = {"pixel_values": batch.pixel_values, "image_grid_thw": grids}
        if self.merge_sizes:
            arrays["image_merge_sizes"] = np.full(len(batch), options.spec.merge_size, np.int64)
        if torch is None:
            return Features(arrays, batch)
        return Features({name: _tensor(array, torch) for name, array in arrays.items()}, batch)


def _backend(config: object) -> Resample:
    """Which backend a processor resizes with."""
    if isinstance(config, (Mapping, str, os.PathLike)):
        data = _config_dict(config)
        return "pillow" if str(data.get("image_processor_type")).endswith("Pil") else "torchvision"
    processor = getattr(config, "image_processor", None) or config
    bases = {base.__name__ for base in type(processor).__mro__}
    # The second is the old name of the first; a processor without either resizes with Pillow.
    return "torchvision" if bases & {"TorchvisionBackend", "BaseImageProcessorFast"} else "pillow"


def _flatten(images: Any) -> Iterator[Any]:
    """Yield the images of nested lists and stacked arrays."""
    if isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.dtype == object):
        for part in images:
            yield from _flatten(part)
    elif getattr(images, "ndim", None) == 4:
        yield from images
    else:
        yield images


def _is_dtype(value: Any) -> bool:
    return isinstance(value, import_module("torch").dtype)


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise ImportError(
            f"return_tensors='pt' needs torch: pip install 'pixelprune[hf]' ({error}); 'np' gives numpy arrays",
            name=error.name,
        ) from error


def _tensor(array: NDArray[Any], torch: Any) -> Any:
    """Return a tensor that shares the array's memory; uint16 becomes bfloat16."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
