"""What a sequence computed is found by others if it shares, and all of its blocks come back."""

from __future__ import annotations

import pytest

from stemma.radix import NextUse, PrefixCache
from stemma.runtime.core.admission import Admission
from stemma.runtime.core.holding import Holding
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.order import ORDERS
from stemma.runtime.core.placing import Placing
from stemma.runtime.core.running import Running
from stemma.runtime.core.waiting import Waiting
from tests.runtime.core import making
from tests.runtime.core.making import sequence


@pytest.mark.parametrize("goes_alone", [False, True])
@pytest.mark.parametrize("reuse", [False, True])
def test_what_is_let_go_is_found_again_if_it_was_shared(reuse, goes_alone):
    cache, limits = PrefixCache(16, 4), Limits(reuse=reuse)
    placing = Placing(cache, limits, Running(), Waiting(ORDERS["fair"]), making.drafter(lambda tokens: []))
    holding = Holding(limits, placing, Admission(cache, reuse))
    item = making.running(cache, sequence(range(10)), 10)
    item.goes_alone = goes_alone
    holding.let_go(item, NextUse.UNKNOWN)
    holding.let_go(item, NextUse.UNKNOWN)  # twice is once
    assert item.lease is None
    assert cache.match(item.request.prompt).hit_len == (10 if reuse and not goes_alone else 0)
    assert cache.stats().leased == 0
    cache.check()
