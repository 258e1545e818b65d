"""KV that the cache has no room for, or that should outlive it: blocks by key in host memory, on disk, or shared.
Knows bytes and keys; neither models, nor the cache, nor who asks."""

from __future__ import annotations

from stemma.runtime.tiers.fetching import Fetch, Fetcher
from stemma.runtime.tiers.opening import TierOptions, open_tiers
from stemma.runtime.tiers.records import KEY_BYTES, key_of
from stemma.runtime.tiers.stack import Stack
from stemma.runtime.tiers.tier import NearTier, Tier, TierError, TierStats, Watcher
from stemma.runtime.tiers.writing import Writer

__all__ = [
    "KEY_BYTES",
    "Fetch",
    "Fetcher",
    "NearTier",
    "Stack",
    "Tier",
    "TierError",
    "TierOptions",
    "TierStats",
    "Watcher",
    "Writer",
    "key_of",
    "open_tiers",
]
