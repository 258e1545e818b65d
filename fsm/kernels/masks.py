"""Masks at full speed, as kernels: a slice copied and patched, a neighbour's mask patched, a pruned walk of the trie.

XGrammar splits tokens into context-independent and -dependent ones, llguidance has slices; so a slice here is the mask
of the tokens made of some bytes alone, which needs no walk where all these bytes lead back to where they came from:

    inside a JSON string     ab  é        made of the slice's characters: copied (LOOP)
                             a",  "}      leave it at `"`: walked from there, with the successor by `"`
                             a\\n        leaves it at the backslash: walked likewise

Each gives exactly the tokens whose bytes the automaton reads. They return False when the automaton needs rules or
room (see `step`), and are then called again from the start; they go on past a missing rule first, so that all rules
that are missing are asked for at once. Nothing here knows special tokens or end-of-text.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stemma.fsm.kernels.columns import CONFIG, COUNT, PATH, TWIN, is_filled
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.kinds import Counter
from stemma.fsm.kernels.rows import ensure_row
from stemma.fsm.kernels.slices import NUM_CUMULATIVE, TokenSlice, copy_into
from stemma.fsm.kernels.tables import Int64s, Tables
from stemma.fsm.kernels.trie import Trie

Words = npt.NDArray[np.uint32]


@helper
def put(out: Words, key: int, setting: int) -> None:
    word = key >> 5
    bit = np.uint32(1) << np.uint32(key & 31)
    if setting:
        out[word] = out[word] | bit
    else:
        out[word] = out[word] & ~bit


@helper
def copy_twins(out: Words, twins: Int64s) -> None:
    """Set the second of each pair of tokens (a row of `twins`) whose first is set."""
    for row in range(len(twins)):
        key = twins[row, TWIN.known]
        if out[key >> 5] >> np.uint32(key & 31) & np.uint32(1):
            put(out, twins[row, TWIN.other], 1)


@helper
def walk(t: Tables, trie: Trie, out: Words, path: Int64s, node: int, config: int, setting: int) -> bool:
    """Set (or clear) all strings below `node` that `config` can read."""
    path[0, PATH.node] = node
    path[0, PATH.config] = config
    depth = 1
    done = True
    while depth > 0:
        depth -= 1
        here = path[depth, PATH.node]
        config = path[depth, PATH.config]
        if not is_filled(t.rows, config) and not ensure_row(t, config):
            if t.counts[COUNT.full]:
                return False
            done = False
            continue
        t.configs[config, CONFIG.walked] = t.counts[COUNT.walk]
        for child in range(trie.first[here], trie.first[here + 1]):
            following = t.rows[config, trie.byte[child]]
            if following:
                if trie.key[child] >= 0:
                    put(out, trie.key[child], setting)
                if trie.first[child] < trie.first[child + 1]:
                    path[depth, PATH.node] = child
                    path[depth, PATH.config] = following
                    depth += 1
    return done


@helper
def walk_exit(t: Tables, trie: Trie, out: Words, path: Int64s, sliced: TokenSlice, exit: int, config: int) -> bool:
    """Set the string that ends at an exit of a run, reached as `config`, and all below that can be read."""
    if sliced.exit_keys[exit] >= 0:
        put(out, sliced.exit_keys[exit], 1)
    return sliced.exit_ends[exit] != 0 or walk(t, trie, out, path, sliced.exits[exit], config, 1)


@helper
def plain_mask(t: Tables, trie: Trie, path: Int64s, config: int, out: Words) -> bool:
    out[:] = 0
    return walk(t, trie, out, path, 0, config, 1)


@helper
def loop_mask(t: Tables, trie: Trie, path: Int64s, config: int, out: Words, sliced: TokenSlice) -> bool:
    """A configuration that a run leads back to itself."""
    t.configs[config, CONFIG.walked] = t.counts[COUNT.walk]
    copy_into(out, sliced.whole)
    done = True
    for byte in range(256):
        following = t.rows[config, byte]
        if following == 0:
            continue
        for exit in range(sliced.exit_start[byte], sliced.exit_start[byte + 1]):
            done = walk_exit(t, trie, out, path, sliced, exit, following) and done
            if t.counts[COUNT.full]:
                return False
    return done


@helper
def counter_mask(
    t: Tables, trie: Trie, path: Int64s, config: int, out: Words, sliced: TokenSlice, counter: Counter, configs: Int64s
) -> bool:
    """A configuration that each character of a run leads one iteration further in a counted repeat.

    A byte outside the run that leads to one place at two iterations, both of which may leave the repeat, is not read by
    the body (that would stand in two frames): it leads there at every later iteration. One that leads nowhere before
    the repeat may be left leads nowhere until then. So long runs before a quote need no long counters. configs: room
    for where the counter leads.
    """
    remaining = counter.remaining
    number = len(sliced.tokens)
    if remaining < 0 or number == 0 or sliced.lengths[number - 1] <= remaining:
        copy_into(out, sliced.whole)
    elif remaining <= NUM_CUMULATIVE:
        for word in range(len(out)):
            out[word] = sliced.cumulative[remaining, word]
    else:
        copy_into(out, sliced.whole)
        while number > 0 and sliced.lengths[number - 1] > remaining:
            number -= 1
            put(out, sliced.tokens[number], 0)
    configs[0] = config
    known = 1
    done = True
    free = counter.free
    for byte in range(256):
        for exit in range(sliced.exit_start[byte], sliced.exit_start[byte + 1]):
            iterations = sliced.exit_lengths[exit]
            if 0 <= remaining < iterations or (iterations < free and t.rows[config, byte] == 0):
                continue
            nearest = min(iterations, free + 1)
            known = lengthen(t, configs, known, nearest, counter.step_byte)
            if known < 0:
                return False
            following = t.rows[configs[nearest], byte]
            if iterations > nearest and following != t.rows[configs[free], byte]:
                known = lengthen(t, configs, known, iterations, counter.step_byte)
                if known < 0:
                    return False
                following = t.rows[configs[iterations], byte]
            if following:
                done = walk_exit(t, trie, out, path, sliced, exit, following) and done
                if t.counts[COUNT.full]:
                    return False
    return done


@helper
def lengthen(t: Tables, configs: Int64s, known: int, iterations: int, byte: int) -> int:
    """Step the counter on to `iterations`; how much of it is known then, -1 if rules or room are missing."""
    while known <= iterations:
        configs[known] = t.rows[configs[known - 1], byte]
        if not ensure_row(t, configs[known]):
            return -1
        known += 1
    return known


@helper
def delta_mask(t: Tables, trie: Trie, path: Int64s, config: int, base: int, out: Words, known: Words) -> bool:
    """A configuration much like `base`, whose mask is `known`: both walk in step, only where they differ."""
    copy_into(out, known)
    middle = len(path) // 2
    path[0, PATH.node] = 0
    path[0, PATH.config] = config
    path[0, PATH.base] = base
    depth = 1
    done = True
    while depth > 0:
        depth -= 1
        node = path[depth, PATH.node]
        here = path[depth, PATH.config]
        other = path[depth, PATH.base]
        if not ensure_row(t, here) or not ensure_row(t, other):
            if t.counts[COUNT.full]:
                return False
            done = False
            continue
        t.configs[here, CONFIG.walked] = t.configs[other, CONFIG.walked] = t.counts[COUNT.walk]
        for child in range(trie.first[node], trie.first[node + 1]):
            mine = t.rows[here, trie.byte[child]]
            theirs = t.rows[other, trie.byte[child]]
            if mine == theirs:
                continue
            if mine and theirs:
                if trie.first[child] < trie.first[child + 1]:
                    path[depth, PATH.node] = child
                    path[depth, PATH.config] = mine
                    path[depth, PATH.base] = theirs
                    depth += 1
                continue
            setting = 1 if mine else 0
            if trie.key[child] >= 0:
                put(out, trie.key[child], setting)
            done = walk(t, trie, out, path[middle:], child, mine + theirs, setting) and done
            if t.counts[COUNT.full]:
                return False
    return done
