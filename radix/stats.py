"""What a cache says of itself and of a query: counters, and how much is cached."""

from array import array
from typing import NamedTuple

from stemma.radix.marks import MarkStats


class Match(NamedTuple):
    """How much of a query is cached, and in which blocks; the last one may be used in part.

    hit_len: where all layers can go on. match_len: what is in the blocks, more only in a cache with marks.
    """

    hit_len: int
    blocks: "array[int]"
    match_len: int


class CacheStats(NamedTuple):
    """`free + leased + cached == total`, in blocks."""

    total: int
    free: int
    leased: int  # held by leases: private blocks and blocks of the tree
    cached: int  # in the tree, held by nobody: can be evicted
    published: int  # in the tree, held or not
    pinned: int  # blocks that pins count against their budget
    num_leases: int  # what is retained between requests counts too
    requests: int
    hit_tokens: int
    miss_tokens: int
    evicted_blocks: int
    fragmentation: float  # the part of the published blocks' room that holds no token of its own
    oldest_age: float | None  # seconds since the last use of what has waited longest
    marks: MarkStats | None = None  # in a cache with marks

    @property
    def hit_rate(self) -> float:
        """Hit tokens over all tokens asked for."""
        asked = self.hit_tokens + self.miss_tokens
        return self.hit_tokens / asked if asked else 0.0
