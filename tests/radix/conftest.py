"""A clock that the test moves, a cache on it, and the write of one whole text."""

from collections.abc import Callable

import pytest

from stemma.radix import Namespace, NextUse, PrefixCache, Retained, lru


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


Store = Callable[..., list[int]]
Pin = Callable[..., Retained]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> PrefixCache:
    return PrefixCache(16, 4, lru, clock)


@pytest.fixture
def store() -> Store:
    """Compute and publish a text; returns its blocks."""

    def write(
        cache: PrefixCache,
        tokens: list[int],
        namespace: Namespace = "",
        priority: int = 0,
        next_use: NextUse = NextUse.UNKNOWN,
    ) -> list[int]:
        lease = cache.acquire(tokens, namespace, priority=priority)
        lease.reserve(len(tokens) - lease.hit_len)
        lease.extend(tokens[lease.hit_len :])
        lease.commit()
        blocks = lease.blocks.tolist()
        lease.release(next_use)
        cache.check()
        return blocks

    return write


@pytest.fixture
def pin() -> Pin:
    """Pin what is cached of a text."""

    def keep(cache: PrefixCache, tokens: list[int], namespace: Namespace = "", ttl: float = float("inf")) -> Retained:
        retained = Retained(ttl)
        with cache.acquire_uncounted(tokens, namespace) as lease:
            lease.retain(retained)
        return retained

    return keep
