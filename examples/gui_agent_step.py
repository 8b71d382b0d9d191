"""One step of a GUI agent: ask where to click on a screenshot, and convert the answer to pixels of the screen.

The model answers in pixels of the image as it sees it, or in thousandths of its sides. That size
can't be computed from the grids of pruned inputs; it is in ``inputs.pixelprune.image_sizes``.

    python examples/gui_agent_step.py
    python examples/gui_agent_step.py --model PATH --screenshot screen.png --task "Open the settings"
"""

from __future__ import annotations

import re

import tiny
import torch
from PIL import Image, ImageDraw
from pixelprune.hf import PrunedProcessor, generate


def screen() -> Image.Image:
    """A window with a bar, a sidebar, a few lines of text and a button."""
    image = Image.new("RGB", (1920, 1080), (246, 246, 248))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 1920, 48), fill=(32, 33, 36))
    draw.rectangle((0, 48, 260, 1080), fill=(235, 236, 240))
    for row, label in enumerate(("Inbox", "Sent", "Drafts", "Settings")):
        draw.text((40, 90 + 56 * row), label, fill=(40, 40, 40))
    for row in range(8):
        draw.text((320, 120 + 80 * row), f"Message {row}: the figures for this week are attached", fill=(20, 20, 20))
    draw.rectangle((1680, 980, 1860, 1040), fill=(26, 115, 232))
    draw.text((1740, 1002), "Compose", fill=(255, 255, 255))
    return image


def to_screen(answer: str, seen: tuple[int, int], shot: tuple[int, int], relative: bool) -> tuple[int, int] | None:
    """Return the first point ``(x, y)`` of an answer in pixels of the screenshot."""
    numbers = re.findall(r"\d+(?:\.\d+)?", answer)
    if len(numbers) < 2:
        return None
    x, y = (float(number) for number in numbers[:2])
    height, width = (1000, 1000) if relative else seen
    return round(x / width * shot[0]), round(y / height * shot[1])


def main() -> None:
    """Run the example."""
    parser = tiny.arguments(__doc__)
    parser.add_argument("--screenshot", help="any image file; default: a drawn window")
    parser.add_argument("--task", default="Write a new message")
    parser.add_argument("--relative", action="store_true", help="the model answers in thousandths, as Qwen3-VL does")
    options = parser.parse_args()

    model, stock = tiny.load(options.model)
    shot = screen() if options.screenshot is None else Image.open(options.screenshot).convert("RGB")
    processor = PrunedProcessor(stock, model, threshold=options.threshold)
    question = f"{options.task}. Where do I click? Answer with x, y."
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image", "image": shot}, {"type": "text", "text": question}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    pruned = inputs.pixelprune
    [seen] = pruned.image_sizes
    print(f"screenshot   {shot.width} x {shot.height} pixels, seen by the model as {seen[1]} x {seen[0]}")
    print(f"prompt       {pruned.tokens_before} tokens before, {pruned.tokens_after} after pruning")

    with torch.inference_mode():
        output = generate(model, inputs, max_new_tokens=16, do_sample=False)
    answer = processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    if options.model is None:
        print("(random weights: taking an answer as a trained model would give it)")
        answer = f"{seen[1] * 1770 // 1920}, {seen[0] * 1010 // 1080}"
    print(f"answer       {answer!r}")
    print(f"click        {to_screen(answer, seen, shot.size, options.relative and options.model is not None)}")


if __name__ == "__main__":
    main()
