"""A tier that fails is left out for longer and longer, and tried again; nobody hears an error."""

from __future__ import annotations

import threading

from stemma.runtime.tiers.guarded import KNOWN_SECONDS, STUCK_SECONDS, Guarded
from stemma.runtime.tiers.tier import TierError
from tests.runtime.tiers.blocks import Odd, key, payload, sealed


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_payloads_are_sealed_and_checked():
    tier, odd = Guarded(odd := Odd()), odd
    tier.put([(key(1), payload(1)), (key(2), payload(2))])
    assert odd.records == dict([sealed(1), sealed(2)])
    odd.records[key(2)] = odd.records[key(1)]
    found = tier.get([key(1), key(2), key(3)])
    assert [None if each is None else bytes(each) for each in found] == [payload(1), None, None]
    assert key(2) not in odd.records
    stats = tier.stats()
    assert (stats.hits, stats.missed, stats.damaged, stats.stored) == (1, 1, 1, 2)
    assert not tier.wants(key(1))
    assert tier.wants(key(2))


def test_what_others_have_put_is_not_written_again():
    odd = Odd()
    odd.records[key(1)] = sealed(1)[1]
    tier = Guarded(odd)
    tier.put([(key(1), payload(1))])
    assert tier.stats().stored == 0


def test_pauses_double_and_end_with_the_first_success(caplog):
    clock, odd = Clock(), Odd()
    tier = Guarded(odd, clock)
    odd.trouble = "no cable"
    for pause in (1.0, 2.0, 4.0):
        assert tier.contains([key(1)]) == [False]
        assert not tier.is_up
        num_calls = odd.num_calls
        assert tier.get([key(1)]) == [None]
        assert odd.num_calls == num_calls
        clock.now += pause - 0.01
        assert not tier.is_up
        clock.now += 0.02
        assert tier.is_up
    assert caplog.text.count("no cable") == 3
    odd.trouble = None
    tier.put([(key(1), payload(1))])
    assert "used again" in caplog.text
    odd.trouble = "again"
    tier.contains([key(1)])
    clock.now += 1.01
    assert tier.is_up


def test_a_clock_that_goes_back_harms_nobody():
    clock = Clock()
    tier = Guarded(Odd(), clock)
    tier.put([(key(1), payload(1))])
    clock.now = 0.0
    assert bytes(tier.get([key(1)])[0]) == payload(1)


def test_nobody_calls_while_a_call_hangs():
    clock, odd = Clock(), Odd()
    tier = Guarded(odd, clock)
    odd.gate.clear()
    thread = threading.Thread(target=tier.put, args=([(key(1), payload(1))],))
    thread.start()
    while not odd.num_calls:
        pass
    assert tier.is_up
    clock.now += STUCK_SECONDS + 1
    assert not tier.is_up
    assert tier.get([key(1)]) == [None]
    odd.gate.set()
    thread.join()
    assert tier.is_up
    assert bytes(tier.get([key(1)])[0]) == payload(1)


def test_what_nobody_thought_of_is_told_and_is_a_miss(caplog):
    odd = Odd()
    tier = Guarded(odd)
    odd.get = lambda keys: 1 / 0
    assert tier.get([key(1)]) == [None]
    assert "ZeroDivisionError" in caplog.text
    assert tier.stats().failures == 1


class Full(Odd):
    """Takes nothing while `is_full`."""

    is_full = True

    def put(self, records):
        if self.is_full:
            raise TierError("no room")
        super().put(records)


def test_one_that_is_full_is_read_and_given_nothing_for_a_while(caplog):
    clock, full = Clock(), Full()
    full.records[key(1)] = sealed(1)[1]
    tier = Guarded(full, clock)
    for pause in (1.0, 2.0):
        tier.put([(key(2), payload(2))])
        assert [bytes(each or b"") for each in tier.get([key(1)])] == [payload(1)]
        assert (tier.is_up, tier.takes, tier.wants(key(2))) == (True, False, False)
        clock.now += pause + 0.01
        assert tier.takes
    assert caplog.text.count("no room") == 2
    full.is_full = False
    tier.put([(key(2), payload(2))])
    assert "takes blocks again" in caplog.text
    assert key(2) in full.records


class ReadOnly(Odd):
    """Is not this engine's to write."""

    def put(self, records):
        raise TierError("this is not yours")

    def drop(self, key):
        raise TierError("this is not yours")


def test_one_that_may_only_be_read_is_read_on():
    odd = ReadOnly()
    odd.records |= {key(1): sealed(1)[1], key(2): b"damaged", key(3): sealed(3)[1]}
    tier = Guarded(odd)
    tier.put([(key(4), payload(4))])
    found = tier.get([key(1), key(2), key(3)])
    assert [None if each is None else bytes(each) for each in found] == [payload(1), None, payload(3)]
    assert tier.is_up
    assert tier.stats().failures == 1


def test_what_a_far_tier_forgot_is_offered_to_it_again():
    """By a look that does not find it, by a failure behind which it may be another one, by time."""
    clock, odd = Clock(), Odd()
    tier = Guarded(odd, clock)

    def put() -> None:
        tier.put([(key(1), payload(1))])
        assert not tier.wants(key(1))

    put()
    odd.records.clear()
    assert tier.contains([key(1)]) == [False]
    assert tier.wants(key(1))
    put()
    odd.trouble = "started anew"
    tier.get([key(2)])
    odd.trouble = None
    odd.records.clear()
    clock.now += 1.01
    assert tier.wants(key(1))
    put()
    odd.records.clear()
    clock.now += KNOWN_SECONDS + 1
    assert tier.wants(key(1))
    put()
    assert key(1) in odd.records


class Unclosable(Odd):
    def close(self):
        raise OSError("it is stuck")


def test_closing_one_that_is_left_out_or_fails_says_nothing_that_is_not_so(caplog):
    for odd in (Odd(), Unclosable()):
        odd.trouble = "no cable"
        tier = Guarded(odd)
        tier.contains([key(1)])
        assert not tier.is_up
        tier.close()
    assert "used again" not in caplog.text
    assert caplog.text.count("could not be closed") == 1
