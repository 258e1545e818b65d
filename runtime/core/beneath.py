"""What the scheduler asks of places beneath the cache, where blocks are that it has not: nothing, unless an engine has
some (`stemma.runtime.tiers`). Whoever is asked answers at once; what takes time is done beside the loop.

    add       ask             a waiting sequence's missing blocks are looked for
    look      is_coming       it waits on while they are loaded, never longer than computing them takes
    start     fill            those that came are put into the cache, and are found there
              marks_at        where one can go on only at marks, it leaves some where blocks end
    commit    published       what was computed can be kept beneath
    end       forget
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from stemma.radix import Namespace
from stemma.runtime.core.sequence import Sequence


class Want(NamedTuple):
    """Blocks [first, end) of a sequence's tokens, which the cache has not. namespace: where they stand. seconds: that
    computing them takes; 0 while nobody knows."""

    namespace: Namespace
    first: int
    end: int
    seconds: float


class Beneath(Protocol):
    """See above. Everything but `wake`s of its own is called by the loop's thread."""

    def ask(self, sequence: Sequence, want: Want) -> None:
        """Look for these blocks; what was asked for this sequence before is dropped."""

    def is_coming(self, sequence: Sequence, hit_len: int) -> bool:
        """Whether blocks behind its first `hit_len` tokens may still come, and are worth waiting for."""

    def arrived(self) -> list[Sequence]:
        """Those that need not wait any longer since the last call."""

    def fill(self, sequence: Sequence, room: int) -> int:
        """Put what came for it into the cache, if it fits so many blocks. Returns how many of its tokens are cached
        then; 0 if nothing was put."""

    def marks_at(self, sequence: Sequence, max_hit: int) -> Iterable[int]:
        """Where it is to leave marks within its first `max_hit` tokens, for others to go on from what is beneath."""

    def published(self, sequence: Sequence) -> None:
        """What its lease has published is in the cache."""

    def forget(self, sequence: Sequence) -> None:
        """It has ended."""


class Nothing:
    """No such places."""

    def ask(self, sequence: Sequence, want: Want) -> None: ...

    def is_coming(self, sequence: Sequence, hit_len: int) -> bool:
        return False

    def arrived(self) -> list[Sequence]:
        return []

    def fill(self, sequence: Sequence, room: int) -> int:
        return 0

    def marks_at(self, sequence: Sequence, max_hit: int) -> Iterable[int]:
        return ()

    def published(self, sequence: Sequence) -> None: ...

    def forget(self, sequence: Sequence) -> None: ...


NOTHING = Nothing()
