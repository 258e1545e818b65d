"""What Lark's terminals match: each becomes one regular expression of Python's, put together as Lark does it.

So a terminal means what `re.match` takes whole: texts that `re` would never prefer are not read (`preferred.py`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from stemma.fsm.ast import Node
from stemma.fsm.errors import FormError, GrammarError, RegexError
from stemma.fsm.lark_tree import (
    Aliased,
    Definition,
    Marker,
    Name,
    Pattern,
    Quoted,
    Row,
    Span,
    Times,
    Tree,
    Usage,
    Ways,
)
from stemma.fsm.preferred import Preferred, preferred
from stemma.fsm.regex_parser import Parser
from stemma.fsm.regex_tree import Assertion, Class, Concat, Either, Repeated
from stemma.fsm.regex_tree import Tree as RegexTree

ENDLESS = 1 << 62


class Piece(NamedTuple):
    """A regular expression, the flags around it, and the length that it has in Lark's order of alternatives."""

    value: str
    flags: str
    size: int

    @property
    def regex(self) -> str:
        whole = self.value
        for flag in self.flags:
            whole = f"(?{flag}:{whole})"
        return whole


class Terminals:
    """The languages of terminals, each found once; `rules` are what they call."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self.definitions = definitions
        self.rules: dict[Hashable, Node] = {}
        self.known: dict[str, Node] = {}
        self.open: list[str] = []

    def language(self, tree: Tree, line: int) -> Node:
        """The texts of a terminal, or of what stands for one in a rule."""
        pattern = self.piece(tree, line).regex
        if pattern not in self.known:
            try:
                found = preferred(pattern, Parser(pattern, "python").parse(), ("terminal", pattern))
            except RegexError as error:
                raise GrammarError(str(error), line) from error
            self.known[pattern], rules = found
            self.rules.update(rules)
        return self.known[pattern]

    def machine(self, tree: Tree, line: int) -> Preferred:
        """A terminal's automaton."""
        pattern = self.piece(tree, line).regex
        try:
            return Preferred(pattern, Parser(pattern, "python").parse())
        except RegexError as error:
            raise GrammarError(str(error), line) from error

    def piece(self, tree: Tree, line: int) -> Piece:
        if isinstance(tree, Quoted):
            return Piece(re.escape(tree.value), tree.flags, len(tree.value))
        if isinstance(tree, Pattern):
            return self.pattern(tree)
        if isinstance(tree, Span):
            value = f"[{re.escape(tree.low)}-{re.escape(tree.high)}]"
            return Piece(value, "", len(value))
        if isinstance(tree, Row):
            pieces = [self.piece(part, line) for part in tree.parts]
            return _joined("".join(piece.regex for piece in pieces))
        if isinstance(tree, Ways):
            pieces = sorted((self.piece(part, line) for part in tree.parts), key=self.order)
            return _joined(f"(?:{'|'.join(piece.regex for piece in pieces)})")
        if isinstance(tree, Times):
            inner = self.piece(tree.part, line)
            value = f"(?:{inner.regex}){_sign(tree)}"
            return Piece(value, inner.flags, len(value))
        if isinstance(tree, Name):
            return self.named(tree)
        raise self.misplaced(tree)

    def named(self, tree: Name) -> Piece:
        name, line = tree.name, tree.line
        if not tree.is_terminal:
            raise GrammarError(f"the rule {name!r} cannot be part of a terminal; write it as one", line)
        if name in self.open:
            raise GrammarError(f"the terminal {name!r} refers to itself; only rules may", line)
        if name not in self.definitions:
            raise GrammarError(f"{name!r} is not defined; %import it or write it", line)
        self.open.append(name)
        definition = self.definitions[name]
        found = self.piece(definition.body, definition.line)
        self.open.pop()
        return found

    def misplaced(self, tree: Marker | Aliased | Usage) -> GrammarError:
        if isinstance(tree, Aliased):
            return GrammarError("a terminal has no alias; leave the -> out", tree.line)
        if isinstance(tree, Marker):
            return GrammarError(f"a terminal is text; ask for {tree.text} in a rule", tree.line)
        return GrammarError(f"{tree.name!r} is a template of rules; use it in a rule", tree.line)

    def pattern(self, tree: Pattern) -> Piece:
        flags = "".join(flag for flag in dict.fromkeys(tree.flags) if flag != "m")
        piece = Piece(tree.value, flags, len(tree.value))
        if "m" in tree.flags and _has_anchor(self.parsed(piece, tree.line)):
            raise GrammarError(
                "anchors with the flag m are not supported; say what stands at the line's end", tree.line
            )
        self.parsed(piece, tree.line)
        return piece

    def parsed(self, piece: Piece, line: int) -> RegexTree:
        try:
            return Parser(piece.regex, "python").parse()
        except FormError as error:
            raise GrammarError(str(error), line) from error

    def order(self, piece: Piece) -> tuple[int, int, int]:
        """Where a piece stands among alternatives: what may be longer comes first."""
        low, high = widths(self.parsed(piece, 1))
        return -high, -low, -piece.size


def widths(tree: RegexTree) -> tuple[int, int]:
    """The fewest and the most characters that a regular expression reads."""
    if isinstance(tree, Class):
        return 1, 1
    if isinstance(tree, Concat):
        bounds = [widths(part) for part in tree.parts]
        return sum(low for low, _ in bounds), min(ENDLESS, sum(high for _, high in bounds))
    if isinstance(tree, Either):
        bounds = [widths(part) for part in tree.parts]
        return min(low for low, _ in bounds), max(high for _, high in bounds)
    if isinstance(tree, Repeated):
        low, high = widths(tree.part)
        most = ENDLESS if tree.maximum is None and high else high * (tree.maximum or 0)
        return low * tree.minimum, min(ENDLESS, most)
    return 0, 0


def _joined(value: str) -> Piece:
    return Piece(value, "", len(value))


def _sign(tree: Times) -> str:
    simple = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    if (tree.minimum, tree.maximum) in simple:
        return simple[tree.minimum, tree.maximum]
    return f"{{{tree.minimum},{tree.maximum}}}"


def _has_anchor(tree: RegexTree) -> bool:
    if isinstance(tree, Concat | Either):
        return any(map(_has_anchor, tree.parts))
    if isinstance(tree, Assertion):
        return tree.kind in ("start", "last")
    return not isinstance(tree, Class) and _has_anchor(tree.part)
