"""Small images and sources of every kind, for the tests of scans."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
from PIL import Image
from pixelprune.scan import read

SWEEP = ["pred_2d@0", "pred_2d@0.1+content", "unique@0"]
SETTINGS: dict[str, Any] = {"sweep": SWEEP, "indices": SWEEP[:1]}


def image(seed: int, size: tuple[int, int] = (64, 96), form: str = "PNG") -> bytes:
    """The file of an image of a few tiles, (height, width)."""
    tiles = np.random.default_rng(seed).integers(0, 2, (size[0] // 16, size[1] // 16, 3), np.uint8) * 255
    file = io.BytesIO()
    Image.fromarray(tiles.repeat(16, 0).repeat(16, 1)).save(file, form)
    return file.getvalue()


FILES = [image(seed) for seed in range(5)]
TEXTS = [base64.b64encode(data).decode() for data in FILES]
KINDS = ["a", "a", "b", "b", "a"]


def folder(path: Path, count: int = 5) -> Path:
    """A folder of images in two folders, with a hidden file and other ones."""
    for i in range(count):
        place = path / ("even" if i % 2 == 0 else "odd")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:05}.png").write_bytes(FILES[i] if i < 5 else image(i))
    (path / "even" / "._00000.png").write_bytes(b"of another system")
    (path / "notes.txt").write_text("no image")
    return path


def structs(path: Path) -> Path:
    table = pa.table({"image": [{"bytes": data, "path": None} for data in FILES], "category": KINDS})
    parquet.write_table(table, path / "structs.parquet", row_group_size=2)
    return path / "structs.parquet"


def plain_bytes(path: Path) -> Path:
    parquet.write_table(pa.table({"text": KINDS, "photo": FILES, "category": KINDS}), path / "plain.parquet")
    return path / "plain.parquet"


def lists(path: Path) -> Path:
    entries = [{"bytes": data, "path": None} for data in FILES]
    cells = [entries[:2], [], None, entries[2:]]
    parquet.write_table(pa.table({"images": cells}), path / "lists.parquet")
    return path / "lists.parquet"


def paths(path: Path) -> Path:
    folder(path / "images")
    names = [f"images/{'even' if i % 2 == 0 else 'odd'}/{i:05}.png" for i in range(5)]
    table = pa.table({"image": [{"bytes": None, "path": name} for name in names]}, _structs())
    parquet.write_table(table, path / "paths.parquet")
    return path / "paths.parquet"


def _structs() -> Any:
    return pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])


def arrow(path: Path) -> Path:
    feather.write_feather(pa.table({"image": FILES, "category": KINDS}), path / "file.feather")
    return path / "file.feather"


def stream(path: Path) -> Path:
    table = pa.table({"image": FILES, "category": KINDS})
    with pa.OSFile(str(path / "stream.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path / "stream.arrow"


def saved(path: Path) -> Path:
    import datasets

    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"image": [{"bytes": data, "path": None} for data in FILES], "category": KINDS})
    made.cast_column("image", datasets.Image()).save_to_disk(path / "saved", num_shards=2)
    return path / "saved"


def tsv(path: Path) -> Path:
    """The first row refers to a later one, the third to an earlier one; the others have their own."""
    lines = ["index\timage\tquestion\tanswer\tcategory"]
    cells = ["7", TEXTS[1], "2", TEXTS[2], TEXTS[3], TEXTS[4], TEXTS[0]]
    for i, cell in enumerate(cells, 1):
        lines.append(f'{i}\t{cell}\t"What is\t""this""\n?"\tit\t{KINDS[i % 5]}')
    (path / "bench.tsv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return path / "bench.tsv"


def tsv_paths(path: Path) -> Path:
    folder(path / "images")
    (path / "paths.tsv").write_text(
        "index\timage_path\tquestion\n"
        "0\timages/even/00000.png\tq\n"
        "1\t\"['images/odd/00001.png', 'images/even/00002.png']\"\tq\n"
        "2\timages/odd/00003.png\tq\n3\timages/even/00004.png\tq\n"
    )
    return path / "paths.tsv"


def conversations(path: Path) -> Path:
    folder(path / "images")
    part = {"type": "image", "image": "images/even/00000.png"}
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXTS[1]}"}}
    examples: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "?"}, url]}], "category": "a"},
        {"messages": [{"role": "user", "content": "<image>?"}], "images": ["images/even/00002.png"], "category": "b"},
        {"messages": [{"role": "user", "content": "no image"}], "category": "b"},
        {"conversations": [{"from": "human", "value": "<image>"}], "image": "images/odd/00003.png", "category": "b"},
        {"messages": [], "images": [{"bytes": None, "path": "images/even/00004.png"}], "category": "a"},
    ]
    (path / "train.jsonl").write_text("\n".join(map(json.dumps, examples)) + "\n\n")
    return path / "train.jsonl"


def tar(path: Path, name: str = "shard.tar", mode: str = "w") -> Path:
    with tarfile.open(path / name, mode) as file:  # type: ignore[call-overload]
        for i, data in enumerate(FILES):
            for suffix, content in ((".png", data), (".json", b"{}")):
                member = tarfile.TarInfo(f"./{i:05}{suffix}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path / name


def packed_tar(path: Path) -> Path:
    return tar(path, "shard.tar.gz", "w:gz")


def pdf(path: Path) -> Path:
    """A page for each image, whose rendering at 72 dpi is the image."""
    pages = [Image.open(io.BytesIO(data)) for data in FILES]
    pages[0].save(path / "pages.pdf", save_all=True, append_images=pages[1:])
    return path / "pages.pdf"


SOURCES: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (
        *(folder, structs, plain_bytes, lists, paths, arrow, stream, saved, tsv, tsv_paths, conversations, tar),
        packed_tar,
    )
}


def rows_of(out: Path) -> Any:
    """The rows of a scan, without their times."""
    return read(out).rows.drop_columns(["seconds"])


def indices_of(out: Path) -> Any:
    """The stored indices of a scan."""
    return pa.ipc.open_file((out / "indices" / "keep.arrow").read_bytes()).read_all()
