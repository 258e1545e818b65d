"""The proof of what marks promise: who has each slot, how often each window block is referred to. Reads only."""

from collections import Counter

from stemma.radix.lease_state import LeaseMarks, LeaseState
from stemma.radix.lease_table import LeaseTable
from stemma.radix.marks import MarkStore
from stemma.radix.node import NO_SLOT, Mark, Node


def check_marks(lease_table: LeaseTable) -> None:
    """Raise AssertionError with what is wrong in the marks of a cache, if anything is."""
    marks, store = lease_table.store.marks, lease_table.store
    nodes = list(store.tree.nodes())
    if marks is None:
        assert all(node.marks is None and node.places is None for node in nodes)
        assert all(state.marks is None and state.replay == 0 for state in lease_table.states)
        return
    holds = Counter(id(state.marks.source) for state in lease_table.states if state.marks and state.marks.source)
    slots: Counter[int] = Counter(marks.slots.free_blocks() if marks.slots is not None else ())
    by_marks: Counter[int] = Counter()
    by_leases: Counter[int] = Counter()
    of_tree = [mark for node in nodes for mark in _marks_of(node)]
    for mark in of_tree:
        _check_mark(marks, mark, store.tree.block_size)
        assert mark.holds == holds[id(mark)], "a mark is held by others than those that go on from it"
        assert mark.holds or not (mark.node and mark.node.forgotten), "a mark that nobody can find is kept"
        assert bool(mark.ticket) == (not mark.holds), "a mark that may go waits in the queue, and nothing else does"
        by_marks.update(mark.window_blocks)
        slots.update([mark.slot] if marks.slots is not None else ())
    for state in lease_table.states:
        assert state.marks is not None
        _check_lease(marks, state, state.marks, store.tree.block_size)
        slots.update(_slots_of(state.marks) if marks.slots is not None else ())
        by_leases.update(_window_blocks_of(state.marks))
    marks.policy.check(nodes)
    assert marks.num_marks == len(of_tree), "the marks are miscounted"
    assert len(marks.queue) == sum(1 for mark in of_tree if not mark.holds)
    if marks.slots is not None:
        assert set(slots.values()) == {1}, "a slot has two owners"
        assert len(slots) == marks.slots.total, "a slot is lost"
    if marks.windows is not None:
        free, counted_by_leases, counted_by_marks = marks.windows.counts()
        for block in range(marks.windows.total):
            assert counted_by_leases[block] == by_leases[block], "a window block is miscounted"
            assert counted_by_marks[block] == by_marks[block], "a window block is miscounted"
        assert sorted(free) == [block for block in range(marks.windows.total) if not by_leases[block] + by_marks[block]]
        assert marks.windows.num_cached == sum(1 for block in by_marks if not by_leases[block])
    stats = marks.stats()
    assert stats.free_slots + stats.leased_slots + stats.cached_slots == stats.slots
    assert stats.free_window_blocks + stats.leased_window_blocks + stats.cached_window_blocks == stats.window_blocks


def _marks_of(node: Node) -> list[Mark]:
    assert node.marks is None or node.marks, "an empty table of marks is kept"
    for position, mark in (node.marks or {}).items():
        assert mark.node is node, "a mark is in another node than it says"
        assert position == mark.position
        assert node.start < position <= node.end, "a mark is outside of its node"
    return list((node.marks or {}).values())


def _check_mark(marks: MarkStore, mark: Mark, size: int) -> None:
    assert (mark.slot == NO_SLOT) == (marks.slots is None)
    if marks.windows is not None:
        assert mark.first == marks.first_block(mark.position)
        assert len(mark.window_blocks) == -(-mark.position // size) - mark.first


def _check_lease(marks: MarkStore, state: LeaseState, own: LeaseMarks, size: int) -> None:
    position = state.position
    assert state.replay >= 0
    assert not state.replay or not state.tokens, "what is written is behind what is replayed"
    assert own.wanted == sorted(own.wanted)
    assert all(at > position for at in own.wanted)
    assert own.source is None or (own.source.position == position and own.slot == NO_SLOT)
    assert marks.slots is None or (own.source_slot == NO_SLOT) == (position == 0), "no state where the lease is"
    for mark in own.own:
        _check_mark(marks, mark, size)
        assert mark.node is None
        assert mark.holds == (mark is own.source)
        assert 0 < mark.position <= position
    assert {own.source_slot}.isdisjoint(own.targets), "a step writes what it reads"
    if marks.windows is not None:
        held = own.window_blocks[own.window_first :]
        assert len(held) == len(set(held))
        assert own.window_first <= marks.first_block(position)
        assert len(own.window_blocks) >= -(-position // size)
        assert not any(own.window_blocks[: own.window_first])


def _slots_of(own: LeaseMarks) -> list[int]:
    mine = [mark.slot for mark in own.own]
    return [*own.targets, *mine, *([own.slot] if own.slot != NO_SLOT else [])]


def _window_blocks_of(own: LeaseMarks) -> list[int]:
    blocks = [*own.window_blocks[own.window_first :], *([] if own.copy is None else [own.copy.source])]
    return blocks + [block for mark in own.own for block in mark.window_blocks]
