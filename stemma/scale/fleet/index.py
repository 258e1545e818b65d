"""Who holds what: for each block of any replica, by its event hash, the set of replicas that have it.

Only told by events, so it is as old as they are; it never guesses. 27 to 34 bytes a block, whoever holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from struct import iter_unpack

import numpy as np

from stemma.radix import AllCleared, BlocksRemoved, BlocksStored, Event
from stemma.runtime.errors import InvalidRequest
from stemma.scale.fleet.replica_sets import ReplicaSets
from stemma.scale.fleet.shard import NUM_SHARDS, Shard

HASH_BYTES = 16


class Index:
    """The blocks of all replicas. Marks are not kept: of a model with windows or states it tells what is cached, which
    may be more than what its requests can go on from."""

    def __init__(self) -> None:
        self._shards = [Shard() for _ in range(NUM_SHARDS)]
        self._sets = ReplicaSets()
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._held: list[int] = []
        self._free: list[int] = []

    @property
    def num_blocks(self) -> int:
        """Different blocks that somebody holds."""
        return sum(shard.count for shard in self._shards)

    @property
    def num_bytes(self) -> int:
        """Of memory, for blocks and sets of holders; without the little that each replica takes."""
        masks = self._sets.masks
        a_set = sys.getsizeof(max(masks)) + 150  # the integer, its places in two lists and a dict
        return sum(shard.num_bytes() for shard in self._shards) + len(masks) * a_set

    def held(self, replica: str) -> int:
        """How many blocks a replica holds."""
        number = self._numbers.get(replica)
        return 0 if number is None else self._held[number]

    def apply(self, replica: str, event: Event) -> None:
        """What happened in a replica's cache. What is stored twice, or removed and not there, changes nothing."""
        if isinstance(event, BlocksStored):
            self._store(event.hashes, self._number(replica))
        elif isinstance(event, BlocksRemoved):
            self._remove(_halves(event.hashes), self._number(replica))
        elif isinstance(event, AllCleared):
            self.drop(replica)

    def drop(self, replica: str) -> None:
        """Forget a replica: it is gone, or begins anew. A walk over the whole index."""
        number = self._numbers.pop(replica, None)
        if number is None:
            return
        # Once is enough: a set that is made meanwhile is without this replica, and only in shards that are done.
        holding = np.array([mask >> number & 1 for mask in self._sets.masks], np.bool_)
        for shard in self._shards if self._held[number] else ():
            self._remove(shard.holding(holding), number)
        self._free.append(number)

    def match(self, hashes: Sequence[bytes]) -> dict[str, int]:
        """For each replica that holds the first of these blocks, how many of them it holds from there without a gap."""
        found: dict[str, int] = {}
        shards, masks = self._shards, self._sets.masks
        still, last = -1, -1
        depth = 0
        for low, high in _halves(hashes):
            shard = shards[low % NUM_SHARDS]  # what follows is `find`, which costs as much again as a call
            lows, numbers, size = shard.low, shard.numbers, shard.size
            slot = (low // NUM_SHARDS) % size
            while (holders := numbers[slot]) and (lows[slot] != low or shard.high[slot] != high):
                slot = slot + 1 if slot + 1 < size else 0
            if holders != last:
                holding = still & masks[holders]
                if depth and holding != still:
                    found |= dict.fromkeys(self._named(still & ~holding), depth)
                if not holding:
                    return found
                still, last = holding, holders
            depth += 1
        return found | dict.fromkeys(self._named(still), depth) if depth else found

    def _store(self, hashes: Sequence[bytes], number: int) -> None:
        shards, sets, bit = self._shards, self._sets, 1 << number
        last = new = -1
        for low, high in _halves(hashes):
            shard = shards[low % NUM_SHARDS]
            slot = shard.find(low, high)
            old = shard.numbers[slot]
            if old != last:
                last, new = old, sets.number(sets.masks[old] | bit)
            if new != old:
                sets.move(old, new)
                shard.put(slot, low, high, new)
                self._held[number] += 1

    def _remove(self, hashes: Iterable[tuple[int, int]], number: int) -> None:
        shards, sets, bit = self._shards, self._sets, 1 << number
        for low, high in hashes:
            shard = shards[low % NUM_SHARDS]
            slot = shard.find(low, high)
            old = shard.numbers[slot]
            if not sets.masks[old] & bit:
                continue
            new = sets.number(sets.masks[old] & ~bit)
            sets.move(old, new)
            self._held[number] -= 1
            if new:
                shard.numbers[slot] = new
            else:
                shard.remove(slot)

    def _number(self, replica: str) -> int:
        known = self._numbers.get(replica)
        if known is not None:
            return known
        if self._free:
            number = self._free.pop()
            self._names[number] = replica
        else:
            number = len(self._names)
            self._names.append(replica)
            self._held.append(0)
        self._numbers[replica] = number
        return number

    def _named(self, replicas: int) -> list[str]:
        names = []
        while replicas:
            lowest = replicas & -replicas
            names.append(self._names[lowest.bit_length() - 1])
            replicas ^= lowest
        return names


def _halves(hashes: Sequence[bytes]) -> Iterable[tuple[int, int]]:
    """Both halves of each hash, as integers."""
    data = b"".join(hashes)
    if len(data) != HASH_BYTES * len(hashes):
        raise InvalidRequest(f"hashes must have {HASH_BYTES} bytes each, as a PrefixCache tells them", "hashes")
    return iter_unpack("<QQ", data)
