"""What Lark's terminals match: each becomes one regular expression of Python's, put together as Lark does it.

So a terminal means what `re.match` takes whole: texts that `re` would never prefer are not read (`preferred.py`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from stemma.fsm.errors import FormError, GrammarError, GrammarLimit, LimitError, RegexError, shortened
from stemma.fsm.languages.lark.endings import Condition, Endings
from stemma.fsm.languages.lark.tree import (
    Aliased,
    Alternatives,
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
)
from stemma.fsm.languages.regex.parser import Parser
from stemma.fsm.languages.regex.preferred import Preferred, preferred
from stemma.fsm.languages.regex.tree import Assertion, Class, Concat, Either, Repeated
from stemma.fsm.languages.regex.tree import Tree as RegexTree
from stemma.fsm.languages.regex.tree_facts import looks_ahead
from stemma.fsm.syntax.ast import Node, RuleRef

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
    """The languages of terminals, each found once; `rules` are what they call, `conditions` what must follow them."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self.definitions = definitions
        self.rules: dict[Hashable, Node] = {}
        self.conditions: dict[Hashable, Condition] = {}
        self.known: dict[str, Node] = {}
        self.open: list[str] = []

    def language(self, tree: Tree, line: int, name: str = "") -> Node:
        """The texts of a terminal, or of what stands for one in a rule."""
        pattern = self.piece(tree, line).regex
        if pattern not in self.known:
            with placed(line):
                self.known[pattern] = self.read(pattern, name or f"/{shortened(pattern, 40)}/", line)
        return self.known[pattern]

    def read(self, pattern: str, name: str, line: int) -> Node:
        parsed = self.parsed_whole(pattern)
        key = ("terminal", pattern)
        if not looks_ahead(parsed):
            found, rules = preferred(pattern, parsed, key)
            self.rules.update(rules)
            return found
        endings = Endings(Preferred(pattern, parsed), key, with_beginnings=True)
        rules = endings.rules()
        self.rules.update(rules)
        self.conditions[key] = endings.condition(name, line)
        return RuleRef(next(iter(rules)))

    def ignored(self, tree: Tree, line: int) -> Preferred | Endings:
        """The automaton of an ignored terminal, of which only the longest match counts."""
        pattern = self.piece(tree, line).regex
        with placed(line):
            parsed = self.parsed_whole(pattern)
            machine = Preferred(pattern, parsed)
            if not looks_ahead(parsed):
                return machine
            endings = Endings(machine, ("ignored", pattern), with_beginnings=False)
            self.conditions[endings.key] = endings.condition("of %ignore", line)
            return endings

    def parsed_whole(self, pattern: str) -> RegexTree:
        parsed = Parser(pattern, "python").parse()
        if widths(parsed)[0] == 0:
            raise RegexError(
                "a terminal that may read nothing; let it read something, and be optional in the rule", pattern, 0
            )
        return parsed

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
        if isinstance(tree, Alternatives):
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
        with placed(line):
            return Parser(piece.regex, "python").parse()

    def order(self, piece: Piece) -> tuple[int, int, int]:
        """Where a piece stands among alternatives: what may be longer comes first."""
        low, high = widths(self.parsed(piece, 1))
        return -high, -low, -piece.size


@contextmanager
def placed(line: int) -> Iterator[None]:
    """Errors of a terminal, with its line."""
    try:
        yield
    except GrammarError:
        raise
    except LimitError as error:
        raise GrammarLimit(str(error), line) from error
    except FormError as error:
        raise GrammarError(str(error), line) from error


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
