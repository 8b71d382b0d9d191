"""Loading a checkpoint, and telling checkpoints apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ...arguments import shown, text_of
from ...errors import PixelPruneError

_SAMPLE = 1 << 16
"""Bytes at either end of a file that are read."""


def fingerprint_of(folder: Path) -> str:
    """Return a text that differs for other weights, configs, tokenizers and chat templates.

    Weights are told by their size and by the bytes at their start and end.

    Args:
        folder: a checkpoint.

    Example:
        >>> from pathlib import Path
        >>> from pixelprune.evaluate.engines.loading import fingerprint_of
        >>> _ = Path("config.json").write_text("{}")
        >>> one = fingerprint_of(Path("."))
        >>> _ = Path("config.json").write_text("{ }")
        >>> one == fingerprint_of(Path("."))
        False
    """
    known = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".jinja", ".txt", ".model", ".safetensors", ".bin"):
            size = path.stat().st_size
            known.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                known.update(file.read(_SAMPLE))
                file.seek(max(0, size - _SAMPLE))
                known.update(file.read())
    return known.hexdigest()[:16]


def load(folder: Path, device: str | None, dtype: str) -> tuple[Any, Any]:
    """Return the model and the processor of a checkpoint.

    Args:
        folder: as ``save_pretrained`` writes it.
        device: None: the accelerator if there is one.
        dtype: of the weights.

    Raises:
        PixelPruneError: there is no model with a processor that can be loaded.
    """
    import torch
    import transformers

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    bars: Any = transformers.utils.logging
    had_bars = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        load_processor: Any = transformers.AutoProcessor.from_pretrained
        load_model: Any = transformers.AutoModelForImageTextToText.from_pretrained
        processor = load_processor(folder, local_files_only=True)
        model, found = load_model(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
        model = model.to(device).eval()
    except Exception as error:  # of many packages
        raise PixelPruneError(f"{folder} can't be loaded on {device}: {text_of(error)}") from None
    finally:
        if had_bars:
            bars.enable_progress_bar()
    if found["missing_keys"]:  # these are drawn at random
        raise PixelPruneError(f"{folder} lacks weights: {shown(sorted(found['missing_keys']))}; expected all")
    if not getattr(processor, "image_processor", None):
        raise PixelPruneError(f"{folder} has no image processor; expected its processor_config.json beside the model")
    if not getattr(processor, "chat_template", None):
        raise PixelPruneError(f"{folder} has no chat template; expected one beside the model, as chat_template.jinja")
    return model, processor


def name_of(device: Any) -> str:
    """Return the name of a torch device, for people."""
    import torch

    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else str(device.type).upper()
