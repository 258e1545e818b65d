"""Messages that were sent, kept to be asked for again: so many, and so many bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

MOST_BYTES: Final = 64 << 20


class Sent(NamedTuple):
    """A message: its sequence number, when it was made, its payload."""

    seq: int
    time: float
    payload: bytes


class History:
    """The latest messages, without gaps."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._sent: deque[Sent] = deque()
        self._most = most
        self._most_bytes = most_bytes
        self._num_bytes = 0

    def add(self, sent: Sent) -> None:
        """The latest one; the oldest go, but never the latest."""
        self._sent.append(sent)
        self._num_bytes += len(sent.payload)
        while len(self._sent) > self._most or (self._num_bytes > self._most_bytes and len(self._sent) > 1):
            self._num_bytes -= len(self._sent.popleft().payload)

    @property
    def oldest(self) -> int:
        """Its sequence number; of an empty history, that of the first message there will be."""
        return self._sent[0].seq if self._sent else 0

    @property
    def latest(self) -> Sent | None:
        return self._sent[-1] if self._sent else None

    def since(self, seq: int) -> Iterator[Sent]:
        """From that number on, as far as they are kept."""
        return (each for each in self._sent if each.seq >= seq)
