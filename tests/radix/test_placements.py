"""The benchmark of hit rates (benchmarks/hybrid_rates.py), small: the cache beside simulated placements of others."""

import pytest
from hybrid_placements import PLACEMENTS, all_rates, hit_rate, paths_of
from hybrid_rates import UNLIMITED, ours
from radix_traces import FAMILIES

from stemma.radix import MarkRoom, PrefixCache

SCALES = {"chat": 0.05, "few-shot": 0.02, "tree": 0.05, "long documents": 0.3, "agents": 0.05}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_simulation_matches_what_the_cache_matches(name: str) -> None:
    trace = FAMILIES[name](3, 0.02)
    cache = PrefixCache(100_000, 16, marks=MarkRoom(None, 0, 4096))
    for (prompt, output), request in zip(trace.requests, paths_of(trace).requests, strict=True):
        with cache.acquire(prompt, max_hit=len(prompt) - 1) as lease:
            assert lease.match_len == request.reach
            for text in (prompt[lease.hit_len :], output):
                lease.reserve(len(text))
                lease.advance(len(text))
                lease.extend(text)
            lease.commit()


def test_a_placement_without_limit_loses_what_it_did_not_mark() -> None:
    paths = paths_of(FAMILIES["few-shot"](1, 0.01))
    assert hit_rate(paths, PLACEMENTS["ends"], UNLIMITED) < 0.01
    assert hit_rate(paths, PLACEMENTS["junctions alone"], UNLIMITED) > 0.9 * paths.bound()


@pytest.mark.parametrize("name", FAMILIES)
def test_hit_rates_reach_those_of_full_layers_and_pass_those_of_other_placements(name: str) -> None:
    trace = FAMILIES[name](5, SCALES[name])
    paths, free = paths_of(trace), ours(trace, UNLIMITED)
    assert free.hit_rate > paths.bound() - 0.01
    assert free.num_made < 3 * len(trace.requests)
    for share in (4, 16):
        num_slots = max(free.num_kept // share, 2)
        rates = all_rates(paths, num_slots)
        assert ours(trace, num_slots).hit_rate > max(rates[name] for name in PLACEMENTS) - 0.01
