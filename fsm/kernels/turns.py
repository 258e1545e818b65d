"""Turns of counted repeats that look alike, as kernels: the same configuration some turns earlier.

Closures look at a count only to compare it with the limits of its repeat. Two configurations that differ by the count
of one repeat alone read the same tokens, as long as no token passes a limit from either. So a mask in the fortieth
turn is that of an early one, less some long tokens. Nothing here computes the early one's.
"""

from __future__ import annotations

from typing import NamedTuple

from stemma.fsm.kernels.closure import add_item, begin_set
from stemma.fsm.kernels.columns import CONFIG, COUNT, FRAME, PATH, STATE, item_of, stack_of, state_of
from stemma.fsm.kernels.configurations import intern_pending
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import intern_stack, is_frame_of, is_union
from stemma.fsm.kernels.tables import REPEAT, Int64s, Tables

LEAST_LEFT = 3  # with fewer turns left, some token nearly always passes the limit
MOST_FRAMES = 64  # that are looked at for each item
MOST_TRIES = 16  # repeats that are looked at
MISSING, TOO_DEEP = -1, -2


class Turning(NamedTuple):
    """A counted repeat in which a configuration could as well stand some turns earlier."""

    turns: int  # how many; 0 if this is the earliest one alike
    repeat: int  # its state; 0: there is none
    below: int  # the frames below it
    left: int  # turns that are left at least


@helper
def lowest_alike(t: Tables, repeat: int) -> int:
    """The first count from which on the minimum of `repeat` has no say any more."""
    return max(int(t.states[repeat, STATE.minimum]) - 1, 0)


@helper
def turn_of(t: Tables, stack: int, repeat: int, below: int) -> int:
    """The frame of `repeat` on `below` among the frames of `stack`; 0 if there is none, -1 if that is not one
    question, since the stack is several."""
    while stack > below:
        if is_union(t, stack):
            return -1
        if is_frame_of(t.stacks, stack, repeat, below) and t.stacks[stack, FRAME.iteration] >= 0:
            return stack
        stack = t.stacks[stack, FRAME.parent]
    return 0


@helper
def find_turning(t: Tables, config: int) -> Turning:
    """The innermost repeat that `config` stands in and could stand in at an earlier turn, which is alike; if there is
    none, the innermost one whose earliest such turn this is."""
    found = Turning(0, 0, 0, 0)
    first = t.configs[config, CONFIG.first]
    end = first + t.configs[config, CONFIG.size]
    tries = 0
    repeat = below = -1  # of the last try
    for position in range(first, end):
        stack = stack_of(t.items[position])
        for _ in range(MOST_FRAMES):
            if stack == 0 or is_union(t, stack):
                break
            if t.stacks[stack, FRAME.iteration] >= 0 and not is_frame_of(t.stacks, stack, repeat, below):
                repeat = t.stacks[stack, FRAME.back]
                below = t.stacks[stack, FRAME.parent]
                tries += 1
                if tries > MOST_TRIES:
                    return found
                here = turning_of(t, first, end, repeat, below)
                if here.turns > 0:
                    return here
                if here.repeat > 0 and found.repeat == 0:
                    found = here
            stack = t.stacks[stack, FRAME.parent]
    return found


@helper
def turning_of(t: Tables, first: int, end: int, repeat: int, below: int) -> Turning:
    """The turning of `repeat` on `below`, if it is limited, and all items that stand in it are in turns alike and not
    among the last; else that of no repeat."""
    lowest = t.states[repeat, STATE.maximum]
    if t.states[repeat, STATE.kind] != REPEAT or lowest < 0:
        return Turning(0, 0, 0, 0)
    highest = 0
    for position in range(first, end):
        here = turn_of(t, stack_of(t.items[position]), repeat, below)
        if here < 0:
            return Turning(0, 0, 0, 0)
        if here > 0:
            lowest = min(lowest, t.stacks[here, FRAME.iteration])
            highest = max(highest, t.stacks[here, FRAME.iteration])
    turns = lowest - lowest_alike(t, repeat)
    maximum = t.states[repeat, STATE.maximum]
    if turns < 0 or highest + LEAST_LEFT >= maximum:
        return Turning(0, 0, 0, 0)
    return Turning(turns, repeat, below, maximum - highest)


@helper
def turned_back(t: Tables, stack: int, turning: Turning, path: Int64s) -> int:
    """`stack` with its frame of the repeat some turns earlier. MISSING if a table is full, or TOO_DEEP."""
    frame = turn_of(t, stack, turning.repeat, turning.below)
    if frame == 0:
        return stack
    depth = 0
    while stack != frame:
        if depth == MOST_FRAMES:
            return TOO_DEEP
        path[depth, PATH.stack] = stack
        depth += 1
        stack = t.stacks[stack, FRAME.parent]
    stack = intern_stack(t, turning.repeat, t.stacks[frame, FRAME.iteration] - turning.turns, turning.below)
    while depth > 0 and stack >= 0:
        depth -= 1
        above = path[depth, PATH.stack]
        stack = intern_stack(t, t.stacks[above, FRAME.back], t.stacks[above, FRAME.iteration], stack)
    return stack


@helper
def earlier_turn(t: Tables, config: int, path: Int64s, turning: Turning) -> int:
    """The configuration like `config` as many turns earlier as `find_turning` says; 0 if its stacks are too deep for
    that, MISSING if a table is full."""
    begin_set(t)
    first = t.configs[config, CONFIG.first]
    for position in range(first, first + t.configs[config, CONFIG.size]):
        item = t.items[position]
        stack = turned_back(t, stack_of(item), turning, path)
        if stack < 0:
            return 0 if stack == TOO_DEEP else MISSING
        add_item(t, item_of(state_of(item), stack))
    t.counts[COUNT.accepting] = t.configs[config, CONFIG.accepting]
    return intern_pending(t)


@helper
def last_turn(t: Tables, turning: Turning) -> int:
    """The highest count of the repeat that turns that the last WALK, the tokens of one mask, got to."""
    highest = 0
    for config in range(1, t.counts[COUNT.num_configs]):
        if t.configs[config, CONFIG.walked] != t.counts[COUNT.walk]:
            continue
        highest = max(highest, highest_turn(t, config, turning))
        for byte in range(256):
            following = t.rows[config, byte]
            if following > 0 and (byte == 0 or following != t.rows[config, byte - 1]):
                highest = max(highest, highest_turn(t, following, turning))
    return highest


@helper
def highest_turn(t: Tables, config: int, turning: Turning) -> int:
    """The highest count of the repeat that turns among the items of `config`, -1 if none stands in it."""
    highest = -1
    first = t.configs[config, CONFIG.first]
    for position in range(first, first + t.configs[config, CONFIG.size]):
        frame = turn_of(t, stack_of(t.items[position]), turning.repeat, turning.below)
        if frame < 0:
            return int(t.states[turning.repeat, STATE.maximum])  # nobody knows
        if frame > 0:
            highest = max(highest, t.stacks[frame, FRAME.iteration])
    return highest


@helper
def is_later_turn(t: Tables, config: int, other: int, turning: Turning) -> bool:
    """Whether `other` is in a later turn than `config` of the repeat that turns, if there is one."""
    return bool(turning.repeat and highest_turn(t, other, turning) > highest_turn(t, config, turning))
