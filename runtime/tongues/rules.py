"""Several grammars as one: each keeps its rules, under names that tell whose they are."""

from __future__ import annotations

from collections.abc import Hashable

from stemma.fsm.errors import LimitError
from stemma.fsm.syntax import ast


class Rules:
    """Grammars that are parts of one, and rules of its own."""

    def __init__(self) -> None:
        self._parts: list[ast.Grammar] = []
        self._own: dict[Hashable, ast.Node] = {}

    def add(self, grammar: ast.Grammar) -> ast.Node:
        """The start of a grammar, as a part of this one."""
        self._parts.append(grammar)
        return renamed(grammar.start, len(self._parts) - 1)

    def define(self, name: Hashable, node: ast.Node) -> ast.RuleRef:
        """A rule of its own, and how it is called."""
        self._own["own", name] = node
        return ast.RuleRef(("own", name))

    def rule(self, name: Hashable) -> ast.Node:
        """A rule by the name that it has here."""
        assert isinstance(name, tuple)
        at, inner = name
        if at == "own":
            return self._own[name]
        try:
            return renamed(self._parts[at].rule(inner), at)
        except RecursionError:
            raise LimitError("a tool's schema is nested too deeply") from None

    def grammar(self, start: ast.Node) -> ast.Grammar:
        """All of it."""
        return ast.Grammar(start, self.rule)


def renamed(node: ast.Node, part: int) -> ast.Node:
    """The node with its calls turned into calls of that part's rules."""
    match node:
        case ast.RuleRef(rule=rule):
            return ast.RuleRef((part, rule))
        case ast.Concatenation(parts=parts):
            return ast.Concatenation(tuple(renamed(inner, part) for inner in parts))
        case ast.Choice(parts=parts):
            return ast.Choice(tuple(renamed(inner, part) for inner in parts))
        case ast.Repeat(part=inner, minimum=minimum, maximum=maximum):
            return ast.Repeat(renamed(inner, part), minimum, maximum)
        case ast.Difference(left=left, right=right):
            return ast.Difference(renamed(left, part), renamed(right, part))
        case ast.Bounded(left=left, right=right):
            return ast.Bounded(renamed(left, part), renamed(right, part))
        case ast.Intersection(left=left, right=right):
            return ast.Intersection(renamed(left, part), renamed(right, part))
        case _:
            return node
