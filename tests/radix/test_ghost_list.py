"""The memory of what was evicted: what it finds, what it knows, what it forgets, and how little it is made of."""

import gc
from array import array
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from stemma.radix import Node, Policy, PrefixCache, ReuseQueue, Segments, lru
from stemma.radix.ghost_list import GhostList, Order
from stemma.radix.node import private_scope
from stemma.radix.tokens import pack

REALMS = ("", "a", private_scope("", 2, "salt"), private_scope("a", 2, "salt"))
texts = st.lists(st.integers(0, 1), min_size=1, max_size=7)


def leaf(scope: str, start: int, tokens: list[int], number: int = 0) -> Node:
    node = Node(None, b"", start, bytes(pack(tokens)), array("i", [0] * (1 + number % 3)), 0, scope)
    node.hits, node.born_at, node.used_at, node.touched_at = number, 2**40 + number, 2**41 + number, 2**42 + number
    node.children_born, node.children_used, node.rate, node.kind = 2 * number, number, number / 7, number % 231
    return node


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("remember", "remember", "remember_end", "take", "forget")),
            st.sampled_from(REALMS),
            st.integers(0, 2),
            texts,
        ),
        max_size=60,
    ),
    st.integers(0, 40),
    st.sampled_from((0, 2, 4096)),
)
def test_it_is_a_bounded_list_of_what_came_last(
    ways: list[tuple[str, str, int, list[int]]], room: int, most_recent: int
) -> None:
    """Against a plain list, oldest first."""
    ghost_list = GhostList(room, most_recent)
    kept: list[tuple[str, int, list[int], int, float]] = []  # scope, start, tokens, number of its node, when
    whole = {"": REALMS[::2], "a": REALMS[1::2]}
    for number, (way, scope, start, tokens) in enumerate(ways):
        now = float(number)
        if way.startswith("remember"):
            node = leaf(scope, start, tokens, number)
            if way == "remember":
                ghost_list.remember(node, now)
            else:
                node.end = start
                ghost_list.remember_end(node, node.tokens, len(node.blocks), now)
            kept = [one for one in kept if (*one[:2], one[2][:4]) != (scope, start, tokens[:4])]
            kept.append((scope, start, tokens, number, now))
            while sum(len(one[2]) for one in kept) > room:
                kept.pop(0)
        elif way == "take":
            found = ghost_list.take(scope, start, pack([9] * start + tokens))
            same = [one for one in kept if (*one[:2], one[2][:4]) == (scope, start, tokens[:4])]
            assert (found is None) == (not same)
            if found is not None:
                kept.remove(same[0])
                is_right(found, same[0], num_common(tokens, same[0][2]))
        elif scope in whole:
            ghost_list.forget_scopes(scope, None)
            kept = [one for one in kept if one[0] not in whole[scope]]
        else:
            ghost_list.forget_scopes("", "salt")
            kept = [one for one in kept if one[0] != REALMS[2]]
        assert len(ghost_list) == len(kept)
        for one in kept:
            is_right(ghost_list.find(one[0], one[1], pack([9] * one[1] + one[2])), one, len(one[2]))


def num_common(ours: list[int], theirs: list[int]) -> int:
    length = min(len(ours), len(theirs))
    return next((at for at in range(length) if ours[at] != theirs[at]), length)


def is_right(found: Any, one: tuple[str, int, list[int], int, float], num_same: int) -> None:
    number, (ghost, same) = one[3], found
    assert (ghost.num_tokens, same, ghost.evicted_at) == (len(one[2]), num_same, one[4])
    assert (ghost.num_blocks, ghost.touched_at) == (1 + number % 3, 2**42 + number)
    known = (number, 2**40 + number, 2 * number, number, 2**41 + number, number / 7, number % 231)
    assert ghost[4:] == known


@given(st.lists(st.integers(0, 2**31 - 1), min_size=5, max_size=1500), st.data())
def test_it_says_how_much_of_an_edge_a_query_has(tokens: list[int], data: st.DataObject) -> None:
    """To the token where they part by what is not the same in the lower 16 bits; short edges and long ones."""
    ghost_list, at = GhostList(10**6), data.draw(st.integers(4, len(tokens)))
    ghost_list.remember(leaf("", 0, tokens), 0.0)
    query = [*tokens[:at], *(token ^ data.draw(st.integers(1, 2**16 - 1)) for token in tokens[at : at + 1])]
    found = ghost_list.find("", 0, pack(query))
    assert found is not None
    assert found[1] == at
    assert ghost_list.find("", 0, pack([tokens[0] ^ 1, *tokens[1:]])) is None


def test_an_end_that_was_cut_off_knows_what_its_edge_came_to_know() -> None:
    ghost_list, node = GhostList(100), leaf("", 0, [1, 2, 3, 4], 5)
    node.end = 3
    ghost_list.remember_end(node, node.tokens[12:], 1, 1.0)
    query = pack([1, 2, 3, 4])
    assert ghost_list.find("", 3, query)[0].hits == 5
    node.hits = 6
    assert ghost_list.find("", 3, query)[0].hits == 6
    node.end, node.tokens = 3, node.tokens[:12]
    ghost_list.remember(node, 2.0)
    node.hits = 7
    assert ghost_list.find("", 3, query)[0].hits == 6
    assert ghost_list.find("", 0, query[:12])[0].hits == 6
    assert ghost_list.find("", 3, query)[0].evicted_at == 1.0


@given(st.lists(st.integers(-6, 4)))
def test_the_order_stays_whatever_is_taken_out(ways: list[int]) -> None:
    """Against a plain list; a number that is taken out may come again."""
    order, kept = Order(), list[int]()
    for way in ways:
        if way < -4 and kept:
            assert order.pop() == kept.pop(0)
        elif -way in kept:
            order.take_out(-way)
            kept.remove(-way)
        elif abs(way) not in kept:
            order.append(abs(way))
            kept.append(abs(way))
    while kept:
        assert order.pop() == kept.pop(0)


def test_the_order_keeps_no_more_than_twice_what_is_there() -> None:
    """Numbers that were taken out of the middle stay in the queue until they are half of it."""
    order = Order()
    order.append(-1)
    for number in range(2000):
        for turn in (number, -2):
            order.append(turn)
            order.take_out(turn)
    assert len(order._numbers) < 200
    for number in range(2000):
        order.append(number)
        assert order.pop() == number - 1
    assert len(order._numbers) < 200


def fill(cache: PrefixCache, texts: range, namespace: str | Segments = "") -> None:
    for number in texts:
        with cache.acquire([], namespace) as lease:
            lease.reserve(16)
            lease.extend([number, *range(15)])
            lease.commit()


@pytest.fixture
def _nothing_else_is_counted():
    """What other tests have left may go meanwhile: frozen, it is in no generation that is looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_nothing_else_is_counted")
@pytest.mark.parametrize("namespace", ["", Segments("app", 8, "salt")])
def test_what_is_remembered_is_nothing_that_a_garbage_collection_looks_at(namespace: str | Segments) -> None:
    """Nor is there anything of a leaf but its node and its blocks."""
    cache, begun = PrefixCache(256 * 4, 4, ReuseQueue), num_objects()
    fill(cache, range(200), namespace)
    num_nodes = sum(1 for _ in cache.walk())
    live = num_objects()
    assert live - begun < 2 * num_nodes + (num_nodes if namespace else 0) + 100
    fill(cache, range(200, 2000), namespace)
    assert len(cache._store.ghosts) > 480
    assert num_objects() - live < 1.4 * (live - begun)


def num_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def num_nodes() -> int:
    gc.collect()
    return sum(type(kept) is Node for kept in gc.get_objects())


@pytest.mark.parametrize("policy", [ReuseQueue, lru])
def test_nothing_keeps_a_node_that_was_evicted(policy: Policy) -> None:
    before = num_nodes()
    cache = PrefixCache(64, 4, policy)
    fill(cache, range(3000))
    assert num_nodes() - before <= sum(1 for _ in cache.walk()) + 2


def test_an_edge_weighs_little_more_than_half_its_tokens() -> None:
    ghost_list = GhostList(10**9)
    ghost_list.remember(leaf("", 0, [5] * 64), 0.0)
    ((_, edge),) = ghost_list._edges.items()
    assert len(edge) <= 2 * 64 + 80


def test_realms_of_which_nothing_is_remembered_are_forgotten() -> None:
    ghost_list = GhostList(100)
    for number in range(3000):
        ghost_list.remember(leaf(f"user {number}", 0, [5] * 10), 0.0)
    assert len(ghost_list) == 10
    assert len(ghost_list._scopes) < 100
    assert ghost_list.find("user 2999", 0, pack([5] * 10)) is not None
