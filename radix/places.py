"""Numbers by hash, in one array: open addressing, 8 bytes a place, of which a third to two thirds are taken. Two
numbers may have the same hash; whoever looks one up knows by itself which it means.

    place      | hash, number | empty | hash, number | hash, number | ...
"""

from array import array
from collections.abc import Iterator
from typing import Final

NUMBER_BITS: Final = 40
HASH_BITS: Final = 22
HASH_MASK: Final = 2**22 - 1
_NUMBER_MASK: Final = 2**40 - 1
_EMPTY: Final = -1
_LEAST_BITS: Final = 6


class Places:
    """Numbers below 2**40 by hashes below 2**22."""

    __slots__ = ("_places", "_shift", "num")

    def __init__(self) -> None:
        self._shift = HASH_BITS - _LEAST_BITS  # below 0: there are more places than hashes
        self._places = array("q", [_EMPTY]) * 2**_LEAST_BITS
        self.num = 0

    def first(self, hashed: int) -> int:
        """The first place of a number with this hash, or -1."""
        return self._next(self._home(hashed), hashed)

    def after(self, place: int, hashed: int) -> int:
        """The next one, or -1."""
        return self._next(place + 1 & len(self._places) - 1, hashed)

    def at(self, place: int) -> int:
        """The number at a place."""
        return self._places[place] & _NUMBER_MASK

    def replace(self, place: int, number: int) -> None:
        """Another number at a place, of the same hash."""
        self._places[place] = self._places[place] >> NUMBER_BITS << NUMBER_BITS | number

    def add(self, hashed: int, number: int) -> None:
        """One number more."""
        if 3 * self.num >= 2 * len(self._places):
            self._widen()
        self.num += 1
        self._enter(hashed << NUMBER_BITS | number)

    def remove(self, gap: int) -> None:
        """Empty a place, and move up what would not be found behind it."""
        self.num -= 1
        places, mask = self._places, len(self._places) - 1
        place = gap + 1 & mask
        entry = places[place]
        while entry != _EMPTY:
            if place - self._home(entry >> NUMBER_BITS) & mask >= place - gap & mask:
                places[gap] = entry
                gap = place
            place = place + 1 & mask
            entry = places[place]
        places[gap] = _EMPTY

    def __iter__(self) -> Iterator[int]:
        """All numbers. None may come or go meanwhile."""
        for entry in self._places:
            if entry != _EMPTY:
                yield entry & _NUMBER_MASK

    def _home(self, hashed: int) -> int:
        return hashed >> self._shift if self._shift >= 0 else hashed << -self._shift

    def _next(self, place: int, hashed: int) -> int:
        places, mask = self._places, len(self._places) - 1
        entry = places[place]
        while entry != _EMPTY:
            if entry >> NUMBER_BITS == hashed:
                return place
            place = place + 1 & mask
            entry = places[place]
        return -1

    def _enter(self, entry: int) -> None:
        places, mask, place = self._places, len(self._places) - 1, self._home(entry >> NUMBER_BITS)
        while places[place] != _EMPTY:
            place = place + 1 & mask
        places[place] = entry

    def _widen(self) -> None:
        before = self._places
        self._shift -= 1
        self._places = array("q", [_EMPTY]) * (2 * len(before))
        for entry in before:
            if entry != _EMPTY:
                self._enter(entry)
