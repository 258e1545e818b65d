"""Keys and payloads of tests, and tiers that do what they should not."""

from __future__ import annotations

import random
import threading

from stemma.runtime.tiers.records import KEY_BYTES, seal
from stemma.runtime.tiers.tier import TierError


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def payload(number: int, size: int = 1000) -> bytes:
    return random.Random(number).randbytes(size)


def sealed(number: int, size: int = 1000) -> tuple[bytes, bytes]:
    return key(number), seal(key(number), payload(number, size))


class Odd:
    """A far tier in memory: `trouble` is raised by all calls, `gate` holds them up."""

    name = "an odd tier"
    is_near = False
    held_bytes = None

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.trouble: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.num_calls = 0

    def _call(self) -> None:
        self.num_calls += 1
        assert self.gate.wait(30)
        if self.trouble is not None:
            raise TierError(self.trouble)

    def contains(self, keys):
        self._call()
        return [each in self.records for each in keys]

    def get(self, keys):
        self._call()
        return [self.records.get(each) for each in keys]

    def put(self, records):
        self._call()
        self.records.update(records)

    def drop(self, key):
        self.records.pop(key, None)

    def close(self):
        self.gate.set()
