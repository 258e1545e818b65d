"""One path of KV from elsewhere, put into blocks and slots. Computes nothing, and decides nothing but what fits.

position     0 ...... hit_len ...... match_len .......... end
full         |------- in the tree -------|- from the file -|
marks                 |--- those of the file that lie behind hit_len, as far as there is room ---|
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self, TypeAlias

from stemma.kernels.ops import Int32Array
from stemma.radix import Lease, PrefixCache
from stemma.runtime.engine.memory_bytes import MemoryBytes

STRIDE = 256
"""Tokens for which window blocks are taken at once: they are freed again behind the window."""

Bytes: TypeAlias = bytes | memoryview


class MarkBytes(NamedTuple):
    """A mark: how many window blocks it has, and the bytes of these and its slot."""

    num_window_blocks: int
    data: Bytes


@dataclass(frozen=True, slots=True)
class PathBytes:
    """ids: of the whole path. first: index of the first block that is here. blocks: the bytes of each from there on.
    marks: by their positions."""

    memory: MemoryBytes
    ids: Int32Array
    first: int
    blocks: Sequence[Bytes]
    marks: Mapping[int, MarkBytes]

    @classmethod
    def parted(
        cls, memory: MemoryBytes, ids: Int32Array, first: int, data: memoryview, places: Sequence[tuple[int, int]]
    ) -> Self:
        """Of bytes one behind the other: of the blocks, then of the marks. places: of each mark, its position and how
        many window blocks it has."""
        at, blocks, marks = 0, [], {}
        for _ in range(first, -(-len(ids) // memory.block_size)):
            blocks.append(data[at : at + memory.block_bytes])
            at += memory.block_bytes
        for position, num_window_blocks in places:
            size = memory.mark_bytes(num_window_blocks)
            marks[position] = MarkBytes(num_window_blocks, data[at : at + size])
            at += size
        return cls(memory, ids, first, blocks, marks)

    def fill(self, lease: Lease, cache: PrefixCache, room: int, *, evicts: bool = False) -> int:
        """Put what is missing behind the lease's match, where that takes no more than `room` blocks and, unless it
        `evicts`, no mark has to go for it. Returns how many tokens of the path are cached then: fewer than all if there
        is no room, or what it shares with the one before is not there."""
        size, num_missing = self.memory.block_size, len(self.ids) - lease.match_len
        if num_missing and lease.match_len // size < self.first:
            return lease.match_len
        if num_missing and -(-num_missing // size) + 1 > room:
            return lease.match_len
        lease.want_none()
        at = lease.num_tokens
        marks = {position: mark for position, mark in self.marks.items() if position > at}
        stops = {*range(at, len(self.ids), STRIDE), *marks} if cache.has_marks else {at}
        for start, end in pairwise(sorted({*stops, len(self.ids)})):
            if not _has_room(cache, end - start, evicts=evicts):
                break
            self._put(lease, start, end, marks.get(end))
        lease.commit()
        return max(lease.num_tokens, lease.match_len)

    def _put(self, lease: Lease, start: int, end: int, mark: MarkBytes | None) -> None:
        """The tokens [start, end), and the mark that stands at their end."""
        size = self.memory.block_size
        self.memory.copy(lease.reserve(end - start))
        advance = lease.advance(end - start)
        self.memory.copy_windows(advance.copies)
        first = max(start, lease.written_from)
        for index in range(first // size, -(-end // size)) if first < end else ():
            self.memory.write_block(lease.blocks[index], bytes(self.blocks[index - self.first]))
        if mark is not None:
            first_block = len(lease.window_blocks) - mark.num_window_blocks
            slot = advance.segments[-1].target if advance.segments else 0
            self.memory.write_mark(slot, lease.window_blocks[first_block:], bytes(mark.data))
        lease.extend(self.ids[start:end])
        if mark is not None:
            lease.mark()


def _has_room(cache: PrefixCache, num_tokens: int, *, evicts: bool) -> bool:
    """Whether a step of so many tokens finds slots and window blocks: free ones, or those of marks that may go."""
    marks = cache.stats().marks
    if marks is None:
        return True
    num_blocks = num_tokens // cache.block_size + 2
    if evicts:
        return cache.can_advance(1, num_blocks)
    return (not marks.slots or marks.free_slots > 0) and (
        not marks.window_blocks or marks.free_window_blocks >= num_blocks
    )
