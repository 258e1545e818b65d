"""Stacks of frames, and several stacks as one: what makes ambiguous grammars take bounded room. Kernels over `Tables`.

A frame is where a call returns to (or how often a repeat was gone through) and the stack below. Where many items stand
in one state, only their stacks differ; they become one item with the *union* of these (Tomita 1985, the
graph-structured stack): a list of stacks, the newest first, as entries of the same table. A frame put on a union stands
for all of them.
"""

from __future__ import annotations

from stemma.fsm.kernels.columns import COUNT, FRAME, item_of, stack_of, state_of
from stemma.fsm.kernels.interning import slot_of
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.tables import FULL_STACKS, FULL_WORK, Int64s, Tables

MANY = 4  # items in one state that are still kept apart
MANY_COUNTED = 64  # the same, where frames count: masks look at their counts
NOT_COUNTED = -1  # the count of a frame that is not of a repeat
UNION_STATE = 0  # no frame that counts returns there


@helper
def intern_stack(t: Tables, state: int, count: int, parent: int) -> int:
    """The id of a frame: where to return to, the count of the repeat it is for, the frames below. -1 if full."""
    slot = slot_of(t.stacks, t.stack_index, state, count, parent)
    if t.stack_index[slot] >= 0:
        return int(t.stack_index[slot])
    stack = t.counts[COUNT.num_stacks]
    if stack == len(t.stacks):
        t.counts[COUNT.full] = FULL_STACKS
        return -1
    t.stacks[stack, FRAME.back] = state
    t.stacks[stack, FRAME.iteration] = count
    t.stacks[stack, FRAME.parent] = parent
    t.stacks[stack, FRAME.collected] = 0
    t.stack_index[slot] = stack
    t.counts[COUNT.num_stacks] = stack + 1
    return int(stack)


@helper
def is_frame_of(stacks: Int64s, stack: int, repeat: int, parent: int) -> bool:
    """Whether the top frame of `stack` is of `repeat` on `parent`, whatever its count."""
    return bool(stacks[stack, FRAME.back] == repeat and stacks[stack, FRAME.parent] == parent)


@helper
def is_union(t: Tables, stack: int) -> bool:
    """Whether `stack` stands for several: its first and, further on, those of its rest."""
    return bool(stack != 0 and t.stacks[stack, FRAME.back] == UNION_STATE and t.stacks[stack, FRAME.iteration] >= 0)


@helper
def is_mergeable(t: Tables, item: int, number: int) -> bool:
    """Whether an item, one of `number` in its state, is not in a product, and its first frame counts nothing (or they
    are very many)."""
    stack = stack_of(item)
    is_plain = item >= 0 and (stack == 0 or t.stacks[stack, FRAME.iteration] < 0 or is_union(t, stack))
    return bool(is_plain or number > MANY_COUNTED)


@helper
def merge_pending(t: Tables) -> bool:
    """Make one item of those in one state, where they are many. `pending` is sorted, and stays so. False if full."""
    number = t.counts[COUNT.num_pending]
    kept = 0
    start = 0
    while start < number:
        end = start + 1
        while end < number and state_of(t.pending[end]) == state_of(t.pending[start]):
            end += 1
        merged = -1
        if end - start > MANY:
            merged = merged_stacks(t, start, end)
            if merged < -1:
                return False
        for position in range(start, end):
            item = t.pending[position]
            if merged < 0 or not is_mergeable(t, item, end - start):
                t.pending[kept] = item
                kept += 1
        if merged >= 0:
            item = item_of(state_of(t.pending[end - 1]), merged)
            place = kept
            while place > 0 and t.pending[place - 1] > item:
                t.pending[place] = t.pending[place - 1]
                place -= 1
            t.pending[place] = item
            kept += 1
        start = end
    t.counts[COUNT.num_pending] = kept
    return True


@helper
def merged_stacks(t: Tables, start: int, end: int) -> int:
    """The union of the stacks of mergeable items from `start` to `end`; -1 if they are few, -2 if a table is full."""
    many = 0
    for position in range(start, end):
        many += is_mergeable(t, t.pending[position], end - start)
    if many <= MANY:
        return -1
    t.counts[COUNT.generation] += 1
    size = 0
    for position in range(start, end):
        if is_mergeable(t, t.pending[position], end - start):
            size = collect(t, size, stack_of(t.pending[position]))
            if size < 0:
                return -2
    union = union_of(t, 0, size)
    return union if union >= 0 else -2


@helper
def collect(t: Tables, size: int, stack: int) -> int:
    """Put `stack`, or all that a union stands for, into `work` from `size` on, but for what was put there since
    GENERATION began: unions share what they end with. The new size, -1 if it is full."""
    while t.stacks[stack, FRAME.collected] != t.counts[COUNT.generation]:
        if size + 2 >= len(t.work):
            t.counts[COUNT.full] = FULL_WORK
            return -1
        t.stacks[stack, FRAME.collected] = t.counts[COUNT.generation]
        if not is_union(t, stack):
            t.work[size] = stack
            return size + 1
        t.work[size] = t.stacks[stack, FRAME.first]
        size += 1
        stack = t.stacks[stack, FRAME.rest]
    return size


@helper
def union_of(t: Tables, start: int, end: int) -> int:
    """The union of the stacks in `work` from `start` to `end`; one alone is itself. -1 if a table is full."""
    sort_work(t, start, end)
    union = t.work[start]
    for position in range(start + 1, end):
        if t.work[position] != t.work[position - 1]:
            union = intern_stack(t, UNION_STATE, t.work[position], union)
            if union < 0:
                return -1
    return int(union)


@helper
def sort_work(t: Tables, start: int, end: int) -> None:
    """Shell's sort with gaps that halve."""
    gap = 1
    while gap < (end - start) // 4:
        gap *= 2
    while gap > 0:
        for i in range(start + gap, end):
            stack = t.work[i]
            j = i - gap
            while j >= start and t.work[j] > stack:
                t.work[j + gap] = t.work[j]
                j -= gap
            t.work[j + gap] = stack
        gap //= 2
