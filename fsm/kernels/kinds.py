"""What kind of place a configuration is, by which its mask is computed: see `masks`."""

from __future__ import annotations

from typing import NamedTuple

from stemma.fsm.kernels.columns import CONFIG, EDGE, FRAME, STATE, item_of, stack_of, state_of
from stemma.fsm.kernels.iterations import Repetition, find_repetition, is_later_iteration
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.rows import ensure_row
from stemma.fsm.kernels.slices import BUT_LINES, NONE, WHOLE
from stemma.fsm.kernels.stacks import is_frame_of
from stemma.fsm.kernels.tables import RANGE, REPEAT, Int64s, Tables

NOT_YET = -1  # rules or room are missing
PLAIN, LOOP, DELTA, COUNTER, JOINED = range(5)  # JOINED: a PLAIN that stands in a product, maybe a bounded text
MIN_SLICE = 20  # a run of fewer ASCII bytes is not worth a table: the walk is short


class Counter(NamedTuple):
    """How a run goes through a counted repeat, one iteration a character."""

    is_counter: int  # 1, 0 or NOT_YET
    remaining: int  # iterations, -1: any number
    free: int  # iterations until it may end
    step_byte: int  # one of the run


class Classification(NamedTuple):
    """What `classify` finds: a kind with what belongs to it, and the fields of a `Counter` and a `Repetition`."""

    kind: int  # PLAIN, LOOP, DELTA, COUNTER, JOINED or NOT_YET
    base: int  # of a DELTA: the configuration that it is much like
    strays: int  # whether bytes lead from any but a COUNTER to others like it (see `regions`)
    remaining: int
    free: int
    step_byte: int
    earlier: int
    repeat: int
    parent: int
    left: int

    @property
    def counter(self) -> Counter:
        return Counter(int(self.kind == COUNTER), self.remaining, self.free, self.step_byte)

    @property
    def repetition(self) -> Repetition:
        return Repetition(self.earlier, self.repeat, self.parent, self.left)


NO_COUNTER = Counter(0, 0, 0, 0)
Found = tuple[int, int, int, int, int, int, int, int, int, int]


@helper
def classification_of(kind: int, base: int, strays: int, counter: Counter, repetition: Repetition) -> Found:
    """The fields of a `Classification`, as a plain tuple: that is all a caller needs."""
    _, remaining, free, step_byte = counter
    earlier, repeat, parent, left = repetition
    return kind, base, strays, remaining, free, step_byte, earlier, repeat, parent, left


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
def strays(t: Tables, config: int, leader: int, repetition: Repetition) -> int:
    """1 if a byte leads from `config` to a configuration like it that is not `leader`, 0 if not, or if that is a later
    iteration of a repeat (which ends: there is no region), -1 if not known."""
    least = num_shared(t, config, config) // 2
    if least < MIN_SLICE // 2:
        return 0
    for byte in range(128):
        other = t.rows[config, byte]
        if other == 0 or other == leader or (byte and other == t.rows[config, byte - 1]):
            continue
        if not ensure_row(t, other):
            return -1
        if num_shared(t, config, other) >= least:
            return int(not is_later_iteration(t, config, other, repetition))
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
def classify(t: Tables, config: int, inside: Int64s, longest: int) -> Found:
    """How best to compute the mask of `config`, where the longest token has so many bytes; for a LOOP or a COUNTER, and
    what strays, also the set of bytes of its run."""
    repetition = find_repetition(t, config)
    if not ensure_row(t, config):
        return classification_of(NOT_YET, 0, 0, NO_COUNTER, repetition)
    leader = most_common(t, config)
    if leader == 0 or mark_inside(t, config, leader, inside) < MIN_SLICE:
        return with_strays(t, plain_kind(t, config), config, 0, repetition)
    if not ensure_row(t, leader):
        return classification_of(NOT_YET, 0, 0, NO_COUNTER, repetition)
    if leader != config and mark_inside(t, leader, leader, inside) >= MIN_SLICE:
        return classification_of(DELTA, leader, 0, NO_COUNTER, repetition)
    mark_inside(t, config, leader, inside)
    end = whole_characters(t, config)
    if end < 0:
        return classification_of(NOT_YET, 0, 0, NO_COUNTER, repetition)
    inside[128] = kind_beyond(t, config) if end == leader else NONE
    if leader == config:
        return with_strays(t, LOOP, config, leader, repetition)
    counter = find_counter(t, config, leader, inside, longest)
    if counter.is_counter == 0:
        later = is_later_iteration(t, config, leader, repetition)
        return classification_of(plain_kind(t, config), 0, int(not later), counter, repetition)
    return classification_of(COUNTER if counter.is_counter > 0 else NOT_YET, 0, 0, counter, repetition)


@helper
def plain_kind(t: Tables, config: int) -> int:
    """PLAIN, or JOINED: items are sorted, products come first."""
    first = t.configs[config, CONFIG.first]
    return JOINED if t.configs[config, CONFIG.size] > 0 and t.items[first] < 0 else PLAIN


@helper
def with_strays(t: Tables, kind: int, config: int, leader: int, repetition: Repetition) -> Found:
    """A PLAIN, JOINED or LOOP, and whether it strays."""
    found = strays(t, config, leader, repetition)
    return classification_of(kind if found >= 0 else NOT_YET, 0, found, NO_COUNTER, repetition)


@helper
def slice_frame(t: Tables, config: int, inside: Int64s) -> int:
    """The one frame in which all items of `config` stand that read a byte of the run; 0 if there is no such frame."""
    frame = -1
    first = t.configs[config, CONFIG.first]
    for position in range(first, first + t.configs[config, CONFIG.size]):
        state = state_of(t.items[position])
        stack = stack_of(t.items[position])
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
    if t.states[state, STATE.kind] == RANGE:
        return any_inside(inside, t.states[state, STATE.low], t.states[state, STATE.high])
    for edge in range(t.states[state, STATE.first_edge], t.states[state, STATE.end_edge]):
        if any_inside(inside, t.edges[edge, EDGE.low], t.edges[edge, EDGE.high]):
            return True
    return False


@helper
def any_inside(inside: Int64s, low: int, high: int) -> bool:
    if low > 255:
        return False
    for byte in range(min(low, 128), min(high, 128) + 1):  # noqa: SIM110 - a loop that is compiled
        if inside[byte]:
            return True
    return False


@helper
def find_counter(t: Tables, config: int, leader: int, inside: Int64s, longest: int) -> Counter:
    """Whether each byte of the run is one iteration of one counted repeat, and how many iterations remain.

    All items that read a byte of the run must stand in the same frame (repeat, count, parent), also when the repeat
    may first be left, and the same states must stand in (repeat, count + 1, parent) after it. Closures look at counts
    only to compare them with the limits, so every further iteration is like this one until the maximum.
    """
    byte = 0
    while inside[byte] == 0:
        byte += 1
    frame = slice_frame(t, config, inside)
    repeat = t.stacks[frame, FRAME.back]
    count = t.stacks[frame, FRAME.iteration]
    parent = t.stacks[frame, FRAME.parent]
    if frame == 0 or t.states[repeat, STATE.kind] != REPEAT or count < 0:
        return NO_COUNTER
    maximum = t.states[repeat, STATE.maximum]
    if maximum < 0 or count + 1 < maximum:
        after = slice_frame(t, leader, inside)
        if not is_frame_of(t.stacks, after, repeat, parent) or not same_iteration(t, config, leader, frame, count):
            return NO_COUNTER
    elif not no_item_reads(t, leader, inside):
        return NO_COUNTER  # not the end of the last iteration, but a place inside it
    remaining = maximum - count if maximum >= 0 else -1
    free = max(t.states[repeat, STATE.minimum] - count, 0)
    is_counter = 1 if free == 0 or free >= longest else ends_alike(t, config, inside, frame, free, byte)
    return Counter(is_counter, remaining, free, byte)


@helper
def ends_alike(t: Tables, config: int, inside: Int64s, frame: int, free: int, byte: int) -> int:
    """Whether the run still goes through the repeat of `frame` alone where that may first be left, `free` iterations
    on: 1 or 0, NOT_YET."""
    for _ in range(free):
        config = t.rows[config, byte]
        if not ensure_row(t, config):
            return NOT_YET
    repeat = t.stacks[frame, FRAME.back]
    here = slice_frame(t, config, inside)
    if t.states[repeat, STATE.minimum] == t.states[repeat, STATE.maximum]:
        return int(here == 0 and no_item_reads(t, config, inside))
    return int(is_frame_of(t.stacks, here, repeat, t.stacks[frame, FRAME.parent]))


@helper
def no_item_reads(t: Tables, config: int, inside: Int64s) -> bool:
    for byte in range(256):  # noqa: SIM110 - a loop that is compiled
        if inside[min(byte, 128)] and t.rows[config, byte]:
            return False
    return True


@helper
def same_iteration(t: Tables, config: int, leader: int, frame: int, number: int) -> bool:
    """Whether `leader` has the same states in the next iteration's frame as `config` has in `frame`."""
    first = t.configs[config, CONFIG.first]
    start = t.configs[leader, CONFIG.first]
    matched = 0
    standing = 0
    for position in range(first, first + t.configs[config, CONFIG.size]):
        standing += stack_of(t.items[position]) == frame
    for other in range(start, start + t.configs[leader, CONFIG.size]):
        stack = stack_of(t.items[other])
        if not is_frame_of(t.stacks, stack, t.stacks[frame, FRAME.back], t.stacks[frame, FRAME.parent]):
            continue
        if t.stacks[stack, FRAME.iteration] != number + 1:
            return False
        wanted = item_of(state_of(t.items[other]), frame)
        present = False
        for position in range(first, first + t.configs[config, CONFIG.size]):
            present = present or t.items[position] == wanted
        if not present:
            return False
        matched += 1
    return matched == standing
