"""What every back end of a tier does, whatever it is made of."""

from __future__ import annotations

from stemma.runtime.tiers.records import unseal
from stemma.runtime.tiers.tier import Tier
from tests.runtime.tiers.blocks import key, payload, sealed


def assert_keeps_records(tier: Tier) -> None:
    """Puts some, asks for these and others, puts one again, drops one."""
    keys = [key(number) for number in range(6)]
    assert tier.contains(keys) == [False] * 6
    assert tier.get(keys) == [None] * 6
    tier.put([sealed(number) for number in range(4)])
    tier.put([sealed(3), sealed(4, 300_000)])
    assert tier.contains(keys) == [True] * 5 + [False]
    found = tier.get(list(reversed(keys)))
    assert found[0] is None
    assert bytes(unseal(keys[4], found[1]) or b"") == payload(4, 300_000)
    assert [bytes(unseal(key(number), found[5 - number]) or b"") for number in range(4)] == list(map(payload, range(4)))
    tier.drop(keys[2])
    assert tier.contains(keys) == [True, True, False, True, True, False]
    tier.put([sealed(2)])
    assert unseal(keys[2], tier.get([keys[2]])[0] or b"") is not None
    assert tier.get([]) == []
    tier.put([])
