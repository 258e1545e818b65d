"""What may go on before a byte is read: everything that a state and a stack lead to, as kernels over `Tables`.

At first each call has its own frame. Where there are very many, the closure is made again and they are shared: see
`call_nodes`. Never raises, never allocates; what is missing is said in `counts`.
"""

from __future__ import annotations

from stemma.fsm.kernels.call_nodes import add_call, add_caller, is_node, return_to_callers
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import hash_three, intern_stack, is_union
from stemma.fsm.kernels.tables import (
    ACCEPTING,
    ASKED,
    BYTES,
    CALL,
    CALLS,
    DIFFERENCE,
    FULL,
    FULL_NEEDED,
    FULL_PRODUCTS,
    FULL_TASKS,
    FULL_WORK,
    GENERATION,
    INCOMPLETE,
    LIVE,
    LIVE_TASK,
    NUM_NEEDED,
    NUM_PENDING,
    NUM_PRODUCTS,
    NUM_TASKS,
    PRODUCT,
    RANGE,
    REPEAT,
    RETURN,
    SHARING,
    SPLIT,
    UNKNOWN,
    VISITS,
    WORK,
    Tables,
)

MANY_CALLS = 128  # in one closure that still have frames of their own
PRODUCT_ENTRY = 1 << 29  # a product state may be the entry of a rule, too


@helper
def intern_product(t: Tables, operation: int, left: int, right: int) -> int:
    """The id of two configurations side by side. -1 if full."""
    mask = len(t.product_index) - 1
    slot = hash_three(operation, left, right) & mask
    while t.product_index[slot] >= 0:
        product = t.product_index[slot]
        if t.products[product, 0] == operation and t.products[product, 1] == left and t.products[product, 2] == right:
            return int(product)
        slot = (slot + 1) & mask
    product = t.counts[NUM_PRODUCTS]
    if product == len(t.products):
        t.counts[FULL] = FULL_PRODUCTS
        return -1
    t.products[product, 0] = operation
    t.products[product, 1] = left
    t.products[product, 2] = right
    t.products[product, 3] = UNKNOWN
    t.products[product, 4] = 0
    t.product_index[slot] = product
    t.counts[NUM_PRODUCTS] = product + 1
    return int(product)


@helper
def product_accepts(t: Tables, product: int) -> bool:
    left = t.configs[t.products[product, 1], 2] != 0
    right = t.configs[t.products[product, 2], 2] != 0
    if t.products[product, 0] == DIFFERENCE:
        return bool(left and not right)
    return bool(left and right)


@helper
def need(t: Tables, what: int) -> None:
    """Ask the owner of the tables for a rule (`what` >= 0) or the start of a product state (-1 - state)."""
    t.counts[INCOMPLETE] = 1
    t.counts[ASKED] += 1
    number = t.counts[NUM_NEEDED]
    for known in range(number):
        if t.needed[known] == what:
            return
    if number == len(t.needed):
        t.counts[FULL] = FULL_NEEDED
        return
    t.needed[number] = what
    t.counts[NUM_NEEDED] = number + 1


@helper
def add_task(t: Tables, kind: int, subject: int) -> None:
    t.counts[INCOMPLETE] = 1
    number = t.counts[NUM_TASKS]
    if number == len(t.tasks):
        t.counts[FULL] = FULL_TASKS
        return
    t.tasks[number, 0] = kind
    t.tasks[number, 1] = subject
    t.counts[NUM_TASKS] = number + 1


@helper
def begin_set(t: Tables) -> None:
    t.counts[NUM_PENDING] = 0
    t.counts[CALLS] = 0
    t.counts[SHARING] = 0
    t.counts[ACCEPTING] = 0
    t.counts[WORK] += t.counts[VISITS]
    t.counts[VISITS] = 0
    t.counts[GENERATION] += 1


@helper
def is_new(t: Tables, item: int) -> bool:
    """Whether `item` was not seen since `begin_set`; it is now."""
    mask = len(t.seen) - 1
    generation = t.counts[GENERATION]
    slot = hash_three(item >> 32 & 0x7FFFFFFF, item & 0x7FFFFFFF, 0) & mask
    while t.seen[slot, 1] == generation:
        if t.seen[slot, 0] == item:
            return False
        slot = (slot + 1) & mask
    t.seen[slot, 0] = item
    t.seen[slot, 1] = generation
    t.counts[VISITS] += 1
    return True


@helper
def add_item(t: Tables, item: int) -> None:
    t.pending[t.counts[NUM_PENDING]] = item
    t.counts[NUM_PENDING] += 1


@helper
def add_product(t: Tables, product: int, stack: int) -> bool:
    """A live product becomes an item; whether it accepts."""
    if t.products[product, 3] == UNKNOWN:
        add_task(t, LIVE_TASK, product)
    if t.products[product, 3] != LIVE:
        return False
    item = ((-1 - product) << 32) | stack
    if is_new(t, item):
        add_item(t, item)
    return product_accepts(t, product)


@helper
def close_over(t: Tables, state: int, stack: int) -> bool:
    """Add all items that `state` with `stack` reaches without a byte. False if a table is full, or if the calls are too
    many to be apart (then nothing is full)."""
    t.work[0] = (state << 32) | stack
    depth = 1
    while depth > 0:
        depth -= 1
        item = t.work[depth]
        state = item >> 32
        stack = item & 0x7FFFFFFF
        if t.states[state, 0] == SPLIT and t.states[state, 2] - t.states[state, 1] + depth > len(t.work) - 4:
            t.counts[FULL] = FULL_WORK
            return False
        if not is_new(t, item):
            continue
        if t.counts[VISITS] + 2 >= len(t.pending) or depth + 4 >= len(t.work):
            t.counts[FULL] = FULL_WORK
            return False
        kind = t.states[state, 0]
        if kind in (RANGE, BYTES):
            add_item(t, item)
        elif kind == SPLIT:
            for edge in range(t.states[state, 1], t.states[state, 2]):
                t.work[depth] = (t.edges[edge, 2] << 32) | stack
                depth += 1
        elif kind == CALL:
            entry = t.rules[t.states[state, 1]]
            if entry < 0:
                need(t, t.states[state, 1])
                continue
            depth = enter(t, entry, t.states[state, 2], -1, stack, depth)
        elif kind == REPEAT:
            if t.states[state, 3] == 0:
                t.work[depth] = (t.states[state, 2] << 32) | stack
                depth += 1
            depth = enter(t, t.states[state, 1], state, 0, stack, depth)
        elif kind == PRODUCT:
            depth = enter_product(t, state, stack, depth)
        elif stack == 0:
            t.counts[ACCEPTING] = 1
        elif is_node(stack):
            depth = return_to_callers(t, stack, depth)
        elif is_union(t, stack):
            t.work[depth] = (state << 32) | t.stacks[stack, 1]
            t.work[depth + 1] = (state << 32) | t.stacks[stack, 2]
            depth += 2
        else:
            depth = pop_frame(t, stack, depth)
        if depth < 0:
            return False
    return True


@helper
def enter(t: Tables, entry: int, back: int, number: int, stack: int, depth: int) -> int:
    """Call what begins at `entry`, to return to `back` (a repeat that has turned `number` times, or -1) on `stack`.
    The new depth of `work`, -1 if a table is full or there are too many calls."""
    t.counts[CALLS] += 1
    if t.counts[SHARING]:
        return add_call(t, entry, back, number, stack, depth)
    if t.counts[CALLS] > MANY_CALLS:
        return -1
    if number >= 0 or t.states[back, 0] != RETURN:
        stack = intern_stack(t, back, number, stack)
        if stack < 0:
            return -1
    t.work[depth] = (entry << 32) | stack
    return depth + 1


@helper
def enter_product(t: Tables, state: int, stack: int, depth: int) -> int:
    """The two sides of a product begin. The new depth of `work`, -1 if a table is full."""
    if t.states[state, 3] < 0:
        need(t, -1 - state)
        return depth
    following = t.states[state, 1]
    product = intern_product(t, t.states[state, 2], t.states[state, 3], t.states[state, 4])
    if product < 0:
        return -1
    if t.counts[SHARING]:
        t.counts[CALLS] += 1
        inner = add_caller(t, PRODUCT_ENTRY | state, following, -1, stack)
    else:
        inner = intern_stack(t, following, -1, stack)
    if inner < 0:
        return -1
    if add_product(t, product, inner):
        t.work[depth] = (following << 32) | stack
        depth += 1
    return depth


@helper
def pop_frame(t: Tables, stack: int, depth: int) -> int:
    """A rule, a product or the body of a repeat has ended: push what follows. The new depth of `work`, -1 if full."""
    state = t.stacks[stack, 0]
    parent = t.stacks[stack, 2]
    if t.states[state, 0] != REPEAT or t.stacks[stack, 1] < 0:
        t.work[depth] = (state << 32) | parent
        return depth + 1
    minimum = t.states[state, 3]
    maximum = t.states[state, 4]
    number = t.stacks[stack, 1] + 1
    if number >= minimum:
        t.work[depth] = (t.states[state, 2] << 32) | parent
        depth += 1
        if maximum < 0:
            number = minimum
    if maximum < 0 or number < maximum:
        depth = enter(t, t.states[state, 1], state, number, parent, depth)
    return depth
