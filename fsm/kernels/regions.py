"""Masks where a run of bytes leads from state to state, but never out of a region that reads all of the run: kernels.

A pattern that is searched for, or a name that must not be one of some, makes many DFA states out of one string; which
of them a token leads through does not matter as long as it stays inside:

    .*ab.*      after a    x, a and b lead to three states, each of which reads all printable bytes: one region
                           the mask is the slice's; `x"` leaves the region, and `"` is read where `x` has led

What leaves the run is read along the way it came.
"""

from __future__ import annotations

import numpy as np

from stemma.fsm.kernels.columns import CONFIG, COUNT, PATH, is_filled
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.kinds import MIN_SLICE, kind_beyond, num_shared, whole_characters
from stemma.fsm.kernels.masks import Words, put, walk_exit
from stemma.fsm.kernels.rows import ensure_row
from stemma.fsm.kernels.slices import WHOLE, TokenSlice, copy_into
from stemma.fsm.kernels.tables import Int64s, Tables
from stemma.fsm.kernels.trie import Trie

MAXIMUM_REGION = 128
TOO_FEW, NOT_YET = 0, -1


@helper
def follow(t: Tables, trie: Trie, path: Int64s, node: int, config: int) -> int:
    """Where the bytes from the root to `node` lead from `config`: 0 nowhere, -1 if rules or room are missing."""
    depth = 0
    while node > 0:
        path[depth, PATH.byte] = trie.byte[node]
        node = trie.parent[node]
        depth += 1
    while depth > 0 and config > 0:
        depth -= 1
        if not is_filled(t.rows, config) and not ensure_row(t, config):
            return -1
        t.configs[config, CONFIG.walked] = t.counts[COUNT.walk]
        config = t.rows[config, path[depth, PATH.byte]]
    if config > 0 and not ensure_row(t, config):
        return -1
    t.configs[config, CONFIG.walked] = t.counts[COUNT.walk]
    return config


@helper
def joins(t: Tables, config: int, other: int, least: int, path: Int64s, size: int, mark: int) -> int:
    """Add `other` to the region in `path` if it is much like `config`: the new size, 0 if it is not, -1 if unknown."""
    if other == 0 or t.configs[other, CONFIG.mark] == mark:
        return size if other else 0
    if size == MAXIMUM_REGION:
        return 0
    if not ensure_row(t, other):
        return -1
    if num_shared(t, config, other) < least:
        return 0
    t.configs[other, CONFIG.mark] = mark
    path[size, PATH.config] = other
    return size + 1


@helper
def find_region(t: Tables, config: int, path: Int64s, inside: Int64s, reads: Int64s) -> int:
    """Mark in `inside` the bytes of a run that leads from `config` only to configurations that read all of it, and in
    `reads` all bytes that any of them reads. How many ASCII bytes the run has, TOO_FEW, or NOT_YET (rules, room)."""
    if not ensure_row(t, config):
        return NOT_YET
    number = 0
    for byte in range(128):
        inside[byte] = t.rows[config, byte] != 0
        number += inside[byte]
    inside[128] = WHOLE
    least = number // 2
    size = 0
    while number >= MIN_SLICE and size == 0:
        size = region_of(t, config, least, path, inside)
        if size < 0:
            return NOT_YET
        number = 0
        for byte in range(128):
            number += inside[byte]
    if number < MIN_SLICE:
        return TOO_FEW
    for position in range(size):
        t.configs[path[position, PATH.config], CONFIG.walked] = t.counts[COUNT.walk]
    for byte in range(256):
        reads[byte] = 0
        for position in range(size):
            reads[byte] += t.rows[path[position, PATH.config], byte] != 0
    return number


@helper
def region_of(t: Tables, config: int, least: int, path: Int64s, inside: Int64s) -> int:
    """The configurations that the run leads to, in `path`: their number, 0 if bytes had to be taken off the run (then
    it is to be asked again), NOT_YET if rules or room are missing."""
    t.counts[COUNT.generation] += 1
    mark = t.counts[COUNT.generation]
    t.configs[config, CONFIG.mark] = mark
    path[0, PATH.config] = config
    size = 1
    position = 0
    shrunk = False
    while position < size:
        here = path[position, PATH.config]
        position += 1
        for byte in range(128):
            if inside[byte] == 0:
                continue
            grown = joins(t, config, t.rows[here, byte], least, path, size, mark)
            if grown < 0:
                return NOT_YET
            if grown == 0:
                inside[byte] = 0
                shrunk = True
            else:
                size = grown
        if inside[128] == 0:
            continue
        end = whole_characters(t, here)
        grown = joins(t, config, end, least, path, size, mark) if end > 0 else end
        if grown < 0:
            return NOT_YET
        kind = kind_beyond(t, here)
        if grown == 0 or (kind != inside[128] and inside[128] != WHOLE):
            inside[128] = 0
            shrunk = True
        elif kind != inside[128]:
            inside[128] = kind
            shrunk = True
        else:
            size = grown
    return 0 if shrunk else size


@helper
def region_mask(
    t: Tables, trie: Trie, path: Int64s, config: int, out: Words, sliced: TokenSlice, reads: Int64s
) -> bool:
    """A configuration from which a run leads through a region that reads all of it."""
    copy_into(out, sliced.whole)
    done = True
    for byte in range(256):
        if reads[byte] == 0:
            continue
        for exit in range(sliced.exit_start[byte], sliced.exit_start[byte + 1]):
            here = follow(t, trie, path, trie.parent[sliced.exits[exit]], config)
            if here < 0:
                if t.counts[COUNT.full]:
                    return False
                done = False
            elif t.rows[here, byte]:
                done = walk_exit(t, trie, out, path, sliced, exit, t.rows[here, byte]) and done
                if t.counts[COUNT.full]:
                    return False
    return done


@helper
def take_off(t: Tables, trie: Trie, path: Int64s, config: int, out: Words, tokens: Int64s, nodes: Int64s) -> bool:
    """Take off `out` those of `tokens` that `config` does not read. False if rules or room are missing."""
    for key in tokens:
        if out[key >> 5] >> np.uint32(key & 31) & np.uint32(1) == 0:
            continue
        end = follow(t, trie, path, nodes[key], config)
        if end < 0:
            return False
        if end == 0:
            put(out, key, 0)
    return True
