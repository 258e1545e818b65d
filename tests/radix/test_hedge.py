"""The shadow of LRU and the account of what parting from it has brought."""

from array import array

from stemma.radix.hedge import CAUTION, Hedge
from stemma.radix.history import Departed
from stemma.radix.tree import Node


def leaf(num_blocks: int) -> Node:
    return Node(None, b"", 0, bytes(4 * num_blocks), array("i", range(num_blocks)), 0, "")


def departed(node: Node) -> Departed:
    return Departed(node.tokens, len(node.blocks), 0.0, node, node.touched_at)


def full_of_leaves(num_blocks: int, num_leaves: int) -> tuple[Hedge, list[Node]]:
    """Leaves of two blocks, written one after the other."""
    hedge, leaves = Hedge(num_blocks), [leaf(2) for _ in range(num_leaves)]
    for number, node in enumerate(leaves):
        hedge.written(node, 2, 2 * number + 2)
    return hedge, leaves


def test_what_lru_would_have_dropped_is_won_and_what_it_would_have_kept_is_lost() -> None:
    hedge, leaves = full_of_leaves(8, 6)
    hedge.asked([leaves[0]], 13)
    hedge.asked([], 14)
    assert (hedge._won, hedge._asked) == (2.0, 2.0)
    hedge.evicted(leaves[5], 2)
    assert hedge._at_stake == 2.0
    hedge.returned(departed(leaves[5]), 0.5)
    hedge.asked([], 15)
    assert (hedge._won, hedge._at_stake) == (1.0, 1.0)
    hedge.returned(departed(leaves[1]), 1.0)  # LRU has not got it either
    hedge.asked([], 16)
    assert hedge._won == 1.0


def test_losses_make_it_cautious_and_then_lru_and_lru_ends_when_they_are_small_again() -> None:
    hedge, leaves = full_of_leaves(100, 40)
    seen = []
    for number, node in enumerate(leaves):
        hedge.asked([], 100 + number)
        hedge.evicted(node, 2)
        hedge.returned(departed(node), 1.0)
        seen.append(hedge.boldness)
    assert seen[0] == 1.0
    assert seen[-1] == 0.0
    assert seen == sorted(seen, reverse=True)
    node = leaf(50)
    hedge.written(node, 50, 200)
    for step in range(20_000):
        hedge.asked([node], 201 + step)
    assert hedge.boldness == CAUTION


def test_only_so_much_is_at_stake_until_something_is_won() -> None:
    hedge, leaves = full_of_leaves(400, 200)
    hedge.leaf_blocks = 2.0
    for node in leaves[:60]:
        hedge.evicted(node, 2)
    assert hedge.is_at_limit
    for number in range(120):
        node = leaf(2)
        hedge.written(node, 2, 500 + number)
        if number >= 60:
            hedge.asked([leaves[number]], 500 + number)
    assert not hedge.is_at_limit
