"""Builds the tables of one run from a vocabulary's trie: a walk by the kernel, then sorting."""

from __future__ import annotations

import numpy as np

from stemma.fsm.kernels import KernelLoader
from stemma.fsm.runs import NUM_CUMULATIVE, Run, find_run
from stemma.fsm.tables import Int64s
from stemma.fsm.trie import Trie


def build_run(trie: Trie, inside: Int64s, path: Int64s, num_words: int, loader: KernelLoader) -> Run:
    """The tokens of the run by their number of characters, and the places where other tokens leave it."""
    num_nodes = len(trie.byte)
    found, exits, sizes = np.empty((num_nodes, 2), np.int64), np.empty((num_nodes, 2), np.int64), np.zeros(2, np.int64)
    find = loader.compiled.masks.find_run if loader.compiled else find_run
    longest = find(trie, inside, path, found, exits, sizes)
    found, exits = found[: sizes[0]], exits[: sizes[1]]
    found = found[np.argsort(found[:, 1].astype(np.uint16), kind="stable")].astype(np.int32)
    exits = exits[np.lexsort((exits[:, 0], trie.byte[exits[:, 0]]))]
    nodes = np.ascontiguousarray(exits[:, 0])
    bits = np.zeros((NUM_CUMULATIVE + 1, 32 * num_words), np.bool_)
    for length in range(1, NUM_CUMULATIVE + 1):
        bits[length] = bits[length - 1]
        first, end = np.searchsorted(found[:, 1], (length, length + 1))
        bits[length, found[first:end, 0]] = True
    cumulative = np.packbits(bits, axis=1, bitorder="little").view(np.uint32)
    whole = bits[-1]
    if longest > NUM_CUMULATIVE:
        whole[found[:, 0]] = True
    return Run(
        whole=np.packbits(whole, bitorder="little").view(np.uint32),
        cumulative=cumulative,
        tokens=np.ascontiguousarray(found[:, 0]),
        lengths=np.ascontiguousarray(found[:, 1]),
        exits=nodes,
        exit_keys=trie.key[nodes],
        exit_ends=(trie.first[nodes] == trie.first[nodes + 1]).astype(np.int64),
        exit_lengths=np.ascontiguousarray(exits[:, 1]),
        exit_start=np.searchsorted(trie.byte[nodes], np.arange(257)).astype(np.int64),
    )
