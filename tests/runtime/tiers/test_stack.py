from __future__ import annotations

from stemma.runtime.tiers.host import HostTier
from stemma.runtime.tiers.stack import Stack
from tests.runtime.tiers.blocks import Odd, key, payload, sealed


def test_runs_end_at_the_first_block_that_nobody_has():
    host, odd = HostTier(1 << 20), Odd()
    host.put([sealed(number) for number in (0, 1, 4, 7)])
    odd.put([sealed(number) for number in (1, 2, 3, 5, 7)])
    stack = Stack([host, odd])
    keys = [key(number) for number in range(10)]
    names = [(run.tier.tier.name, run.start, run.end) for run in stack.find(keys)]
    assert names == [(host.name, 0, 2), (odd.name, 2, 4), (host.name, 4, 5), (odd.name, 5, 6)]
    assert stack.num_near(keys) == 2
    assert stack.find([key(9)]) == []
    assert stack.find([]) == []


def test_who_lacks_a_block_is_given_it():
    host, odd = HostTier(1 << 20), Odd()
    stack = Stack([host, odd])
    stack.tiers[0].put([(key(1), payload(1))])
    assert stack.lacking(key(1)) == [stack.tiers[1]]
    assert stack.lacking(key(2)) == stack.tiers
    odd.trouble = "gone"
    stack.tiers[1].contains([key(2)])
    assert stack.lacking(key(2)) == [stack.tiers[0]]
    assert not stack.may_have(key(2))
    assert stack.may_have(key(1))


def test_the_last_that_anybody_has_is_told_with_who_has_it():
    host, odd = HostTier(1 << 20), Odd()
    host.put([sealed(1)])
    odd.put([sealed(number) for number in (1, 5)])
    stack = Stack([host, odd])
    keys = [key(number) for number in range(8)]
    assert stack.last(keys) == (stack.tiers[1], 5, 6)
    assert stack.last(keys[:5]) == (stack.tiers[0], 1, 2)
    assert stack.last(keys[:1]) is None
