"""Masks of ordinary tokens: plans (`mask_plan`) carried out by the kernels, with what is known (`mask_cache`).

XGrammar computes its masks before the first request, a stack top at a time; here one is computed when a configuration
is first met, and kept. Special tokens and end-of-text are the grammar's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

import numpy as np

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.kernels.columns import COUNT, TWIN, width
from stemma.fsm.kernels.iterations import Repetition
from stemma.fsm.kernels.kinds import COUNTER, DELTA, NOT_YET
from stemma.fsm.kernels.look import DONE
from stemma.fsm.kernels.tables import Int64s, Tables
from stemma.fsm.matching.mask_cache import IterationKey, IterationMask, MaskCache, Words
from stemma.fsm.matching.mask_plan import Bounded, Classified, Counted, Delta, Loop, Planner, Region
from stemma.fsm.matching.shared_texts import Side, name_of, sides_of
from stemma.fsm.vocabulary.vocabulary import Vocabulary

MOST_LONG = 20_000  # tokens that are looked at one by one
FAR = 1 << 40
NO_TWINS = np.zeros((0, width(TWIN)), np.int64)
P = ParamSpec("P")


class Masking:
    """Computes the masks of one grammar, and holds the room that kernels work in."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary, cache: MaskCache) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._twins = vocabulary.twins
        self._cache = cache
        self._kernels = automaton.kernels
        self.path = vocabulary.new_path()
        self._planner = Planner(automaton, vocabulary, self.path)
        self._configs = np.zeros(vocabulary.longest + 2, np.int64)
        self._walks = 0
        self._joining: set[int] = set()  # configurations whose parts are being computed

    def __del__(self) -> None:
        if hasattr(self, "path"):  # else it has not got that far
            self._vocabulary.leave_path(self.path)

    def look(self, config: int, out: Words) -> int:
        """DONE if `out` is the mask now, which is all that most places need; else to be completed by `compute`."""
        return self._planner.look(config, out, self._twins)

    def compute(self, config: int, out: Words, looked: int) -> None:
        """Write the tokens whose bytes `config` reads into `out`, where the last look at it was `looked`."""
        self._complete(config, out, looked, self._twins)
        self._kernels.copy_twins(out, self._twins)

    def _compute(self, config: int, out: Words) -> None:
        """The mask without twins."""
        self._complete(config, out, self._planner.look(config, out, NO_TWINS), NO_TWINS)

    def _complete(self, config: int, out: Words, looked: int, twins: Int64s) -> None:
        """The mask of its parts, or from an earlier iteration of a counted repeat if that is like it, or by itself."""
        while looked == NOT_YET:
            self._automaton.provide()
            looked = self._planner.look(config, out, twins)
        if looked == DONE:
            return
        classified = self._planner.seen(config)
        repetition = classified.repetition
        if not self._join_parts(classified, out) and (
            repetition is None or not self._copy_iteration(config, repetition, out)
        ):
            self._carry_out(classified, out)

    def _join_parts(self, classified: Classified, out: Words) -> bool:
        """Whether `out` was written: all that any part of the configuration allows. Not of a base that one of its own
        parts asks for."""
        config, parts = classified.config, classified.parts
        if not parts or config in self._joining:
            return False
        self._joining.add(config)
        try:
            out[:] = self._kept(parts[0], self._compute)
            for part in parts[1:]:
                np.bitwise_or(out, self._kept(part, self._compute), out=out)
        finally:
            self._joining.remove(config)
        return True

    def _carry_out(self, classified: Classified, out: Words) -> None:
        kernels, trie, path, config = self._kernels, self._vocabulary.trie, self.path, classified.config
        plan = self._planner.plan(classified, self._distance_to_end)
        if isinstance(plan, Loop):
            sliced = self._vocabulary.slice_within(plan.inside)
            self._until_done(kernels.loop_mask, trie, path, config, out, sliced)
        elif isinstance(plan, Counted):
            self._count(classified, plan, out)
        elif isinstance(plan, Delta):
            known = self._kept(plan.base, self._compute_base)
            self._until_done(kernels.delta_mask, trie, path, config, plan.base, out, known)
        elif isinstance(plan, Region):
            sliced = self._vocabulary.slice_within(plan.inside)
            self._until_done(kernels.region_mask, trie, path, config, out, sliced, plan.reads)
        elif isinstance(plan, Bounded):
            self._join(config, plan, out)
        else:
            self._until_done(kernels.plain_mask, trie, path, config, out)

    def _join(self, config: int, plan: Bounded, out: Words) -> None:
        """What both sides of a bounded text allow, and what goes on after it."""
        known, sure = self._pattern_side(plan.text.left), np.empty_like(out)
        self._carry_out(plan.right, out)
        self._carry_out(self._planner.classify(plan.spare), sure)
        np.bitwise_and(out, known, out=out)
        vocabulary, sliced = self._vocabulary, self._vocabulary.slice_of(plan.inside)
        bounded_mask = self._kernels.bounded_mask
        self._until_done(
            bounded_mask, vocabulary.trie, self.path, config, out, sure, sliced, plan.text, vocabulary.nodes
        )

    def _count(self, classified: Classified, plan: Counted, out: Words) -> None:
        """As long as no token reaches the repeat's limits, one iteration is like another: a byte takes at most one."""
        counters, key = self._cache.counters, self._far_counter(classified)
        if key is not None and key in counters:
            out[:] = counters[key]
            return
        sliced = self._vocabulary.slice_of(plan.inside)
        trie, arguments = self._vocabulary.trie, (out, sliced, plan.counter, self._configs)
        self._until_done(self._kernels.counter_mask, trie, self.path, classified.config, *arguments)
        if key is not None:
            counters.keep(key, out.copy())

    def _far_counter(self, classified: Classified) -> IterationKey | None:
        """The name of a counter and all those like it that are far from limits; None near one, or where what is walked
        counts."""
        found, longest = classified.found, self._vocabulary.longest
        is_far = found.free == 0 and not 0 <= found.remaining <= longest and found.left > longest
        if not is_far or self._automaton.tables.counts[COUNT.walk]:
            return None
        earliest = self._planner.earlier(classified.config, found.repetition) if found.earlier else classified.config
        return IterationKey(earliest, found.repeat, found.parent) if earliest else None

    def _pattern_side(self, config: int) -> Words:
        """The mask of a pattern beside a length, which other grammars may have found out."""
        bases, sides = self._cache.bases, sides_of(self._vocabulary)
        if config in bases:
            return bases[config]
        name = name_of(self._automaton, config)
        side = sides.get(name)
        if side is not None:
            return bases.keep(config, side.mask)
        known = self._kept(config, self._compute)
        if name is not None:
            sides.keep(name, Side(known, self._cache.distances[config]))
        return known

    def _until_done(
        self, kernel: Callable[Concatenate[Tables, P], bool], *arguments: P.args, **named: P.kwargs
    ) -> None:
        """A kernel stops for what is missing; then that is provided, and it begins anew."""
        while not kernel(self._automaton.tables, *arguments, **named):
            self._automaton.provide()

    def _kept(self, config: int, compute: Callable[[int, Words], None]) -> Words:
        """The mask of another configuration, computed once."""
        known = self._cache.bases.get(config)
        if known is None:
            known = np.empty(self._vocabulary.num_words, np.uint32)
            compute(config, known)
            self._cache.bases.keep(config, known)
        return known

    def _compute_base(self, config: int, out: Words) -> None:
        """The mask of a base, which later iterations may copy if nobody else counts what is walked."""
        looked = self._planner.look(config, out, NO_TWINS)
        while looked == NOT_YET:
            self._automaton.provide()
            looked = self._planner.look(config, out, NO_TWINS)
        if looked == DONE:
            return
        classified = self._planner.seen(config)
        found, counted = classified.found, self._automaton.tables.counts[COUNT.walk]
        if found.repeat and not found.earlier and found.kind != COUNTER and not counted:
            key = IterationKey(config, found.repeat, found.parent)
            self._cache.iterations.keep(key, self._walked_iteration(classified, found.repetition, out))
        elif not self._join_parts(classified, out):
            self._carry_out(classified, out)

    def _distance_to_end(self, config: int) -> int:
        distances = self._cache.distances
        if config not in distances:
            side = sides_of(self._vocabulary).get(name_of(self._automaton, config))
            if side is not None:
                distances[config] = side.distance
                return side.distance
            distance, after = self._planner.farthest(config)
            distances[config] = distance
            for each in after:
                distances.setdefault(each, distance)
        return distances[config]

    def _copy_iteration(self, config: int, repetition: Repetition, out: Words) -> bool:
        """Whether `out` was written: no token from `config` passes a limit that none passes from an earlier iteration,
        or only long ones may. A byte takes at most one iteration, and who has fewer iterations left reads no more."""
        last_iterations, maximum = self._cache.last_iterations, self._planner.maximum_of(repetition)
        long_tokens = self._vocabulary.longer_than(repetition.left - 1)
        few_are_long = len(long_tokens) <= MOST_LONG
        if not few_are_long and last_iterations.get(repetition.repeat, 0) + repetition.earlier + 1 >= maximum:
            return False
        iteration = self._early_iteration(config, repetition)
        if iteration is None:
            return False
        last_iterations[repetition.repeat] = iteration.last
        passes = iteration.last + repetition.earlier + 1 >= maximum
        if passes and not few_are_long:
            return False
        out[:] = iteration.mask
        if passes:
            trie, nodes = self._vocabulary.trie, self._vocabulary.nodes
            self._until_done(self._kernels.take_off, trie, self.path, config, out, long_tokens, nodes)
        return True

    def _early_iteration(self, config: int, repetition: Repetition) -> IterationMask | None:
        """The iteration like that of `config`, as many iterations earlier as may be; None if there is nothing to
        copy."""
        earlier, iterations = self._planner.earlier(config, repetition), self._cache.iterations
        key = IterationKey(earlier, repetition.repeat, repetition.parent)
        if key in iterations:
            return iterations[key]
        return iterations.keep(key, self._iteration_at(earlier, repetition) if earlier else None)

    def _iteration_at(self, config: int, repetition: Repetition) -> IterationMask | None:
        """The mask of `config`, and how far its tokens get, for which all of it has to be walked here. None for a
        COUNTER, which is quick and does not read all tokens."""
        classified, mask = self._planner.classify(config), np.zeros(self._vocabulary.num_words, np.uint32)
        if classified.found.kind == COUNTER:
            return None
        if classified.repetition is not None and self._copy_iteration(
            config, classified.repetition, mask
        ):  # of another repeat
            return IterationMask(mask, FAR)
        if classified.found.kind == DELTA:
            self._cache.bases.pop(classified.found.base, None)
        return self._walked_iteration(classified, repetition, mask)

    def _walked_iteration(self, classified: Classified, repetition: Repetition, out: Words) -> IterationMask:
        """Compute the mask there, in the first iteration of a repeat."""
        counts = self._automaton.tables.counts
        outer = int(
            counts[COUNT.walk]
        )  # of a text of which this is a side: what is walked here, its iterations do not see
        self._walks += 1
        counts[COUNT.walk] = self._walks
        try:
            self._carry_out(classified, out)
            return IterationMask(out, int(self._kernels.last_iteration(self._automaton.tables, repetition)))
        finally:
            counts[COUNT.walk] = outer
