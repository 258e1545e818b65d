"""Turns of counted repeats that look alike, as kernels: the same configuration some turns earlier.

Closures look at a count only to compare it with the limits of its repeat. Two configurations that differ by the count
of one repeat alone read the same tokens, as long as no token passes a limit from either. So a mask in the fortieth
turn is that of an early one. Nothing here computes masks.
"""

from __future__ import annotations

from stemma.fsm.jit import helper
from stemma.fsm.step import add_item, begin_set, intern_pending, intern_stack
from stemma.fsm.tables import (
    ACCEPTING,
    BYTES,
    NUM_CONFIGS,
    RANGE,
    REPEAT,
    RETURN,
    SPLIT,
    WALK,
    WALKED,
    Int64s,
    Tables,
)

# What `find_turning` finds, behind what `classify` does: how many turns earlier, the repeat and the frames below it.
TURNS, TURNING, BELOW = range(7, 10)
LEAST_LEFT = 3  # with fewer turns left, some token nearly always passes the limit
MOST_FRAMES = 64  # that are looked at for each item
MISSING, TOO_DEEP = -1, -2


@helper
def lowest_alike(t: Tables, repeat: int) -> int:
    """The first count from which on the minimum of `repeat` has no say any more."""
    return max(int(t.states[repeat, 3]) - 1, 0)


@helper
def turn_of(t: Tables, stack: int, repeat: int, below: int) -> int:
    """The frame of `repeat` on `below` among the frames of `stack`; 0 if there is none."""
    while stack > below:
        if t.stacks[stack, 0] == repeat and t.stacks[stack, 2] == below and t.stacks[stack, 1] >= 0:
            return stack
        stack = t.stacks[stack, 2]
    return 0


@helper
def can_turn_back(t: Tables, frame: int) -> bool:
    """Whether a frame counts turns of a limited repeat, and there are earlier ones like it."""
    repeat = t.stacks[frame, 0]
    number = t.stacks[frame, 1]
    if number < 0 or t.states[repeat, 0] != REPEAT or t.states[repeat, 4] < 0:
        return False
    if number <= lowest_alike(t, repeat) or number + LEAST_LEFT >= t.states[repeat, 4]:
        return False
    return not may_be_a_byte(t, t.states[repeat, 1])


@helper
def may_be_a_byte(t: Tables, body: int) -> bool:
    """Whether a turn of `body` may take a single byte, as far as can be seen at once: tokens take many such turns."""
    if t.states[body, 0] != SPLIT:
        return takes_a_byte(t, body)
    for edge in range(t.states[body, 1], t.states[body, 2]):  # noqa: SIM110 - a loop that numba compiles
        if takes_a_byte(t, t.edges[edge, 2]):
            return True
    return False


@helper
def takes_a_byte(t: Tables, state: int) -> bool:
    """Whether a RANGE or BYTES state may end its rule, or its repeat's body, with one byte."""
    kind = t.states[state, 0]
    if kind == RANGE:
        return bool(t.states[t.states[state, 3], 0] == RETURN)
    if kind == BYTES:
        for edge in range(t.states[state, 1], t.states[state, 2]):
            if t.states[t.edges[edge, 2], 0] == RETURN:
                return True
    return False


@helper
def find_turning(t: Tables, config: int, found: Int64s) -> bool:
    """The innermost repeat that all items of `config` which stand in it could be in at an earlier turn, if any."""
    found[TURNS] = 0
    first = t.configs[config, 0]
    end = first + t.configs[config, 1]
    for position in range(first, end):
        stack = t.items[position] & 0x7FFFFFFF
        for _ in range(MOST_FRAMES):
            if stack == 0:
                break
            if can_turn_back(t, stack) and turns_back(t, first, end, t.stacks[stack, 0], t.stacks[stack, 2], found):
                return True
            stack = t.stacks[stack, 2]
    return False


@helper
def turns_back(t: Tables, first: int, end: int, repeat: int, below: int, found: Int64s) -> bool:
    """Whether the items can be in an earlier turn of `repeat`; then `found` says which."""
    lowest = t.states[repeat, 4]
    highest = 0
    for position in range(first, end):
        frame = turn_of(t, t.items[position] & 0x7FFFFFFF, repeat, below)
        if frame > 0:
            lowest = min(lowest, t.stacks[frame, 1])
            highest = max(highest, t.stacks[frame, 1])
    turns = lowest - lowest_alike(t, repeat)
    if turns <= 0 or highest + LEAST_LEFT >= t.states[repeat, 4]:
        return False
    found[TURNS] = turns
    found[TURNING] = repeat
    found[BELOW] = below
    return True


@helper
def turned_back(t: Tables, stack: int, found: Int64s, path: Int64s) -> int:
    """`stack` with its frame of the repeat some turns earlier. MISSING if a table is full, or TOO_DEEP."""
    frame = turn_of(t, stack, found[TURNING], found[BELOW])
    if frame == 0:
        return stack
    depth = 0
    while stack != frame:
        if depth == MOST_FRAMES:
            return TOO_DEEP
        path[depth, 0] = stack
        depth += 1
        stack = t.stacks[stack, 2]
    stack = intern_stack(t, found[TURNING], t.stacks[frame, 1] - found[TURNS], found[BELOW])
    while depth > 0 and stack >= 0:
        depth -= 1
        above = path[depth, 0]
        stack = intern_stack(t, t.stacks[above, 0], t.stacks[above, 1], stack)
    return stack


@helper
def earlier_turn(t: Tables, config: int, path: Int64s, found: Int64s) -> int:
    """The configuration like `config` as many turns earlier as `find_turning` says; 0 if its stacks are too deep for
    that, MISSING if a table is full."""
    begin_set(t)
    first = t.configs[config, 0]
    for position in range(first, first + t.configs[config, 1]):
        item = t.items[position]
        stack = turned_back(t, item & 0x7FFFFFFF, found, path)
        if stack < 0:
            return 0 if stack == TOO_DEEP else MISSING
        add_item(t, (item >> 32 << 32) | stack)
    t.counts[ACCEPTING] = t.configs[config, 2]
    return intern_pending(t)


@helper
def last_turn(t: Tables, found: Int64s) -> int:
    """The highest count of the repeat in `found` that the last WALK, the tokens of one mask, got to."""
    highest = 0
    for config in range(1, t.counts[NUM_CONFIGS]):
        if t.configs[config, WALKED] != t.counts[WALK]:
            continue
        highest = max(highest, highest_turn(t, config, found))
        for byte in range(256):
            following = t.rows[config, byte]
            if following > 0 and (byte == 0 or following != t.rows[config, byte - 1]):
                highest = max(highest, highest_turn(t, following, found))
    return highest


@helper
def highest_turn(t: Tables, config: int, found: Int64s) -> int:
    """The highest count of the repeat in `found` among the items of `config`, -1 if none stands in it."""
    highest = -1
    first = t.configs[config, 0]
    for position in range(first, first + t.configs[config, 1]):
        frame = turn_of(t, t.items[position] & 0x7FFFFFFF, found[TURNING], found[BELOW])
        if frame > 0:
            highest = max(highest, t.stacks[frame, 1])
    return highest
