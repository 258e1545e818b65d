"""Who may start next, and with which part of the cache. Decides; the scheduler acts."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Items

import numpy as np
import numpy.typing as npt

from stemma.radix import Lease, PrefixCache
from stemma.runtime.core.sequence import Sequence

ADMISSION_WINDOW = 64
"""Waiting sequences that are looked at for one admission: bounds the host time of a step."""

MAX_OVERTAKEN = 64
"""How often a waiting sequence may be overtaken by ones with a longer cached prefix before it goes first."""


class Admission:
    """Order, deferral and room, for one cache. reuse: whether prefixes are looked up at all."""

    def __init__(self, cache: PrefixCache, reuse: bool) -> None:
        self.cache = cache
        self.reuse = reuse

    def candidates(self, waiting: Items[Sequence]) -> list[tuple[Sequence, int]]:
        """The first of the waiting with their hit lengths: by priority, then the longest hit, then arrival."""
        window = waiting[:ADMISSION_WINDOW]
        hits = [(item, self._hit_len(item)) for item in window]
        return sorted(hits, key=lambda hit: (-hit[0].request.priority, hit[0].num_overtaken < MAX_OVERTAKEN, -hit[1]))

    def _hit_len(self, sequence: Sequence) -> int:
        if not self.reuse:
            return 0
        request = sequence.request
        return min(self.cache.match(request.prompt, request.namespace).hit_len, request.max_hit)

    def _max_hit(self, sequence: Sequence) -> int:
        if not self.reuse:
            return 0
        request = sequence.request
        return len(sequence.tokens) - 1 if request.prompt_logprobs is None else request.max_hit

    def is_being_computed(self, sequence: Sequence, hit_len: int, running: Iterable[Sequence]) -> bool:
        """Whether a running prompt will soon publish a block more of this one's prefix, or all that is left of it.

        waiting   |--- hit ---|------------- common -----|
        running   |--------- published ---|- computing ->|
        """
        if not self.reuse:
            return False
        request = sequence.request
        worthwhile = min(hit_len + self.cache.block_size, request.max_hit)
        return worthwhile > hit_len and any(
            other.is_in_prompt
            and other.request.namespace == request.namespace
            and common_prefix(other.request.prompt, request.prompt[: request.max_hit]) >= worthwhile
            for other in running
        )

    def acquire(self, sequence: Sequence, running: Items[Sequence]) -> Lease | None:
        """A lease with room for the rest of the tokens beside what was promised to others, or None.

        A hit that ends inside a block holds that block until it is copied; where that is one block too many, the hit
        is rounded down to whole blocks.
        """
        size = self.cache.block_size
        tokens = np.array(sequence.tokens, dtype=np.int32)
        longest = self._max_hit(sequence)
        promised = self._num_promised(running) + 1 if running else 0
        for max_hit in (longest, longest // size * size):
            lease = self.cache.acquire(tokens, sequence.request.namespace, max_hit=max_hit)
            if self._num_new_blocks(len(tokens), lease.num_tokens) + promised <= self.cache.available:
                return lease
            lease.release()
        return None

    def _num_promised(self, running: Iterable[Sequence]) -> int:
        """Blocks that running sequences still need for their prompts, and one more each to go on."""
        return sum(
            1 + self._num_new_blocks(len(item.tokens), len(item.lease.blocks) * self.cache.block_size)
            for item in running
            if item.lease is not None
        )

    def _num_new_blocks(self, num_tokens: int, num_held: int) -> int:
        size = self.cache.block_size
        return max(0, -(-num_tokens // size) - num_held // size)


def common_prefix(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> int:
    """Number of leading tokens that are equal."""
    length = min(len(left), len(right))
    different = left[:length] != right[:length]
    return int(different.argmax()) if different.any() else length
