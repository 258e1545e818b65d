"""The shortest way to a complete output: fewest bytes by the grammar, then fewest tokens for those bytes.

Distances to an accepting state are least fixed points over the states (Knuth 1977, a generalization of Dijkstra's
algorithm), so recursion is no special case:

    value ::= "a" | "[" value "]"      distance of `value`: min(1, 2 + itself) = 1
    after `[[`                         1 + 1 + 1: the value and both brackets, `a]]`; one token if the vocabulary has it

It builds every rule that can be reached, up to a limit: the nearest ones first, and once these were many, straight
ahead to some end. Then what is found is a completion, if perhaps not the shortest. It never changes where a matcher
stands. Work is counted, and what was found is kept: the distance behind each stack, looked at once however many items
stand on it, and the first step from each configuration.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.program import FIRST_SPECIAL
from stemma.fsm.errors import LimitError
from stemma.fsm.kernels.boundaries import child_of
from stemma.fsm.kernels.columns import EDGE, FRAME, PAIR, STATE, product_of, stack_of, state_of
from stemma.fsm.kernels.stacks import is_union
from stemma.fsm.kernels.tables import BYTES, CALL, DIFFERENCE, PRODUCT, RANGE, REPEAT, RETURN, SPLIT
from stemma.fsm.kernels.trie import Trie
from stemma.fsm.work import count_work, work_limit

FAR = 1 << 40
MAX_RULES = 2_000  # that all searches in one automaton may build, the nearest first
MAX_RULES_AHEAD = 100  # that each may build beyond these
WIDE_SHARE, MAX_SHARE = 0.1, 0.5  # of the limit of states: the rest is for what is read
MAX_PAIRS = 5_000
MAX_WORK = 8_000_000  # of one search; half as much after each in a row that was too much
MAX_KEPT = 1 << 17  # stacks and configurations whose distances are kept
LOOK_WORK, PAIR_WORK = 2, 60  # a frame or a state; a pair of configurations


class FirstStep(NamedTuple):
    """How far an item is from the end, and a first byte (or special symbol) on the way; -1 at the end."""

    distance: int
    first: int


class ShortestCompletion:
    """Distances to the end in one automaton, kept and extended as it grows."""

    def __init__(self, automaton: Automaton) -> None:
        self._automaton = automaton
        self._num_built = 0  # rules
        self._num_refused = 0  # searches in a row that took too much work
        self._distances: dict[int, int] = {}
        self._left: dict[int, int] = {0: 0}  # the distance from where a stack's first frame returns to
        self._steps: dict[int, FirstStep] = {}  # from configurations
        self._products: dict[tuple[int, int, int], bytes | None] = {}

    @property
    def num_kept(self) -> int:
        """How much is remembered."""
        return len(self._distances) + len(self._left) + len(self._steps) + len(self._products)

    def shortest(self, config: int, budget: int) -> list[int] | None:
        """Bytes (special symbols are 256 and up) that complete the output, at most `budget`; None if there are none, or
        if they take more than `MAX_WORK` to find. What was found out until then is kept, for the next search."""
        if len(self._left) + len(self._steps) > MAX_KEPT:
            self._forget()
        try:
            with work_limit(MAX_WORK >> self._num_refused):
                symbols = self._searched(config, budget)
        except LimitError:
            self._num_refused += 1
            return None
        self._num_refused = max(0, self._num_refused - 1)
        return symbols

    def _searched(self, config: int, budget: int) -> list[int] | None:
        symbols: list[int] = []
        automaton = self._automaton
        while not automaton.is_accepting(config):
            count_work(LOOK_WORK)
            step = self._first_step(config)
            if len(symbols) + step.distance > budget:
                return None
            advance = automaton.step if step.first < FIRST_SPECIAL else automaton.step_special
            config = advance(config, step.first)
            symbols.append(step.first)
        return symbols

    def _first_step(self, config: int) -> FirstStep:
        known = self._steps.get(config)
        if known is not None:
            return known
        items = self._automaton.tables.items[self._automaton.items_of(config)].tolist()
        states = self._states_of(items)
        if any(state not in self._distances for state in states):
            self._measure(states)
        step = self._nearest(items)
        if step.distance >= FAR and items:  # with fewer rules built there was no way
            self._forget()
            self._measure(self._states_of(items))
            step = self._nearest(items)
        if step.distance < FAR:
            self._steps[config] = step
        return step

    def _forget(self) -> None:
        """Distances behind stacks and from configurations are to be told anew."""
        self._left = {0: 0}
        self._steps.clear()

    def _nearest(self, items: list[int]) -> FirstStep:
        count_work(LOOK_WORK * len(items))
        self._add_up(self._frames_behind(items))
        return min(map(self._first_step_of, items), default=FirstStep(FAR, -1))

    def _states_of(self, items: list[int]) -> list[int]:
        """The states that items still have to leave: their own and those that frames not known yet return to."""
        stacks = self._automaton.tables.stacks
        own = [state_of(item) for item in items if item >= 0]
        return own + [int(stacks[stack, FRAME.back]) for stack in self._frames_behind(items)]

    def _frames_behind(self, items: list[int]) -> list[int]:
        """All frames and unions that items stand on and whose distance is not known, the lowest first: what a frame
        stands on is older than it."""
        tables, found, todo = self._automaton.tables, set[int](), [stack_of(item) for item in items]
        while todo:
            each = todo.pop()
            if each not in found and each not in self._left:
                count_work(LOOK_WORK)
                found.add(each)
                row = tables.stacks[each].tolist()
                todo += [row[FRAME.rest], row[FRAME.first]] if is_union(tables, each) else [row[FRAME.parent]]
        return sorted(found)

    def _add_up(self, frames: list[int]) -> None:
        """Tell the distances behind `frames`, the lowest first."""
        t, left = self._automaton.tables, self._left
        count_work(LOOK_WORK * len(frames))
        for each in frames:
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

    def _first_step_of(self, item: int) -> FirstStep:
        t = self._automaton.tables
        distance, state = self._left[stack_of(item)], state_of(item)
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
        if any(state in self._distances for state in reached):
            self._forget()  # they were far; what is told by them may be nearer now
        for state in reached:
            self._distances.setdefault(state, FAR)
        changed = True
        while changed:
            count_work(LOOK_WORK * len(reached))
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
            count_work(LOOK_WORK)
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
            self._products[key] = self._searched_product(operation, left, right)
        return self._products[key]

    def _searched_product(self, operation: int, left: int, right: int) -> bytes | None:
        automaton = self._automaton
        origins: dict[tuple[int, int], tuple[tuple[int, int], int] | None] = {(left, right): None}
        todo = deque(origins)
        while todo and len(origins) < MAX_PAIRS:
            count_work(PAIR_WORK)
            here = left, right = todo.popleft()
            if automaton.is_accepting(left) and automaton.is_accepting(right) != (operation == DIFFERENCE):
                return self._told_back(operation, here, origins)
            lefts, rights = automaton.row(left).copy(), automaton.row(right).copy()
            _, firsts = np.unique(lefts.astype(np.int64) * (1 << 31) + rights, return_index=True)
            for byte in sorted(firsts.tolist()):
                pair = int(lefts[byte]), int(rights[byte])
                if pair[0] and (pair[1] or operation == DIFFERENCE) and pair not in origins:
                    origins[pair] = here, byte
                    todo.append(pair)
        return None

    def _told_back(
        self, operation: int, pair: tuple[int, int], origins: dict[tuple[int, int], tuple[tuple[int, int], int] | None]
    ) -> bytes:
        """The text that led to `pair`; the rest of it is the shortest of each pair on the way."""
        data = b""
        self._products[(operation, *pair)] = data
        while (origin := origins[pair]) is not None:
            pair, byte = origin
            data = bytes([byte]) + data
            self._products[(operation, *pair)] = data
        return data


def fewest_tokens(trie: Trie, data: bytes) -> list[int] | None:
    """The fewest tokens that spell `data`, or None if the vocabulary cannot."""
    never = len(data) + 1
    fewest = [0] + [never] * len(data)  # for each beginning of `data`
    last = [(0, 0)] * (len(data) + 1)  # where its last token begins, and that token
    for start, so_far in enumerate(fewest):
        if so_far == never:
            continue
        node = 0
        for end in range(start, len(data)):
            node = child_of(trie, node, data[end])
            if node < 0:
                break
            if trie.key[node] >= 0 and fewest[end + 1] > so_far + 1:
                fewest[end + 1] = so_far + 1
                last[end + 1] = start, int(trie.key[node])
    if fewest[-1] == never:
        return None
    tokens: list[int] = []
    end = len(data)
    while end:
        end, token = last[end]
        tokens.append(token)
    return tokens[::-1]
