"""Turns of counted repeats that look alike, as kernels: the same configuration some turns earlier.

Closures look at a count only to compare it with the limits of its repeat. Two configurations that differ by the count
of one repeat alone read the same tokens, as long as no token passes a limit from either. So a mask in the fortieth
turn is that of an early one, less some long tokens. Nothing here computes the early one's.
"""

from __future__ import annotations

from stemma.fsm.kernels.closure import add_item, begin_set
from stemma.fsm.kernels.configurations import intern_pending
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.stacks import intern_stack, is_union
from stemma.fsm.kernels.tables import ACCEPTING, NUM_CONFIGS, REPEAT, WALK, WALKED, Int64s, Tables

# What `find_turning` finds, behind what `classify` does: how many turns earlier, the repeat (0: there is none), the
# frames below it, and how many turns are left at least.
TURNS, TURNING, BELOW, LEFT = range(7, 11)
LEAST_LEFT = 3  # with fewer turns left, some token nearly always passes the limit
MOST_FRAMES = 64  # that are looked at for each item
MOST_TRIES = 16  # repeats that are looked at
MISSING, TOO_DEEP = -1, -2


@helper
def lowest_alike(t: Tables, repeat: int) -> int:
    """The first count from which on the minimum of `repeat` has no say any more."""
    return max(int(t.states[repeat, 3]) - 1, 0)


@helper
def turn_of(t: Tables, stack: int, repeat: int, below: int) -> int:
    """The frame of `repeat` on `below` among the frames of `stack`; 0 if there is none, -1 if that is not one
    question, since the stack is several."""
    while stack > below:
        if is_union(t, stack):
            return -1
        if t.stacks[stack, 0] == repeat and t.stacks[stack, 2] == below and t.stacks[stack, 1] >= 0:
            return stack
        stack = t.stacks[stack, 2]
    return 0


@helper
def find_turning(t: Tables, config: int, found: Int64s) -> None:
    """The innermost repeat that `config` stands in and could stand in at an earlier turn, which is alike; if there is
    none, the innermost one whose earliest such turn this is."""
    found[TURNS] = found[TURNING] = 0
    first = t.configs[config, 0]
    end = first + t.configs[config, 1]
    tries = 0
    repeat = below = -1  # of the last try
    for position in range(first, end):
        stack = t.items[position] & 0x7FFFFFFF
        for _ in range(MOST_FRAMES):
            if stack == 0 or is_union(t, stack):
                break
            if t.stacks[stack, 1] >= 0 and (t.stacks[stack, 0] != repeat or t.stacks[stack, 2] != below):
                repeat = t.stacks[stack, 0]
                below = t.stacks[stack, 2]
                tries += 1
                if tries > MOST_TRIES or try_turning(t, first, end, stack, found):
                    return
            stack = t.stacks[stack, 2]


@helper
def try_turning(t: Tables, first: int, end: int, frame: int, found: Int64s) -> bool:
    """Put the repeat of `frame` into `found` if it is limited, and all items that stand in it are in turns alike and
    not among the last. Whether they could be in earlier ones."""
    repeat = t.stacks[frame, 0]
    below = t.stacks[frame, 2]
    lowest = t.states[repeat, 4]
    if t.states[repeat, 0] != REPEAT or lowest < 0:
        return False
    highest = 0
    for position in range(first, end):
        here = turn_of(t, t.items[position] & 0x7FFFFFFF, repeat, below)
        if here < 0:
            return False
        if here > 0:
            lowest = min(lowest, t.stacks[here, 1])
            highest = max(highest, t.stacks[here, 1])
    turns = lowest - lowest_alike(t, repeat)
    if turns < 0 or highest + LEAST_LEFT >= t.states[repeat, 4] or (turns == 0 and found[TURNING]):
        return False
    found[TURNS] = turns
    found[TURNING] = repeat
    found[BELOW] = below
    found[LEFT] = t.states[repeat, 4] - highest
    return bool(turns > 0)


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
        if frame < 0:
            return int(t.states[found[TURNING], 4])  # nobody knows
        if frame > 0:
            highest = max(highest, t.stacks[frame, 1])
    return highest


@helper
def is_later_turn(t: Tables, config: int, other: int, found: Int64s) -> bool:
    """Whether `other` is in a later turn than `config` of the repeat in `found`, if there is one."""
    return bool(found[TURNING] and highest_turn(t, other, found) > highest_turn(t, config, found))
