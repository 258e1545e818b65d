"""Strings of bytes by number, packed into a few large pieces: each costs what it is long and some 25 bytes, and a
garbage collection sees nothing of them. Never knows what they say.

    piece      | number, length, bytes | number, length, bytes | gone | ...      |
    places     hash -> piece, offset                                                 by which a number is found

The newest wait in a dictionary, where they are cheaper to reach: a small cache has no others. A piece of which less
than three quarters are left is moved together with others, so no more than a third is kept in vain.
"""

from array import array
from collections.abc import Iterator
from itertools import islice
from struct import Struct
from typing import Final

from stemma.radix.places import HASH_MASK, Places

_HEAD: Final = Struct("=qi")  # number, length of the bytes
_GONE: Final = Struct("=q").pack(-1)
_PIECE: Final = 2**16  # bytes
_LONG: Final = 4096  # bytes: what is longer stays as it is
_PACKED_AT_ONCE: Final = 32
_OFFSET_BITS: Final = 16
_OFFSET_MASK: Final = 2**16 - 1


class Records:
    """Bytes by number (from 0 up to 2**60)."""

    __slots__ = (
        "_end",
        "_left",
        "_long",
        "_most_recent",
        "_open",
        "_packs_at",
        "_pieces",
        "_places",
        "_recent",
        "_unused",
    )

    def __init__(self, most_recent: int) -> None:
        """most_recent: how many are not packed."""
        self._most_recent = most_recent
        self._packs_at = most_recent + max(1, min(most_recent, _PACKED_AT_ONCE))
        self._recent: dict[int, bytes] = {}
        self._long: dict[int, bytes] = {}
        self._pieces: list[bytearray] = []
        self._left = array("i")  # bytes of each piece that count
        self._unused = array("i")  # numbers of pieces that are not there
        self._open = -1  # the piece that is filled
        self._end = _PIECE  # up to where
        self._places = Places()

    def __len__(self) -> int:
        return len(self._recent) + self._places.num + len(self._long)

    def has(self, number: int) -> bool:
        """Whether a number has bytes."""
        if number in self._recent:
            return True
        return (self._places.num > 0 and self._find(number) >= 0) or (len(self._long) > 0 and number in self._long)

    def get(self, number: int) -> bytes | None:
        """The bytes of a number."""
        record = self._recent.get(number)
        if record is not None:
            return record
        if self._places.num:
            place = self._find(number)
            if place >= 0:
                return self._read(self._places.at(place))
        return self._long.get(number)

    def put(self, number: int, record: bytes) -> None:
        """These are the bytes of a number from now on; it had none."""
        recent = self._recent
        recent[number] = record
        if len(recent) >= self._packs_at:
            for oldest in list(islice(recent, len(recent) - self._most_recent)):
                self._pack(oldest, recent.pop(oldest))

    def pop(self, number: int) -> bytes:
        """The bytes of a number, which has none any more."""
        record = self._recent.get(number)
        if record is not None:
            del self._recent[number]
            return record
        place = self._find(number) if self._places.num else -1
        if place < 0:
            return self._long.pop(number)
        where = self._places.at(place)
        record = self._read(where)
        self._places.remove(place)
        self._lose(where >> _OFFSET_BITS, where & _OFFSET_MASK, _HEAD.size + len(record))
        return record

    def items(self) -> Iterator[tuple[int, bytes]]:
        """All of them. Nothing may be put or taken meanwhile."""
        yield from self._recent.items()
        yield from self._long.items()
        for where in self._places:
            yield self._number_at(where), self._read(where)

    def check(self) -> None:
        """Raise AssertionError unless everything packed is found where it is, and counted."""
        left = array("i", bytes(4 * len(self._pieces)))
        for where in self._places:
            number = self._number_at(where)
            assert self._places.at(self._find(number)) == where, "a record is not found"
            assert number not in self._recent, "a record is there twice"
            left[where >> _OFFSET_BITS] += _HEAD.size + len(self._read(where))
        assert left == self._left, "bytes of records are miscounted"
        for piece, unused in zip(self._pieces, left, strict=True):
            assert not piece or unused or piece is self._pieces[self._open], "a piece is kept for nothing"

    # Pieces --------------------------------------------------------------------------------------

    def _find(self, number: int) -> int:
        """The place of a number, or -1."""
        places, hashed = self._places, _hash(number)
        place = places.first(hashed)
        while place >= 0 and self._number_at(places.at(place)) != number:
            place = places.after(place, hashed)
        return place

    def _read(self, where: int) -> bytes:
        piece, offset = self._pieces[where >> _OFFSET_BITS], where & _OFFSET_MASK
        begin = offset + _HEAD.size
        return bytes(piece[begin : begin + _HEAD.unpack_from(piece, offset)[1]])

    def _number_at(self, where: int) -> int:
        number: int = _HEAD.unpack_from(self._pieces[where >> _OFFSET_BITS], where & _OFFSET_MASK)[0]
        return number

    def _pack(self, number: int, record: bytes) -> None:
        if len(record) > _LONG:
            self._long[number] = record
        else:
            self._places.add(_hash(number), self._write(number, record))

    def _write(self, number: int, record: bytes) -> int:
        """Append to the open piece; returns piece and offset."""
        begin, end = self._end + _HEAD.size, self._end + _HEAD.size + len(record)
        if end > _PIECE:
            self._open_another()
            begin, end = _HEAD.size, _HEAD.size + len(record)
        at, piece = begin - _HEAD.size, self._pieces[self._open]
        _HEAD.pack_into(piece, at, number, len(record))
        piece[begin:end] = record
        self._left[self._open] += end - at
        self._end = end
        return self._open << _OFFSET_BITS | at

    def _open_another(self) -> None:
        full = self._open
        if self._unused:
            self._open = self._unused.pop()
            self._pieces[self._open] = bytearray(_PIECE)
        else:
            self._open = len(self._pieces)
            self._pieces.append(bytearray(_PIECE))
            self._left.append(0)
        self._end = 0
        if full >= 0 and not self._left[full]:
            self._throw_away(full)

    def _lose(self, number: int, offset: int, length: int) -> None:
        """So many bytes of a piece do not count any more."""
        left = self._left[number] - length
        self._left[number] = left
        piece = self._pieces[number]
        piece[offset : offset + len(_GONE)] = _GONE
        if number == self._open or 4 * left >= 3 * _PIECE:
            return
        at = 0
        while left:
            key, length = _HEAD.unpack_from(piece, at)
            begin, at = at + _HEAD.size, at + _HEAD.size + length
            if key >= 0:
                self._places.replace(self._find(key), self._write(key, bytes(piece[begin:at])))
                left -= _HEAD.size + length
        self._left[number] = 0
        self._throw_away(number)

    def _throw_away(self, number: int) -> None:
        self._pieces[number] = bytearray()
        self._unused.append(number)


def _hash(number: int) -> int:
    """One that differs in its upper bits even for numbers that follow each other (Fibonacci hashing)."""
    return ((number & 2**30 - 1) * 0x9E3779B1 >> 10) & HASH_MASK
