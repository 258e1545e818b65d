"""The free list of physical blocks. Never knows what a block holds or who has it."""

from array import array
from collections.abc import Iterable


class BlockPool:
    """A stack of free block ids; the last one given back is the first one given out (it is warm)."""

    __slots__ = ("_free", "total")

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"a pool needs at least one block, got {num_blocks}")
        self.total = num_blocks
        self._free = array("i", range(num_blocks - 1, -1, -1))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> "array[int]":
        """`count` free blocks; the caller has made sure that there are as many."""
        assert 0 <= count <= len(self._free)
        if count == 0:
            return array("i")
        taken = self._free[-count:]
        del self._free[-count:]
        return taken

    def give_back(self, blocks: "Iterable[int]") -> None:
        self._free.extend(blocks)

    def claim(self, blocks: Iterable[int]) -> None:
        """Take these very blocks out of the free list."""
        taken = set(blocks)
        self._free = array("i", (block for block in self._free if block not in taken))

    def free_blocks(self) -> "array[int]":
        """A copy of the free list, for checks."""
        return self._free[:]
