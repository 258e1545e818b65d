"""Rules in which what must follow a terminal is held against what does follow it, in whatever rule that stands.

Where nothing that can stand behind a terminal matters to it, which is usual, nothing is changed. Else rules are told
apart by what is pending when they begin and when they end (Bar-Hillel, Perles, Shamir 1961: product of a context-free
grammar and a finite automaton): the rule `Triple(before, name, after)` reads those texts of `name` that lead from one
to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from stemma.fsm.errors import GrammarError
from stemma.fsm.languages.lark.endings import Condition, Ending
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
from stemma.fsm.syntax.nodes import EMPTY, NOTHING, choice, concat, repeat
from stemma.fsm.syntax.nodes import text as literal
from stemma.fsm.syntax.rule_facts import calls, fulfilled, holds_of
from stemma.fsm.work import count_work

MAXIMUM_TRIPLES = 20_000  # rules, told apart by what is pending
MAXIMUM_PENDING = 64
Pending = frozenset[tuple[Hashable, int]]  # states of conditions, all of which must come true
FREE: Pending = frozenset()
Rules = dict[Hashable, Node]


@dataclass(frozen=True, slots=True)
class Triple:
    """What of the rule `name` leads from `before` to `after`."""

    before: Pending
    name: Hashable
    after: Pending

    def __repr__(self) -> str:
        return repr(self.name)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a rule that became a rule."""

    number: int


class Kinds:
    """Characters in kinds that no condition tells apart; sets of kinds are bits, one more is the end of the text."""

    def __init__(self, conditions: Iterable[Condition]) -> None:
        self.spans: list[Ranges] = [characters.SCALARS]
        for ranges in dict.fromkeys(each for condition in conditions for each in condition.atoms):
            halves = [(characters.intersection(e, ranges), characters.difference(e, ranges)) for e in self.spans]
            self.spans = [half for pair in halves for half in pair if half]
        self.end = 1 << len(self.spans)
        self.known: dict[Ranges, int] = {}

    def bits(self, ranges: Ranges) -> int:
        if ranges not in self.known:
            found = [index for index, span in enumerate(self.spans) if characters.intersection(span, ranges)]
            self.known[ranges] = sum(1 << index for index in found)
        return self.known[ranges]

    def of(self, code: int) -> int:
        return next(index for index, span in enumerate(self.spans) if characters.contains(span, code))

    def atoms(self, condition: Condition) -> list[int]:
        """The condition's own kind, by kind."""
        firsts = [span[0][0] for span in self.spans]
        return [
            next(index for index, atom in enumerate(condition.atoms) if characters.contains(atom, code))
            for code in firsts
        ]


class Surroundings:
    """What can stand behind each rule, at most: kinds of characters, as bits."""

    def __init__(self, rules: Rules, start: Hashable, kinds: Kinds) -> None:
        self.rules = rules
        self.kinds = kinds
        self.empty = fulfilled(rules, self.may_be_empty)
        self.first: dict[Hashable, int] = dict.fromkeys(rules, 0)
        self.repeatedly(lambda name: self.grown(self.first, name, self.first_of(rules[name])))
        self.behind: dict[Hashable, int] = dict.fromkeys(rules, 0)
        self.behind[start] = kinds.end
        self.repeatedly(lambda name: self.spread(rules[name], self.behind[name]))

    def repeatedly(self, visit: Callable[[Hashable], bool]) -> None:
        """Until no visit changes anything."""
        while sum(visit(name) for name in self.rules):
            count_work(len(self.rules))

    def grown(self, found: dict[Hashable, int], name: Hashable, bits: int) -> bool:
        before, found[name] = found[name], found[name] | bits
        return found[name] != before

    def may_be_empty(self, node: Node, empty: set[Hashable]) -> bool:
        def of_leaf(leaf: Node) -> bool:
            if isinstance(leaf, Difference | Intersection):
                return self.may_be_empty(leaf.left, empty)
            return isinstance(leaf, Literal) and not leaf.data

        return holds_of(node, empty, of_leaf)

    def first_of(self, node: Node) -> int:
        if isinstance(node, RuleRef):
            return self.first[node.rule]
        if isinstance(node, Special):
            return self.kinds.end
        if isinstance(node, Characters):
            return self.kinds.bits(node.ranges)
        if isinstance(node, Literal):
            return 1 << self.kinds.of(ord(node.data.decode()[0])) if node.data else 0
        if isinstance(node, Repeat):
            return self.first_of(node.part)
        if isinstance(node, Difference | Intersection):
            return self.first_of(node.left)
        found = 0
        for part in node.parts:
            found |= self.first_of(part)
            if isinstance(node, Concatenation) and not self.may_be_empty(part, self.empty):
                break
        return found

    def spread(self, node: Node, behind: int) -> bool:
        """Tells the rules in a node what stands behind them; whether any did not know."""
        if isinstance(node, RuleRef):
            return self.grown(self.behind, node.rule, behind)
        if isinstance(node, Choice):
            return sum(self.spread(part, behind) for part in node.parts) > 0
        if isinstance(node, Repeat):
            again = self.first_of(node.part) if node.maximum != 1 else 0
            return self.spread(node.part, behind | again)
        changed = False
        for part in reversed(node.parts if isinstance(node, Concatenation) else ()):
            changed |= self.spread(part, behind)
            behind = self.first_of(part) | (behind if self.may_be_empty(part, self.empty) else 0)
        return changed


class Following:
    """The rules of one grammar, with each `Ending` held against what follows it."""

    def __init__(self, rules: Rules, start: Hashable, conditions: Mapping[Hashable, Condition]) -> None:
        self.kinds = Kinds(conditions.values())
        self.conditions = conditions
        self.atoms = {key: self.kinds.atoms(condition) for key, condition in conditions.items()}
        self.start = start
        surroundings = Surroundings(rules, start, self.kinds)
        endings = [name for name in rules if isinstance(name, Ending)]
        self.endings = {ending: self.decided(ending, surroundings.behind[ending]) for ending in endings}
        self.rules: Rules = {name: self.replaced(node) for name, node in rules.items() if name not in self.endings}
        opened = {ending for ending, node in self.endings.items() if isinstance(node, RuleRef)}
        self.not_plain = fulfilled(self.rules, lambda node, found: any(c in opened or c in found for c in calls(node)))
        self.parts: dict[tuple[int, int], Part] = {}
        self.kept: list[Node] = []  # so that their identities stay theirs
        self.ways_of: dict[tuple[Pending, Hashable], dict[Pending, Node]] = {}
        self.asking: dict[tuple[Pending, Hashable], set[tuple[Pending, Hashable]]] = {}
        self.pending: set[Pending] = set()
        self.todo: list[tuple[Pending, Hashable]] = []

    def decided(self, ending: Ending, behind: int) -> Node:
        """What stands for an ending: nothing if it is always true, no way if never, or its call if that depends."""
        condition = self.conditions[ending.terminal]
        after, atoms = condition.after[ending.state], self.atoms[ending.terminal]
        found = {after[atom] for index, atom in enumerate(atoms) if behind & 1 << index}
        is_always = found <= {condition.always} - {None}
        is_never = found <= {None}
        if behind & self.kinds.end:
            is_always &= condition.at_end[ending.state]
            is_never &= not condition.at_end[ending.state]
        if is_always:
            return EMPTY
        return NOTHING if is_never else RuleRef(ending)

    def replaced(self, node: Node) -> Node:
        if isinstance(node, RuleRef) and isinstance(node.rule, Ending):
            return self.endings[node.rule]
        if isinstance(node, Concatenation):
            return concat(map(self.replaced, node.parts))
        if isinstance(node, Choice):
            return choice(map(self.replaced, node.parts))
        return repeat(self.replaced(node.part), node.minimum, node.maximum) if isinstance(node, Repeat) else node

    def product(self) -> Rules:
        """All rules, told apart where something is pending."""
        if self.start not in self.not_plain:
            return self.rules
        self.ask(FREE, self.start)
        while self.todo:
            before, name = asked = self.todo.pop()
            count_work(1)
            ways = self.ways(before, self.body(name), asked)
            if ways.keys() - self.ways_of[asked].keys():
                self.todo += self.asking[asked]
            self.ways_of[asked] = ways
        found: Rules = {name: node for name, node in self.rules.items() if name not in self.not_plain}
        for (before, name), ways in self.ways_of.items():
            found.update({Triple(before, name, after): node for after, node in ways.items()})
        ends = [after for after in self.ways_of[FREE, self.start] if self.may_end(after)]
        if not ends:
            message = "no text fulfils this: a rule never ends, or what a terminal looks ahead at never follows it"
            raise GrammarError(message, min(condition.line for condition in self.conditions.values()))
        found[self.start] = choice(RuleRef(Triple(FREE, self.start, after)) for after in ends)
        return found

    def ask(self, before: Pending, name: Hashable) -> dict[Pending, Node]:
        if (before, name) not in self.ways_of:
            self.pending.add(before)
            if len(self.ways_of) > MAXIMUM_TRIPLES or len(self.pending) > MAXIMUM_PENDING:
                raise self.error(
                    before, "what it looks ahead at may be read in too many ways; say in rules what follows"
                )
            self.ways_of[before, name] = {}
            self.asking[before, name] = set()
            self.todo.append((before, name))
        return self.ways_of[before, name]

    def body(self, name: Hashable) -> Node:
        return self.kept[name.number] if isinstance(name, Part) else self.rules[name]

    def part(self, node: Node, index: int, make: Callable[[], Node]) -> RuleRef:
        """A rule of its own for a piece of a node, one for each index."""
        key = (id(node), index)
        if key not in self.parts:
            self.parts[key] = Part(len(self.kept))
            self.kept += [make(), node]
        return RuleRef(self.parts[key])

    def is_plain(self, node: Node) -> bool:
        return not any(isinstance(c, Part | Ending) or c in self.not_plain for c in calls(node))

    # One node, by what is pending before it: what may be pending behind it, and what is read then --------------------

    def ways(self, before: Pending, node: Node, asked: tuple[Pending, Hashable]) -> dict[Pending, Node]:
        if before == FREE and self.is_plain(node):
            return {FREE: node}
        if isinstance(node, RuleRef):
            return self.called(before, node.rule, asked)
        if isinstance(node, Characters):
            return self.character(before, node)
        if isinstance(node, Literal):
            return self.text(before, node.data.decode())
        if isinstance(node, Special):
            return {FREE: node} if self.may_end(before) else {}
        if isinstance(node, Choice):
            return joined([self.ways(before, part, asked) for part in node.parts])
        if isinstance(node, Concatenation):
            return self.row(before, node, asked)
        if isinstance(node, Repeat):
            return self.rounds(before, node, asked)
        raise self.error(before, "it looks ahead at what %ignore stands before; this is not supported")

    def called(self, before: Pending, name: Hashable, asked: tuple[Pending, Hashable]) -> dict[Pending, Node]:
        if isinstance(name, Ending):
            return {before | {(name.terminal, name.state)}: EMPTY}
        found = self.ask(before, name)
        self.asking[before, name].add(asked)
        return {after: RuleRef(Triple(before, name, after)) for after in found}

    def row(self, before: Pending, node: Concatenation, asked: tuple[Pending, Hashable]) -> dict[Pending, Node]:
        """A sequence; where the first part may lead to several ends, the rest becomes a rule."""
        read: Node = EMPTY
        for index, part in enumerate(node.parts):
            found = self.ways(before, part, asked)
            if len(found) != 1:
                rest = self.part(node, index, lambda after=node.parts[index + 1 :]: concat(after))  # type: ignore[misc]
                ways = [
                    {end: concat((read, first, last)) for end, last in self.ways(after, rest, asked).items()}
                    for after, first in found.items()
                ]
                return joined(ways)
            ((before, first),) = found.items()
            read = concat((read, first))
        return {before: read}

    def rounds(self, before: Pending, node: Repeat, asked: tuple[Pending, Hashable]) -> dict[Pending, Node]:
        """A repeat: no round, or one and then a repeat with one round less, which is a rule."""
        if node.maximum == 0:
            return {before: EMPTY}
        least, most = max(node.minimum - 1, 0), None if node.maximum is None else node.maximum - 1
        fewer = node if (least, most) == (node.minimum, node.maximum) else None
        rest = self.part(node, -1, lambda: fewer or Repeat(node.part, least, most))
        once = self.ways(before, self.part(node, -2, lambda: Concatenation((node.part, rest))), asked)
        return joined([{before: EMPTY}, once]) if node.minimum == 0 else once

    def character(self, before: Pending, node: Characters) -> dict[Pending, Node]:
        found: dict[Pending, list[tuple[int, int]]] = {}
        bits = self.kinds.bits(node.ranges)
        for kind, span in enumerate(self.kinds.spans):
            after = self.after(before, kind) if bits & 1 << kind else None
            if after is not None:
                found.setdefault(after, []).extend(characters.intersection(span, node.ranges))
        return {after: Characters(characters.union(spans)) for after, spans in found.items()}

    def text(self, before: Pending, text: str) -> dict[Pending, Node]:
        for letter in text:
            after = self.after(before, self.kinds.of(ord(letter)))
            if after is None:
                return {}
            before = after
        return {before: literal(text)}

    def after(self, pending: Pending, kind: int) -> Pending | None:
        """What is pending after a character of a kind; None if something did not come true."""
        found: set[tuple[Hashable, int]] = set()
        for terminal, state in pending:
            condition = self.conditions[terminal]
            after = condition.after[state][self.atoms[terminal][kind]]
            if after is None:
                return None
            if after != condition.always:
                found.add((terminal, after))
        return frozenset(found)

    def may_end(self, pending: Pending) -> bool:
        """Whether all comes true if nothing follows."""
        return all(self.conditions[terminal].at_end[state] for terminal, state in pending)

    def error(self, pending: Pending, message: str) -> GrammarError:
        condition = self.conditions[min(pending, key=str)[0]]
        return GrammarError(f"the terminal {condition.name}: {message}", condition.line)


def joined(found: Iterable[dict[Pending, Node]]) -> dict[Pending, Node]:
    """What leads to each end, in any of the ways."""
    ends: dict[Pending, list[Node]] = {}
    for ways in found:
        for after, node in ways.items():
            ends.setdefault(after, []).append(node)
    return {after: choice(nodes) for after, nodes in ends.items()}
