"""The tiers that options name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tiers.disk import DiskTier
from stemma.runtime.tiers.folder import FolderTier
from stemma.runtime.tiers.host import HostTier
from stemma.runtime.tiers.object_store import open_store
from stemma.runtime.tiers.redis_server import RedisTier
from stemma.runtime.tiers.tier import Tier

REDIS = ("redis", "rediss", "valkey", "valkeys", "unix")
STORES = ("s3", "gs", "az")


@dataclass(frozen=True, slots=True)
class TierOptions:
    """host_bytes: 0 is none. disk: a folder for this engine alone. shared: a URL. *_bytes: what each may keep; of
    what is shared, a folder only."""

    host_bytes: int = 0
    disk: Path | None = None
    disk_bytes: int = 0
    shared: str | None = None
    shared_bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self.host_bytes and self.disk is None and self.shared is None


def open_tiers(options: TierOptions) -> list[Tier]:
    """The fastest first. Raises InvalidRequest."""
    tiers: list[Tier] = []
    shared = None if options.shared is None else _shared(options.shared, options.shared_bytes)
    if options.host_bytes:
        tiers.append(HostTier(options.host_bytes))
    if options.disk is not None:
        tiers.append(DiskTier(options.disk, options.disk_bytes))
    return tiers if shared is None else [*tiers, shared]


def _shared(url: str, max_bytes: int) -> Tier:
    scheme, _, rest = url.partition("://")
    if scheme in REDIS:
        return RedisTier(url)
    if scheme in STORES and rest:
        return open_store(url)
    path = unquote(urlsplit(url).path)
    if scheme == "file" and path.startswith("/") and not urlsplit(url).netloc:
        return FolderTier(Path(path), max_bytes)
    raise InvalidRequest(
        "kv_shared is redis://host:6379, valkey://host:6379, s3://bucket/prefix, gs://bucket/prefix, "
        f"az://container/prefix or file:///folder; it is {url.partition('@')[2] or url!r}",
        "kv_shared",
    )
