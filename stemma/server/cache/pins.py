"""Pins of callers: what they keep in the cache for a while. The cache itself bounds them and lets them run out."""

from __future__ import annotations

import secrets
import threading
import time
from typing import NamedTuple

from stemma.radix import Pin, PinError, PrefixCache
from stemma.runtime.engine import Engine
from stemma.server.http.errors import ApiError, too_many
from stemma.server.http.keys import Tenant


class CallersPin(NamedTuple):
    """A pin with its owner's namespace. expires: on time.monotonic's clock."""

    id: str
    namespace: str
    expires: float
    pin: Pin


class Pins:
    """Every change of the cache runs between two steps of the engine. Any thread may use it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pins: dict[str, CallersPin] = {}
        self._lock = threading.Lock()

    def add(self, tokens: list[int], namespace: str, seconds: float) -> CallersPin:
        """Hold what is cached of these tokens. Raises ApiError (429) if pins would hold too much."""
        try:
            pin = self._engine.with_cache(lambda cache: cache.pin(tokens, namespace, ttl=seconds))
        except PinError as error:
            raise too_many(str(error), 30) from error
        made = CallersPin(secrets.token_hex(8), namespace, time.monotonic() + seconds, pin)
        with self._lock:
            self._forget_expired()
            self._pins[made.id] = made
        return made

    def list(self, tenant: Tenant) -> list[CallersPin]:
        """The live pins that this caller may see."""
        with self._lock:
            self._forget_expired()
            return [made for made in self._pins.values() if tenant.owns(made.namespace)]

    def remove(self, pin_id: str, tenant: Tenant) -> None:
        """Let go. Raises ApiError (404) if there is no such pin of this caller's."""
        with self._lock:
            self._forget_expired()
            made = self._pins.get(pin_id)
            if made is None or not tenant.owns(made.namespace):
                raise ApiError(404, f"there is no pin {pin_id!r}", param="pin_id", code="not_found")
            del self._pins[pin_id]
        self._engine.with_cache(lambda cache: _unpin(cache, made.pin))

    def _forget_expired(self) -> None:
        now = time.monotonic()
        for made in [made for made in self._pins.values() if made.expires <= now]:
            del self._pins[made.id]


def _unpin(cache: PrefixCache, pin: Pin) -> None:
    try:
        cache.unpin(pin)
    except PinError:
        return  # it ran out meanwhile
