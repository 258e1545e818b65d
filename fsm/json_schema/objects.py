"""Objects: all facts about one object as a small machine that takes a member at a time.

Named properties come in the order of their declaration (or in any), then all other members. A state is where in that order
we are, how many members there were (as far as that matters), and which "at least one of ..." are fulfilled.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

from stemma.fsm.ast import Node
from stemma.fsm.errors import LimitError
from stemma.fsm.json_schema import texts
from stemma.fsm.json_schema.context import Context, can_end, conjoined, subsets
from stemma.fsm.json_schema.facts import (
    ANYTHING,
    Absent,
    Goal,
    Length,
    Matching,
    Members,
    Misnamed,
    Named,
    Names,
    ObjectFact,
    Other,
    Required,
    SomeMember,
)
from stemma.fsm.nodes import ANY_TEXT, both, choice, text, without

MAXIMUM_PATTERNS = 8
NOWHERE: frozenset[str] = frozenset()


class ObjectState(NamedTuple):
    """`index`: the first property that may still come; in any order, `seen` holds those that have."""

    index: int
    seen: frozenset[str]
    count: int
    flags: int


class OtherNames(NamedTuple):
    """Names outside the properties that the same patterns match, and the goals of their values."""

    language: Node
    goal: Goal
    flags: tuple[tuple[int, Goal], ...]


class Member(NamedTuple):
    """One more member: of a name, or of any of the `others`."""

    name: str | None
    others: OtherNames | None
    goal: Goal
    after: ObjectState


class ObjectShape:
    """All facts about an object at once."""

    def __init__(self, facts: tuple[ObjectFact, ...], context: Context) -> None:
        self.context = context
        self.members = [fact for fact in facts if isinstance(fact, Members)]
        self.some = [fact for fact in facts if isinstance(fact, SomeMember)]
        self.name_goals = [fact.goal for fact in facts if isinstance(fact, Names)]
        self.required = dict.fromkeys(name for fact in facts if isinstance(fact, Required) for name in fact.names)
        lengths = [fact for fact in facts if isinstance(fact, Length)]
        self.minimum = max((fact.minimum for fact in lengths), default=0)
        self.maximum = min((fact.maximum for fact in lengths if fact.maximum is not None), default=None)
        self.any_order = context.options.property_order == "any"
        self.cap = max(1, self.minimum, self.maximum or 0)
        self.named = [dict(fact.names) for fact in self.members]
        self.options = [option for fact in self.some for option in fact.options]
        self.known: dict[ObjectState, bool] = {}
        self.pure = not self.some and self.maximum is None and self.minimum == 0

    @cached_property
    def names(self) -> list[str]:
        """The properties that can stand at all, in order."""
        return [name for name in self.taken if name in self.required or self.is_possible(name)]

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def taken(self) -> dict[str, None]:
        """Every name that any fact treats apart, in order."""
        names = {name: None for fact in self.members for name, _ in fact.names} | self.required
        for option in self.options:
            if isinstance(option, Absent | Named):
                names.setdefault(option.name)
            elif isinstance(option, Other):
                names |= dict.fromkeys(sorted(option.names - names.keys()))
        return names

    def member_goal(self, name: str) -> Goal:
        """What a member of this name fulfils in any case."""
        goals = []
        for fact, named in zip(self.members, self.named, strict=True):
            own = [named[name]] if name in named else []
            own += [goal for source, goal in fact.patterns if texts.matches(source, name)]
            goals += own or [fact.rest]
        return conjoined(goals)

    def is_possible(self, name: str) -> bool:
        """Whether a member of this name can stand at all."""
        if not all(self.context.check(name, goal) for goal in self.name_goals):
            return False
        return self.context.possible_goal(self.member_goal(name))

    # The members besides the properties --------------------------------------------------------------------------

    @cached_property
    def others(self) -> list[OtherNames]:
        """All other names, told apart by the patterns that they match."""
        sources = list(dict.fromkeys((
            *(source for fact in self.members for source, _ in fact.patterns),
            *(option.source for option in self.options if isinstance(option, Matching)),
            *(source for option in self.options if isinstance(option, Other) for source in option.sources),
        )))  # fmt: skip
        if not sources and not self.context.possible_goal(conjoined(fact.rest for fact in self.members)):
            return []
        if len(sources) > MAXIMUM_PATTERNS:
            raise LimitError(f"more than {MAXIMUM_PATTERNS} patterns for the names of one object; join some of them")
        allowed = ANY_TEXT
        for goal in self.name_goals:
            allowed = both(allowed, self.context.names_language(goal))
        found = []
        for size in range(len(sources) + 1):
            for matched in combinations(sources, size):
                found += self._other(allowed, frozenset(matched), sources)
        return found

    def _other(self, allowed: Node, matched: frozenset[str], sources: list[str]) -> list[OtherNames]:
        goal = conjoined(self._other_goals(matched))
        if not self.context.possible_goal(goal):
            return []
        language = allowed
        for source in sources:
            if source in matched:
                language = both(language, texts.pattern_language(source))
        unwanted = [texts.pattern_language(source) for source in sources if source not in matched]
        unwanted += [text(name) for name in self.taken if all(texts.matches(source, name) for source in matched)]
        if unwanted:
            language = without(language, choice(unwanted))
        if (matched or self.name_goals) and texts.is_empty(language):
            return []
        found = [OtherNames(language, goal, self._other_flags(matched))]
        for flag, fact in enumerate(self.some):
            bad = [option.goal for option in fact.options if isinstance(option, Misnamed)]
            for name_goal in bad:
                narrower = both(language, self.context.names_language(name_goal))
                if not texts.is_empty(narrower):
                    found.append(OtherNames(narrower, goal, (*self._other_flags(matched), (flag, ANYTHING))))
        return found

    def _other_goals(self, matched: frozenset[str]) -> Iterator[Goal]:
        for fact in self.members:
            own = [goal for source, goal in fact.patterns if source in matched]
            yield from own or [fact.rest]

    def _other_flags(self, matched: frozenset[str]) -> tuple[tuple[int, Goal], ...]:
        """Which flags a member with these patterns can set, and by which goals."""
        return tuple(
            (flag, option.goal)
            for flag, fact in enumerate(self.some)
            for option in fact.options
            if (isinstance(option, Matching) and option.source in matched)
            or (isinstance(option, Other) and not matched.intersection(option.sources))
        )

    # Steps -------------------------------------------------------------------------------------------------------

    @property
    def first(self) -> ObjectState:
        return ObjectState(0, NOWHERE, 0, 0)

    def skipped(self, state: ObjectState) -> ObjectState | None:
        """Past the next property without it, or None where it is required (or none is left)."""
        if state.index >= len(self.names) or self.any_order:
            return None
        name = self.names[state.index]
        if name in self.required:
            return None
        return state._replace(index=state.index + 1, flags=state.flags | self._absent(name))

    def _absent(self, name: str) -> int:
        return sum(1 << flag for flag, fact in enumerate(self.some)
                   if any(isinstance(option, Absent) and option.name == name for option in fact.options))  # fmt: skip

    def ends(self, state: ObjectState) -> bool:
        """Whether the object can be closed here."""
        left = self.left(state)
        if state.count < self.minimum or any(name in self.required for name in left):
            return False
        flags = state.flags
        if self.some:
            present = self.taken.keys() - set(left)
            for name in self.taken:
                impossible = name not in self.positions
                if impossible or name not in present:
                    flags |= self._absent(name)
        return flags == (1 << len(self.some)) - 1

    def left(self, state: ObjectState) -> list[str]:
        """The properties that may still come."""
        if self.any_order:
            return [name for name in self.names if name not in state.seen]
        return self.names[state.index :]

    def named_members(self, state: ObjectState, name: str) -> Iterator[Member]:
        """The ways in which a property can stand here."""
        if self.maximum is not None and state.count >= self.maximum:
            return
        settable: list[tuple[int, Goal]] = []
        for flag, fact in enumerate(self.some):
            settable += [(flag, goal) for option in fact.options if (goal := self._named_option(option, name)) is not None]
        index = state.index if self.any_order else self.positions[name] + 1
        seen = state.seen | {name} if self.any_order else NOWHERE
        start = ObjectState(index, seen, min(state.count + 1, self.cap), state.flags)
        for goal, after in self._with_flags(start, self.goals[name], settable):
            yield Member(name, None, goal, after)

    @cached_property
    def goals(self) -> dict[str, Goal]:
        return {name: self.member_goal(name) for name in self.names}

    def _named_option(self, option: Absent | Named | Matching | Other | Misnamed, name: str) -> Goal | None:
        """The goal by which a member of this name fulfils an option."""
        if isinstance(option, Named):
            return option.goal if option.name == name else None
        if isinstance(option, Matching):
            return option.goal if texts.matches(option.source, name) else None
        if isinstance(option, Other):
            apart = name in option.names or any(texts.matches(source, name) for source in option.sources)
            return None if apart else option.goal
        return ANYTHING if isinstance(option, Misnamed) and self.context.check(name, option.goal) else None

    def other_members(self, state: ObjectState) -> Iterator[Member]:
        """The ways in which a member besides the properties can stand here."""
        if self.maximum is not None and state.count >= self.maximum:
            return
        after_properties = state if self.any_order else state._replace(index=len(self.names))
        start = after_properties._replace(count=min(state.count + 1, self.cap))
        for others in self.others:
            for goal, after in self._with_flags(start, others.goal, list(others.flags)):
                yield Member(None, others, goal, after)

    def _with_flags(self, state: ObjectState, base: Goal, settable: list[tuple[int, Goal]]) -> Iterator[tuple[Goal, ObjectState]]:
        """Every choice of the flags that a member sets, with the goal that this takes."""
        wanted = [(flag, goal) for flag, goal in settable if not state.flags >> flag & 1]
        free = {flag for flag, goal in wanted if goal == ANYTHING}
        flags = state.flags | sum(1 << flag for flag in free)
        paid = [(flag, goal) for flag, goal in wanted if flag not in free]
        for chosen in subsets(list(range(len(paid)))):
            goal = conjoined((base, *(paid[index][1] for index in chosen)))
            after = flags
            for index in chosen:
                after |= 1 << paid[index][0]
            if not chosen or self.context.possible_goal(goal):
                yield goal, state._replace(flags=after)

    def can_end(self, state: ObjectState) -> bool:
        """Whether the object can still be completed."""
        if self.pure:
            return self._all_required_possible
        return can_end(state, self.ends, self._states_after, self.known)

    @cached_property
    def _all_required_possible(self) -> bool:
        return all(map(self.is_possible, self.required))

    def _states_after(self, state: ObjectState) -> Iterator[ObjectState]:
        skipped = self.skipped(state)
        if skipped is not None:
            yield skipped
        if state.index >= len(self.names) or self.any_order:
            yield from (member.after for member in self.other_members(state))
        for name in self.left(state) if self.any_order else self.left(state)[:1]:
            if self.context.possible_goal(self.goals[name]) and self._may_be_named(name):
                yield from (member.after for member in self.named_members(state, name))

    def _may_be_named(self, name: str) -> bool:
        return all(self.context.check(name, goal) for goal in self.name_goals)

    def is_fulfilled_by(self, value: dict[str, Any]) -> bool:
        """The same facts, asked of a whole object."""
        check = self.context.check
        if len(value) < self.minimum or (self.maximum is not None and len(value) > self.maximum):
            return False
        if any(name not in value for name in self.required):
            return False
        if not all(check(name, goal) for goal in self.name_goals for name in value):
            return False
        if not all(check(item, self.member_goal(name)) for name, item in value.items()):
            return False
        return all(any(self._is_the_case(option, value) for option in fact.options) for fact in self.some)

    def _is_the_case(self, option: Absent | Named | Matching | Other | Misnamed, value: dict[str, Any]) -> bool:
        if isinstance(option, Absent):
            return option.name not in value
        for name, item in value.items():
            goal = self._named_option(option, name)
            if goal is not None and self.context.check(item, goal):
                return True
        return False
