"""A model's own processor, whose output is pruned."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..caller import warn
from ..errors import PixelPruneError
from ..plan import ModelSpec, Plan, keep_mask, kinds_of, make_plan, read_prompts
from ..runtime import resolve
from ..scan.indices import KeepIndices
from ..selection.settings import FIELDS, PruneOptions, PruneSettings, settings_of
from . import keep_indices as stored
from . import versions
from .apply import (
    PaddingSide,
    add_positions,
    add_vision_inputs,
    drop_patches,
    drop_tokens,
    finish,
    read_batch,
    side_of,
)
from .batch import VALUES, Pruned, PrunedInputs
from .choosing import choose, is_per_image, with_threshold
from .convert import to_numpy
from .images import PruningImages
from .inputs import prune_inputs
from .saved import FILE, HUB_OPTIONS, load_settings, save_settings
from .standins import ChosenImages, RecordingTokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

Keep = Sequence[Any] | Literal["all"] | None


class PrunedProcessor:
    """A processor that returns pruned inputs. Its class is derived from that of the given processor.

    It works like the given processor, but ``processor(...)`` and ``apply_chat_template(..., tokenize=True)`` return
    pruned inputs and take three more arguments: ``keep`` and ``video_keep`` as in `prune_inputs`, and ``threshold``,
    which replaces the processor's own for this call: one number, or one per image. Text without images, and images
    without text, work too. Images are pruned before the prompts are padded and truncated, videos afterwards.
    ``save_pretrained`` saves the given processor, and the settings beside it. Picklable, so that it works in
    ``datasets.map``, ``DataLoader`` workers and ``Trainer``.

    Args:
        processor: the model's own processor. Tokenizer and image processor are shared with it.
        spec: the model, its config (as an object, dict or path), or a `ModelSpec`.
        settings: how tokens are chosen, or its fields as keywords (`PruneSettings`). Those of a `PrunedProcessor` that
            is given stay where no others are.
        threads: as in `pixelprune.prune`.
        keep_indices: kept tokens that a scan has stored, a `pixelprune.scan.KeepIndices`, to use instead of choosing
            them. Images then have to be given as paths or as the bytes of their files, in conversations too: they are
            found by the bytes, and loaded as the scan did. They must have been scanned with ``settings``, and resized
            as the image processor does. Calls with ``keep`` use that instead; videos are pruned as ever. Those of a
            `PrunedProcessor` that is given stay where no others are.

    Attributes:
        processor: the processor without pruning. The two share their state: an attribute set on one is set on both.
        model_spec: the `ModelSpec`.
        settings: the `PruneSettings`.
        threads: number of threads to prune with; None: that of `set_num_threads`.
        keep_indices: the stored tokens; None: they are chosen.

    Raises:
        PixelPruneError: the model, or the installed release of transformers, is not supported; ``keep_indices`` were
            made otherwise. When called: an image has no stored tokens.
        TypeError: an argument of the wrong type.

    Example:
        >>> from pixelprune.hf import PrunedProcessor
        >>> processor = PrunedProcessor(stock, model, threshold=0.02)  # or .from_pretrained(path, threshold=0.02)
        >>> inputs = processor(text=[prompt], images=[page], return_tensors="pt")
        >>> inputs.pixelprune.image_sizes, inputs.pixelprune.tokens_before - inputs.pixelprune.tokens_after
        ([(1632, 1248)], 1206)
    """

    __slots__ = ("_pixelprune",)  # outside the state that is shared with the processor without pruning

    _pixelprune: tuple[Any, ModelSpec, PruneSettings, int | None, KeepIndices | None]

    def __new__(
        cls,
        processor: Any,
        spec: ModelSpec | Any,
        *,
        settings: PruneSettings | None = None,
        threads: int | None = None,
        keep_indices: KeepIndices | None = None,
        **options: Unpack[PruneOptions],
    ) -> PrunedProcessor:
        """Derive a processor from the given one; see the class."""
        own = processor.settings if isinstance(processor, PrunedProcessor) else None
        settings = settings_of(settings, options, own)
        resolve(threads)
        if isinstance(processor, PrunedProcessor):
            keep_indices = processor.keep_indices if keep_indices is None else keep_indices
            processor = processor.processor
        if not callable(processor) or not hasattr(processor, "apply_chat_template"):
            raise TypeError(f"processor is a {type(processor).__name__}; expected a model's processor")
        if not isinstance(spec, ModelSpec):
            spec = ModelSpec.from_config(spec, processor)
        versions.resolve(spec)  # raises where the release can't run the model
        if keep_indices is not None:
            stored.check(keep_indices, processor, settings)
        return _twin(getattr(cls, "_base", cls), processor, spec, settings, threads, keep_indices)

    @classmethod
    def from_pretrained(
        cls,
        path: Any,
        *,
        spec: ModelSpec | Any | None = None,
        settings: PruneSettings | None = None,
        threads: int | None = None,
        keep_indices: KeepIndices | None = None,
        **kwargs: Any,
    ) -> PrunedProcessor:
        """Load a processor that returns pruned inputs.

        Args:
            path: directory or name of a checkpoint.
            spec: as in `PrunedProcessor`; None: the checkpoint's own config.
            settings: as in `PrunedProcessor`; None: those that `save_pretrained` has saved there, if any.
            threads: as in `PrunedProcessor`.
            keep_indices: as in `PrunedProcessor`.
            **kwargs: fields of the settings, which replace saved ones, and arguments of
                ``AutoProcessor.from_pretrained``.
        """
        from transformers import AutoConfig, AutoProcessor

        options: Any = {name: kwargs.pop(name) for name in FIELDS if name in kwargs}
        saved = load_settings(path, **kwargs) if settings is None else None
        settings = settings_of(settings, options, saved)
        processor: Any = AutoProcessor.from_pretrained(path, **kwargs)  # type: ignore[no-untyped-call]
        if spec is None:
            where = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
            spec = AutoConfig.from_pretrained(path, **where)
        return cls(processor, spec, settings=settings, threads=threads, keep_indices=keep_indices)

    @property
    def processor(self) -> Any:
        """The processor without pruning."""
        return self._pixelprune[0]

    @property
    def model_spec(self) -> ModelSpec:
        """The model whose inputs it prunes."""
        return self._pixelprune[1]

    @property
    def settings(self) -> PruneSettings:
        """The settings that it prunes with."""
        return self._pixelprune[2]

    @property
    def threads(self) -> int | None:
        """Number of threads that it prunes with; None: that of `set_num_threads`."""
        return self._pixelprune[3]

    @property
    def keep_indices(self) -> KeepIndices | None:
        """The stored tokens that it uses; None if it chooses them."""
        return self._pixelprune[4]

    def __call__(
        self,
        *args: Any,
        keep: Keep = None,
        video_keep: Keep = None,
        threshold: float | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> PrunedInputs:
        """Return pruned inputs; see the class. Pass ``return_tensors="pt"``, and ``padding=True`` for many prompts."""
        if keep is None and self.keep_indices is not None:
            named = kwargs.get("images") is not None
            images = kwargs["images"] if named else args[0] if args else None
            loaded, keep = self._stored(stored.load, [] if images is None else images, threshold)
            if named:
                kwargs["images"] = loaded
            elif images is not None:
                args = (loaded, *args[1:])
        return self._run(lambda stock: stock(*args, **kwargs), keep, video_keep, threshold)

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        *,
        keep: Keep = None,
        video_keep: Keep = None,
        threshold: float | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return text as the processor does, or with ``tokenize=True`` pruned inputs; see the class."""
        if not kwargs.get("tokenize", False):
            return self.processor.apply_chat_template(conversation, chat_template, **kwargs)
        whole = kwargs.pop("return_dict", False)
        if keep is None and self.keep_indices is not None:
            conversation, keep = self._stored(stored.load_conversation, conversation, threshold)
        pruned = self._run(
            lambda stock: stock.apply_chat_template(conversation, chat_template, return_dict=True, **kwargs),
            keep,
            video_keep,
            threshold,
        )
        return pruned if whole else pruned["input_ids"]

    def _stored(self, load: Callable[..., Any], images: Any, threshold: object) -> tuple[Any, list[Any]]:
        """Return what ``load`` returns: images and their stored tokens."""
        assert self.keep_indices is not None
        if threshold is not None:
            raise PixelPruneError(
                "threshold is given, but the processor has keep_indices; expected one of them: the stored tokens were "
                "chosen with a threshold of their own"
            )
        loaded, keep = load(self.keep_indices, images)
        return loaded, keep

    def _run(
        self,
        call: Callable[[Any], Any],
        keep: Keep,
        video_keep: Keep,
        threshold: float | Sequence[float] | None,
    ) -> PrunedInputs:
        """Make a batch with the processor: images are pruned before the prompts are written, videos afterwards."""
        spec, seams = versions.resolve(self.model_spec)
        levels = with_threshold(self.settings, self.settings.threshold if threshold is None else threshold)
        level = self.settings if isinstance(levels, list) else levels
        pick = functools.partial(choose, spec=spec, kind="image", keep=keep, settings=levels, threads=self.threads)
        stock = _same_state(self.processor)  # for this call only
        if keep is None and level is levels:
            images = PruningImages(stock.image_processor, spec, level, self.threads)
        else:
            images = ChosenImages(stock.image_processor, spec, pick)
        stock.image_processor = images
        stock.tokenizer = tokenizer = RecordingTokenizer(stock.tokenizer, images)
        batch = call(stock)
        media = images.media  # None: the batch has no images, or the processor has replaced its image processor
        plan = make_plan(
            spec,
            to_numpy(batch.get("image_grid_thw"), "image_grid_thw") if media is None else media.grids,
            pick(batch) if media is None else media.selections,
            video_grid_thw=to_numpy(batch.get("video_grid_thw"), "video_grid_thw"),
            video_keep=choose(batch, spec, "video", video_keep, level, self.threads),
        )
        data = dict(batch)
        if media is None:
            drop_patches(data, "image", plan.images)
        drop_patches(data, "video", plan.videos)
        values = next((data[name] for name in VALUES.values() if name in data), None)
        like = batch.get("input_ids")
        if like is None:
            add_vision_inputs(data, plan, seams)
            return finish(data, values, plan, _kept(plan), np.zeros((0, 1), np.int64))
        if values is None and isinstance(like, list):
            # Not the model's arguments yet: the caller pads them, which would fail with keys of other shapes.
            count = sum(map(len, like)) if "attention_mask" not in data else sum(map(sum, data["attention_mask"]))
            return PrunedInputs(data, pixelprune=Pruned(plan, count, count, np.zeros((len(like), 1), np.int64)))
        ids, present = read_prompts(*read_batch(batch))
        shown = [image.mask if media is None else np.ones(image.kept, np.bool_) for image in plan.images.selections]
        videos = [video.mask for video in plan.videos.selections]
        kept = present & keep_mask(kinds_of(ids, present, spec), shown, videos)
        if (kept == present).all():  # the prompts are right, and padded as they should be
            data.setdefault("attention_mask", present.astype(np.int64))
        else:
            data = drop_tokens(data, kept, present, spec, tokenizer.padding_of_call)
        deltas = add_positions(data, plan, None)
        add_vision_inputs(data, plan, seams)
        inputs = finish(data, values if isinstance(like, list) else like, plan, int(kept.sum()), deltas)
        return _with_lists(inputs, batch) if isinstance(like, list) else inputs

    def prune(
        self,
        batch: Mapping[str, Any],
        *,
        keep: Keep = None,
        video_keep: Keep = None,
        threshold: float | Sequence[float] | None = None,
        lengths: Sequence[Sequence[int]] | None = None,
    ) -> PrunedInputs:
        """Prune the output of ``processor.processor`` with this processor's settings; see `prune_inputs`."""
        if keep is None and self.keep_indices is not None and batch.get("image_grid_thw") is not None:
            raise PixelPruneError(
                "the processor has keep_indices, which are found by the files of images, and this batch has pixels; "
                "expected keep with the stored tokens of its images, or a processor without keep_indices"
            )
        settings = self.settings
        options: Any = {name: getattr(settings, name) for name in FIELDS if name != "threshold"}
        tokenizer = getattr(self, "tokenizer", None)
        return prune_inputs(
            batch,
            self.model_spec,
            keep,
            video_keep=video_keep,
            threshold=settings.threshold if threshold is None else threshold,
            video_threshold=settings.threshold if threshold is None or is_per_image(threshold) else threshold,
            lengths=lengths,
            padding_side=_side_of(batch) or getattr(tokenizer, "padding_side", None),
            pad_token_id=getattr(tokenizer, "pad_token_id", None),
            threads=self.threads,
            **options,
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save the processor without pruning, and the settings beside it.

        The processor's files are its own, so they load without pixelprune. `PrunedProcessor.from_pretrained` reads the
        settings from ``pixelprune.json``. A method that is a function can't be saved: a warning says so, and the file
        is left out.

        Args:
            save_directory: the folder, which is made if there is none.
            push_to_hub: call ``push_to_hub`` afterwards.
            **kwargs: arguments of ``push_to_hub``, and ``repo_id``: the name of the folder if it is not given.

        Returns:
            The paths that the processor's ``save_pretrained`` returns, and that of ``pixelprune.json``.
        """
        if push_to_hub:
            repo_id = kwargs.pop("repo_id", Path(save_directory).name)
            saved = self.save_pretrained(save_directory)
            self.push_to_hub(repo_id, **kwargs)  # type: ignore[attr-defined]
            return saved
        saved = list(self.processor.save_pretrained(save_directory, **kwargs) or ())
        try:
            return [*saved, save_settings(self.settings, save_directory)]
        except PixelPruneError as error:
            (Path(save_directory) / FILE).unlink(missing_ok=True)
            warn(f"the processor is saved without its settings: {error}")
            return saved

    def to_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the dict of the processor without pruning."""
        return self.processor.to_dict(*args, **kwargs)

    def __repr__(self) -> str:
        stock, spec, settings, *_ = self._pixelprune
        return f"PrunedProcessor({type(stock).__name__}, {spec.model_type!r}, {settings})"

    def __getattr__(self, name: str) -> Any:
        """Return what the processor's class has no attribute for, but its own ``__getattr__``."""
        if name == "_pixelprune":  # not set yet, as in a copy: looking it up here would recurse
            raise AttributeError(name)
        return getattr(self._pixelprune[0], name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _twin, (type(self)._base, *self._pixelprune)  # type: ignore[attr-defined]

    def __copy__(self) -> PrunedProcessor:
        return _twin(type(self)._base, *self._pixelprune)  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: dict[int, Any]) -> PrunedProcessor:
        stock, spec, settings, threads, indices = self._pixelprune
        return _twin(type(self)._base, copy.deepcopy(stock, memo), spec, settings, threads, indices)  # type: ignore[attr-defined]


def _kept(plan: Plan) -> int:
    return sum(media.kept for media in (*plan.images.selections, *plan.videos.selections))


def _with_lists(inputs: PrunedInputs, batch: Mapping[str, Any]) -> PrunedInputs:
    """Return the inputs, of which all that has one entry per token is lists, as it is in the stock batch."""
    for name, value in inputs.items():
        if isinstance(batch.get(name), list) or name in ("attention_mask", "position_ids"):
            inputs.data[name] = value if isinstance(value, list) else value.tolist()
    return inputs


def _side_of(batch: Any) -> PaddingSide | None:
    """Return the side on which a finished batch is padded; None if that can't be seen."""
    mask = to_numpy(batch.get("attention_mask"), "attention_mask") if isinstance(batch, Mapping) else None
    return None if mask is None or mask.ndim != 2 else side_of(mask.astype(np.bool_))


@functools.cache
def _twin_class(base: type[Any], kind: type[Any]) -> Any:
    """Return a class derived from `PrunedProcessor`, or a subclass of it, and from a processor's.

    transformers checks for the latter with ``isinstance``.
    """

    @functools.wraps(kind.__init__)
    def ready(self: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the state, which `_twin` sets, as it is. transformers reads the signature, which is the processor's."""
        if base.__init__ is not object.__init__:
            base.__init__(self, *args, **kwargs)

    name = kind.__name__ if base is PrunedProcessor else f"{kind.__name__}{base.__name__}"
    return type(f"Pruned{name}", (base, kind), {"__init__": ready, "__module__": __name__, "_base": base})


def _twin(
    base: type[Any],
    processor: Any,
    spec: ModelSpec,
    settings: PruneSettings,
    threads: int | None,
    keep_indices: KeepIndices | None,
) -> PrunedProcessor:
    stock = _same_state(processor)
    twin: Any = object.__new__(_twin_class(base, type(processor)))  # type: ignore[arg-type]
    twin.__dict__ = stock.__dict__
    twin._pixelprune = (stock, spec, settings, threads, keep_indices)
    return twin


def _same_state(processor: Any) -> Any:
    """Return a shallow copy, whose tokenizer, image processor and templates can be replaced."""
    other: Any = object.__new__(type(processor))
    other.__dict__.update(vars(processor))
    return other
