"""`pixelprune.compat` beside the published implementation, and without it by its golden masks.

Without ``--published PATH`` the tests that call the published code are skipped.
"""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pytest
from PIL import Image
from pixelprune import compat
from strategies import normalise, still

torch = pytest.importorskip("torch")

GOLDEN = Path(__file__).parents[1] / "golden"
ENTRIES: list[dict[str, Any]] = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))["images"]
SPEC = pp.VisionSpec(patch_size=4, merge_size=2)
LEVEL = 2 / 255
"""One step of uint8 on the scale of SPEC's pixel_values, which runs from -1 to 1."""

ALIASES = {
    "pred_2d": ("pred_2d", "pred_2d_loco", "loco", "LOCO_I", "pred_loco", "PixelPrune"),
    "raster": ("raster", "rle", "RLE_1d", "pixel_rle", "pixelrle"),
    "serpentine": ("serpentine", "rle_1d_zig", "rle_zigzag", "ZigZag", "rle_zig"),
    "random": ("random", "rand", "Random_Baseline"),
    "conncomp": ("conncomp", "ShowUI", "connected_components", "cc"),
}
PREDICTORS = ("pred_2d", "raster", "serpentine")

Batch = tuple[Any, Any]


def make_image(rows: int, cols: int, seed: int) -> npt.NDArray[np.uint8]:
    """Tokens of a palette of four, of which two are near each other, many of them moved by 0 to 7 levels."""
    rng = np.random.default_rng(seed)
    side = SPEC.token_size
    palette = rng.integers(40, 200, (4, side, side, 3))
    palette[1] = palette[0] + rng.integers(0, 6)
    tokens = palette[rng.choice(4, (rows, cols), p=(0.4, 0.3, 0.2, 0.1))]
    moves = rng.integers(0, 8, (rows, cols, 1, 1, 1)) * rng.choice((0, 0, 1, -1), (rows, cols, 1, 1, 1))
    some_values = rng.random((rows, cols, side, side, 3)) < rng.choice((0.005, 1), (rows, cols, 1, 1, 1))
    image = tokens + moves * some_values
    return image.transpose(0, 2, 1, 3, 4).reshape(rows * side, cols * side, 3).astype(np.uint8)


def batch(dtype: Any = torch.float32) -> Batch:
    """What a processor makes of several images, one row, one column and one token among them."""
    sizes = ((9, 7), (1, 12), (11, 1), (1, 1), (6, 13), (8, 8))
    parts = [still(normalise(make_image(*size, seed), SPEC), SPEC) for seed, size in enumerate(sizes)]
    values = torch.from_numpy(np.concatenate([part for part, _ in parts])).to(dtype)
    return values, torch.tensor([grid for _, grid in parts])


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype == torch.int64
        assert mine.device == other.device
        assert mine.tolist() == other.tolist()


def kept(given: Batch, **how: Any) -> list[list[int]]:
    return [indices.tolist() for indices in compat.compute_merged_keep_indices(*given, **how)]


def counts(given: Batch, **how: Any) -> list[int]:
    return [len(indices) for indices in kept(given, **how)]


def test_examples() -> None:
    result = doctest.testmod(compat)
    assert result.attempted
    assert not result.failed


# --- Side by side ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("metric", ["max", "mae", "rmse", "exact"])
@pytest.mark.parametrize("method", PREDICTORS)
def test_masks_are_the_published_ones(published: Any, method: str, metric: str, anchored: bool) -> None:
    given = batch()
    answers = set()
    # Whole levels are the hardest: differences are then as near to the threshold as float32 can tell.
    # Where they are summed up, the outcome would hang on the order of the sum.
    levels = (0, 1, 3, 2.55, 6.4, 7, 300) if metric in ("max", "exact") else (0, 0.6, 2.55, 3.3, 6.4, 300)
    for threshold in (level * LEVEL for level in levels):
        how = {"method": method, "metric": metric, "threshold": threshold, "anchored": anchored}
        ours = compat.compute_merged_keep_indices(*given, **how)
        assert_same(ours, published.compute_merged_keep_indices(*given, **how))
        answers.add(sum(map(len, ours)))
    assert len(answers) == 1 if metric == "exact" else len(answers) > 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", PREDICTORS)
def test_masks_of_half_precision_are_the_published_ones(published: Any, method: str, dtype: Any) -> None:
    given = batch(dtype)
    for threshold in (0.0, 1e-9, LEVEL, 2 * LEVEL, 3 * LEVEL, 0.02, 0.05, 5 * LEVEL, 0.1, 1.0, 3.0):
        for metric in ("max", "exact"):
            how = {"method": method, "metric": metric, "threshold": threshold}
            ours = compat.compute_merged_keep_indices(*given, **how)
            assert_same(ours, published.compute_merged_keep_indices(*given, **how))


@pytest.mark.parametrize("metric", ["max", "mae", "rmse", "exact"])
@pytest.mark.parametrize("method", ["random", "conncomp"])
def test_the_baselines_keep_as_many_as_the_published_ones(published: Any, method: str, metric: str) -> None:
    given = batch()
    for threshold in (0.0, 0.02, 3.3 * LEVEL):
        for rand in (True, False):
            how = {"method": method, "metric": metric, "threshold": threshold, "rand": rand}
            theirs = published.compute_merged_keep_indices(*given, **how)
            assert counts(given, **how) == [len(indices) for indices in theirs]


@pytest.mark.parametrize("skip_ratio", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_evenly_spaced_members_are_the_published_ones(published: Any, skip_ratio: float) -> None:
    given = batch()
    for threshold in (0.0, 0.02, 3 * LEVEL):
        how = {
            "method": "conncomp",
            "threshold": threshold,
            "rand": False,
            "align_compression": False,
            "skip_ratio": skip_ratio,
        }
        assert_same(
            compat.compute_merged_keep_indices(*given, **how),
            published.compute_merged_keep_indices(*given, **how),
        )


@pytest.mark.parametrize(
    "environment",
    [
        {"METHOD": "RLE"},
        {"METHOD": "Zigzag", "METRIC": "mae", "THRESHOLD": "0.02"},
        {"METRIC": "exact", "THRESHOLD": "0.5"},
        {"THRESHOLD": ""},
        {"THRESHOLD": " 5e-2 "},
        *({"THRESHOLD": "0.02", "ANCHORED": text} for text in ("true", "TRUE", "1", "Yes", "on", "0", "False", "")),
        {"METHOD": "raster", "THRESHOLD": "0.02", "ANCHORED": "false"},
    ],
    ids=str,
)
def test_the_environment_is_read_as_the_published_code_reads_it(
    published: Any, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(f"PIXELPRUNE_{name}", text)
    given = batch()
    assert_same(compat.compute_merged_keep_indices(*given), published.compute_merged_keep_indices(*given))
    how = {"method": "serpentine", "metric": "rmse", "threshold": 0.01, "anchored": True}  # these win
    assert_same(
        compat.compute_merged_keep_indices(*given, **how),
        published.compute_merged_keep_indices(*given, **how),
    )


@pytest.mark.parametrize("anchored_for_all", ["true", "false"])
@pytest.mark.parametrize("environment", [{}, {"ALIGN": "no", "SKIP_RATIO": "0.4"}, {"ALIGN": "0"}], ids=str)
@pytest.mark.parametrize("method", ["random", "conncomp"])
def test_the_baselines_count_by_the_environment(
    published: Any,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    environment: dict[str, str],
    anchored_for_all: str,
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(f"PIXELPRUNE_CONNCOMP_{name}", text)
    monkeypatch.setenv("PIXELPRUNE_ANCHORED", anchored_for_all)
    given = batch()
    for anchored in (None, True, False):  # which they do not look at
        how = {"method": method, "threshold": 0.02, "anchored": anchored}
        theirs = published.compute_merged_keep_indices(*given, **how)
        assert counts(given, **how) == [len(indices) for indices in theirs]


def test_patch_indices_are_the_published_ones(published: Any) -> None:
    merged = compat.compute_merged_keep_indices(*batch(), threshold=0.02)
    merged.append(torch.tensor([5, 3, 3]))
    merged.append(torch.empty(0, dtype=torch.int64))
    for block_size in (1, 4, 9):
        assert_same(
            compat.merged_indices_to_patch_indices(merged, block_size, torch.device("cpu")),
            published.merged_indices_to_patch_indices(merged, block_size, torch.device("cpu")),
        )


# --- By its golden masks, which need no published code ---------------------------------------------------


@pytest.fixture(scope="module", params=ENTRIES, ids=lambda entry: Path(entry["image"]).stem)
def golden(request: pytest.FixtureRequest) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    entry = request.param
    with Image.open(GOLDEN / "images" / entry["image"]) as image:
        resized = image.convert("RGB").resize(entry["resized"], Image.Resampling.BICUBIC)
    return entry, np.asarray(resized)


def golden_keep(entry: dict[str, Any], case: dict[str, Any]) -> list[int]:
    packed = np.frombuffer(bytes.fromhex(case["mask_packed_hex"]), np.uint8)
    return np.flatnonzero(np.unpackbits(packed, count=entry["tokens"])).tolist()


def test_golden_masks(golden: tuple[dict[str, Any], npt.NDArray[np.uint8]]) -> None:
    """The golden thresholds are on the scale of 0 to 1, and one temporal copy was compared."""
    entry, image = golden
    spec = pp.VisionSpec.preset(entry["preset"])
    one_frame = pp.VisionSpec(patch_size=spec.patch_size, merge_size=2, temporal_patch_size=1)
    values, grid = still(normalise(image, spec) * np.float32(0.5) + np.float32(0.5), one_frame)
    given = torch.from_numpy(values), torch.tensor([grid])
    for case in entry["cases"]:
        how = {name: case[name] for name in ("method", "metric", "threshold", "anchored")}
        assert kept(given, **how) == [golden_keep(entry, case)], how


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_golden_masks_of_what_the_processor_made(
    golden: tuple[dict[str, Any], npt.NDArray[np.uint8]], dtype: Any
) -> None:
    entry, image = golden
    spec = pp.VisionSpec.preset(entry["preset"])
    values, grid = still(image if dtype == torch.uint8 else normalise(image, spec), spec)
    given = torch.from_numpy(values).to(dtype), torch.tensor([grid])
    for case in entry["cases"]:
        if case["threshold"] == 0:
            assert kept(given, method=case["method"]) == [golden_keep(entry, case)]


# --- What needs neither ----------------------------------------------------------------------------------


def test_the_columns_are_compared_as_they_stand() -> None:
    """The second temporal copy counts, and nothing is brought back to another scale."""
    values = torch.zeros(8, 24)
    values[4:, 4:8] = 0.5
    grid = torch.tensor([[1, 2, 4]])
    assert kept((values, grid), threshold=0.5) == [[0]]
    assert kept((values, grid), threshold=0.49) == [[0, 1]]
    assert kept((values * 400, grid), threshold=200.0) == [[0]]
    assert kept((values * 400, grid), threshold=199.9) == [[0, 1]]
    [sel] = pp.prune_pixel_values(values, grid, pp.VisionSpec(patch_size=2, merge_size=2), threshold=0.2)
    assert sel.kept == 1  # the first copy only


def test_the_threshold_is_that_of_torch_in_every_type() -> None:
    """Two tokens at distances about the threshold, half way to its neighbours too, against torch's verdict."""
    grid = torch.tensor([[1, 1, 2]])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for threshold in (0.0117, 1 / 3, 0.05, 0.5, 1.0, 1.37, 77.7):
            rounded = torch.tensor(threshold, dtype=dtype)
            step = float(torch.finfo(dtype).eps * rounded)
            verdicts = set()
            for x in (0.0, -float(rounded), 0.731):
                for eighths in range(-20, 21):
                    y = x + float(rounded) + eighths / 8 * step
                    values = torch.tensor([[x], [y]], dtype=dtype)
                    similar = bool((values[0] - values[1]).abs() <= threshold)
                    [got] = kept((values, grid), spatial_merge_size=1, threshold=threshold)
                    assert got == ([0] if similar else [0, 1]), (dtype, threshold, x, y)
                    verdicts.add(similar)
            assert verdicts == {True, False}


def test_names_in_any_case() -> None:
    given = batch()
    for method, names in ALIASES.items():
        expected = kept(given, method=method, threshold=0.02)
        for name in names:
            assert kept(given, method=name, threshold=0.02) == expected
            assert kept(given, method=name.upper(), threshold=0.02) == expected
    for method in ("either", "Unique"):
        selections = pp.prune_pixel_values(*given, SPEC, method=method.lower())
        assert kept(given, method=method) == [sel.keep.tolist() for sel in selections]


def test_exact_is_equality_whatever_the_threshold() -> None:
    given = batch()
    expected = kept(given)
    for threshold in (0.0, 0.5, float("nan")):
        assert kept(given, metric="exact", threshold=threshold) == expected
    assert kept(given, threshold=0.5) != expected


def test_who_looks_at_anchored() -> None:
    given = batch()
    closed, loose = (kept(given, threshold=0.02, anchored=anchored) for anchored in (True, False))
    assert closed != loose
    for method in ("raster", "serpentine"):
        how = {"method": method, "threshold": 0.02}
        assert kept(given, **how, anchored=False) == kept(given, **how, anchored=True)
    for method in ("random", "conncomp"):
        how = {"method": method, "threshold": 0.02}
        assert counts(given, **how, anchored=False) == [len(indices) for indices in closed]


@pytest.mark.parametrize(
    ("text", "anchored"), [("YES", True), ("1", True), ("True", True), ("on", False), ("no", False), ("", False)]
)
def test_anchored_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, anchored: bool) -> None:
    given = batch()
    expected = kept(given, threshold=0.02, anchored=anchored)
    monkeypatch.setenv("PIXELPRUNE_ANCHORED", text)
    assert kept(given, threshold=0.02) == expected
    assert counts(given, method="random", threshold=0.02) == [len(indices) for indices in expected]


def test_conncomp_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A component of ten, and one token beside it."""
    values = torch.zeros(11, 3)
    values[10] = 1
    given = values, torch.tensor([[1, 1, 11]])
    how: dict[str, Any] = {"method": "conncomp", "spatial_merge_size": 1}
    assert counts(given, **how) == counts(given, spatial_merge_size=1) == [2]
    for skip_ratio, expected in ((0, list(range(11))), (0.5, [0, 2, 4, 6, 9, 10]), (0.85, [0, 9, 10]), (1, [0, 10])):
        evenly = {"align_compression": False, "skip_ratio": skip_ratio, "rand": False}
        assert kept(given, **how, **evenly) == [expected]
    monkeypatch.setenv("PIXELPRUNE_CONNCOMP_ALIGN", "off")
    monkeypatch.setenv("PIXELPRUNE_CONNCOMP_SKIP_RATIO", "0.5")
    draws = {tuple(kept(given, **how, seed=seed)[0]) for seed in range(20)}
    assert len(draws) > 5
    assert {len(draw) for draw in draws} == {6}
    monkeypatch.setenv("PIXELPRUNE_CONNCOMP_RAND", "0")
    assert kept(given, **how) == [[0, 2, 4, 6, 9, 10]]


@pytest.mark.parametrize("method", ["random", "conncomp"])
def test_seeds(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    given = batch()

    def draw(**how: Any) -> list[list[int]]:
        return kept(given, method=method, threshold=0.02, **how)

    default = draw()
    assert draw() == default == draw(seed=42)
    assert draw(seed=7) == draw(seed=7) != default
    assert draw(seed=0) == draw(seed=0) != default  # as an argument 0 is a seed
    monkeypatch.setenv("PIXELPRUNE_SEED", "7")
    assert draw() == draw(seed=7)
    for text in ("none", "False", "0", ""):
        monkeypatch.setenv("PIXELPRUNE_SEED", text)
        torch.manual_seed(1)
        draws = [draw(), draw()]
        assert draws[0] != draws[1]
        torch.manual_seed(1)
        assert [draw(), draw()] == draws


def test_a_seed_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    kept(batch(), method="random")
    assert torch.equal(torch.get_rng_state(), state)


def test_frames_are_grids_of_their_own() -> None:
    image = still(normalise(make_image(4, 5, 0), SPEC), SPEC)[0]
    given = torch.from_numpy(np.concatenate([image, image])), torch.tensor([[2, 8, 10]])
    for method in PREDICTORS:
        [both] = kept(given, method=method)
        [one] = kept((given[0][: len(image)], torch.tensor([[1, 8, 10]])), method=method)
        assert both == one + [index + 20 for index in one]


def test_how_tensors_may_come() -> None:
    values, grid = batch()
    expected = kept((values, grid))
    parameter = torch.nn.Parameter(values)
    apart = torch.stack([values, values], dim=-1)[..., 0]
    assert not apart.is_contiguous()
    with torch.inference_mode():
        inference = values.clone()
    for same in (parameter, apart, inference, values[None], values.unsqueeze(1)):
        assert kept((same, grid)) == expected
    for same in (grid.to(torch.int32), grid.tolist(), grid.numpy()):
        assert kept((values, same)) == expected
    assert kept((values[:0], grid[:0])) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_of_another_device_come_back_to_it() -> None:
    values, grid = batch()
    on_device = compat.compute_merged_keep_indices(values.cuda(), grid.cuda())
    assert all(indices.is_cuda for indices in on_device)
    assert [indices.tolist() for indices in on_device] == kept((values, grid))


def test_other_types_are_type_errors() -> None:
    values, grid = batch()
    with pytest.raises(TypeError, match=r"dtype torch\.float64; .*use \.float\(\)"):
        kept((values.double(), grid))
    with pytest.raises(TypeError, match=r"dtype torch\.int32"):
        kept((values.int(), grid))
    with pytest.raises(TypeError, match="pixel_values is a ndarray; expected a torch tensor"):
        kept((values.numpy(), grid))
    with pytest.raises(TypeError, match="method is 3"):
        kept((values, grid), method=3)
    with pytest.raises(TypeError, match=r"threshold is '0\.1'"):
        kept((values, grid), threshold="0.1")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"method": "pred"}, "method is 'pred'; expected one of pred_2d, .*zigzag"),
        ({"metric": "MAX"}, "metric is 'MAX'; expected one of max, mae, rmse, exact"),
        ({"threshold": -0.1}, "threshold is -0.1; expected at least 0"),
        ({"threshold": float("nan")}, "threshold is nan; expected at least 0"),
        ({"threshold": float("inf")}, "threshold is inf; .*finite in torch.float32"),
        ({"method": "unique", "threshold": 0.25}, "threshold is 0.25, but method 'unique'"),
        ({"method": "cc", "align_compression": False, "skip_ratio": 1.5}, "skip_ratio is 1.5"),
        ({"spatial_merge_size": 0}, "merge_size is 0"),
        ({"spatial_merge_size": 3}, "rows and columns in multiples of merge_size 3"),
    ],
)
def test_other_values_are_errors(how: dict[str, Any], message: str) -> None:
    with pytest.raises(pp.PixelPruneError, match=message):
        kept(batch(), **how)


def test_shapes_that_do_not_fit_are_errors() -> None:
    values, grid = batch()
    with pytest.raises(pp.PixelPruneError, match="rows"):
        kept((values[:-1], grid))
    with pytest.raises(pp.PixelPruneError, match=r"pixel_values has shape \(5,\)"):
        kept((torch.zeros(5), grid))
    with pytest.raises(pp.PixelPruneError, match=r"grid_thw has shape \(3,\); expected \(images, 3\)"):
        kept((values, grid[0]))
    with pytest.raises(pp.PixelPruneError, match="NaN or an infinity in row 1"):
        kept((values.clone().index_fill_(0, torch.tensor([1]), float("nan")), grid))
    with pytest.raises(pp.PixelPruneError, match=r"uint8 .*compared for equality only"):
        kept((values.to(torch.uint8), grid), threshold=0.1)
    with pytest.raises(pp.PixelPruneError, match=r"finite in torch\.float16"):
        kept((values.half(), grid), threshold=1e6)
    with pytest.raises(pp.PixelPruneError, match="block_size is 0"):
        compat.merged_indices_to_patch_indices([], 0, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "text", "how"),
    [
        ("METHOD", "", {}),
        ("METRIC", "", {}),
        ("THRESHOLD", "low", {}),
        ("SEED", "x", {"method": "rand"}),
        ("CONNCOMP_SKIP_RATIO", "", {"method": "cc", "align_compression": False}),
    ],
)
def test_variables_that_cannot_be_read_are_errors(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, how: dict[str, Any]
) -> None:
    monkeypatch.setenv(f"PIXELPRUNE_{name}", text)
    with pytest.raises(pp.PixelPruneError, match=f"is '{text}'"):
        kept(batch(), **how)


HUGE = 10**5000


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"threshold": True}, TypeError, "threshold is True"),
        ({"threshold": HUGE}, pp.PixelPruneError, "threshold is an integer of about 5000 digits"),
        ({"method": "rand", "seed": True}, TypeError, "seed is True"),
        ({"method": "rand", "seed": "1"}, TypeError, "seed is '1'"),
        ({"metric": ["max"]}, pp.PixelPruneError, r"metric is \['max'\]"),
        ({"anchored": "false"}, TypeError, "anchored is 'false'; expected True or False"),
        ({"method": "cc", "rand": 2}, TypeError, "rand is 2"),
        ({"method": "cc", "align_compression": None, "rand": np.zeros(2)}, TypeError, "rand is array"),
        ({"method": "cc", "align_compression": False, "skip_ratio": "0"}, TypeError, "skip_ratio is '0'"),
        ({"method": "cc", "align_compression": False, "skip_ratio": HUGE}, pp.PixelPruneError, "skip_ratio is an"),
        ({"spatial_merge_size": HUGE}, pp.PixelPruneError, "merge_size is an integer of about 5000 digits"),
        ({"image_grid_thw": None}, pp.PixelPruneError, "grid_thw is None|grid_thw has shape"),
        ({"image_grid_thw": [(1, 4, HUGE)]}, pp.PixelPruneError, "grid_thw is .*digits"),
        ({"pixel_values": torch.zeros(16, 24).to_sparse()}, TypeError, "expected a dense"),
        ({"pixel_values": torch.zeros(16, 24, device="meta")}, TypeError, "expected a dense"),
    ],
    ids=lambda value: "",
)
def test_hostile_arguments_are_errors(how: dict[str, Any], error: type[Exception], message: str) -> None:
    values, grid = batch()
    with pytest.raises(error, match=message):
        compat.compute_merged_keep_indices(**{"pixel_values": values, "image_grid_thw": grid, **how})


def test_flags_may_be_0_or_1() -> None:
    given = batch()
    for anchored in (True, False):
        same = {
            tuple(map(tuple, kept(given, threshold=0.02, anchored=a)))
            for a in (anchored, int(anchored), np.bool_(anchored))
        }
        assert len(same) == 1


@pytest.mark.parametrize(
    ("merged", "block_size", "device", "error", "message"),
    [
        (None, 4, "cpu", TypeError, "merged_indices_list is a NoneType"),
        ([torch.tensor([0])], "4", "cpu", TypeError, "block_size is '4'"),
        ([torch.tensor([0])], True, "cpu", TypeError, "block_size is True"),
        ([torch.tensor([0])], HUGE, "cpu", pp.PixelPruneError, "block_size is an integer of about 5000 digits"),
        ([torch.tensor([0])], 4, "nowhere", pp.PixelPruneError, "device is 'nowhere'"),
        ([torch.tensor([0]), "ab"], 4, "cpu", TypeError, r"merged_indices_list\[1\]"),
        ([torch.tensor(5)], 4, "cpu", pp.PixelPruneError, r"merged_indices_list\[0\] has shape \(\)"),
    ],
    ids=lambda value: "",
)
def test_hostile_indices_are_errors(
    merged: Any, block_size: Any, device: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compat.merged_indices_to_patch_indices(merged, block_size, device)


def test_unknown_arguments_are_ignored_with_a_warning() -> None:
    given = batch()
    with pytest.warns(pp.PixelPruneWarning, match="ignored: thresold; expected none but anchored"):
        assert kept(given, thresold=0.5) == kept(given)
