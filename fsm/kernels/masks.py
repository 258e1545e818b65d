"""Masks at full speed, as kernels: a run copied and patched, a neighbour's mask patched, or a pruned walk of the trie.

Each gives exactly the tokens whose bytes the automaton reads. They return False when the automaton needs rules or
room (see `step`), and are then called again from the start; they go on past a missing rule first, so that all rules
that are missing are asked for at once. Nothing here knows special tokens or end-of-text.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.runs import BUT_LINES, NONE, NUM_CUMULATIVE, WHOLE, Run, copy_into
from stemma.fsm.kernels.step import ensure_row
from stemma.fsm.kernels.tables import FULL, RANGE, REPEAT, WALK, WALKED, Int64s, Tables
from stemma.fsm.kernels.trie import Trie
from stemma.fsm.kernels.turns import find_turning, is_later_turn

Words = npt.NDArray[np.uint32]

# What `classify` finds, in found[KIND], with the base configuration in found[BASE]. The caller sets
# found[LONGEST], the length of the longest token. found[FREE] is how many turns it takes until a CHAIN may end,
# found[STRAYS] whether bytes lead from a PLAIN or a LOOP to others like it (see `regions`); behind that stands what
# `find_turning` finds.
PLAIN, LOOP, DELTA, CHAIN = range(4)
KIND, BASE, REMAINING, STEP_BYTE, LONGEST, FREE, STRAYS = range(7)
MIN_RUN = 20  # a run of fewer ASCII bytes is not worth a table: the walk is short


@helper
def put(out: Words, key: int, setting: int) -> None:
    word = key >> 5
    bit = np.uint32(1) << np.uint32(key & 31)
    if setting:
        out[word] = out[word] | bit
    else:
        out[word] = out[word] & ~bit


@helper
def walk(t: Tables, trie: Trie, out: Words, path: Int64s, node: int, config: int, setting: int) -> bool:
    """Set (or clear) all strings below `node` that `config` can read."""
    path[0, 0] = node
    path[0, 1] = config
    depth = 1
    done = True
    while depth > 0:
        depth -= 1
        here = path[depth, 0]
        config = path[depth, 1]
        if t.rows[config, 0] < 0 and not ensure_row(t, config):
            if t.counts[FULL]:
                return False
            done = False
            continue
        t.configs[config, WALKED] = t.counts[WALK]
        for child in range(trie.first[here], trie.first[here + 1]):
            following = t.rows[config, trie.byte[child]]
            if following:
                if trie.key[child] >= 0:
                    put(out, trie.key[child], setting)
                if trie.first[child] < trie.first[child + 1]:
                    path[depth, 0] = child
                    path[depth, 1] = following
                    depth += 1
    return done


@helper
def walk_exit(t: Tables, trie: Trie, out: Words, path: Int64s, run: Run, exit: int, config: int) -> bool:
    """Set the string that ends at an exit of a run, reached as `config`, and all below that can be read."""
    if run.exit_keys[exit] >= 0:
        put(out, run.exit_keys[exit], 1)
    return run.exit_ends[exit] != 0 or walk(t, trie, out, path, run.exits[exit], config, 1)


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


@helper
def plain_mask(t: Tables, trie: Trie, path: Int64s, config: int, out: Words) -> bool:
    out[:] = 0
    return walk(t, trie, out, path, 0, config, 1)


@helper
def loop_mask(t: Tables, trie: Trie, path: Int64s, config: int, out: Words, run: Run) -> bool:
    """A configuration that a run leads back to itself."""
    t.configs[config, WALKED] = t.counts[WALK]
    copy_into(out, run.whole)
    done = True
    for byte in range(256):
        following = t.rows[config, byte]
        if following == 0:
            continue
        for exit in range(run.exit_start[byte], run.exit_start[byte + 1]):
            done = walk_exit(t, trie, out, path, run, exit, following) and done
            if t.counts[FULL]:
                return False
    return done


@helper
def chain_mask(
    t: Tables, trie: Trie, path: Int64s, config: int, out: Words, run: Run, found: Int64s, chain: Int64s
) -> bool:
    """A configuration that each character of a run leads one turn further in a counted repeat.

    A byte outside the run that leads to one place at two turns, both of which may leave the repeat, is not read by the
    body (that would stand in two frames): it leads there at every later turn. One that leads nowhere before the repeat
    may be left leads nowhere until then. So long runs before a quote need no long chains.
    """
    remaining = found[REMAINING]
    number = len(run.tokens)
    if remaining < 0 or number == 0 or run.lengths[number - 1] <= remaining:
        copy_into(out, run.whole)
    elif remaining <= NUM_CUMULATIVE:
        for word in range(len(out)):
            out[word] = run.cumulative[remaining, word]
    else:
        copy_into(out, run.whole)
        while number > 0 and run.lengths[number - 1] > remaining:
            number -= 1
            put(out, run.tokens[number], 0)
    chain[0] = config
    known = 1
    done = True
    free = found[FREE]
    for byte in range(256):
        for exit in range(run.exit_start[byte], run.exit_start[byte + 1]):
            turns = run.exit_lengths[exit]
            if 0 <= remaining < turns or (turns < free and t.rows[config, byte] == 0):
                continue
            nearest = min(turns, free + 1)
            known = lengthen(t, chain, known, nearest, found[STEP_BYTE])
            if known < 0:
                return False
            following = t.rows[chain[nearest], byte]
            if turns > nearest and following != t.rows[chain[free], byte]:
                known = lengthen(t, chain, known, turns, found[STEP_BYTE])
                if known < 0:
                    return False
                following = t.rows[chain[turns], byte]
            if following:
                done = walk_exit(t, trie, out, path, run, exit, following) and done
                if t.counts[FULL]:
                    return False
    return done


@helper
def lengthen(t: Tables, chain: Int64s, known: int, turns: int, byte: int) -> int:
    """Step the chain on to `turns`; how much of it is known then, -1 if rules or room are missing."""
    while known <= turns:
        chain[known] = t.rows[chain[known - 1], byte]
        if not ensure_row(t, chain[known]):
            return -1
        known += 1
    return known


@helper
def delta_mask(t: Tables, trie: Trie, path: Int64s, config: int, base: int, out: Words, known: Words) -> bool:
    """A configuration much like `base`, whose mask is `known`: both walk in step, only where they differ."""
    copy_into(out, known)
    middle = len(path) // 2
    path[0, 0] = 0
    path[0, 1] = config
    path[0, 2] = base
    depth = 1
    done = True
    while depth > 0:
        depth -= 1
        node = path[depth, 0]
        here = path[depth, 1]
        other = path[depth, 2]
        if not ensure_row(t, here) or not ensure_row(t, other):
            if t.counts[FULL]:
                return False
            done = False
            continue
        t.configs[here, WALKED] = t.configs[other, WALKED] = t.counts[WALK]
        for child in range(trie.first[node], trie.first[node + 1]):
            mine = t.rows[here, trie.byte[child]]
            theirs = t.rows[other, trie.byte[child]]
            if mine == theirs:
                continue
            if mine and theirs:
                if trie.first[child] < trie.first[child + 1]:
                    path[depth, 0] = child
                    path[depth, 1] = mine
                    path[depth, 2] = theirs
                    depth += 1
                continue
            setting = 1 if mine else 0
            if trie.key[child] >= 0:
                put(out, trie.key[child], setting)
            done = walk(t, trie, out, path[middle:], child, mine + theirs, setting) and done
            if t.counts[FULL]:
                return False
    return done
