"""Reconstruction, decoding, verification and fingerprints."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pixelprune as pp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixelprune import reference
from pixelprune.reference import METHODS, PROTECT
from strategies import PIXEL_SPEC, Case, Pixels, cases, distance, layouts

DECODABLE = ("pred_2d", "raster", "serpentine")
QWEN3 = pp.VisionSpec.preset("qwen3_vl")


def how_of(case: Case, method: str) -> dict[str, Any]:
    threshold = 0.0 if method == "unique" else case.threshold
    return {"method": method, "metric": case.metric, "threshold": threshold}


def kept_tokens(image: Pixels, sel: pp.Selection) -> Pixels:
    """(K, px, px, C), cut out by the reference."""
    return reference.image_tokens(image, sel.spec)[sel.mask[0]]


# --- There and back --------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(cases(), st.sampled_from(DECODABLE), st.booleans(), st.sampled_from(PROTECT))
def test_decode_gives_the_image_at_threshold_0(case: Case, method: str, anchored: bool, protect: str) -> None:
    how: dict[str, Any] = {"method": method, "metric": case.metric, "anchored": anchored, "protect": protect}
    sel = pp.prune(case.image, case.spec, **how)
    kept = kept_tokens(case.image, sel)
    assert np.array_equal(kept, sel.tokens(case.image))
    kept = kept[..., 0] if case.image.ndim == 2 else kept
    assert np.array_equal(pp.decode(sel.mask, kept, case.spec, **how), case.image)


@settings(max_examples=150)
@given(cases(), st.sampled_from(DECODABLE), st.sampled_from(PROTECT))
def test_decode_gives_the_reconstruction_in_closed_loop(case: Case, method: str, protect: str) -> None:
    how = {**how_of(case, method), "protect": protect}
    sel = pp.prune(case.image, case.spec, **how)
    expected = sel.reconstruct(case.image)
    kept = sel.tokens(case.image)
    kept = kept[..., 0] if case.image.ndim == 2 else kept
    decoded = pp.decode(sel.mask, kept, case.spec, **how)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, expected)
    assert np.array_equal(pp.decode(sel.mask[0], np.asfortranarray(kept), case.spec, **how), expected)


@given(cases(), st.sampled_from(METHODS), st.booleans())
def test_reconstruct_is_the_reference_s(case: Case, method: str, anchored: bool) -> None:
    sel = pp.prune(case.image, case.spec, anchored=anchored, **how_of(case, method))
    expected = reference.reconstruct(case.image, sel.source, case.spec)
    found = sel.reconstruct(case.image)
    assert np.array_equal(found, expected)
    assert found.shape == case.image.shape
    assert not np.shares_memory(found, case.image)
    if case.threshold == 0 or method == "unique":
        assert np.array_equal(found, case.image)


@settings(max_examples=150)
@given(cases(), st.sampled_from(("pred_2d", "raster", "serpentine", "either", "unique")), st.sampled_from(PROTECT))
def test_closed_loop_errors_stay_below_the_threshold(case: Case, method: str, protect: str) -> None:
    how = {**how_of(case, method), "protect": protect}
    sel = pp.prune(case.image, case.spec, **how)
    found = pp.verify(case.image, sel)
    assert found.holds
    if case.metric == "max":
        assert found.max_error <= how["threshold"] * (1 + 1e-8)
    limit = {"max": 255.0, "mae": 255.0, "rmse": 255.0**2}[case.metric] * (1 + 1e-8)
    tokens = reference.image_tokens(case.image, case.spec).reshape(sel.total, -1)
    n = 1 if case.metric == "max" else tokens.shape[1]
    tau = how["threshold"] ** 2 if case.metric == "rmse" else how["threshold"]
    for token, source in zip(tokens, sel.source, strict=True):
        assert distance(token, tokens[source], case.metric) <= limit * tau * n


@given(st.data(), cases(), st.sampled_from(METHODS), st.booleans())
def test_verify_measures_the_reconstruction(data: st.DataObject, case: Case, method: str, anchored: bool) -> None:
    sel = pp.prune(case.image, case.spec, anchored=anchored, **how_of(case, method))
    difference = abs(sel.reconstruct(case.image).astype(int) - case.image)
    found = pp.verify(data.draw(layouts(case.image)), sel)
    assert found.max_error == difference.max() / 255
    assert found.mean_error == pytest.approx(difference.mean() / 255, rel=1e-12, abs=0)
    tokens = reference.image_tokens(case.image, case.spec).reshape(sel.total, -1)
    budget = reference.budget(case.metric, sel.threshold, tokens.shape[1])
    holds = all(
        distance(token, tokens[source], case.metric) <= budget for token, source in zip(tokens, sel.source, strict=True)
    )
    assert found.holds == holds


def test_verify_by_hand() -> None:
    ramp = np.arange(0, 60, 10, dtype=np.uint8)[np.newaxis]
    closed, open_loop = (pp.prune(ramp, PIXEL_SPEC, threshold=10 / 255, anchored=a) for a in (True, False))
    assert pp.verify(ramp, closed) == pp.Verification(10 / 255, 30 / 255 / 6, True)
    assert pp.verify(ramp, open_loop) == pp.Verification(50 / 255, 150 / 255 / 6, False)
    # Of an image that has changed since, the bound need not hold.
    other = ramp.copy()
    other[0, 1] = 60
    assert pp.verify(other, closed) == pp.Verification(60 / 255, 80 / 255 / 6, False)


def test_verify_of_a_large_image() -> None:
    image = np.random.default_rng(6).integers(0, 3, (1056, 1056, 3), np.uint8)
    sel = pp.prune(image, QWEN3, threshold=1.5 / 255, metric="mae")
    assert sel.kept < 10
    found = pp.verify(image, sel)
    difference = abs(sel.reconstruct(image).astype(int) - image)
    assert found.holds
    assert found.max_error == 2 / 255
    assert found.mean_error == pytest.approx(difference.mean() / 255)


@pytest.mark.parametrize("shape", [(64, 64, 3), (96, 64, 3), (64, 97, 3), (2, 64, 96, 3)])
def test_reconstruct_verify_and_tokens_of_another_image(shape: tuple[int, ...]) -> None:
    sel = pp.prune(np.zeros((64, 96, 3), np.uint8), QWEN3)
    other = np.zeros(shape, np.uint8)
    for call in (sel.reconstruct, sel.tokens, lambda image: pp.verify(image, sel)):
        with pytest.raises(pp.PixelPruneError, match="expected"):
            call(other)
        with pytest.raises(TypeError, match="float32"):
            call(np.zeros((64, 96, 3), np.float32))


@pytest.mark.parametrize("selection", [None, "x", 5, [0], np.zeros(3, np.int64), QWEN3, pp.Selection], ids=repr)
def test_verify_of_what_is_no_selection(selection: Any) -> None:
    with pytest.raises(TypeError, match=r"selection is .*; expected a Selection, as prune returns"):
        pp.verify(np.zeros((64, 64, 3), np.uint8), selection)


def test_decode_of_selections_and_images() -> None:
    """Arguments that are easily confused."""
    image = np.zeros((64, 64, 3), np.uint8)
    sel = pp.prune(image, QWEN3)
    with pytest.raises(TypeError, match="mask has dtype object; expected bool"):
        pp.decode(sel, sel.tokens(image), QWEN3)  # type: ignore[arg-type]
    with pytest.raises(pp.PixelPruneError, match="tokens has shape"):
        pp.decode(sel.mask, image, QWEN3)
    with pytest.raises(TypeError, match="tokens has dtype object; expected uint8"):
        pp.decode(sel.mask, sel, QWEN3)


def test_frames_have_no_single_image_to_reconstruct() -> None:
    [sel] = pp.prune_pixel_values(np.zeros((8, 1536), np.uint8), [(2, 2, 2)], QWEN3)
    image = np.zeros((32, 32, 3), np.uint8)
    for call in (sel.reconstruct, sel.tokens, lambda pixels: pp.verify(pixels, sel)):
        with pytest.raises(pp.PixelPruneError, match=r"2 frame\(s\)"):
            call(image)


# --- decode ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "mask", "kept", "expected"),
    [
        ("pred_2d", "101/000/101", [0, 16, 16, 0], [[0, 0, 16], [0, 0, 16], [16, 16, 0]]),
        ("raster", "101/001/000", [1, 2, 3], [[1, 1, 2], [2, 2, 3], [3, 3, 3]]),
        ("serpentine", "101/001/000", [1, 2, 3], [[1, 1, 2], [3, 3, 3], [3, 3, 3]]),
        ("serpentine", "101/100/000", [1, 2, 3], [[1, 1, 2], [3, 2, 2], [3, 3, 3]]),
    ],
)
def test_decode_by_hand(method: Any, mask: str, kept: list[int], expected: list[list[int]]) -> None:
    keep = np.array([[bit == "1" for bit in row] for row in mask.split("/")])
    for tokens in (np.uint8(kept).reshape(-1, 1, 1, 1), np.uint8(kept).reshape(-1, 1, 1)):
        for frame in (keep, keep[np.newaxis], keep.tolist()):
            image = pp.decode(frame, tokens, PIXEL_SPEC, method=method, threshold=10 / 255)
            assert image.reshape(3, 3).tolist() == expected
            assert image.ndim == tokens.ndim - 1


@given(st.data(), st.sampled_from(DECODABLE), st.integers(1, 3))
def test_any_mask_decodes_as_the_reference_does(data: st.DataObject, method: Any, frames: int) -> None:
    """Also masks that no encoder makes."""
    rows, cols = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    bits = data.draw(st.lists(st.booleans(), min_size=frames * rows * cols, max_size=frames * rows * cols))
    mask = np.array(bits).reshape(frames, rows, cols)
    mask[:, 0, 0] = True
    shades = data.draw(st.lists(st.integers(0, 6), min_size=int(mask.sum()), max_size=int(mask.sum())))
    tokens = np.uint8(shades).reshape(-1, 1, 1, 1) * np.uint8([[[1, 2, 3]]])
    how: dict[str, Any] = {
        "method": method,
        "metric": data.draw(st.sampled_from(("max", "mae", "rmse"))),
        "threshold": data.draw(st.sampled_from((0.0, 1 / 255, 3 / 255))),
    }
    found = pp.decode(mask, tokens, PIXEL_SPEC, **how)
    ends = np.cumsum(mask.sum(axis=(1, 2)))[:-1]
    expected = [
        reference.decode(frame, own, PIXEL_SPEC, **how) for frame, own in zip(mask, np.split(tokens, ends), strict=True)
    ]
    assert np.array_equal(found, expected if frames > 1 else expected[0])


UNDECODABLE: list[dict[str, Any]] = [
    {"method": "either"},
    {"method": "unique"},
    {"method": "random"},
    {"method": "conncomp"},
    {"method": lambda left, up: left},
    *({"method": method, "threshold": 0.1, "anchored": False} for method in DECODABLE),
]


@pytest.mark.parametrize("how", UNDECODABLE, ids=str)
def test_what_cannot_be_decoded(how: dict[str, Any]) -> None:
    with pytest.raises(pp.PixelPruneError, match="can't be decoded"):
        pp.decode([[True]], np.zeros((1, 32, 32, 3), np.uint8), QWEN3, **how)


ONE = np.zeros((1, 32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("mask", "tokens", "how", "error", "message"),
    [
        ([[False, True]], ONE, {}, pp.PixelPruneError, r"drops token \(0, 0\)"),
        (np.ones((1, 1, 1, 1), bool), ONE, {}, pp.PixelPruneError, "mask has shape"),
        ([True], ONE, {}, pp.PixelPruneError, "mask has shape"),
        (np.ones((0, 5), bool), ONE, {}, pp.PixelPruneError, "mask has shape"),
        ([[True, True]], ONE, {}, pp.PixelPruneError, "keeps 2 of 2 tokens, but there are 1"),
        ([[True, False]], ONE.repeat(2, axis=0), {}, pp.PixelPruneError, "keeps 1 of 2 tokens, but there are 2"),
        ([[[True]], [[False]]], ONE, {}, pp.PixelPruneError, r"drops token \(0, 0\)"),
        ([[False]], ONE[:0], {}, pp.PixelPruneError, "tokens has shape"),
        ([[True]], ONE[:, :16], {}, pp.PixelPruneError, "tokens has shape"),
        ([[True]], ONE[:, :16, :16], {}, pp.PixelPruneError, "tokens has shape"),
        ([[True]], ONE[0], {}, pp.PixelPruneError, "tokens has shape"),
        ([[True]], ONE[..., :2], {}, pp.PixelPruneError, "channels"),
        ([[True]], ONE[..., :0], {}, pp.PixelPruneError, "channels"),
        ([[True]], ONE[..., np.newaxis], {}, pp.PixelPruneError, "tokens has shape"),
        ([[True]], ONE.astype(np.float32), {}, TypeError, "tokens has dtype float32"),
        ([[True]], None, {}, TypeError, "tokens has dtype object"),
        ([[1]], ONE, {}, TypeError, "mask has dtype int64"),
        (None, ONE, {}, TypeError, "mask has dtype object"),
        ([[True], [True, False]], ONE, {}, pp.PixelPruneError, "mask"),
        ([[True]], [[0], [0, 0]], {}, pp.PixelPruneError, "tokens"),
        ([[True]], ONE, {"method": "pred_3d"}, pp.PixelPruneError, 'method is "pred_3d"'),
        ([[True]], ONE, {"method": None}, TypeError, "method is None"),
        ([[True]], ONE, {"metric": "l2"}, pp.PixelPruneError, 'metric is "l2"'),
        ([[True]], ONE, {"threshold": 1.5}, pp.PixelPruneError, "threshold is 1.5"),
        ([[True]], ONE, {"threshold": -0.5}, pp.PixelPruneError, "threshold is -0.5"),
        ([[True]], ONE, {"threshold": float("nan")}, pp.PixelPruneError, "threshold is NaN"),
        ([[True]], ONE, {"threshold": "0"}, TypeError, "threshold is '0'"),
    ],
)
def test_what_decode_refuses(mask: Any, tokens: Any, how: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pp.decode(mask, tokens, QWEN3, **how)


# --- Fingerprints ----------------------------------------------------------------------------------------

# (side, channels, XXH3-64 of the bytes 0, 1, .. 250, 0, 1, ..), from the reference C implementation: every
# one of its ranges of lengths, and the lengths of real tokens.
VECTORS = [
    (1, 1, 0xC44BDFF4074EECDB),
    (1, 3, 0x5F4299FC161C9CBB),
    (1, 4, 0x60DAB036A58211F2),
    (3, 1, 0xE9612598145BB9DC),
    (4, 1, 0x8355E3A6F61770DB),
    (2, 4, 0x8355E3A6F61770DB),
    (3, 4, 0x55A876ACBBB0EB1E),
    (5, 4, 0x004E4F921A64BD1C),
    (11, 1, 0x0C679252506B55DF),
    (12, 1, 0x028E1E35FF4C0A01),
    (7, 3, 0x3A89964F563BCBFB),
    (8, 3, 0x981EB7DF4A4911D7),
    (9, 3, 0x8835F9529193E3DC),
    (8, 4, 0x44F5D90DACDE463A),
    (16, 4, 0xE5D78BAFA45B2AA5),
    (32, 1, 0xE5D78BAFA45B2AA5),
    (17, 4, 0x5F22015B226FD857),
    (28, 3, 0xACF9C34AA041D318),
    (32, 3, 0x4ADB90B35034DF6B),
    (33, 3, 0x2F2C08187453EBE7),
    (32, 4, 0x7135FFA504F1BC71),
]


@pytest.mark.parametrize(("px", "channels", "expected"), VECTORS)
def test_fingerprints_are_xxh3(px: int, channels: int, expected: int) -> None:
    token = (np.arange(px * px * channels) % 251).astype(np.uint8).reshape(px, px, channels)
    image = np.zeros((3 * px, 2 * px, channels), np.uint8)
    image[px : 2 * px, px:] = token
    spec = replace(PIXEL_SPEC, patch_size=px)
    hashes = pp.hash_tokens(image, spec)
    assert hashes.dtype == np.uint64
    assert hashes.shape == (3, 2)
    assert hashes[1, 1] == expected
    assert len(np.unique(hashes)) == (2 if token.any() else 1)
    if channels == 1:
        assert np.array_equal(pp.hash_tokens(image[..., 0], spec), hashes)


@given(st.data(), cases())
def test_fingerprints_are_those_of_the_package_xxhash(data: st.DataObject, case: Case) -> None:
    xxhash = pytest.importorskip("xxhash")
    expected = [
        [xxhash.xxh3_64_intdigest(token) for token in row] for row in reference.hash_token_bytes(case.image, case.spec)
    ]
    assert pp.hash_tokens(data.draw(layouts(case.image)), case.spec).tolist() == expected


def test_grey_and_colour_have_other_fingerprints() -> None:
    grey = np.random.default_rng(7).integers(0, 256, (32, 32), np.uint8)
    hashes = {pp.hash_tokens(grey[..., np.newaxis].repeat(n, axis=2), QWEN3).item() for n in (1, 3, 4)}
    assert len(hashes) == 3


@pytest.mark.parametrize("shape", [(32, 33), (16, 16), (0, 32), (32, 32, 2), (32,)])
def test_fingerprints_of_what_is_no_image_of_tokens(shape: tuple[int, ...]) -> None:
    with pytest.raises(pp.PixelPruneError, match="expected"):
        pp.hash_tokens(np.zeros(shape, np.uint8), QWEN3)
    with pytest.raises(TypeError, match="float64"):
        pp.hash_tokens(np.zeros(shape), QWEN3)


def test_unique_is_the_number_of_fingerprints() -> None:
    rng = np.random.default_rng(8)
    for px, channels in product((1, 5, 32), (1, 3)):
        tokens = rng.integers(0, 256, (9, px, px, channels), np.uint8)
        image = tokens[rng.integers(0, 9, (6, 7))].transpose(0, 2, 1, 3, 4).reshape(6 * px, 7 * px, channels)
        spec = replace(PIXEL_SPEC, patch_size=px)
        assert pp.prune(image, spec, method="unique").kept == len(np.unique(pp.hash_tokens(image, spec)))
