"""Records in a folder of one process: a log of segments, of which the oldest go when there are too many bytes.

    folder/  lock   segment-00000007.kv   segment-00000008.kv   segment-00000009.kv
                    the oldest: goes next                        the newest: is written

Where a record stands is kept in memory and found by reading the segments' heads at the start. Nothing is ever written
over, so a process that is killed leaves whole records and at most one torn one. What is still of use when its segment
goes, or is removed by others, is written again when it is used the next time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.bad_reads import UNREADABLE, BadReads
from stemma.runtime.tiers.segment import Segment
from stemma.runtime.tiers.tier import NOBODY, Record, TierError, Watcher

log = logging.getLogger("stemma.tiers")

NAME = re.compile(r"segment-(\d{8})\.kv")
LOCK = "lock"
LEAST_SEGMENTS = 16
"""That a full folder has: so much of it goes at once."""
MOST_SEGMENT_BYTES = 1 << 28


class _Place(NamedTuple):
    segment: Segment
    offset: int
    num_bytes: int


class DiskTier:
    """See `Tier`. max_bytes: of all segments together."""

    is_near = True
    medium = "STORAGE"

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Raises InvalidRequest for a folder that cannot be used, or that another process uses."""
        self.folder, self._max_bytes = folder, max_bytes
        self._segment_bytes = min(MOST_SEGMENT_BYTES, max(max_bytes // LEAST_SEGMENTS, 1))
        self._lock = threading.Lock()
        self._places: dict[bytes, _Place] = {}
        self._segments: dict[int, Segment] = {}  # the oldest first
        self._held = 0
        self._bad_reads = BadReads()
        self.watcher: Watcher = NOBODY
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim: int | None = _claimed(folder)
            for path in sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name)):
                self._open(path)
        except OSError as error:
            raise InvalidRequest(
                f"no KV can be kept in {folder} ({error.strerror or error}): choose another folder", "kv_disk"
            ) from error
        self._make_room(0)

    @property
    def name(self) -> str:
        return f"disk {self.folder}"

    @property
    def held_bytes(self) -> int:
        return self._held

    def keys(self) -> list[bytes]:
        with self._lock:
            return list(self._places)

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        return [key in self._places for key in keys]

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._read(key) for key in keys]

    def put(self, records: Sequence[Record]) -> None:
        if self._claim is None:
            raise TierError("its engine is closed")
        for key, record in records:
            if key not in self._places and len(record) <= self._max_bytes:
                self._append(key, record)

    def close(self) -> None:
        with self._lock:
            self._places.clear()
            self._segments.clear()
            if self._claim is not None:
                os.close(self._claim)
                self._claim = None

    def drop(self, key: bytes) -> None:
        with self._lock:
            found = self._places.pop(key, None)
        if found is not None:
            self.watcher.removed([key])

    def _read(self, key: bytes) -> bytes | None:
        place = self._places.get(key)
        if place is None:
            return None
        try:
            record = place.segment.read(place.offset, place.num_bytes)
            self._bad_reads.fine()
            return record
        except OSError as error:
            if self._bad_reads.failed(error):
                return UNREADABLE
            raise TierError(f"{place.segment.path} cannot be read ({error.strerror}): look after the disk") from error

    def _append(self, key: bytes, record: bytes) -> None:
        try:
            self._forget_removed()
            self._make_room(len(record))
            segment = self._newest(len(record))
            offset = segment.append(record)
        except OSError as error:
            raise TierError(
                f"{self.folder} takes no more ({error.strerror}): see that it is there, make room on that disk, or "
                "lower kv_disk_gb"
            ) from error
        with self._lock:
            self._places[key] = _Place(segment, offset, len(record))
            self._held += len(record)
        self.watcher.stored([key])

    def _forget_removed(self) -> None:
        """Segments that others have removed: what they had is written anew when it is used again."""
        newest = self._segments.get(max(self._segments, default=0))
        if newest is not None and not newest.is_there:
            for number in [number for number, segment in self._segments.items() if not segment.is_there]:
                self._forget(number)

    def _keep_claim(self) -> None:
        """The lock goes with its file: where that was removed too, it is taken anew. Raises OSError, TierError."""
        assert self._claim is not None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.folder / LOCK), os.fstat(self._claim)):
                return
        try:
            claim = _claimed(self.folder)
        except InvalidRequest as error:
            raise TierError(str(error)) from error
        os.close(self._claim)
        self._claim = claim

    def _newest(self, num_bytes: int) -> Segment:
        """The segment that is written, or a new one where it is full."""
        number = max(self._segments, default=0)
        newest = self._segments.get(number)
        if newest is None or (newest.num_bytes and newest.num_bytes + num_bytes > self._segment_bytes):
            number += 1
            self._keep_claim()
            newest = Segment(self.folder / f"segment-{number:08d}.kv", number)
            with self._lock:
                self._segments[number] = newest
        return newest

    def _make_room(self, num_bytes: int) -> None:
        while self._segments and self._held + num_bytes > self._max_bytes:
            self._forget(min(self._segments)).path.unlink(missing_ok=True)

    def _forget(self, number: int) -> Segment:
        """A segment, and all that stands in it."""
        with self._lock:
            gone = self._segments.pop(number)
            keys = [key for key, place in self._places.items() if place.segment is gone]
            self._places = {key: place for key, place in self._places.items() if place.segment is not gone}
            self._held -= gone.num_bytes
        self.watcher.removed(keys)
        return gone

    def _open(self, path: Path) -> None:
        match = NAME.fullmatch(path.name)
        assert match is not None
        segment, end = Segment(path, int(match[1])), 0
        for head, offset in segment.scan():
            self._places[head.key] = _Place(segment, offset, head.num_bytes)
            end = offset + head.num_bytes
        if end < segment.num_bytes:
            log.info("%s: %d bytes behind the last whole record are cut off", path, segment.num_bytes - end)
            segment.cut(end)
        if end:
            self._segments[segment.number] = segment
            self._held += end
        else:
            path.unlink(missing_ok=True)


def _claimed(folder: Path) -> int:
    """The folder's lock, which goes with this process. Raises InvalidRequest if another has it."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise InvalidRequest(
            f"another engine keeps its KV in {folder}: give each a folder of its own, or have them share one by "
            f"kv_shared='{folder.absolute().as_uri()}-shared'",
            "kv_disk",
        ) from error
    return lock
