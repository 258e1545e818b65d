"""The prefix cache: physical blocks, radix tree, leases, eviction. No torch, no runtime."""

from stemma.radix.admission import AdmissionEstimator, Progress
from stemma.radix.cache import CacheStats, Match, Namespace, PrefixCache, Segments, namespace_of_node
from stemma.radix.errors import LeaseError, OutOfBlocks, PinError, SnapshotError
from stemma.radix.events import AllCleared, BlocksRemoved, BlocksStored, Event
from stemma.radix.explain import Explanation, Reason
from stemma.radix.lease import BlockCopy, Lease
from stemma.radix.lease_state import NextUse
from stemma.radix.node import Node
from stemma.radix.policy import EvictionQueue, Policy, by_priority, lfu, lru, slru, time_to_live
from stemma.radix.retained import Retained
from stemma.radix.reuse import ReuseQueue

__all__ = [
    "AdmissionEstimator",
    "AllCleared",
    "BlockCopy",
    "BlocksRemoved",
    "BlocksStored",
    "CacheStats",
    "Event",
    "EvictionQueue",
    "Explanation",
    "Lease",
    "LeaseError",
    "Match",
    "Namespace",
    "NextUse",
    "Node",
    "OutOfBlocks",
    "PinError",
    "Policy",
    "PrefixCache",
    "Progress",
    "Reason",
    "Retained",
    "ReuseQueue",
    "Segments",
    "SnapshotError",
    "by_priority",
    "lfu",
    "lru",
    "namespace_of_node",
    "slru",
    "time_to_live",
]
