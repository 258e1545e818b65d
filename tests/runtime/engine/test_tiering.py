"""An engine with tiers says the same tokens as one without, finds again what its pool had no room for, and never waits
longer for a tier than computing would take."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from stemma.kernels.select import select_ops
from stemma.radix import PrefixCache, Segments, path_hashes
from stemma.runtime.engine import Engine
from stemma.runtime.engine.tiering import Tiering, patience, put_beneath
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.tiny import tiny
from stemma.runtime.tiers import TierOptions
from tests.runtime.tiers.blocks import Odd

LONG = 300


def prompt(seed: int, length: int = LONG) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def drain(engine: Engine) -> None:
    assert engine.tiering.writer.drain(30)


def beneath(engine: Engine, tier: Odd, monkeypatch) -> Tiering:
    """Put an odd tier beneath an engine that has none."""
    monkeypatch.setattr("stemma.runtime.engine.tiering.open_tiers", lambda options: [tier])
    engine.tiering = put_beneath(engine._loop, engine.saver, TierOptions(shared="odd"))
    return engine.tiering


@pytest.fixture(scope="module")
def model():
    return tiny(select_ops("cpu", "cpu"))


@pytest.fixture(scope="module")
def expected(model):
    with Engine.of(model, kv_tokens=4096) as plain:
        return {seed: plain.generate(prompt(seed), max_tokens=12).tokens for seed in range(10)}


def test_tokens_are_the_same_in_a_small_pool_and_what_was_evicted_comes_back(model, expected, tmp_path):
    with Engine.of(model, kv_tokens=1024, kv_disk=tmp_path) as engine:
        for again in range(2):
            for seed in range(10):
                found = engine.generate(prompt(seed), max_tokens=12)
                assert found.tokens == expected[seed]
                assert found.usage.cached_tokens == (LONG - 1) // 16 * 16 * again
                drain(engine)
        stats = engine.stats()
        assert stats.num_filled == 10 * 288
        assert [(tier.damaged, tier.failures) for tier in stats.tiers] == [(0, 0)]
        engine.with_cache(lambda cache: cache.check())
        assert stats.cache.free + stats.cache.cached == stats.cache.total


def test_many_at_once_in_a_small_pool_say_the_same(model, expected, tmp_path):
    with Engine.of(model, kv_tokens=1024, kv_disk=tmp_path, max_chunk=64) as engine:
        for _ in range(3):
            made = engine.submit_all([prompt(seed) for seed in (*range(10), 0, 3)], max_tokens=12)
            assert [each.result().tokens for each in made] == [expected[seed] for seed in (*range(10), 0, 3)]
        assert engine.stats().num_filled > 0
        engine.with_cache(lambda cache: cache.check())


def test_a_restart_finds_what_was_written_and_explain_says_so(model, expected, tmp_path):
    with Engine.of(model, kv_tokens=4096, kv_disk=str(tmp_path)) as engine:
        engine.generate(prompt(1), max_tokens=2)
    with Engine.of(model, kv_tokens=4096, kv_disk=str(tmp_path)) as engine:
        found = engine.explain(prompt(1))
        assert (found.match_len, found.beneath_len) == (0, 288)
        assert "288 more in a tier" in str(found)
        completion = engine.generate(prompt(1), max_tokens=12)
        assert completion.tokens == expected[1]
        assert completion.usage.cached_tokens == 288


def test_namespaces_stay_apart_beneath(model, tmp_path):
    with Engine.of(model, kv_tokens=1024, kv_disk=tmp_path) as engine:
        engine.generate(prompt(1), max_tokens=1, namespace="a")
        drain(engine)
        engine.with_cache(lambda cache: cache.clear())
        for namespace, cached in (("b", 0), ("", 0), ("a", 288)):
            assert engine.generate(prompt(1), max_tokens=1, namespace=namespace).usage.cached_tokens == cached


def test_what_stands_behind_a_shared_text_comes_back_to_its_own_namespace(model, tmp_path):
    text, more = prompt(1, 100), prompt(2, 150)
    with Engine.of(model, kv_tokens=4096, kv_disk=tmp_path) as engine:
        engine.share(text)
        first = engine.generate([*text, *more], max_tokens=6, namespace="a")
        drain(engine)
        engine.with_cache(lambda cache: cache.drop(Segments("//shared", 100, "a")))
        again = engine.generate([*text, *more], max_tokens=6, namespace="a")
        assert again.tokens == first.tokens
        assert again.usage.cached_tokens == 240
        assert engine.generate([*text, *more], max_tokens=1, namespace="b").usage.cached_tokens == 100
        engine.with_cache(lambda cache: cache.check())


def test_another_models_blocks_are_not_found(model, tmp_path):
    other = tiny(select_ops("cpu", "cpu"), seed=1)
    with Engine.of(other, kv_tokens=1024) as plain:
        tokens = plain.generate(prompt(1), max_tokens=12).tokens
    for loaded, options in ((model, {}), (other, {}), (other, {"block_size": 8})):
        with Engine.of(loaded, kv_tokens=1024, kv_disk=tmp_path, **options) as engine:
            found = engine.generate(prompt(1), max_tokens=12)
            assert found.usage.cached_tokens == 0
    assert found.tokens == tokens


def test_a_tier_that_fails_is_warned_of_and_tried_again(model, expected, monkeypatch, caplog):
    tier = Odd()
    with Engine.of(model, kv_tokens=4096) as engine:
        tiering = beneath(engine, tier, monkeypatch)
        tier.trouble = "unplugged: plug it in"
        for seed in range(3):
            assert engine.generate(prompt(seed), max_tokens=12).tokens == expected[seed]
        drain(engine)
        assert "unplugged: plug it in" in caplog.text
        assert not engine.stats().tiers[0].is_up
        tier.trouble = None
        tiering.stack.tiers[0]._down.end()
        engine.with_cache(lambda cache: cache.clear())
        assert engine.generate(prompt(5), max_tokens=12).tokens == expected[5]
        drain(engine)
        assert engine.stats().tiers[0].stored > 0


def test_a_tier_that_hangs_holds_nobody_up_for_long(model, expected, monkeypatch):
    tier = Odd()
    with Engine.of(model, kv_tokens=4096) as engine:
        tiering = beneath(engine, tier, monkeypatch)
        engine.generate(prompt(1), max_tokens=1)
        drain(engine)
        tier.gate.clear()
        engine.with_cache(lambda cache: cache.clear())
        made = [engine.submit(prompt(seed), max_tokens=12) for seed in (1, 2)]
        assert [each.result(60).tokens for each in made] == [expected[1], expected[2]]
        gone = engine.submit(prompt(3), max_tokens=12)
        gone.cancel()
        assert gone.result(60).finish_reason in ("abort", "length")
        tier.gate.set()
        drain(engine)
        assert tiering._coming == {} == tiering._paths


def test_a_block_that_is_damaged_or_anothers_is_computed(model, expected, monkeypatch, caplog):
    tier = Odd()
    with Engine.of(model, kv_tokens=4096) as engine:
        beneath(engine, tier, monkeypatch)
        engine.generate(prompt(1), max_tokens=1)
        engine.generate(prompt(2), max_tokens=1)
        drain(engine)
        keys = list(tier.records)
        swapped = {keys[4]: tier.records[keys[5]], keys[20]: tier.records[keys[20]][:-1]}
        tier.records.update(swapped)
        engine.with_cache(lambda cache: cache.clear())
        for seed, cached in ((1, 64), (2, 32)):
            found = engine.generate(prompt(seed), max_tokens=12)
            assert (found.tokens, found.usage.cached_tokens) == (expected[seed], cached)
        assert "damaged or another's" in caplog.text
        drain(engine)
        engine.with_cache(lambda cache: cache.clear())
        assert engine.generate(prompt(1), max_tokens=1).usage.cached_tokens == 288


def test_what_is_slower_than_computing_is_computed(model, expected, monkeypatch):
    tier = Odd()
    with Engine.of(model, kv_tokens=4096) as engine:
        tiering = beneath(engine, tier, monkeypatch)
        for seed in range(8):
            engine.generate(prompt(seed), max_tokens=1)
        drain(engine)
        engine.with_cache(lambda cache: cache.clear())
        tiering.stack.tiers[0].speed.rate = 1.0  # a byte a second
        monkeypatch.setattr("stemma.runtime.tiers.guarded.STALE_SECONDS", 1e9)
        found = engine.generate(prompt(1), max_tokens=12)
        assert (found.tokens, found.usage.cached_tokens) == (expected[1], 0)
        assert tiering._fetcher.num_slower == 1


def test_no_thread_and_no_lock_stays_behind(model, tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(2):
        with Engine.of(model, kv_tokens=1024, kv_disk=tmp_path) as engine:
            engine.generate(prompt(1), max_tokens=1)
    until = time.monotonic() + 30
    while {thread.name for thread in threading.enumerate()} - before and time.monotonic() < until:
        time.sleep(0.01)
    assert {thread.name for thread in threading.enumerate()} <= before


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"kv_disk": "x", "prefix_cache": False}, "kv_disk"),
        ({"kv_host_gb": 1.0}, "kv_host_gb"),
        ({"kv_shared": "ftp://there"}, "kv_shared"),
        ({"kv_disk": "x", "kv_disk_gb": 0}, "kv_disk_gb"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(model, tmp_path, monkeypatch, options, param):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidRequest) as caught:
        Engine.of(model, kv_tokens=1024, **options)
    assert caught.value.param == param


def test_keys_are_the_hashes_of_the_caches_events():
    cache, told = PrefixCache(64, 16), []
    cache.subscribe(told.append)
    ids = prompt(3, 90)
    for namespace in ("a", "b", Segments("a", 40, "salt"), Segments("a", 48, "salt"), Segments("a", 48, "other")):
        told.clear()
        with cache.acquire(ids, namespace) as lease:
            known = lease.num_tokens // 16
            lease.reserve(90 - lease.num_tokens)
            lease.extend(ids[lease.num_tokens :])
            lease.commit()
        hashes = path_hashes(ids, namespace, 16)
        assert [each for event in told for each in event.hashes] == hashes[known:]
        assert path_hashes(ids, namespace, 16, hashes[:3]) == hashes


@pytest.mark.parametrize(
    ("seconds", "ttft", "waited", "expected"),
    [
        (0.5, None, 9.0, 0.5),  # as long as computing takes
        (0.0, None, 0.0, 1.0),  # which nobody knows
        (60.0, None, 0.0, 10.0),
        (0.5, 5.0, 0.0, 0.5),
        (0.5, 0.8, 0.0, 0.3),  # and computed behind that it is in time
        (0.5, 0.8, 0.2, 0.1),
        (0.5, 0.8, 0.6, 0.02),
        (0.0, 0.8, 0.0, 0.4),
    ],
)
def test_nobody_waits_for_a_tier_longer_than_its_deadline_allows(seconds, ttft, waited, expected):
    assert patience(seconds, ttft, waited) == pytest.approx(expected)


def test_a_deadline_counts_while_a_tier_hangs(model, monkeypatch):
    """Nobody knows yet what computing takes."""
    asked, odd = [], Odd()
    monkeypatch.setattr("stemma.runtime.engine.tiering.patience", lambda *given: asked.append(given) or 0.0)
    with Engine.of(model, kv_tokens=2048) as engine:
        beneath(engine, odd, monkeypatch)
        odd.gate.clear()
        engine.generate(prompt(1), max_tokens=2, ttft_ms=60_000)
        odd.gate.set()
    assert [ttft for _, ttft, _ in asked] == [60.0]
