"""The lazy pushdown automaton: from a configuration and a byte to the next configuration. Kernels over `Tables`.

A configuration is the set of everything that may be going on: items (state, stack). Rows are filled on demand; a row
that meets a rule not yet built, or a full table, says so in `count` and is asked again. Never raises, never allocates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stemma.fsm.kernels.call_nodes import resolve_nodes
from stemma.fsm.kernels.closure import add_product, add_task, begin_set, close_over, intern_product, product_accepts
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import MANY, hash_three, merge_pending
from stemma.fsm.kernels.tables import (
    ACCEPTING,
    ASKED,
    DEAD,
    DIFFERENCE,
    DISTANCE,
    FULL,
    FULL_CONFIGS,
    FULL_ITEMS,
    FULL_QUEUE,
    FULL_WORK,
    GENERATION,
    INCOMPLETE,
    LIVE,
    MARK,
    NUM_CONFIGS,
    NUM_ITEMS,
    NUM_NEEDED,
    NUM_PENDING,
    NUM_TASKS,
    RANGE,
    ROW_TASK,
    SHARING,
    UNKNOWN,
    VISITS,
    WALKED,
    Tables,
)

RETURN_STATE = 0  # what any rule ends with
NOWHERE, SEVERAL = 1 << 62, (1 << 62) + 1  # what `only_successor` says: no item is as large
Octets = npt.NDArray[np.uint8]


@helper
def sort_pending(t: Tables, number: int) -> None:
    """Shell's sort with gaps that halve."""
    gap = 1
    while gap < number // 4:
        gap *= 2
    while gap > 0:
        for i in range(gap, number):
            item = t.pending[i]
            j = i - gap
            while j >= 0 and t.pending[j] > item:
                t.pending[j + gap] = t.pending[j]
                j -= gap
            t.pending[j + gap] = item
        gap //= 2


@helper
def intern_pending(t: Tables) -> int:
    """The id of the configuration of the pending items. -1 if a table is full."""
    number = t.counts[NUM_PENDING]
    if number == 0 and t.counts[ACCEPTING] == 0:
        return 0
    sort_pending(t, number)
    if t.counts[SHARING]:
        number = without_twins(t, number)
    if number > MANY:
        if not merge_pending(t):
            return -1
        number = t.counts[NUM_PENDING]
    value = t.counts[ACCEPTING]
    for i in range(number):
        value = hash_three(value, t.pending[i] >> 32 & 0x7FFFFFFF, t.pending[i] & 0x7FFFFFFF)
    mask = len(t.config_index) - 1
    slot = value & mask
    while t.config_index[slot] >= 0:
        config = t.config_index[slot]
        if t.configs[config, 3] == value and same_items(t, config, number):
            return int(config)
        slot = (slot + 1) & mask
    config = t.counts[NUM_CONFIGS]
    if config == len(t.configs) or 2 * config > mask:
        t.counts[FULL] = FULL_CONFIGS
        return -1
    first = t.counts[NUM_ITEMS]
    if first + number > len(t.items):
        t.counts[FULL] = FULL_ITEMS
        return -1
    for i in range(number):
        t.items[first + i] = t.pending[i]
    t.configs[config, 0] = first
    t.configs[config, 1] = number
    t.configs[config, 2] = t.counts[ACCEPTING]
    t.configs[config, 3] = value
    t.configs[config, MARK] = t.configs[config, WALKED] = 0
    t.configs[config, DISTANCE] = -1
    t.config_index[slot] = config
    t.rows[config, 0] = -1
    t.counts[NUM_ITEMS] = first + number
    t.counts[NUM_CONFIGS] = config + 1
    return int(config)


@helper
def without_twins(t: Tables, number: int) -> int:
    """Keep one of equal items among the sorted ones; how many that makes."""
    kept = 0
    for position in range(number):
        if kept == 0 or t.pending[position] != t.pending[kept - 1]:
            t.pending[kept] = t.pending[position]
            kept += 1
    t.counts[NUM_PENDING] = kept
    return kept


@helper
def same_items(t: Tables, config: int, number: int) -> bool:
    if t.configs[config, 1] != number or t.configs[config, 2] != t.counts[ACCEPTING]:
        return False
    first = t.configs[config, 0]
    for i in range(number):  # noqa: SIM110 - a loop that numba compiles
        if t.items[first + i] != t.pending[i]:
            return False
    return True


@helper
def target(t: Tables, state: int, byte: int) -> int:
    """Where a RANGE or BYTES state goes with `byte` (or a special symbol, 256 and up), or -1."""
    if t.states[state, 0] == RANGE:
        if t.states[state, 1] <= byte <= t.states[state, 2]:
            return int(t.states[state, 3])
        return -1
    low = t.states[state, 1]
    high = t.states[state, 2] - 1
    while low <= high:
        middle = (low + high) >> 1
        if byte < t.edges[middle, 0]:
            high = middle - 1
        elif byte > t.edges[middle, 1]:
            low = middle + 1
        else:
            return int(t.edges[middle, 2])
    return -1


@helper
def step_product(t: Tables, product: int, byte: int) -> int:
    """The product after `byte` (rows of both sides are filled): its id, -1 if it ends, -2 if a table is full."""
    left = t.rows[t.products[product, 1], byte]
    right = t.rows[t.products[product, 2], byte]
    operation = t.products[product, 0]
    if left == 0 or (right == 0 and operation != DIFFERENCE):
        return -1
    following = intern_product(t, operation, left, right)
    if following < 0:
        return -2
    return following


@helper
def add_step(t: Tables, item: int, byte: int) -> bool:
    """Add what `item` becomes after `byte`. False if a table is full."""
    state = item >> 32
    stack = item & 0x7FFFFFFF
    if state >= 0:
        following = target(t, state, byte)
        return following < 0 or close_over(t, following, stack)
    if byte > 255:
        return True
    if t.counts[VISITS] + 2 >= len(t.pending):
        t.counts[FULL] = FULL_WORK
        return False
    product = step_product(t, -1 - state, byte)
    if product < 0:
        return product == -1
    return not add_product(t, product, stack) or close_over(t, RETURN_STATE, stack)


@helper
def add_all_steps(t: Tables, config: int, byte: int) -> bool:
    """Make what all items of `config` become after `byte` the pending ones. False if a table is full."""
    begin_set(t)
    if add_each_step(t, config, byte):
        return True
    if t.counts[FULL]:
        return False
    begin_set(t)
    t.counts[SHARING] = 1
    return add_each_step(t, config, byte) and resolve_nodes(t)


@helper
def add_each_step(t: Tables, config: int, byte: int) -> bool:
    first = t.configs[config, 0]
    for position in range(first, first + t.configs[config, 1]):  # noqa: SIM110 - a loop that numba compiles
        if not add_step(t, t.items[position], byte):
            return False
    return True


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


@helper
def add_start(t: Tables, state: int, stack: int) -> bool:
    """Make what `state` on `stack` leads to the pending items. False if a table is full."""
    begin_set(t)
    if close_over(t, state, stack):
        return True
    if t.counts[FULL]:
        return False
    begin_set(t)
    t.counts[SHARING] = 1
    return close_over(t, state, stack) and resolve_nodes(t)


@helper
def start_at(t: Tables, state: int, stack: int) -> int:
    """The configuration before anything of `state` on `stack` is read. -1 if rules or room are missing."""
    while True:
        t.counts[INCOMPLETE] = 0
        t.counts[NUM_TASKS] = 0
        if not add_start(t, state, stack) or t.counts[NUM_NEEDED] or t.counts[FULL]:
            return -1
        if t.counts[INCOMPLETE] == 0:
            return intern_pending(t)
        if not run_tasks(t):
            return -1


@helper
def step_special(t: Tables, config: int, symbol: int) -> int:
    """The configuration after a special token (256 and up). -1 if rules or room are missing."""
    while True:
        t.counts[INCOMPLETE] = 0
        t.counts[NUM_TASKS] = 0
        if not add_all_steps(t, config, symbol) or t.counts[NUM_NEEDED] or t.counts[FULL]:
            return -1
        if t.counts[INCOMPLETE] == 0:
            return intern_pending(t)
        if not run_tasks(t):
            return -1


@helper
def step_bytes(t: Tables, config: int, data: Octets) -> int:
    """The configuration after all of `data`, 0 if it is not allowed. -1 if rules or room are missing."""
    for byte in data:
        if not ensure_row(t, config):
            return -1
        config = t.rows[config, byte]
        if config == 0:
            return 0
    return config
