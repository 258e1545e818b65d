"""Which way to compute each mask: it asks the kernels what a configuration is like, and takes the cheapest exact road.

It holds the room the kernels work in, one for a grammar. Until they are compiled it walks with numpy.
"""

from __future__ import annotations

import numpy as np

from stemma.fsm.automaton import Automaton
from stemma.fsm.bounded import MISSING
from stemma.fsm.kernels import MaskKernels, Words, loader
from stemma.fsm.masks import BASE, CHAIN, DELTA, FREE, KIND, LONGEST, LOOP, MIN_RUN, PLAIN, REMAINING, STEP_BYTE, STRAYS
from stemma.fsm.tables import BOUNDED
from stemma.fsm.vocabulary import Vocabulary
from stemma.fsm.walk import allowed_keys

MAXIMUM_BASES = 256  # masks of other configurations that are kept


class Masking:
    """Computes masks of ordinary tokens; `known` masks of other configurations are asked of the owner."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._loader = loader()
        self.path = vocabulary.new_path()
        self._inside = np.zeros(129, np.int64)
        self._found = np.zeros(7, np.int64)
        self._chain = np.zeros(vocabulary.longest + 2, np.int64)
        self._region_inside = np.zeros(129, np.int64)
        self._reads = np.zeros(256, np.int64)
        self._bases: dict[int, Words] = {}
        self._distances: dict[int, int] = {}

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
        kind = self._classify(config, kernels)
        if kind == PLAIN and self._bounded(config, out, kernels):
            return
        if kind == DELTA:
            base = int(found[BASE])
            known = self._base_mask(base, kernels)
            while not kernels.delta_mask(automaton.tables, trie, path, config, base, out, known):
                automaton.provide()
        elif kind in (LOOP, PLAIN) and found[STRAYS] and self._region(config, kernels, kind):
            run = self._vocabulary.run_within(self._inside)
            while not kernels.region_mask(automaton.tables, trie, path, config, out, run, self._reads):
                automaton.provide()
        elif kind == LOOP:
            run = self._vocabulary.run_within(self._inside)
            while not kernels.loop_mask(automaton.tables, trie, path, config, out, run):
                automaton.provide()
        elif kind == CHAIN:
            run = self._vocabulary.run(self._inside)
            while not kernels.chain_mask(automaton.tables, trie, path, config, out, run, found, self._chain):
                automaton.provide()
        else:
            while not kernels.plain_mask(automaton.tables, trie, path, config, out):
                automaton.provide()

    def _classify(self, config: int, kernels: MaskKernels) -> int:
        self._found[LONGEST] = self._vocabulary.longest
        while not kernels.classify(self._automaton.tables, config, self._inside, self._found):
            self._automaton.provide()
        return int(self._found[KIND])

    def _region(self, config: int, kernels: MaskKernels, kind: int) -> bool:
        """Whether a run of more bytes than a LOOP has leads through a region: then that is `_inside`."""
        inside = self._region_inside
        while (number := kernels.find_region(self._automaton.tables, config, self.path, inside, self._reads)) < 0:
            self._automaton.provide()
        if number and (kind == PLAIN or inside.sum() > self._inside.sum()):
            self._inside[:] = inside
            return True
        return False

    def _bounded(self, config: int, out: Words, kernels: MaskKernels) -> bool:
        """The mask inside a text with a pattern and a largest length; False where `config` is no such place."""
        automaton = self._automaton
        tables = automaton.tables
        first, number, accepting = tables.configs[config, :3].tolist()
        items = tables.items[first : first + min(number, 2)].tolist()
        if not items or items[0] >= 0 or (len(items) == 2 and items[1] < 0):
            return False
        operation, left, right = tables.products[-1 - (items[0] >> 32), :3].tolist()
        if operation != BOUNDED or automaton.row(config)[0x80:0xC0].any():
            return False
        ends = automaton.is_accepting(left) and automaton.is_accepting(right)
        after = automaton.after_frame(items[0] & 0x7FFFFFFF)
        others = int(automaton.tables.configs[after, 1]) if ends else 0
        if number != 1 + others or bool(accepting) != (ends and automaton.is_accepting(after)):
            return False
        following = automaton.row(after) != 0
        if following[0x80:].any() or following.sum() > 128 - MIN_RUN:
            return False
        spare = self._spare(left, right, kernels)
        if spare is None:
            return False
        known = self._base_mask(left, kernels)
        sure = np.empty_like(out)
        self._compute(right, out, kernels)
        self._compute(spare, sure, kernels)
        np.bitwise_and(out, known, out=out)
        inside = np.ones(129, np.int64)
        inside[:128] -= following[:128]
        run = self._vocabulary.run(inside)
        nodes, trie = self._vocabulary.nodes, self._vocabulary.trie
        while not kernels.bounded_mask(automaton.tables, trie, self.path, config, out, sure, run, left, nodes):
            automaton.provide()
        return True

    def _spare(self, left: int, right: int, kernels: MaskKernels) -> int | None:
        """`right` with as many characters less as it may take to end `left`; None where that is unknown or too many."""
        automaton = self._automaton
        distance = self._distances.get(left, MISSING)
        while distance == MISSING:
            distance = self._distances[left] = int(kernels.farthest(automaton.tables, left, self.path))
            if distance == MISSING:
                automaton.provide()
        if self._classify(right, kernels) != CHAIN or self._found[FREE] > 0:
            return None
        if not 0 <= distance < self._found[REMAINING]:
            return None
        byte = int(self._found[STEP_BYTE])
        for _ in range(distance):
            right = automaton.step(right, byte)
        return right

    def _base_mask(self, base: int, kernels: MaskKernels) -> Words:
        known = self._bases.get(base)
        if known is None:
            if len(self._bases) > MAXIMUM_BASES:
                self._bases.clear()
            known = self._bases[base] = np.zeros(self._vocabulary.num_words, np.uint32)
            self._compute(base, known, kernels)
        return known
