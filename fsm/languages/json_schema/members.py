"""The members of objects as grammar nodes: which may come next, how each is written, where the object may end.

Nodes are shared by all places that lead to them, and so are the states that they become. A rule holds the properties
up to the next required one, each with what may follow it; what they are worth is for `compiler.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stemma.fsm.languages.json_schema import texts
from stemma.fsm.languages.json_schema.any_json import Punctuation
from stemma.fsm.languages.json_schema.facts import ObjectFact
from stemma.fsm.languages.json_schema.goals import Goal
from stemma.fsm.languages.json_schema.meaning import Meaning
from stemma.fsm.languages.json_schema.object_parts import Member, ObjectState, OtherNames
from stemma.fsm.languages.json_schema.objects import NOWHERE, ObjectShape
from stemma.fsm.languages.json_schema.values import json_text
from stemma.fsm.syntax.ast import Choice, Concatenation, Node, RuleRef
from stemma.fsm.syntax.nodes import ANY_TEXT, NOTHING, concat, text

NEAR, FAR = 16, 64  # a rule ends at a multiple of so many properties at the latest; of FAR where they are many
MANY = 4_096


class ObjectRules:
    """The rules of one grammar's objects. Shapes and other names are known by number, for they name rules."""

    def __init__(self, meaning: Meaning, marks: Punctuation, value: Callable[[Goal], Node]) -> None:
        self.meaning = meaning
        self.marks = marks
        self.value = value
        self.end = concat((marks.space, text("}")))
        self.shapes: list[ObjectShape] = []
        self.others: list[OtherNames] = []
        self.nodes: dict[int, Node] = {}  # of shapes by identity, of other names too: both are held
        self.known_members: dict[tuple[int, ObjectState], Node] = {}
        self.known_more: dict[tuple[int, ObjectState], Node] = {}

    def node(self, facts: tuple[ObjectFact, ...]) -> Node:
        """The objects that fulfil all facts."""
        shape = self.meaning.object_shape(facts)
        found = self.nodes.get(id(shape))
        if found is None:
            self.shapes.append(shape)
            inner = self.members(len(self.shapes) - 1, shape.first) if shape.can_end(shape.first) else NOTHING
            found = self.nodes[id(shape)] = concat((text("{"), self.marks.space, inner))
        return found

    def members(self, number: int, state: ObjectState) -> Node:
        """What may follow in an object: one more member, or its end."""
        shape = self.shapes[number]
        if shape.pure and state.size and not state.seen:
            return self._pure_members(number, shape, state.position)
        found = self.known_members.get((number, state))
        if found is None:
            more = self.more(number, state)
            ways = [self.end] if shape.ends(state) else []
            if more != NOTHING:
                ways.append(Concatenation((self.marks.comma, more)) if state.size else more)
            found = self.known_members[number, state] = ways[0] if len(ways) == 1 else Choice(tuple(ways))
        return found

    def more(self, number: int, state: ObjectState) -> Node:
        """One more member, behind the comma: the next property, or what may come without it."""
        shape = self.shapes[number]
        if shape.pure:
            if not state.seen:
                return self._pure_more(number, shape, state.position)
            state = ObjectState(shape.possible_from(state.position), state.seen, 1, 0)
        found = self.known_more.get((number, state))
        if found is None:
            if state.position >= shape.order.num_ordered:
                ways = self._unordered(number, shape, state)
            else:
                ways = self._ordered(number, shape, state)
            found = self.known_more[number, state] = ways[0] if len(ways) == 1 else Choice(tuple(ways))
        return found

    def _pure_members(self, number: int, shape: ObjectShape, position: int) -> Node:
        """What may follow behind a member where only the place in order matters, as for most objects."""
        found = shape.known_members.get(position)
        if found is None:
            more = self._pure_more(number, shape, position)
            ends = shape.ends(ObjectState(position, NOWHERE, 1, 0))
            if more == NOTHING:
                found = self.end if ends else NOTHING
            else:
                further = Concatenation((self.marks.comma, more))
                found = Choice((self.end, further)) if ends else further
            shape.known_members[position] = found
        return found

    def _pure_more(self, number: int, shape: ObjectShape, position: int) -> Node:
        position = shape.possible_from(position)
        found = shape.known_more.get(position)
        if found is None:
            if position >= shape.order.num_ordered:
                ways = self._unordered(number, shape, ObjectState(position, NOWHERE, 1, 0))
            else:
                ways = self._plain(number, shape, position)
            found = shape.known_more[position] = ways[0] if len(ways) == 1 else Choice(tuple(ways))
        return found

    def names(self, number: int) -> Node:
        """The names outside the properties, as strings."""
        return texts.quoted(self.others[number].language)

    def _plain(self, number: int, shape: ObjectShape, position: int) -> list[Node]:
        """The next property where nothing else about the object matters: what follows it is built with it."""
        order, after = shape.order, position + 1
        name = order.names[position]
        goal = order.goals[name]
        if name in shape.required:
            return [self._member(name, goal, RuleRef(("members", number, ObjectState(after, NOWHERE, 1, 0))))]
        if after % (NEAR if order.num_ordered < MANY else FAR) == 0:
            state = ObjectState(after, NOWHERE, 1, 0)
            return [self._member(name, goal, RuleRef(("members", number, state))), RuleRef(("more", number, state))]
        more = self._pure_more(number, shape, after)
        own = self._member(name, goal, self._pure_members(number, shape, after))
        return [own] if more == NOTHING else [own, more]

    def _ordered(self, number: int, shape: ObjectShape, state: ObjectState) -> list[Node]:
        """The next property where it matters for the rest of the object."""
        ways = self._possible(number, shape, shape.named_members(state, shape.order.names[state.position]))
        skipped = shape.skipped(state)
        if skipped is not None and shape.can_end(skipped):
            is_near = skipped.position % NEAR != 0
            ways.append(self.more(number, skipped) if is_near else RuleRef(("more", number, skipped)))
        return ways

    def _unordered(self, number: int, shape: ObjectShape, state: ObjectState) -> list[Node]:
        """The members that can come in any order: names without a declaration, then all others."""
        named = (member for name in shape.left(state) for member in shape.named_members(state, name))
        return self._possible(number, shape, (*named, *shape.other_members(state)))

    def _possible(self, number: int, shape: ObjectShape, members: Iterable[Member]) -> list[Node]:
        """Those members that can stand, if the object can be completed after them."""
        return [
            self._member(member.name, member.goal, RuleRef(("members", number, member.after)))
            for member in members
            if self.meaning.possible_goal(member.goal) and shape.can_end(member.after)
        ]

    def _member(self, name: str | OtherNames, goal: Goal, rest: Node) -> Node:
        written = text(json_text(name)) if isinstance(name, str) else self._other_name(name)
        return concat((written, self.marks.colon, self.value(goal), rest))

    def _other_name(self, others: OtherNames) -> Node:
        if others.language == ANY_TEXT:
            return RuleRef("string")
        found = self.nodes.get(id(others))
        if found is None:
            found = self.nodes[id(others)] = RuleRef(("names", len(self.others)))
            self.others.append(others)
        return found
