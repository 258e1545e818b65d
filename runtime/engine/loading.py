"""One path of a saved cache, put into free blocks and slots. Evicts nothing, computes nothing.

position     0 ...... hit_len ...... match_len .......... end
full         |------- in the tree -------|- from the file -|
marks                 |--- those of the file that lie behind hit_len, as far as there is room ---|
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from stemma.kernels.ops import Int32Array
from stemma.radix import Lease, PrefixCache
from stemma.runtime.engine.memory_bytes import MemoryBytes

STRIDE = 256
"""Tokens for which window blocks are taken at once: they are freed again behind the window."""


@dataclass(frozen=True, slots=True)
class PathBytes:
    """ids: of the whole path. first: index of the first block that is here. data: of the blocks, then of the marks.
    places: of each mark, its position and how many window blocks it has, in ascending order."""

    memory: MemoryBytes
    ids: Int32Array
    first: int
    data: memoryview
    places: Sequence[tuple[int, int]]

    def fill(self, lease: Lease, cache: PrefixCache) -> int:
        """Put what is missing behind the lease's match where nothing has to go for it. Returns how many tokens of the
        path are cached then: fewer than all if there is no room, or what it shares with the one before is not there."""
        size, num_missing = self.memory.block_size, len(self.ids) - lease.match_len
        if num_missing and lease.match_len // size < self.first:
            return lease.match_len
        if num_missing and -(-num_missing // size) + 1 > cache.stats().free:
            return lease.match_len
        lease.want_none()
        marks, at = self._marks_behind(lease.num_tokens), lease.num_tokens
        stops = {*range(at, len(self.ids), STRIDE), *marks} if cache.has_marks else {at}
        for start, end in pairwise(sorted({*stops, len(self.ids)})):
            if not _has_room(cache, end - start):
                break
            self._put(lease, start, end, marks.get(end))
        lease.commit()
        return max(lease.num_tokens, lease.match_len)

    def _marks_behind(self, position: int) -> dict[int, memoryview]:
        """The bytes of each mark there, by position."""
        at = (-(-len(self.ids) // self.memory.block_size) - self.first) * self.memory.block_bytes
        found = {}
        for place, num_window_blocks in self.places:
            size = self.memory.mark_bytes(num_window_blocks)
            if place > position:
                found[place] = self.data[at : at + size]
            at += size
        return found

    def _put(self, lease: Lease, start: int, end: int, mark: memoryview | None) -> None:
        """The tokens [start, end), and the mark that stands at their end."""
        size, num_bytes = self.memory.block_size, self.memory.block_bytes
        self.memory.copy(lease.reserve(end - start))
        advance = lease.advance(end - start)
        self.memory.copy_windows(advance.copies)
        first = max(start, lease.written_from)
        for index in range(first // size, -(-end // size)) if first < end else ():
            at = (index - self.first) * num_bytes
            self.memory.write_block(lease.blocks[index], bytes(self.data[at : at + num_bytes]))
        if mark is not None:
            count = next(count for place, count in self.places if place == end)
            slot = advance.segments[-1].target if advance.segments else 0
            self.memory.write_mark(slot, lease.window_blocks[len(lease.window_blocks) - count :], bytes(mark))
        lease.extend(self.ids[start:end])
        if mark is not None:
            lease.mark()


def _has_room(cache: PrefixCache, num_tokens: int) -> bool:
    """Whether a step of so many tokens finds free slots and window blocks."""
    marks = cache.stats().marks
    if marks is None:
        return True
    num_blocks = num_tokens // cache.block_size + 2
    return (not marks.slots or marks.free_slots > 0) and (
        not marks.window_blocks or marks.free_window_blocks >= num_blocks
    )
