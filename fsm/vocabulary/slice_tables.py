"""Builds one slice of a vocabulary from its trie: a walk by the kernel, then sorting."""

from __future__ import annotations

import numpy as np

from stemma.fsm.kernels.columns import LENGTH, width
from stemma.fsm.kernels.loader import kernels
from stemma.fsm.kernels.slices import NUM_CUMULATIVE, TokenSlice
from stemma.fsm.kernels.tables import Int64s
from stemma.fsm.kernels.trie import Trie


def build_slice(trie: Trie, inside: Int64s, path: Int64s, num_words: int) -> TokenSlice:
    """The tokens of the slice by their number of characters, and the places where other tokens leave it."""
    num_nodes = len(trie.byte)
    found, exits = (np.empty((num_nodes, width(LENGTH)), np.int64) for _ in range(2))
    number, num_exits, longest = kernels().find_slice(trie, inside, path, found, exits)
    exits = exits[:num_exits]
    tokens, lengths = np.empty(number, np.int32), np.empty(number, np.int32)
    masks = np.zeros((NUM_CUMULATIVE + 2, num_words), np.uint32)
    kernels().sort_slice(found, number, np.zeros(longest + 2, np.int64), tokens, lengths, masks)
    exits = exits[np.lexsort((exits[:, LENGTH.key], trie.byte[exits[:, LENGTH.key]]))]
    nodes = np.ascontiguousarray(exits[:, LENGTH.key])
    return TokenSlice(
        whole=masks[-1].copy(),
        cumulative=masks[:-1].copy(),
        tokens=tokens,
        lengths=lengths,
        exits=nodes,
        exit_keys=trie.key[nodes],
        exit_ends=(trie.first[nodes] == trie.first[nodes + 1]).astype(np.int64),
        exit_lengths=np.ascontiguousarray(exits[:, LENGTH.characters]),
        exit_start=np.searchsorted(trie.byte[nodes], np.arange(257)).astype(np.int64),
    )
