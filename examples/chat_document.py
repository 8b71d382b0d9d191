"""Ask a model about a document page, on its kept tokens only.

Needs ``pip install '.[hf]'``.

    python examples/chat_document.py
    python examples/chat_document.py --model PATH --image page.png --question "What is the total?"
"""

from __future__ import annotations

import tiny
import torch
from PIL import Image
from pixelprune.hf import PrunedProcessor, generate


def main() -> None:
    """Run the example."""
    parser = tiny.arguments(__doc__)
    parser.add_argument("--image", help="any image file; default: the page that comes with pixelprune")
    parser.add_argument("--question", default="What does this page say?")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    options = parser.parse_args()

    if options.model is None:
        print("a tiny model with random weights: give --model for a meaningful answer")
    model, stock = tiny.load(options.model)
    image = tiny.page() if options.image is None else Image.open(options.image)
    processor = PrunedProcessor(stock, model, threshold=options.threshold)

    content = [{"type": "image", "image": image}, {"type": "text", "text": options.question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)

    pruned = inputs.pixelprune
    [selection] = pruned.selections
    print(f"image        {image.width} x {image.height} pixels, {selection.total} tokens, {selection.kept} kept")
    print(f"prompt       {pruned.tokens_before} tokens before, {pruned.tokens_after} after pruning")

    with torch.inference_mode():
        output = generate(model, inputs, max_new_tokens=options.max_new_tokens, do_sample=False)
    answer = output[0, inputs["input_ids"].shape[1] :]
    print(f"answer       {processor.tokenizer.decode(answer, skip_special_tokens=True)!r}")


if __name__ == "__main__":
    main()
