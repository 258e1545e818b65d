"""Rows: where each byte leads from a configuration, and whether a product can still accept, which rows wait for."""

from __future__ import annotations

from stemma.fsm.kernels.closure import add_task, product_accepts
from stemma.fsm.kernels.columns import (
    CLOSURE,
    CONFIG,
    COUNT,
    EDGE,
    FILLED,
    PAIR,
    QUEUED,
    STATE,
    TASK,
    is_filled,
    item_of,
    product_of,
    stack_of,
    state_of,
)
from stemma.fsm.kernels.configurations import add_all_steps, intern_pending, step_product, target
from stemma.fsm.kernels.interning import hash_item
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.tables import (
    DEAD,
    FULL_QUEUE,
    LIVE,
    RANGE,
    ROW_TASK,
    UNKNOWN,
    Tables,
)

NOWHERE, SEVERAL = 1 << 62, (1 << 62) + 1  # what `only_successor` says: no item is as large
ASCII_END, BYTES_END = 128, 256


@helper
def mark_cuts(t: Tables, config: int) -> None:
    """Mark the bytes at which some item of `config` changes its mind; ask for the rows that products stand on."""
    t.cuts[:] = 0
    first = t.configs[config, CONFIG.first]
    for position in range(first, first + t.configs[config, CONFIG.size]):
        state = state_of(t.items[position])
        if state < 0:
            for side in (PAIR.left, PAIR.right):
                below = t.products[product_of(state), side]
                if not is_filled(t.rows, below):
                    add_task(t, ROW_TASK, below)
                    continue
                for byte in range(1, 256):
                    if t.rows[below, byte] != t.rows[below, byte - 1]:
                        t.cuts[byte] = 1
        elif t.states[state, STATE.kind] == RANGE:
            if t.states[state, STATE.low] < 256:
                t.cuts[t.states[state, STATE.low]] = 1
                t.cuts[t.states[state, STATE.high] + 1] = 1
        else:
            for edge in range(t.states[state, STATE.first_edge], t.states[state, STATE.end_edge]):
                if t.edges[edge, EDGE.low] < 256:
                    t.cuts[t.edges[edge, EDGE.low]] = 1
                    t.cuts[t.edges[edge, EDGE.high] + 1] = 1


@helper
def only_successor(t: Tables, first: int, end: int, byte: int) -> int:
    """What `byte` leads to before its closure (an item, or a state that is not one), if just one of the items `first`
    to `end` reads it; else NOWHERE or SEVERAL."""
    found = NOWHERE
    for position in range(first, end):
        item = t.items[position]
        state = state_of(item)
        following = step_product(t, product_of(state), byte) if item < 0 else target(t, state, byte)
        if item < 0 and following >= 0:
            following = product_of(following)
        elif following < 0:
            if following == -1:
                continue
            return SEVERAL  # a table is full: whoever steps them all will say so
        if found != NOWHERE:
            return SEVERAL
        found = item_of(following, stack_of(item))
    return found


@helper
def fill_row(t: Tables, config: int) -> None:
    """One attempt at the row of `config`; INCOMPLETE or FULL are set where something is missing."""
    mark_cuts(t, config)
    if t.counts[COUNT.incomplete] or t.counts[COUNT.full]:
        return
    first = t.configs[config, CONFIG.first]
    end = first + t.configs[config, CONFIG.size]
    start = at_zero = 0
    while start < 256:
        stop = start + 1
        while stop < 256 and t.cuts[stop] == 0:
            stop += 1
        alone = only_successor(t, first, end, start)
        slot = hash_item(alone) & (len(t.closures) - 1)
        if t.closures[slot, CLOSURE.start] == alone:
            following = t.closures[slot, CLOSURE.config]
        else:
            if not add_all_steps(t, config, start):
                return
            following = 0
            if t.counts[COUNT.incomplete] == 0:
                following = intern_pending(t)
                if following < 0:
                    return
                if alone != SEVERAL:
                    t.closures[slot, CLOSURE.start] = alone
                    t.closures[slot, CLOSURE.config] = following
        if start == 0:
            at_zero = following
        else:
            t.rows[config, start] = following
        t.rows[config, start + 1 : stop] = following
        start = stop
    if t.counts[COUNT.incomplete] == 0 and t.counts[COUNT.full] == 0:
        t.rows[config, FILLED] = at_zero  # last: now the row counts as filled


@helper
def find_live(t: Tables, product: int) -> None:
    """One attempt to learn whether `product` can still accept. Most can by ASCII alone, and have fewer ways there:
    parts of longer characters are looked at only where it takes them."""
    if not search_live(t, product, ASCII_END) and t.counts[COUNT.incomplete] == 0 and t.counts[COUNT.full] == 0:
        search_live(t, product, BYTES_END)


@helper
def search_live(t: Tables, product: int, preferred: int) -> bool:
    """A breadth-first search over products, with bytes below `preferred` where there are any; whether `product` can
    accept. With all bytes, all that are met cannot if it cannot."""
    t.counts[COUNT.generation] += 1
    generation = t.counts[COUNT.generation]
    t.queue[0, QUEUED.product] = product
    t.queue[0, QUEUED.origin] = -1
    t.products[product, PAIR.search] = generation
    size = 1
    position = 0
    while position < size:
        here = t.queue[position, QUEUED.product]
        if t.products[here, PAIR.liveness] == LIVE or product_accepts(t, here):
            while position >= 0:
                t.products[t.queue[position, QUEUED.product], PAIR.liveness] = LIVE
                position = t.queue[position, QUEUED.origin]
            t.counts[COUNT.incomplete] = 0
            return True
        for side in (PAIR.left, PAIR.right):
            if not is_filled(t.rows, t.products[here, side]):
                add_task(t, ROW_TASK, t.products[here, side])
        if t.products[here, PAIR.liveness] == DEAD or t.counts[COUNT.incomplete]:
            position += 1
            continue
        size = search_from(t, here, position, size, preferred)
        if size < 0:
            return False
        position += 1
    if t.counts[COUNT.incomplete] == 0 and preferred == BYTES_END:
        for position in range(size):
            t.products[t.queue[position, QUEUED.product], PAIR.liveness] = DEAD
    return False


@helper
def search_from(t: Tables, product: int, position: int, size: int, preferred: int) -> int:
    """Queue what `product` leads to: with bytes below `preferred`, or with all if none of those leads on. The new size
    of the queue, -1 if a table is full."""
    left = t.products[product, PAIR.left]
    right = t.products[product, PAIR.right]
    leads_on = False
    for byte in range(256):
        if byte >= preferred and leads_on:
            break
        if byte and t.rows[left, byte] == t.rows[left, byte - 1] and t.rows[right, byte] == t.rows[right, byte - 1]:
            continue
        following = step_product(t, product, byte)
        if following == -2:
            return -1
        leads_on = leads_on or following >= 0
        if following < 0 or t.products[following, PAIR.search] == t.counts[COUNT.generation]:
            continue
        if size == len(t.queue):
            t.counts[COUNT.full] = FULL_QUEUE
            return -1
        t.products[following, PAIR.search] = t.counts[COUNT.generation]
        t.queue[size, QUEUED.product] = following
        t.queue[size, QUEUED.origin] = position
        size += 1
    return size


@helper
def attempt(t: Tables, kind: int, subject: int) -> None:
    if kind == ROW_TASK:
        if not is_filled(t.rows, subject):
            fill_row(t, subject)
    elif t.products[subject, PAIR.liveness] == UNKNOWN:
        find_live(t, subject)


@helper
def run_tasks(t: Tables) -> bool:
    """Do everything in `tasks`, last first, with what it turns out to depend on. False if rules or room are missing."""
    while t.counts[COUNT.num_tasks] > 0:
        before = t.counts[COUNT.num_tasks]
        asked = t.counts[COUNT.asked]
        t.counts[COUNT.incomplete] = 0
        attempt(t, t.tasks[before - 1, TASK.kind], t.tasks[before - 1, TASK.subject])
        if t.counts[COUNT.full] or t.counts[COUNT.asked] != asked:
            return False
        if t.counts[COUNT.incomplete] == 0:
            t.counts[COUNT.num_tasks] = before - 1
    return True


@helper
def ensure_row(t: Tables, config: int) -> bool:
    """Fill the row of `config` if it is not. False if rules or room are missing: see to it and ask again."""
    if is_filled(t.rows, config):
        return True
    t.counts[COUNT.num_tasks] = 0
    add_task(t, ROW_TASK, config)
    return run_tasks(t)
