"""Iterations of counted repetitions that look alike, as kernels: the same configuration some iterations earlier.

Automata with counters, rather than states unrolled: closures look at a count only to compare it with the limits of its
repeat. Two configurations that differ by the count of one repeat alone read the same tokens, as long as no token passes
a limit from either. So a mask in the fortieth iteration is that of an early one, less some long tokens:

    ([a-z]+ ){0,50}     in word 2 of 50    the mask, and how many words its tokens get on: at most 6
                        in word 40         10 are left: the same mask
                        in word 47         3 are left: the same, but tokens of more than 3 bytes are looked at

Nothing here computes the early one's.
"""

from __future__ import annotations

from typing import NamedTuple

from stemma.fsm.kernels.closure import add_item, begin_set
from stemma.fsm.kernels.columns import CONFIG, COUNT, FRAME, PATH, STATE, item_of, stack_of, state_of
from stemma.fsm.kernels.configurations import intern_pending
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import intern_stack, is_frame_of, is_union
from stemma.fsm.kernels.tables import REPEAT, Int64s, Tables

LEAST_LEFT = 3  # with fewer iterations left, some token nearly always passes the limit
MOST_FRAMES = 64  # that are looked at for each item
MOST_TRIES = 16  # repeats that are looked at
MISSING, TOO_DEEP = -1, -2


class Repetition(NamedTuple):
    """A counted repeat in which a configuration could as well stand some iterations earlier."""

    earlier: int  # how many; 0 if this is the earliest one alike
    repeat: int  # its state; 0: there is none
    parent: int  # the frames below it
    left: int  # iterations that are left at least


@helper
def lowest_alike(t: Tables, repeat: int) -> int:
    """The first count from which on the minimum of `repeat` has no say any more."""
    return max(int(t.states[repeat, STATE.minimum]) - 1, 0)


@helper
def frame_of(t: Tables, stack: int, repeat: int, parent: int) -> int:
    """The frame of `repeat` on `parent` among the frames of `stack`; 0 if there is none, -1 if that is not one
    question, since the stack is several."""
    while stack > parent:
        if is_union(t, stack):
            return -1
        if is_frame_of(t.stacks, stack, repeat, parent) and t.stacks[stack, FRAME.iteration] >= 0:
            return stack
        stack = t.stacks[stack, FRAME.parent]
    return 0


@helper
def find_repetition(t: Tables, config: int) -> Repetition:
    """The innermost repeat that `config` stands in and could stand in at an earlier iteration, which is alike; if there
    is none, the innermost one whose earliest such iteration this is."""
    found = Repetition(0, 0, 0, 0)
    first = t.configs[config, CONFIG.first]
    end = first + t.configs[config, CONFIG.size]
    tries = 0
    repeat = parent = -1  # of the last try
    for position in range(first, end):
        stack = stack_of(t.items[position])
        for _ in range(MOST_FRAMES):
            if stack == 0 or is_union(t, stack):
                break
            if t.stacks[stack, FRAME.iteration] >= 0 and not is_frame_of(t.stacks, stack, repeat, parent):
                repeat = t.stacks[stack, FRAME.back]
                parent = t.stacks[stack, FRAME.parent]
                tries += 1
                if tries > MOST_TRIES:
                    return found
                here = repetition_of(t, first, end, repeat, parent)
                if here.earlier > 0:
                    return here
                if here.repeat > 0 and found.repeat == 0:
                    found = here
            stack = t.stacks[stack, FRAME.parent]
    return found


@helper
def repetition_of(t: Tables, first: int, end: int, repeat: int, parent: int) -> Repetition:
    """The repetition of `repeat` on `parent`, if it is limited, and all items that stand in it are in iterations alike
    and not among the last; else that of no repeat."""
    lowest = t.states[repeat, STATE.maximum]
    if t.states[repeat, STATE.kind] != REPEAT or lowest < 0:
        return Repetition(0, 0, 0, 0)
    highest = 0
    for position in range(first, end):
        here = frame_of(t, stack_of(t.items[position]), repeat, parent)
        if here < 0:
            return Repetition(0, 0, 0, 0)
        if here > 0:
            lowest = min(lowest, t.stacks[here, FRAME.iteration])
            highest = max(highest, t.stacks[here, FRAME.iteration])
    iterations = lowest - lowest_alike(t, repeat)
    maximum = t.states[repeat, STATE.maximum]
    if iterations < 0 or highest + LEAST_LEFT >= maximum:
        return Repetition(0, 0, 0, 0)
    return Repetition(iterations, repeat, parent, maximum - highest)


@helper
def moved_back(t: Tables, stack: int, repetition: Repetition, path: Int64s) -> int:
    """`stack` with its frame of the repeat some iterations earlier. MISSING if a table is full, or TOO_DEEP."""
    frame = frame_of(t, stack, repetition.repeat, repetition.parent)
    if frame == 0:
        return stack
    depth = 0
    while stack != frame:
        if depth == MOST_FRAMES:
            return TOO_DEEP
        path[depth, PATH.stack] = stack
        depth += 1
        stack = t.stacks[stack, FRAME.parent]
    stack = intern_stack(t, repetition.repeat, t.stacks[frame, FRAME.iteration] - repetition.earlier, repetition.parent)
    while depth > 0 and stack >= 0:
        depth -= 1
        above = path[depth, PATH.stack]
        stack = intern_stack(t, t.stacks[above, FRAME.back], t.stacks[above, FRAME.iteration], stack)
    return stack


@helper
def earlier_iteration(t: Tables, config: int, path: Int64s, repetition: Repetition) -> int:
    """The configuration like `config` as many iterations earlier as `find_repetition` says; 0 if its stacks are too
    deep for that, MISSING if a table is full."""
    begin_set(t)
    first = t.configs[config, CONFIG.first]
    for position in range(first, first + t.configs[config, CONFIG.size]):
        item = t.items[position]
        stack = moved_back(t, stack_of(item), repetition, path)
        if stack < 0:
            return 0 if stack == TOO_DEEP else MISSING
        add_item(t, item_of(state_of(item), stack))
    t.counts[COUNT.accepting] = t.configs[config, CONFIG.accepting]
    return intern_pending(t)


@helper
def last_iteration(t: Tables, repetition: Repetition) -> int:
    """The highest count of the repeat that the last WALK, the tokens of one mask, got to."""
    highest = 0
    for config in range(1, t.counts[COUNT.num_configs]):
        if t.configs[config, CONFIG.walked] != t.counts[COUNT.walk]:
            continue
        highest = max(highest, highest_iteration(t, config, repetition))
        for byte in range(256):
            following = t.rows[config, byte]
            if following > 0 and (byte == 0 or following != t.rows[config, byte - 1]):
                highest = max(highest, highest_iteration(t, following, repetition))
    return highest


@helper
def highest_iteration(t: Tables, config: int, repetition: Repetition) -> int:
    """The highest count of the repeat among the items of `config`, -1 if none stands in it."""
    highest = -1
    first = t.configs[config, CONFIG.first]
    for position in range(first, first + t.configs[config, CONFIG.size]):
        frame = frame_of(t, stack_of(t.items[position]), repetition.repeat, repetition.parent)
        if frame < 0:
            return int(t.states[repetition.repeat, STATE.maximum])  # nobody knows
        if frame > 0:
            highest = max(highest, t.stacks[frame, FRAME.iteration])
    return highest


@helper
def is_later_iteration(t: Tables, config: int, other: int, repetition: Repetition) -> bool:
    """Whether `other` is in a later iteration than `config` of the repeat, if there is one."""
    return bool(
        repetition.repeat and highest_iteration(t, other, repetition) > highest_iteration(t, config, repetition)
    )
