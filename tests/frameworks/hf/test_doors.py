"""`PrunedProcessor` keeps the same tokens as every other function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pixelprune as pp
import pixelprune.hf as hf
import pytest
from PIL import Image

from . import cases, zoo
from .cases import ONE


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("threshold", [0.0, 0.02])
def test_a_processor_keeps_the_tokens_of_preprocess(mode: str, threshold: float) -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    stock = zoo.processor(family)
    spec = pp.VisionSpec.from_config(stock)
    rng = np.random.default_rng(5)
    side = spec.token_size
    pixels = rng.integers(0, 256, (2, 4), np.uint8)[rng.integers(0, 2, (6, 5))].repeat(side, 0).repeat(side, 1)
    pixels[..., 3] |= 0xF0  # nearly opaque
    image = Image.fromarray(pixels[:-3, :-5].copy()).convert(mode)
    settings = pp.PruneSettings(threshold=threshold)
    resample: Any = pp.ImageProcessor.from_config(stock).resample
    [expected] = pp.preprocess([image], spec, settings=settings, resample=resample).selections
    assert expected.kept < expected.total
    prompt = {"text": [cases.text_of(family, ONE)], "images": [image], "return_tensors": "pt"}
    pruned = hf.PrunedProcessor(stock, zoo.model(family), settings=settings)
    assert pruned(**prompt).pixelprune.selections[0].keep.tolist() == expected.keep.tolist()
    [found] = hf.prune_inputs(stock(**prompt), zoo.model(family), settings=settings).pixelprune.selections
    assert found.keep.tolist() == expected.keep.tolist()


def test_settings_or_keywords() -> None:
    family = zoo.BY_NAME["qwen2_vl"]
    stock = zoo.processor(family)
    settings = pp.PruneSettings(threshold=0.5, method="raster")
    by_object = hf.PrunedProcessor(stock, zoo.model(family), settings=settings, threads=2)
    assert by_object.settings == hf.PrunedProcessor(stock, zoo.model(family), threshold=0.5, method="raster").settings
    assert by_object.threads == 2
    with pytest.raises(TypeError, match="settings is given, and threshold too"):
        hf.PrunedProcessor(stock, zoo.model(family), settings=settings, threshold=0.5)
    with pytest.raises(TypeError, match=r"unknown keyword 'treshold'; expected processor, .*, method, metric"):
        hf.PrunedProcessor(stock, zoo.model(family), treshold=0.5)  # type: ignore[call-arg]
    batch = stock(text=[cases.text_of(family, ONE)], return_tensors="pt", **cases.images_of(family, (ONE,)))
    for threshold in (0.5, [0.5]):
        with pytest.raises(TypeError, match="settings is given, and threshold too"):
            hf.prune_inputs(batch, zoo.model(family), settings=settings, threshold=threshold)
