"""Pins of callers: pinned holds of the engine, by the ids that callers know them by."""

from __future__ import annotations

import secrets
import threading
import time
from typing import NamedTuple

from stemma.runtime.engine import Hold
from stemma.server.http.errors import ApiError
from stemma.server.http.keys import Tenant


class CallersPin(NamedTuple):
    """A pinned hold with its owner's namespace. expires: on time.monotonic's clock."""

    id: str
    namespace: str
    expires: float
    hold: Hold


class Pins:
    """Of one server. Any thread may use it. The cache bounds them and ends them by itself."""

    def __init__(self) -> None:
        self._pins: dict[str, CallersPin] = {}
        self._lock = threading.Lock()

    def add(self, hold: Hold, namespace: str, seconds: float) -> CallersPin:
        """List a hold that is pinned from now on."""
        made = CallersPin(secrets.token_hex(8), namespace, time.monotonic() + seconds, hold)
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
        made.hold.release()

    def _forget_expired(self) -> None:
        now = time.monotonic()
        for made in [made for made in self._pins.values() if made.expires <= now]:
            del self._pins[made.id]
