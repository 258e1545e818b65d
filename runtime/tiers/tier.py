"""What a back end of a tier can do. It keeps records, whole or not at all as far as it can tell; who reads one checks
it (records.py), so that a back end may lose, damage or mix up what it likes: that is a miss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from stemma.runtime.errors import StemmaError

Record: TypeAlias = tuple[bytes, bytes]
"""A key, and the sealed record that stands under it."""


class TierError(StemmaError):
    """A tier cannot be read or written now: why, and what to do. It is left out for a while."""


class Tier(Protocol):
    """A place for records. One thread writes; any thread may ask and read.

    name: for people, with no password in it. is_near: whether `contains` is answered from memory, at once and exactly.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_near(self) -> bool: ...

    @property
    def held_bytes(self) -> int | None:
        """What it keeps; None where others know."""

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        """For each key whether it is there. Raises TierError."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The record of each key; None is a miss. Raises TierError."""

    def put(self, records: Sequence[Record]) -> None:
        """Keep these; what is there already may be left. Raises TierError, with some of them kept or none."""

    def drop(self, key: bytes) -> None:
        """What stands under this key is damaged: forget it. Raises TierError."""

    def close(self) -> None:
        """Nobody asks any more."""


class Watcher(Protocol):
    """Who hears what a tier has, behind each change, in any thread. Keys are those of records."""

    def stored(self, keys: Sequence[bytes]) -> None:
        """It has these now."""

    def removed(self, keys: Sequence[bytes]) -> None:
        """It has these no more."""


class Nobody:
    """Hears nothing."""

    def stored(self, keys: Sequence[bytes]) -> None:
        pass

    def removed(self, keys: Sequence[bytes]) -> None:
        pass


NOBODY: Final = Nobody()


class NearTier(Tier, Protocol):
    """A tier that knows what it has. medium: what KV events call it. watcher: who is told of changes."""

    medium: str
    watcher: Watcher

    def keys(self) -> list[bytes]:
        """Of all records."""


class TierStats(NamedTuple):
    """One tier since the engine was made. Counts are of blocks.

    hits: read, and whole. missed: asked for and not there. damaged: there, but not what was put under this key.
    stored: written. failures: times that it could not be read or written. read_seconds: of all reads. is_up: whether
    it is asked now. held_bytes: what it keeps; None where others know.
    """

    name: str
    is_up: bool
    hits: int
    missed: int
    damaged: int
    stored: int
    failures: int
    read_bytes: int
    read_seconds: float
    written_bytes: int
    held_bytes: int | None
