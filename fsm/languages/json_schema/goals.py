"""Goals: what is asked of one value, as a conjunction of claims that a schema holds, or does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stemma.fsm.languages.json_schema.document import Place


class Claim:
    """That a place's schema holds (or does not); `scope` are the resources entered so far, for dynamic references.
    Goals are asked for often: the hash is worked out once."""

    __slots__ = ("_hash", "place", "positive", "scope")

    def __init__(self, place: Place, scope: tuple[str, ...], positive: bool) -> None:
        self.place: Final = place
        self.scope: Final = scope
        self.positive: Final = positive
        self._hash = hash((id(place), scope, positive))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Claim) or self._hash != other._hash:
            return False
        return self.place is other.place and self.positive == other.positive and self.scope == other.scope

    def positively(self) -> Claim:
        return self if self.positive else self.denied()

    def denied(self) -> Claim:
        """The claim of the contrary."""
        return Claim(self.place, self.scope, not self.positive)


class AnyOf:
    """That at least one of the goals holds. Goals are asked for often, and may be deep: the hash is worked out once."""

    __slots__ = ("_hash", "goals")

    def __init__(self, goals: tuple[Goal, ...]) -> None:
        self.goals = goals
        self._hash = hash(goals)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, AnyOf) and self._hash == other._hash and self.goals == other.goals)


Goal = tuple["Claim | AnyOf", ...]
"""A conjunction; the empty one is what any value fulfils."""


ANYTHING: Goal = ()
NEVER: Goal = (AnyOf(()),)


def conjoined(goals: Iterable[Goal]) -> Goal:
    """All goals at once."""
    claims = dict.fromkeys(claim for goal in goals for claim in goal)
    return NEVER if NEVER[0] in claims else tuple(claims)


def negated(goal: Goal) -> Goal:
    """That a goal does not hold."""
    if not goal:
        return NEVER
    ways = [_negated(claim) for claim in goal]
    return ways[0] if len(ways) == 1 else (AnyOf(tuple(ways)),)


def _negated(claim: Claim | AnyOf) -> Goal:
    if isinstance(claim, Claim):
        return (claim.denied(),)
    return tuple(part for goal in claim.goals for part in negated(goal))
