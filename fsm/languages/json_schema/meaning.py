"""What goals mean: whether any value fulfils one, whether a given value does, which few values do.

Everything is memoised by goal, but for what leans on an assumption (`possibility.py`). A goal that only an endless
value could fulfil counts as impossible.
"""

from __future__ import annotations

import json
from typing import Any

from stemma.fsm.errors import LimitError
from stemma.fsm.languages.json_schema import denying, exponents, holding, numbers, reading, texts, whole_objects
from stemma.fsm.languages.json_schema.alternatives import kind_of
from stemma.fsm.languages.json_schema.arrays import ArrayShape
from stemma.fsm.languages.json_schema.context import Context
from stemma.fsm.languages.json_schema.document import Document
from stemma.fsm.languages.json_schema.expansion import Expansion, Keywords
from stemma.fsm.languages.json_schema.facts import (
    Alternative,
    ArrayFact,
    Bound,
    Content,
    Kind,
    Kinds,
    NumberFact,
    ObjectFact,
    TextFact,
)
from stemma.fsm.languages.json_schema.glance import Glance
from stemma.fsm.languages.json_schema.goals import Claim, Goal
from stemma.fsm.languages.json_schema.objects import ObjectShape
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.languages.json_schema.possibility import Possibility
from stemma.fsm.languages.json_schema.values import distinct, exact, identity
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.nodes import choice, text
from stemma.fsm.work import count_work

MAXIMUM_ENUMERATED = 64
QUESTION_WORK = 5
MAXIMUM_GUESSES = 4
MAXIMUM_CHECKS = 600  # within each other: of items, members and texts of a value, and of what is asked for them

KEYWORDS = Keywords(holding.positive, denying.negative, reading.referred)


class Meaning(Context):
    """The meaning of every goal of one document."""

    def __init__(self, document: Document, options: SchemaOptions) -> None:
        super().__init__(options)
        self.expansion = Expansion(document, options, self, KEYWORDS)
        self.glance = Glance(document)
        self.possibility = Possibility()
        self.checking = 0  # how many values are checked within each other
        self.guessing = 0  # how many questions that only make things simpler are asked within each other
        self.array_shapes: dict[tuple[ArrayFact, ...], ArrayShape] = {}
        self.object_shapes: dict[tuple[ObjectFact, ...], ObjectShape] = {}
        self.automata: dict[tuple[Kinds, tuple[NumberFact, ...], bool], numbers.DigitAutomaton] = {}

    def alternatives(self, goal: Goal) -> tuple[Alternative, ...]:
        return self.expansion.alternatives(goal)

    # Is there any value? -----------------------------------------------------------------------------------------

    @property
    def doubts(self) -> int:
        """Grows whenever an answer is not final: nothing that was found out meanwhile may be remembered as a no."""
        return self.possibility.doubts

    def possible_goal(self, goal: Goal) -> bool:
        """Whether any finite value fulfils a goal; so far, if the question is part of such a question (`doubts`)."""
        if not goal:
            return True
        known = self.possibility.known.get(goal)
        if known is not None:
            return known
        if len(goal) == 1 and isinstance(goal[0], Claim) and goal[0].positive and self.glance.has_value(goal[0].place):
            self.possibility.known[goal] = True
            return True
        return self.possibility.decide(goal, self._is_possible)

    def may_be_possible(self, goal: Goal) -> bool:
        """False where surely no value fulfils a goal."""
        if self.guessing >= MAXIMUM_GUESSES:
            return self.possibility.known.get(goal, True)
        self.guessing += 1
        try:
            return self.possible_goal(goal) or self.possibility.known.get(goal) is not False
        finally:
            self.guessing -= 1

    def _is_possible(self, goal: Goal) -> bool:
        """What is quickly said is asked first: it may spare the rest."""
        return any(map(self.possible, sorted(self.alternatives(goal), key=_is_compound)))

    def may_hold(self, alternative: Alternative) -> bool:
        """False where surely no value is left; raises Undecided where that leans on what is being expanded."""
        doubts = self.doubts
        return self.possible(alternative) or self.doubts != doubts

    def possible(self, alternative: Alternative) -> bool:
        """Whether any value is left, in the sense of `possible_goal`."""
        count_work(QUESTION_WORK)
        if alternative.values is not None:
            return any(self.holds(value, alternative) for value in alternative.values)
        kinds = alternative.kinds
        if kinds & (Kind.NULL | Kind.TRUE | Kind.FALSE):
            return True
        if kinds & Kind.NUMBER and (
            not alternative.numbers or self.has_number(kinds & Kind.NUMBER, alternative.numbers)
        ):
            return True
        if kinds & Kind.STRING and (not alternative.texts or self.has_text(alternative.texts)):
            return True
        if kinds & Kind.ARRAY and (not alternative.arrays or self.has_array(alternative.arrays)):
            return True
        return bool(kinds & Kind.OBJECT) and (not alternative.objects or self.has_object(alternative.objects))

    def has_text(self, facts: tuple[TextFact, ...]) -> bool:
        only = facts[0]
        if len(facts) == 1 and isinstance(only, Content):
            return self.possible_goal(only.goal)
        return texts.is_possible(facts)

    def has_number(self, kinds: Kinds, facts: tuple[NumberFact, ...]) -> bool:
        if numbers.surely_possible(kinds, facts):
            return True
        return bool(self.automaton(kinds, facts, False).edges[0]) or any(
            isinstance(part, exponents.Uniform) or self.automaton(Kind.NUMBER, part.facts, True).edges[0]
            for part in exponents.scientific(kinds, facts)
        )

    def has_array(self, facts: tuple[ArrayFact, ...]) -> bool:
        shape = self.array_shape(facts)
        return shape.can_end(shape.first)

    def has_object(self, facts: tuple[ObjectFact, ...]) -> bool:
        shape = self.object_shape(facts)
        return shape.can_end(shape.first)

    def automaton(self, kinds: Kinds, facts: tuple[NumberFact, ...], leading: bool) -> numbers.DigitAutomaton:
        key = (kinds, facts, leading)
        if key not in self.automata:
            self.automata[key] = numbers.explored(kinds, facts, leading, self.options.integers == "plain")
        return self.automata[key]

    def array_shape(self, facts: tuple[ArrayFact, ...]) -> ArrayShape:
        found = self.array_shapes.get(facts)
        if found is None:
            found = self.array_shapes[facts] = ArrayShape(facts, self)
        return found

    def object_shape(self, facts: tuple[ObjectFact, ...]) -> ObjectShape:
        found = self.object_shapes.get(facts)
        if found is None:
            found = self.object_shapes[facts] = ObjectShape(facts, self)
        return found

    # Is it this value? -------------------------------------------------------------------------------------------

    def check(self, value: Any, goal: Goal) -> bool:
        if self.checking >= MAXIMUM_CHECKS:
            raise LimitError(f"more than {MAXIMUM_CHECKS} values are to be checked within each other")
        self.checking += 1
        try:
            return any(
                (alternative.values is None or identity(value) in map(identity, alternative.values))
                and self.holds(value, alternative)
                for alternative in self.alternatives(goal)
            )
        finally:
            self.checking -= 1

    def is_content(self, text: str, goal: Goal) -> bool:
        """Whether a text is JSON of a value that fulfils a goal."""
        try:
            value = json.loads(text)
        except ValueError:
            return False
        return self.check(value, goal)

    def holds(self, value: Any, alternative: Alternative) -> bool:
        """Whether a value fulfils all facts of an alternative (that it is one of its `values` is taken for granted)."""
        kind = kind_of(value)
        if not kind & alternative.kinds:
            return False
        if kind & Kind.NUMBER:
            return numbers.fulfils(exact(value, ""), alternative.numbers)
        if kind == Kind.STRING:
            contents = [fact for fact in alternative.texts if isinstance(fact, Content)]
            plain = tuple(fact for fact in alternative.texts if not isinstance(fact, Content))
            return texts.fulfils(value, plain) and all(self.is_content(value, fact.goal) for fact in contents)
        if kind == Kind.ARRAY:
            return not alternative.arrays or self.array_shape(alternative.arrays).is_fulfilled_by(value)
        if kind == Kind.OBJECT:
            return not alternative.objects or whole_objects.fulfils(value, self.object_shape(alternative.objects))
        return True

    # Which values? -----------------------------------------------------------------------------------------------

    def finite(self, goal: Goal) -> tuple[Any, ...] | None:
        """All values that fulfil a goal, or None where they are many."""
        found: list[Any] = []
        for alternative in self.alternatives(goal):
            own = self._finite(alternative)
            if own is None:
                return None
            found += own
        return distinct(found)

    def _finite(self, alternative: Alternative) -> list[Any] | None:
        if alternative.values is not None:
            return [value for value in alternative.values if self.holds(value, alternative)]
        simple = {Kind.NULL: None, Kind.FALSE: False, Kind.TRUE: True}
        found = [value for kind, value in simple.items() if kind & alternative.kinds]
        left = alternative.kinds & ~(Kind.NULL | Kind.FALSE | Kind.TRUE)
        if left == Kind.INTEGER:
            bounds = [fact for fact in alternative.numbers if isinstance(fact, Bound)]
            low = max((-(-fact.value // 1) for fact in bounds if fact.is_lower), default=None)
            high = min((fact.value // 1 for fact in bounds if not fact.is_lower), default=None)
            if low is None or high is None or high - low > MAXIMUM_ENUMERATED:
                return None
            whole = range(int(low), int(high) + 1)
            return found + [value for value in whole if numbers.fulfils(exact(value, ""), alternative.numbers)]
        if left == Kind.STRING and any(isinstance(fact, Content) for fact in alternative.texts):
            return None
        if left == Kind.STRING:
            few = texts.few_texts(texts.decoded_language(alternative.texts)) if alternative.texts else None
            return None if few is None else found + few
        return None if left and self.may_hold(alternative.only(left)) else found

    def names_language(self, goal: Goal) -> Node:
        """The texts that fulfil a goal."""
        ways: list[Node] = []
        for alternative in self.alternatives(goal):
            if alternative.values is not None:
                held = [
                    value for value in alternative.values if isinstance(value, str) and self.holds(value, alternative)
                ]
                ways += map(text, held)
            elif alternative.kinds & Kind.STRING:
                ways.append(texts.decoded_language(alternative.texts))
        return choice(ways)


def _is_compound(alternative: Alternative) -> bool:
    """Whether only arrays and objects are left."""
    return alternative.values is None and not alternative.kinds & ~(Kind.ARRAY | Kind.OBJECT)
