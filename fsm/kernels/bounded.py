"""Masks of texts with a pattern and a largest length, as kernels: the pattern's mask and the length's, joined.

The product of the two automata has a state for every character, so no walk pays twice. What the pattern allows is known
from earlier positions, and what the length allows is a copy (a COUNTER): a token that stays inside the text is allowed
by both, and the text can still be completed if the length has some characters to spare:

    [a-z]+[.]csv up to 9 characters      read    a token of 3 letters
                                         ""      allowed: 4 more end it, 6 are left
                                         ab      allowed: 4 are left
                                         abc     refused: 3 are left, no state that can accept is that near

Tokens that may not leave enough are looked at one by one: where both stand after them, and whether the product is live
there. What goes on after the text is read byte by byte.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemma.fsm.kernels.closure import add_task, intern_product, product_accepts
from stemma.fsm.kernels.columns import CONFIG, COUNT, PAIR, PATH, product_of, stack_of, state_of
from stemma.fsm.kernels.configurations import RETURN_STATE
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.kinds import MIN_SLICE
from stemma.fsm.kernels.masks import Words, put, walk_exit
from stemma.fsm.kernels.regions import follow
from stemma.fsm.kernels.rows import ensure_row, run_tasks
from stemma.fsm.kernels.slices import WHOLE, TokenSlice
from stemma.fsm.kernels.step import start_at
from stemma.fsm.kernels.tables import (
    BOUNDED,
    LIVE,
    LIVE_TASK,
    UNKNOWN,
    Int64s,
    Tables,
)
from stemma.fsm.kernels.trie import Trie

MAXIMUM_LEFT = 4096
MISSING, UNKNOWN_DISTANCE = -1, -2
LEFT, RIGHT, AFTER = range(3)  # of what `find_bounded` writes


class Farthest(NamedTuple):
    """What `farthest` finds."""

    distance: int  # the most bytes to the nearest end, MISSING or UNKNOWN_DISTANCE
    size: int  # configurations that were looked at


class BoundedText(NamedTuple):
    """Where pattern and length stand in a text that is bounded."""

    left: int  # the configuration of the pattern
    right: int  # that of the length
    after: int  # the one where the text has ended
    remaining: int  # units that the length leaves; a unit is a character or more


@helper
def farthest(t: Tables, config: int, path: Int64s) -> Farthest:
    """The most bytes that any configuration after `config` needs to the nearest end; these lie in `path` then.
    MISSING if rules or room are, UNKNOWN_DISTANCE if there are too many to tell."""
    t.counts[COUNT.generation] += 1
    generation = t.counts[COUNT.generation]
    limit = min(MAXIMUM_LEFT, len(path))
    t.configs[config, CONFIG.mark] = generation
    path[0, PATH.config] = config
    size = 1
    position = 0
    missing = False
    while position < size:
        here = path[position, PATH.config]
        position += 1
        t.configs[here, CONFIG.distance] = 0 if t.configs[here, CONFIG.accepting] else -1
        if not ensure_row(t, here):
            if t.counts[COUNT.full]:
                return Farthest(MISSING, size)
            missing = True
            continue
        for byte in range(256):
            following = t.rows[here, byte]
            if following == 0 or t.configs[following, CONFIG.mark] == generation:
                continue
            if size == limit:
                return Farthest(UNKNOWN_DISTANCE, size)
            t.configs[following, CONFIG.mark] = generation
            path[size, PATH.config] = following
            size += 1
    return Farthest(MISSING if missing else settle_distances(t, path, size), size)


@helper
def settle_distances(t: Tables, path: Int64s, size: int) -> int:
    """Number the configurations in `path` by their distance to an end, level by level; the largest distance."""
    left = 0
    for position in range(size):
        left += t.configs[path[position, PATH.config], CONFIG.distance] < 0
    distance = 0
    while left > 0:
        before = left
        for position in range(size):
            here = path[position, PATH.config]
            if t.configs[here, CONFIG.distance] < 0 and leads_to_distance(t, here, distance):
                t.configs[here, CONFIG.distance] = distance + 1
                left -= 1
        if left == before:
            return UNKNOWN_DISTANCE
        distance += 1
    return distance


@helper
def leads_to_distance(t: Tables, config: int, distance: int) -> bool:
    for byte in range(256):
        following = t.rows[config, byte]
        if following and t.configs[following, CONFIG.distance] == distance:
            return True
    return False


@helper
def is_live(t: Tables, left: int, right: int) -> int:
    """Whether a text can end from where both sides stand: 1 or 0, -1 if rules or room are missing."""
    product = intern_product(t, BOUNDED, left, right)
    if product < 0:
        return -1
    if t.products[product, PAIR.liveness] == UNKNOWN:
        t.counts[COUNT.num_tasks] = 0
        add_task(t, LIVE_TASK, product)
        if not run_tasks(t):
            return -1
    return int(t.products[product, PAIR.liveness] == LIVE)


@helper
def ends_in_time(t: Tables, trie: Trie, path: Int64s, node: int, inner: int, right: int, remaining: int) -> int:
    """Whether the text of `node`, after which the pattern stands at `inner`, leaves room for an end: 1 or 0, -1 if
    rules or room are missing. Distances are in bytes, and what `remaining` counts may be longer than characters, so
    that only a short distance tells it at once."""
    distance = t.configs[inner, CONFIG.distance]
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
    if t.configs[inner, CONFIG.accepting] == 0 or units >= 0:
        return int(t.configs[inner, CONFIG.accepting])
    end = follow(t, trie, path, before, right)
    return int(t.configs[end, CONFIG.accepting]) if end > 0 else end


@helper
def bounded_mask(
    t: Tables,
    trie: Trie,
    path: Int64s,
    config: int,
    out: Words,
    sure: Words,
    sliced: TokenSlice,
    text: BoundedText,
    nodes: Int64s,
) -> bool:
    """`out` holds what both sides allow, `sure` what is certain among that; adds what goes on after the text.

    `run` are the tokens without any byte that may follow the text; `nodes` the place of each token in the trie.
    """
    left, right, after, remaining = text
    if not ensure_row(t, after) or not check_unsure(t, trie, path, out, sure, left, right, remaining, nodes):
        return False
    t.configs[config, CONFIG.walked] = t.configs[after, CONFIG.walked] = t.counts[COUNT.walk]
    done = True
    for byte in range(256):
        if t.rows[after, byte] == 0:
            continue
        for exit in range(sliced.exit_start[byte], sliced.exit_start[byte + 1]):
            before = trie.parent[sliced.exits[exit]]
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
                leaves = leaves_text(t, trie, path, before, inner, right, remaining - sliced.exit_lengths[exit])
                if leaves < 0:
                    return False
                following *= leaves
            if following:
                done = walk_exit(t, trie, out, path, sliced, exit, following) and done
                if t.counts[COUNT.full]:
                    return False
    return done


@helper
def find_bounded(t: Tables, config: int, inside: Int64s, found: Int64s) -> int:
    """1 if `config` is a place inside one text with a pattern and a largest length, and nothing else: `found` holds
    both sides and where the text has ended (LEFT, RIGHT, AFTER), `inside` the bytes that cannot follow it. 0 if not,
    -1 if rules or room are missing."""
    first = t.configs[config, CONFIG.first]
    size = t.configs[config, CONFIG.size]
    if size == 0 or t.items[first] >= 0 or (size > 1 and t.items[first + 1] < 0):
        return 0
    product = product_of(state_of(t.items[first]))
    if t.products[product, PAIR.operation] != BOUNDED:
        return 0
    if not ensure_row(t, config):
        return -1
    for byte in range(0x80, 0xC0):
        if t.rows[config, byte]:
            return 0
    after = start_at(t, RETURN_STATE, stack_of(t.items[first]))
    if after < 0 or not ensure_row(t, after):
        return -1
    ends = product_accepts(t, product)
    others = t.configs[after, CONFIG.size] if ends else 0
    if size != 1 + others or t.configs[config, CONFIG.accepting] != (ends and t.configs[after, CONFIG.accepting]):
        return 0
    number = 0
    for byte in range(256):
        follows = t.rows[after, byte] != 0
        if byte < 128:
            inside[byte] = 1 - follows
            number += follows
        elif follows:
            return 0
    inside[128] = WHOLE
    found[LEFT] = t.products[product, PAIR.left]
    found[RIGHT] = t.products[product, PAIR.right]
    found[AFTER] = after
    return int(number <= 128 - MIN_SLICE)
