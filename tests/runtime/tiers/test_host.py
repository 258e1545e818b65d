from __future__ import annotations

from stemma.runtime.tiers.host import HostTier
from tests.runtime.tiers.blocks import key, sealed
from tests.runtime.tiers.contract import assert_keeps_records


def test_it_keeps_records_until_it_is_closed():
    tier = HostTier(1 << 20)
    assert_keeps_records(tier)
    assert tier.held_bytes > 0
    tier.close()
    assert tier.held_bytes == 0


def test_what_was_used_longest_ago_goes_first():
    size = len(sealed(0)[1])
    tier = HostTier(3 * size)
    tier.put([sealed(number) for number in range(3)])
    tier.get([key(0)])
    tier.put([sealed(3)])
    assert tier.contains([key(number) for number in range(4)]) == [True, False, True, True]
    assert tier.held_bytes == 3 * size
