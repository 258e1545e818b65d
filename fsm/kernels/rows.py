"""Rows: where each byte leads from a configuration, and whether a product can still accept, which rows wait for."""

from __future__ import annotations

from stemma.fsm.kernels.closure import add_task, product_accepts
from stemma.fsm.kernels.configurations import add_all_steps, intern_pending, step_product, target
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import hash_three
from stemma.fsm.kernels.tables import (
    ASKED,
    DEAD,
    FULL,
    FULL_QUEUE,
    GENERATION,
    INCOMPLETE,
    LIVE,
    NUM_TASKS,
    RANGE,
    ROW_TASK,
    UNKNOWN,
    Tables,
)

NOWHERE, SEVERAL = 1 << 62, (1 << 62) + 1  # what `only_successor` says: no item is as large


@helper
def mark_cuts(t: Tables, config: int) -> None:
    """Mark the bytes at which some item of `config` changes its mind; ask for the rows that products stand on."""
    t.cuts[:] = 0
    first = t.configs[config, 0]
    for position in range(first, first + t.configs[config, 1]):
        state = t.items[position] >> 32
        if state < 0:
            for side in range(1, 3):
                below = t.products[-1 - state, side]
                if t.rows[below, 0] < 0:
                    add_task(t, ROW_TASK, below)
                    continue
                for byte in range(1, 256):
                    if t.rows[below, byte] != t.rows[below, byte - 1]:
                        t.cuts[byte] = 1
        elif t.states[state, 0] == RANGE:
            if t.states[state, 1] < 256:
                t.cuts[t.states[state, 1]] = 1
                t.cuts[t.states[state, 2] + 1] = 1
        else:
            for edge in range(t.states[state, 1], t.states[state, 2]):
                if t.edges[edge, 0] < 256:
                    t.cuts[t.edges[edge, 0]] = 1
                    t.cuts[t.edges[edge, 1] + 1] = 1


@helper
def only_successor(t: Tables, first: int, end: int, byte: int) -> int:
    """What `byte` leads to before its closure (an item, or a state that is not one), if just one of the items `first`
    to `end` reads it; else NOWHERE or SEVERAL."""
    found = NOWHERE
    for position in range(first, end):
        item = t.items[position]
        following = step_product(t, -1 - (item >> 32), byte) if item < 0 else target(t, item >> 32, byte)
        if item < 0 and following >= 0:
            following = -1 - following
        elif following < 0:
            if following == -1:
                continue
            return SEVERAL  # a table is full: whoever steps them all will say so
        if found != NOWHERE:
            return SEVERAL
        found = (following << 32) | (item & 0x7FFFFFFF)
    return found


@helper
def fill_row(t: Tables, config: int) -> None:
    """One attempt at the row of `config`; INCOMPLETE or FULL are set where something is missing."""
    mark_cuts(t, config)
    if t.counts[INCOMPLETE] or t.counts[FULL]:
        return
    first = t.configs[config, 0]
    end = first + t.configs[config, 1]
    start = at_zero = 0
    while start < 256:
        stop = start + 1
        while stop < 256 and t.cuts[stop] == 0:
            stop += 1
        alone = only_successor(t, first, end, start)
        slot = hash_three(alone >> 32 & 0x7FFFFFFF, alone & 0x7FFFFFFF, 0) & (len(t.closures) - 1)
        if t.closures[slot, 0] == alone:
            following = t.closures[slot, 1]
        else:
            if not add_all_steps(t, config, start):
                return
            following = 0
            if t.counts[INCOMPLETE] == 0:
                following = intern_pending(t)
                if following < 0:
                    return
                if alone != SEVERAL:
                    t.closures[slot, 0] = alone
                    t.closures[slot, 1] = following
        if start == 0:
            at_zero = following
        else:
            t.rows[config, start] = following
        t.rows[config, start + 1 : stop] = following
        start = stop
    if t.counts[INCOMPLETE] == 0 and t.counts[FULL] == 0:
        t.rows[config, 0] = at_zero  # last: now the row counts as filled


@helper
def find_live(t: Tables, product: int) -> None:
    """One attempt to learn whether `product` can still accept: a breadth-first search over products."""
    t.counts[GENERATION] += 1
    generation = t.counts[GENERATION]
    t.queue[0, 0] = product
    t.queue[0, 1] = -1
    t.products[product, 4] = generation
    size = 1
    position = 0
    while position < size:
        here = t.queue[position, 0]
        if t.products[here, 3] == LIVE or product_accepts(t, here):
            while position >= 0:
                t.products[t.queue[position, 0], 3] = LIVE
                position = t.queue[position, 1]
            t.counts[INCOMPLETE] = 0
            return
        for side in range(1, 3):
            if t.rows[t.products[here, side], 0] < 0:
                add_task(t, ROW_TASK, t.products[here, side])
        if t.products[here, 3] == DEAD or t.counts[INCOMPLETE]:
            position += 1
            continue
        size = search_from(t, here, position, size)
        if size < 0:
            return
        position += 1
    if t.counts[INCOMPLETE] == 0:
        for position in range(size):
            t.products[t.queue[position, 0], 3] = DEAD


@helper
def search_from(t: Tables, product: int, position: int, size: int) -> int:
    """Queue what `product` leads to. The new size of the queue, -1 if a table is full."""
    left = t.products[product, 1]
    right = t.products[product, 2]
    for byte in range(256):
        if byte and t.rows[left, byte] == t.rows[left, byte - 1] and t.rows[right, byte] == t.rows[right, byte - 1]:
            continue
        following = step_product(t, product, byte)
        if following == -2:
            return -1
        if following < 0 or t.products[following, 4] == t.counts[GENERATION]:
            continue
        if size == len(t.queue):
            t.counts[FULL] = FULL_QUEUE
            return -1
        t.products[following, 4] = t.counts[GENERATION]
        t.queue[size, 0] = following
        t.queue[size, 1] = position
        size += 1
    return size


@helper
def attempt(t: Tables, kind: int, subject: int) -> None:
    if kind == ROW_TASK:
        if t.rows[subject, 0] < 0:
            fill_row(t, subject)
    elif t.products[subject, 3] == UNKNOWN:
        find_live(t, subject)


@helper
def run_tasks(t: Tables) -> bool:
    """Do everything in `tasks`, last first, with what it turns out to depend on. False if rules or room are missing."""
    while t.counts[NUM_TASKS] > 0:
        before = t.counts[NUM_TASKS]
        asked = t.counts[ASKED]
        t.counts[INCOMPLETE] = 0
        attempt(t, t.tasks[before - 1, 0], t.tasks[before - 1, 1])
        if t.counts[FULL] or t.counts[ASKED] != asked:
            return False
        if t.counts[INCOMPLETE] == 0:
            t.counts[NUM_TASKS] = before - 1
    return True


@helper
def ensure_row(t: Tables, config: int) -> bool:
    """Fill the row of `config` if it is not. False if rules or room are missing: see to it and ask again."""
    if t.rows[config, 0] >= 0:
        return True
    t.counts[NUM_TASKS] = 0
    add_task(t, ROW_TASK, config)
    return run_tasks(t)
