"""A model's own image processor, whose output is pruned."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import BatchFeature

from ..arguments import as_bool, shown
from ..errors import PixelPruneError
from ..images.preprocessing import preprocess
from ..runtime import resolve
from ..selection.settings import FIELDS, PruneSettings, settings_of
from .batch import RECORD
from .features import PrunedFeatures, of_batch, prune_output
from .pixels import MERGE_SIZES, Call, Exact, cut, exact, flat_list, type_of
from .saved import load_settings, save_settings

_OWN = (*FIELDS, "settings", "prune", "threads")
_LOG = logging.getLogger(__name__)


class PrunedImageProcessor:
    """An image processor that returns kept patches: a twin of the given one, of a class derived from its own.

    It takes and returns all that the given image processor does, key by key and bit for bit with ``prune=False``.
    Images go through `pixelprune.preprocess` where that makes the same bits; otherwise through the code of the given
    image processor. With ``prune=True``

    * ``pixel_values`` has the rows of kept tokens only;
    * ``image_grid_thw`` has `Selection.flat_grid_thw` of each image, so that processors and models count the kept
      tokens right;
    * ``pixelprune_hf_attach``, an int64 vector, has the original grids and the kept tokens of all images: per image
      0, the grid, the number of kept tokens, and their indices. A model that `attach` was called on reads it.

    Put it in the place of a processor's own: ``processor.image_processor = PrunedImageProcessor(
    processor.image_processor)``. What is set on it (``size``, ``image_mean``) holds for it alone: the given one is
    copied. ``get_number_of_image_patches`` counts before pruning. It can be pickled and copied, and is equal to one
    with the same state and settings.

    Args:
        stock: an image processor of transformers.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`). Those of a `PrunedImageProcessor`
            that is given stay where no others are.
        prune: False keeps every token.
        threads: as in `pixelprune.prune`.

    Attributes:
        settings: the `PruneSettings`.
        prune: whether tokens are dropped.
        threads: number of threads; None: that of `set_num_threads`.

    Raises:
        PixelPruneError: the image processor is not supported.
        TypeError: an argument of the wrong type.

    Example:
        >>> import numpy as np
        >>> from transformers import Qwen2VLImageProcessor
        >>> from pixelprune.hf import PrunedImageProcessor
        >>> images = PrunedImageProcessor(Qwen2VLImageProcessor(), threshold=0.02)
        >>> isinstance(images, Qwen2VLImageProcessor)
        True
        >>> features = images(np.full((56, 84, 3), 255, np.uint8), return_tensors="pt")
        >>> features["pixel_values"].shape, features["pixelprune_hf_attach"]
        (torch.Size([4, 1176]), tensor([0, 1, 4, 6, 1, 0]))
    """

    __slots__ = ("_pixelprune",)  # not in the state that is saved as the image processor's

    _pixelprune: tuple[PruneSettings, bool, int | None]
    _kind: type[Any]

    def __new__(
        cls,
        stock: Any = None,
        *,
        settings: PruneSettings | None = None,
        prune: bool = True,
        threads: int | None = None,
        **options: Any,
    ) -> PrunedImageProcessor:
        """Make the twin; see the class. A twin's class takes the arguments of the image processor's class too."""
        if cls is not PrunedImageProcessor and stock is None:
            own = {name: options.pop(name) for name in FIELDS if name in options}
            stock, options = cls._kind(**options), own
        settings = settings_of(settings, options, stock.settings if isinstance(stock, PrunedImageProcessor) else None)
        prune = as_bool(prune, "prune")
        resolve(threads)
        if isinstance(stock, PrunedImageProcessor):
            kind = stock._kind
        else:
            kind = type(stock)
            if not hasattr(stock, "preprocess") or not hasattr(stock, "to_dict"):
                raise TypeError(
                    f"stock is a {kind.__name__}; expected an image processor of transformers, such as "
                    "processor.image_processor"
                )
        type_of(kind)  # raises if it is not supported
        return _twin(kind, copy.deepcopy(vars(stock)), settings, prune, threads)

    @classmethod
    def from_pretrained(
        cls,
        path: Any,
        *,
        settings: PruneSettings | None = None,
        prune: bool = True,
        threads: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load an image processor, and the settings that `save_pretrained` has saved beside it.

        Args:
            path: folder or name of a checkpoint.
            settings: as in `PrunedImageProcessor`; None: those saved, if there are any. Fields given as keywords
                replace those saved.
            prune: as in `PrunedImageProcessor`.
            threads: as in `PrunedImageProcessor`.
            **kwargs: the fields of the settings, and arguments of ``AutoImageProcessor.from_pretrained``.

        Raises:
            PixelPruneError: as in `PrunedImageProcessor`; the saved settings can't be read.
        """
        from transformers import AutoImageProcessor

        options: Any = {name: kwargs.pop(name) for name in FIELDS if name in kwargs}
        saved = None if settings is not None else load_settings(path, **kwargs)
        settings = settings_of(settings, options, saved)
        loader: Any = AutoImageProcessor if cls is PrunedImageProcessor else cls._kind
        made = loader.from_pretrained(path, **kwargs)
        return _wrapped(made, settings=settings, prune=prune, threads=threads)

    @classmethod
    def from_dict(cls, image_processor_dict: Mapping[str, Any], **kwargs: Any) -> Any:
        """Make one from the dict of an image processor (``to_dict``).

        Args:
            image_processor_dict: the dict; ``image_processor_type`` names the class.
            **kwargs: arguments of `PrunedImageProcessor`, and settings of the image processor, which replace those of
                the dict.

        Raises:
            PixelPruneError: as in `PrunedImageProcessor`; the installed transformers has no such class.
        """
        import transformers

        own = {name: kwargs.pop(name) for name in _OWN if name in kwargs}
        if cls is PrunedImageProcessor:
            name = str(image_processor_dict.get("image_processor_type"))
            kind = getattr(transformers, name, None)
            if kind is None:
                raise PixelPruneError(
                    f"image_processor_type is {shown(name)}; expected a class that the installed transformers has"
                )
        else:
            kind = cls._kind
        return _wrapped(kind.from_dict(dict(image_processor_dict), **kwargs), **own)

    @property
    def settings(self) -> PruneSettings:
        """The settings that it prunes with."""
        return self._pixelprune[0]

    @property
    def prune(self) -> bool:
        """Whether tokens are dropped."""
        return self._pixelprune[1]

    @property
    def threads(self) -> int | None:
        """Number of threads that it uses; None: that of `set_num_threads`."""
        return self._pixelprune[2]

    @property
    def model_input_names(self) -> list[str]:
        """The keys of the output."""
        names = vars(self).get("model_input_names", self._kind.model_input_names)
        return [*names, RECORD] if self.prune else list(names)

    @model_input_names.setter
    def model_input_names(self, names: Sequence[str]) -> None:
        vars(self)["model_input_names"] = [name for name in names if name != RECORD]

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Save the image processor, so that it loads without pixelprune, and beside it the settings.

        `from_pretrained` reads both; ``prune`` and ``threads`` are not saved.

        Args:
            save_directory: folder; it is made if there is none.
            push_to_hub: only False: an upload would leave the settings out. The method ``push_to_hub`` uploads both.
            **kwargs: as in the image processor's ``save_pretrained``.

        Raises:
            PixelPruneError: ``push_to_hub``; the method is a function, which can't be saved.
        """
        if push_to_hub:
            raise PixelPruneError(
                "push_to_hub is True, which would leave out the settings; expected False (the method push_to_hub "
                "uploads them too)"
            )
        path = save_settings(self.settings, save_directory)
        saved: list[str] = super().save_pretrained(save_directory, **kwargs)  # type: ignore[misc]
        return [*(saved or []), path]

    def __repr__(self) -> str:
        stock = super().__repr__()
        return f"PrunedImageProcessor({stock.strip()}, {self.settings}, prune={self.prune})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrunedImageProcessor):
            return NotImplemented
        same = self._kind is other._kind and self._pixelprune == other._pixelprune
        return same and self.to_dict() == other.to_dict()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self._kind, self.prune, self.threads))  # its other state can change

    def __reduce__(self) -> tuple[Any, ...]:
        return _twin, (self._kind, dict(vars(self)), *self._pixelprune)

    def __copy__(self) -> PrunedImageProcessor:
        return _twin(self._kind, dict(vars(self)), *self._pixelprune)

    def __deepcopy__(self, memo: dict[int, Any]) -> PrunedImageProcessor:
        return _twin(self._kind, copy.deepcopy(vars(self), memo), *copy.deepcopy(self._pixelprune, memo))

    def _preprocess_image_like_inputs(self, images: Any, *args: Any, **call: Any) -> BatchFeature:
        """Do a call whose settings the image processor has completed: its own method of this name, pruned."""
        if images is None or any(arg is not None for arg in args):
            found: Exact | str = "there are videos"
        else:
            images = self._prepare_images_structure(images)  # type: ignore[attr-defined]
            found = exact(self, self._kind, images, call)
        if isinstance(found, str):
            _LOG.debug("images by %s: %s", self._kind.__name__, found)
            out = super()._preprocess_image_like_inputs(images, *args, **call)  # type: ignore[misc]
            return self._pruned(out, images, call)
        _LOG.debug("%d images by pixelprune.preprocess", len(images))
        batch = preprocess(
            found.images,
            found.spec,
            settings=self.settings,
            prune=self.prune,
            resample=found.resample,
            channels_first=True,
            threads=self.threads,
        )
        data: dict[str, Any] = of_batch(batch, self.prune, MERGE_SIZES in self._kind.model_input_names)
        if found.resample == "torchvision":
            data = {name: torch.from_numpy(array) for name, array in data.items()}
        features = PrunedFeatures(data, tensor_type=call.get("return_tensors"))
        features.selections = batch.selections
        return features

    def _pruned(self, out: BatchFeature, images: Any, call: Call) -> BatchFeature:
        """Prune what the image processor's own code has returned."""
        if not self.prune or "pixel_values" not in out:
            return out
        spec = cut(self._kind, call, out["pixel_values"], flat_list(images))
        return prune_output(out, spec, self.settings, self.threads, call.get("return_tensors"))


@functools.cache
def _twin_class(kind: type[Any]) -> Any:
    """Return a class derived from an image processor's, because transformers checks with ``isinstance``.

    It has its name too: transformers and others save it, and look it up.
    """

    @functools.wraps(kind.__init__)
    def ready(self: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `_twin` sets the state. The signature is the image processor's."""

    signature = inspect.signature(kind.preprocess)

    @functools.wraps(kind.preprocess)
    def preprocess(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        out = kind.preprocess(self, images, *args, **kwargs)
        if isinstance(out, PrunedFeatures):
            return out
        # It did not come to `_preprocess_image_like_inputs`, so it has its own value for None.
        given = dict(signature.bind(self, images, *args, **kwargs).arguments)
        given |= given.pop("kwargs", {})
        call = {**vars(self), **{name: value for name, value in given.items() if value is not None}}
        return self._pruned(out, images, call)

    names = {
        "__init__": ready,
        "preprocess": preprocess,
        "__module__": __name__,
        "_kind": kind,
        "__doc__": kind.__doc__,
    }
    return type(kind.__name__, (PrunedImageProcessor, kind), names)


def _twin(
    kind: type[Any], state: dict[str, Any], settings: PruneSettings, prune: bool, threads: int | None
) -> PrunedImageProcessor:
    twin: Any = object.__new__(_twin_class(kind))  # type: ignore[arg-type]
    twin.__dict__.update(state)
    twin._pixelprune = (settings, prune, threads)
    return twin


def _wrapped(made: Any, **own: Any) -> Any:
    """Return the twin of what a loader has made, and beside it the arguments that it has no use for, if it does."""
    if isinstance(made, tuple):
        return PrunedImageProcessor(made[0], **own), *made[1:]
    return PrunedImageProcessor(made, **own)
