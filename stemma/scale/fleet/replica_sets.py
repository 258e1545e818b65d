"""Sets of replicas, each kept once under a number: blocks of one prefix have mostly the same holders.

A set is an integer with a bit for each replica. A set that no block has any more gives its number back.
"""

from __future__ import annotations

EMPTY = 0
"""The number of the set of none."""


class ReplicaSets:
    """`masks[number]` is the set of a number."""

    __slots__ = ("_counts", "_free", "_numbers", "masks")

    def __init__(self) -> None:
        self.masks = [0]
        self._numbers = {0: EMPTY}
        self._counts = [0]
        self._free: list[int] = []

    def number(self, mask: int) -> int:
        """Of this set; it is kept as soon as a block moves to it."""
        known = self._numbers.get(mask)
        if known is not None:
            return known
        if self._free:
            fresh = self._free.pop()
            self.masks[fresh] = mask
        else:
            fresh = len(self.masks)
            self.masks.append(mask)
            self._counts.append(0)
        self._numbers[mask] = fresh
        return fresh

    def move(self, old: int, new: int) -> None:
        """A block that had the one set has the other now."""
        self._counts[new] += 1
        if old != EMPTY:
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._numbers[self.masks[old]]
                self._free.append(old)

    def __len__(self) -> int:
        """How many there are, that of none included."""
        return len(self._numbers)
