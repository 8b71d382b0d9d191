"""`PruneSettings`: checked once, a plain value, and the same as its fields as keywords at every function."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from pixelprune.selection.settings import PruneOptions

SPEC = pp.PRESETS["qwen3_vl"]
IMAGE = np.random.default_rng(7).integers(0, 2, (96, 128, 3), np.uint8) * 9
IMAGE[:64, :96] = 100
VALUES = pp.preprocess([IMAGE], SPEC, resample="none", prune=False)
PRUNING: dict[str, Callable[..., Any]] = {
    "prune": lambda **how: pp.prune(IMAGE, SPEC, **how),
    "prune_batch": lambda **how: pp.prune_batch([IMAGE], SPEC, **how)[0],
    "prune_pixel_values": lambda **how: pp.prune_pixel_values(VALUES.pixel_values, VALUES.grid_thw, SPEC, **how)[0],
    "preprocess": lambda **how: pp.preprocess([IMAGE], SPEC, resample="none", **how).selections[0],
    "preprocess_stream": lambda **how: next(pp.preprocess_stream([IMAGE], SPEC, resample="none", **how)).batch,
    "ImageProcessor": lambda **how: pp.ImageProcessor(SPEC, resample="none", **how)(IMAGE).batch.selections[0],
    "from_config": lambda **how: pp.ImageProcessor.from_config(
        {
            "image_processor_type": "Qwen2VLImageProcessor",
            "patch_size": 16,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "size": {"shortest_edge": 1024, "longest_edge": 1048576},
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        resample="none",
        **how,
    )(IMAGE).batch.selections[0],
    "decode": lambda **how: pp.decode([[True] * 4] * 3, np.zeros((12, 32, 32), np.uint8), SPEC, **how),
}
HOW = {"method": "raster", "metric": "mae", "threshold": 0.02, "anchored": True, "seed": 3, "protect": "content"}


def outcome(function: Callable[..., Any], **how: Any) -> Any:
    """What a function makes of the image, in a form that can be compared."""
    found = function(**how)
    if isinstance(found, pp.Batch):
        [found] = found.selections
    return found.tolist() if isinstance(found, np.ndarray) else found


@pytest.mark.parametrize("name", PRUNING)
def test_settings_are_the_same_as_keywords(name: str) -> None:
    by_object = outcome(PRUNING[name], settings=pp.PruneSettings(**HOW))  # type: ignore[arg-type]
    assert by_object == outcome(PRUNING[name], **HOW)
    assert outcome(PRUNING[name], settings=pp.PruneSettings()) == outcome(PRUNING[name])
    if name != "decode":
        assert by_object != outcome(PRUNING[name])
        assert {key: getattr(by_object, key) for key in HOW} == HOW


@pytest.mark.parametrize("name", PRUNING)
def test_both_settings_and_keywords_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match="settings is given, and threshold, seed too; expected one or the other"):
        PRUNING[name](settings=pp.PruneSettings(), threshold=0.0, seed=1)


@pytest.mark.parametrize("name", PRUNING)
def test_unknown_keywords_are_named_beside_the_known_ones(name: str) -> None:
    with pytest.raises(TypeError, match=r"unknown keyword 'treshold', 'x'; expected .*settings.*, method, metric"):
        PRUNING[name](treshold=0.0, x=1, seed=1)


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize("value", [0.02, HOW, "pred_2d", (0,), False])
def test_other_things_are_no_settings(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=r"settings is .*; expected a PruneSettings"):
        PRUNING[name](settings=value)


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_bad_number_is_refused_every_time(name: str, threshold: float) -> None:
    for _ in range(2):
        with pytest.raises(pp.PixelPruneError, match="threshold"):
            PRUNING[name](threshold=threshold)


def test_values_are_checked_when_settings_are_made() -> None:
    bad: list[dict[str, Any]] = [
        {"method": "none"}, {"metric": "none"}, {"protect": "none"}, {"threshold": 2}, {"threshold": float("inf")},
        {"method": "unique", "threshold": 0.1}, {"method": lambda left, up: left, "threshold": -1},
    ]  # fmt: skip
    for how in bad:
        with pytest.raises(pp.PixelPruneError):
            pp.PruneSettings(**how)
    wrong: list[dict[str, Any]] = [
        {"method": 1}, {"metric": 1}, {"threshold": "0"}, {"threshold": True}, {"anchored": 1}, {"seed": 1.0},
        {"protect": True},
    ]  # fmt: skip
    for how in wrong:
        with pytest.raises(TypeError):
            pp.PruneSettings(**how)
        with pytest.raises(TypeError):
            pp.prune(IMAGE, SPEC, **how)


def test_equal_values_of_other_types_are_told_apart() -> None:
    """Calls with equal keywords share their settings; 0, 0.0 and False are equal in Python, and not one value."""
    assert pp.prune(IMAGE, SPEC, threshold=0.0) == pp.prune(IMAGE, SPEC, threshold=0)
    with pytest.raises(TypeError, match="threshold is False"):
        pp.prune(IMAGE, SPEC, threshold=False)
    assert pp.prune(IMAGE, SPEC, anchored=True).anchored is True
    with pytest.raises(TypeError, match="anchored is 1"):
        pp.prune(IMAGE, SPEC, anchored=1)  # type: ignore[arg-type]


def of_ones_own(left: Any, up: Any) -> Any:
    """A method that keeps everything; it is pickled by its name."""
    return left | ~left


@pytest.mark.parametrize(
    "settings",
    [pp.PruneSettings(), pp.PruneSettings(**HOW), pp.PruneSettings(method=of_ones_own, threshold=0.5)],  # type: ignore[arg-type]
)
def test_settings_are_plain_values(settings: pp.PruneSettings) -> None:
    for other in (
        pickle.loads(pickle.dumps(settings)), copy.copy(settings), copy.deepcopy(settings), settings.replace(),
        dataclasses.replace(settings), pp.PruneSettings(**dataclasses.asdict(settings)),
    ):  # fmt: skip
        assert other == settings
        assert hash(other) == hash(settings)
        assert pp.prune(IMAGE, SPEC, settings=other) == pp.prune(IMAGE, SPEC, settings=settings)
    if not callable(settings.method):
        assert eval(repr(settings), vars(pp)) == settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.threshold = 0.1  # type: ignore[misc]


def test_replace_changes_fields_and_checks_them() -> None:
    settings = pp.PruneSettings(threshold=0.5)
    assert settings.replace(metric="mae", seed=-1) == pp.PruneSettings(threshold=0.5, metric="mae", seed=2**64 - 1)
    assert settings == pp.PruneSettings(threshold=0.5)
    with pytest.raises(pp.PixelPruneError, match="threshold"):
        settings.replace(threshold=2)
    with pytest.raises(
        TypeError, match="unknown keyword 'tau'; expected method, metric, threshold, anchored, seed, protect"
    ):
        settings.replace(tau=1)  # type: ignore[call-arg]


def test_types_become_pythons_own() -> None:
    settings = pp.PruneSettings(threshold=np.float32(0.5), anchored=np.bool_(False), seed=np.int64(-1))  # type: ignore[arg-type]
    assert [type(value) for value in dataclasses.astuple(settings)] == [str, str, float, bool, int, str]


def test_the_keywords_are_the_fields() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(pp.PruneSettings)}
    assert fields == {name: kind.__forward_arg__ for name, kind in PruneOptions.__annotations__.items()}


def test_a_method_of_ones_own_is_not_kept_alive() -> None:
    import gc
    import weakref

    def method(left: Any, up: Any) -> Any:
        return left | ~left

    assert pp.prune(IMAGE, SPEC, method=method).kept == 12
    gone = weakref.ref(method)
    del method
    gc.collect()
    assert gone() is None
