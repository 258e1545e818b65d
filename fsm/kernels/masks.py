"""Masks at full speed, as kernels: a run copied and patched, a neighbour's mask patched, or a pruned walk of the trie.

Each gives exactly the tokens whose bytes the automaton reads. They return False when the automaton needs rules or
room (see `step`), and are then called again from the start; they go on past a missing rule first, so that all rules
that are missing are asked for at once. Nothing here knows special tokens or end-of-text.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.kinds import FREE, REMAINING, STEP_BYTE
from stemma.fsm.kernels.rows import ensure_row
from stemma.fsm.kernels.runs import NUM_CUMULATIVE, Run, copy_into
from stemma.fsm.kernels.tables import FULL, WALK, WALKED, Int64s, Tables
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
