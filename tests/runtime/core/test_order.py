"""Who of a line goes first, by each policy."""

from __future__ import annotations

import pytest

from stemma.runtime.core.order import ORDERS
from tests.runtime.core.making import sequence
from tests.runtime.core.test_waiting import LEFT, RIGHT, ended_in_order, make


def test_fcfs_is_by_arrival_and_lpm_by_what_is_cached(fake):
    prompts = [[*LEFT, 40], [*RIGHT, 41], [*LEFT, 42], [*RIGHT, 43], [*LEFT, 44], [*RIGHT, 45]]
    for order, wanted in [("fcfs", [0, 1, 2, 3, 4, 5]), ("lpm", [0, 2, 4, 1, 3, 5]), ("fair", [0, 2, 4, 1, 3, 5])]:
        scheduler = make(order, max_running=1)
        assert ended_in_order(fake, scheduler, [sequence(prompt, 1) for prompt in prompts]) == wanted, order


def test_dfs_finishes_a_branch_before_it_leaves_it(fake):
    """Two branches of a common beginning: by arrival they alternate, and by what is cached the common part hides it."""
    prompts = [[*LEFT, 1], [*LEFT, *RIGHT, 1], [*LEFT, 2, 2, 2, 1], [*LEFT, *RIGHT, 2], [*LEFT, 2, 2, 2, 2], [9, 9]]
    scheduler = make("dfs", max_running=1)
    assert ended_in_order(fake, scheduler, [sequence(prompt, 1) for prompt in prompts]) == [0, 1, 3, 2, 4, 5]


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_priority_goes_before_every_order_and_a_deadline_before_an_equal(fake, order):
    items = [sequence([n, 7], 1, priority=n == 2) for n in range(4)]
    items[3].deadline = 1e9
    assert ended_in_order(fake, make(order, max_running=1), items) == [2, 3, 0, 1]
