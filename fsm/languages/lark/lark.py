"""`Lark(text)`: a grammar in Lark's notation, read as a context-free grammar over characters.

There is no lexer: what Lark's Earley parser reads with `lexer="dynamic_complete"` is read, every way to cut a text into
terminals. What only shapes trees (`?`, `!`, `_`, aliases, priorities) says nothing here; what cannot be honoured is a
`GrammarError` with its line. Special tokens are written `<|name|>`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

from stemma.fsm.errors import GrammarError
from stemma.fsm.languages.ebnf import rules_grammar
from stemma.fsm.languages.lark.following import Following, Triple
from stemma.fsm.languages.lark.ignored import Ignored, Spacing
from stemma.fsm.languages.lark.library import LIBRARIES
from stemma.fsm.languages.lark.parser import statements
from stemma.fsm.languages.lark.terminals import Terminals
from stemma.fsm.languages.lark.tree import (
    Aliased,
    Alternatives,
    Definition,
    Ignore,
    Import,
    Marker,
    Name,
    Pattern,
    Quoted,
    Row,
    Span,
    Statement,
    Times,
    Tree,
    Usage,
)
from stemma.fsm.syntax.ast import Grammar, Node, RuleRef, Special
from stemma.fsm.syntax.nodes import choice, concat, repeat

MAXIMUM_INSTANCES = 10_000  # of rules and of templates with arguments
MAXIMUM_NAME = 1_000  # of a template with its arguments


@dataclass(frozen=True, slots=True)
class Lark:
    """Texts of the rule `start` (or another one)."""

    text: str
    start: str = "start"

    def grammar(self) -> Grammar:
        definitions = _Definitions()
        definitions.read(statements(self.text))
        definitions.check()
        if self.start not in definitions.named:
            raise GrammarError(f"there is no rule {self.start!r} to start from", 1)
        return _Rules(definitions).grammar(self.start)


class _Definitions:
    """All that is defined, imported or ignored, by name."""

    def __init__(self) -> None:
        self.named: dict[str, Definition] = {}
        self.ignored: list[Ignore] = []

    def read(self, found: list[Statement]) -> None:
        for statement in found:  # imports come before all else, wherever they stand
            if isinstance(statement, Import):
                self.take(statement, found)
        for statement in found:
            if isinstance(statement, Ignore):
                self.ignored.append(statement)
            elif isinstance(statement, Definition):
                self.define(statement)

    def define(self, definition: Definition) -> None:
        name, known = definition.name, self.named.get(definition.name)
        if definition.how == "new" and known is not None:
            raise GrammarError(f"{name!r} is defined twice; to replace it write %override", definition.line)
        if definition.how != "new" and known is None:
            raise GrammarError(f"{name!r} is not defined yet, so that it can be changed", definition.line)
        if definition.how == "extend" and known is not None:
            if definition.parameters != known.parameters:
                raise GrammarError(f"{name!r} has other parameters", definition.line)
            definition = definition._replace(body=Alternatives((definition.body, known.body)))
        self.named[name] = definition

    def take(self, wanted: Import, found: list[Statement]) -> None:
        """Definitions of a library, and what they need under names of its own."""
        library = wanted.library
        if library not in LIBRARIES:
            known = ", ".join(LIBRARIES)
            raise GrammarError(f"there is no library {library!r}, only {known}; write its definitions out", wanted.line)
        source = {each.name: each for each in statements(LIBRARIES[library]) if isinstance(each, Definition)}
        aliases: dict[str, str] = {}
        for each in found:
            if isinstance(each, Import) and each.library == library:
                aliases.update(each.names)
        todo = list(wanted.names)
        while todo:
            name = todo.pop()
            if name not in source:
                raise GrammarError(f"{library}.{name} is not known; write it out", wanted.line)
            own = _mangled(name, library, aliases)
            if own not in self.named:
                body = _renamed(source[name].body, {each: _mangled(each, library, aliases) for each in source})
                self.named[own] = Definition(own, (), body, wanted.line)
                todo += [each.name for each in _names(source[name].body)]

    def check(self) -> None:
        """Whether all names are defined."""
        for definition in self.named.values():
            self.check_names(definition.body, frozenset(definition.parameters))
            for parameter in definition.parameters:
                if parameter in self.named:
                    raise GrammarError(f"the parameter {parameter!r} has the name of a rule", definition.line)
        for ignored in self.ignored:
            self.check_names(ignored.body, frozenset())

    def check_names(self, body: Tree, parameters: frozenset[str]) -> None:
        for tree in _names(body):
            if tree.name in parameters:
                continue
            known = self.named.get(tree.name)
            if known is None:
                raise GrammarError(f"{tree.name!r} is not defined; %import it or write it", tree.line)


class _Rules:
    """Definitions as rules of an automaton: those that the start needs."""

    def __init__(self, definitions: _Definitions) -> None:
        self.named = definitions.named
        self.ignored = definitions.ignored
        self.terminals = Terminals(definitions.named)
        self.found: list[Node] = []  # terminals in rules
        self.spacing: Spacing | None = None
        self.todo: list[tuple[str, Tree, int]] = []
        self.asked: set[str] = set()

    def grammar(self, start: str) -> Grammar:
        first = Name(start, self.named[start].line)
        self.node(first)
        bodies: list[tuple[str, Tree, int]] = []
        while self.todo:
            bodies.append(self.todo.pop())
            self.rule(*bodies[-1])
        lines = [ignored.line for ignored in self.ignored]
        machines = [self.terminals.ignored(ignored.body, ignored.line) for ignored in self.ignored]
        named: dict[Hashable, Node] = {
            name: self.rule(name, body, line) for name, body, line in bodies if name.isupper()
        }
        self.spacing = Spacing(Ignored(machines, lines), dict.fromkeys(self.found), named | self.terminals.rules)
        rules: dict[Hashable, Node] = {name: self.rule(name, body, line) for name, body, line in bodies}
        rules["%start"] = concat((self.spacing.before_all, self.node(first), self.spacing.after_all))
        rules |= self.terminals.rules | self.spacing.ignored.rules
        if self.terminals.conditions:
            rules = Following(rules, "%start", self.terminals.conditions).product()
        known: dict[Hashable, int] = {name: line for name, _, line in bodies}
        places = {name: known[own] for name in rules if (own := _original(name)) in known}
        return rules_grammar(rules, places | {"%start": first.line}, "%start")

    def rule(self, name: str, body: Tree, line: int) -> Node:
        return self.terminals.language(body, line, name) if name.isupper() else self.node(body)

    def node(self, tree: Tree) -> Node:
        """What a tree in a rule reads, with what is ignored after each terminal."""
        if isinstance(tree, Row):
            return concat(map(self.node, tree.parts))
        if isinstance(tree, Alternatives):
            return choice(map(self.node, tree.parts))
        if isinstance(tree, Times):
            return repeat(self.node(tree.part), tree.minimum, tree.maximum)
        if isinstance(tree, Aliased):
            return self.node(tree.part)
        if isinstance(tree, Marker):
            return self.spaced(Special(tree.text))
        if isinstance(tree, Quoted | Pattern | Span):
            return self.spaced(self.terminals.language(tree, tree.line))
        call = self.called(tree)
        return self.spaced(call) if tree.name.isupper() else call

    def called(self, tree: Name | Usage) -> RuleRef:
        """A call of a rule or a terminal, or of a template filled in."""
        definition = self.named[tree.name]
        name, body = tree.name, definition.body
        wanted, given = len(definition.parameters), len(tree.arguments) if isinstance(tree, Usage) else 0
        if wanted != given:
            raise GrammarError(f"the template {tree.name!r} takes {wanted} arguments, not {given}", tree.line)
        if isinstance(tree, Usage):
            name = _written(tree)
            if len(self.asked) > MAXIMUM_INSTANCES or len(name) > MAXIMUM_NAME:
                raise GrammarError(f"the template {tree.name!r} recurs with ever more arguments", definition.line)
            body = _filled(body, dict(zip(definition.parameters, tree.arguments, strict=True)))
        if name not in self.asked:
            self.asked.add(name)
            self.todo.append((name, body, definition.line))
        return RuleRef(name)

    def spaced(self, node: Node) -> Node:
        """A terminal and what may be ignored beside it; none is known before all terminals are."""
        self.found.append(node)
        return self.spacing.around(node) if self.spacing else node


def _original(name: Hashable) -> Hashable:
    """The rule of which another one reads a part."""
    return name.name if isinstance(name, Triple) else name


def _mangled(name: str, library: str, aliases: Mapping[str, str]) -> str:
    return aliases.get(name, f"_{library.upper()}__{name}")


def _names(tree: Tree) -> Iterator[Name | Usage]:
    """The names in a tree."""
    if isinstance(tree, Name | Usage):
        yield tree
    if isinstance(tree, Row | Alternatives | Usage):
        for part in tree.arguments if isinstance(tree, Usage) else tree.parts:
            yield from _names(part)
    elif isinstance(tree, Times | Aliased):
        yield from _names(tree.part)


def _renamed(tree: Tree, names: Mapping[str, str]) -> Tree:
    return _filled(tree, {name: Name(new, 0) for name, new in names.items()})


def _filled(tree: Tree, values: Mapping[str, Tree]) -> Tree:
    """A tree with values in place of names."""
    if isinstance(tree, Name):
        return values.get(tree.name, tree)
    if isinstance(tree, Row):
        return Row(tuple(_filled(part, values) for part in tree.parts))
    if isinstance(tree, Alternatives):
        return Alternatives(tuple(_filled(part, values) for part in tree.parts))
    if isinstance(tree, Times):
        return Times(_filled(tree.part, values), tree.minimum, tree.maximum)
    if isinstance(tree, Aliased):
        return Aliased(_filled(tree.part, values), tree.line)
    if isinstance(tree, Usage):
        head = values.get(tree.name)
        name = head.name if isinstance(head, Name) else tree.name
        return Usage(name, tuple(_filled(part, values) for part in tree.arguments), tree.line)
    return tree


def _written(tree: Tree) -> str:
    """A template's name with its arguments."""
    if isinstance(tree, Usage):
        return f"{tree.name}{{{', '.join(map(_written, tree.arguments))}}}"
    if isinstance(tree, Name):
        return tree.name
    if isinstance(tree, Quoted):
        return f'"{tree.value}"{tree.flags}'
    if isinstance(tree, Pattern):
        return f"/{tree.value}/{tree.flags}"
    if isinstance(tree, Span):
        return f'"{tree.low}".."{tree.high}"'
    assert isinstance(tree, Marker), "other trees are no arguments"
    return tree.text
