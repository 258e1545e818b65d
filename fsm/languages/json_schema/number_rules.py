"""The rules of numbers: digit automata, and numbers with exponents, as grammar nodes.

Many schemas have numbers from 0 on, or percentages: the rules of such numbers are made once a process (`ast.Kept`).
"""

from __future__ import annotations

from functools import lru_cache, partial

from stemma.fsm.languages.json_schema import exponents, numbers
from stemma.fsm.languages.json_schema.facts import Kind, Kinds, NumberFact
from stemma.fsm.syntax.ast import Kept, Node, RuleRef
from stemma.fsm.syntax.nodes import EMPTY, NOTHING, choice, concat, repeat

SMALL_AUTOMATON = 16


class NumberRules:
    """The rules of the numbers of some kinds with some facts. `most`: of digits in a row where nothing bounds them."""

    def __init__(self, kinds: Kinds, facts: tuple[NumberFact, ...], plain: bool, most: int) -> None:
        self.kinds, self.facts, self.plain, self.most = kinds, facts, plain, most

    def node(self) -> Node:
        ways = [self.digits(self.kinds, self.facts, leading=False)]
        if self.kinds != Kind.INTEGER and exponents.scientific(self.kinds, self.facts):
            ways.append(RuleRef(Kept(self.exponents)))
        return choice(ways)

    def digits(self, kinds: Kinds, facts: tuple[NumberFact, ...], leading: bool) -> Node:
        automaton = numbers.explored(kinds, facts, leading, self.plain)
        return DigitRules(automaton, self.most).node() if automaton.edges[0] else NOTHING

    def exponents(self) -> Node:
        ways: list[Node] = []
        for part in exponents.scientific(self.kinds, self.facts):
            if isinstance(part, exponents.Uniform):
                ways.append(exponents.uniform_node(part, self.most))
            else:
                mantissa = self.digits(Kind.NUMBER, part.facts, leading=True)
                ways.append(concat((mantissa, exponents.exponent_node(part.exponent, part.exponent))))
        return choice(ways)


class DigitRules:
    """The rules of one automaton. `left` in them: how many characters may come, where states lead back to others."""

    def __init__(self, automaton: numbers.DigitAutomaton, most: int) -> None:
        self.automaton = automaton
        self.most = most
        self.distances: dict[int, int] = {}
        self.rules: dict[tuple[int, int | None], Kept] = {}

    def node(self) -> Node:
        if not self.automaton.goes_round:
            return self.call(0, None)
        self.distances = self.automaton.distances()
        return self.call(0, self.distances[0] + 2 * self.most)

    def call(self, state: int, left: int | None) -> Node:
        rule = self.rules.get((state, left))
        if rule is None:
            rule = self.rules[state, left] = Kept(partial(self.reading, state, left))
        return RuleRef(rule)

    def reading(self, state: int, left: int | None) -> Node:
        """What is read from a state; a small automaton is one rule, but for its loops."""
        edges, ends = self.automaton.edges, self.automaton.ends
        targets: dict[int, str] = {}
        for symbol, target in edges[state]:
            if left is None or self.distances[target] < left:
                targets[target] = targets.get(target, "") + symbol
        again = exponents.edge_characters(targets.pop(state, "") if left is None else "")
        ways: list[Node] = [EMPTY] if state in ends else []
        for target, symbols in targets.items():
            ways.append(concat((exponents.edge_characters(symbols), self.after(state, target, left))))
        loop = repeat(again, 0, self.most)
        return concat((loop, choice(ways))) if again.ranges else choice(ways)

    def after(self, state: int, target: int, left: int | None) -> Node:
        edges = self.automaton.edges
        if not edges[target]:
            return EMPTY
        if left is not None:
            return self.call(target, left - 1)
        if target > state and len(edges) <= SMALL_AUTOMATON:
            self.call(target, None)
            return self.rules[target, None].node
        return self.call(target, None)


@lru_cache(maxsize=512)
def number_node(kinds: Kinds, facts: tuple[NumberFact, ...], plain: bool, most: int) -> Node:
    """The numbers of some kinds that fulfil all facts; the same node for the same numbers."""
    return NumberRules(kinds, facts, plain, most).node()
