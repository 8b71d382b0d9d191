"""Kept tokens, stored by a scan and read back by what prunes: chosen once, used in every epoch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import escaped, shown
from ..errors import PixelPruneError
from ..images.decode import Alpha
from ..images.options import Resample
from ..selection.labels import label, parse
from ..selection.result import Selection
from ..selection.settings import PruneSettings
from ..spec import VisionSpec, as_spec
from .keep_file import FILE, FOLDER, KEY, decides
from .options import ALGORITHM, ScanOptions
from .requirements import need
from .sources.columns import as_given

_WITHOUT_EFFECT = ("spec", "mean", "std", "patch_order", "patch_layout", "flat_patches")
"""What may differ: the whole spec, which is compared field by field, and fields that do not change which tokens are
kept."""
_PREFIX = 8
"""Bytes of a digest that are held in memory."""


class KeepIndices:
    """The kept tokens that a scan has stored for one setting, by the bytes of the image file.

    The file is mapped, not read: memory holds 16 bytes an image. Picklable, for the workers of data loaders.

    Args:
        folder: the folder of a scan with ``indices``.
        settings: for which settings, as `PruneSettings` or a label.

    Attributes:
        folder: as given.
        settings: the `PruneSettings`.
        spec: the `VisionSpec` of the scan.
        alpha: what the scan did with alpha, as in `load_image`.

    Raises:
        PixelPruneError: the scan has stored no indices for these settings, or with another version of the algorithm.
        OSError: the file can't be read.
        ImportError: pyarrow is not installed.

    Example:
        >>> from PIL import Image
        >>> from pixelprune.scan import KeepIndices, scan
        >>> Image.new("RGB", (640, 320)).save("black.png")
        >>> _ = scan("black.png", "found", sweep=["pred_2d@0"], indices=["pred_2d@0"])
        >>> KeepIndices("found", "pred_2d@0")["black.png"].keep
        array([0])
    """

    def __init__(self, folder: str | os.PathLike[str], settings: PruneSettings | str) -> None:
        pa = need("pyarrow", "KeepIndices")
        self.folder = Path(folder)
        self.settings = settings if isinstance(settings, PruneSettings) else parse(settings)
        path = self.folder / FOLDER / FILE
        name = escaped(str(self.folder))
        self._label = label(self.settings)
        if not path.exists():
            raise PixelPruneError(f"{name} has no stored indices; expected a scan with --indices {self._label}")
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            known = json.loads(self._file.schema.metadata[KEY])
        except (pa.ArrowInvalid, TypeError, KeyError, ValueError):
            raise PixelPruneError(f"{escaped(str(path))} is damaged; expected the indices of a scan") from None
        if self._label not in known:
            raise PixelPruneError(f"{name} has indices for {', '.join(known)}; expected a scan with {self._label}")
        self._decides = known[self._label]
        if self._decides["algorithm"] != ALGORITHM:
            raise PixelPruneError(
                f"{name} has indices of version {self._decides['algorithm']} of the algorithm; expected {ALGORITHM}: "
                "scan again"
            )
        self.spec = VisionSpec(**self._decides["spec"])
        alpha = self._decides["alpha"]
        self.alpha: Alpha = alpha if isinstance(alpha, str) else tuple(alpha)
        self._column = self._file.schema.get_field_index(self._label)
        self._ends = np.cumsum([self._file.get_batch(i).num_rows for i in range(self._file.num_record_batches)])
        prefixes = [np.empty(0, np.uint64), *map(self._prefixes, range(len(self._ends)))]
        whole = np.concatenate(prefixes)
        self._order = np.argsort(whole, kind="stable")
        self._sorted = whole[self._order]

    def _prefixes(self, batch: int) -> NDArray[np.uint64]:
        digests = self._file.get_batch(batch).column(0)
        flat = np.frombuffer(digests.buffers()[1], np.uint8)[32 * digests.offset :][: 32 * len(digests)]
        return np.ascontiguousarray(flat.reshape(-1, 32)[:, :_PREFIX]).view(np.uint64)[:, 0]

    def __reduce__(self) -> tuple[Any, ...]:
        return KeepIndices, (self.folder, self.settings)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._sorted)

    def check(self, *, spec: VisionSpec | str, resample: Resample, alpha: Alpha, settings: PruneSettings) -> None:
        """Raise if what is about to use the indices would choose others.

        Args:
            spec: the model's image input.
            resample: how it resizes, as in `preprocess`.
            alpha: what it does with alpha, as in `preprocess`.
            settings: how it prunes.

        Raises:
            PixelPruneError: one of them differs from the scan's.

        Example:
            >>> from PIL import Image
            >>> import pixelprune as pp
            >>> from pixelprune.scan import KeepIndices, scan
            >>> Image.new("RGB", (640, 320)).save("black.png")
            >>> _ = scan("black.png", "checked", sweep=["pred_2d@0"], indices=["pred_2d@0"])
            >>> indices = KeepIndices("checked", "pred_2d@0")
            >>> indices.check(spec="qwen3_vl", resample="torchvision", alpha="white", settings=pp.PruneSettings())
        """
        options = ScanOptions(spec=as_spec(spec), resample=resample, alpha=alpha, sweep=[settings])
        ours, wanted = ({**one, **one["spec"]} for one in (self._decides, decides(options, settings)))
        differ = [name for name in wanted if wanted[name] != ours[name] and name not in _WITHOUT_EFFECT]
        if differ:
            found = ", ".join(f"{name} {shown(ours[name])}" for name in differ)
            expected = ", ".join(f"{name} {shown(wanted[name])}" for name in differ)
            raise PixelPruneError(
                f"the indices in {escaped(str(self.folder))} were made with {found}; expected {expected}: scan again "
                "with these settings"
            )

    def __getitem__(self, image: Any) -> Selection:
        """Return the stored selection of an image.

        Args:
            image: the bytes of its file, its path, or a dict with ``bytes`` or ``path`` as data sets have them. The
                bytes have to be those that were scanned: another copy of the file will do, another encoding won't.

        Raises:
            PixelPruneError: the image was not scanned, or could not be read then.
            TypeError: pixels, which have no bytes to look up.
            OSError: the file can't be read.
        """
        return self.of_digest(hashlib.sha256(self.file_of(image)).digest())

    def file_of(self, image: Any) -> bytes:
        """Return the bytes of an image file.

        Args:
            image: as in ``indices[image]``.

        Raises:
            PixelPruneError: it is empty, or an address on the net.
            TypeError: pixels, which have no bytes to look up.
            OSError: the file can't be read.

        Example:
            >>> from PIL import Image
            >>> from pixelprune.scan import KeepIndices, scan
            >>> Image.new("RGB", (640, 320)).save("black.png")
            >>> _ = scan("black.png", "files", sweep=["pred_2d@0"], indices=["pred_2d@0"])
            >>> KeepIndices("files", "pred_2d@0").file_of("black.png")[1:4]
            b'PNG'
        """
        if not isinstance(image, (str, os.PathLike, bytes, dict)):
            raise TypeError(
                f"an image is a {type(image).__name__}; expected its path or the bytes of its file, by which "
                "the stored indices are found (with datasets: Image(decode=False)), or keep"
            )
        given = as_given(os.fspath(image) if isinstance(image, os.PathLike) else image, Path())
        return given if isinstance(given, bytes) else given.read_bytes()

    def of_digest(self, digest: bytes) -> Selection:
        """Return the stored selection of the image whose bytes have this SHA-256.

        Args:
            digest: 32 bytes.

        Raises:
            PixelPruneError: there is none.

        Example:
            >>> import hashlib
            >>> from PIL import Image
            >>> from pixelprune.scan import KeepIndices, scan
            >>> Image.new("RGB", (640, 320)).save("black.png")
            >>> found = scan("black.png", "digests", sweep=["pred_2d@0"], indices=["pred_2d@0"])
            >>> digest = bytes.fromhex(found.rows["sha256"][0].as_py())
            >>> KeepIndices("digests", "pred_2d@0").of_digest(digest).kept
            1
        """
        prefix = np.frombuffer(digest[:_PREFIX], np.uint64)[0]
        first, end = np.searchsorted(self._sorted, prefix, "left"), np.searchsorted(self._sorted, prefix, "right")
        for row in self._order[first:end]:
            i = int(np.searchsorted(self._ends, row, "right"))
            batch = self._file.get_batch(i)
            at = int(row - self._ends[i] + batch.num_rows)
            if batch.column(0)[at].as_py() == digest:
                grid = (1, batch.column(1)[at].as_py(), batch.column(2)[at].as_py())
                tokens = grid[1] * grid[2] // self.spec.merge_size**2
                packed = np.frombuffer(batch.column(self._column)[at].as_py(), np.uint8)
                return Selection.from_keep(np.unpackbits(packed, count=tokens).astype(np.bool_), grid, self.spec)
        raise PixelPruneError(
            f"no indices are stored in {escaped(str(self.folder))} for an image with SHA-256 {digest.hex()[:12]}...; "
            "expected one that was scanned: scan again, or give keep for it"
        )
