"""What the two sides say to each other, whatever carries it.

    decode                                          prefill
      Hello(identity, probe)           ->
                                       <-             Hello, or Refused: another model, other KV
      Ask(tokens, from which block)    ->             computes them, finding what it has cached
                                       <-             Piece(blocks), Piece(blocks), ...  while it computes
      puts each into its cache         <-             Piece(the last blocks, marks), Done

While there is nothing to send, Still says that it is at work. Where both have a shared tier, KV can go through that: an
Ask by tier is answered by Done alone, once all of it is written there.

A piece's bytes are those of `MemoryBytes`: whole blocks, and behind the last one the marks. What carries messages with
bytes is a `Channel`; shared memory is one (shared_memory.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from stemma.runtime.errors import StemmaError


class HandoverError(StemmaError):
    """KV could not be handed over; the request is computed where it is."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """identity: what must be equal for KV to be of use. probe: log-probabilities of some tokens, to tell models."""

    identity: dict[str, Any]
    probe: list[float]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """first: the block from which on KV is wanted: what stands before it is there. by_tier: it is not sent, but found
    in the tier that both share. priority, ttft: of the request, as its caller said it; the seconds that are left."""

    tokens: list[int]
    namespace: str
    lora: str | None
    first: int
    by_tier: bool = False
    priority: int = 0
    ttft: float | None = None


class Piece(msgspec.Struct, frozen=True, tag=True):
    """KV of the path's blocks from `first` on, up to token `end`. places: positions of marks, and how many window
    blocks each has, whose bytes follow those of the blocks."""

    first: int
    end: int
    places: list[tuple[int, int]] = []


class Still(msgspec.Struct, frozen=True, tag=True):
    """It is being computed, or waits for that."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """All that there is was sent."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """why: for people."""

    why: str


Message: TypeAlias = Hello | Ask | Piece | Still | Done | Refused


class Channel(Protocol):
    """One end of a connection. Messages arrive in order, each with its bytes."""

    @property
    def room(self) -> int:
        """The most bytes that one message may have."""

    def send(self, message: Message, data: Sequence[bytes] = ()) -> None:
        """Waits while the other end has not yet taken enough of what was sent. Raises HandoverError if it has gone."""

    def receive(self, seconds: float = math.inf) -> tuple[Message, memoryview]:
        """The next message; its bytes are there until the next one. Raises HandoverError if the other has gone, or
        begins none within so long."""

    def close(self) -> None:
        """The other end hears that nobody is here any more. Safe to call twice."""
