"""What a router is told of a request, and what it says of its choice. Of it a replica is told where the prompt is
computed, and its tokens; the rest stays in the process that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from stemma.server.prompts.readings import Reading


class Place(NamedTuple):
    """Where a replica computes prompts for others, over TCP. key: proves that one was told."""

    host: str
    port: int
    key: str


class Asked:
    """Of one request.

    hashes: of the full blocks of its prompt. prompt_len: tokens. session: requests of one name stay together.
    home: whose state it needs, where all that one caller has of a kind is kept by one replica. kept_by: the number of
    the one that keeps what it names. to: the replica that it is for.

    chosen: where the router sent it. hit: tokens that it should find there. why: for people. is_refused: it is for a
    replica that is not there. reading: the prompt's tokens, for who answers. place: where what is missing of its prompt
    is computed; None is where it is answered.
    """

    __slots__ = (
        "_tell_begun", "chosen", "hashes", "hit", "home", "is_refused", "kept_by", "place", "prompt_len", "reading",
        "session", "to", "why",
    )  # fmt: skip

    def __init__(
        self, hashes: Sequence[bytes] = (), prompt_len: int = 0, *, session: str | None = None,
        home: str | None = None, to: str | None = None,
    ) -> None:  # fmt: skip
        self.hashes = hashes
        self.prompt_len = prompt_len
        self.session = session
        self.home = home
        self.kept_by: int | None = None
        self.to = to
        self.chosen: str | None = None
        self.hit = 0
        self.why = ""
        self.is_refused = False
        self.place: Place | None = None
        self.reading: Reading | None = None
        self._tell_begun: list[Callable[[], None]] = []

    def __reduce__(self) -> tuple[Callable[..., Asked], tuple[Place | None, Reading | None]]:
        """A replica is called with it, and has no use for what it was routed by."""
        return _arrived, (self.place, self.reading)

    def sent(self, chosen: str, hit: int, why: str, tell_begun: Callable[[], None] | None = None) -> None:
        """The router's choice. tell_begun: to be called once the replica answers, or never will."""
        self.begun()
        self.chosen, self.hit, self.why, self.place = chosen, hit, why, None
        self._tell_begun = [] if tell_begun is None else [tell_begun]

    def lent(self, place: Place, tell_begun: Callable[[], None]) -> None:
        """What is missing of its prompt is computed there."""
        self.place = place
        self._tell_begun.append(tell_begun)

    def taken(self, name: str) -> None:
        """Who has it in the end."""
        if name != self.chosen:
            self.chosen, self.hit, self.why = name, 0, f"{self.chosen} took no more"

    def begun(self) -> None:
        """The replica answers, or never will: nothing of the request waits there. Safe to call twice."""
        told, self._tell_begun = self._tell_begun, []
        for tell in told:
            tell()


def _arrived(place: Place | None, reading: Reading | None) -> Asked:
    asked = Asked()
    asked.place, asked.reading = place, reading
    return asked
