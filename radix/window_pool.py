"""The blocks of the window layers, counted: leases and marks share them. Never knows what a block holds.

free      nobody refers to it
leased    a lease does
cached    only marks of the tree do: it comes free when they go
"""

from array import array
from collections.abc import Iterable

from stemma.radix.pool import BlockPool


class WindowPool:
    """Window blocks and who refers to them; `free + leased + cached == total`."""

    __slots__ = ("_by_leases", "_by_marks", "_pool", "num_cached")

    def __init__(self, num_blocks: int) -> None:
        self._pool = BlockPool(num_blocks)
        self._by_leases = array("i", bytes(4 * num_blocks))
        self._by_marks = array("i", bytes(4 * num_blocks))
        self.num_cached = 0

    @property
    def total(self) -> int:
        return self._pool.total

    @property
    def num_free(self) -> int:
        return self._pool.num_free

    def take(self, count: int) -> "array[int]":
        """Free blocks for a lease; the caller has made sure that there are as many."""
        taken = self._pool.take(count)
        for block in taken:
            self._by_leases[block] = 1
        return taken

    def is_shared(self, block: int) -> bool:
        """Whether anybody but one refers to it."""
        return self._by_leases[block] + self._by_marks[block] > 1

    def hold(self, blocks: Iterable[int]) -> None:
        """A lease refers to blocks that are in use."""
        by_leases, by_marks = self._by_leases, self._by_marks
        for block in blocks:
            if not by_leases[block] and by_marks[block]:
                self.num_cached -= 1
            by_leases[block] += 1

    def let_go(self, blocks: Iterable[int]) -> None:
        """A lease refers to them no more."""
        by_leases, by_marks = self._by_leases, self._by_marks
        for block in blocks:
            by_leases[block] -= 1
            if not by_leases[block]:
                if by_marks[block]:
                    self.num_cached += 1
                else:
                    self._pool.give_back((block,))

    def keep(self, blocks: Iterable[int]) -> None:
        """A mark of the tree refers to blocks that are in use, or were claimed."""
        by_leases, by_marks = self._by_leases, self._by_marks
        for block in blocks:
            if not by_marks[block] and not by_leases[block]:
                self.num_cached += 1
            by_marks[block] += 1

    def drop(self, blocks: Iterable[int]) -> None:
        """A mark of the tree refers to them no more."""
        by_leases, by_marks = self._by_leases, self._by_marks
        for block in blocks:
            by_marks[block] -= 1
            if not by_marks[block] and not by_leases[block]:
                self.num_cached -= 1
                self._pool.give_back((block,))

    def claim(self, blocks: Iterable[int]) -> None:
        """Take these very blocks out of the free list, for marks to keep."""
        self._pool.claim(blocks)

    def counts(self) -> "tuple[array[int], array[int], array[int]]":
        """Copies of the free list and of both counts, for checks."""
        return self._pool.free_blocks(), self._by_leases[:], self._by_marks[:]
