"""The memory of a scan does not grow with the number of images."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import made
import pytest
from pixelprune.scan import scan

SLACK = 12 << 10
"""KiB that may be due to the allocator."""


def peak(source: str, out: str, indices: list[str]) -> None:
    scan(source, out, sweep=made.SWEEP, indices=indices, threads=2)
    # The peak of this program; getrusage would count its parent's, too.
    print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def jsonl(path: Path, count: int) -> Path:
    (path / "a.png").write_bytes(made.FILES[0])
    (path / f"{count}.jsonl").write_text('{"image": "a.png"}\n' * count)
    return path / f"{count}.jsonl"


def tar(path: Path, count: int) -> Path:
    import io
    import tarfile

    with tarfile.open(path / f"{count}.tar", "w") as file:
        for i in range(count):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(made.FILES[0])
            file.addfile(member, io.BytesIO(made.FILES[0]))
    return path / f"{count}.tar"


def table(path: Path, count: int) -> Path:
    """One row group of images that are 100 KB each, in pages of 16: a page is read as a whole."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    data = made.FILES[0] + np.random.default_rng(0).bytes(100_000)  # after the end of the image
    schema = pa.schema([("image", pa.binary())])
    with parquet.ParquetWriter(path / f"{count}.parquet", schema, use_dictionary=False, write_batch_size=16) as writer:
        writer.write_table(pa.table({"image": [data] * count}, schema))
    return path / f"{count}.parquet"


def folder(path: Path, count: int) -> Path:
    top = path / str(count)
    top.mkdir()
    for i in range(count):
        (top / f"{i}.png").write_bytes(made.FILES[0])
    return top


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory")
@pytest.mark.parametrize("make", [folder, jsonl, tar, table], ids=lambda make: make.__name__)
def test_memory_is_flat(make: Callable[[Path, int], Path], tmp_path: Path, run_child: Callable[..., str]) -> None:
    few, many = (
        int(run_child(peak, str(make(tmp_path, count)), str(tmp_path / f"out{count}"), made.SWEEP[:1]).split()[-1])
        for count in (100, 2000)
    )
    assert many - few < SLACK, f"{few} KiB for 100 images, {many} KiB for 2000"
