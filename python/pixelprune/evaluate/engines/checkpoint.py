"""A checkpoint of transformers on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import PixelPruneError
from ...images.resizing import Resampling
from ...selection.labels import label
from ...selection.settings import PruneSettings
from ..conditions import Condition
from ..metrics.points import Points
from ..questions import Answer
from ..shrinking import shrink
from .loading import fingerprint_of, load, name_of

POINTS_OF: dict[str, Points] = {
    "qwen2_vl": "thousand",
    "qwen2_5_vl": "seen",
    "qwen3_vl": "thousand",
    "qwen3_vl_moe": "thousand",
    "qwen3_5": "thousand",
    "qwen3_5_moe": "thousand",
}
"""What the coordinates of models are, by ``model_type``."""


class Checkpoint:
    """A folder with a model and its processor, as ``save_pretrained`` writes them. Answers are decoded greedily.

    Needs the extra ``eval``.

    Args:
        folder: the checkpoint.
        device: such as ``"cuda"`` or ``"cpu"``; None: the accelerator if there is one.
        dtype: of the weights, such as ``"bfloat16"``; ``"auto"``: that of the checkpoint.
        min_pixels: of the image processor; None: the checkpoint's.
        max_pixels: of the image processor; None: the checkpoint's.

    Attributes:
        identity: see `Engine`.
        device: the device's name.
        spec: the `ModelSpec`.
        points: what coordinates in its answers are; None if that is not known.

    Raises:
        PixelPruneError: the folder holds no checkpoint that can be loaded and pruned.
        ImportError: torch or transformers is missing.

    Example:
        >>> from pixelprune.evaluate import Checkpoint
        >>> Checkpoint("qwen3-vl")
        Traceback (most recent call last):
        pixelprune.errors.PixelPruneError: qwen3-vl has no config.json; expected the folder of a checkpoint
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str | None = None,
        dtype: str = "auto",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise PixelPruneError(f"{folder} has no config.json; expected the folder of a checkpoint")
        from ... import hf

        self._hf: Any = hf
        self._model, self._stock = load(folder, device, dtype)
        images = self._stock.image_processor
        size = {
            "shortest_edge": min_pixels or images.size["shortest_edge"],
            "longest_edge": max_pixels or images.size["longest_edge"],
        }
        if size["shortest_edge"] > size["longest_edge"]:
            raise PixelPruneError(
                f"min_pixels is {size['shortest_edge']}, and max_pixels {size['longest_edge']}; expected no less"
            )
        images.size = type(images.size)(**size)
        self._pruned: dict[str, Any] = {}
        self.spec = hf.PrunedProcessor(self._stock, self._model).model_spec
        self.device = name_of(self._model.device)
        self.points: Points | None = POINTS_OF.get(self.spec.model_type)
        self.identity: Mapping[str, Any] = {
            "model": fingerprint_of(folder),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": self._model.device.type,
            "min_pixels": size["shortest_edge"],
            "max_pixels": size["longest_edge"],
        }

    def check(self, conditions: Sequence[Condition]) -> None:
        """Every condition can be answered under."""

    def count(self, images: Sequence[Image.Image], settings: PruneSettings) -> tuple[int, ...]:
        """Return how many tokens the settings keep of each image; see `Engine`."""
        inputs = self._processor(settings)(**self._call("", images))
        return tuple(selection.kept for selection in inputs.pixelprune.selections)

    def answer(
        self,
        prompt: str,
        images: Sequence[Image.Image],
        condition: Condition,
        *,
        counts: Sequence[int] = (),
        length: int,
        seed: int = 0,
    ) -> Answer:
        """Answer one question; see `Engine`."""
        sizes = tuple(image.size for image in images)
        if condition.kind == "shrunk":
            resample: Resampling = self._resample()
            small = [shrink(image, n, self.spec.vision, resample) for image, n in zip(images, counts, strict=True)]
            call = self._call(prompt, small)
            inputs = self._stock(**call, **({"do_resize": False} if small else {}))
        elif condition.settings is None:
            inputs = self._stock(**self._call(prompt, images))
        else:
            processor, call = self._processor(condition.settings), self._call(prompt, images)
            if condition.kind == "random" and images:
                whole = processor(**call, keep="all").pixelprune.selections
                draw = np.random.default_rng(seed)
                call["keep"] = [
                    np.sort(draw.choice(one.total, n, replace=False)) for one, n in zip(whole, counts, strict=True)
                ]
            inputs = processor(**call)
        return self._generate(inputs, sizes, length)

    def _processor(self, settings: PruneSettings) -> Any:
        name = label(settings)
        if name not in self._pruned:
            self._pruned[name] = self._hf.PrunedProcessor(self._stock, self._model, settings=settings)
        return self._pruned[name]

    def _call(self, prompt: str, images: Sequence[Image.Image]) -> dict[str, Any]:
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": prompt}]
        text = self._stock.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return {"text": [text], "return_tensors": "pt", **({"images": list(images)} if images else {})}

    def _resample(self) -> Resampling:
        from ...hf.pixels import resample_of

        return resample_of(type(self._stock.image_processor)) or "torchvision"

    def _generate(self, inputs: Any, sizes: tuple[tuple[int, int], ...], length: int) -> Answer:
        import torch

        pruned = getattr(inputs, "pixelprune", None)
        inputs = inputs.to(self._model.device)
        cuda = self._model.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._model.device)
            torch.cuda.synchronize(self._model.device)
        first = _FirstToken()
        options: dict[str, Any] = {
            "max_new_tokens": length,
            "do_sample": False,
            "num_beams": 1,
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "streamer": first,
        }
        start = time.perf_counter()
        with torch.inference_mode():
            if pruned is None:
                output = self._model.generate(**inputs, **options)
            else:
                output = self._hf.generate(self._model, inputs, **options)
        tokens = output[0, inputs["input_ids"].shape[1] :].tolist()  # waits for the device
        seconds = time.perf_counter() - start
        merge = self.spec.vision.merge_size
        if pruned is None:
            grids = inputs["image_grid_thw"].tolist() if "image_grid_thw" in inputs else []
            counts = [t * h * w // merge**2 for t, h, w in grids]
        else:
            grids = pruned.grids.tolist()
            counts = [selection.kept for selection in pruned.selections]
        side = self.spec.vision.patch_size
        return Answer(
            text=self._stock.tokenizer.decode(tokens, skip_special_tokens=True),
            sizes=sizes,
            tokens=tuple(counts),
            seen=tuple((w * side, h * side) for _, h, w in grids),
            prompt_tokens=int(inputs["input_ids"].shape[1]),
            prefill=first.at - start,
            seconds=seconds,
            peak_bytes=torch.cuda.max_memory_allocated(self._model.device) if cuda else None,
            finished=len(tokens) < length or tokens[-1] in self._ends(),
        )

    def _ends(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        return set(ends if isinstance(ends, list) else [ends])


class _FirstToken:
    """Notes when the first token of the answer is there; ``generate`` hands over the prompt before it."""

    def __init__(self) -> None:
        self.at = 0.0
        self._calls = 0

    def put(self, _: Any) -> None:
        self._calls += 1
        if self._calls == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        """Nothing is left to do."""
