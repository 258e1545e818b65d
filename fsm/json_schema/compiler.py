"""Goals to grammar nodes: how JSON writes the values that fulfil them, built on the first visit, one rule at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from stemma.fsm.ast import Call, Characters, Grammar, Node
from stemma.fsm.json_schema import numbers, texts
from stemma.fsm.json_schema.arrays import ArrayShape, ArrayState
from stemma.fsm.json_schema.facts import ANYTHING, Alternative, Format, Goal, Kind, NumberFact, TextFact, kind_of
from stemma.fsm.json_schema.formats import format_language
from stemma.fsm.json_schema.meaning import Meaning
from stemma.fsm.json_schema.objects import Member, ObjectShape, ObjectState, OtherNames
from stemma.fsm.json_schema.options import SchemaOptions
from stemma.fsm.json_schema.values import exact, json_text
from stemma.fsm.nodes import ANY_TEXT, EMPTY, choice, optional, repeat, sequence, text

NEAR = 16  # a rule lists the properties up to a multiple of this and calls the next: so rules further on are shared
LONG_PREFIX = 24


@lru_cache(maxsize=64)
def quoted_format(name: str) -> Node:
    return texts.quoted(format_language(name))


class SchemaCompiler:
    """The rules of one schema's grammar."""

    def __init__(self, meaning: Meaning, options: SchemaOptions) -> None:
        self.meaning = meaning
        self.any_order = options.property_order == "any"
        self.plain = options.integers == "plain"
        self.goals: list[Goal] = []
        self.goal_numbers: dict[Goal, int] = {}
        self.shapes: list[Any] = []
        self.shape_numbers: dict[int, int] = {}
        self.properties: dict[tuple[int, int, bool], Node] = {}
        self.unordered: dict[tuple[int, ObjectState], list[Node]] = {}
        space = repeat(Characters(((9, 10), (13, 13), (32, 32))), 0, options.maximum_space)
        self.space = space if options.white_space == "flexible" else EMPTY
        after = text(" ") if options.white_space == "spaced" else self.space
        self.comma = sequence((self.space, text(","), after))
        self.colon = sequence((self.space, text(":"), after))
        self.providers: dict[str, Callable[..., Node]] = {
            "any": self.any_value, "string": lambda: texts.ANY_STRING, "number": lambda: numbers.ANY_NUMBER,
            "integer": lambda: numbers.PLAIN_INTEGER if self.plain else numbers.ANY_INTEGER,
            "array": self.any_array, "object": self.any_object,
            "value": self.value_rule, "members": self.members_rule, "items": self.items_rule,
            "digits": self.digits_rule,
            "text": texts.string_node, "format": self.format_rule, "names": self.names_rule,
            "exponents": self.exponents_rule,
        }  # fmt: skip

    def grammar(self) -> Grammar:
        return Grammar(self.value(self.meaning.expansion.root()), self.rule)

    def rule(self, name: Hashable) -> Node:
        """The node of a rule: a name, or a name and what it is about."""
        if isinstance(name, tuple):
            return self.providers[name[0]](*name[1:])
        assert isinstance(name, str), "rules are named by strings or tuples"
        return self.providers[name]()

    # Any JSON ----------------------------------------------------------------------------------------------------

    def any_value(self) -> Node:
        return choice(
            (Call("object"), Call("array"), Call("string"), Call("number"), text("true"), text("false"), text("null"))
        )

    def any_array(self) -> Node:
        more = repeat(sequence((self.comma, Call("any"))), 0, None)
        return self.enclosed("[", optional(sequence((Call("any"), more))), "]")

    def any_object(self) -> Node:
        member = sequence((Call("string"), self.colon, Call("any")))
        return self.enclosed("{", optional(sequence((member, repeat(sequence((self.comma, member)), 0, None)))), "}")

    def enclosed(self, opening: str, inner: Node, closing: str) -> Node:
        return sequence((text(opening), self.space, inner, self.space, text(closing)))

    # Values ------------------------------------------------------------------------------------------------------

    def value(self, goal: Goal) -> Node:
        """A call to the rule of a goal."""
        if goal == ANYTHING:
            return Call("any")
        if goal not in self.goal_numbers:
            self.goal_numbers[goal] = len(self.goals)
            self.goals.append(goal)
        return Call(("value", self.goal_numbers[goal]))

    def value_rule(self, number: int) -> Node:
        possible = filter(self.meaning.possible, self.meaning.alternatives(self.goals[number]))
        return choice(map(self.alternative, possible))

    def alternative(self, alternative: Alternative) -> Node:
        if alternative.values is not None:
            held = [value for value in alternative.values if self.meaning.holds(value, alternative)]
            return choice(map(self.exactly, held))
        kinds = alternative.kinds
        facts = (alternative.numbers, alternative.texts, alternative.arrays, alternative.objects)
        if kinds == Kind.ALL and not any(facts):
            return Call("any")
        ways: list[Node] = []
        if kinds & Kind.OBJECT:
            ways.append(self.object(alternative))
        if kinds & Kind.ARRAY:
            ways.append(self.array(alternative))
        if kinds & Kind.STRING:
            ways.append(self.string(alternative.texts))
        if kinds & Kind.NUMBER:
            ways.append(self.number(kinds & Kind.NUMBER, alternative.numbers))
        words = ((Kind.TRUE, "true"), (Kind.FALSE, "false"), (Kind.NULL, "null"))
        return choice((*ways, *(text(word) for kind, word in words if kinds & kind)))

    def exactly(self, value: Any) -> Node:
        """One value; integers also with `.0`, unless they are to be plain."""
        if isinstance(value, list):
            parts = [sequence((self.comma if index else EMPTY, self.exactly(item))) for index, item in enumerate(value)]
            return self.enclosed("[", sequence(parts), "]")
        if isinstance(value, dict) and len(value) > 1 and self.any_order:
            return self.value(self.meaning.expansion.equal_to(value))
        if isinstance(value, dict):
            parts = [sequence((self.comma if index else EMPTY, text(json_text(name)), self.colon, self.exactly(item)))
                     for index, (name, item) in enumerate(value.items())]  # fmt: skip
            return self.enclosed("{", sequence(parts), "}")
        if kind_of(value) == Kind.INTEGER and not self.plain:
            whole = str(exact(value, "").numerator)
            return choice((sequence((text(whole), optional(text(".0")))), text(json.dumps(value))))
        return text(json.dumps(value, ensure_ascii=False))

    # Strings and numbers -----------------------------------------------------------------------------------------

    def string(self, facts: tuple[TextFact, ...]) -> Node:
        if not facts:
            return Call("string")
        if len(facts) == 1 and isinstance(facts[0], Format) and facts[0].positive:
            return Call(("format", facts[0].name))
        return Call(("text", facts)) if texts.is_possible(facts) else choice(())

    def format_rule(self, name: str) -> Node:
        return quoted_format(name)

    def number(self, kinds: Kind, facts: tuple[NumberFact, ...]) -> Node:
        if not facts and kinds != Kind.FRACTION:
            return Call("integer" if kinds == Kind.INTEGER else "number")
        ways: list[Node] = [self.digits(kinds, facts, leading=False)]
        if kinds != Kind.INTEGER and numbers.scientific(kinds, facts):
            ways.append(Call(("exponents", kinds, facts)))
        return choice(ways)

    def digits(self, kinds: Kind, facts: tuple[NumberFact, ...], leading: bool) -> Node:
        automaton = self.meaning.automaton(kinds, facts, leading)
        return Call(("digits", self.numbered(automaton), 0)) if automaton.edges[0] else choice(())

    def digits_rule(self, number: int, state: int) -> Node:
        automaton: numbers.Automaton = self.shapes[number]
        targets: dict[int, str] = {}
        for symbol, target in automaton.edges[state]:
            targets[target] = targets.get(target, "") + symbol
        ways: list[Node] = []
        for target, symbols in targets.items():
            last = not automaton.edges[target]
            after = EMPTY if last else Call(("digits", number, target))
            ways.append(sequence((numbers.edge_characters(symbols), after)))
        return choice((*ways, *([EMPTY] if state in automaton.ends else [])))

    def exponents_rule(self, kinds: Kind, facts: tuple[NumberFact, ...]) -> Node:
        ways: list[Node] = []
        for part in numbers.scientific(kinds, facts):
            if isinstance(part, numbers.Uniform):
                ways.append(numbers.uniform_node(part))
            else:
                mantissa = self.digits(Kind.NUMBER, part.facts, leading=True)
                ways.append(sequence((mantissa, numbers.exponent_node(part.exponent, part.exponent))))
        return choice(ways)

    def numbered(self, shape: Any) -> int:
        """A small name for an object that lives as long as the grammar."""
        if id(shape) not in self.shape_numbers:
            self.shape_numbers[id(shape)] = len(self.shapes)
            self.shapes.append(shape)
        return self.shape_numbers[id(shape)]

    # Arrays ------------------------------------------------------------------------------------------------------

    def array(self, alternative: Alternative) -> Node:
        if not alternative.arrays:
            return Call("array")
        shape = self.meaning.array_shape(alternative.arrays)
        if not shape.can_end(shape.first):
            return choice(())
        if shape.pure and shape.horizon <= LONG_PREFIX:
            return self.enclosed("[", self.plain_items(shape, 0), "]")
        return sequence((text("["), self.space, Call(("items", self.numbered(shape), shape.first))))

    def plain_items(self, shape: ArrayShape, index: int) -> Node:
        """The items from an index on, where nothing is counted but the items themselves."""
        goal = shape.item_goal(index)
        if (shape.maximum is not None and index >= shape.maximum) or not self.meaning.possible_goal(goal):
            return EMPTY
        item = self.value(goal)
        least = max(shape.minimum - index, 0)
        if index < shape.horizon:
            own = sequence((self.comma if index else EMPTY, item, self.plain_items(shape, index + 1)))
            return own if least else optional(own)
        most = None if shape.maximum is None else shape.maximum - index
        further = sequence((self.comma, item))
        if index:
            return repeat(further, least, most)
        own = sequence((item, repeat(further, max(least - 1, 0), None if most is None else most - 1)))
        return own if least else optional(own)

    def items_rule(self, number: int, state: ArrayState) -> Node:
        shape: ArrayShape = self.shapes[number]
        ways: list[Node] = []
        comma = self.comma if state.size else EMPTY
        for item in shape.following(state):
            value = self.exactly(item.value) if item.is_exact else self.value(item.goal)
            ways.append(sequence((comma, value, Call(("items", number, item.after)))))
        if shape.ends(state):
            ways.append(sequence((self.space, text("]"))))
        return choice(ways)

    # Objects -----------------------------------------------------------------------------------------------------

    def object(self, alternative: Alternative) -> Node:
        if not alternative.objects:
            return Call("object")
        shape = self.meaning.object_shape(alternative.objects)
        if not shape.can_end(shape.first):
            return choice(())
        return sequence((text("{"), self.space, Call(("members", self.numbered(shape), shape.first))))

    def members_rule(self, number: int, state: ObjectState) -> Node:
        """What may follow in an object: the next properties up to a required one, other members, or its end."""
        shape: ObjectShape = self.shapes[number]
        ways = [sequence((self.space, text("}")))] if shape.ends(state) else []
        for _ in range(NEAR - state.position % NEAR):
            if state.position >= shape.num_ordered:
                return choice((*ways, *self.unordered_members(number, state)))
            if shape.pure:
                ways.append(self.plain_property(number, state))
                if shape.names[state.position] in shape.required:
                    return choice(ways)
                state = ObjectState(state.position + 1, state.seen, state.size, state.flags)
                continue
            members = shape.named_members(state, shape.names[state.position])
            ways += [self.member(number, state, member) for member in members if self.leads(shape, member)]
            skipped = shape.skipped(state)
            if skipped is None or not shape.can_end(skipped):
                return choice(ways)
            state = skipped
        # The end has been offered above; the rest of the chain offers it again, which is the same text.
        return choice((*ways, Call(("members", number, state))))

    def plain_property(self, number: int, state: ObjectState) -> Node:
        """The next property where nothing else about the object matters: one node, whatever was left out before it."""
        key = (number, state.position, bool(state.size))
        found = self.properties.get(key)
        if found is None:
            shape: ObjectShape = self.shapes[number]
            name = shape.names[state.position]
            member = Member(name, None, shape.goals[name], state._replace(position=state.position + 1, size=1))
            leads = self.leads(shape, member)
            found = self.properties[key] = self.member(number, state, member) if leads else choice(())
        return found

    def leads(self, shape: ObjectShape, member: Member) -> bool:
        """Whether a member can stand and the object can be completed after it."""
        return self.meaning.possible_goal(member.goal) and shape.can_end(member.after)

    def unordered_members(self, number: int, state: ObjectState) -> list[Node]:
        """The members that can come in any order: names without a declaration, then all others."""
        found = self.unordered.get((number, state))
        if found is None:
            shape: ObjectShape = self.shapes[number]
            named = (member for name in shape.left(state) for member in shape.named_members(state, name))
            members = [member for member in (*named, *shape.other_members(state)) if self.leads(shape, member)]
            found = self.unordered[number, state] = [self.member(number, state, member) for member in members]
        return found

    def member(self, number: int, state: ObjectState, member: Member) -> Node:
        comma = self.comma if state.size else EMPTY
        name = text(json_text(member.name)) if member.name is not None else self.other_name(member.others)
        return sequence((comma, name, self.colon, self.value(member.goal), Call(("members", number, member.after))))

    def other_name(self, others: OtherNames | None) -> Node:
        assert others is not None, "a member has a name or is one of the others"
        return Call("string") if others.language == ANY_TEXT else Call(("names", self.numbered(others)))

    def names_rule(self, number: int) -> Node:
        others: OtherNames = self.shapes[number]
        return texts.quoted(others.language)
