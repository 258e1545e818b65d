"""Records in a folder that several processes share, also over a network: a file each, written beside and renamed.

folder/  0f/  0f3a...e1.kv     the key in hexadecimal, in a folder of its first byte
         part-4711-17          what a process is writing
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.bad_reads import UNREADABLE, BadReads
from stemma.runtime.tiers.tier import Record, TierError

LOOKS = 32
"""Times that a folder's worth of bytes is written, all that is there is counted so often."""
LEFT_SECONDS = 3600.0
"""A part that nobody has finished in so long never will be."""


class FolderTier:
    """See `Tier`. max_bytes: of all files; those used longest ago go when there are more, at a later look."""

    is_near = False

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Raises InvalidRequest for a folder that cannot be used."""
        self._folder, self._max_bytes = folder, max_bytes
        self._serial = itertools.count()
        self._held = 0
        self._bad_reads = BadReads()
        self._unseen = max_bytes  # bytes written since the last look; the first one comes at once
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(
                f"no KV can be kept in {folder} ({error.strerror}): choose another folder", "kv_shared"
            ) from error

    @property
    def name(self) -> str:
        return f"shared folder {self._folder}"

    @property
    def held_bytes(self) -> int:
        return self._held

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        try:
            if not self._folder.is_dir():
                raise FileNotFoundError(0, "it is not there")
            return [self._path(key).is_file() for key in keys]
        except OSError as error:
            raise self._trouble(error) from error

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._read(self._path(key)) for key in keys]

    def put(self, records: Sequence[Record]) -> None:
        for key, record in records:
            part = self._folder / f"part-{os.getpid()}-{next(self._serial)}"
            path = self._path(key)
            try:
                path.parent.mkdir(exist_ok=True)
                part.write_bytes(record)
                part.replace(path)
            except OSError as error:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
                raise self._trouble(error) from error
            self._held += len(record)
            self._unseen += len(record)
        if self._unseen > self._max_bytes // LOOKS:
            self._make_room()

    def drop(self, key: bytes) -> None:
        with suppress(OSError):
            self._path(key).unlink()

    def close(self) -> None:
        pass

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder / name[-2:] / f"{name}.kv"

    def _read(self, path: Path) -> bytes | None:
        try:
            record = path.read_bytes()
            self._bad_reads.fine()
            with suppress(OSError):
                os.utime(path)
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            return None  # it is gone, or others' alone
        except OSError as error:
            if self._bad_reads.failed(error):
                return UNREADABLE
            raise self._trouble(error) from error
        return record

    def _make_room(self) -> None:
        """Those used longest ago go until a tenth is free. What another process has removed meanwhile is gone."""
        self._unseen, self._held = 0, 0
        files = []
        try:
            for path in self._folder.glob("??/*.kv"):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    files.append((found.st_mtime, found.st_size, path))
            for path in self._folder.glob("part-*"):
                with suppress(FileNotFoundError):
                    if abs(time.time() - path.stat().st_mtime) > LEFT_SECONDS:
                        path.unlink()
            self._held = sum(size for _, size, _ in files)
            if self._held <= self._max_bytes:
                return
            for _, size, path in sorted(files, key=lambda file: file[0]):
                path.unlink(missing_ok=True)
                self._held -= size
                if self._held <= 0.9 * self._max_bytes:
                    return
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> TierError:
        return TierError(
            f"{self._folder} cannot be used ({error.strerror}): see that it is mounted, may be written, and has room"
        )
