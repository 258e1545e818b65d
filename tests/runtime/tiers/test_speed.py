from __future__ import annotations

import pytest

from stemma.runtime.tiers.speed import Speed


def test_nothing_is_known_before_the_first_large_read():
    speed = Speed()
    speed.read(100, 1.0)
    assert speed.seconds(1000) is None


def test_it_follows_what_it_sees():
    speed = Speed()
    for _ in range(60):
        speed.waited(0.01)
        speed.read(10_000_000, 1.0)
    assert speed.seconds(20_000_000) == pytest.approx(2.01, rel=1e-3)
    for _ in range(60):
        speed.read(10_000_000, 0.1)
    assert speed.seconds(20_000_000) == pytest.approx(0.21, rel=1e-3)
