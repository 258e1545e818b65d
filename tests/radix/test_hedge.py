"""The shadow of LRU, the account of what parting from it has brought, and how far that lets the policy go."""

import random
from array import array
from collections.abc import Callable

import pytest

from stemma.radix import PrefixCache, ReuseQueue, lru
from stemma.radix.ghost_list import Ghost
from stemma.radix.hedge import TOLERANCE, TRIAL, Hedge
from stemma.radix.node import Node


def leaf(num_blocks: int) -> Node:
    return Node(None, b"", 0, bytes(4 * num_blocks), array("i", range(num_blocks)), 0, "")


def ghost(node: Node) -> Ghost:
    num_blocks = len(node.blocks)
    return Ghost(num_blocks, num_blocks, node.touched_at, 0.0, 0, 0, 0, 0, 0, 0.0, 0)


def full_of_leaves(num_blocks: int, num_leaves: int) -> tuple[Hedge, list[Node]]:
    """Leaves of two blocks, written one after the other."""
    hedge, leaves = Hedge(num_blocks), [leaf(2) for _ in range(num_leaves)]
    for node in leaves:
        hedge.written(node, 2)
    return hedge, leaves


def test_what_lru_would_have_dropped_is_won_and_what_it_would_have_kept_is_lost() -> None:
    hedge, leaves = full_of_leaves(8, 6)
    hedge.asked([leaves[0]], 12)
    hedge.asked([], 12)
    assert (hedge._won, hedge._hits) == (2.0, 2)
    hedge.evicted(leaves[5], 2)
    assert hedge._at_stake == 2.0
    hedge.returned(ghost(leaves[5]), 0.5)
    hedge.asked([], 12)
    assert (hedge._won, hedge._at_stake) == (1.0, 1.0)
    hedge.returned(ghost(leaves[1]), 1.0)  # LRU has not got it either
    hedge.asked([], 12)
    assert hedge._won == 1.0


def test_losses_end_the_parting_and_what_is_asked_for_in_vain_lets_it_begin_again() -> None:
    hedge, leaves = full_of_leaves(100, 40)
    hedge.leaf_blocks = 2.0
    hedge.asked([], 0)
    assert hedge.may_part
    for node in leaves[:4]:
        hedge.evicted(node, 2)
        hedge.returned(ghost(node), 1.0)
    hedge.asked([], 0)
    assert hedge._won == -8.0
    assert not hedge.may_part
    hedge.asked([], int((8.0 - 2.0 * TRIAL) / TOLERANCE) + 10)
    assert hedge.may_part


def test_half_of_what_was_won_is_not_risked_again() -> None:
    hedge, leaves = full_of_leaves(8, 104)
    for node in leaves[:100]:
        hedge.asked([node], 0)
    hedge.asked([], 0)
    assert hedge._won == 200.0
    for node in leaves[:100]:
        hedge.written(node, 0)
    lost = 0
    while hedge.may_part and lost < 100:
        node = leaf(8)
        hedge.written(node, 8)
        hedge.evicted(node, 8)
        hedge.returned(ghost(node), 1.0)
        hedge.asked([], 0)
        lost += 1
    assert 11 <= lost <= 14, "half of 200 blocks, in leaves of 8"


def test_only_so_much_is_at_stake() -> None:
    hedge, leaves = full_of_leaves(400, 200)
    hedge.leaf_blocks = 2.0
    hedge.asked([], 0)
    for node in leaves:
        if hedge.may_part:
            hedge.evicted(node, 2)
    assert 10 < hedge._at_stake / 2 < 100


def test_a_cache_that_only_hits_remembers_no_more_times() -> None:
    """Each request leaves the time of the one before it behind; these go before they are more than those that count."""
    hedge, leaves = full_of_leaves(100, 40)
    for turn in range(5000):
        hedge.asked([leaves[turn % 3]], 80)
    assert len(hedge._shadow._times) < 250


def zipf(numbers: random.Random) -> int:
    return int(60 ** numbers.random()) - 1


def recent(numbers: random.Random) -> int:
    return int(numbers.expovariate(1 / 12)) % 60


@pytest.mark.parametrize("draw", [zipf, recent])
@pytest.mark.parametrize("block_size", [4, 16])
def test_the_account_is_what_lru_really_has(draw: Callable[[random.Random], int], block_size: int) -> None:
    """Two caches, the same requests: what the hedge believes is what the other one shows."""
    numbers, order = random.Random(7), list(range(60))
    texts = [[1000 * number + position for position in range(block_size * (2 + number % 5))] for number in range(60)]
    ours, plain = PrefixCache(60, block_size, ReuseQueue), PrefixCache(60, block_size, lru)
    asked = 0
    for _ in range(2000):
        order.insert(0, order.pop(draw(numbers)))
        text = texts[order[0]]
        asked += len(text)
        for cache in (ours, plain):
            with cache.acquire(text) as lease:
                lease.reserve(len(text) - lease.hit_len)
                lease.extend(text[lease.hit_len :])
                lease.commit()
    hedge = ours._store.hedge
    assert hedge is not None
    hedge.asked([], ours._store.logical_time)
    won = (ours.stats().hit_tokens - plain.stats().hit_tokens) / block_size
    assert hedge._won == pytest.approx(won, abs=10)
    assert won >= -(TOLERANCE * asked / block_size + 3 * TRIAL * hedge.leaf_blocks)
