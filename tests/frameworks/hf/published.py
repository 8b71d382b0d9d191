"""Run the published implementation, in a process whose ``pixelprune`` it is: ``published.py FAMILY FILE``.

Writes the logits and the tokens that it gives for some prompts, one by one: it takes no batches.
"""

from __future__ import annotations

import os
import sys

os.environ.update(PIXELPRUNE_ENABLED="true", PIXELPRUNE_METHOD="pred_2d", PIXELPRUNE_THRESHOLD="0")

import numpy as np
import pixelprune
import torch

from frameworks.hf import cases, zoo


def main(name: str, file: str) -> None:
    assert pixelprune.__version__ == "1.0.0", pixelprune.__file__
    pixelprune.apply_pixelprune(model=name)
    family = zoo.BY_NAME[name]
    model = zoo.model(family)
    found = {}
    for i, prompt in enumerate(cases.PUBLISHED):
        batch = cases.process(family, [prompt])
        with torch.no_grad():
            found[f"logits {i}"] = model(**batch).logits[0].numpy()
            model.model.rope_deltas = None
            ids = model.generate(**batch, max_new_tokens=cases.STEPS, do_sample=False)[0]
            found[f"tokens {i}"] = ids[-cases.STEPS :].numpy()
            model.model.rope_deltas = None
    np.savez(file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
