"""What one router sent to whom of late: not yet in the loads that replicas told, nor in their events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REMEMBERED = 5.0
"""Seconds for which what was sent is expected to be there; up to twice as many, as it is forgotten all at once."""


class Sent:
    """By replica: when it was sent how many tokens to compute; and the blocks that these will be."""

    def __init__(self) -> None:
        self._tokens: dict[str, dict[int, tuple[float, int]]] = {}
        self._next = 0
        self._new: dict[bytes, tuple[str, ...]] = {}
        self._old: dict[bytes, tuple[str, ...]] = {}
        self._turned = 0.0

    def add(self, replica: str, now: float, tokens: int, blocks: Sequence[bytes]) -> int:
        """It was sent a prompt of which it has to compute so many tokens, and these blocks. Returns its ticket."""
        self._next += 1
        self._tokens.setdefault(replica, {})[self._next] = now, tokens
        expected = self._new
        for block in blocks:
            there = expected.get(block, ())
            if replica not in there:
                expected[block] = (*there, replica)
        return self._next

    def began(self, replica: str, ticket: int) -> None:
        """That prompt is computed: its tokens are waited for no more."""
        self._tokens.get(replica, {}).pop(ticket, None)

    def pass_time(self, now: float) -> None:
        """Forget what is too old."""
        if now - self._turned > REMEMBERED:
            self._old = self._new if now - self._turned <= 2 * REMEMBERED else {}
            self._new = {}
            self._turned = now

    def since(self, replica: str, at: float) -> tuple[int, int]:
        """How many requests it was sent after that time, and their tokens; those before are forgotten."""
        sent = self._tokens.get(replica)
        if not sent:
            return 0, 0
        for ticket, (now, _) in list(sent.items()):
            if now > at:
                break
            del sent[ticket]
        return len(sent), sum(tokens for _, tokens in sent.values())

    def count(self, replica: str) -> int:
        """How many requests it was sent that are not forgotten."""
        return len(self._tokens.get(replica, ()))

    def extend(self, held: Mapping[str, int], hashes: Sequence[bytes]) -> dict[str, int]:
        """How many of these blocks each replica will hold, if it holds so many of them now."""
        found, new, old = dict(held), self._new, self._old
        for depth in {0, *held.values()} if new or old else ():
            going: set[str] | None = None
            for place in range(depth, len(hashes)):
                there = new.get(hashes[place], ()) + old.get(hashes[place], ())
                if going is None:
                    going = {name for name in there if held.get(name, 0) == depth}
                else:
                    going = going.intersection(there)
                if not going:
                    break
                found.update(dict.fromkeys(going, place + 1))
        return found

    def drop(self, replica: str) -> None:
        """It is gone."""
        self._tokens.pop(replica, None)
        for blocks in (self._new, self._old):
            for block, there in list(blocks.items()):
                if replica in there:
                    left = tuple(name for name in there if name != replica)
                    if left:
                        blocks[block] = left
                    else:
                        del blocks[block]
