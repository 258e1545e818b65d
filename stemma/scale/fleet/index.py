"""Who holds what: for each block of any replica, by its event hash, the set of replicas that have it.

Only told by events, so it is as old as they are; it never guesses.
"""

from __future__ import annotations

from collections.abc import Sequence

from stemma.radix import AllCleared, BlocksRemoved, BlocksStored, Event


class Index:
    """The blocks of all replicas. A set of replicas is an integer with a bit for each."""

    def __init__(self) -> None:
        self._holders: dict[bytes, int] = {}
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []

    def apply(self, replica: str, event: Event) -> None:
        """What happened in a replica's cache. What is stored twice, or removed and not there, changes nothing."""
        if isinstance(event, BlocksStored):
            bit = self._bit(replica)
            for block in event.hashes:
                self._holders[block] = self._holders.get(block, 0) | bit
        elif isinstance(event, BlocksRemoved):
            self._remove(event.hashes, self._bit(replica))
        elif isinstance(event, AllCleared):
            self.drop(replica)

    def drop(self, replica: str) -> None:
        """Forget a replica: it is gone, or begins anew."""
        if replica in self._numbers:
            self._remove(list(self._holders), self._bit(replica))

    def match(self, hashes: Sequence[bytes]) -> dict[str, int]:
        """For each replica that holds the first of these blocks, how many of them it holds from there without a gap."""
        found: dict[str, int] = {}
        still = -1
        for depth, block in enumerate(hashes):
            holding = still & self._holders.get(block, 0)
            if holding != still and depth:
                found |= dict.fromkeys(self._named(still & ~holding), depth)
            still = holding
            if not still:
                return found
        return found | dict.fromkeys(self._named(still), len(hashes)) if hashes else found

    def _remove(self, hashes: list[bytes], bit: int) -> None:
        for block in hashes:
            holding = self._holders.get(block, 0) & ~bit
            if holding:
                self._holders[block] = holding
            else:
                self._holders.pop(block, None)

    def _bit(self, replica: str) -> int:
        number = self._numbers.setdefault(replica, len(self._names))
        if number == len(self._names):
            self._names.append(replica)
        return 1 << number

    def _named(self, replicas: int) -> list[str]:
        names = []
        while replicas:
            names.append(self._names[(replicas & -replicas).bit_length() - 1])
            replicas &= replicas - 1
        return names
