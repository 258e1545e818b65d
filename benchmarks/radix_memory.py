"""What a full cache weighs and what a garbage collection of it costs. Run for each figure in a process of its own.

python benchmarks/radix_memory.py LEAF_TOKENS NUM_TOKENS        a line of JSON; radix.py --parts memory asks for it
"""

import gc
import json
import mmap
import sys
from array import array
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np

from stemma.radix import PrefixCache

BLOCK = 16


class Weight(NamedTuple):
    """Bytes as the system counts them; objects are those that a garbage collection looks at."""

    live_bytes: float  # a cached token, before anything is evicted
    full_bytes: float  # a cached token, with the memory of the evicted full
    remembered_bytes: float  # a remembered token
    live_objects: float  # a leaf
    remembered_objects: float  # a remembered leaf
    live_collection: float  # milliseconds
    full_collection: float


def weigh(leaf_tokens: int, num_tokens: int) -> Weight:
    """Fill a cache with texts that have nothing in common; then twice more, which is what it remembers."""
    begun = resident(), collection(), len(gc.get_objects())
    cache, numbers = PrefixCache(num_tokens // BLOCK, BLOCK), np.random.default_rng(1)
    leaves = num_tokens // leaf_tokens
    fill(cache, leaves, leaf_tokens, numbers)
    live = resident(), collection(), len(gc.get_objects())
    fill(cache, 2 * leaves, leaf_tokens, numbers)
    full = resident(), collection(), len(gc.get_objects())
    return Weight(
        (live[0] - begun[0]) / num_tokens,
        (full[0] - begun[0]) / num_tokens,
        (full[0] - live[0]) / num_tokens / 2,
        (live[2] - begun[2]) / leaves,
        (full[2] - live[2]) / leaves / 2,
        live[1] - begun[1],
        full[1] - begun[1],
    )


def fill(cache: PrefixCache, leaves: int, leaf_tokens: int, numbers: np.random.Generator) -> None:
    for _ in range(leaves):
        text = array("i", numbers.integers(0, 2**31, leaf_tokens, dtype=np.int32).tobytes())
        with cache.acquire(text) as lease:
            lease.reserve(leaf_tokens - lease.hit_len)
            lease.extend(text[lease.hit_len :])
            lease.commit()


def resident() -> int:
    """Bytes of memory of this process."""
    gc.collect()
    return mmap.PAGESIZE * int(Path("/proc/self/statm").read_text().split()[1])


def collection() -> float:
    """Milliseconds of CPU time of a full collection, the least of three."""
    times = []
    for _ in range(3):
        start = process_time()
        gc.collect()
        times.append(process_time() - start)
    return 1000 * min(times)


if __name__ == "__main__":
    print(json.dumps(weigh(int(sys.argv[1]), int(sys.argv[2]))._asdict()))
