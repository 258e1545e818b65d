"""Whole runs of small fleets: nothing is lost, the index is right, and knowing the caches is worth something."""

from __future__ import annotations

import numpy as np
import pytest

from stemma.radix import BlocksStored
from stemma.runtime.errors import InvalidRequest
from stemma.scale.fleet import Index
from stemma.scale.simulation.machine import SMALL_ON_CPU
from stemma.scale.simulation.policies import Ours, RoundRobin
from stemma.scale.simulation.synthetic import synthetic
from stemma.scale.simulation.trace import make_trace
from stemma.scale.simulation.world import Failure, Setting, World

TRACE = make_trace("synthetic", synthetic(5, 400, 1.0), 16, coarser=4)


def run_ours(setting: Setting):
    index = Index()
    world = World(setting, TRACE, lambda number: Ours(number, index, TRACE.block_len, setting.num_routers), index)
    return world, world.run()


def test_every_request_gets_its_first_token_and_hits_are_no_more_than_an_endless_caches():
    _, outcome = run_ours(Setting(4, 2, SMALL_ON_CPU))
    assert np.all(outcome.ttft > 0)
    assert 0 < outcome.hit <= TRACE.endless_hit
    assert outcome.retried == 0


def test_the_index_says_at_the_end_what_the_caches_hold():
    world, _ = run_ours(Setting(3, 1, SMALL_ON_CPU))
    told: dict[str, set[bytes]] = {name: set() for name in world.replicas}
    for name, replica in world.replicas.items():
        replica.cache.subscribe(
            lambda event, name=name: told[name].update(event.hashes) if isinstance(event, BlocksStored) else None
        )
    world.settle()
    for request in TRACE.requests:
        counts = {
            name: next((n for n, block in enumerate(request.hashes) if block not in held), len(request.hashes))
            for name, held in told.items()
        }
        assert world.index.match(request.hashes) == {name: count for name, count in counts.items() if count}


def test_replicas_that_die_lose_no_request_and_come_back_empty():
    end = TRACE.requests[-1].at
    failures = [Failure(end * place / 8, place % 3, 20.0) for place in range(1, 7)]
    world, outcome = run_ours(Setting(3, 2, SMALL_ON_CPU, failures=failures))
    assert np.all(outcome.ttft > 0)
    assert outcome.retried > 0
    assert len(world.replicas) == 3


def test_all_dead_at_once_is_waited_out():
    failures = [Failure(100.0, number, 30.0) for number in range(2)]
    _, outcome = run_ours(Setting(2, 1, SMALL_ON_CPU, failures=failures))
    assert np.all(outcome.ttft > 0)


def test_what_is_known_of_caches_beats_taking_turns():
    setting = Setting(4, 1, SMALL_ON_CPU)
    _, ours = run_ours(setting)
    turns = World(setting, TRACE, RoundRobin, None).run()
    assert ours.hit > turns.hit + 0.1
    assert ours.event_bytes > 0
    assert turns.event_bytes == 0


def test_a_fleet_of_nothing_and_failures_of_nobody_are_refused():
    with pytest.raises(InvalidRequest, match="at least one"):
        Setting(0, 1, SMALL_ON_CPU)
    with pytest.raises(InvalidRequest, match="not there"):
        Setting(2, 1, SMALL_ON_CPU, failures=[Failure(0.0, 2, 1.0)])
