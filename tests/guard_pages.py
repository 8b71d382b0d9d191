"""Buffers between two pages of memory that must not be touched."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import numpy.typing as npt


def guarded(size: int, at_end: bool) -> npt.NDArray[np.uint8]:
    """Return ``size`` bytes that end, or begin, at a page whose reading or writing ends the process. Linux only."""
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page = mmap.PAGESIZE
    inner = -(-size // page) * page
    area = mmap.mmap(-1, inner + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for guard in (base, base + page + inner):
        assert protect(guard, page, 0) == 0
    start = page + inner - size if at_end else page
    return np.frombuffer(area, np.uint8)[start : start + size]
