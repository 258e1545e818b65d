"""Which way to compute each mask: it asks the kernels what a configuration is like, and takes the cheapest exact road.

It holds the room the kernels work in, one for a grammar. Until they are compiled it walks with numpy.
"""

from __future__ import annotations

import numpy as np

from stemma.fsm.automaton import Automaton
from stemma.fsm.kernels import MaskKernels, Words, loader
from stemma.fsm.masks import BASE, CHAIN, DELTA, KIND, LONGEST, LOOP
from stemma.fsm.vocabulary import Vocabulary
from stemma.fsm.walk import allowed_keys


class Masking:
    """Computes masks of ordinary tokens; `known` masks of other configurations are asked of the owner."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._loader = loader()
        self.path = vocabulary.new_path()
        self._inside = np.zeros(129, np.int64)
        self._found = np.zeros(6, np.int64)
        self._chain = np.zeros(vocabulary.longest + 2, np.int64)
        self._bases: dict[int, Words] = {}

    def compute(self, config: int, out: Words) -> None:
        """Write the tokens whose bytes `config` reads into `out`."""
        compiled = self._loader.compiled
        if compiled is None:
            self._walk(config, out)
        else:
            self._compute(config, out, compiled.masks)
        first, second = self._vocabulary.twins.T
        bits = (out[first >> 5] >> (first & 31).astype(np.uint32)) & np.uint32(1)
        np.bitwise_or.at(out, second >> 5, bits << (second & 31).astype(np.uint32))

    def _walk(self, config: int, out: Words) -> None:
        bits = np.zeros(len(out) * 32, np.bool_)
        bits[allowed_keys(self._automaton, self._vocabulary.trie, config)] = True
        out[:] = np.packbits(bits, bitorder="little").view(np.uint32)

    def _compute(self, config: int, out: Words, kernels: MaskKernels) -> None:
        automaton, trie, path, found = self._automaton, self._vocabulary.trie, self.path, self._found
        found[LONGEST] = self._vocabulary.longest
        while not kernels.classify(automaton.tables, config, self._inside, found):
            automaton.provide()
        kind = int(found[KIND])
        if kind == DELTA:
            base = int(found[BASE])
            known = self._base_mask(base, kernels)
            while not kernels.delta_mask(automaton.tables, trie, path, config, base, out, known):
                automaton.provide()
        elif kind == LOOP:
            run = self._vocabulary.run(self._inside)
            while not kernels.loop_mask(automaton.tables, trie, path, config, out, run):
                automaton.provide()
        elif kind == CHAIN:
            run = self._vocabulary.run(self._inside)
            while not kernels.chain_mask(automaton.tables, trie, path, config, out, run, found, self._chain):
                automaton.provide()
        else:
            while not kernels.plain_mask(automaton.tables, trie, path, config, out):
                automaton.provide()

    def _base_mask(self, base: int, kernels: MaskKernels) -> Words:
        known = self._bases.get(base)
        if known is None:
            known = self._bases[base] = np.zeros(self._vocabulary.num_words, np.uint32)
            self._compute(base, known, kernels)
        return known
