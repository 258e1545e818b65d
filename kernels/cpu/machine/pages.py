"""Large memory of zeros, whose pages the system hands out when they are first written."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt


def lazy_zeros(num_bytes: int, purpose: str, beyond: int = 0) -> npt.NDArray[Any]:
    """Bytes that begin at a page. beyond: bytes behind them that may be read. Raises MemoryError."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > installed:
        raise MemoryError(f"{purpose} of {num_bytes:,} bytes does not fit a machine of {installed:,} bytes")
    try:
        pages = mmap.mmap(-1, max(num_bytes + beyond, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
            pages.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(pages, dtype=np.uint8)[:num_bytes]
    except (OSError, ValueError) as error:
        raise MemoryError(f"no {num_bytes:,} bytes for {purpose}") from error
