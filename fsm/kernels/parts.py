"""Places of several texts at once, taken apart: the mask of many items is all that any part of them reads. Kernels.

Alternatives that are all texts (`anyOf` of a short text, an address and one of some words) stand in one configuration
until a character tells them apart. No slice leads through that, as counts and patterns go on beside each other; yet
each alternative alone is a text like others:

    text of at most 80 | uuid | "a" | "b"      part 1    a counter: a copy of a slice's mask
                                               part 2    hexadecimal digits: a short walk
                                               the rest  no wide item: a short walk

Any partition is exact. A good one keeps together what belongs to one text: an item, and what stands beside it again
after one of its characters.
"""

from __future__ import annotations

from stemma.fsm.kernels.closure import add_item, begin_set, close_over, product_accepts
from stemma.fsm.kernels.columns import CONFIG, COUNT, EDGE, FRAME, PAIR, PATH, STATE, product_of, stack_of, state_of
from stemma.fsm.kernels.configurations import RETURN_STATE, add_step, intern_pending
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.kinds import DELTA, MIN_SLICE, NOT_YET
from stemma.fsm.kernels.rows import ensure_row
from stemma.fsm.kernels.stacks import is_frame_of
from stemma.fsm.kernels.tables import DIFFERENCE, RANGE, Int64s, Tables

NO_PARTS = 0
MOST_ITEMS = 64  # of a configuration that is looked at
MOST_PARTS = 8
MOST_PAIRS = 96  # of configurations that are compared
WANTED, MARKED = 1, 2  # belongs to the part at hand: its own step is still to be looked at, or was


@helper
def find_parts(t: Tables, config: int, kind: int, path: Int64s) -> int:
    """Write the parts of `config`, a place of that kind whose row is filled, as configurations into `path`. Their
    number, NO_PARTS if it is one text, NOT_YET if a table is full."""
    first = t.configs[config, CONFIG.first]
    size = t.configs[config, CONFIG.size]
    if size < 2 or size > MOST_ITEMS:
        return NO_PARTS
    for position in range(size):
        path[position, PATH.node] = 0  # not in any part yet
    number = 0
    for position in range(size):
        if path[position, PATH.node] or number == MOST_PARTS or not is_wide(t, t.items[first + position]):
            continue
        is_text = mark_part(t, first, size, position, path)
        if is_text < 0:
            return NOT_YET if t.counts[COUNT.full] else NO_PARTS
        if is_text == 0:
            continue
        part = intern_marked(t, first, size, PATH.base, MARKED, path)
        if part < 0:
            return NOT_YET
        if part == config:
            return NO_PARTS
        for place in range(size):
            path[place, PATH.node] = path[place, PATH.node] or path[place, PATH.base] == MARKED
        path[number, PATH.config] = part
        number += 1
    if number == 0 or (kind == DELTA and number < 2):
        return NO_PARTS
    rest = intern_marked(t, first, size, PATH.node, 0, path)
    if rest < 0:
        return NOT_YET
    if rest > 0:
        path[number, PATH.config] = rest
        number += 1
    return number if number > 1 else NO_PARTS


@helper
def is_wide(t: Tables, item: int) -> bool:
    """Whether an item reads so many printable bytes that a slice would serve it."""
    return widest_byte(t, item, MIN_SLICE) >= 0


@helper
def widest_byte(t: Tables, item: int, least: int) -> int:
    """A byte of the widest range that an item reads, -1 if it reads fewer than `least` printable bytes."""
    state = state_of(item)
    if state < 0:
        return wide_product(t, product_of(state), least)
    if t.states[state, STATE.kind] == RANGE:
        low = t.states[state, STATE.low]
        return int(low) if num_printable(low, t.states[state, STATE.high]) >= least else -1
    number = 0
    widest = -1
    found = 0
    for edge in range(t.states[state, STATE.first_edge], t.states[state, STATE.end_edge]):
        size = num_printable(t.edges[edge, EDGE.low], t.edges[edge, EDGE.high])
        number += size
        if size > widest:
            widest = size
            found = int(t.edges[edge, EDGE.low])
    return found if number >= least else -1


@helper
def num_printable(low: int, high: int) -> int:
    return max(min(int(high), 0x7E) - max(int(low), 0x20) + 1, 0)


@helper
def wide_product(t: Tables, product: int, least: int) -> int:
    """`widest_byte` of a product, whose sides have their rows."""
    left = t.products[product, PAIR.left]
    right = t.products[product, PAIR.right]
    number = 0
    found = 0
    for byte in range(0x20, 0x7F):
        if t.rows[left, byte] and (t.rows[right, byte] or t.products[product, PAIR.operation] == DIFFERENCE):
            number += 1
            found = byte
    return found if number >= least else -1


@helper
def mark_part(t: Tables, first: int, size: int, position: int, path: Int64s) -> int:
    """Mark the item at `position` and those that belong to it (`PATH.base`), be they in another part or not: 1, 0 if it
    does not stand again behind its characters, -1 if that cannot be told."""
    for place in range(size):
        path[place, PATH.base] = WANTED if place == position else 0
    found = 1
    while found > 0:
        found = 0
        for place in range(size):
            if path[place, PATH.base] != WANTED:
                continue
            path[place, PATH.base] = MARKED
            item = t.items[first + place]
            if place != position and not is_wide(t, item):
                continue
            if not step_alone(t, item):
                return -1
            if place == position and item >= 0 and not stands_again(t, item):
                return 0
            for other in range(size):
                if path[other, PATH.base] == 0 and stands_again(t, t.items[first + other]):
                    path[other, PATH.base] = WANTED
                    found += 1
    return 1


@helper
def find_widest(t: Tables, config: int, path: Int64s) -> int:
    """A part of a configuration which reads all that the others read, so that its mask is that of all: a text that may
    be anything by now, beside what it was searched for. NO_PARTS if there is none, NOT_YET if rules or room are
    missing."""
    first = t.configs[config, CONFIG.first]
    size = t.configs[config, CONFIG.size]
    number = 0
    for position in range(first, first + min(size, MOST_ITEMS)):
        number += is_wide(t, t.items[position])
    if number < 2 or size > MOST_ITEMS:
        return NO_PARTS
    for position in range(size):
        item = t.items[first + position]
        if item < 0 or not is_wide(t, item):
            continue
        if not step_alone(t, item):
            return NOT_YET if t.counts[COUNT.full] else NO_PARTS
        for other in range(size):
            path[other, PATH.base] = MARKED if stands_again(t, t.items[first + other]) else 0
        if path[position, PATH.base] != MARKED:
            continue
        part = intern_marked(t, first, size, PATH.base, MARKED, path)
        within = is_within(t, config, part, path) if 0 < part != config else part
        if within < 0:
            return NOT_YET
        if within and part != config:
            return part
    return NO_PARTS


@helper
def is_within(t: Tables, config: int, other: int, path: Int64s) -> int:
    """Whether `other` reads all that `config` reads: 1 or 0 (also where that takes long to tell), -1 if rules or room
    are missing."""
    path[0, PATH.config] = config
    path[0, PATH.base] = other
    size = 1
    position = 0
    while position < size:
        here = path[position, PATH.config]
        there = path[position, PATH.base]
        position += 1
        if not ensure_row(t, here) or not ensure_row(t, there):
            return NOT_YET
        for byte in range(256):
            mine = t.rows[here, byte]
            theirs = t.rows[there, byte]
            if mine == 0 or mine == theirs:
                continue
            if theirs == 0:
                return 0
            if byte and mine == t.rows[here, byte - 1] and theirs == t.rows[there, byte - 1]:
                continue
            known = 0
            while known < size and (path[known, PATH.config] != mine or path[known, PATH.base] != theirs):
                known += 1
            if known == MOST_PAIRS:
                return 0
            if known == size:
                path[size, PATH.config] = mine
                path[size, PATH.base] = theirs
                size += 1
    return 1


@helper
def step_alone(t: Tables, item: int) -> bool:
    """Make what an item becomes after one of its characters the pending items; of a product, what follows it."""
    begin_set(t)
    t.counts[COUNT.incomplete] = 0
    state = state_of(item)
    done = True
    if state >= 0:
        done = add_step(t, item, widest_byte(t, item, 0))
    elif product_accepts(t, product_of(state)):
        done = close_over(t, RETURN_STATE, stack_of(item))
    return done and t.counts[COUNT.incomplete] == 0


@helper
def stands_again(t: Tables, item: int) -> bool:
    """Whether `item` is pending, be it in the next iteration of its frame."""
    state = state_of(item)
    stack = stack_of(item)
    for place in range(t.counts[COUNT.num_pending]):
        other = t.pending[place]
        if other == item:
            return True
        if state_of(other) != state or t.stacks[stack, FRAME.iteration] < 0:
            continue
        again = stack_of(other)
        if (
            is_frame_of(t.stacks, again, t.stacks[stack, FRAME.back], t.stacks[stack, FRAME.parent])
            and t.stacks[again, FRAME.iteration] == t.stacks[stack, FRAME.iteration] + 1
        ):
            return True
    return False


@helper
def intern_marked(t: Tables, first: int, size: int, column: int, mark: int, path: Int64s) -> int:
    """The configuration of the items with that mark in that column: 0 if there are none, -1 if a table is full."""
    begin_set(t)
    for position in range(size):
        if path[position, column] == mark:
            add_item(t, t.items[first + position])
    return intern_pending(t)
