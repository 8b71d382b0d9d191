"""A trained model as files: its weights, a folder that `from_pretrained` loads, and pages as a benchmark's file."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from .evaluation import held_out
from .network import make_model
from .pages import MERGE, NUMBERS, PATCH
from .questions import IDS, PLACES, ROW_NAMES, SPECIAL

STORED = Path(__file__).with_name("reader.safetensors")
"""Weights of a model that was trained on whole pages."""

TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def store(model: Any, path: Path) -> None:
    """Write the weights as float16, half the bytes."""
    weights = {
        name: value.half().contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"
    }
    save_file(weights, path)


def stored(path: Path) -> Any:
    """The model of stored weights, in float32."""
    model = make_model(0)
    weights = {name: value.float() for name, value in load_file(path).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(
            f"{path.name} lacks {missing} and has {unexpected}; it belongs to another version of the model"
        )
    model.tie_weights()
    return model.eval()


def processor() -> Any:
    """Qwen3-VL's processor with a token for every word; a prompt is the image and the two words of a question."""
    backend = Tokenizer(models.WordLevel(IDS, unk_token="PAD"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(SPECIAL))
    settings = {
        "patch_size": PATCH,
        "merge_size": MERGE,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": 16777216},
    }
    # Before 5.3 the processor that torchvision works for has a name of its own.
    old = tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 3)
    image_processor = transformers.Qwen2VLImageProcessorFast if old else transformers.Qwen2VLImageProcessor
    return transformers.Qwen3VLProcessor(
        image_processor=image_processor(**settings),
        tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="PAD", padding_side="left"),
        video_processor=transformers.Qwen3VLVideoProcessor(**settings),
        chat_template=TEMPLATE,
    )


def write_folder(model: Any, folder: Path) -> None:
    """Write model and processor as a checkpoint. Decoding stops after the first token of an answer."""
    answers = [*NUMBERS, *ROW_NAMES, *PLACES, "YES", "NO"]
    model.generation_config.eos_token_id = [IDS[name] for name in answers]
    model.generation_config.pad_token_id = IDS["PAD"]
    model.save_pretrained(folder)
    processor().save_pretrained(folder)


def write_tsv(path: Path, kind: str, pages: int, asked: int, question_kinds: Collection[str]) -> None:
    """Write held-out pages and their questions of some kinds as VLMEvalKit stores a benchmark."""
    names = {number: name for name, number in IDS.items()}
    rows = ["index\timage\tquestion\tanswer"]
    for page, questions in zip(*held_out(kind, pages, asked), strict=True):
        file = io.BytesIO()
        Image.fromarray(page.pixels).save(file, "PNG")
        image = base64.b64encode(file.getvalue()).decode()
        first = len(rows) - 1
        for question in (one for one in questions if one.kind in question_kinds):
            prompt = " ".join(names[token] for token in question.prompt)
            rows.append(f"{len(rows) - 1}\t{image}\t{prompt}\t['{names[question.answer]}']")
            image = str(first)
    path.write_text("\n".join(rows) + "\n")
