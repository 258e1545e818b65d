"""The shortest way to a complete output: fewest bytes by the grammar, then fewest tokens for those bytes.

Distances to an accepting state are least fixed points over the states (Knuth 1977, a generalization of Dijkstra's
algorithm), so recursion is no special case:

    value ::= "a" | "[" value "]"      distance of `value`: min(1, 2 + itself) = 1
    after `[[`                         1 + 1 + 1: the value and both brackets, `a]]`; one token if the vocabulary has it

It builds every rule that can be reached, up to a limit: the nearest ones first, and once these were many, straight
ahead to some end. Then what is found is a completion, if perhaps not the shortest. It never changes where a matcher
stands.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.program import FIRST_SPECIAL
from stemma.fsm.kernels.boundaries import child_of
from stemma.fsm.kernels.columns import EDGE, FRAME, PAIR, STATE, product_of, stack_of, state_of
from stemma.fsm.kernels.stacks import is_union
from stemma.fsm.kernels.tables import BYTES, CALL, DIFFERENCE, PRODUCT, RANGE, REPEAT, RETURN, SPLIT
from stemma.fsm.kernels.trie import Trie

FAR = 1 << 40
MAX_RULES = 2_000  # that all searches in one automaton may build, the nearest first
MAX_RULES_AHEAD = 100  # that each may build beyond these
WIDE_SHARE, MAX_SHARE = 0.1, 0.5  # of the limit of states: the rest is for what is read
MAX_PAIRS = 5_000


class FirstStep(NamedTuple):
    """How far an item is from the end, and a first byte (or special symbol) on the way; -1 at the end."""

    distance: int
    first: int


class ShortestCompletion:
    """Distances to the end in one automaton, kept and extended as it grows."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._num_built = 0  # rules
        self._distances: dict[int, int] = {}
        self._products: dict[tuple[int, int, int], bytes | None] = {}

    def shortest(self, config: int, budget: int) -> list[int] | None:
        """Bytes (special symbols are 256 and up) that complete the output, at most `budget`, or None."""
        symbols: list[int] = []
        automaton = self._automaton
        while not automaton.is_accepting(config):
            step = self._first_step(config)
            if len(symbols) + step.distance > budget:
                return None
            advance = automaton.step if step.first < FIRST_SPECIAL else automaton.step_special
            config = advance(config, step.first)
            symbols.append(step.first)
        return symbols

    def _first_step(self, config: int) -> FirstStep:
        items = self._automaton.tables.items[self._automaton.items_of(config)].tolist()
        states = [state for item in items for state in self._states_of(item)]
        if any(state not in self._distances for state in states):
            self._measure(states)
        step = min(map(self._first_step_of, items), default=FirstStep(FAR, -1))
        if step.distance >= FAR and items:  # with fewer rules built there was no way
            self._measure(states)
            step = min(map(self._first_step_of, items))
        return step

    def _states_of(self, item: int) -> list[int]:
        """The states that an item still has to leave: its own and those its frames return to."""
        own = [state_of(item)] if item >= 0 else []
        stacks = self._automaton.tables.stacks
        return own + [int(stacks[stack, FRAME.back]) for stack in self._below(stack_of(item))]

    def _below(self, stack: int) -> list[int]:
        """All frames and unions of `stack`, the lowest first: what a frame stands on is older than it."""
        tables, found, todo = self._automaton.tables, {0}, [stack]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                row = tables.stacks[each].tolist()
                todo += [row[FRAME.rest], row[FRAME.first]] if is_union(tables, each) else [row[FRAME.parent]]
        return sorted(found - {0})

    def _left_behind(self, stack: int) -> int:
        """The distance from where the first frame of `stack` returns to."""
        t = self._automaton.tables
        left = {0: 0}
        for each in self._below(stack):
            frame = t.stacks[each].tolist()
            back, count = frame[FRAME.back], frame[FRAME.iteration]
            if is_union(t, each):
                left[each] = min(left[frame[FRAME.first]], left[frame[FRAME.rest]])
            elif count >= 0 and t.states[back, STATE.kind] == REPEAT:
                repeat = t.states[back].tolist()
                more = max(0, repeat[STATE.minimum] - count - 1) * self._distances[repeat[STATE.body]]
                left[each] = left[frame[FRAME.parent]] + more + self._distances[repeat[STATE.next]]
            else:
                left[each] = left[frame[FRAME.parent]] + self._distances[back]
        return left[stack]

    def _first_step_of(self, item: int) -> FirstStep:
        t = self._automaton.tables
        distance, state = self._left_behind(stack_of(item)), state_of(item)
        if state < 0:
            pair = t.products[product_of(state)].tolist()
            data = self._shortest_product(pair[PAIR.operation], pair[PAIR.left], pair[PAIR.right])
            return FirstStep(FAR, -1) if not data else FirstStep(distance + len(data), data[0])
        row = t.states[state].tolist()
        if row[STATE.kind] == RANGE:
            return FirstStep(distance + 1 + self._distances[row[STATE.target]], row[STATE.low])
        edges = t.edges[row[STATE.first_edge] : row[STATE.end_edge]].tolist()
        steps = [FirstStep(distance + 1 + self._distances[edge[EDGE.target]], edge[EDGE.low]) for edge in edges]
        return min(steps, default=FirstStep(FAR, -1))

    def _measure(self, states: list[int]) -> None:
        """Make the distances of `states`, and of all that they lead to, known as far as rules may be built."""
        reached = self._reached(states)
        rows = {state: self._automaton.tables.states[state].tolist() for state in reached}
        for state in reached:
            self._distances.setdefault(state, FAR)
        changed = True
        while changed:
            changed = False
            for state in reversed(reached):
                distance = self._distance(state, rows[state])
                if distance < self._distances[state]:
                    self._distances[state] = distance
                    changed = True

    def _distance(self, state: int, row: list[int]) -> int:
        distances, kind = self._distances, row[STATE.kind]
        if kind == RETURN:
            return 0
        if kind == RANGE:
            return min(FAR, 1 + distances[row[STATE.target]])
        if kind in (BYTES, SPLIT):
            ends = self._targets(row)
            return min(FAR, min((distances[end] for end in ends), default=FAR) + (kind == BYTES))
        if kind == CALL:
            entry = int(self._automaton.tables.rules[row[STATE.rule]])  # -1, which nothing measures, if not built
            return min(FAR, distances.get(entry, FAR) + distances[row[STATE.next]])
        if kind == REPEAT:
            return min(FAR, row[STATE.minimum] * distances[row[STATE.body]] + distances[row[STATE.next]])
        return min(FAR, self._product_start(state) + distances[row[STATE.next]])

    def _reached(self, states: list[int]) -> list[int]:
        """All states that `states` lead to and whose distance is not known, building the rules on the way."""
        found = dict.fromkeys(state for state in states if self._distances.get(state, FAR) == FAR)
        todo = deque(found)
        automaton = self._automaton
        most = max(MAX_RULES, self._num_built) + MAX_RULES_AHEAD
        while todo:
            is_wide = self._num_built < MAX_RULES and automaton.share_built < WIDE_SHARE
            state = todo.popleft() if is_wide else todo.pop()
            row = automaton.tables.states[state].tolist()
            kind = row[STATE.kind]
            if kind in (BYTES, SPLIT):
                ends = self._targets(row)
            elif kind == CALL:
                rule = row[STATE.rule]
                is_new = automaton.tables.rules[rule] < 0
                may_build = self._num_built < most and automaton.share_built < MAX_SHARE
                self._num_built += is_new and may_build
                entries = [automaton.entry_of(rule)] if may_build or not is_new else []
                ends = [row[STATE.next], *entries]
            elif kind == REPEAT:
                ends = [row[STATE.body], row[STATE.next]]
            else:
                ends = {RANGE: [row[STATE.target]], PRODUCT: [row[STATE.next]], RETURN: []}[kind]
            for end in ends:
                if end not in found and self._distances.get(end, FAR) == FAR:
                    found[end] = None
                    todo.append(end)
        return list(found)

    def _targets(self, row: list[int]) -> list[int]:
        """Where the edges of a BYTES or SPLIT state lead."""
        edges = self._automaton.tables.edges[row[STATE.first_edge] : row[STATE.end_edge], EDGE.target]
        return list(edges.tolist())

    def _product_start(self, state: int) -> int:
        left, right = self._automaton.sides_of(state)
        operation = int(self._automaton.tables.states[state, STATE.operation])
        data = self._shortest_product(operation, left, right)
        return FAR if data is None else len(data)

    def _shortest_product(self, operation: int, left: int, right: int) -> bytes | None:
        """The shortest text that a product accepts from two configurations: a breadth-first search over pairs."""
        key = (operation, left, right)
        if key not in self._products:
            self._products[key] = self._searched(operation, left, right)
        return self._products[key]

    def _searched(self, operation: int, left: int, right: int) -> bytes | None:
        automaton = self._automaton
        seen = {(left, right)}
        todo = deque([(left, right, b"")])
        while todo and len(seen) < MAX_PAIRS:
            left, right, data = todo.popleft()
            if automaton.is_accepting(left) and automaton.is_accepting(right) != (operation == DIFFERENCE):
                return data
            lefts, rights = automaton.row(left).copy(), automaton.row(right).copy()
            _, firsts = np.unique(lefts.astype(np.int64) * (1 << 31) + rights, return_index=True)
            for byte in sorted(firsts.tolist()):
                pair = int(lefts[byte]), int(rights[byte])
                if pair[0] and (pair[1] or operation == DIFFERENCE) and pair not in seen:
                    seen.add(pair)
                    todo.append((*pair, data + bytes([byte])))
        return None


def fewest_tokens(trie: Trie, data: bytes) -> list[int] | None:
    """The fewest tokens that spell `data`, or None if the vocabulary cannot."""
    best: list[list[int] | None] = [[], *([None] * len(data))]
    for start in range(len(data)):
        so_far = best[start]
        if so_far is None:
            continue
        node = 0
        for end in range(start, len(data)):
            node = child_of(trie, node, data[end])
            if node < 0:
                break
            known = best[end + 1]
            if trie.key[node] >= 0 and (known is None or len(known) > len(so_far) + 1):
                best[end + 1] = [*so_far, int(trie.key[node])]
    return best[-1]
