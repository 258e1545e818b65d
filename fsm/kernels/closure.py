"""What may go on before a byte is read: everything that a state and a stack lead to, as kernels over `Tables`.

At first each call has its own frame. Where there are very many, the closure is made again and they are shared: see
`call_nodes`. Never raises, never allocates; what is missing is said in `counts`.
"""

from __future__ import annotations

from stemma.fsm.kernels.call_nodes import add_call, add_caller, is_node, return_to_callers
from stemma.fsm.kernels.columns import (
    CONFIG,
    COUNT,
    EDGE,
    FRAME,
    PAIR,
    SEEN,
    STATE,
    TASK,
    item_of,
    product_of,
    stack_of,
    start_of,
    state_of,
)
from stemma.fsm.kernels.interning import hash_item, slot_of
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import NOT_COUNTED, intern_stack, is_union
from stemma.fsm.kernels.tables import (
    BYTES,
    CALL,
    DIFFERENCE,
    FULL_NEEDED,
    FULL_PRODUCTS,
    FULL_TASKS,
    FULL_WORK,
    LIVE,
    LIVE_TASK,
    PRODUCT,
    RANGE,
    REPEAT,
    RETURN,
    SPLIT,
    UNKNOWN,
    Tables,
)

MANY_CALLS = 128  # in one closure that still have frames of their own
PRODUCT_ENTRY = 1 << 29  # a product state may be the entry of a rule, too


@helper
def intern_product(t: Tables, operation: int, left: int, right: int) -> int:
    """The id of two configurations side by side. -1 if full."""
    slot = slot_of(t.products, t.product_index, operation, left, right)
    if t.product_index[slot] >= 0:
        return int(t.product_index[slot])
    product = t.counts[COUNT.num_products]
    if product == len(t.products):
        t.counts[COUNT.full] = FULL_PRODUCTS
        return -1
    t.products[product, PAIR.operation] = operation
    t.products[product, PAIR.left] = left
    t.products[product, PAIR.right] = right
    t.products[product, PAIR.liveness] = UNKNOWN
    t.products[product, PAIR.search] = 0
    t.product_index[slot] = product
    t.counts[COUNT.num_products] = product + 1
    return int(product)


@helper
def product_accepts(t: Tables, product: int) -> bool:
    left = t.configs[t.products[product, PAIR.left], CONFIG.accepting] != 0
    right = t.configs[t.products[product, PAIR.right], CONFIG.accepting] != 0
    if t.products[product, PAIR.operation] == DIFFERENCE:
        return bool(left and not right)
    return bool(left and right)


@helper
def need(t: Tables, what: int) -> None:
    """Ask the owner of the tables for a rule (`what` >= 0) or the start of a product state (`start_of`)."""
    t.counts[COUNT.incomplete] = 1
    t.counts[COUNT.asked] += 1
    number = t.counts[COUNT.num_needed]
    for known in range(number):
        if t.needed[known] == what:
            return
    if number == len(t.needed):
        t.counts[COUNT.full] = FULL_NEEDED
        return
    t.needed[number] = what
    t.counts[COUNT.num_needed] = number + 1


@helper
def add_task(t: Tables, kind: int, subject: int) -> None:
    t.counts[COUNT.incomplete] = 1
    number = t.counts[COUNT.num_tasks]
    if number == len(t.tasks):
        t.counts[COUNT.full] = FULL_TASKS
        return
    t.tasks[number, TASK.kind] = kind
    t.tasks[number, TASK.subject] = subject
    t.counts[COUNT.num_tasks] = number + 1


@helper
def begin_set(t: Tables) -> None:
    t.counts[COUNT.num_pending] = 0
    t.counts[COUNT.calls] = 0
    t.counts[COUNT.sharing] = 0
    t.counts[COUNT.accepting] = 0
    t.counts[COUNT.work] += t.counts[COUNT.visits]
    t.counts[COUNT.visits] = 0
    t.counts[COUNT.generation] += 1


@helper
def is_new(t: Tables, item: int) -> bool:
    """Whether `item` was not seen since `begin_set`; it is now."""
    mask = len(t.seen) - 1
    generation = t.counts[COUNT.generation]
    slot = hash_item(item) & mask
    while t.seen[slot, SEEN.generation] == generation:
        if t.seen[slot, SEEN.item] == item:
            return False
        slot = (slot + 1) & mask
    t.seen[slot, SEEN.item] = item
    t.seen[slot, SEEN.generation] = generation
    t.counts[COUNT.visits] += 1
    return True


@helper
def add_item(t: Tables, item: int) -> None:
    t.pending[t.counts[COUNT.num_pending]] = item
    t.counts[COUNT.num_pending] += 1


@helper
def add_product(t: Tables, product: int, stack: int) -> bool:
    """A live product becomes an item; whether it accepts."""
    if t.products[product, PAIR.liveness] == UNKNOWN:
        add_task(t, LIVE_TASK, product)
    if t.products[product, PAIR.liveness] != LIVE:
        return False
    item = item_of(product_of(product), stack)
    if is_new(t, item):
        add_item(t, item)
    return product_accepts(t, product)


@helper
def close_over(t: Tables, state: int, stack: int) -> bool:
    """Add all items that `state` with `stack` reaches without a byte. False if a table is full, or if the calls are too
    many to be apart (then nothing is full)."""
    t.work[0] = item_of(state, stack)
    depth = 1
    while depth > 0:
        depth -= 1
        item = t.work[depth]
        state = state_of(item)
        stack = stack_of(item)
        kind = t.states[state, STATE.kind]
        first = t.states[state, STATE.first_edge]
        end = t.states[state, STATE.end_edge]
        if kind == SPLIT and end - first + depth > len(t.work) - 4:
            t.counts[COUNT.full] = FULL_WORK
            return False
        if not is_new(t, item):
            continue
        if t.counts[COUNT.visits] + 2 >= len(t.pending) or depth + 4 >= len(t.work):
            t.counts[COUNT.full] = FULL_WORK
            return False
        if kind in (RANGE, BYTES):
            add_item(t, item)
        elif kind == SPLIT:
            for edge in range(first, end):
                t.work[depth] = item_of(t.edges[edge, EDGE.target], stack)
                depth += 1
        elif kind == CALL:
            entry = t.rules[t.states[state, STATE.rule]]
            if entry < 0:
                need(t, t.states[state, STATE.rule])
                continue
            depth = enter(t, entry, t.states[state, STATE.next], NOT_COUNTED, stack, depth)
        elif kind == REPEAT:
            if t.states[state, STATE.minimum] == 0:
                t.work[depth] = item_of(t.states[state, STATE.next], stack)
                depth += 1
            depth = enter(t, t.states[state, STATE.body], state, 0, stack, depth)
        elif kind == PRODUCT:
            depth = enter_product(t, state, stack, depth)
        elif stack == 0:
            t.counts[COUNT.accepting] = 1
        elif is_node(stack):
            depth = return_to_callers(t, stack, depth)
        elif is_union(t, stack):
            t.work[depth] = item_of(state, t.stacks[stack, FRAME.first])
            t.work[depth + 1] = item_of(state, t.stacks[stack, FRAME.rest])
            depth += 2
        else:
            depth = pop_frame(t, stack, depth)
        if depth < 0:
            return False
    return True


@helper
def enter(t: Tables, entry: int, back: int, number: int, stack: int, depth: int) -> int:
    """Call what begins at `entry`, to return to `back` (a repeat that was gone through `number` times, or -1) on
    `stack`. The new depth of `work`, -1 if a table is full or there are too many calls."""
    t.counts[COUNT.calls] += 1
    if t.counts[COUNT.sharing]:
        return add_call(t, entry, back, number, stack, depth)
    if t.counts[COUNT.calls] > MANY_CALLS:
        return -1
    if number >= 0 or t.states[back, STATE.kind] != RETURN:
        stack = intern_stack(t, back, number, stack)
        if stack < 0:
            return -1
    t.work[depth] = item_of(entry, stack)
    return depth + 1


@helper
def enter_product(t: Tables, state: int, stack: int, depth: int) -> int:
    """The two sides of a product begin. The new depth of `work`, -1 if a table is full."""
    left = t.states[state, STATE.left]
    if left < 0:
        need(t, start_of(state))
        return depth
    following = t.states[state, STATE.next]
    product = intern_product(t, t.states[state, STATE.operation], left, t.states[state, STATE.right])
    if product < 0:
        return -1
    if t.counts[COUNT.sharing]:
        t.counts[COUNT.calls] += 1
        inner = add_caller(t, PRODUCT_ENTRY | state, following, NOT_COUNTED, stack)
    else:
        inner = intern_stack(t, following, NOT_COUNTED, stack)
    if inner < 0:
        return -1
    if add_product(t, product, inner):
        t.work[depth] = item_of(following, stack)
        depth += 1
    return depth


@helper
def pop_frame(t: Tables, stack: int, depth: int) -> int:
    """A rule, a product or the body of a repeat has ended: push what follows. The new depth of `work`, -1 if full."""
    state = t.stacks[stack, FRAME.back]
    parent = t.stacks[stack, FRAME.parent]
    if t.states[state, STATE.kind] != REPEAT or t.stacks[stack, FRAME.iteration] < 0:
        t.work[depth] = item_of(state, parent)
        return depth + 1
    minimum = t.states[state, STATE.minimum]
    maximum = t.states[state, STATE.maximum]
    number = t.stacks[stack, FRAME.iteration] + 1
    if number >= minimum:
        t.work[depth] = item_of(t.states[state, STATE.next], parent)
        depth += 1
        if maximum < 0:
            number = minimum
    if maximum < 0 or number < maximum:
        depth = enter(t, t.states[state, STATE.body], state, number, parent, depth)
    return depth
