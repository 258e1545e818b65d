"""Grammar nodes to byte-level states: each rule becomes states when the automaton first asks for it.

Emission runs back to front (a node is emitted before what follows it is known to nobody else), so there are no
patch lists. Repeats keep a counter state; nothing is unrolled. It never steps a state and never sees a token.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Hashable
from functools import lru_cache
from operator import attrgetter
from typing import TypeGuard

from stemma.fsm.automaton.fragments import RETURN_STATE, Fragment, Pasted, Unnamed, cut, place_of
from stemma.fsm.automaton.utf8 import byte_states
from stemma.fsm.errors import LimitError
from stemma.fsm.kernels.columns import EDGE, STATE, width
from stemma.fsm.kernels.tables import (
    BOUNDED,
    BYTES,
    CALL,
    DIFFERENCE,
    INTERSECTION,
    PRODUCT,
    RANGE,
    REPEAT,
    RETURN,
    SPLIT,
    Limits,
)
from stemma.fsm.syntax import ast
from stemma.fsm.work import count_work

FIRST_SPECIAL = 256
MAX_DEPTH = 60
MAX_NULLABLE_PARTS = 500
MAX_COUNT = 1 << 30
RULE_WORK, STATE_WORK = 100, 3
ENTRY_SIZE = 8  # bytes
STATE_WIDTH, EDGE_WIDTH = width(STATE), width(EDGE)
OPERATIONS: dict[type[ast.Node], int] = {
    ast.Difference: DIFFERENCE,
    ast.Intersection: INTERSECTION,
    ast.Bounded: BOUNDED,
}


class Program:
    """States and edges, packed as the tables hold them; rules by name, special tokens by text."""

    def __init__(self, grammar: ast.Grammar, limits: Limits) -> None:
        self._grammar = grammar
        self._limits = limits
        self.states = bytearray(packed([RETURN, 0, 0, 0, 0]))
        self.edges = bytearray()
        self.num_states = 1
        self.num_edges = 0
        self._new_states: list[int] = []  # what is emitted but not packed yet
        self._new_edges: list[int] = []
        self.specials: list[str] = []  # by symbol, from FIRST_SPECIAL on
        self._special_symbols: dict[str, int] = {}
        self.num_rules = 0
        self._rule_by_name: dict[Hashable, int] = {}
        self._rule_nodes: dict[int, ast.Node] = {}
        self._rule_names: dict[int, Hashable] = {}
        self._entries: dict[int, int] = {}
        self._endings: dict[int, tuple[ast.Node, int]] = {}  # nodes that end a rule, by identity; held, so it stays
        self.product_sides: dict[int, tuple[int, int]] = {}
        self._pasted: list[Pasted] = []  # in the order of their states
        if grammar.common is not None:
            self._begin_with(common_program(grammar.common))
        self.start = self._emitted(grammar.start)

    def _begin_with(self, other: Program) -> None:
        """All that another program has, under the same numbers."""
        self.states, self.num_states = other.states[:], other.num_states
        self.edges, self.num_edges = other.edges[:], other.num_edges
        self.num_rules = other.num_rules
        self._rule_by_name = other._rule_by_name.copy()
        self._rule_names = other._rule_names.copy()
        self._entries = other._entries.copy()
        self._endings = other._endings.copy()

    @property
    def built(self) -> dict[int, int]:
        """The entry states of the rules that are built."""
        return self._entries

    def build_rule(self, rule: int) -> int:
        """The entry state of a rule, built when it is first asked for."""
        entry = self._entries.get(rule)
        if entry is not None:
            return entry
        node, num_states = self._rule_nodes.get(rule), self.num_states
        name = self._rule_names[rule] if node is None else None
        try:
            if isinstance(name, ast.Kept):
                entry = self._kept(name)
            else:
                entry = self._entry(self._grammar.rule(name) if node is None else node)
            self._entries[rule] = entry
        except RecursionError:
            raise LimitError("a part of the grammar is nested too deeply") from None
        self._rule_nodes.pop(rule, None)
        count_work(RULE_WORK + STATE_WORK * (self.num_states - num_states))
        return entry

    def _entry(self, node: ast.Node) -> int:
        """The entry state of a rule with that node. One that only calls what many grammars have is that."""
        if _calls_kept(node):
            return self.build_rule(self.named_rule(node.rule))
        return self._emitted(node)

    def _emitted(self, node: ast.Node) -> int:
        """The state from which a whole rule is read; its states are packed then."""
        try:
            return self.emit(node, RETURN_STATE, 0)
        finally:
            self.states += packed(self._new_states)
            self.edges += packed(self._new_edges)
            self._new_states.clear()
            self._new_edges.clear()

    def _kept(self, rule: ast.Kept) -> int:
        """The entry state of a rule that many grammars have. From the second program on its states are a copy."""
        rule.num_programs += 1
        if rule.num_programs == 1 or _calls_kept(rule.node):
            return self._entry(rule.node)
        first = self.num_states
        entry = self._paste(fragment_of(rule))
        self._pasted.append(Pasted(first, self.num_states, rule))
        return entry

    def rule_around(self, state: int) -> Pasted | None:
        """The rule that many grammars have in whose states `state` is; None if it is not a copy."""
        place = bisect_right(self._pasted, state, key=attrgetter("first"))
        return self._pasted[place - 1] if place and state < self._pasted[place - 1].end else None

    def _paste(self, fragment: Fragment) -> int:
        """Append states that were made elsewhere, and say which is the entry."""
        first = self.num_states
        if first + fragment.num_states > self._limits.states:
            raise self._too_many()
        rules = [self._anonymous_rule(called.node) if isinstance(called, Unnamed) else self.named_rule(called)
                 for called in fragment.calls]  # fmt: skip
        states, edges = fragment.placed(first, self.num_edges, rules)
        self.states += states
        self.edges += edges
        self.num_states += fragment.num_states - 1
        self.num_edges += fragment.num_edges
        for state, (left, right) in fragment.product_sides.items():
            self.product_sides[place_of(state, first)] = (place_of(left, first), place_of(right, first))
        return place_of(fragment.entry, first)

    def fragment(self) -> Fragment:
        """All states of this program, for others to paste; they know its rules by name only."""

        def called(rule: int) -> Hashable:
            name = self._rule_names.get(rule)
            return Unnamed(self._rule_nodes[rule]) if name is None else name

        return cut(bytes(self.states), bytes(self.edges), called, self.product_sides, self.start)

    def emit(self, node: ast.Node, following: int, depth: int) -> int:
        """The state from which `node` and then `following` is read; one for all that end their rules with `node`."""
        known = self._endings.get(id(node)) if following == RETURN_STATE else None
        if known is not None:
            return known[1]
        if depth > MAX_DEPTH:
            return self._state(CALL, self._anonymous_rule(node), following)
        state = self._read(node, following, depth + 1)
        if following == RETURN_STATE:
            self._endings[id(node)] = (node, state)
        return state

    def _read(self, node: ast.Node, following: int, depth: int) -> int:
        """What reads `node` and then `following`; the most frequent kinds of nodes are asked for first."""
        if isinstance(node, ast.Literal):
            return self._bytes(node.data, following)
        if isinstance(node, ast.Concatenation):
            for part in reversed(node.parts):
                following = self.emit(part, following, depth)
            return following
        if isinstance(node, ast.RuleRef):
            return self._state(CALL, self.named_rule(node.rule), following)
        if isinstance(node, ast.Choice):
            return self._choice(node, following, depth)
        if isinstance(node, ast.Characters):
            return self._characters(node, following)
        if isinstance(node, ast.Repeat):
            return self._repeat(node, following, depth)
        if isinstance(node, ast.Special):
            return self._special(node, following)
        return self._product(node, following, depth)

    def _state(self, kind: int, first: int = 0, second: int = 0, third: int = 0, fourth: int = 0) -> int:
        state = self.num_states
        if state >= self._limits.states:
            raise self._too_many()
        self._new_states.extend((kind, first, second, third, fourth))
        self.num_states = state + 1
        return state

    def _too_many(self) -> LimitError:
        return LimitError(f"the grammar needs more than {self._limits.states} states; split or simplify it")

    def _with_edges(self, kind: int, edges: list[tuple[int, int, int]]) -> int:
        """A state of some edges: low, high, next."""
        first = self._add_edges(edges)
        return self._state(kind, first, self.num_edges)

    def _add_edges(self, edges: list[tuple[int, int, int]]) -> int:
        """The first of some new edges."""
        first = self.num_edges
        for edge in edges:
            self._new_edges.extend(edge)
        self.num_edges = first + len(edges)
        return first

    def _split(self, targets: list[int]) -> int:
        if len(targets) == 1:
            return targets[0]
        return self._with_edges(SPLIT, [(0, 0, target) for target in targets])

    def named_rule(self, name: Hashable) -> int:
        rule = self._rule_by_name.get(name)
        if rule is None:
            rule = self._rule_by_name[name] = self.num_rules
            self._rule_names[rule] = name
            self.num_rules += 1
        return rule

    def _anonymous_rule(self, node: ast.Node) -> int:
        self._rule_nodes[self.num_rules] = node
        self.num_rules += 1
        return self.num_rules - 1

    # One for each kind of node: what reads it and then `following` -----------------------------------------------

    def _bytes(self, data: bytes, following: int) -> int:
        state = self.num_states
        if state + len(data) > self._limits.states:
            raise self._too_many()
        for index in range(len(data) - 1, -1, -1):
            byte = data[index]
            self._new_states.extend((RANGE, byte, byte, following, 0))
            following = state
            state += 1
        self.num_states = state
        return following

    def _characters(self, node: ast.Characters, following: int) -> int:
        states: list[int] = []
        for ways in byte_states(node.ranges):
            edges = [(low, high, states[rest] if rest >= 0 else following) for low, high, rest in ways]
            if len(edges) == 1:
                low, high, after = edges[0]
                states.append(self._state(RANGE, low, high, after))
            else:
                states.append(self._with_edges(BYTES, edges))
        return states[-1]

    def _special(self, node: ast.Special, following: int) -> int:
        symbol = self._special_symbols.get(node.text)
        if symbol is None:
            symbol = self._special_symbols[node.text] = FIRST_SPECIAL + len(self.specials)
            self.specials.append(node.text)
        return self._state(RANGE, symbol, symbol, following)

    def _product(self, node: ast.Difference | ast.Intersection, following: int, depth: int) -> int:
        left = self.emit(node.left, RETURN_STATE, depth)
        right = self.emit(node.right, RETURN_STATE, depth)
        state = self._state(PRODUCT, OPERATIONS[type(node)], following, -1, -1)
        self.product_sides[state] = (left, right)
        return state

    def _choice(self, node: ast.Choice, following: int, depth: int) -> int:
        """The ways that are literals become one tree. The others are emitted from the last to the first, so that a way
        which leads to a later one finds it."""
        literals = [part.data for part in node.parts if isinstance(part, ast.Literal)]
        if len(literals) < 2:
            return self._split([self.emit(part, following, depth) for part in reversed(node.parts)][::-1])
        others = [part for part in node.parts if not isinstance(part, ast.Literal)]
        entries = [self.emit(part, following, depth) for part in reversed(others)]
        return self._split([*entries, self._literals(sorted(set(literals)), following)][::-1])

    def _literals(self, literals: list[bytes], following: int) -> int:
        """Sorted, distinct literals as a tree of their shared prefixes."""
        start = self._state(SPLIT)
        open_nodes = [(start, 0, len(literals), 0)]
        while open_nodes:
            state, low, high, depth = open_nodes.pop()
            ends = len(literals[low]) == depth
            edges: list[tuple[int, int, int]] = []
            position = low + ends
            while position < high:
                byte = literals[position][depth]
                stop = position + 1
                while stop < high and literals[stop][depth] == byte:
                    stop += 1
                if stop == position + 1:
                    child = self._bytes(literals[position][depth + 1 :], following)
                else:
                    child = self._state(SPLIT)
                    open_nodes.append((child, position, stop, depth + 1))
                edges.append((byte, byte, child))
                position = stop
            entries = [self._with_edges(BYTES, edges)] if edges else []
            first = self._add_edges([(0, 0, target) for target in entries + [following] * ends])
            place = STATE_WIDTH * state - len(self.states) // ENTRY_SIZE
            self._new_states[place + STATE.first_edge] = first
            self._new_states[place + STATE.end_edge] = self.num_edges
        return start

    def _repeat(self, node: ast.Repeat, following: int, depth: int) -> int:
        part, minimum, maximum = node.part, node.minimum, node.maximum
        if minimum > MAX_COUNT:
            raise LimitError(f"a repeat of at least {minimum} is more than any output holds")
        if maximum is not None and maximum > MAX_COUNT:
            maximum = None  # no output is as long
        if maximum == 0:
            return following
        if nullable(part):
            part, minimum = part if maximum is None else nonempty(part), 0
        if maximum == 1:
            entry = self.emit(part, following, depth)
            return entry if minimum else self._split([entry, following])
        if maximum is None and minimum < 2:
            first = self._add_edges([(0, 0, 0), (0, 0, following)])
            loop = self._state(SPLIT, first, self.num_edges)
            entry = self.emit(part, loop, depth)
            self._new_edges[EDGE_WIDTH * first - len(self.edges) // ENTRY_SIZE + EDGE.target] = entry
            return entry if minimum else loop
        body = self.emit(part, RETURN_STATE, depth)
        return self._state(REPEAT, body, following, minimum, -1 if maximum is None else maximum)


def _calls_kept(node: ast.Node) -> TypeGuard[ast.RuleRef]:
    """Whether a node only calls a rule that many grammars have."""
    return isinstance(node, ast.RuleRef) and isinstance(node.rule, ast.Kept)


def packed(numbers: list[int]) -> bytes:
    """Numbers as the tables hold them."""
    return array("q", numbers).tobytes()


@lru_cache(maxsize=16)
def common_program(common: ast.Common) -> Program:
    """The states of rules that many grammars have; to be copied, never to be changed."""
    program = Program(ast.Grammar(ast.Concatenation(()), common.rule), Limits())
    for name in common.names:
        program.build_rule(program.named_rule(name))
    assert not program.product_sides, "only plain states are copied"
    return program


@lru_cache(maxsize=512)
def fragment_of(rule: ast.Kept) -> Fragment:
    """The states of a rule that many grammars have."""
    node = rule.node
    program = Program(ast.Grammar(node, _no_rule), Limits())
    return program.fragment()


def _no_rule(name: Hashable) -> ast.Node:
    raise AssertionError(f"{name!r} is a rule of the grammar that the states go to")


def nullable(node: ast.Node) -> bool:
    """Whether `node` matches the empty string without entering a rule or a product."""
    if isinstance(node, ast.Literal):
        return not node.data
    if isinstance(node, ast.Concatenation):
        return all(map(nullable, node.parts))
    if isinstance(node, ast.Choice):
        return any(map(nullable, node.parts))
    return isinstance(node, ast.Repeat) and (node.minimum == 0 or nullable(node.part))


def nonempty(node: ast.Node) -> ast.Node:
    """What a nullable `node` matches, without the empty string (as far as `nullable` can see)."""
    if not nullable(node):
        return node
    if isinstance(node, ast.Choice):
        return ast.Choice(tuple(map(nonempty, node.parts)))
    if isinstance(node, ast.Repeat):
        if node.maximum == 0:
            return ast.Choice(())
        return ast.Repeat(nonempty(node.part), 1, node.maximum)
    if isinstance(node, ast.Concatenation) and node.parts:
        if len(node.parts) > MAX_NULLABLE_PARTS:
            raise LimitError(f"a counted repeat of more than {MAX_NULLABLE_PARTS} parts that may all be empty")
        tails = [
            ast.Concatenation((nonempty(part), *node.parts[position + 1 :])) for position, part in enumerate(node.parts)
        ]
        return ast.Choice(tuple(tails))
    return ast.Choice(())
