"""A simulated replica keeps a real cache, and its times are those of its machine."""

from __future__ import annotations

from array import array

import pytest

from stemma.scale.fleet import hashes_of
from stemma.scale.simulation.machine import SMALL_ON_CPU, Machine
from stemma.scale.simulation.replica import Ended, First, Replica
from stemma.scale.simulation.trace import Request

MACHINE = Machine(0.01, 0.001, 0.0, 0.001, 0.0, pool_tokens=1600, max_chunk=100, max_running=2)
SIZE = 10


def request(number: int, blocks: list[int], output_len: int) -> Request:
    prompt = array("i", blocks)
    output = array("i", [1000 + number * 100 + place for place in range(output_len // SIZE)])
    length = SIZE * len(blocks) + 5
    return Request(number, 0.0, prompt, output, hashes_of(prompt, "", 1), length, output_len, None)


def run(replica: Replica) -> list[tuple[float, First | Ended]]:
    happened = []
    while replica.next_at is not None:
        now = replica.next_at
        happened += [(now, each) for each in replica.advance()]
    replica.cache.check()
    return happened


def test_one_prompt_takes_its_chunks_and_one_output_its_steps():
    replica = Replica(MACHINE, SIZE, None)
    replica.receive(request(0, list(range(15)), 21), 0.0)
    (first_at, first), (end_at, end) = run(replica)
    assert isinstance(first, First)
    assert isinstance(end, Ended)
    assert first_at == pytest.approx(2 * 0.01 + 155 * 0.001)
    assert end_at - first_at == pytest.approx(20 * (0.01 + 0.001))
    assert replica.computed == 155


def test_the_same_prompt_again_finds_its_full_blocks():
    replica = Replica(MACHINE, SIZE, None)
    replica.receive(request(0, list(range(15)), 1), 0.0)
    run(replica)
    replica.receive(request(1, list(range(15)), 1), 10.0)
    assert [each.hit_len for _, each in run(replica) if isinstance(each, First)] == [150]


def test_who_comes_during_decodes_begins_behind_the_step_that_is_computed():
    replica = Replica(MACHINE, SIZE, None)
    replica.receive(request(0, [1], 100), 0.0)
    replica.advance()
    began = replica.now
    replica.receive(request(1, [2], 1), began + 0.011 * 5.5)
    replica.advance()
    assert replica.now == pytest.approx(began + 0.011 * 6)
    replica.advance()
    assert replica.now == pytest.approx(began + 0.011 * 6 + 0.01 + 0.015 + 0.001)
    assert len(run(replica)) == 1


def test_everybody_ends_though_memory_and_places_are_few():
    replica = Replica(MACHINE, SIZE, None)
    for number in range(20):
        replica.receive(request(number, list(range(100 * number, 100 * number + 90)), 60), 0.0)
    assert replica.load(0.0).waiting_tokens == 20 * 905
    happened = [each for _, each in run(replica)]
    assert sorted(each.request.number for each in happened if isinstance(each, Ended)) == list(range(20))
    assert replica.load(0.0)._replace(at=0.0) == (0, 0, 0.0, 2, False, 0.0)


def test_a_longer_context_takes_longer():
    assert SMALL_ON_CPU.seconds(8, 8096) > 2 * SMALL_ON_CPU.seconds(8, 800)
    assert SMALL_ON_CPU.seconds(0, 0, 512, 2000) > SMALL_ON_CPU.seconds(0, 0, 512, 0)
