"""Records in this process's memory, the ones used last. For a GPU, whose KV lies elsewhere."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from stemma.runtime.tiers.tier import NOBODY, Record, Watcher


class HostTier:
    """See `Tier`. max_bytes: of all records; the one used longest ago goes first."""

    name = "host memory"
    is_near = True
    medium = "CPU"

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._records: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._held = 0
        self.watcher: Watcher = NOBODY

    @property
    def held_bytes(self) -> int:
        return self._held

    def keys(self) -> list[bytes]:
        with self._lock:
            return list(self._records)

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        return [key in self._records for key in keys]

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            for key in keys:
                if key in self._records:
                    self._records.move_to_end(key)
            return [self._records.get(key) for key in keys]

    def put(self, records: Sequence[Record]) -> None:
        removed = []
        with self._lock:
            for key, record in records:
                self._held += len(record) - len(self._records.pop(key, b""))
                self._records[key] = record
            while self._held > self._max_bytes:
                key, gone = self._records.popitem(last=False)
                self._held -= len(gone)
                removed.append(key)
        self.watcher.stored([key for key, _ in records])
        self.watcher.removed(removed)

    def drop(self, key: bytes) -> None:
        with self._lock:
            found = self._records.pop(key, None)
            self._held -= len(found or b"")
        if found is not None:
            self.watcher.removed([key])

    def close(self) -> None:
        with self._lock:
            self._records.clear()
            self._held = 0
