"""The prefix cache: physical blocks, radix tree, leases, eviction. No torch, no runtime."""

from stemma.radix.compiled import is_compiled  # first: it says where the others are found

# isort: split
from stemma.radix.admission import AdmissionEstimator, Progress
from stemma.radix.advance import Advance
from stemma.radix.cache import PrefixCache
from stemma.radix.errors import LeaseError, OutOfBlocks, PinError, SnapshotError
from stemma.radix.events import AllCleared, BlocksRemoved, BlocksStored, Event, MarksRemoved, MarksStored
from stemma.radix.explain import Explanation, Reason
from stemma.radix.hashes import path_hashes
from stemma.radix.lease import Lease
from stemma.radix.lease_state import BlockCopy, NextUse, Segment
from stemma.radix.mark import MarkRoom
from stemma.radix.marks import MarkStats
from stemma.radix.namespaces import Namespace, Segments, namespace_of_node
from stemma.radix.node import Mark, Node
from stemma.radix.policy import EvictionQueue, Policy, by_priority, lfu, lru, slru, time_to_live
from stemma.radix.retained import Retained
from stemma.radix.reuse import ReuseQueue
from stemma.radix.stats import CacheStats, Match

__all__ = [
    "AdmissionEstimator",
    "Advance",
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
    "Mark",
    "MarkRoom",
    "MarkStats",
    "MarksRemoved",
    "MarksStored",
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
    "Segment",
    "Segments",
    "SnapshotError",
    "by_priority",
    "is_compiled",
    "lfu",
    "lru",
    "namespace_of_node",
    "path_hashes",
    "slru",
    "time_to_live",
]
