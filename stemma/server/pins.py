"""Pins: leases that callers hold for a while, so that what they need soon is not evicted meanwhile."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from stemma.radix import Lease, PrefixCache
from stemma.runtime.engine import Engine
from stemma.runtime.errors import EngineClosed
from stemma.server.errors import ApiError, too_many
from stemma.server.keys import Tenant


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """A held path. expires: on time.monotonic's clock."""

    id: str
    owner: str
    namespace: str
    num_tokens: int
    expires: float
    lease: Lease


class Pins:
    """Every change runs between two steps of the engine, so leases have one thread. Expired pins go with the next
    call."""

    def __init__(self, engine: Engine, max_share: float) -> None:
        self._engine = engine
        self._max_share = max_share
        self._pins: dict[str, Pin] = {}
        self._lock = threading.Lock()

    def add(self, tokens: list[int], namespace: str, owner: Tenant, seconds: float) -> Pin:
        """Hold what is cached of these tokens. Raises ApiError (429) if pins would hold too much."""

        def hold(cache: PrefixCache) -> Pin:
            self._release_expired()
            held = sum(-(-pin.num_tokens // cache.block_size) for pin in self._pins.values())
            lease = cache.acquire(tokens, namespace)
            if held + len(lease.blocks) > self._max_share * cache.num_blocks:
                lease.release()
                raise too_many(f"pins may hold {self._max_share:.0%} of the cache; release one or wait", 30)
            pin = Pin(secrets.token_hex(8), owner.name, namespace, lease.hit_len, time.monotonic() + seconds, lease)
            self._pins[pin.id] = pin
            return pin

        with self._lock:
            return self._engine.with_cache(hold)

    def list(self, tenant: Tenant) -> list[Pin]:
        """The live pins that this caller may see."""
        with self._lock:
            self._engine.with_cache(lambda cache: self._release_expired())
            return [pin for pin in self._pins.values() if tenant.owns(pin.namespace)]

    def remove(self, pin_id: str, tenant: Tenant) -> None:
        """Let go. Raises ApiError (404) if there is no such pin of this caller's."""
        with self._lock:
            pin = self._pins.get(pin_id)
            if pin is None or not tenant.owns(pin.namespace):
                raise ApiError(404, f"there is no pin {pin_id!r}", param="pin_id", code="not_found")
            del self._pins[pin_id]
            self._engine.with_cache(lambda cache: pin.lease.release())

    def release_all(self) -> None:
        """Let go of everything; nothing is left to do if the engine is closed."""
        with self._lock:
            pins, self._pins = list(self._pins.values()), {}
            try:
                self._engine.with_cache(lambda cache: _release(pins))
            except EngineClosed:
                return

    def _release_expired(self) -> None:
        now = time.monotonic()
        for pin in [pin for pin in self._pins.values() if pin.expires <= now]:
            del self._pins[pin.id]
            pin.lease.release()


def _release(pins: Iterable[Pin]) -> None:
    for pin in pins:
        pin.lease.release()
