"""A part of the index: an open table from block hashes to numbers, 20 bytes a slot, with no object for each block.

    slot      0        1        2   ...
    low       8 bytes  8 bytes          the hash's first half: which shard, and where in it a search begins
    high      8 bytes  8 bytes          its second half: equal only if the whole hash is
    numbers   4 bytes  4 bytes          0: free

Searches go on to the next slot (linear probing). What follows a removed block moves up (Knuth, vol. 3, 6.4,
algorithm R), so a table that blocks come to and leave for weeks is as good as a new one.
"""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

NUM_SHARDS = 1024
"""So many that making one anew, as it grows, is done in milliseconds."""
FULLEST = 0.75
EMPTIEST = 0.3
"""A table is made anew when more, or less, of its slots are taken."""
AFTER = 0.6
"""Taken behind that."""
SMALLEST = 8


class Shard:
    """Hashes as two integers. A search gives a slot, which holds until the next `put` or `remove`."""

    __slots__ = ("count", "high", "low", "numbers", "size")

    def __init__(self) -> None:
        self.count = 0
        self._clear(SMALLEST)

    def _clear(self, size: int) -> None:
        self.size = size
        self.low, self.high = array("Q", bytes(8 * size)), array("Q", bytes(8 * size))
        self.numbers = array("I", bytes(4 * size))

    def find(self, low: int, high: int) -> int:
        """Where it is, or the free slot where it would be."""
        slot, size, lows, numbers = (low // NUM_SHARDS) % self.size, self.size, self.low, self.numbers
        while numbers[slot] and (lows[slot] != low or self.high[slot] != high):
            slot += 1
            if slot == size:
                slot = 0
        return slot

    def put(self, slot: int, low: int, high: int, number: int) -> None:
        """A slot that `find` gave for this hash has this number from now on, which is not 0."""
        if not self.numbers[slot]:
            if self.count + 1 > FULLEST * self.size:
                self._make_anew()
                slot = self.find(low, high)
            self.count += 1
            self.low[slot], self.high[slot] = low, high
        self.numbers[slot] = number

    def remove(self, slot: int) -> None:
        """The hash of this slot is not there any more."""
        lows, highs, numbers, size = self.low, self.high, self.numbers, self.size
        free = at = slot
        while True:
            at = at + 1 if at + 1 < size else 0
            if not numbers[at]:
                break
            if (at - (lows[at] // NUM_SHARDS) % size) % size >= (at - free) % size:  # a search for it passes `free`
                lows[free], highs[free], numbers[free] = lows[at], highs[at], numbers[at]
                free = at
        numbers[free] = 0
        self.count -= 1
        if size > SMALLEST and self.count < EMPTIEST * size:
            self._make_anew()

    def holding(self, numbers: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
        """The hashes whose number is true in this array."""
        (slots,) = np.nonzero(numbers[np.frombuffer(self.numbers, np.uint32)])
        return [(self.low[slot], self.high[slot]) for slot in slots.tolist()]

    def num_bytes(self) -> int:
        return self.size * (2 * self.low.itemsize + self.numbers.itemsize)

    def _make_anew(self) -> None:
        """In order of where searches begin, each comes as near behind that as those before it allow."""
        columns = self.low, self.high, self.numbers
        low, high, numbers = (np.frombuffer(column, column.typecode) for column in columns)
        self._clear(max(SMALLEST, int((self.count + 1) / AFTER)))
        begins = (low // NUM_SHARDS % self.size).astype(np.int64)
        (taken,) = np.nonzero(numbers)
        taken = taken[np.argsort(begins[taken], kind="stable")]
        count = np.arange(len(taken))
        slots = np.maximum.accumulate(begins[taken] - count) + count
        inside = slots < self.size
        for column, old in zip((self.low, self.high, self.numbers), (low, high, numbers), strict=True):
            np.frombuffer(column, column.typecode)[slots[inside]] = old[taken[inside]]
        for at in taken[~inside].tolist():  # past the end: searches go on at its beginning
            slot = self.find(int(low[at]), int(high[at]))
            self.low[slot], self.high[slot], self.numbers[slot] = int(low[at]), int(high[at]), int(numbers[at])
