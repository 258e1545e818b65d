"""Takes left recursion out of named rules, of every kind: direct, through others, behind what may be empty.

Rules that begin with each other are one system A = A x | B y | z. Each text begins with one of the z, and what
follows is a walk back through the x and y: new rules `("after", B, A)` say how a B goes on to an A, from left to right
(Moore 2000, the left-corner transform). Nothing is refused, and the language stays the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from stemma.fsm.syntax.ast import Choice, Concatenation, Node, Repeat, RuleRef
from stemma.fsm.syntax.nodes import EMPTY, choice, concat, is_regular, nullable, optional, repeat, without
from stemma.fsm.syntax.rule_facts import components, fulfilled, holds_of

Rules = Mapping[Hashable, Node]
MAXIMUM_COPIES = 100  # nodes of one rule that others are put into


class Alternative(NamedTuple):
    """One way to read a rule: the rule of its system that it begins with, if it does, and all that follows."""

    head: Hashable | None
    rest: Node


def without_left_recursion(rules: Rules) -> dict[Hashable, Node]:
    """The same rules and others that they call, none of which can begin with itself before something is read."""
    empty = nullable_rules(rules)
    systems = _systems(rules, empty)
    if not systems:
        return dict(rules)
    rules = _with_short_circles(rules, systems, empty)
    systems = _systems(rules, empty)
    trimmed = _Trimmed(rules, empty)
    readable = dict(rules)
    for system in systems:
        readable.update(_System(tuple(system), rules, trimmed).rewritten())
    while trimmed.wanted:
        name = trimmed.wanted.pop()
        if ("nonempty", name) not in readable:
            readable["nonempty", name] = trimmed.nonempty(rules[name])
    return readable


def _systems(rules: Rules, empty: set[Hashable]) -> list[list[Hashable]]:
    """The rules that begin with each other, or one that begins with itself."""
    edges = {name: left_calls(node, empty) for name, node in rules.items()}
    return [found for found in components(edges) if len(found) > 1 or found[0] in edges[found[0]]]


def _with_short_circles(rules: Rules, systems: list[list[Hashable]], empty: set[Hashable]) -> Rules:
    """Rules that do not begin with themselves are put in place of their names at the beginning of the others of their
    system, if that stays small and they are not empty: from `value: call | x` and `call: value "()"` comes
    `value: value "()" | x`, and what begins with itself alone is read in the least room."""
    shorter = dict(rules)
    for system in systems:
        left = list(system)
        for name in sorted(system, key=str):
            node = shorter[name]
            others = [each for each in left if each != name and name in left_calls(shorter[each], empty)]
            if name in empty or name in left_calls(node, empty) or not others:
                continue
            opened = {each: with_opened(shorter[each], name, node, empty) for each in others}
            if max(map(size, opened.values())) <= MAXIMUM_COPIES:
                shorter |= opened
                left.remove(name)
    return shorter


def with_opened(node: Node, name: Hashable, inside: Node, empty: set[Hashable]) -> Node:
    """`node`, with what the rule `name` says wherever it can begin with it."""
    if isinstance(node, RuleRef):
        return inside if node.rule == name else node
    if isinstance(node, Choice):
        return choice(with_opened(part, name, inside, empty) for part in node.parts)
    if isinstance(node, Repeat):
        return repeat(with_opened(node.part, name, inside, empty), node.minimum, node.maximum)
    if isinstance(node, Concatenation):
        parts = list(node.parts)
        for index, part in enumerate(parts):
            parts[index] = with_opened(part, name, inside, empty)
            if not can_be_empty(part, empty):
                break
        return concat(parts)
    return node


def size(node: Node) -> int:
    """How many nodes it takes to say `node`."""
    if isinstance(node, Concatenation | Choice):
        return 1 + sum(map(size, node.parts))
    return 1 + size(node.part) if isinstance(node, Repeat) else 1


def nullable_rules(rules: Rules) -> set[Hashable]:
    """The rules that match the empty text."""
    return fulfilled(rules, can_be_empty)


def can_be_empty(node: Node, empty: set[Hashable]) -> bool:
    return holds_of(node, empty, lambda leaf: is_regular(leaf) and nullable(leaf))


def left_calls(node: Node, empty: set[Hashable]) -> set[Hashable]:
    """The rules that a node can begin with."""
    if isinstance(node, RuleRef):
        return {node.rule}
    if isinstance(node, Choice):
        return set().union(*(left_calls(part, empty) for part in node.parts))
    if isinstance(node, Repeat):
        return left_calls(node.part, empty)
    found: set[Hashable] = set()
    if isinstance(node, Concatenation):
        for part in node.parts:
            found |= left_calls(part, empty)
            if not can_be_empty(part, empty):
                break
    return found


class _Trimmed:
    """Nodes without the empty text; the rules of which that is `wanted` get a rule of their own."""

    def __init__(self, rules: Rules, empty: set[Hashable]) -> None:
        self.rules = rules
        self.empty = empty
        self.wanted: set[Hashable] = set()

    def nonempty(self, node: Node) -> Node:
        if not can_be_empty(node, self.empty):
            return node
        if isinstance(node, RuleRef):
            self.wanted.add(node.rule)
            return RuleRef(("nonempty", node.rule))
        if isinstance(node, Choice):
            return choice(self.nonempty(part) for part in node.parts)
        if isinstance(node, Repeat):
            return repeat(self.nonempty(node.part), 1, node.maximum)
        if isinstance(node, Concatenation):  # all parts may be empty: one of them is the first that is not
            tails = [node.parts[index:] for index in range(len(node.parts))]
            return choice(concat((self.nonempty(tail[0]), *tail[1:])) for tail in tails)
        return without(node, EMPTY)


class _System:
    """Rules that begin with each other."""

    def __init__(self, names: tuple[Hashable, ...], rules: Rules, trimmed: _Trimmed) -> None:
        self.names = names
        self.trimmed = trimmed
        self.own = {RuleRef(name) for name in names} | {RuleRef(("nonempty", name)) for name in names}
        self.ways = {name: self.alternatives_of(rules[name]) for name in names}

    def rewritten(self) -> dict[Hashable, Node]:
        found: dict[Hashable, Node] = self.alone() if len(self.names) == 1 else {}
        for name in self.names if not found else ():
            leading = self.leading_to(name)
            found[self.full(name)] = choice(
                concat((way.rest, RuleRef(("after", each, name))))
                for each in leading for way in self.ways[each] if way.head is None
            )  # fmt: skip
            for each in leading:
                found["after", each, name] = self.onwards(each, name, leading)
        for name in self.names:
            if name in self.trimmed.empty:
                found[name] = optional(RuleRef(("nonempty", name)))
        return found

    def full(self, name: Hashable) -> Hashable:
        """The rule that says all of `name` but the empty text."""
        return ("nonempty", name) if name in self.trimmed.empty else name

    def alone(self) -> dict[Hashable, Node]:
        """A rule that begins with itself only, A = A x | z, is z x*. Where an x or a z ends in an A, a z is enough:
        what follows that A follows as well here, so `e: e "+" e | z` takes no more room than `z ("+" z)*`."""
        [name] = self.names
        operand, onwards = ("operand", name), ("after", name, name)
        firsts = [self.shortened(way.rest, operand) for way in self.ways[name] if way.head is None]
        further = [self.shortened(way.rest, operand) for way in self.ways[name] if way.head is not None]
        trimmed = [self.trimmed.nonempty(rest) for rest in further if rest != EMPTY]
        return {
            operand: choice(firsts),
            onwards: choice((EMPTY, *(concat((rest, RuleRef(onwards))) for rest in trimmed))),
            self.full(name): concat((RuleRef(operand), RuleRef(onwards))),
        }

    def shortened(self, node: Node, operand: Hashable) -> Node:
        """`node`, with an operand for the rule itself where it ends in it."""
        if node in self.own:
            may_be_empty = isinstance(node, RuleRef) and node.rule in self.trimmed.empty
            return optional(RuleRef(operand)) if may_be_empty else RuleRef(operand)
        if isinstance(node, Concatenation) and node.parts:
            return concat((*node.parts[:-1], self.shortened(node.parts[-1], operand)))
        if isinstance(node, Choice):
            return choice(self.shortened(part, operand) for part in node.parts)
        return node

    def leading_to(self, name: Hashable) -> list[Hashable]:
        """The rules of the system that can begin `name`, itself included."""
        found = {name}
        todo = [name]
        while todo:
            for way in self.ways[todo.pop()]:
                if way.head is not None and way.head not in found:
                    found.add(way.head)
                    todo.append(way.head)
        return [each for each in self.names if each in found]

    def onwards(self, each: Hashable, name: Hashable, leading: list[Hashable]) -> Node:
        """What may follow an `each` that begins a `name`."""
        parts: list[Node] = [EMPTY] if each == name else []
        for above in leading:
            for way in self.ways[above]:
                if way.head != each:
                    continue
                if can_be_empty(way.rest, self.trimmed.empty) and above != each:
                    parts.append(RuleRef(("after", above, name)))
                if way.rest != EMPTY:
                    parts.append(concat((self.trimmed.nonempty(way.rest), RuleRef(("after", above, name)))))
        return choice(parts)

    def alternatives_of(self, node: Node) -> list[Alternative]:
        """How the texts of `node` begin, but the empty one."""
        if node in self.own:
            assert isinstance(node, RuleRef), "a rule of the system"
            return [Alternative(node.rule[1] if node.rule not in self.names else node.rule, EMPTY)]  # type: ignore[index]
        if not any(RuleRef(name) in self.own for name in left_calls(node, self.trimmed.empty)):
            return [Alternative(None, self.trimmed.nonempty(node))]
        if isinstance(node, Choice):
            return [way for part in node.parts for way in self.alternatives_of(part)]
        if isinstance(node, Repeat):
            is_empty = can_be_empty(node.part, self.trimmed.empty)
            least = 0 if is_empty else max(node.minimum - 1, 0)
            more = repeat(node.part, least, None if node.maximum is None else node.maximum - 1)
            return [Alternative(way.head, concat((way.rest, more))) for way in self.alternatives_of(node.part)]
        assert isinstance(node, Concatenation), "nothing else begins with a rule"
        head, tail = node.parts[0], node.parts[1:]
        found = [Alternative(way.head, concat((way.rest, *tail))) for way in self.alternatives_of(head)]
        return found + (self.alternatives_of(concat(tail)) if can_be_empty(head, self.trimmed.empty) else [])
