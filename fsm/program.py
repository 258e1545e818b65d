"""Grammar nodes to byte-level states: each rule becomes states when the automaton first asks for it.

Emission runs back to front (a node is emitted before what follows it is known to nobody else), so there are no
patch lists. Repeats keep a counter state; nothing is unrolled. It never steps a state and never sees a token.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable

from stemma.fsm import ast
from stemma.fsm.deadline import check_time
from stemma.fsm.errors import LimitError
from stemma.fsm.tables import (
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
from stemma.fsm.utf8 import ByteBranch, byte_branches

RETURN_STATE = 0
FIRST_SPECIAL = 256
MAX_DEPTH = 60
MAX_NULLABLE_PARTS = 500
MAX_COUNT = 1 << 30
OPERATIONS: dict[type[ast.Node], int] = {
    ast.Difference: DIFFERENCE,
    ast.Intersection: INTERSECTION,
    ast.Bounded: BOUNDED,
}


class Program:
    """States and edges in flat arrays (five and three numbers each), rules by name, special tokens by text."""

    def __init__(self, grammar: ast.Grammar, limits: Limits) -> None:
        self._grammar = grammar
        self._limits = limits
        self.states = array("i", (RETURN, 0, 0, 0, 0))
        self.edges = array("i")
        self.specials: dict[str, int] = {}
        self.num_rules = 0
        self._rule_by_name: dict[Hashable, int] = {}
        self._rule_nodes: dict[int, ast.Node] = {}
        self._rule_names: dict[int, Hashable] = {}
        self._entries: dict[int, int] = {}
        self._parts: dict[int, tuple[ast.Node, int]] = {}
        self.product_sides: dict[int, tuple[int, int]] = {}
        self.start = self.emit(grammar.start, RETURN_STATE, 0)

    def build_rule(self, rule: int) -> int:
        """The entry state of a rule, built when it is first asked for."""
        entry = self._entries.get(rule)
        if entry is not None:
            return entry
        check_time()
        node = self._rule_nodes.get(rule)
        try:
            if node is None:
                node = self._grammar.rule(self._rule_names[rule])
            entry = self._entries[rule] = self.emit(node, RETURN_STATE, 0)
        except RecursionError:
            raise LimitError("a part of the grammar is nested too deeply") from None
        self._rule_nodes.pop(rule, None)
        return entry

    def emit(self, node: ast.Node, following: int, depth: int) -> int:
        """The state from which `node` and then `following` is read."""
        if depth > MAX_DEPTH:
            return self._state(CALL, self._anonymous_rule(node), following)
        if isinstance(node, ast.Literal):
            return self._literal(node.data, following)
        if isinstance(node, ast.Characters):
            return self._branches(byte_branches(node.ranges), following, {})
        if isinstance(node, ast.Sequence):
            for part in reversed(node.parts):
                following = self.emit(part, following, depth + 1)
            return following
        if isinstance(node, ast.Choice):
            return self._choice(node, following, depth)
        if isinstance(node, ast.Repeat):
            return self._repeat(node, following, depth)
        if isinstance(node, ast.Call):
            return self._state(CALL, self._named_rule(node.rule), following)
        if isinstance(node, ast.Special):
            symbol = self.specials.setdefault(node.text, FIRST_SPECIAL + len(self.specials))
            return self._state(RANGE, symbol, symbol, following)
        operation = OPERATIONS[type(node)]
        left = self.emit(node.left, RETURN_STATE, depth + 1)
        right = self.emit(node.right, RETURN_STATE, depth + 1)
        state = self._state(PRODUCT, following, operation, -1, -1)
        self.product_sides[state] = (left, right)
        return state

    def _state(self, kind: int, first: int = 0, second: int = 0, third: int = 0, fourth: int = 0) -> int:
        state = len(self.states) // 5
        if state >= self._limits.states:
            raise LimitError(f"the grammar needs more than {self._limits.states} states; split or simplify it")
        self.states.extend((kind, first, second, third, fourth))
        return state

    def _with_edges(self, kind: int, edges: list[tuple[int, int, int]]) -> int:
        first = len(self.edges) // 3
        for edge in edges:
            self.edges.extend(edge)
        return self._state(kind, first, first + len(edges))

    def _split(self, targets: list[int]) -> int:
        if len(targets) == 1:
            return targets[0]
        return self._with_edges(SPLIT, [(0, 0, target) for target in targets])

    def _named_rule(self, name: Hashable) -> int:
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

    def _literal(self, data: bytes, following: int) -> int:
        state = len(self.states) // 5 - 1
        if state + len(data) >= self._limits.states:
            raise LimitError(f"the grammar needs more than {self._limits.states} states; split or simplify it")
        extend = self.states.extend
        for byte in reversed(data):
            extend((RANGE, byte, byte, following, 0))
            state += 1
            following = state
        return following

    def _branches(self, branches: tuple[ByteBranch, ...], following: int, known: dict[object, int]) -> int:
        state = known.get(branches)
        if state is None:
            edges = [
                (low, high, self._branches(rest, following, known) if rest else following)
                for low, high, rest in branches
            ]
            state = self._state(RANGE, *edges[0]) if len(edges) == 1 else self._with_edges(BYTES, edges)
            known[branches] = state
        return state

    def _choice(self, node: ast.Choice, following: int, depth: int) -> int:
        literals = [part.data for part in node.parts if isinstance(part, ast.Literal)]
        if len(literals) < 2:
            return self._split([self._part(part, following, depth) for part in node.parts])
        others = [part for part in node.parts if not isinstance(part, ast.Literal)]
        entries = [self._literals(sorted(set(literals)), following)]
        return self._split(entries + [self._part(part, following, depth) for part in others])

    def _part(self, part: ast.Node, following: int, depth: int) -> int:
        """A way of a choice. Rules that offer the same node before they return share its states."""
        if following != RETURN_STATE or not isinstance(part, ast.Sequence):
            return self.emit(part, following, depth + 1)
        known = self._parts.get(id(part))
        if known is None:
            known = self._parts[id(part)] = (part, self.emit(part, following, depth + 1))
        return known[1]

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
                    child = self._literal(literals[position][depth + 1 :], following)
                else:
                    child = self._state(SPLIT)
                    open_nodes.append((child, position, stop, depth + 1))
                edges.append((byte, byte, child))
                position = stop
            entries = [self._with_edges(BYTES, edges)] if edges else []
            first = len(self.edges) // 3
            for target in entries + [following] * ends:
                self.edges.extend((0, 0, target))
            self.states[5 * state + 1] = first
            self.states[5 * state + 2] = len(self.edges) // 3
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
            entry = self.emit(part, following, depth + 1)
            return entry if minimum else self._split([entry, following])
        if maximum is None and minimum < 2:
            loop = self._with_edges(SPLIT, [(0, 0, 0), (0, 0, following)])
            entry = self.emit(part, loop, depth + 1)
            self.edges[3 * self.states[5 * loop + 1] + 2] = entry
            return entry if minimum else loop
        body = self.emit(part, RETURN_STATE, depth + 1)
        return self._state(REPEAT, body, following, minimum, -1 if maximum is None else maximum)


def nullable(node: ast.Node) -> bool:
    """Whether `node` matches the empty string without entering a rule or a product."""
    if isinstance(node, ast.Literal):
        return not node.data
    if isinstance(node, ast.Sequence):
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
    if isinstance(node, ast.Sequence) and node.parts:
        if len(node.parts) > MAX_NULLABLE_PARTS:
            raise LimitError(f"a counted repeat of more than {MAX_NULLABLE_PARTS} parts that may all be empty")
        tails = [
            ast.Sequence((nonempty(part), *node.parts[position + 1 :])) for position, part in enumerate(node.parts)
        ]
        return ast.Choice(tuple(tails))
    return ast.Choice(())
