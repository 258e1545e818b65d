"""Configurations: sets of pending items, sorted, freed of twins and interned; what items become after a byte."""

from __future__ import annotations

from stemma.fsm.kernels.call_nodes import resolve_nodes
from stemma.fsm.kernels.closure import add_product, begin_set, close_over, intern_product
from stemma.fsm.kernels.columns import (
    CONFIG,
    COUNT,
    EDGE,
    FILLED,
    LOW_BITS,
    PAIR,
    STATE,
    product_of,
    stack_of,
    state_of,
)
from stemma.fsm.kernels.interning import hash_three
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import MANY, merge_pending
from stemma.fsm.kernels.tables import (
    DIFFERENCE,
    FULL_CONFIGS,
    FULL_ITEMS,
    FULL_WORK,
    RANGE,
    Tables,
)

RETURN_STATE = 0  # what any rule ends with


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
    number = t.counts[COUNT.num_pending]
    if number == 0 and t.counts[COUNT.accepting] == 0:
        return 0
    sort_pending(t, number)
    if t.counts[COUNT.sharing]:
        number = without_twins(t, number)
    if number > MANY:
        if not merge_pending(t):
            return -1
        number = t.counts[COUNT.num_pending]
    value = t.counts[COUNT.accepting]
    for i in range(number):
        value = hash_three(value, state_of(t.pending[i]) & LOW_BITS, stack_of(t.pending[i]))
    mask = len(t.config_index) - 1
    slot = value & mask
    while t.config_index[slot] >= 0:
        config = t.config_index[slot]
        if t.configs[config, CONFIG.hash] == value and same_items(t, config, number):
            return int(config)
        slot = (slot + 1) & mask
    config = t.counts[COUNT.num_configs]
    if config == len(t.configs) or 2 * config > mask:
        t.counts[COUNT.full] = FULL_CONFIGS
        return -1
    first = t.counts[COUNT.num_items]
    if first + number > len(t.items):
        t.counts[COUNT.full] = FULL_ITEMS
        return -1
    for i in range(number):
        t.items[first + i] = t.pending[i]
    t.configs[config, CONFIG.first] = first
    t.configs[config, CONFIG.size] = number
    t.configs[config, CONFIG.accepting] = t.counts[COUNT.accepting]
    t.configs[config, CONFIG.hash] = value
    t.configs[config, CONFIG.mark] = t.configs[config, CONFIG.walked] = 0
    t.configs[config, CONFIG.distance] = -1
    t.config_index[slot] = config
    t.rows[config, FILLED] = -1
    t.counts[COUNT.num_items] = first + number
    t.counts[COUNT.num_configs] = config + 1
    return int(config)


@helper
def without_twins(t: Tables, number: int) -> int:
    """Keep one of equal items among the sorted ones; how many that makes."""
    kept = 0
    for position in range(number):
        if kept == 0 or t.pending[position] != t.pending[kept - 1]:
            t.pending[kept] = t.pending[position]
            kept += 1
    t.counts[COUNT.num_pending] = kept
    return kept


@helper
def same_items(t: Tables, config: int, number: int) -> bool:
    if t.configs[config, CONFIG.size] != number or t.configs[config, CONFIG.accepting] != t.counts[COUNT.accepting]:
        return False
    first = t.configs[config, CONFIG.first]
    for i in range(number):  # noqa: SIM110 - a loop that is compiled
        if t.items[first + i] != t.pending[i]:
            return False
    return True


@helper
def target(t: Tables, state: int, byte: int) -> int:
    """Where a RANGE or BYTES state goes with `byte` (or a special symbol, 256 and up), or -1."""
    if t.states[state, STATE.kind] == RANGE:
        if t.states[state, STATE.low] <= byte <= t.states[state, STATE.high]:
            return int(t.states[state, STATE.target])
        return -1
    low = t.states[state, STATE.first_edge]
    high = t.states[state, STATE.end_edge] - 1
    while low <= high:
        middle = (low + high) >> 1
        if byte < t.edges[middle, EDGE.low]:
            high = middle - 1
        elif byte > t.edges[middle, EDGE.high]:
            low = middle + 1
        else:
            return int(t.edges[middle, EDGE.target])
    return -1


@helper
def step_product(t: Tables, product: int, byte: int) -> int:
    """The product after `byte` (rows of both sides are filled): its id, -1 if it ends, -2 if a table is full."""
    left = t.rows[t.products[product, PAIR.left], byte]
    right = t.rows[t.products[product, PAIR.right], byte]
    operation = t.products[product, PAIR.operation]
    if left == 0 or (right == 0 and operation != DIFFERENCE):
        return -1
    following = intern_product(t, operation, left, right)
    if following < 0:
        return -2
    return following


@helper
def add_step(t: Tables, item: int, byte: int) -> bool:
    """Add what `item` becomes after `byte`. False if a table is full."""
    state = state_of(item)
    stack = stack_of(item)
    if state >= 0:
        following = target(t, state, byte)
        return following < 0 or close_over(t, following, stack)
    if byte > 255:
        return True
    if t.counts[COUNT.visits] + 2 >= len(t.pending):
        t.counts[COUNT.full] = FULL_WORK
        return False
    product = step_product(t, product_of(state), byte)
    if product < 0:
        return product == -1
    return not add_product(t, product, stack) or close_over(t, RETURN_STATE, stack)


@helper
def add_all_steps(t: Tables, config: int, byte: int) -> bool:
    """Make what all items of `config` become after `byte` the pending ones. False if a table is full."""
    begin_set(t)
    if add_each_step(t, config, byte):
        return True
    if t.counts[COUNT.full]:
        return False
    begin_set(t)
    t.counts[COUNT.sharing] = 1
    return add_each_step(t, config, byte) and resolve_nodes(t)


@helper
def add_each_step(t: Tables, config: int, byte: int) -> bool:
    first = t.configs[config, CONFIG.first]
    for position in range(first, first + t.configs[config, CONFIG.size]):
        if not add_step(t, t.items[position], byte):
            return False
    return True
