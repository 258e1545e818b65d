"""The prefix cache: physical blocks, radix tree, leases, eviction. No torch, no runtime."""

from stemma.radix.cache import CacheStats, Match, PrefixCache
from stemma.radix.errors import LeaseError, OutOfBlocks
from stemma.radix.lease import BlockCopy, Lease
from stemma.radix.policy import LRU, Policy

__all__ = [
    "LRU",
    "BlockCopy",
    "CacheStats",
    "Lease",
    "LeaseError",
    "Match",
    "OutOfBlocks",
    "Policy",
    "PrefixCache",
]
