"""Room for one step of a lease in windows and states, and what becomes of it when the step has been computed.

tokens     |-------------- pending --------------|- drafts -|
position   num_tokens        *wanted             |  |  |  reach
segments   |-----------------|-------------------|--|--|--|        each from the slot before to a fresh one

A step can be computed twice: no segment writes to what the step reads.
"""

from typing import NamedTuple

from stemma.radix.errors import LeaseError
from stemma.radix.lease_marks import make_mark
from stemma.radix.lease_state import BlockCopy, LeaseMarks, LeaseState, Segment
from stemma.radix.marks import MarkStore
from stemma.radix.node import NO_SLOT
from stemma.radix.store import BlockStore


class Advance(NamedTuple):
    """What a step needs: copies of window blocks, to be run before it, and its segments; both may be empty."""

    copies: list[BlockCopy]
    segments: list[Segment]


class Needs(NamedTuple):
    """What a step must have beyond what is there."""

    ends: list[int]  # of the segments that it cannot do without
    num_slots: int
    num_window_blocks: int  # at the end of the table
    is_copied: bool  # whether the last block, which others refer to, is copied into one more


def needs_of(store: BlockStore, state: LeaseState, num_tokens: int, num_drafts: int) -> Needs:
    """What a step of so many tokens needs, the last of which are drafts that may be refused. Changes nothing."""
    marks, own, size = store.marks, state.marks, store.tree.block_size
    assert marks is not None
    assert own is not None
    start = state.position
    end, ends, num_blocks, is_copied = start + num_tokens, list[int](), 0, False
    if marks.slots is not None:
        ends = list(range(max(start + 1, end - num_drafts), end + 1))
    if marks.windows is not None:
        num_blocks = max(0, -(-end // size) - len(own.window_blocks))
        last = start // size
        if start % size and last < own.writes_from:
            is_copied = marks.windows.is_shared(own.window_blocks[last])
    return Needs(ends, max(0, len(ends) - len(own.targets)), num_blocks, is_copied)


def advance(store: BlockStore, state: LeaseState, num_tokens: int, needs: Needs, num_running: int) -> Advance:
    """Take what is needed, which is available, and slots for the marks that are wanted inside, as far as they find
    room. num_running: leases that need a slot for each of their steps, so that no mark takes it."""
    marks, own = store.marks, state.marks
    assert marks is not None
    assert own is not None
    own.reach = state.position + num_tokens
    if marks.windows is not None:
        _take_window_blocks(store, state, needs)
    if marks.slots is not None:
        if needs.num_slots:
            own.targets.extend(marks.take_slots(needs.num_slots))
        inside = _marks_inside(store, state, needs, num_running)
        marks.slots.give_back(own.targets[len(needs.ends) + len(inside) :])
        del own.targets[len(needs.ends) + len(inside) :]
        own.segments, start, source = [], state.position, own.source_slot
        for end, target in zip(sorted(needs.ends + inside), own.targets, strict=True):
            own.segments.append(Segment(start, end, source, target))
            start, source = end, target
    return Advance([] if own.copy is None else [own.copy], list(own.segments))


def _take_window_blocks(store: BlockStore, state: LeaseState, needs: Needs) -> None:
    marks, own, size = store.marks, state.marks, store.tree.block_size
    assert marks is not None
    assert own is not None
    fresh = marks.take_window_blocks(needs.num_window_blocks + needs.is_copied)
    start = state.position
    if needs.is_copied:
        last, copied = start // size, fresh.pop()
        own.copy = BlockCopy(own.window_blocks[last], copied, start % size)
        own.window_blocks[last] = copied
    own.writes_from = min(own.writes_from, start // size)
    own.window_blocks.extend(fresh)


def _marks_inside(store: BlockStore, state: LeaseState, needs: Needs, num_running: int) -> list[int]:
    """Where marks are wanted inside the first segment; the lease has a slot for each one that is returned."""
    marks, own = store.marks, state.marks
    assert marks is not None
    assert own is not None
    inside: list[int] = []
    before = own.last_mark
    for position in own.wanted:
        if not needs.ends or position >= needs.ends[0]:
            break
        if len(needs.ends) + len(inside) == len(own.targets):
            slot = marks.take_slot_for_mark(own.plan, position, position - before, num_running)
            if slot == NO_SLOT:
                continue
            own.targets.append(slot)
        inside.append(position)
        before = position
    return inside


def settle(store: BlockStore, state: LeaseState, num_kept: int) -> None:
    """So many tokens of the step are kept, from state.position on. Raises LeaseError, with nothing changed, if no step
    was prepared that could have computed them."""
    marks, own = store.marks, state.marks
    assert marks is not None
    assert own is not None
    end = state.position + num_kept
    if num_kept and end > own.reach:
        raise LeaseError(f"{num_kept} tokens written, advance has prepared {max(own.reach - state.position, 0)}")
    by_end = {segment.end: segment.target for segment in own.segments}
    if num_kept and marks.slots is not None and end not in by_end:
        raise LeaseError(f"the states after {num_kept} tokens were not kept: name the drafts that may be refused")
    if num_kept:
        _move_on(store, own, end, by_end)
    if marks.slots is not None:
        marks.slots.give_back(own.targets)
    own.targets, own.segments, own.reach = own.targets[:0], [], 0
    if marks.windows is not None:
        _free_window_blocks(marks, own, end, store.tree.block_size)


def _move_on(store: BlockStore, own: LeaseMarks, end: int, by_end: dict[int, int]) -> None:
    """The lease is at `end` now; marks that were passed are its own."""
    marks = store.marks
    assert marks is not None
    if own.copy is not None and marks.windows is not None:
        marks.windows.let_go((own.copy.source,))
        own.copy = None
    if own.source is not None:
        marks.let_go(own.source)
        own.source = None
    elif own.slot != NO_SLOT and marks.slots is not None:
        marks.slots.give_back((own.slot,))
    own.slot = by_end.get(end, NO_SLOT)
    passed = [position for position in own.wanted if position <= end]
    del own.wanted[: len(passed)]
    for position in passed:
        if marks.slots is None or position in by_end:
            slot = by_end.get(position, NO_SLOT)
            mark = make_mark(store, own, position, slot)
            if position == end:
                own.source, own.slot = mark, NO_SLOT
                marks.hold(mark)
            if slot != NO_SLOT:
                own.targets.remove(slot)
    if own.slot != NO_SLOT:
        own.targets.remove(own.slot)


def _free_window_blocks(marks: MarkStore, own: LeaseMarks, end: int, size: int) -> None:
    """Nothing is held that lies wholly behind the window of `end`, or past it."""
    windows, first, past = marks.windows, marks.first_block(end), -(-end // size)
    assert windows is not None
    windows.let_go(own.window_blocks[past:])
    del own.window_blocks[past:]
    if first > own.window_first:
        windows.let_go(own.window_blocks[own.window_first : first])
        for index in range(own.window_first, first):
            own.window_blocks[index] = 0
        own.window_first = first
