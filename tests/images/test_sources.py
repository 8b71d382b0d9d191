"""Sources that share a file, change after they were given, or are refused: alike at every door."""

from __future__ import annotations

import io
import os
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pixelprune as pp
import pixelprune.images.decode
import pytest
from PIL import Image, ImageFile, ImageSequence, features
from pixelprune.images.options import PreprocessOptions
from pixelprune.images.sources import Intake

if TYPE_CHECKING:
    from conftest import RunChild

SPEC = pp.VisionSpec(patch_size=4, merge_size=2, min_pixels=64, max_pixels=64 * 64)
SECONDS = 20
"""What a wait may take at most; nothing here needs one."""
ORIENTATION = 0x0112

Pixels = npt.NDArray[np.uint8]
Outcome = pp.Batch | Exception
Door = Callable[[Iterable[Any]], list[Outcome]]


def pixels(seed: int = 0, height: int = 24, width: int = 40) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encode(image: Image.Image | Pixels, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
    whole.save(file, kind, **options)
    return file.getvalue()


def by_stream(threads: int, in_flight: int | None = None) -> Door:
    def door(sources: Iterable[Any]) -> list[Outcome]:
        stream = pp.preprocess_stream(sources, SPEC, threads=threads, in_flight=in_flight)
        return [result.batch or result.error or AssertionError() for result in stream]

    return door


def in_one_call(threads: int) -> Door:
    def door(sources: Iterable[Any]) -> list[Outcome]:
        try:
            batch = pp.preprocess(sources, SPEC, threads=threads)
        except Exception as error:
            return [error]
        return [part(batch, i) for i in range(len(batch))]

    return door


DOORS = {
    "preprocess": in_one_call(1),
    "preprocess in 2 threads": in_one_call(2),
    "stream": by_stream(1),
    "stream in 2 threads": by_stream(2),
    "stream in 4 threads": by_stream(4, 9),
}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


def part(batch: pp.Batch, i: int) -> pp.Batch:
    """The batch of one of the images."""
    first, last = batch.offsets[i : i + 2]
    return pp.Batch(
        pixel_values=batch.pixel_values[first:last],
        grid_thw=batch.grid_thw[i : i + 1],
        flat_grid_thw=batch.flat_grid_thw[i : i + 1],
        offsets=np.array([0, last - first]),
        selections=batch.selections[i : i + 1],
        original_sizes=batch.original_sizes[i : i + 1],
        resized_sizes=batch.resized_sizes[i : i + 1],
        resampled=batch.resampled[i : i + 1],
    )


def same(outcome: Outcome, image: Pixels | Image.Image) -> bool:
    if isinstance(outcome, Exception):
        raise outcome
    expected = pp.preprocess([image], SPEC)
    return outcome.selections == expected.selections and np.array_equal(outcome.pixel_values, expected.pixel_values)


def all_same(outcomes: list[Outcome], images: Iterable[Pixels | Image.Image]) -> bool:
    return all(same(outcome, image) for outcome, image in zip(outcomes, images, strict=True))


# --- Files that share a handle ---------------------------------------------------------------------------


@every_door
@pytest.mark.parametrize("mode", ["r:", "r|"])
def test_members_of_an_archive(mode: Any, door: Door, tmp_path: Path) -> None:
    """All of them are read through one file."""
    images = [pixels(seed, 80 + 8 * (seed % 7), 80 + 8 * (seed % 9)) for seed in range(220)]
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as archive:
        for i, image in enumerate(images):
            member = tarfile.TarInfo(f"{i}.bmp")
            data = encode(image, "BMP")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    for _ in range(3):
        with tarfile.open(path, mode) as archive:
            assert all_same(door(archive.extractfile(member) for member in archive), images)


class Part(io.RawIOBase):
    """A file inside a file, whose place both have to agree on."""

    def __init__(self, file: Any, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(min(len(buffer), self._size - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@every_door
@pytest.mark.parametrize("kind", ["BMP", "PNG", "TIFF"])
def test_lazy_images_in_one_file(kind: str, door: Door, tmp_path: Path) -> None:
    images = [pixels(seed, 40, 8 + 8 * (seed % 9)) for seed in range(60)]
    parts = [encode(image, kind) for image in images]
    path = tmp_path / "all"
    path.write_bytes(b"".join(parts))
    ends = np.cumsum([len(data) for data in parts])
    with path.open("rb") as file:
        for _ in range(3):
            places = zip(ends, parts, strict=True)
            lazy = [Image.open(Part(file, int(end) - len(data), len(data))) for end, data in places]  # type: ignore[arg-type]
            assert all_same(door(lazy), images)
            assert all_same(door(iter(lazy)), images)


@every_door
def test_workers_read_no_file_objects_and_load_no_images(door: Door) -> None:
    readers = set()

    class File(io.BytesIO):
        def read(self, *args: Any) -> bytes:
            readers.add(threading.current_thread())
            return super().read(*args)

    images = [pixels(seed) for seed in range(8)]
    sources: list[Any] = [File(encode(image)) for image in images]
    sources[::2] = [Image.open(file) for file in sources[::2]]
    assert all_same(door(sources), images)
    assert readers == {threading.current_thread()}


@every_door
def test_the_same_image_or_file_many_times(door: Door, tmp_path: Path) -> None:
    image = pixels(1, 300, 400)
    path = tmp_path / "large.png"
    path.write_bytes(encode(image))
    for _ in range(3):
        with Image.open(path) as lazy, path.open("rb") as file:
            sources = [lazy, file, image, path, Image.fromarray(image), path.read_bytes()] * 3
            assert all_same(door(sources), [image] * 18)
            assert all_same(door(iter(sources)), [image] * 18)


# --- Frames ----------------------------------------------------------------------------------------------


def frames_of(kind: str) -> tuple[bytes, list[Image.Image]]:
    """A file of five frames, and what they are."""
    made = [Image.fromarray(pixels(seed)) for seed in range(5)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = encode(made[0], kind, save_all=True, append_images=made[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        frames = [frame.copy().convert("RGB") for frame in ImageSequence.Iterator(image)]
    assert len(frames) == 5
    return data, frames


KINDS = ["GIF", "PNG", "TIFF", *["WEBP"] * features.check("webp")]


@every_door
@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_an_iterator_gives(kind: str, door: Door) -> None:
    data, frames = frames_of(kind)
    with Image.open(io.BytesIO(data)) as image:
        assert all_same(door(ImageSequence.Iterator(image)), frames)
        assert all_same(door(frame for _ in range(2) for frame in ImageSequence.Iterator(image)), frames * 2)
        assert all_same(door([frame.copy() for frame in ImageSequence.Iterator(image)]), frames)
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(data)) as other:
        two = zip(ImageSequence.Iterator(image), ImageSequence.Iterator(other), strict=True)
        assert all_same(door(frame for pair in two for frame in pair), [frame for frame in frames for _ in range(2)])


@every_door
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("collect", [list, tuple, lambda frames: iter(list(frames))], ids=["list", "tuple", "iter"])
def test_frames_that_are_gone_are_refused(kind: str, collect: Callable[[Any], Any], door: Door) -> None:
    data, _ = frames_of(kind)
    with Image.open(io.BytesIO(data)) as image:
        outcomes = door(collect(ImageSequence.Iterator(image)))
    errors = [outcome for outcome in outcomes if not isinstance(outcome, pp.Batch)]
    assert len(errors) in (1, 4)  # of the call, or of each image after the first
    for error in errors:
        assert isinstance(error, pp.PixelPruneError)
        assert r"[frame.copy() for frame in ImageSequence.Iterator(image)]" in str(error)


@every_door
def test_frames_of_a_closed_file(door: Door) -> None:
    data, _ = frames_of("GIF")
    with Image.open(io.BytesIO(data)) as image:
        collected = list(ImageSequence.Iterator(image))
        collected[-1].load()
    assert any(isinstance(outcome, pp.PixelPruneError) for outcome in door(collected))
    still = Image.fromarray(pixels())
    with Image.open(io.BytesIO(encode(still, "GIF"))) as image:
        image.load()
    assert all_same(door([image, image]), [image.convert("RGB")] * 2)


def test_frames_of_another_image_at_the_same_address() -> None:
    """What is remembered of an image ends with it."""
    data, frames = frames_of("GIF")

    def opened() -> Iterator[Image.Image]:
        for _ in range(50):
            yield Image.open(io.BytesIO(data))

    for threads in (1, 2):
        assert all_same(by_stream(threads)(opened()), frames[:1] * 50)


# --- Memory that is filled again -------------------------------------------------------------------------


def refilled_array(images: list[Pixels]) -> Iterator[Any]:
    memory = np.empty_like(images[0])
    for image in images:
        memory[...] = image
        yield memory
        memory[...] = 0


def refilled_window(images: list[Pixels]) -> Iterator[Any]:
    memory = np.empty((50, 50, 3), np.uint8)
    for image in images:
        window = memory[: image.shape[0], : image.shape[1]]
        window[...] = image
        yield window


def refilled_interface(images: list[Pixels]) -> Iterator[Any]:
    class Screen:
        def __init__(self, memory: Pixels) -> None:
            self.__array_interface__ = memory.__array_interface__

    memory = np.empty_like(images[0])
    screen = Screen(memory)
    for image in images:
        memory[...] = image
        yield screen


def refilled_buffer(images: list[Pixels]) -> Iterator[Any]:
    memory = bytearray()
    for image in images:
        memory[:] = encode(image, "BMP")
        yield memory


def refilled_view(images: list[Pixels]) -> Iterator[Any]:
    memory = bytearray(len(encode(images[0], "BMP")))
    for image in images:
        memory[:] = encode(image, "BMP")
        yield memoryview(memory).toreadonly()


def refilled_file(images: list[Pixels]) -> Iterator[Any]:
    file = io.BytesIO()
    for image in images:
        file.seek(0)
        file.truncate()
        file.write(encode(image))
        yield file


def repainted_image(images: list[Pixels]) -> Iterator[Any]:
    canvas = Image.new("RGB", images[0].shape[1::-1])
    for image in images:
        canvas.paste(Image.fromarray(image))
        yield canvas


def repainted_file(images: list[Pixels]) -> Iterator[Any]:
    canvas = Image.open(io.BytesIO(encode(images[0])))
    for image in images:
        canvas.paste(Image.fromarray(image))
        yield canvas


REFILLED = [
    refilled_array,
    refilled_window,
    refilled_interface,
    refilled_buffer,
    refilled_view,
    refilled_file,
    repainted_image,
    repainted_file,
]


@every_door
@pytest.mark.parametrize("refill", REFILLED)
def test_what_an_iterator_refills(refill: Callable[[list[Pixels]], Iterator[Any]], door: Door) -> None:
    images = [pixels(seed) for seed in range(12)]
    assert all_same(door(refill(images)), images)

    class Data:
        """No iterator, but gives one."""

        def __iter__(self) -> Iterator[Any]:
            return refill(images)

    assert all_same(door(Data()), images)


def test_what_a_list_holds_is_borrowed() -> None:
    options = PreprocessOptions.checked(
        SPEC,
        settings=pp.PruneSettings(),
        prune=True,
        resample="none",
        alpha="drop",
        dtype="uint8",
        copies="single",
        channels_first=False,
    )
    image, data = pixels(), bytearray(encode(pixels()))
    whole = Image.fromarray(image)
    for sources in ([image], (image,), np.stack([image])):
        intake = Intake(sources, options, waits=True)
        assert np.shares_memory(intake.take(image), image)
        for source in (whole, data):
            assert intake.take(source).image is source  # type: ignore[union-attr]
    intake = Intake(iter([]), options, waits=False)
    assert np.shares_memory(intake.take(image), image)
    assert intake.take(whole).image is whole  # type: ignore[union-attr]


# --- What is refused before it is decoded ----------------------------------------------------------------


def turned(kind: str, size: tuple[int, int], orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(Image.new("RGB", size), kind, exif=exif)


@every_door
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", *["WEBP"] * features.check("webp")])
@pytest.mark.parametrize("form", ["bytes", "path", "file"])
def test_a_bad_size_is_refused_before_decoding(
    form: str, kind: str, orientation: int, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = turned(kind, (2, 900), orientation)
    path = tmp_path / "long"
    path.write_bytes(data)
    height, width = pp.load_image(path).size[::-1]
    source: Any = {"bytes": data, "path": path, "file": io.BytesIO(data)}[form]

    def load(_: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    [error] = door([source])
    assert isinstance(error, pp.PixelPruneError)
    name = "images[0]: " * str(error).startswith("images[0]")
    assert str(error) == (
        f"{name}the image is {height} x {width} (height x width), an aspect ratio of about 450; expected at most 200"
    )


@every_door
def test_a_bad_size_of_a_lazy_image_is_refused_before_loading(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = Image.open(io.BytesIO(turned("JPEG", (2, 900), 6)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: 1 / 0)
    [error] = door([lazy])
    assert "the image is 900 x 2 (height x width), an aspect ratio of about 450" in str(error)


def test_a_size_that_is_bad_in_one_orientation_only() -> None:
    """A PNG may tell its orientation after the pixels."""
    spec = pp.VisionSpec(patch_size=4, merge_size=2, min_pixels=64, max_pixels=64 * 64, resize_rule="paddleocr")
    for orientation in (1, 6):
        for size in ((1, 200), (2, 401), (1, 201), (3, 601), (7, 1401), (8, 1601), (8, 1600)):
            outcomes = []
            for source in (turned("PNG", size, orientation), pp.load_image(turned("PNG", size, orientation))):
                try:
                    outcomes.append(str(pp.preprocess([source], spec).resized_sizes.tolist()))
                except pp.PixelPruneError as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1]


# --- The first bad image of a batch ----------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], threading.Event]]:
    """The paths that were opened, in order; a path ``slow`` waits until it may be."""
    names: list[str] = []
    may = threading.Event()

    def watched(path: Any, mode: str) -> Any:
        names.append(Path(path).name)
        if names[-1] == "slow":
            assert may.wait(SECONDS)
        return open(path, mode)

    monkeypatch.setattr(pixelprune.images.decode, "open", watched, raising=False)
    yield names, may
    may.set()


@pytest.mark.parametrize("is_first_bad", [True, False])
def test_after_a_bad_image_no_other_is_begun(
    is_first_bad: bool, opened: tuple[list[str], threading.Event], tmp_path: Path
) -> None:
    """The first one in order is reported, also if it is the last to be found out."""
    names, may = opened
    for name, data in {"slow": b"bad" if is_first_bad else encode(pixels()), "bad": b"bad"}.items():
        (tmp_path / name).write_bytes(data)
    good = [tmp_path / f"{i}" for i in range(50)]
    for path in good:
        path.write_bytes(encode(pixels()))

    def wait_for_the_other() -> None:
        deadline = time.monotonic() + SECONDS
        while "bad" not in names and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # for what must not happen
        may.set()

    waiter = threading.Thread(target=wait_for_the_other)
    waiter.start()
    with pytest.raises(pp.PixelPruneError) as caught:
        pp.preprocess([tmp_path / "slow", tmp_path / "bad", *good], SPEC, threads=2)
    waiter.join()
    number, name = (0, "slow") if is_first_bad else (1, "bad")
    assert str(caught.value).startswith(f"images[{number}]: cannot read {tmp_path / name}")
    assert names == ["slow", "bad"]
    with pytest.raises(pp.PixelPruneError):
        pp.preprocess([*good[:2], tmp_path / "bad", *good], SPEC)
    assert names[2:] == ["0", "1", "bad"]


def test_sources_that_fail_after_a_bad_image(tmp_path: Path) -> None:
    def sources() -> Iterator[Any]:
        yield encode(pixels())
        yield b"bad"
        raise LookupError("no more")

    class Failing(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise TimeoutError

    for threads in (1, 2, 4):
        with pytest.raises(pp.PixelPruneError, match=r"images\[1\]: cannot read"):
            pp.preprocess(sources(), SPEC, threads=threads)
        with pytest.raises(pp.PixelPruneError, match=r"images\[0\]: cannot read"):
            pp.preprocess([b"bad", Failing(), tmp_path / "missing"], SPEC, threads=threads)
        with pytest.raises(TimeoutError):
            pp.preprocess([encode(pixels()), Failing(), b"bad"], SPEC, threads=threads)


def interrupt_a_batch(folder: str) -> None:
    """Ctrl-C while images are decoded in threads; what was begun is done, and no more."""
    names = []

    def slow(path: Any, mode: str) -> Any:
        names.append(path)
        time.sleep(0.1)
        return open(path, mode)

    pixelprune.images.decode.open = slow  # type: ignore[attr-defined]
    paths = [Path(folder) / f"{i}.png" for i in range(100)]
    for path in paths:
        path.write_bytes(encode(pixels()))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        pp.preprocess(paths, SPEC, threads=2)
    assert 0 < len(names) < 50
    assert threading.active_count() <= 2  # the timer may be about to end


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_a_batch_is_decoded(tmp_path: Path, run_child: RunChild) -> None:
    run_child(interrupt_a_batch, str(tmp_path))
