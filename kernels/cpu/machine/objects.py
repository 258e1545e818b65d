"""Object files of x86 Linux put into memory without LLVM, whose library takes some 46 MB: where all kernels are kept on
disk, a process needs nothing else of it.

What `compile.py` makes refers to nothing but itself, and by whole addresses:

    section      .text of each kernel, and constants        -> copied one behind the other, read and run, not written
    relocation   R_X86_64_64: 8 bytes at a place            -> the address of a symbol and a number

An object that asks for anything else (a function of the C library, data that is written) is for LLVM's linker. Formats:
System V ABI, chapter 4, and its AMD64 supplement.
"""

from __future__ import annotations

import ctypes
import mmap
from struct import Struct
from typing import NamedTuple

from stemma.machine_code import make_executable

ELF64, X86_64, RELOCATABLE = b"\x7fELF\x02\x01\x01", 62, 1
HEADER, SECTION = Struct("<16sHHIQQQIHHHHHH"), Struct("<IIQQQQIIQQ")
SYMBOL, RELOCATION = Struct("<IBBHQQ"), Struct("<QQq")
SYMBOLS, RELOCATIONS, EMPTY = 2, 4, 8
WRITTEN, LOADED = 1, 2
ADDRESS = 1
"""R_X86_64_64."""


class _Section(NamedTuple):
    """A row of the table of sections, without its name and entries' size."""

    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class Placed:
    """An object in memory, for as long as this lives."""

    def __init__(self, memory: mmap.mmap, addresses: dict[str, int]) -> None:
        self._memory, self._addresses = memory, addresses

    def address(self, name: str) -> int:
        """Of a function; 0 if there is none of this name."""
        return self._addresses.get(name, 0)


def place(data: bytes) -> Placed | None:
    """The object in memory, or None if it is none of x86 Linux or needs more than addresses of its own.
    Raises NoExecutableMemory."""
    if not data.startswith(ELF64) or HEADER.unpack_from(data)[1:3] != (RELOCATABLE, X86_64):
        return None
    sections = _sections(data)
    starts, size = _starts(sections)
    if any(section.flags & WRITTEN for section in sections if section.flags & LOADED):
        return None
    memory = mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for number, start in starts.items():
        section = sections[number]
        if section.kind != EMPTY:
            memory[start : start + section.size] = data[section.offset : section.offset + section.size]
    for section in sections:
        if section.kind == RELOCATIONS and section.info in starts:
            symbols = _symbols(data, sections[section.link])
            for offset, which, number in RELOCATION.iter_unpack(_bytes_of(data, section)):
                _, _, _, home, value, _ = symbols[which >> 32]
                if which & 0xFFFFFFFF != ADDRESS or home not in starts:
                    return None
                at, to = starts[section.info] + offset, base + starts[home] + value + number
                memory[at : at + 8] = to.to_bytes(8, "little")
    make_executable(base, size)
    return Placed(memory, _addresses(data, sections, starts, base))


def _sections(data: bytes) -> list[_Section]:
    header = HEADER.unpack_from(data)
    first, size, count = header[6], header[11], header[12]
    found = []
    for number in range(count):
        _, kind, flags, _, offset, length, link, info, align, _ = SECTION.unpack_from(data, first + number * size)
        found.append(_Section(kind, flags, offset, length, link, info, align))
    return found


def _starts(sections: list[_Section]) -> tuple[dict[int, int], int]:
    """Where each section that is loaded begins, by its number, and how long all are."""
    starts, end = {}, 0
    for number, section in enumerate(sections):
        if section.flags & LOADED:
            align = max(section.align, 1)
            starts[number] = end = -(-end // align) * align
            end += section.size
    return starts, end


def _bytes_of(data: bytes, section: _Section) -> bytes:
    return data[section.offset : section.offset + section.size]


def _symbols(data: bytes, section: _Section) -> list[tuple[int, int, int, int, int, int]]:
    """Name, binding and kind, visibility, section, place in it, size."""
    return list(SYMBOL.iter_unpack(_bytes_of(data, section)))


def _addresses(data: bytes, sections: list[_Section], starts: dict[int, int], base: int) -> dict[str, int]:
    """Of all symbols that have a name."""
    found = {}
    for section in sections:
        if section.kind == SYMBOLS:
            names = _bytes_of(data, sections[section.link])
            for name, _, _, home, value, _ in _symbols(data, section):
                if name and home in starts:
                    found[names[name : names.index(b"\0", name)].decode()] = base + starts[home] + value
    return found
