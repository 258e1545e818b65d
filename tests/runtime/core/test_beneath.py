"""What a scheduler asks of places beneath its cache, with places that the test plays."""

from __future__ import annotations

import numpy as np

from stemma.radix import PrefixCache
from stemma.runtime.core.beneath import Nothing, Want
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import FinishReason, Request, Sequence


class Played(Nothing):
    """Keeps what it was asked; `coming` holds sequences up, `filled` puts so many tokens into the cache."""

    def __init__(self, cache: PrefixCache) -> None:
        self.cache = cache
        self.wants: list[Want] = []
        self.coming = False
        self.filled = 0
        self.told: list[int] = []
        self.num_forgotten = 0

    def ask(self, sequence, want):
        self.wants.append(want)

    def is_coming(self, sequence, hit_len):
        return self.coming

    def arrived(self):
        return []

    def fill(self, sequence, room):
        if self.filled:
            with self.cache.acquire_uncounted(sequence.tokens[: self.filled]) as lease:
                lease.reserve(self.filled)
                lease.extend(sequence.tokens[: self.filled])
                lease.commit()
        return self.filled

    def published(self, sequence):
        self.told.append(sequence.lease.num_published)

    def forget(self, sequence):
        self.num_forgotten += 1


def scheduled(length: int = 100) -> tuple[Scheduler, Played, Sequence]:
    scheduler = Scheduler(PrefixCache(64, 16), Limits())
    played = scheduler.admission.beneath = Played(scheduler.cache)
    request = Request(np.arange(length, dtype=np.int32), 0, Sampling(), 0)
    return scheduler, played, Sequence(request)


def test_what_is_missing_is_asked_for_and_what_came_is_a_hit():
    scheduler, played, sequence = scheduled()
    played.filled = 48
    scheduler.add(sequence)
    assert [(want.namespace, want.first, want.end) for want in played.wants] == [("", 0, 6)]
    batch = scheduler.schedule()
    assert [(row.start, len(row.tokens)) for row in batch.rows] == [(48, 52)]
    assert sequence.usage.cached_tokens == 48


def test_a_sequence_waits_while_its_blocks_come_and_is_there_again_when_it_is_told():
    scheduler, played, sequence = scheduled()
    played.coming = True
    scheduler.add(sequence)
    assert scheduler.schedule() is None
    assert scheduler.schedule() is None
    assert not scheduler.is_idle
    played.coming = False
    assert scheduler.schedule() is None
    played.arrived = lambda: [sequence]
    assert [row.start for row in scheduler.schedule().rows] == [0]


def test_one_that_is_aborted_while_it_waits_is_forgotten():
    scheduler, played, sequence = scheduled()
    played.coming = True
    scheduler.add(sequence)
    assert scheduler.schedule() is None
    scheduler.abort(sequence)
    assert scheduler.take_ended() == [sequence]
    assert sequence.finish_reason is FinishReason.ABORT
    assert played.num_forgotten == 1
    assert scheduler.is_idle
    scheduler.cache.check()


def test_who_has_nothing_beneath_waits_for_nothing():
    scheduler = Scheduler(PrefixCache(64, 16), Limits())
    scheduler.add(Sequence(Request(np.arange(40, dtype=np.int32), 0, Sampling(), 0)))
    assert len(scheduler.schedule().rows) == 1
