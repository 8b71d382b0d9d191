"""Preprocessing as an object that takes the place of a model's image processor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..arguments import shown
from ..arrays import as_pixels
from ..caller import warn
from ..errors import PixelPruneError
from ..runtime import resolve
from ..selection.settings import PruneOptions, PruneSettings, settings_of
from ..spec import VisionSpec
from ..spec.config import _config_dict, _processor_kind
from .batch import Batch
from .decode import Alpha
from .options import Copies, DType, Resample, Steps
from .preprocessing import pack
from .sources import open_pictures

if TYPE_CHECKING:
    from typing_extensions import Unpack

Format = Literal["channels_first", "channels_last"]

_CHANNELS = (1, 3, 4)
_WITH_MERGE_SIZES = "video_llama_3"
_OF_STEPS = ("settings", "prune", "resample", "alpha", "dtype", "copies")


class Features(dict[str, Any]):
    """What an `ImageProcessor` returns: a dict of the model's arguments, which are attributes too.

    Attributes:
        batch: the `Batch` that the arrays belong to, with the original grids, sizes and the selections. It is not
            among the keys, so that ``model(**features)`` works.
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
        """Move the tensors to a device, and cast floats, in place, as a ``BatchFeature`` of transformers does.

        Args:
            args: a device, a floating-point dtype, or both, as ``torch.Tensor.to`` takes them.
            kwargs: ``device``, ``dtype`` and other keywords of ``torch.Tensor.to``. Integers keep their type.

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
    """Takes the place of a model's image processor, and prunes on the way.

    An immutable object of plain values: equal and of one hash where the settings are, and picklable, so that it can be
    sent to the workers of a data loader. With ``prune=False`` it returns what the processor of transformers (5.23)
    returns, key by key and bit for bit. The other arguments are those of `preprocess`. ``alpha`` is
    ``"white"`` unless told otherwise, because that is what the processors do with images and arrays. (Their loader
    drops the alpha of *files* before they come to a processor, and so did the processors of transformers 4.57:
    ``alpha="drop"``.)

    Attributes:
        spec: a `VisionSpec`; the name of a preset is replaced by it.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`).
        prune: False keeps every token.
        resample: as in `preprocess`: ``"pillow"`` for the processors' Pillow backends.
        alpha: as in `preprocess`.
        dtype: as in `preprocess`.
        copies: as in `preprocess`.
        threads: as in `preprocess`.
        merge_sizes: whether there is a key ``image_merge_sizes``, as VideoLLaMA 3 has. None: only if ``spec`` is the
            name of its preset; `from_config` finds out.

    Raises:
        PixelPruneError: a name or number is not among those allowed.
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
        plain = self._steps().spec, alpha if isinstance(alpha, str) else tuple(map(int, alpha))
        self.__dict__["spec"], self.__dict__["alpha"] = plain

    def _steps(self) -> Steps:
        chosen: dict[str, Any] = {name: getattr(self, name) for name in _OF_STEPS}
        return Steps.checked(self.spec, **chosen)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | str | os.PathLike[str] | object, **arguments: Any
    ) -> ImageProcessor:
        """Make one for a model's own processor config.

        Args:
            config: as in `VisionSpec.from_config`: a dict, a path, or a processor. A processor object also tells its
                backend, and so ``resample``; in a dict or file the type's ending ``Pil`` does.
            arguments: those of `ImageProcessor`; they win over the config.

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
        input_data_format: Format | None = None,
    ) -> Features:
        """Preprocess one image or any number of them.

        Args:
            images: one image, a list of images, or lists of lists, which are taken as one list. Pillow images;
                uint8 numpy arrays and torch tensors in CPU memory, of three dimensions, with 1, 3 or 4 channels, or of
                four, which are several images; arrays of two dimensions, which are grey. Also paths, bytes and file
                objects (`load_image`).
            return_tensors: ``"np"`` for numpy arrays (with the bits of bfloat16 as uint16), ``"pt"`` for torch tensors
                in the memory of those arrays.
            input_data_format: whether arrays and tensors are ``"channels_first"`` or ``"channels_last"``. None: the
                first dimension holds the channels if it is 1, 3 or 4, else the last one does, as transformers has
                it; where both could, there is a warning.

        Returns:
            `Features`, a dict with ``pixel_values`` (rows of all images, *row shape); ``image_grid_thw``, int64
            (images, 3); for VideoLLaMA 3 ``image_merge_sizes``, int64 (images,). With ``prune=True`` these are
            ``pixel_values`` and ``flat_grid_thw`` of the `Batch`, so that the model counts and merges right; positions
            have to be given to it explicitly, from the attribute ``batch``.

        Raises:
            PixelPruneError: an image can't be read, or has a size that can't be worked with; the message names it.
            TypeError: an image is none of the above; an argument of the wrong type.
            OSError: a file can't be opened.
            ImportError: ``return_tensors="pt"`` without torch.

        Warns:
            PixelPruneWarning: it could be either dimension that holds the channels.
        """
        if return_tensors not in ("np", "pt"):
            raise PixelPruneError(f"return_tensors is {shown(return_tensors)}; expected 'np' or 'pt'")
        if input_data_format not in (None, "channels_first", "channels_last"):
            raise PixelPruneError(
                f"input_data_format is {shown(input_data_format)}; expected 'channels_first', 'channels_last' or None"
            )
        torch = _torch() if return_tensors == "pt" else None
        steps = self._steps()
        sources = []
        for i, image in enumerate(_flatten(images)):
            try:
                sources.append(_as_source(image, input_data_format))
            except (TypeError, PixelPruneError) as error:
                raise type(error)(f"images[{i}]: {error}") from error
        threads = resolve(self.threads)
        batch = pack(open_pictures(sources, steps, threads), steps, threads, None)
        grids = batch.flat_grid_thw if self.prune else batch.grid_thw
        arrays = {"pixel_values": batch.pixel_values, "image_grid_thw": grids}
        if self.merge_sizes:
            arrays["image_merge_sizes"] = np.full(len(batch), steps.spec.merge_size, np.int64)
        if torch is None:
            return Features(arrays, batch)
        return Features({name: _tensor(array, torch) for name, array in arrays.items()}, batch)


def _backend(config: object) -> Resample:
    """How a processor resizes: with torchvision, or with Pillow."""
    if isinstance(config, (Mapping, str, os.PathLike)):
        data = _config_dict(config)
        return "pillow" if str(data.get("image_processor_type")).endswith("Pil") else "torchvision"
    processor = getattr(config, "image_processor", None) or config
    bases = {base.__name__ for base in type(processor).__mro__}
    # The second is the former name of the first; what has neither resizes with Pillow.
    return "torchvision" if bases & {"TorchvisionBackend", "BaseImageProcessorFast"} else "pillow"


def _flatten(images: Any) -> Iterator[Any]:
    """The images of lists of lists and of stacked arrays."""
    if isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.dtype == object):
        for part in images:
            yield from _flatten(part)
    elif getattr(images, "ndim", None) == 4:
        yield from images
    else:
        yield images


def _as_source(image: Any, form: Format | None) -> Any:
    """Arrays and tensors with their channels last; what has to be decoded as it is."""
    if isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)) or hasattr(image, "read"):
        return image
    shape = tuple(getattr(image, "shape", ()))
    return as_pixels(image, len(shape) == 3 and _is_channels_first(shape, form))


def _is_channels_first(shape: tuple[int, ...], form: Format | None) -> bool:
    if form is not None:
        return form == "channels_first"
    first, last = shape[0] in _CHANNELS, shape[2] in _CHANNELS
    if first and last:
        warn(
            f"an array has shape {shape}, whose first and last dimension could both be its channels; the first one is "
            "taken, as transformers does (input_data_format='channels_last' takes the last one)"
        )
    if not (first or last):
        raise PixelPruneError(f"an array has shape {shape}; expected 1, 3 or 4 channels, first or last")
    return first


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
    """A tensor in the array's memory; uint16 holds the bits of bfloat16."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
