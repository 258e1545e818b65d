"""A file of records one behind the other, which only grows. What it holds is found by reading it: there is no second
file that could say something else.

    | record | record | record | rec          a writer that was killed leaves a torn tail, which is cut off
    | record | ????? | record |               bytes that were damaged cost the records that they are in
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stemma.runtime.tiers.records import HEADER, MAGIC, Head, read_head

LOOK_BYTES = 1 << 16
"""What is searched for the next record at once, and skipped where a part of it cannot be read."""


class Found(NamedTuple):
    """A record's place in a segment."""

    head: Head
    offset: int


class Segment:
    """One file. The file is open as long as anybody refers to this, also when it has gone from its folder."""

    def __init__(self, path: Path, number: int) -> None:
        """Opens it, or makes it. Raises OSError."""
        self.path, self.number = path, number
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        weakref.finalize(self, os.close, self._fd)
        self.num_bytes = os.fstat(self._fd).st_size

    @property
    def is_there(self) -> bool:
        """Whether it stands in a folder: one that was removed can be read for as long as it is open, and by nobody
        else."""
        return os.fstat(self._fd).st_nlink > 0

    def scan(self) -> Iterator[Found]:
        """All records whose heads are whole; whether a payload is, its reader finds out. What the disk does not give
        back is skipped."""
        at = 0
        while at >= 0:
            head = read_head(self._look(at, HEADER.size))
            if head is not None and at + head.num_bytes <= self.num_bytes:
                yield Found(head, at)
                at += head.num_bytes
                if at >= self.num_bytes:
                    return
                if self._look(at, len(MAGIC)) == MAGIC:
                    continue
            at = self._next_magic(at + 1)

    def _next_magic(self, at: int) -> int:
        """Where a record may begin, from there on; -1 where none does."""
        while at < self.num_bytes:
            found = self._look(at, LOOK_BYTES + len(MAGIC) - 1).find(MAGIC)
            if found >= 0:
                return at + found
            at += LOOK_BYTES
        return -1

    def _look(self, offset: int, num_bytes: int) -> bytes:
        """Nothing where it cannot be read: not through a map, where a bad place of the disk ends the process."""
        try:
            return self.read(offset, num_bytes)
        except OSError:
            return b""

    def cut(self, num_bytes: int) -> None:
        """Nothing stands behind so many bytes."""
        os.ftruncate(self._fd, num_bytes)
        self.num_bytes = num_bytes

    def append(self, record: bytes) -> int:
        """Write a record at the end; returns where. Raises OSError, with the file as it was."""
        at, rest = self.num_bytes, memoryview(record)
        try:
            while rest:
                rest = rest[os.pwrite(self._fd, rest, at + len(record) - len(rest)) :]
        except OSError:
            self.cut(at)
            raise
        self.num_bytes = at + len(record)
        return at

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Raises OSError."""
        return os.pread(self._fd, num_bytes, offset)
