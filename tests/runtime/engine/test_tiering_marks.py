"""Tiers beneath models that go on only at marks: windows, states, and both."""

from __future__ import annotations

import numpy as np
import pytest

from stemma.kernels.select import select_ops
from stemma.radix.events import BlocksStored
from stemma.runtime.engine import Engine
from tests.runtime.engine.marked import marked
from tests.runtime.engine.test_tiering import beneath, drain
from tests.runtime.tiers.blocks import Odd

LONG = 300
WHOLE = (LONG - 1) // 16 * 16


def prompt(seed: int, length: int = LONG) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


@pytest.fixture(scope="module", params=["window", "state", "both", "heads", "scan"])
def model(request):
    return marked(select_ops("cpu", "cpu"), request.param)


@pytest.fixture(scope="module")
def expected(model):
    with Engine.of(model, kv_tokens=4096) as plain:
        return {seed: plain.generate(prompt(seed), max_tokens=12).tokens for seed in range(6)}


def test_a_restart_goes_on_from_the_end_of_the_last_whole_block(model, expected, tmp_path):
    with Engine.of(model, kv_tokens=4096, kv_disk=tmp_path) as engine:
        for seed in range(3):
            assert engine.generate(prompt(seed), max_tokens=12).tokens == expected[seed]
    with Engine.of(model, kv_tokens=4096, kv_disk=tmp_path) as engine:
        assert engine.explain(prompt(0)).beneath_len == WHOLE
        for seed in range(3):
            found = engine.generate(prompt(seed), max_tokens=12)
            assert (found.tokens, found.usage.cached_tokens) == (expected[seed], WHOLE)
            assert found.usage.prefilled_tokens == LONG - WHOLE
        assert engine.stats().num_filled == 3 * WHOLE
        engine.with_cache(lambda cache: cache.check())


def test_what_goes_on_elsewhere_goes_on_from_the_last_mark_that_both_share(model, tmp_path):
    head, tails = prompt(7, 200), [prompt(seed, 80) for seed in (8, 9)]
    with Engine.of(model, kv_tokens=4096) as plain:
        told = [plain.generate([*head, *tail], max_tokens=8).tokens for tail in tails]
    with Engine.of(model, kv_tokens=4096, kv_disk=tmp_path) as engine:
        engine.generate(head, max_tokens=1)
        assert engine.generate([*head, *tails[0]], max_tokens=8).tokens == told[0]
    with Engine.of(model, kv_tokens=4096, kv_disk=tmp_path) as engine:
        found = engine.generate([*head, *tails[1]], max_tokens=8)
        assert (found.tokens, found.usage.cached_tokens) == (told[1], (len(head) - 1) // 16 * 16)


def test_what_a_small_pool_had_no_room_for_comes_back(model, expected, tmp_path):
    with Engine.of(model, kv_tokens=1024, kv_disk=tmp_path) as engine:
        for _ in range(2):
            for seed in range(6):
                assert engine.generate(prompt(seed), max_tokens=12).tokens == expected[seed]
                drain(engine)
        stats = engine.stats()
        assert stats.num_filled > 0
        assert [(tier.damaged, tier.failures) for tier in stats.tiers] == [(0, 0)]
        engine.with_cache(lambda cache: cache.check())


def test_many_at_once_say_the_same(model, expected, tmp_path):
    with Engine.of(model, kv_tokens=1024, kv_disk=tmp_path) as engine:
        for _ in range(2):
            started = [engine.submit(prompt(seed), max_tokens=12) for seed in range(6)]
            assert [each.result(60).tokens for each in started] == [expected[seed] for seed in range(6)]
            drain(engine)
        engine.with_cache(lambda cache: cache.check())


@pytest.mark.parametrize("harm", ["cut", "another's", "gone", "another length"])
def test_a_mark_that_is_not_what_was_written_is_a_miss(model, expected, monkeypatch, harm):
    tier = Odd()
    with Engine.of(model, kv_tokens=4096) as engine:
        tiering = beneath(engine, tier, monkeypatch)
        for seed in range(2):
            engine.generate(prompt(seed), max_tokens=1)
        drain(engine)
        marks = [each for each in tier.records if each.startswith(tiering._mark_of_marks)]
        assert marks
        for each in marks:
            match harm:
                case "cut":
                    tier.records[each] = tier.records[each][:-1]
                case "another's":
                    tier.records[each] = next(iter(tier.records.values()))
                case "gone":
                    del tier.records[each]
                case "another length":
                    monkeypatch.setattr(type(engine.saver().memory), "mark_bytes", lambda self, count: 7)
        engine.with_cache(lambda cache: cache.clear())
        found = engine.generate(prompt(1), max_tokens=12)
        assert (found.tokens, found.usage.cached_tokens) == (expected[1], 0)


def test_a_block_that_is_missing_before_the_mark_is_computed_with_all_behind_it(model, expected, monkeypatch):
    tier = Odd()
    with Engine.of(model, kv_tokens=4096) as engine:
        tiering = beneath(engine, tier, monkeypatch)
        engine.generate(prompt(1), max_tokens=1)
        drain(engine)
        blocks = [each for each in tier.records if each.startswith(tiering._mark)]
        del tier.records[blocks[5]]
        engine.with_cache(lambda cache: cache.clear())
        found = engine.generate(prompt(1), max_tokens=12)
        assert found.tokens == expected[1]
        assert found.usage.cached_tokens <= 5 * 16


def test_events_of_tiers_tell_of_blocks_alone(model, tmp_path):
    heard: list[bytes] = []

    class Hears:
        def stored(self, hashes):
            heard.extend(hashes)

        def removed(self, hashes): ...

    with Engine.of(model, kv_tokens=4096, kv_disk=tmp_path) as engine:
        told: list[bytes] = []
        engine.with_cache(
            lambda cache: cache.subscribe(
                lambda event: told.extend(event.hashes) if isinstance(event, BlocksStored) else None
            )
        )
        engine.tiering.watch(lambda medium, held: Hears())
        engine.generate(prompt(1), max_tokens=1)
        drain(engine)
    assert heard
    assert set(heard) <= set(told)
