"""Caches with marks, and what the tests of them do again and again."""

from stemma.radix import Lease, MarkRoom, MarkStats, Namespace, PrefixCache, Segment, lru

TEXT = list(range(20))


def states(num_slots: int = 12, num_blocks: int = 40) -> PrefixCache:
    return PrefixCache(num_blocks, 4, lru, marks=MarkRoom(None, 0, num_slots))


def windows(num_window_blocks: int = 12, window: int = 6) -> PrefixCache:
    return PrefixCache(40, 4, lru, marks=MarkRoom(window, num_window_blocks))


def compute(lease: Lease, tokens: list[int], num_drafts: int = 0, num_refused: int = 0) -> list[Segment]:
    """One step of a lease."""
    lease.reserve(len(tokens))
    segments = lease.advance(len(tokens), num_drafts).segments
    lease.extend(tokens[: len(tokens) - num_refused])
    return segments


def leave(cache: PrefixCache, tokens: list[int], *marks_at: int, namespace: Namespace = "") -> None:
    """Cache a text, with marks at these positions alone."""
    lease = cache.acquire([], namespace)
    for stop in [*sorted(marks_at), len(tokens)]:
        if stop > lease.num_tokens:
            compute(lease, tokens[lease.num_tokens : stop])
        if stop in marks_at:
            lease.mark()
    lease.commit()
    lease.release()
    cache.check()


def marks_of(cache: PrefixCache) -> list[int]:
    return sorted(position for node in cache.walk() for position in node.marks or ())


def stats(cache: PrefixCache) -> MarkStats:
    found = cache.stats().marks
    assert found is not None
    return found


def kept_of(cache: PrefixCache) -> list[tuple[int, int, list[int]]]:
    """Position, slot and window blocks of all marks."""
    marks = [mark for node in cache.walk() for mark in (node.marks or {}).values()]
    return sorted((mark.position, mark.slot, list(mark.window_blocks)) for mark in marks)
