"""Code point ranges to UTF-8 byte ranges, as a small tree that the program emits back to front.

Pure arithmetic: it knows neither states nor tokens. Surrogates have no UTF-8 and are left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class ByteBranch(NamedTuple):
    """Bytes `low` to `high`, then any of `rest`; an empty `rest` ends the character."""

    low: int
    high: int
    rest: tuple[ByteBranch, ...]


LENGTH_LIMITS = (0x7F, 0x7FF, 0xFFFF, 0x10FFFF)
ByteRanges = tuple[tuple[int, int], ...]


def byte_sequences(low: int, high: int) -> list[ByteRanges]:
    """Products of byte ranges that together are the UTF-8 of `low` to `high`."""
    if low > high:
        return []
    if low <= 0xDFFF and high >= 0xD800:
        return byte_sequences(low, 0xD7FF) + byte_sequences(0xE000, high)
    for limit in LENGTH_LIMITS:
        if low <= limit < high:
            return byte_sequences(low, limit) + byte_sequences(limit + 1, high)
    if high <= 0x7F:
        return [((low, high),)]
    for bits in (6, 12, 18):
        tail = (1 << bits) - 1
        if low >> bits != high >> bits:
            if low & tail:
                return byte_sequences(low, low | tail) + byte_sequences((low | tail) + 1, high)
            if high & tail != tail:
                return byte_sequences(low, (high & ~tail) - 1) + byte_sequences(high & ~tail, high)
    return [tuple(zip(chr(low).encode(), chr(high).encode(), strict=True))]


class ByteEdge(NamedTuple):
    """Bytes `low` to `high`, then the state `rest`; a `rest` of -1 ends the character."""

    low: int
    high: int
    rest: int


@lru_cache(maxsize=4096)
def byte_states(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[ByteEdge, ...], ...]:
    """The UTF-8 of sorted, disjoint code point ranges as states: each leads to earlier ones, the last one begins."""
    known: dict[tuple[ByteEdge, ...], int] = {}
    _number(byte_branches(ranges), known)
    return tuple(known)


def _number(branches: tuple[ByteBranch, ...], known: dict[tuple[ByteEdge, ...], int]) -> int:
    ways = tuple(ByteEdge(low, high, _number(rest, known) if rest else -1) for low, high, rest in branches)
    return known.setdefault(ways, len(known))


def byte_branches(ranges: tuple[tuple[int, int], ...]) -> tuple[ByteBranch, ...]:
    """The UTF-8 of sorted, disjoint code point ranges; the branches of each level are sorted and disjoint."""
    return _grouped([sequence for low, high in ranges for sequence in byte_sequences(low, high)])


def _grouped(sequences: list[ByteRanges]) -> tuple[ByteBranch, ...]:
    branches: list[ByteBranch] = []
    start = 0
    while start < len(sequences):
        lead = sequences[start][0]
        end = start
        while end < len(sequences) and sequences[end][0] == lead:
            end += 1
        rest = [sequence[1:] for sequence in sequences[start:end] if len(sequence) > 1]
        branches.append(ByteBranch(lead[0], lead[1], _grouped(rest)))
        start = end
    return tuple(branches)
