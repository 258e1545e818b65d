"""Words of 64 bits by name: how operations, jobs and plans give kernels their arguments."""

from __future__ import annotations

import functools
import struct

from stemma.kernels.cpu.machine.dialect import Code, Value


def read_words(code: Code, address: Value, names: tuple[str, ...]) -> dict[str, Value]:
    """All of them, as they stand at `address`."""
    return {name: code.load_int(address, index) for index, name in enumerate(names)}


def set_words(code: Code, address: Value, names: tuple[str, ...], words: dict[str, Value]) -> None:
    """Store some of them."""
    for name, value in words.items():
        code.store(value, address + 8 * names.index(name), 8)


@functools.cache
def word_of(number: float) -> int:
    """A float of 32 bits as a word."""
    return int(struct.unpack("<i", struct.pack("<f", number))[0])


@functools.cache
def word_of_two(low: float, high: float) -> int:
    """Two floats of 32 bits as a word."""
    return int(struct.unpack("<q", struct.pack("<ff", low, high))[0])
