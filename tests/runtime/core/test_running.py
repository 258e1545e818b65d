"""Those that hold KV, in the order in which they are given room."""

from __future__ import annotations

import pytest

from stemma.radix import PrefixCache
from stemma.runtime.core.running import Running, order, side
from tests.runtime.core import making
from tests.runtime.core.making import sequence


@pytest.fixture
def cache():
    return PrefixCache(64, 4)


def holding(cache, prompt, num_computed, arrival, **options):
    item = making.running(cache, sequence(prompt, **options), num_computed)
    item.arrival = arrival
    return item


def test_prompts_and_decodes_are_apart_each_by_priority_then_deadline_then_arrival(cache):
    running = Running()
    items = [
        holding(cache, [1, 2, 3], 3, 1), holding(cache, [4, 5, 6], 1, 2), holding(cache, [7, 8], 2, 3, priority=1),
        holding(cache, [9, 9, 9], 0, 4), holding(cache, [9, 9, 8], 0, 5),
    ]  # fmt: skip
    items[4].deadline = 1.0
    for item in items:
        running.add(item)
    assert running.decodes == [items[2], items[0]]
    assert running.prompts == [items[4], items[1], items[3]]
    assert list(running) == [*running.decodes, *running.prompts]
    assert len(running) == 5
    assert sorted(running.prompts, key=order) == running.prompts


def test_a_prompt_that_is_computed_decodes_and_who_leaves_is_gone(cache):
    running = Running()
    item, other = holding(cache, [1, 2, 3], 0, 2), holding(cache, [4, 5], 2, 1)
    running.add(item)
    running.add(other)
    running.finished_prompt(item)
    assert (running.prompts, running.decodes) == ([], [other, item])
    running.remove(other)
    assert other not in running
    assert running.by_side() == [item]
    running.remove(item)
    assert len(running) == 0


def test_those_with_a_common_beginning_stand_side_by_side(cache):
    running = Running()
    first = holding(cache, [1, 2, 3, 4, 5], 5, 1)
    first.lease.commit()
    items = [first, holding(cache, [7, 7, 7, 7, 7], 5, 2), holding(cache, [1, 2, 3, 4, 6], 5, 3)]
    for item in items:
        running.add(item)
    standing = running.by_side()
    assert abs(standing.index(items[0]) - standing.index(items[2])) == 1
    assert standing == sorted(items, key=side)
