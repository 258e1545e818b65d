"""Calls of one closure, shared: what makes ambiguous grammars take bounded work. Kernels over `Tables`.

Where many ways lead to one rule before a byte is read, they read it together: it is entered once, on a *node* that
stands for all its callers (Tomita 1985; Earley's sets), so there are as many stacks as there are rules. `calls` keeps
who called: entry, where to return to, the count of a repeat (or -1), the stack below. When the closure is made, each
node becomes the union of its callers' frames, those that are called last first.
"""

from __future__ import annotations

from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import collect, hash_three, intern_stack, union_of
from stemma.fsm.kernels.tables import CALLS, FULL, FULL_WORK, GENERATION, NUM_PENDING, RETURN, Tables

NODE = 1 << 30  # a stack of this and the state that is entered is a node
BACK, NUMBER, BELOW, RESOLVED = 1, 2, 3, 4


@helper
def is_node(stack: int) -> bool:
    return stack >= NODE


@helper
def was_seen(t: Tables, item: int) -> bool:
    """Whether `item` was met in this closure."""
    mask = len(t.seen) - 1
    slot = hash_three(item >> 32 & 0x7FFFFFFF, item & 0x7FFFFFFF, 0) & mask
    while t.seen[slot, 1] == t.counts[GENERATION]:
        if t.seen[slot, 0] == item:
            return True
        slot = (slot + 1) & mask
    return False


@helper
def add_caller(t: Tables, entry: int, back: int, number: int, stack: int) -> int:
    """One more caller of `entry`, counted already: the node's stack, -1 if a table is full."""
    row = t.counts[CALLS] - 1
    if row == len(t.calls):
        t.counts[FULL] = FULL_WORK
        return -1
    t.calls[row, 0] = entry
    t.calls[row, BACK] = back
    t.calls[row, NUMBER] = number
    t.calls[row, BELOW] = stack
    t.calls[row, RESOLVED] = -1
    return NODE | entry


@helper
def add_call(t: Tables, entry: int, back: int, number: int, stack: int, depth: int) -> int:
    """Enter `entry` on its node; what follows it too, where it has ended without a byte. The new depth of `work`, -1 if
    a table is full. What ends a rule that stands on a node has the same callers: it needs no node, and rules that end
    with each other make no circle."""
    if is_node(stack) and number < 0 and t.states[back, 0] == RETURN:
        t.counts[CALLS] -= 1
        t.work[depth] = (entry << 32) | stack
        return depth + 1
    node = add_caller(t, entry, back, number, stack)
    if node < 0:
        return -1
    t.work[depth] = (entry << 32) | node
    depth += 1
    if was_seen(t, node):
        depth = return_to(t, back, number, stack, depth)
    return depth


@helper
def return_to(t: Tables, back: int, number: int, stack: int, depth: int) -> int:
    """Go on behind what has read nothing. A repeat ends at once: what may be empty may be so in all its turns."""
    t.work[depth] = ((back if number < 0 else t.states[back, 2]) << 32) | stack
    return depth + 1


@helper
def return_to_callers(t: Tables, node: int, depth: int) -> int:
    """What was entered has ended without a byte (a state that returns is the item `node` itself): go on behind all its
    callers so far. The new depth of `work`, -1 if it is full."""
    for row in range(t.counts[CALLS]):
        if NODE | t.calls[row, 0] == node:
            if depth + 4 >= len(t.work):
                t.counts[FULL] = FULL_WORK
                return -1
            depth = return_to(t, t.calls[row, BACK], t.calls[row, NUMBER], t.calls[row, BELOW], depth)
    return depth


@helper
def resolve_nodes(t: Tables) -> bool:
    """Give all pending items stacks in place of nodes. False if a table is full, or where a rule calls itself before a
    byte is read: more room does not help there, so that a limit will say so."""
    sort_calls(t, t.counts[CALLS])
    left = t.counts[CALLS] + 1
    while left > 0:
        before = left
        left = resolve_ready(t)
        if left < 0:
            return False
        if left == before:
            t.counts[FULL] = FULL_WORK
            return False
    for position in range(t.counts[NUM_PENDING]):
        item = t.pending[position]
        if is_node(item & 0x7FFFFFFF):
            t.pending[position] = (item >> 32 << 32) | resolved(t, item & 0x7FFFFFFF)
    return True


@helper
def resolve_ready(t: Tables) -> int:
    """Resolve the nodes of which all callers stand on stacks by now. How many are left, -1 if a table is full."""
    number = t.counts[CALLS]
    left = 0
    start = 0
    while start < number:
        end = start + 1
        ready = resolved(t, t.calls[start, BELOW]) >= 0
        while end < number and t.calls[end, 0] == t.calls[start, 0]:
            ready = ready and resolved(t, t.calls[end, BELOW]) >= 0
            end += 1
        if t.calls[start, RESOLVED] < 0:
            if ready:
                stack = callers_of(t, start, end)
                if stack < 0:
                    return -1
                t.calls[start, RESOLVED] = stack
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
    high = t.counts[CALLS]
    while low < high:
        middle = (low + high) >> 1
        if t.calls[middle, 0] < entry:
            low = middle + 1
        else:
            high = middle
    return int(t.calls[low, RESOLVED])


@helper
def callers_of(t: Tables, start: int, end: int) -> int:
    """The union of the frames of the callers from `start` to `end`, one frame for those that differ only by what is
    below them. -1 if a table is full."""
    size = 0
    while start < end:
        back = t.calls[start, BACK]
        number = t.calls[start, NUMBER]
        first = size
        t.counts[GENERATION] += 1
        while start < end and t.calls[start, BACK] == back and t.calls[start, NUMBER] == number:
            size = collect(t, size, resolved(t, t.calls[start, BELOW]))
            if size < 0:
                return -1
            start += 1
        if number < 0 and t.states[back, 0] == RETURN:
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
            entry = t.calls[i, 0]
            back = t.calls[i, BACK]
            count = t.calls[i, NUMBER]
            below = t.calls[i, BELOW]
            j = i - gap
            while j >= 0 and comes_later(t, j, entry, back, count):
                for column in range(4):
                    t.calls[j + gap, column] = t.calls[j, column]
                j -= gap
            t.calls[j + gap, 0] = entry
            t.calls[j + gap, BACK] = back
            t.calls[j + gap, NUMBER] = count
            t.calls[j + gap, BELOW] = below
        gap //= 2


@helper
def comes_later(t: Tables, row: int, entry: int, back: int, number: int) -> bool:
    if t.calls[row, 0] != entry:
        return bool(t.calls[row, 0] > entry)
    if t.calls[row, BACK] != back:
        return bool(t.calls[row, BACK] > back)
    return bool(t.calls[row, NUMBER] > number)
