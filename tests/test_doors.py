"""One image gives the same tokens whichever door it comes in by."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pixelprune import cli
from strategies import THRESHOLDS

CONFIG = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": 4,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 32 * 32, "longest_edge": 96 * 96},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
MODES = ("RGB", "RGBA", "L", "LA", "P", "1")


@st.composite
def drawn_images(draw: st.DrawFn) -> Image.Image:
    """Tiles of a few colours, some of them see-through, in a size that often has to be resized."""
    height, width, tile = draw(st.integers(1, 120)), draw(st.integers(1, 120)), draw(st.sampled_from((1, 8, 16)))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    palette = rng.integers(0, 256, (draw(st.integers(1, 3)), 4), np.uint8)
    palette[:, 3] |= draw(st.sampled_from((0, 255)))
    cells = rng.integers(0, len(palette), (-(-height // tile), -(-width // tile)))
    pixels = palette[cells].repeat(tile, axis=0).repeat(tile, axis=1)[:height, :width]
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert(draw(st.sampled_from(MODES)))
    file = io.BytesIO()
    image.save(file, "PNG")
    return Image.open(file)  # as a file can hold it: a palette in memory can hold more


@st.composite
def hows(draw: st.DrawFn) -> pp.PruneSettings:
    method = draw(st.sampled_from(("pred_2d", "raster", "serpentine", "either", "unique", "random", "conncomp")))
    return pp.PruneSettings(
        method=method,
        metric=draw(st.sampled_from(("max", "mae", "rmse"))),
        threshold=0.0 if method == "unique" else draw(THRESHOLDS),
        anchored=draw(st.booleans()),
        protect=draw(st.sampled_from(("nothing", "content"))),
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "preprocessor_config.json"
    path.write_text(json.dumps(CONFIG))
    return path


@settings(max_examples=60)
@given(drawn_images(), hows(), st.sampled_from(("torchvision", "pillow")), st.sampled_from((1, 2)))
def test_every_door_keeps_the_same_tokens(
    config: Path, image: Image.Image, how: pp.PruneSettings, resample: Any, threads: int
) -> None:
    spec = pp.VisionSpec.from_config(config)
    file = io.BytesIO()
    image.save(file, "PNG")
    [expected] = pp.preprocess([image], spec, settings=how, resample=resample).selections
    resized = pp.resize_image(pp.load_image(image, alpha="white"), spec, resample=resample)
    ours = pp.ImageProcessor(spec, settings=how, resample=resample, threads=threads)
    [streamed] = pp.preprocess_stream([file.getvalue()], spec, settings=how, resample=resample, threads=threads)
    assert streamed.batch is not None
    whole = pp.preprocess([image], spec, prune=False, resample=resample)
    doors = {
        "prune": pp.prune(resized, spec, settings=how, threads=threads),
        "prune_batch": pp.prune_batch([resized], spec, settings=how, threads=threads)[0],
        "bytes": pp.preprocess([file.getvalue()], spec, settings=how, resample=resample, threads=threads).selections[0],
        "preprocess_stream": streamed.batch.selections[0],
        "ImageProcessor": ours(image).batch.selections[0],
        "prune_pixel_values": pp.prune_pixel_values(whole.pixel_values, whole.grid_thw, spec, settings=how)[0],
    }
    for name, selection in doors.items():
        assert selection.keep.tolist() == expected.keep.tolist(), name
        assert selection == expected, name
    [swept] = pp.sweep(resized, spec, [how], indices=True, threads=threads)
    assert swept.keep is not None
    assert swept.keep.tolist() == expected.keep.tolist()
    assert swept[:2] == (expected.kept, len(expected.dropped_content(resized)))


@settings(max_examples=15)
@given(drawn_images(), hows(), st.sampled_from(("torchvision", "pillow", None)))
def test_the_command_line_keeps_them(config: Path, image: Image.Image, how: pp.PruneSettings, resample: Any) -> None:
    path = config.with_name("image.png")
    image.save(path)
    chosen = {} if resample is None else {"resample": resample}
    [expected] = pp.preprocess([path], pp.VisionSpec.from_config(config), settings=how, **chosen).selections
    words = ["show", str(path), "--json", "--spec", str(config), "--method", how.method, "--metric", how.metric]
    words += ["--threshold", repr(how.threshold)]
    words += ["--protect", how.protect, *([] if how.anchored else ["--open-loop"])]
    words += [] if resample is None else ["--resample", resample]
    with pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr("sys.stdout", out)
        assert cli.main(words) == 0  # type: ignore[arg-type]
    report = json.loads(out.getvalue())
    assert report["keep"] == expected.keep.tolist()
    resized = pp.resize_image(pp.load_image(path, alpha="white"), pp.VisionSpec.from_config(config), **chosen)
    assert report["dropped_content"] == len(expected.dropped_content(resized))
    assert (report["kept"], report["tokens"]) == (expected.kept, expected.total)
