"""Pages of a pool, of KV or of states, are asked of the system before a step writes them. A page costs its first writer
the time to find and clear it, which on a virtual machine can be more than what is computed into it. Memory stays
bounded: a fixed distance beyond the furthest byte in use. Never touches a page's contents.

    | written by steps ........ furthest | ready, AHEAD bytes at most | not there yet |
                                                                      ^ a thread asks for as much as steps took

Whoever asks has one of the cores meanwhile, so little is asked for at a time: 32 MB at once made each of the next steps
take twice as long, on a machine of two cores.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

AHEAD = 32 << 20
PIECE = 2 << 20
"""What is asked for at once, and the least that is asked for: the large page of most systems."""
MADV_POPULATE_WRITE = 23
"""Linux 5.14; elsewhere pages come when they are written."""


class PagesAhead:
    """Keeps the pages behind the furthest written byte of `memory` ready. `reach` is for one thread."""

    def __init__(self, memory: npt.NDArray[Any]) -> None:
        self._memory = memory
        self._ready = 0
        self._can_ask = sys.platform == "linux"
        self._asking: threading.Thread | None = None
        self.reach(0)

    def reach(self, furthest: int) -> None:
        """A step writes below this byte. Returns at once."""
        if not self._can_ask or (self._asking is not None and self._asking.is_alive()):
            return
        start, end = max(self._ready, furthest), min(furthest + AHEAD, self._memory.nbytes)
        if start >= end or end - start < min(PIECE, self._memory.nbytes - start):
            return
        self._ready = end
        self._asking = threading.Thread(target=self._ask, args=(start, end), name="stemma-pages", daemon=True)
        self._asking.start()

    def _ask(self, start: int, end: int) -> None:
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        page = mmap.PAGESIZE  # 16 or 64 KB on some ARM
        base = self._memory.ctypes.data
        for first in range(base + start, base + end, PIECE):
            address = first // page * page
            length = min(first + PIECE, base + end) - address
            if madvise(address, length, MADV_POPULATE_WRITE):
                self._can_ask = False  # an older system, or no memory left: then a write would say so
                return


def furthest_byte(slots: npt.NDArray[np.int32], block_size: int, block_stride: int) -> int:
    """The end of the last block that these slots lie in."""
    return (int(slots.max()) // block_size + 1) * block_stride if len(slots) else 0
