"""Masks of texts with a pattern and a largest length, as kernels: the pattern's mask and the length's, joined.

Pattern and length make a configuration for every character, so no walk pays twice. What the pattern allows is known
from earlier positions, and what the length allows is a copy (a CHAIN): a token that stays inside the text is allowed
by both, and the text can still be completed if the length has some characters to spare. Tokens that may not leave
enough are looked at one by one: where the pattern stands after them, and how far it is to an end from there. What
goes on after the text is read byte by byte.
"""

from __future__ import annotations

import numpy as np

from stemma.fsm.jit import helper
from stemma.fsm.masks import Words, put, walk_exit
from stemma.fsm.regions import follow
from stemma.fsm.runs import Run
from stemma.fsm.step import ensure_row
from stemma.fsm.tables import DISTANCE, FULL, GENERATION, MARK, WALK, WALKED, Int64s, Tables
from stemma.fsm.trie import Trie

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
def ends_in_time(t: Tables, trie: Trie, node: int, inner: int, remaining: int) -> bool:
    """Whether the text of `node`, after which the pattern stands at `inner`, leaves room for a nearest end. False also
    where this cannot be told: distances are in bytes, and what `remaining` counts may be longer than characters."""
    distance = t.configs[inner, DISTANCE]
    characters = 0
    while node > 0:
        characters += trie.byte[node] & 0xC0 != 0x80
        node = trie.parent[node]
    return bool(0 <= distance <= remaining - characters)


@helper
def check_unsure(
    t: Tables, trie: Trie, path: Int64s, config: int, out: Words, sure: Words, left: int, remaining: int, nodes: Int64s
) -> bool:
    """Take off `out` the tokens among those that are not `sure` after which the text cannot end in time."""
    for word in range(len(out)):
        unsure = out[word] & ~sure[word]
        bit = 0
        while unsure:
            if unsure & np.uint32(1):
                key = 32 * word + bit
                end = follow(t, trie, path, nodes[key], left)
                if end > 0 and not ends_in_time(t, trie, nodes[key], end, remaining):
                    end = follow(t, trie, path, nodes[key], config)
                if end < 0:
                    return False
                if end == 0:
                    put(out, key, 0)
            unsure >>= np.uint32(1)
            bit += 1
    return True


@helper
def bounded_mask(
    t: Tables, trie: Trie, path: Int64s, config: int, out: Words, sure: Words, run: Run, left: int, after: int,
    remaining: int, nodes: Int64s,
) -> bool:  # fmt: skip
    """`out` holds what both sides allow, `sure` what is certain among that; adds what goes on after the text.

    `run` are the tokens without any byte that may follow the text; `left` is the pattern's configuration in `config`,
    `after` the one where the text has ended, `remaining` the units that the length leaves (a unit is a character or
    more), `nodes` the place of each token in the trie.
    """
    if not ensure_row(t, after) or not check_unsure(t, trie, path, config, out, sure, left, remaining, nodes):
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
            if inner == 0 or (t.configs[inner, 2] == 0 and t.rows[inner, byte] == 0):
                continue
            following = t.rows[after, byte]
            if t.rows[inner, byte] or run.exit_lengths[exit] > remaining:
                here = follow(t, trie, path, before, config)
                if here < 0:
                    return False
                following = t.rows[here, byte]
            if following:
                done = walk_exit(t, trie, out, path, run, exit, following) and done
                if t.counts[FULL]:
                    return False
    return done
