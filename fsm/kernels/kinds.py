"""What kind of place a configuration is, by which its mask is computed: see `masks`."""

from __future__ import annotations

from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.rows import ensure_row
from stemma.fsm.kernels.runs import BUT_LINES, NONE, WHOLE
from stemma.fsm.kernels.tables import RANGE, REPEAT, Int64s, Tables
from stemma.fsm.kernels.turns import find_turning, is_later_turn

# What `classify` finds, in found[KIND], with the base configuration in found[BASE]. The caller sets
# found[LONGEST], the length of the longest token. found[FREE] is how many turns it takes until a CHAIN may end,
# found[STRAYS] whether bytes lead from a PLAIN or a LOOP to others like it (see `regions`); behind that stands what
# `find_turning` finds.
PLAIN, LOOP, DELTA, CHAIN = range(4)
KIND, BASE, REMAINING, STEP_BYTE, LONGEST, FREE, STRAYS = range(7)
MIN_RUN = 20  # a run of fewer ASCII bytes is not worth a table: the walk is short


@helper
def only(t: Tables, config: int, low: int, high: int) -> int:
    """Where bytes `low` to `high` and no others lead from `config`, if to one place; 0 if not, -1 if not known."""
    if not ensure_row(t, config):
        return -1
    following = t.rows[config, low]
    for byte in range(256):
        if t.rows[config, byte] != (following if low <= byte <= high else 0):
            return 0
    return int(following)


@helper
def same_target(t: Tables, config: int, low: int, high: int) -> int:
    following = t.rows[config, low]
    for byte in range(low, high + 1):
        if t.rows[config, byte] != following:
            return 0
    return int(following)


@helper
def whole_characters(t: Tables, config: int) -> int:
    """Where every non-ASCII character leads from `config`, if to one place; 0 if not, -1 if not yet known."""
    for byte in range(0x80, 0xC2):
        if t.rows[config, byte]:
            return 0
    for byte in range(0xF5, 0x100):
        if t.rows[config, byte]:
            return 0
    two = same_target(t, config, 0xC2, 0xDF)
    three = same_target(t, config, 0xE3, 0xEC)
    four = same_target(t, config, 0xF1, 0xF3)
    if two == 0 or three == 0 or four == 0 or same_target(t, config, 0xEE, 0xEF) != three:
        return 0
    if t.rows[config, 0xE1] != three:
        return 0
    end = only(t, two, 0x80, 0xBF)
    if end <= 0:
        return end
    if t.rows[config, 0xE2] != three:
        lines = all_but_lines(t, t.rows[config, 0xE2], two, end)
        if lines <= 0:
            return lines
    known = min(leads_only(t, three, 0x80, 0xBF, two), leads_only(t, four, 0x80, 0xBF, three))
    known = min(known, leads_only(t, t.rows[config, 0xE0], 0xA0, 0xBF, two))
    known = min(known, leads_only(t, t.rows[config, 0xED], 0x80, 0x9F, two))
    known = min(known, leads_only(t, t.rows[config, 0xF0], 0x90, 0xBF, three))
    known = min(known, leads_only(t, t.rows[config, 0xF4], 0x80, 0x8F, three))
    return known if known <= 0 else end


@helper
def all_but_lines(t: Tables, config: int, two: int, end: int) -> int:
    """1 if `config`, after E2, reads all characters there are but U+2028 and U+2029, 0 if not, -1 if not known."""
    if config == 0:
        return 0
    if not ensure_row(t, config):
        return -1
    lines = t.rows[config, 0x80]
    for byte in range(256):
        if byte != 0x80 and t.rows[config, byte] != (two if 0x80 < byte <= 0xBF else 0):
            return 0
    if lines == 0:
        return 0
    if not ensure_row(t, lines):
        return -1
    for byte in range(256):
        reads = 0x80 <= byte <= 0xBF and byte not in (0xA8, 0xA9)
        if t.rows[lines, byte] != (end if reads else 0):
            return 0
    return 1


@helper
def kind_beyond(t: Tables, config: int) -> int:
    """Which non-ASCII characters a configuration reads, if `whole_characters` says where they lead."""
    return BUT_LINES if t.rows[config, 0xE2] != t.rows[config, 0xE1] else WHOLE


@helper
def num_shared(t: Tables, config: int, other: int) -> int:
    """How many ASCII bytes both configurations read."""
    number = 0
    for byte in range(128):
        number += t.rows[config, byte] != 0 and t.rows[other, byte] != 0
    return number


@helper
def strays(t: Tables, config: int, leader: int, found: Int64s) -> int:
    """1 if a byte leads from `config` to a configuration like it that is not `leader`, 0 if not, or if that is a later
    turn of a repeat (which ends: there is no region), -1 if not known."""
    least = num_shared(t, config, config) // 2
    if least < MIN_RUN // 2:
        return 0
    for byte in range(128):
        other = t.rows[config, byte]
        if other == 0 or other == leader or (byte and other == t.rows[config, byte - 1]):
            continue
        if not ensure_row(t, other):
            return -1
        if num_shared(t, config, other) >= least:
            return int(not is_later_turn(t, config, other, found))
    return 0


@helper
def leads_only(t: Tables, config: int, low: int, high: int, wanted: int) -> int:
    """1 if bytes `low` to `high` and no others lead from `config`, to `wanted`; 0 if not, -1 if not known."""
    if config == 0:
        return 0
    following = only(t, config, low, high)
    return int(following == wanted) if following >= 0 else -1


@helper
def most_common(t: Tables, config: int) -> int:
    """The configuration that most printable ASCII bytes lead to, by a vote in one pass (the caller counts)."""
    leader = 0
    votes = 0
    for byte in range(0x20, 0x7F):
        following = t.rows[config, byte]
        if following == 0:
            continue
        if following == leader:
            votes += 1
        elif votes == 0:
            leader = following
            votes = 1
        else:
            votes -= 1
    return leader


@helper
def mark_inside(t: Tables, config: int, leader: int, inside: Int64s) -> int:
    """Mark the ASCII bytes that lead from `config` to `leader`; how many they are."""
    number = 0
    for byte in range(128):
        inside[byte] = t.rows[config, byte] == leader
        number += inside[byte]
    return number


@helper
def classify(t: Tables, config: int, inside: Int64s, found: Int64s) -> bool:
    """How best to compute the mask of `config`; for a LOOP or a CHAIN also the set of bytes of its run."""
    found[KIND] = PLAIN
    find_turning(t, config, found)
    if not ensure_row(t, config):
        return False
    leader = most_common(t, config)
    found[STRAYS] = 0
    if leader == 0 or mark_inside(t, config, leader, inside) < MIN_RUN:
        found[STRAYS] = strays(t, config, 0, found)
        return bool(found[STRAYS] >= 0)
    if not ensure_row(t, leader):
        return False
    if leader != config and mark_inside(t, leader, leader, inside) >= MIN_RUN:
        found[KIND] = DELTA
        found[BASE] = leader
        return True
    mark_inside(t, config, leader, inside)
    end = whole_characters(t, config)
    if end < 0:
        return False
    inside[128] = kind_beyond(t, config) if end == leader else NONE
    if leader == config:
        found[KIND] = LOOP
        found[STRAYS] = strays(t, config, leader, found)
        return bool(found[STRAYS] >= 0)
    counted = find_counter(t, config, leader, inside, found)
    if counted > 0:
        found[KIND] = CHAIN
    elif counted == 0:
        found[STRAYS] = not is_later_turn(t, config, leader, found)
    return counted >= 0


@helper
def run_frame(t: Tables, config: int, inside: Int64s) -> int:
    """The one frame in which all items of `config` stand that read a byte of the run; 0 if there is no such frame."""
    frame = -1
    first = t.configs[config, 0]
    for position in range(first, first + t.configs[config, 1]):
        state = t.items[position] >> 32
        stack = t.items[position] & 0x7FFFFFFF
        if state < 0:
            return 0
        if reads_inside(t, state, inside):
            if frame >= 0 and stack != frame:
                return 0
            frame = stack
    return max(frame, 0)


@helper
def reads_inside(t: Tables, state: int, inside: Int64s) -> bool:
    """Whether a RANGE or BYTES state reads any byte of the run."""
    if t.states[state, 0] == RANGE:
        return any_inside(inside, t.states[state, 1], t.states[state, 2])
    for edge in range(t.states[state, 1], t.states[state, 2]):
        if any_inside(inside, t.edges[edge, 0], t.edges[edge, 1]):
            return True
    return False


@helper
def any_inside(inside: Int64s, low: int, high: int) -> bool:
    if low > 255:
        return False
    for byte in range(min(low, 128), min(high, 128) + 1):  # noqa: SIM110 - a loop that numba compiles
        if inside[byte]:
            return True
    return False


@helper
def find_counter(t: Tables, config: int, leader: int, inside: Int64s, found: Int64s) -> int:
    """Whether each byte of the run is one turn of one counted repeat; sets the turns that remain (-1: any number).

    All items that read a byte of the run must stand in the same frame (repeat, count, parent), also when the repeat
    may first be left, and the same states must stand in (repeat, count + 1, parent) after it. Closures look at counts
    only to compare them with the limits, so every further turn is like this one until the maximum. -1: not known yet.
    """
    byte = 0
    while inside[byte] == 0:
        byte += 1
    found[STEP_BYTE] = byte
    frame = run_frame(t, config, inside)
    repeat = t.stacks[frame, 0]
    number = t.stacks[frame, 1]
    if frame == 0 or t.states[repeat, 0] != REPEAT or number < 0:
        return 0
    maximum = t.states[repeat, 4]
    found[REMAINING] = maximum - number if maximum >= 0 else -1
    if maximum < 0 or number + 1 < maximum:
        after = run_frame(t, leader, inside)
        is_next = t.stacks[after, 0] == repeat and t.stacks[after, 2] == t.stacks[frame, 2]
        if not is_next or not same_turn(t, config, leader, frame, number):
            return 0
    elif not no_item_reads(t, leader, inside):
        return 0  # not the end of the last turn, but a place inside it
    found[FREE] = max(t.states[repeat, 3] - number, 0)
    turns = min(found[FREE], found[LONGEST])
    if turns <= 0 or turns == found[LONGEST]:
        return 1
    for _ in range(turns):
        config = t.rows[config, byte]
        if not ensure_row(t, config):
            return -1
    at_minimum = run_frame(t, config, inside)
    if t.states[repeat, 3] == maximum:
        return int(at_minimum == 0 and no_item_reads(t, config, inside))
    return int(t.stacks[at_minimum, 0] == repeat and t.stacks[at_minimum, 2] == t.stacks[frame, 2])


@helper
def no_item_reads(t: Tables, config: int, inside: Int64s) -> bool:
    for byte in range(256):  # noqa: SIM110 - a loop that numba compiles
        if inside[min(byte, 128)] and t.rows[config, byte]:
            return False
    return True


@helper
def same_turn(t: Tables, config: int, leader: int, frame: int, number: int) -> bool:
    """Whether `leader` has the same states in the next turn's frame as `config` has in `frame`."""
    first = t.configs[config, 0]
    start = t.configs[leader, 0]
    matched = 0
    standing = 0
    for position in range(first, first + t.configs[config, 1]):
        standing += (t.items[position] & 0x7FFFFFFF) == frame
    for other in range(start, start + t.configs[leader, 1]):
        stack = t.items[other] & 0x7FFFFFFF
        if t.stacks[stack, 0] != t.stacks[frame, 0] or t.stacks[stack, 2] != t.stacks[frame, 2]:
            continue
        if t.stacks[stack, 1] != number + 1:
            return False
        wanted = (t.items[other] >> 32 << 32) | frame
        present = False
        for position in range(first, first + t.configs[config, 1]):
            present = present or t.items[position] == wanted
        if not present:
            return False
        matched += 1
    return matched == standing
