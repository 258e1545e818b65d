"""Goals to grammar nodes: how JSON writes the values that fulfil them, built on the first visit, one rule at a time.

A *goal* is a conjunction of subschemas about one value, as `allOf` makes it, with what is to be denied (`not`) among
it. `meaning` takes it apart into alternatives (a disjunctive normal form), each of which becomes a node:

    {"type": ["string", "null"], "maxLength": 3}     goal: (this schema holds)
    alternatives                                     string and length <= 3 | null
    node                                             Choice(RuleRef(string of up to 3), "null")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from typing import Any

from stemma.fsm.languages.json_schema import reading, texts
from stemma.fsm.languages.json_schema.alternatives import kind_of
from stemma.fsm.languages.json_schema.any_json import any_json, enclosed
from stemma.fsm.languages.json_schema.arrays import ArrayShape, ArrayState
from stemma.fsm.languages.json_schema.facts import (
    Alternative,
    Content,
    Kind,
    Kinds,
    NumberFact,
    TextFact,
)
from stemma.fsm.languages.json_schema.formats import leap_minute, leap_offset
from stemma.fsm.languages.json_schema.goals import AnyOf, Claim, Goal
from stemma.fsm.languages.json_schema.meaning import Meaning
from stemma.fsm.languages.json_schema.members import ObjectRules
from stemma.fsm.languages.json_schema.number_rules import number_node
from stemma.fsm.languages.json_schema.plain_values import PlainValues, kept_string
from stemma.fsm.languages.json_schema.values import exact, json_text
from stemma.fsm.syntax.ast import Grammar, Kept, Node, RuleRef
from stemma.fsm.syntax.nodes import EMPTY, choice, concat, optional, repeat, text

LONG_PREFIX = 24
MOST_WAYS = 8
OF_ARRAYS = frozenset(("type", "items", "array_length"))
COUNTED = frozenset(("prefixItems", "additionalItems"))
LONGEST_PLAIN = 10**21  # whole numbers from here on are spelled as they are given, as JSON writers do


class SchemaCompiler:
    """The rules of one schema's grammar."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning, options = meaning, meaning.options
        self.any_order = options.property_order == "any"
        self.plain = options.integers == "plain"
        self.goals: list[Goal] = []
        self.calls: dict[Goal, Node] = {}
        self.shapes: list[Any] = []
        self.shape_numbers: dict[int, int] = {}
        self.most_digits = options.maximum_digits
        self.generic = any_json(options)
        self.marks = self.generic.marks
        self.space, self.comma, self.colon = self.marks
        self.objects = ObjectRules(meaning, self.marks, self.value)
        self.types: dict[str, Node] = {
            "string": RuleRef("string"), "integer": RuleRef("integer"), "number": RuleRef("number"),
            "null": text("null"), "boolean": RuleRef("boolean"), "array": RuleRef("array"), "object": RuleRef("object"),
        }  # fmt: skip
        self.plain_values = PlainValues(self.types, options)
        self.providers: dict[str, Callable[..., Node]] = {
            "value": self.value_rule, "items": self.items_rule, "spelled": self.spelled_rule,
            "leap_minute": leap_minute, "leap_offset": leap_offset,
            "members": self.objects.members, "more": self.objects.more, "names": self.objects.names,
        }  # fmt: skip

    def grammar(self) -> Grammar:
        value = concat((self.space, self.value(self.meaning.expansion.root()), self.space))
        return Grammar(value, self.rule, common=self.generic.common)

    def rule(self, name: Hashable) -> Node:
        """The node of a rule: a name, or a name and what it is about."""
        if isinstance(name, Kept):
            return name.node
        if isinstance(name, tuple):
            return self.providers[name[0]](*name[1:])
        assert isinstance(name, str), "rules are named by strings or tuples"
        return self.generic.rules[name]

    # Values ------------------------------------------------------------------------------------------------------

    def value(self, goal: Goal) -> Node:
        """A call to the rule of a goal."""
        found = self.calls.get(goal)
        if found is None:
            target = self.meaning.expansion.followed(goal)
            found = self.at_a_glance(target) if target == goal else self.value(target)
            if found is None:
                found = RuleRef(("value", len(self.goals)))
                self.goals.append(goal)
            self.calls[goal] = found
        return found

    def at_a_glance(self, goal: Goal) -> Node | None:
        """The values of a schema that says little, for these are most."""
        if not goal:
            return RuleRef("any")
        claim = goal[0]
        if len(goal) > 1 or isinstance(claim, AnyOf) or not claim.positive:
            return None
        return self.any_of(claim) if claim.place.groups == ["any_of"] else self.plain_values.node(claim.place)

    def any_of(self, claim: Claim) -> Node | None:
        """Any of a few values that each are told at a glance, such as a text or null."""
        assert isinstance(claim.place.schema, dict), "a boolean has no branches"
        ways: list[Node] = []
        for goal in reading.branches(self.meaning.expansion, claim, claim.place.schema, "anyOf"):
            followed = self.meaning.expansion.followed(goal)
            branch = followed[0] if len(followed) == 1 else None
            plain = isinstance(branch, Claim) and branch.positive and self.plain_values.node(branch.place)
            if not plain or len(ways) == MOST_WAYS:
                return None
            ways.append(plain)
        return choice(ways)

    def value_rule(self, number: int) -> Node:
        [claim, *more] = self.goals[number]
        if not more and isinstance(claim, Claim) and claim.positive and OF_ARRAYS.issuperset(claim.place.groups):
            array = self.plain_array(claim)
            if array is not None:
                return array
        alternatives = self.meaning.alternatives(self.goals[number])
        if len(alternatives) == 1 and self.meaning.possible_goal(self.goals[number]):
            return self.alternative(alternatives[0])
        return choice(map(self.alternative, filter(self.meaning.possible, alternatives)))

    def alternative(self, alternative: Alternative) -> Node:
        if alternative.values is not None:
            any_text = bool(alternative.kinds & Kind.STRING) and not alternative.texts
            held = (value for value in alternative.values
                    if (any_text and isinstance(value, str)) or self.meaning.holds(value, alternative))  # fmt: skip
            return choice(map(self.exactly, held))
        kinds = alternative.kinds
        facts = (alternative.numbers, alternative.texts, alternative.arrays, alternative.objects)
        if kinds == Kind.ALL and not any(facts):
            return RuleRef("any")
        ways: list[Node] = []
        if kinds & Kind.OBJECT:
            ways.append(self.objects.node(alternative.objects) if alternative.objects else RuleRef("object"))
        if kinds & Kind.ARRAY:
            ways.append(self.array(alternative))
        if kinds & Kind.STRING:
            ways.append(self.string(alternative.texts))
        if kinds & Kind.NUMBER:
            ways.append(self.number(kinds & Kind.NUMBER, alternative.numbers))
        words = ((Kind.TRUE, "true"), (Kind.FALSE, "false"), (Kind.NULL, "null"))
        return choice((*ways, *(text(word) for kind, word in words if kinds & kind)))

    def exactly(self, value: Any) -> Node:
        """One value; a whole number without a fraction, or also with `.0` where integers need not be plain."""
        if isinstance(value, str):
            return text(json_text(value))
        if isinstance(value, list):
            parts = [concat((self.comma if index else EMPTY, self.exactly(item))) for index, item in enumerate(value)]
            return enclosed("[", concat(parts), "]", self.marks)
        if isinstance(value, dict) and len(value) > 1 and self.any_order:
            return self.value(self.meaning.expansion.equal_to(value))
        if isinstance(value, dict):
            parts = [concat((self.comma if index else EMPTY, text(json_text(name)), self.colon, self.exactly(item)))
                     for index, (name, item) in enumerate(value.items())]  # fmt: skip
            return enclosed("{", concat(parts), "}", self.marks)
        if kind_of(value) == Kind.INTEGER and abs(value) < LONGEST_PLAIN:
            whole = text(str(exact(value, "").numerator))
            return whole if self.plain else choice((concat((whole, optional(text(".0")))), text(json.dumps(value))))
        return text(json.dumps(value, ensure_ascii=False))

    # Strings and numbers -----------------------------------------------------------------------------------------

    def string(self, facts: tuple[TextFact, ...]) -> Node:
        if not facts:
            return RuleRef("string")
        only = facts[0]
        if len(facts) == 1 and isinstance(only, Content):
            return concat((texts.QUOTE, texts.spelled(self.value(only.goal), strictly=True), texts.QUOTE))
        return kept_string(facts)

    def spelled_rule(self, name: Hashable) -> Node:
        """What a rule reads, inside a string."""
        return texts.spelled(self.rule(name), strictly=True)

    def number(self, kinds: Kinds, facts: tuple[NumberFact, ...]) -> Node:
        if not facts and kinds != Kind.FRACTION:
            return RuleRef("integer" if kinds == Kind.INTEGER else "number")
        return number_node(kinds, facts, self.plain, self.most_digits)

    def numbered(self, shape: Any) -> int:
        """A small name for an object that lives as long as the grammar."""
        if id(shape) not in self.shape_numbers:
            self.shape_numbers[id(shape)] = len(self.shapes)
            self.shapes.append(shape)
        return self.shape_numbers[id(shape)]

    # Arrays ------------------------------------------------------------------------------------------------------

    def array(self, alternative: Alternative) -> Node:
        if not alternative.arrays:
            return RuleRef("array")
        shape = self.meaning.array_shape(alternative.arrays)
        if not shape.can_end(shape.first):
            return choice(())
        if shape.pure and shape.horizon <= LONG_PREFIX:
            return enclosed("[", self.plain_items(shape, 0), "]", self.marks)
        return concat((text("["), self.space, RuleRef(("items", self.numbered(shape), shape.first))))

    def plain_array(self, claim: Claim) -> Node | None:
        """An array of items that are all alike, if that is all that its schema says; else None."""
        schema = claim.place.schema
        assert isinstance(schema, dict), "a boolean is no claim"
        least, most, items = schema.get("minItems", 0), schema.get("maxItems"), schema.get("items")
        if schema.get("type") != "array" or not isinstance(items, dict) or not COUNTED.isdisjoint(schema):
            return None
        if least.__class__ is not int or (most is not None and (most.__class__ is not int or most < max(least, 1))):
            return None
        goal = self.meaning.expansion.inside(claim, items, "items")
        if not self.meaning.possible_goal(goal):
            return None
        item = self.value(goal)
        further = repeat(concat((self.comma, item)), max(least - 1, 0), None if most is None else most - 1)
        own = concat((item, further))
        return enclosed("[", own if least else optional(own), "]", self.marks)

    def plain_items(self, shape: ArrayShape, index: int) -> Node:
        """The items from an index on, where nothing is counted but the items themselves."""
        goal = shape.item_goal(index)
        if (shape.maximum is not None and index >= shape.maximum) or not self.meaning.possible_goal(goal):
            return EMPTY
        item = self.value(goal)
        least = max(shape.minimum - index, 0)
        if index < shape.horizon:
            own = concat((self.comma if index else EMPTY, item, self.plain_items(shape, index + 1)))
            return own if least else optional(own)
        most = None if shape.maximum is None else shape.maximum - index
        further = concat((self.comma, item))
        if index:
            return repeat(further, least, most)
        own = concat((item, repeat(further, max(least - 1, 0), None if most is None else most - 1)))
        return own if least else optional(own)

    def items_rule(self, number: int, state: ArrayState) -> Node:
        shape: ArrayShape = self.shapes[number]
        ways: list[Node] = []
        comma = self.comma if state.size else EMPTY
        for item in shape.following(state):
            value = self.exactly(item.value) if item.is_exact else self.value(item.goal)
            ways.append(concat((comma, value, RuleRef(("items", number, item.after)))))
        if shape.ends(state):
            ways.append(concat((self.space, text("]"))))
        return choice(ways)
