"""Objects: all facts about one object as a small machine that takes a member at a time.

Named properties come in the order of their declaration (or in any), then all other members. A state is where in that
order we are, how many members there were (as far as that matters), and which "at least one of ..." are fulfilled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, combinations
from operator import or_

from stemma.fsm.errors import LimitError
from stemma.fsm.languages.json_schema import texts
from stemma.fsm.languages.json_schema.context import Context, can_end, choices, subsets
from stemma.fsm.languages.json_schema.facts import (
    Length,
    Members,
    Names,
    ObjectFact,
    Required,
)
from stemma.fsm.languages.json_schema.goals import (
    ANYTHING,
    Goal,
    conjoined,
    negated,
)
from stemma.fsm.languages.json_schema.member_options import (
    Matching,
    MemberOption,
    Misnamed,
    Named,
    Other,
    SomeMember,
)
from stemma.fsm.languages.json_schema.object_conditions import Conditions, absences, bits_of, flags_of_others, is_late
from stemma.fsm.languages.json_schema.object_parts import (
    NO_FLAGS,
    Member,
    ObjectState,
    Order,
    OtherNames,
    Settable,
    all_names,
)
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
        self.members: list[Members] = []
        self.name_goals: list[Goal] = []
        self.required: dict[str, None] = {}
        self.minimum = 0
        self.maximum: int | None = None
        conditions: list[SomeMember] = []
        for fact in facts:
            if isinstance(fact, Members):
                self.members.append(fact)
            elif isinstance(fact, Required):
                self.required |= dict.fromkeys(fact.names)
            elif isinstance(fact, Names):
                self.name_goals.append(fact.goal)
            elif isinstance(fact, Length):
                self.minimum = max(self.minimum, fact.minimum)
                if fact.maximum is not None:
                    self.maximum = fact.maximum if self.maximum is None else min(self.maximum, fact.maximum)
            else:
                conditions.append(fact)
        self.any_order = context.options.property_order == "any"
        self.cap = max(1, self.minimum, self.maximum or 0)
        self.named = [dict(fact.names) for fact in self.members]
        self.only = self.members[0] if len(self.members) == 1 and not self.members[0].patterns else None
        self.some = [fact for fact in conditions if not self._is_certain(fact)]
        if len(self.some) > MAXIMUM_CONDITIONS:
            raise LimitError(f"more than {MAXIMUM_CONDITIONS} conditions on the members of one object; simplify them")
        self.options = [option for fact in self.some for option in fact.options]
        self.known: dict[ObjectState, bool] = {}
        self.known_members: dict[int, Node] = {}  # by position, where nothing else matters
        self.known_more: dict[int, Node] = {}
        self.completable: bool | None = None
        self.settable: dict[str, Settable] = {}
        self.conditions = Conditions(self.some)
        self.taken = all_names(self.members, self.required, self.options)
        self.absences = absences(self.some)
        self._order: Order | None = None
        self._others: list[OtherNames] | None = None
        self._lost_from: list[int] | None = None
        self.pure = not self.some and self.maximum is None and self.minimum == 0

    def _is_certain(self, fact: SomeMember) -> bool:
        """Whether a required property fulfils one of the options with whatever value it may have."""
        return any(
            isinstance(option, Named)
            and option.name in self.required
            and not self.context.may_be_possible(conjoined((self.member_goal(option.name), negated(option.goal))))
            for option in fact.options
        )

    @property
    def order(self) -> Order:
        """The properties that may be named, in order. Whether they have values is asked when they are written."""
        if self._order is None:
            names = [name for name in self.taken if name in self.required or self._may_be_named(name)]
            declared = self.named[0] if len(self.named) == 1 else set().union(*self.named)
            num_ordered = 0 if self.any_order else sum([name in declared for name in names])
            self._order = Order(names, [self.member_goal(name) for name in names], num_ordered, self.required)
        return self._order

    def possible_from(self, position: int) -> int:
        """The next position in order whose property can stand at all, or must."""
        while position < self.order.num_ordered:
            name = self.order.names[position]
            if name in self.required or self.context.possible_goal(self.order.goals[name]):
                break
            position += 1
        return position

    def member_goal(self, name: str) -> Goal:
        """What a member of this name fulfils in any case."""
        if self.only is not None:
            return self.named[0].get(name, self.only.rest)
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

    @property
    def others(self) -> list[OtherNames]:
        """All other names, told apart by the patterns that they match."""
        if self._others is None:
            self._others = self._told_apart()
        return self._others

    def _told_apart(self) -> list[OtherNames]:
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
        flags = flags_of_others(self.some, matched)
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

    # Steps -------------------------------------------------------------------------------------------------------

    @property
    def first(self) -> ObjectState:
        return ObjectState(0, NOWHERE, 0, 0)

    def skipped(self, state: ObjectState) -> ObjectState | None:
        """Past the next property without it, or None where it is required (or none is left)."""
        if state.position >= self.order.num_ordered:
            return None
        name = self.order.names[state.position]
        if name in self.required:
            return None
        return ObjectState(state.position + 1, state.seen, state.size, state.flags | self.absences.get(name, 0))

    def ends(self, state: ObjectState) -> bool:
        """Whether the object can be closed here."""
        if state.size < self.minimum or self._lacks(state):
            return False
        flags, left = state.flags, set(self.left(state)) if self.absences else ()
        for name, bits in self.absences.items():
            if bits & ~flags and (name not in self.order.positions or name in left):
                flags |= bits
        return flags == (1 << len(self.some)) - 1

    def _lacks(self, state: ObjectState) -> bool:
        """Whether a required property has not come yet."""
        order = self.order
        if state.position <= order.last_required:
            return True
        if not order.required_late:
            return False
        return any(order.positions[name] >= state.position and name not in state.seen for name in order.required_late)

    def left(self, state: ObjectState) -> list[str]:
        """The properties that may still come."""
        if state.seen:
            return [name for name in self.order.names[state.position :] if name not in state.seen]
        return self.order.names[state.position :]

    def named_members(self, state: ObjectState, name: str) -> Iterator[Member]:
        """The ways in which a property can stand here."""
        if self.maximum is not None and state.size >= self.maximum:
            return
        is_ordered = self.order.positions[name] < self.order.num_ordered
        position = self.order.positions[name] + 1 if is_ordered else state.position
        seen = state.seen if is_ordered else state.seen | {name}
        start = ObjectState(position, seen, min(state.size + 1, self.cap), state.flags)
        for goal, after in self._with_flags(start, self.order.goals[name], self._settable_by(name)):
            yield Member(name, goal, after)

    def _settable_by(self, name: str) -> Settable:
        """The flags that a property can set."""
        found = self.settable.get(name)
        if found is None:
            flags = self.conditions.flags_of(name, lambda option: self.named_option(option, name))
            found = self.settable[name] = self._sorted_out(self.order.goals[name], flags)
        return found

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
        start = ObjectState(state.position, state.seen, min(state.size + 1, self.cap), state.flags)
        for others in self.others:
            for goal, after in self._with_flags(start, others.goal, others.settable):
                yield Member(others, goal, after)

    def _with_flags(self, state: ObjectState, base: Goal, settable: Settable) -> Iterator[tuple[Goal, ObjectState]]:
        """Every choice of the flags that a member sets, with the goal that this takes."""
        flags = state.flags | settable.free
        if not settable.paid:
            yield base, state if flags == state.flags else state.with_flags(flags)
            return
        paid = [(flag, goal) for flag, goal in settable.paid if not flags >> flag & 1]
        for goal, bits in choices(base, paid, self.context):
            yield goal, state.with_flags(flags | bits)

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
        if state.position >= len(self.order.names):
            yield from (member.after for member in self.other_members(state))
            return
        name = self.order.names[state.position]
        past = ObjectState(state.position + 1, state.seen, state.size, state.flags)
        if name in state.seen:
            after: Iterable[ObjectState] = (past,)
        else:
            after = self._with_or_without(state, past, name)
        lost = self.lost_from[past.position]
        yield from (each for each in after if not lost & ~each.flags)

    def _with_or_without(self, state: ObjectState, past: ObjectState, name: str) -> Iterator[ObjectState]:
        if name not in self.required:
            yield past.with_flags(state.flags | self.absences.get(name, 0))
        if self.context.possible_goal(self.order.goals[name]) and self._may_be_named(name):
            yield from (
                ObjectState(past.position, state.seen, member.after.size, member.after.flags)
                for member in self.named_members(state, name)
            )

    @property
    def lost_from(self) -> list[int]:
        """The flags that nothing can set any more, by position: an object that lacks one there cannot be completed."""
        if self._lost_from is None:
            self._lost_from = self._lost()
        return self._lost_from

    def _lost(self) -> list[int]:
        lost = [0] * (len(self.order.names) + 1)  # by position, what only the one before it can set
        last = dict.fromkeys(range(len(self.some)), -1)
        for position, name in enumerate(self.order.names):
            settable = self._settable_by(name)
            last.update(dict.fromkeys(bits_of(self.absences.get(name, 0) | settable.free), position))
            last.update({flag: position for flag, _ in settable.paid})
        late = {flag for flag, fact in enumerate(self.some) if is_late(fact, self.order)}
        for flag, position in last.items():
            if flag not in late:
                lost[position + 1] |= 1 << flag
        return list(accumulate(lost, or_))

    def _may_be_named(self, name: str) -> bool:
        return not self.name_goals or all(self.context.check(name, goal) for goal in self.name_goals)
