"""What a router is told of a request, and what it says of its choice. It stays in the process that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Asked:
    """Of one request.

    hashes: of the full blocks of its prompt. prompt_len: tokens. session: requests of one name stay together.
    home: whose state it needs; all that one caller has is kept by one replica. to: the replica that it is for.

    chosen: where the router sent it. hit: tokens that it should find there. why: for people. is_refused: it is for a
    replica that is not there.
    """

    __slots__ = (
        "_tell_begun", "chosen", "hashes", "hit", "home", "is_refused", "prompt_len", "session", "to", "why"
    )  # fmt: skip

    def __init__(
        self, hashes: Sequence[bytes] = (), prompt_len: int = 0, *, session: str | None = None,
        home: str | None = None, to: str | None = None,
    ) -> None:  # fmt: skip
        self.hashes = hashes
        self.prompt_len = prompt_len
        self.session = session
        self.home = home
        self.to = to
        self.chosen: str | None = None
        self.hit = 0
        self.why = ""
        self.is_refused = False
        self._tell_begun: Callable[[], None] | None = None

    def __reduce__(self) -> tuple[type[Asked], tuple[()]]:
        """A replica is called with it and has no use for it: nothing of it travels."""
        return Asked, ()

    def sent(self, chosen: str, hit: int, why: str, tell_begun: Callable[[], None] | None = None) -> None:
        """The router's choice. tell_begun: to be called once the replica answers, or never will."""
        self.begun()
        self.chosen, self.hit, self.why, self._tell_begun = chosen, hit, why, tell_begun

    def taken(self, name: str) -> None:
        """Who has it in the end."""
        if name != self.chosen:
            self.chosen, self.hit, self.why = name, 0, f"{self.chosen} took no more"

    def begun(self) -> None:
        """The replica answers, or never will: nothing of the request waits there. Safe to call twice."""
        tell, self._tell_begun = self._tell_begun, None
        if tell is not None:
            tell()
