"""Calls of one closure, shared: what makes ambiguous grammars take bounded work. Kernels over `Tables`.

Where many ways lead to one rule before a byte is read, they read it together: it is entered once, on a *node* that
stands for all its callers (Tomita 1985; Earley's sets), so there are as many stacks as there are rules. `calls` keeps
who called: entry, where to return to, the count of a repeat (or -1), the stack below. When the closure is made, each
node becomes the union of its callers' frames, those that are called last first.
"""

from __future__ import annotations

from stemma.fsm.kernels.columns import CALLER, COUNT, SEEN, STATE, item_of, stack_of, state_of
from stemma.fsm.kernels.interning import hash_item
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import collect, intern_stack, union_of
from stemma.fsm.kernels.tables import FULL_WORK, RETURN, Tables

NODE = 1 << 30  # a stack of this and the state that is entered is a node


@helper
def is_node(stack: int) -> bool:
    return stack >= NODE


@helper
def was_seen(t: Tables, item: int) -> bool:
    """Whether `item` was met in this closure."""
    mask = len(t.seen) - 1
    slot = hash_item(item) & mask
    while t.seen[slot, SEEN.generation] == t.counts[COUNT.generation]:
        if t.seen[slot, SEEN.item] == item:
            return True
        slot = (slot + 1) & mask
    return False


@helper
def add_caller(t: Tables, entry: int, back: int, number: int, stack: int) -> int:
    """One more caller of `entry`, counted already: the node's stack, -1 if a table is full."""
    row = t.counts[COUNT.calls] - 1
    if row == len(t.calls):
        t.counts[COUNT.full] = FULL_WORK
        return -1
    t.calls[row, CALLER.entry] = entry
    t.calls[row, CALLER.back] = back
    t.calls[row, CALLER.iteration] = number
    t.calls[row, CALLER.parent] = stack
    t.calls[row, CALLER.resolved] = -1
    return NODE | entry


@helper
def add_call(t: Tables, entry: int, back: int, number: int, stack: int, depth: int) -> int:
    """Enter `entry` on its node; what follows it too, where it has ended without a byte. The new depth of `work`, -1 if
    a table is full. What ends a rule that stands on a node has the same callers: it needs no node, and rules that end
    with each other make no circle."""
    if is_node(stack) and number < 0 and t.states[back, STATE.kind] == RETURN:
        t.counts[COUNT.calls] -= 1
        t.work[depth] = item_of(entry, stack)
        return depth + 1
    node = add_caller(t, entry, back, number, stack)
    if node < 0:
        return -1
    t.work[depth] = item_of(entry, node)
    depth += 1
    if was_seen(t, node):
        depth = return_to(t, back, number, stack, depth)
    return depth


@helper
def return_to(t: Tables, back: int, number: int, stack: int, depth: int) -> int:
    """Go on behind what has read nothing. A repeat ends at once: what may be empty may be so each time."""
    t.work[depth] = item_of(back if number < 0 else t.states[back, STATE.next], stack)
    return depth + 1


@helper
def return_to_callers(t: Tables, node: int, depth: int) -> int:
    """What was entered has ended without a byte (a state that returns is the item `node` itself): go on behind all its
    callers so far. The new depth of `work`, -1 if it is full."""
    for row in range(t.counts[COUNT.calls]):
        if NODE | t.calls[row, CALLER.entry] == node:
            if depth + 4 >= len(t.work):
                t.counts[COUNT.full] = FULL_WORK
                return -1
            caller = t.calls[row]
            depth = return_to(t, caller[CALLER.back], caller[CALLER.iteration], caller[CALLER.parent], depth)
    return depth


@helper
def resolve_nodes(t: Tables) -> bool:
    """Give all pending items stacks in place of nodes. False if a table is full, or where a rule calls itself before a
    byte is read: more room does not help there, so that a limit will say so."""
    sort_calls(t, t.counts[COUNT.calls])
    left = t.counts[COUNT.calls] + 1
    while left > 0:
        before = left
        left = resolve_ready(t)
        if left < 0:
            return False
        if left == before:
            t.counts[COUNT.full] = FULL_WORK
            return False
    for position in range(t.counts[COUNT.num_pending]):
        item = t.pending[position]
        if is_node(stack_of(item)):
            t.pending[position] = item_of(state_of(item), resolved(t, stack_of(item)))
    return True


@helper
def resolve_ready(t: Tables) -> int:
    """Resolve the nodes of which all callers stand on stacks by now. How many are left, -1 if a table is full."""
    number = t.counts[COUNT.calls]
    left = 0
    start = 0
    while start < number:
        end = start + 1
        ready = resolved(t, t.calls[start, CALLER.parent]) >= 0
        while end < number and t.calls[end, CALLER.entry] == t.calls[start, CALLER.entry]:
            ready = ready and resolved(t, t.calls[end, CALLER.parent]) >= 0
            end += 1
        if t.calls[start, CALLER.resolved] < 0:
            if ready:
                stack = callers_of(t, start, end)
                if stack < 0:
                    return -1
                t.calls[start, CALLER.resolved] = stack
            else:
                left += 1
        start = end
    return left


@helper
def resolved(t: Tables, stack: int) -> int:
    """The stack that a node has become, -1 if it has not yet; another stack itself. `calls` is sorted."""
    if not is_node(stack):
        return stack
    entry = stack - NODE
    low = 0
    high = t.counts[COUNT.calls]
    while low < high:
        middle = (low + high) >> 1
        if t.calls[middle, CALLER.entry] < entry:
            low = middle + 1
        else:
            high = middle
    return int(t.calls[low, CALLER.resolved])


@helper
def callers_of(t: Tables, start: int, end: int) -> int:
    """The union of the frames of the callers from `start` to `end`, one frame for those that differ only by what is
    below them. -1 if a table is full."""
    size = 0
    while start < end:
        back = t.calls[start, CALLER.back]
        number = t.calls[start, CALLER.iteration]
        first = size
        t.counts[COUNT.generation] += 1
        while start < end and t.calls[start, CALLER.back] == back and t.calls[start, CALLER.iteration] == number:
            size = collect(t, size, resolved(t, t.calls[start, CALLER.parent]))
            if size < 0:
                return -1
            start += 1
        if number < 0 and t.states[back, STATE.kind] == RETURN:
            continue
        below = union_of(t, first, size)
        frame = intern_stack(t, back, number, below) if below >= 0 else -1
        if frame < 0:
            return -1
        t.work[first] = frame
        size = first + 1
    return union_of(t, 0, size)


@helper
def sort_calls(t: Tables, number: int) -> None:
    """Shell's sort with gaps that halve, by entry, return and count."""
    gap = 1
    while gap < number // 4:
        gap *= 2
    while gap > 0:
        for i in range(gap, number):
            entry = t.calls[i, CALLER.entry]
            back = t.calls[i, CALLER.back]
            count = t.calls[i, CALLER.iteration]
            below = t.calls[i, CALLER.parent]
            j = i - gap
            while j >= 0 and comes_later(t, j, entry, back, count):
                for column in range(4):
                    t.calls[j + gap, column] = t.calls[j, column]
                j -= gap
            t.calls[j + gap, CALLER.entry] = entry
            t.calls[j + gap, CALLER.back] = back
            t.calls[j + gap, CALLER.iteration] = count
            t.calls[j + gap, CALLER.parent] = below
        gap //= 2


@helper
def comes_later(t: Tables, row: int, entry: int, back: int, number: int) -> bool:
    if t.calls[row, CALLER.entry] != entry:
        return bool(t.calls[row, CALLER.entry] > entry)
    if t.calls[row, CALLER.back] != back:
        return bool(t.calls[row, CALLER.back] > back)
    return bool(t.calls[row, CALLER.iteration] > number)
