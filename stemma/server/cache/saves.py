"""Files of the cache. A caller has a folder of its own, and in its files there is nothing but its own namespaces."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from stemma.runtime.engine import CacheFile, Engine
from stemma.runtime.errors import CacheFileError
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.http.keys import Tenant

SUFFIX = ".kv"


class Saves:
    """The files of all callers. Any thread may use it; one file is written or read at a time."""

    def __init__(self, engine: Engine, folder: Path | None, max_bytes: int) -> None:
        self._engine = engine
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def save(self, name: str, tenant: Tenant) -> CacheFile:
        """Raises ApiError, if there is no folder or the caller's files would take too much."""
        folder = self._folder_of(tenant)
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            others = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}") if path.stem != name)
            room = max(0, self._max_bytes - others)
            try:
                return self._engine.save_cache(folder / f"{name}{SUFFIX}", owns=tenant.owns, max_bytes=room)
            except CacheFileError as error:
                raise bad_request(str(error), "name") from error

    def load(self, name: str, tenant: Tenant) -> CacheFile:
        """Raises ApiError, if there is no such file, or it is of no use here."""
        path = self._existing(name, tenant)
        with self._lock:
            try:
                return self._engine.load_cache(path, owns=tenant.owns)
            except CacheFileError as error:
                raise bad_request(str(error), "name") from error

    def list(self, tenant: Tenant) -> list[dict[str, Any]]:
        """The caller's files."""
        found = sorted(self._folder_of(tenant).glob(f"*{SUFFIX}"))
        stats = [(path.stem, path.stat()) for path in found]
        return [{"name": name, "num_bytes": stat.st_size, "saved": int(stat.st_mtime)} for name, stat in stats]

    def delete(self, name: str, tenant: Tenant) -> None:
        """Raises ApiError (404) if there is no such file."""
        self._existing(name, tenant).unlink(missing_ok=True)

    def _existing(self, name: str, tenant: Tenant) -> Path:
        # a name that is no name of a file there is compared with those that are, and never made into a path
        for path in self._folder_of(tenant).glob(f"*{SUFFIX}"):
            if path.stem == name:
                return path
        raise ApiError(404, f"there is no saved cache {name!r}", param="name", code="not_found")

    def _folder_of(self, tenant: Tenant) -> Path:
        if self._folder is None:
            raise bad_request("this server has no folder for saved caches: start it with --cache-folder", None)
        return self._folder / ("admins" if tenant.is_admin else f"tenant-{tenant.name}")
