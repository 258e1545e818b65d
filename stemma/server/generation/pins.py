"""Pins of callers: pinned holds of the engine, by the ids that callers know them by; and pins that are hints.

A hint asks that the prefix of a request be kept for a while after it. The next request of the same chat asks for a
longer prefix, which takes the place of the shorter one: blocks that two pins share count for both.
"""

from __future__ import annotations

import secrets
import threading
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from stemma.radix import PinError, PrefixCache
from stemma.runtime.engine import Engine, Generation, Hold, RequestOptions
from stemma.runtime.errors import EngineClosed, InvalidRequest
from stemma.server.http.errors import ApiError
from stemma.server.http.keys import Tenant


class Hint(NamedTuple):
    """What shall be kept, and how long: where it is, and its tokens, packed."""

    namespace: str
    lora: str | None
    tokens: bytes
    seconds: float

    def begins(self, other: Hint) -> bool:
        """Whether the other, of the same time, goes on from this one, or is the same."""
        return self._replace(tokens=b"") == other._replace(tokens=b"") and other.tokens.startswith(self.tokens)


def hint(options: RequestOptions, tokens: Sequence[int], seconds: float) -> Hint:
    """Of tokens where a request with these options finds them."""
    return Hint(options["namespace"], options["lora"], array("i", tokens).tobytes(), seconds)


class CallersPin(NamedTuple):
    """A pinned hold with its owner's namespace. expires: on time.monotonic's clock.

    hint: what it was made for, if for one. making: what makes its hold then; it fails where there is no room any more.
    """

    id: str
    namespace: str
    expires: float
    hold: Hold
    hint: Hint | None = None
    making: Generation | None = None

    def is_over(self, now: float) -> bool:
        """Whether it keeps nothing any more, nor ever will."""
        return self.expires <= now or (self.making is not None and self.making.is_done and self.hold.num_tokens == 0)


class Pins:
    """Of one server. Any thread may use it. The cache bounds them and ends them by itself."""

    def __init__(self) -> None:
        self._pins: dict[str, CallersPin] = {}
        self._lock = threading.Lock()

    def add(self, hold: Hold, namespace: str, seconds: float) -> CallersPin:
        """List a hold that is pinned from now on."""
        return self._put(CallersPin(secrets.token_hex(8), namespace, time.monotonic() + seconds, hold))

    def _put(self, made: CallersPin) -> CallersPin:
        with self._lock:
            self._forget_ended()
            self._pins[made.id] = made
        return made

    def list(self, tenant: Tenant) -> list[CallersPin]:
        """The live pins that this caller may see."""
        with self._lock:
            self._forget_ended()
            return [made for made in self._pins.values() if tenant.owns(made.namespace)]

    def remove(self, pin_id: str, tenant: Tenant) -> None:
        """Let go. Raises ApiError (404) if there is no such pin of this caller's."""
        with self._lock:
            self._forget_ended()
            made = self._pins.get(pin_id)
            if made is None or not tenant.owns(made.namespace):
                raise ApiError(404, f"there is no pin {pin_id!r}", param="pin_id", code="not_found")
            del self._pins[pin_id]
        made.hold.release()

    # Hints ----------------------------------------------------------------
    def has_room(self, engine: Engine, wanted: Hint) -> bool:
        """Whether a hint could be followed now. Raises EngineClosed."""
        num_tokens = len(wanted.tokens) // array("i").itemsize
        before = self._before(wanted)
        retained = (engine.hold(pinned_for=wanted.seconds) if before is None else before.hold).retained

        def check(cache: PrefixCache) -> bool:
            try:
                cache.check_pin(retained, num_tokens)
            except PinError:
                return False
            return True

        return engine.with_cache(check)

    def follow(self, engine: Engine, wanted: Hint, priority: int) -> None:
        """Have what was just computed kept from now on, in the place of what it goes on from."""
        before = self._before(wanted)
        if before is not None:
            with self._lock:
                self._pins.pop(before.id, None)
            before.hold.release()
        tokens = array("i", wanted.tokens).tolist()
        with suppress(EngineClosed, InvalidRequest):  # nobody waits for it
            hold = engine.hold(pinned_for=wanted.seconds)
            making = engine.submit(
                tokens, hold=hold, max_tokens=0, priority=priority, namespace=wanted.namespace, lora=wanted.lora
            )
            expires = time.monotonic() + wanted.seconds
            self._put(CallersPin(secrets.token_hex(8), wanted.namespace, expires, hold, wanted, making))

    def _before(self, wanted: Hint) -> CallersPin | None:
        """The longest hint that this one takes the place of."""
        with self._lock:
            self._forget_ended()
            found = [(len(made.hint.tokens), made) for made in self._pins.values()
                     if made.hint is not None and made.hint.begins(wanted)]  # fmt: skip
        return max(found, key=lambda one: one[0], default=(0, None))[1]

    def _forget_ended(self) -> None:
        now = time.monotonic()
        for made in [made for made in self._pins.values() if made.is_over(now)]:
            del self._pins[made.id]
