"""The marks of one lease: where it begins, those that it leaves, publishes and forks at, and what it gives back.

What it has of windows and states is in LeaseMarks (lease_state.py); a step's part in it is advance.py's.
"""

from array import array
from collections.abc import Iterable

from stemma.radix.lease_state import LeaseMarks, LeaseState
from stemma.radix.mark import mark_at, node_at
from stemma.radix.marks import MarkStore
from stemma.radix.node import NO_SLOT, Mark
from stemma.radix.placement import Hit, Plan
from stemma.radix.store import BlockStore


def begin(store: BlockStore, state: LeaseState, prompt_len: int, marks_at: Iterable[int]) -> None:
    """A lease that was just acquired goes on from the last mark below the end of its match."""
    marks = store.marks
    assert marks is not None
    hit_len, mark = marks.going_on(state.node, state.at)
    plan = marks.policy.asked(state.node, Hit(state.at, hit_len, mark), prompt_len, marks_at)
    state.replay = state.at - hit_len
    if mark is not None:
        marks.used(mark, store.logical_time)
    state.marks = _going_on(marks, plan, hit_len, mark)
    marks.give_back_spent()


def fork_marks(store: BlockStore, state: LeaseState, fork: LeaseState) -> None:
    """A new lease goes on where this one is: both from a mark in the tree, which is made if it is missing."""
    marks, own = store.marks, state.marks
    assert marks is not None
    assert own is not None
    position = state.position
    own.plan = own.plan._replace(programmed=own.plan.programmed | {position})
    _leave_mark(store, state, own)
    publish_marks(store, state)
    mark = mark_at(state.node, position) if position else None
    fork.replay = state.replay
    prior = own.plan.prior if mark is None else mark.place
    plan = own.plan._replace(wanted=own.wanted, turn=0, prior=prior, source=None)
    fork.marks = _going_on(marks, plan, position, mark)


def _going_on(marks: MarkStore, plan: Plan, hit_len: int, mark: Mark | None) -> LeaseMarks:
    first, blocks = 0, array("i")
    if mark is not None and marks.windows is not None:
        first = marks.first_block(hit_len)
        blocks = mark.window_blocks[first - mark.first :][: marks.window_len(hit_len)]
        marks.windows.hold(blocks)
    if mark is not None and mark.position == hit_len:
        marks.hold(mark)
        return LeaseMarks(plan, hit_len, mark, first, blocks)
    return LeaseMarks(plan, hit_len, None, first, blocks)


def make_mark(store: BlockStore, own: LeaseMarks, position: int, slot: int) -> Mark:
    """A mark of the lease's own at a position whose window it refers to."""
    marks, size = store.marks, store.tree.block_size
    assert marks is not None
    first, blocks = 0, array("i")
    if marks.windows is not None:
        first = marks.first_block(position)
        blocks = own.window_blocks[first : -(-position // size)]
        if own.copy is not None:  # it may never be run
            blocks[-1] = own.copy.source
        marks.windows.hold(blocks)
    mark = Mark(position, slot, first, blocks, store.logical_time)
    own.own.append(mark)
    own.last_mark = position
    return mark


def leave_mark(store: BlockStore, state: LeaseState) -> None:
    """The caller wants a mark where the lease is. At the end of a request there is none if it is not worth it."""
    marks, own, position = store.marks, state.marks, state.position
    assert marks is not None
    assert own is not None
    if own.source is not None or not position:
        return
    if position < own.plan.prompt_len:
        own.plan = own.plan._replace(programmed=own.plan.programmed | {position})
    if marks.policy.is_end_worth(own.plan, position, position - own.last_mark):
        _leave_mark(store, state, own)
    else:
        marks.refused += 1
        own.refused_at = position


def _leave_mark(store: BlockStore, state: LeaseState, own: LeaseMarks) -> None:
    """A mark where the lease is: its slot becomes the mark's, from which it goes on."""
    assert store.marks is not None
    if state.position and own.source is None:
        own.source = make_mark(store, own, state.position, own.slot)
        store.marks.hold(own.source)
        own.slot = NO_SLOT


def publish_marks(store: BlockStore, state: LeaseState) -> None:
    """The lease's own marks become the tree's, whose text has been published. Where it has one, ours is taken apart."""
    marks, own = store.marks, state.marks
    assert marks is not None
    assert own is not None
    mine, own.own = own.own, []
    if own.refused_at and own.refused_at <= state.at:
        marks.policy.refused(node_at(state.node, own.refused_at), own.refused_at, own.plan)
        own.refused_at = 0
    for mark in mine:
        if marks.attach(state.node, mark, own.plan) is mark:
            continue
        if own.source is mark:
            own.source, own.slot = None, mark.slot
            _free(marks, mark, NO_SLOT)
        else:
            _free(marks, mark, mark.slot)


def release_marks(store: BlockStore, state: LeaseState) -> None:
    """Everything goes that is not in the tree; the path is still held."""
    marks, own = store.marks, state.marks
    assert marks is not None
    assert own is not None
    if own.source is not None:
        marks.let_go(own.source)
        own.source = None
    for mark in own.own:
        _free(marks, mark, mark.slot)
    own.own.clear()
    if marks.slots is not None:
        marks.slots.give_back(own.targets)
        if own.slot != NO_SLOT:
            marks.slots.give_back((own.slot,))
    if marks.windows is not None:
        if own.copy is not None:
            marks.windows.let_go((own.copy.source,))
        marks.windows.let_go(own.window_blocks[own.window_first :])
    own.slot, own.targets, own.copy, own.segments = NO_SLOT, array("i"), None, []
    own.window_first = len(own.window_blocks)


def _free(marks: MarkStore, mark: Mark, slot: int) -> None:
    """A lease's own mark is no more; its slot goes unless it is NO_SLOT."""
    if marks.slots is not None and slot != NO_SLOT:
        marks.slots.give_back((slot,))
    if marks.windows is not None:
        marks.windows.let_go(mark.window_blocks)
