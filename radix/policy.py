"""What goes first when memory is short. A policy ranks leaves; it never sees the tree or the pool."""

from typing import Protocol


class Evictable(Protocol):
    """What a policy may know of a leaf that nobody holds."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def stamp(self) -> float: ...
    @property
    def hits(self) -> int: ...


class Policy(Protocol):
    """Gives each leaf a rank when it becomes evictable; the lowest rank goes first. A rank stays until the next use."""

    def rank(self, leaf: Evictable) -> float: ...


class LRU:
    """The least recently used goes first."""

    def rank(self, leaf: Evictable) -> float:
        return leaf.stamp
