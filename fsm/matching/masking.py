"""Which way to compute each mask: it asks the kernels what a configuration is like, and takes the cheapest exact road.

It holds the room the kernels work in, one for a grammar. Until they are compiled it walks with numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.walk import allowed_keys
from stemma.fsm.kernels.bounded import MISSING
from stemma.fsm.kernels.kinds import (
    BASE,
    CHAIN,
    DELTA,
    FREE,
    KIND,
    LONGEST,
    LOOP,
    MIN_RUN,
    PLAIN,
    REMAINING,
    STEP_BYTE,
    STRAYS,
)
from stemma.fsm.kernels.loader import MaskKernels, Words, loader
from stemma.fsm.kernels.tables import BOUNDED, WALK, Int64s
from stemma.fsm.kernels.turns import BELOW, LEFT, TURNING, TURNS
from stemma.fsm.vocabulary.vocabulary import Vocabulary

MOST_LONG = 20_000  # tokens that are looked at one by one
FAR = 1 << 40
MAXIMUM_KEPT = 256  # masks of other configurations that are kept, of each kind


class Turn(NamedTuple):
    """The mask in an early turn of a counted repeat, and the last turn that its tokens get to."""

    mask: Words
    last: int


class Masking:
    """Computes masks of ordinary tokens; `known` masks of other configurations are asked of the owner."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._loader = loader()
        self.path = vocabulary.new_path()
        self._inside = np.zeros(129, np.int64)
        self._found = np.zeros(LEFT + 1, np.int64)
        self._chain = np.zeros(vocabulary.longest + 2, np.int64)
        self._region_inside = np.zeros(129, np.int64)
        self._reads = np.zeros(256, np.int64)
        self._turns: dict[tuple[int, int, int], Turn | None] = {}
        self._last: dict[int, int] = {}  # turn that tokens got to in a repeat
        self._walks = 0
        self._bases: dict[int, Words] = {}
        self._distances: dict[int, int] = {}

    def compute(self, config: int, out: Words) -> None:
        """Write the tokens whose bytes `config` reads into `out`."""
        compiled = self._loader.compiled
        if compiled is None:
            self._walk(config, out)
        else:
            self._turn_or_compute(config, out, compiled.masks)
        if not len(self._vocabulary.twins):
            return
        first, second = self._vocabulary.twins.T
        bits = (out[first >> 5] >> (first & 31).astype(np.uint32)) & np.uint32(1)
        np.bitwise_or.at(out, second >> 5, bits << (second & 31).astype(np.uint32))

    def _walk(self, config: int, out: Words) -> None:
        bits = np.zeros(len(out) * 32, np.bool_)
        bits[allowed_keys(self._automaton, self._vocabulary.trie, config)] = True
        out[:] = np.packbits(bits, bitorder="little").view(np.uint32)

    def _turn_or_compute(self, config: int, out: Words, kernels: MaskKernels) -> None:
        """The mask, from an earlier turn of a counted repeat if that is like it."""
        kind = self._classify(config, kernels)
        if self._found[TURNS] and kind != CHAIN:
            if self._copy_turn(config, out, kernels):
                return
            kind = self._classify(config, kernels)
        self._compute_as(kind, config, out, kernels)

    def _copy_turn(self, config: int, out: Words, kernels: MaskKernels) -> bool:
        """Whether `out` was written: no token from `config` passes a limit that none passes from an earlier turn, or
        only long ones may. A byte takes at most one turn, and who has fewer turns left reads no more."""
        automaton, found = self._automaton, self._found.copy()
        turns, repeat, below, left = found[TURNS:].tolist()
        maximum = int(automaton.tables.states[repeat, 4])
        long_tokens = self._vocabulary.longer_than(left - 1)
        few_are_long = len(long_tokens) <= MOST_LONG
        if not few_are_long and self._last.get(repeat, 0) + turns + 1 >= maximum:
            return False
        while (earlier := kernels.earlier_turn(automaton.tables, config, self.path, found)) < 0:
            automaton.provide()
        key = earlier, repeat, below
        if key not in self._turns:
            self._keep_turn(key, self._early_turn(earlier, found, kernels) if earlier else None)
        turn = self._turns[key]
        if turn is None:
            return False
        self._last[repeat] = turn.last
        passes = turn.last + turns + 1 >= maximum
        if passes and not few_are_long:
            return False
        out[:] = turn.mask
        trie, nodes = self._vocabulary.trie, self._vocabulary.nodes
        while passes and not kernels.take_off(automaton.tables, trie, self.path, config, out, long_tokens, nodes):
            automaton.provide()
        return True

    def _early_turn(self, config: int, found: Int64s, kernels: MaskKernels) -> Turn | None:
        """The mask of `config`, and how far its tokens get, for which all of it has to be walked here. None for a
        CHAIN, which is quick and does not read all tokens."""
        mask = np.zeros(self._vocabulary.num_words, np.uint32)
        kind = self._classify(config, kernels)
        if kind == CHAIN:
            return None
        if self._found[TURNS]:  # of another repeat
            if self._copy_turn(config, mask, kernels):
                return Turn(mask, FAR)
            kind = self._classify(config, kernels)
        if kind == DELTA:
            self._bases.pop(int(self._found[BASE]), None)
        return self._walk_turn(kind, config, mask, found, kernels)

    def _keep_turn(self, key: tuple[int, int, int], turn: Turn | None) -> None:
        if len(self._turns) > MAXIMUM_KEPT:
            self._turns.clear()
        self._turns[key] = turn

    def _walk_turn(self, kind: int, config: int, mask: Words, found: Int64s, kernels: MaskKernels) -> Turn:
        """Compute the mask of `config`, in the first turn of the repeat that is `found`."""
        counts = self._automaton.tables.counts
        outer = int(counts[WALK])  # of a text of which this is a side: what is walked here stands in none of its turns
        self._walks += 1
        counts[WALK] = self._walks
        try:
            self._compute_as(kind, config, mask, kernels)
            return Turn(mask, int(kernels.last_turn(self._automaton.tables, found)))
        finally:
            counts[WALK] = outer

    def _compute(self, config: int, out: Words, kernels: MaskKernels) -> None:
        self._compute_as(self._classify(config, kernels), config, out, kernels)

    def _compute_as(self, kind: int, config: int, out: Words, kernels: MaskKernels) -> None:
        automaton, trie, path, found = self._automaton, self._vocabulary.trie, self.path, self._found
        if kind == PLAIN and self._bounded(config, out, kernels):
            return
        if kind == DELTA:
            base = int(found[BASE])
            known = self._kept(base, self._compute_base, kernels)
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
        found = self._spare(left, right, kernels)
        if found is None:
            self._classify(config, kernels)  # what was found out about `right` stands where that of `config` stood
            return False
        spare, remaining = found
        known = self._kept(left, self._turn_or_compute, kernels)
        sure = np.empty_like(out)
        self._compute(right, out, kernels)
        self._compute(spare, sure, kernels)
        np.bitwise_and(out, known, out=out)
        inside = np.ones(129, np.int64)
        inside[:128] -= following[:128]
        run = self._vocabulary.run(inside)
        nodes, trie, places = self._vocabulary.nodes, self._vocabulary.trie, np.array((left, right, after, remaining))
        while not kernels.bounded_mask(automaton.tables, trie, self.path, config, out, sure, run, places, nodes):
            automaton.provide()
        return True

    def _spare(self, left: int, right: int, kernels: MaskKernels) -> tuple[int, int] | None:
        """`right` with as many characters less as it may take to end `left`, and how many `right` has left; None where
        that is unknown or too few."""
        automaton = self._automaton
        if left not in self._distances:
            self._measure(left, kernels)
        distance = self._distances[left]
        if self._classify(right, kernels) != CHAIN or self._found[FREE] > 0:
            return None
        if not 0 <= distance < self._found[REMAINING]:
            return None
        byte, remaining = int(self._found[STEP_BYTE]), int(self._found[REMAINING])
        for _ in range(distance):
            right = automaton.step(right, byte)
        return right, remaining

    def _measure(self, left: int, kernels: MaskKernels) -> None:
        """How many characters `left`, or what follows it, may be from an end: a bound for all that follows it, too."""
        automaton, found = self._automaton, self._found
        while (distance := int(kernels.farthest(automaton.tables, left, self.path, found))) == MISSING:
            automaton.provide()
        self._distances[left] = distance
        if distance >= 0:
            for config in self.path[: found[0], 0].tolist():
                self._distances.setdefault(config, distance)

    def _kept(self, config: int, compute: Callable[[int, Words, MaskKernels], None], kernels: MaskKernels) -> Words:
        """The mask of another configuration, computed once."""
        known = self._bases.get(config)
        if known is None:
            if len(self._bases) > MAXIMUM_KEPT:
                self._bases.clear()
            known = np.zeros(self._vocabulary.num_words, np.uint32)
            compute(config, known, kernels)
            self._bases[config] = known
        return known

    def _compute_base(self, config: int, out: Words, kernels: MaskKernels) -> None:
        """The mask of a base, which later turns may copy if nobody else counts what is walked."""
        kind = self._classify(config, kernels)
        repeat, below = self._found[[TURNING, BELOW]].tolist()
        if repeat and not self._found[TURNS] and kind != CHAIN and not self._automaton.tables.counts[WALK]:
            turn = self._walk_turn(kind, config, out, self._found.copy(), kernels)
            self._keep_turn((config, repeat, below), turn)
        else:
            self._compute_as(kind, config, out, kernels)
