"""Masks of texts with a pattern and a largest length, as kernels: the pattern's mask and the length's, joined.

Pattern and length make a configuration for every character, so no walk pays twice. What the pattern allows is known
from earlier positions, and what the length allows is a copy (a CHAIN): a token that stays inside the text is allowed
by both, and the text can still be completed if the length has some characters to spare. Tokens that may not leave
enough are looked at one by one: where both stand after them, and whether there is an end from there. What goes on after
the text is read byte by byte.
"""

from __future__ import annotations

import numpy as np

from stemma.fsm.kernels.closure import add_task, intern_product
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.masks import Words, put, walk_exit
from stemma.fsm.kernels.regions import follow
from stemma.fsm.kernels.rows import ensure_row, run_tasks
from stemma.fsm.kernels.runs import Run
from stemma.fsm.kernels.tables import (
    BOUNDED,
    DISTANCE,
    FULL,
    GENERATION,
    LIVE,
    LIVE_TASK,
    MARK,
    NUM_TASKS,
    UNKNOWN,
    WALK,
    WALKED,
    Int64s,
    Tables,
)
from stemma.fsm.kernels.trie import Trie

MAXIMUM_LEFT = 4096
MISSING, UNKNOWN_DISTANCE = -1, -2


@helper
def farthest(t: Tables, config: int, path: Int64s, found: Int64s) -> int:
    """The most bytes that any configuration after `config` needs to the nearest end; these lie in `path` then, their
    number in `found[0]`. MISSING if rules or room are, UNKNOWN_DISTANCE if there are too many to tell."""
    t.counts[GENERATION] += 1
    generation = t.counts[GENERATION]
    limit = min(MAXIMUM_LEFT, len(path))
    t.configs[config, MARK] = generation
    path[0, 0] = config
    size = 1
    position = 0
    missing = False
    while position < size:
        here = path[position, 0]
        position += 1
        t.configs[here, DISTANCE] = 0 if t.configs[here, 2] else -1
        if not ensure_row(t, here):
            if t.counts[FULL]:
                return MISSING
            missing = True
            continue
        for byte in range(256):
            following = t.rows[here, byte]
            if following == 0 or t.configs[following, MARK] == generation:
                continue
            if size == limit:
                return UNKNOWN_DISTANCE
            t.configs[following, MARK] = generation
            path[size, 0] = following
            size += 1
    found[0] = size
    return MISSING if missing else settle_distances(t, path, size)


@helper
def settle_distances(t: Tables, path: Int64s, size: int) -> int:
    """Number the configurations in `path` by their distance to an end, level by level; the largest distance."""
    left = 0
    for position in range(size):
        left += t.configs[path[position, 0], DISTANCE] < 0
    distance = 0
    while left > 0:
        before = left
        for position in range(size):
            here = path[position, 0]
            if t.configs[here, DISTANCE] < 0 and leads_to_distance(t, here, distance):
                t.configs[here, DISTANCE] = distance + 1
                left -= 1
        if left == before:
            return UNKNOWN_DISTANCE
        distance += 1
    return distance


@helper
def leads_to_distance(t: Tables, config: int, distance: int) -> bool:
    for byte in range(256):
        following = t.rows[config, byte]
        if following and t.configs[following, DISTANCE] == distance:
            return True
    return False


@helper
def is_live(t: Tables, left: int, right: int) -> int:
    """Whether a text can end from where both sides stand: 1 or 0, -1 if rules or room are missing."""
    product = intern_product(t, BOUNDED, left, right)
    if product < 0:
        return -1
    if t.products[product, 3] == UNKNOWN:
        t.counts[NUM_TASKS] = 0
        add_task(t, LIVE_TASK, product)
        if not run_tasks(t):
            return -1
    return int(t.products[product, 3] == LIVE)


@helper
def ends_in_time(t: Tables, trie: Trie, path: Int64s, node: int, inner: int, right: int, remaining: int) -> int:
    """Whether the text of `node`, after which the pattern stands at `inner`, leaves room for an end: 1 or 0, -1 if
    rules or room are missing. Distances are in bytes, and what `remaining` counts may be longer than characters, so
    that only a short distance tells it at once."""
    distance = t.configs[inner, DISTANCE]
    characters = 0
    before = node
    while before > 0:
        characters += trie.byte[before] & 0xC0 != 0x80
        before = trie.parent[before]
    if 0 <= distance <= remaining - characters:
        return 1
    end = follow(t, trie, path, node, right)
    return is_live(t, inner, end) if end > 0 else end


@helper
def check_unsure(
    t: Tables, trie: Trie, path: Int64s, out: Words, sure: Words, left: int, right: int, remaining: int, nodes: Int64s
) -> bool:
    """Take off `out` the tokens among those that are not `sure` after which the text cannot end in time."""
    for word in range(len(out)):
        unsure = out[word] & ~sure[word]
        bit = 0
        while unsure:
            if unsure & np.uint32(1):
                key = 32 * word + bit
                inner = follow(t, trie, path, nodes[key], left)
                in_time = ends_in_time(t, trie, path, nodes[key], inner, right, remaining) if inner > 0 else inner
                if in_time < 0:
                    return False
                if in_time == 0:
                    put(out, key, 0)
            unsure >>= np.uint32(1)
            bit += 1
    return True


@helper
def leaves_text(t: Tables, trie: Trie, path: Int64s, before: int, inner: int, right: int, units: int) -> int:
    """Whether the text may end with that of `before`, after which the pattern stands at `inner`: 1 or 0, -1 if rules
    or room are missing. units: that the length still leaves then, if it leaves any for sure."""
    if t.configs[inner, 2] == 0 or units >= 0:
        return int(t.configs[inner, 2])
    end = follow(t, trie, path, before, right)
    return int(t.configs[end, 2]) if end > 0 else end


@helper
def bounded_mask(
    t: Tables, trie: Trie, path: Int64s, config: int, out: Words, sure: Words, run: Run, places: Int64s, nodes: Int64s
) -> bool:
    """`out` holds what both sides allow, `sure` what is certain among that; adds what goes on after the text.

    `run` are the tokens without any byte that may follow the text; `places` are the configurations of the pattern and
    of the length in `config`, the one where the text has ended, and the units that the length leaves (a unit is a
    character or more); `nodes` the place of each token in the trie.
    """
    left, right, after, remaining = places[0], places[1], places[2], places[3]
    if not ensure_row(t, after) or not check_unsure(t, trie, path, out, sure, left, right, remaining, nodes):
        return False
    t.configs[config, WALKED] = t.configs[after, WALKED] = t.counts[WALK]
    done = True
    for byte in range(256):
        if t.rows[after, byte] == 0:
            continue
        for exit in range(run.exit_start[byte], run.exit_start[byte + 1]):
            before = trie.parent[run.exits[exit]]
            inner = follow(t, trie, path, before, left)
            if inner < 0:
                return False
            if inner == 0:
                continue
            following = t.rows[after, byte]
            if t.rows[inner, byte]:
                here = follow(t, trie, path, before, config)
                if here < 0:
                    return False
                following = t.rows[here, byte]
            else:
                leaves = leaves_text(t, trie, path, before, inner, right, remaining - run.exit_lengths[exit])
                if leaves < 0:
                    return False
                following *= leaves
            if following:
                done = walk_exit(t, trie, out, path, run, exit, following) and done
                if t.counts[FULL]:
                    return False
    return done
