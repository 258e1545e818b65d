"""Masks by the plain road: the vocabulary's trie walked level by level with numpy.

It needs no compiled code, so it serves until the kernels are ready, and is what their masks are compared with.
"""

from __future__ import annotations

import numpy as np

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.kernels.tables import Int64s
from stemma.fsm.kernels.trie import Trie


def allowed_keys(automaton: Automaton, trie: Trie, config: int) -> Int64s:
    """The keys of all strings in `trie` that `config` can read."""
    nodes = np.zeros(1, np.int64)
    configs = np.array([config], np.int64)
    found = []
    while len(nodes):
        for each in np.unique(configs):
            automaton.row(int(each))
        starts, sizes = trie.first[nodes], trie.first[nodes + 1] - trie.first[nodes]
        parents = np.repeat(np.arange(len(nodes)), sizes)
        children = np.arange(len(parents)) + (starts - np.cumsum(sizes) + sizes)[parents]
        following = automaton.tables.rows[configs[parents], trie.byte[children]]
        alive = following > 0
        nodes, configs = children[alive], following[alive].astype(np.int64)
        keys = trie.key[nodes]
        found.append(keys[keys >= 0])
    return np.concatenate(found).astype(np.int64)
