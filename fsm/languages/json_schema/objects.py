"""Objects: all facts about one object as a small machine that takes a member at a time.

Named properties come in the order of their declaration (or in any), then all other members. A state is where in that
order we are, how many members there were (as far as that matters), and which "at least one of ..." are fulfilled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import combinations

from stemma.fsm.errors import LimitError
from stemma.fsm.languages.json_schema import texts
from stemma.fsm.languages.json_schema.context import Context, can_end, choices, subsets
from stemma.fsm.languages.json_schema.facts import (
    ANYTHING,
    Absent,
    Goal,
    Length,
    Matching,
    MemberOption,
    Members,
    Misnamed,
    Named,
    Names,
    ObjectFact,
    Other,
    Required,
    SomeMember,
    conjoined,
    negated,
)
from stemma.fsm.languages.json_schema.object_parts import NO_FLAGS, Member, ObjectState, OtherNames, Settable
from stemma.fsm.languages.json_schema.possibility import Undecided
from stemma.fsm.languages.json_schema.readers import pattern_language
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.nodes import ANY_TEXT, both, choice, text, without

MAXIMUM_PATTERNS = 8
MAXIMUM_CONDITIONS = 120
NOWHERE: frozenset[str] = frozenset()


class ObjectShape:
    """All facts about an object at once."""

    def __init__(self, facts: tuple[ObjectFact, ...], context: Context) -> None:
        self.context = context
        self.members = [fact for fact in facts if isinstance(fact, Members)]
        self.name_goals = [fact.goal for fact in facts if isinstance(fact, Names)]
        self.required = dict.fromkeys(name for fact in facts if isinstance(fact, Required) for name in fact.names)
        lengths = [fact for fact in facts if isinstance(fact, Length)]
        self.minimum = max((fact.minimum for fact in lengths), default=0)
        self.maximum = min((fact.maximum for fact in lengths if fact.maximum is not None), default=None)
        self.any_order = context.options.property_order == "any"
        self.cap = max(1, self.minimum, self.maximum or 0)
        self.named = [dict(fact.names) for fact in self.members]
        self.some = [fact for fact in facts if isinstance(fact, SomeMember) and not self._is_certain(fact)]
        if len(self.some) > MAXIMUM_CONDITIONS:
            raise LimitError(f"more than {MAXIMUM_CONDITIONS} conditions on the members of one object; simplify them")
        self.options = [option for fact in self.some for option in fact.options]
        self.known: dict[ObjectState, bool] = {}
        self.completable: bool | None = None
        self.settable: dict[str, Settable] = {}
        self.pure = not self.some and self.maximum is None and self.minimum == 0

    def _is_certain(self, fact: SomeMember) -> bool:
        """Whether a required property fulfils one of the options with whatever value it may have."""
        return any(
            isinstance(option, Named)
            and option.name in self.required
            and not self.context.may_be_possible(conjoined((self.member_goal(option.name), negated(option.goal))))
            for option in fact.options
        )

    @cached_property
    def goals(self) -> dict[str, Goal]:
        """What the member of each property fulfils, for those that may have their names, in order."""
        may_be_named = [name for name in self.taken if name in self.required or self._may_be_named(name)]
        return {name: self.member_goal(name) for name in may_be_named}

    @cached_property
    def names(self) -> list[str]:
        """The properties that may be named, in order. Whether they have values is asked when they are written."""
        return list(self.goals)

    def possible_from(self, position: int) -> int:
        """The next position in order whose property can stand at all, or must."""
        while position < self.num_ordered:
            name = self.names[position]
            if name in self.required or self.context.possible_goal(self.goals[name]):
                break
            position += 1
        return position

    @cached_property
    def num_ordered(self) -> int:
        """How many of the names come in order: those that are declared as properties. The rest come in any."""
        if self.any_order:
            return 0
        declared = self.named[0] if len(self.named) == 1 else set().union(*self.named)
        return sum(map(declared.__contains__, self.names))

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def taken(self) -> dict[str, None]:
        """Every name that any fact treats apart, the declared ones first."""
        names = {name: None for fact in self.members for name, _ in fact.names} | self.required
        for option in self.options:
            if isinstance(option, Absent | Named):
                names.setdefault(option.name)
            elif isinstance(option, Other):
                names |= dict.fromkeys(sorted(option.names - names.keys()))
        return names

    def member_goal(self, name: str) -> Goal:
        """What a member of this name fulfils in any case."""
        goals: list[Goal] = []
        for fact, named in zip(self.members, self.named, strict=True):
            own = [named[name]] if name in named else []
            if fact.patterns:
                own += [goal for source, goal in fact.patterns if texts.matches(source, name)]
            goals += filter(None, own or (fact.rest,))
        return goals[0] if len(goals) == 1 else conjoined(goals)

    def is_possible(self, name: str) -> bool:
        """Whether a member of this name can stand at all."""
        return self._may_be_named(name) and self.context.possible_goal(self.member_goal(name))

    # The members besides the properties --------------------------------------------------------------------------

    @cached_property
    def others(self) -> list[OtherNames]:
        """All other names, told apart by the patterns that they match."""
        sources = list(dict.fromkeys((
            *(source for fact in self.members for source, _ in fact.patterns),
            *(option.source for option in self.options if isinstance(option, Matching)),
            *(source for option in self.options if isinstance(option, Other) for source in option.sources),
        )))  # fmt: skip
        if not sources and not self.context.may_be_possible(conjoined(fact.rest for fact in self.members)):
            return []
        if len(sources) > MAXIMUM_PATTERNS:
            raise LimitError(f"more than {MAXIMUM_PATTERNS} patterns for the names of one object; join some of them")
        allowed: Node = ANY_TEXT
        for goal in self.name_goals:
            allowed = both(allowed, self.context.names_language(goal))
        found = []
        apart: list[frozenset[str]] = []  # patterns that no name matches together
        for size in range(len(sources) + 1):
            for matched in map(frozenset, combinations(sources, size)):
                if any(matched >= never for never in apart):
                    continue
                own = self._other(allowed, matched, sources)
                if not own and size > 1 and texts.are_apart([pattern_language(source) for source in matched]):
                    apart.append(matched)
                found += own
        return found

    def _other(self, allowed: Node, matched: frozenset[str], sources: list[str]) -> list[OtherNames]:
        goal = conjoined(self._other_goals(matched))
        if not self.context.may_be_possible(goal):
            return []
        wanted = [pattern_language(source) for source in sources if source in matched]
        if texts.start_differently(wanted):
            return []
        language = allowed
        for pattern in wanted:
            language = both(language, pattern)
        unwanted = [pattern_language(source) for source in sources if source not in matched]
        unwanted += [text(name) for name in self.taken if all(texts.matches(source, name) for source in matched)]
        if unwanted:
            language = without(language, choice(unwanted))
        if (matched or self.name_goals) and texts.is_empty(language):
            return []
        flags = self._other_flags(matched)
        found = [OtherNames(language, goal, self._sorted_out(goal, flags))]
        bad = [(flag, option.goal) for flag, fact in enumerate(self.some)
               for option in fact.options if isinstance(option, Misnamed)]  # fmt: skip
        if len(bad) > MAXIMUM_PATTERNS:
            raise LimitError(f"more than {MAXIMUM_PATTERNS} conditions on names that must not hold; join some of them")
        for chosen in subsets(list(range(len(bad)))):
            narrower = language
            for index in chosen:
                narrower = both(narrower, self.context.names_language(bad[index][1]))
            if chosen and not texts.is_empty(narrower):
                set_too = [(bad[index][0], ANYTHING) for index in chosen]
                found.append(OtherNames(narrower, goal, self._sorted_out(goal, [*flags, *set_too])))
        return found

    def _other_goals(self, matched: frozenset[str]) -> Iterator[Goal]:
        for fact in self.members:
            own = [goal for source, goal in fact.patterns if source in matched]
            yield from own or [fact.rest]

    def _other_flags(self, matched: frozenset[str]) -> list[tuple[int, Goal]]:
        """Which flags a member with these patterns can set, and by which goals."""
        return [
            (flag, option.goal)
            for flag, fact in enumerate(self.some)
            for option in fact.options
            if (isinstance(option, Matching) and option.source in matched)
            or (isinstance(option, Other) and not matched.intersection(option.sources))
        ]

    # Steps -------------------------------------------------------------------------------------------------------

    @property
    def first(self) -> ObjectState:
        return ObjectState(0, NOWHERE, 0, 0)

    def skipped(self, state: ObjectState) -> ObjectState | None:
        """Past the next property without it, or None where it is required (or none is left)."""
        if state.position >= self.num_ordered:
            return None
        name = self.names[state.position]
        if name in self.required:
            return None
        return state._replace(position=state.position + 1, flags=state.flags | self.absences.get(name, 0))

    @cached_property
    def absences(self) -> dict[str, int]:
        """The flags that are set where a name is absent."""
        found: dict[str, int] = {}
        for flag, fact in enumerate(self.some):
            for option in fact.options:
                if isinstance(option, Absent):
                    found[option.name] = found.get(option.name, 0) | 1 << flag
        return found

    def ends(self, state: ObjectState) -> bool:
        """Whether the object can be closed here."""
        if state.size < self.minimum or self._lacks(state):
            return False
        flags, left = state.flags, set(self.left(state)) if self.absences else ()
        for name, bits in self.absences.items():
            if bits & ~flags and (name not in self.positions or name in left):
                flags |= bits
        return flags == (1 << len(self.some)) - 1

    def _lacks(self, state: ObjectState) -> bool:
        """Whether a required property has not come yet."""
        in_order, in_any = self.required_places
        if state.position <= in_order:
            return True
        return any(self.positions[name] >= state.position and name not in state.seen for name in in_any)

    @cached_property
    def required_places(self) -> tuple[int, list[str]]:
        """The last position that is required among the properties in order, and the required names among the rest."""
        places = [self.positions[name] for name in self.required]
        in_order = max((place for place in places if place < self.num_ordered), default=-1)
        return in_order, [name for name in self.required if self.positions[name] >= self.num_ordered]

    def left(self, state: ObjectState) -> list[str]:
        """The properties that may still come."""
        if state.seen:
            return [name for name in self.names[state.position :] if name not in state.seen]
        return self.names[state.position :]

    def named_members(self, state: ObjectState, name: str) -> Iterator[Member]:
        """The ways in which a property can stand here."""
        if self.maximum is not None and state.size >= self.maximum:
            return
        is_ordered = self.positions[name] < self.num_ordered
        position = self.positions[name] + 1 if is_ordered else state.position
        seen = state.seen if is_ordered else state.seen | {name}
        start = ObjectState(position, seen, min(state.size + 1, self.cap), state.flags)
        for goal, after in self._with_flags(start, self.goals[name], self._settable_by(name)):
            yield Member(name, goal, after)

    def _settable_by(self, name: str) -> Settable:
        """The flags that a property can set."""
        if name not in self.settable:
            options = [
                (flag, self.named_option(option, name))
                for flag, fact in enumerate(self.some)
                for option in fact.options
            ]
            self.settable[name] = self._sorted_out(
                self.goals[name], [(flag, goal) for flag, goal in options if goal is not None]
            )
        return self.settable[name]

    def _sorted_out(self, base: Goal, options: list[tuple[int, Goal]]) -> Settable:
        """Flags that every value of a member sets, and those that some values can set."""
        if not options:
            return NO_FLAGS
        possible = self.context.may_be_possible
        free = sum(
            1 << flag for flag in {flag for flag, goal in options if not possible(conjoined((base, negated(goal))))}
        )
        paid = [(flag, goal) for flag, goal in options if not free >> flag & 1 and possible(conjoined((base, goal)))]
        return Settable(free, tuple(paid))

    def named_option(self, option: MemberOption, name: str) -> Goal | None:
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
        if self.maximum is not None and state.size >= self.maximum:
            return
        start = state._replace(size=min(state.size + 1, self.cap))
        for others in self.others:
            for goal, after in self._with_flags(start, others.goal, others.settable):
                yield Member(others, goal, after)

    def _with_flags(self, state: ObjectState, base: Goal, settable: Settable) -> Iterator[tuple[Goal, ObjectState]]:
        """Every choice of the flags that a member sets, with the goal that this takes."""
        flags = state.flags | settable.free
        if not settable.paid:
            yield base, state if flags == state.flags else state._replace(flags=flags)
            return
        paid = [(flag, goal) for flag, goal in settable.paid if not flags >> flag & 1]
        for goal, bits in choices(base, paid, self.context):
            yield goal, state._replace(flags=flags | bits)

    def can_end(self, state: ObjectState) -> bool:
        """Whether the object can still be completed."""
        if self.pure:
            return self._has_all_required()
        return can_end(state, self.ends, self._states_after, self.known, self.context)

    def _has_all_required(self) -> bool:
        if self.completable is None:
            doubts = self.context.doubts
            found = self._are_possible(self.required)
            if not found and self.context.doubts != doubts:
                return False
            self.completable = found
        return self.completable

    def _are_possible(self, names: Iterable[str]) -> bool:
        """Whether members of all these names can stand: one that cannot settles it, whatever is not known of others."""
        undecided: Undecided | None = None
        for name in names:
            try:
                if not self.is_possible(name):
                    return False
            except Undecided as error:
                undecided = error
        if undecided is not None:
            raise undecided
        return True

    def _states_after(self, state: ObjectState) -> Iterator[ObjectState]:
        """Any order can be completed exactly when the declared one can, so only that is tried."""
        if state.position >= len(self.names):
            yield from (member.after for member in self.other_members(state))
            return
        name, past = self.names[state.position], state._replace(position=state.position + 1)
        if name in state.seen:
            after: Iterable[ObjectState] = (past,)
        else:
            after = self._with_or_without(state, past, name)
        lost = self.lost_from[past.position]
        yield from (each for each in after if not lost & ~each.flags)

    def _with_or_without(self, state: ObjectState, past: ObjectState, name: str) -> Iterator[ObjectState]:
        if name not in self.required:
            yield past._replace(flags=state.flags | self.absences.get(name, 0))
        if self.context.possible_goal(self.goals[name]) and self._may_be_named(name):
            yield from (
                member.after._replace(position=past.position, seen=state.seen)
                for member in self.named_members(state, name)
            )

    @cached_property
    def lost_from(self) -> list[int]:
        """The flags that nothing can set any more, by position: an object that lacks one there cannot be completed."""
        last = dict.fromkeys(range(len(self.some)), -1)
        for position, name in enumerate(self.names):
            settable = self._settable_by(name)
            bits = self.absences.get(name, 0) | settable.free
            last |= {flag: position for flag in last if bits >> flag & 1}
            last |= {flag: position for flag, _ in settable.paid}
        late = {flag for flag, fact in enumerate(self.some) if any(map(self._is_late, fact.options))}
        return [
            sum(1 << flag for flag, at in last.items() if at < position and flag not in late)
            for position in range(len(self.names) + 1)
        ]

    def _is_late(self, option: MemberOption) -> bool:
        """Whether an option may be the case by what comes after all properties, or by what can never come."""
        return not isinstance(option, Named) and (not isinstance(option, Absent) or option.name not in self.positions)

    def _may_be_named(self, name: str) -> bool:
        return not self.name_goals or all(self.context.check(name, goal) for goal in self.name_goals)
