"""What `%ignore` reads between Lark's terminals: always as much as there is, never a part of a comment.

After the longest match of an ignored terminal nothing may follow that would have made it longer. That is a context; the
terminals behind it are held against it. Where no terminal can begin with what an ignored one goes on with, which is
usual, contexts matter among the ignored ones only.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from stemma.fsm.errors import GrammarError, GrammarLimit
from stemma.fsm.languages.lark.endings import Endings
from stemma.fsm.languages.regex.preferred import MATCH, Place, Preferred
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import (
    Characters,
    Choice,
    Concatenation,
    Difference,
    Intersection,
    Literal,
    Node,
    Repeat,
    RuleRef,
    Special,
)
from stemma.fsm.syntax.characters import Ranges
from stemma.fsm.syntax.nodes import ANY_TEXT, EMPTY, NOTHING, both, choice, concat, nullable

MAXIMUM_CONTEXTS = 64


class Context(NamedTuple):
    """An ignored terminal has been read, by its number, and these threads of it would go on."""

    number: int
    going_on: Place


class Verdict(NamedTuple):
    """By which character a context ends well, and which leave it open; all others would have been ignored too."""

    ends: Ranges
    leaves_open: Ranges


START = None
Rules = dict[Hashable, Node]


class Ignored:
    """The ignored terminals of one grammar, as rules: `("ignored", context, ends)` reads on from `context`, up to one
    of the contexts `ends`."""

    def __init__(self, found: list[Preferred | Endings], lines: list[int]) -> None:
        self.endings = [each if isinstance(each, Endings) else None for each in found]
        self.machines = [each.machine if isinstance(each, Endings) else each for each in found]
        self.lines = lines
        self.places = [machine.explored() for machine in self.machines]
        self.rules: Rules = {}
        for endings in self.endings:
            self.rules |= endings.endings() if endings else {}
        self.verdicts: dict[Context | None, Verdict] = {START: Verdict(characters.SCALARS, ())}
        for number, machine in enumerate(self.machines):
            for place in self.places[number] if self.endings[number] is None else ():
                if machine.accepts(place):
                    context = self.context(number, place)
                    if context is not START and context not in self.verdicts:
                        self.verdicts[context] = self.verdict(context)
        if len(self.verdicts) > MAXIMUM_CONTEXTS:
            message = f"what is ignored can stop in more than {MAXIMUM_CONTEXTS} ways; simplify it"
            raise GrammarLimit(message, self.lines[0])

    @property
    def contexts(self) -> frozenset[Context | None]:
        return frozenset(self.verdicts)

    def up_to(self, ends: frozenset[Context | None]) -> Node:
        """What may be ignored, if it leads to one of `ends`."""
        return self.read_on(START, ends) if self.machines else EMPTY

    def read_on(self, context: Context | None, ends: frozenset[Context | None]) -> RuleRef:
        name = ("ignored", context, ends)
        if name not in self.rules:
            self.rules[name] = NOTHING  # until it is known: it may call itself
            ways: list[Node] = [EMPTY] if context in ends else []
            verdict = self.verdicts[context]
            allowed = characters.union((*verdict.ends, *verdict.leaves_open))
            for number in range(len(self.machines)):
                self.build(number, ends)
                ways += self.steps(number, self.machines[number].start, allowed, ends)
            self.rules[name] = choice(ways)
        return RuleRef(name)

    def build(self, number: int, ends: frozenset[Context | None]) -> None:
        """The states of an ignored terminal, each a rule."""
        machine, endings = self.machines[number], self.endings[number]
        if (number, machine.start, ends) in self.rules:
            return
        self.rules[number, machine.start, ends] = NOTHING  # until it is known
        for place in self.places[number]:
            parts = self.steps(number, place, characters.SCALARS, ends)
            if endings is not None and place in endings.starts:
                parts.append(concat((endings.ending(place), self.read_on(START, ends))))
            elif endings is None and machine.accepts(place):
                parts.append(self.read_on(self.context(number, place), ends))
            self.rules[number, place, ends] = choice(parts)

    def steps(self, number: int, place: Place, allowed: Ranges, ends: frozenset[Context | None]) -> list[Node]:
        """What an ignored terminal reads from one of its states on, beginning with an allowed character."""
        found: list[Node] = []
        for after, indexes in self.places[number][place].items():
            ranges = characters.union(span for index in indexes for span in self.machines[number].atoms[index])
            inside = characters.intersection(ranges, allowed)
            if inside:
                found.append(concat((Characters(inside), RuleRef((number, after, ends)))))
        return found

    def context(self, number: int, place: Place) -> Context | None:
        """What must not follow a match that ends at `place`."""
        count = next(index for index, thread in enumerate(place.threads) if thread.state == MATCH)
        going_on = place.threads[:count]
        return Context(number, Place(going_on, place.trackers)) if going_on else START

    def verdict(self, context: Context) -> Verdict:
        machine = self.machines[context.number]
        ends: list[tuple[int, int]] = []
        leaves_open: list[tuple[int, int]] = []
        for ranges in machine.atoms:
            after = machine.after(context.going_on, ranges[0][0])
            if not after.threads:
                ends += ranges
            elif not machine.accepts(after):
                leaves_open += ranges
        return Verdict(characters.union(ends), characters.union(leaves_open))


def first_characters(node: Node, rules: Mapping[Hashable, Node]) -> Ranges:
    """What a terminal can begin with, at most."""
    if isinstance(node, Literal):
        return ((ord(node.data.decode()[0]),) * 2,) if node.data else ()
    if isinstance(node, Characters):
        return node.ranges
    if isinstance(node, Choice):
        return characters.union(span for part in node.parts for span in first_characters(part, rules))
    if isinstance(node, RuleRef):
        return first_characters(rules[node.rule], rules)
    if isinstance(node, Repeat):
        return first_characters(node.part, rules)
    if isinstance(node, Difference | Intersection):
        return first_characters(node.left, rules)
    found: list[tuple[int, int]] = []
    for part in node.parts if isinstance(node, Concatenation) else ():
        found += first_characters(part, rules)
        if isinstance(part, RuleRef) or not nullable(part):
            break
    return characters.union(found)


def beginning(node: Node, ranges: Ranges, rules: Mapping[Hashable, Node]) -> Node:
    """The texts of a terminal that begin with a character of `ranges`."""
    if isinstance(node, Choice):
        return choice(beginning(part, ranges, rules) for part in node.parts)
    if isinstance(node, Characters):
        inside = characters.intersection(node.ranges, ranges)
        return Characters(inside) if inside else NOTHING
    if isinstance(node, Literal):
        return node if node.data and characters.contains(ranges, ord(node.data.decode()[0])) else NOTHING
    if isinstance(node, RuleRef):
        return beginning(rules[node.rule], ranges, rules)
    if isinstance(node, Concatenation) and node.parts and isinstance(node.parts[0], Literal | Characters):
        return concat((beginning(node.parts[0], ranges, rules), *node.parts[1:]))
    return both(node, concat((Characters(ranges), ANY_TEXT)))


class Spacing:
    """Where the ignored stands: behind each terminal if all terminals may follow it wherever it ends, else before
    each, up to where that terminal may follow."""

    def __init__(self, ignored: Ignored, terminals: Iterable[Node], rules: Mapping[Hashable, Node]) -> None:
        self.ignored = ignored
        self.rules = rules
        everywhere = ignored.up_to(ignored.contexts)
        self.is_behind = all(self.follows(node, context) for node in terminals for context in ignored.contexts)
        self.before_all = everywhere if self.is_behind else EMPTY
        self.after_all = EMPTY if self.is_behind else everywhere

    def follows(self, terminal: Node, context: Context | None) -> bool:
        """Whether all texts of a terminal may stand behind a context."""
        return not characters.difference(self.first(terminal), self.ignored.verdicts[context].ends)

    def first(self, terminal: Node) -> Ranges:
        return () if isinstance(terminal, Special) else first_characters(terminal, self.rules)

    def around(self, terminal: Node) -> Node:
        """A terminal in a rule, with what may be ignored beside it."""
        if self.is_behind:
            return concat((terminal, self.before_all))
        first = self.first(terminal)
        ends = frozenset(context for context in self.ignored.contexts if self.follows(terminal, context))
        ways = [concat((self.ignored.up_to(ends), terminal))]
        for context in self.ignored.contexts - ends:
            verdict = self.ignored.verdicts[context]
            if characters.intersection(first, verdict.leaves_open):
                message = "a terminal begins with what this %ignore may go on with; let them differ in a character"
                raise GrammarError(message, self.ignored.lines[context.number if context else 0])
            if characters.intersection(first, verdict.ends):
                begun = beginning(terminal, verdict.ends, self.rules)
                ways.append(concat((self.ignored.up_to(frozenset([context])), begun)))
        return choice(ways)
