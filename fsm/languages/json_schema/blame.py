"""Why a schema has no value: from its root down to the member or item that cannot be, or that needs itself for ever."""

from __future__ import annotations

from collections.abc import Iterator

from stemma.fsm.errors import SchemaError
from stemma.fsm.languages.json_schema.goals import AnyOf, Goal
from stemma.fsm.languages.json_schema.meaning import Meaning


def impossible(meaning: Meaning, goal: Goal) -> SchemaError:
    """The error for a goal that no value fulfils, at the deepest place that is to blame."""
    pointer, seen = "", {goal}
    while True:
        pointer = _pointer(goal, pointer)
        needed = [inner for inner in _needed(meaning, goal) if not meaning.possible_goal(inner)]
        if not needed:
            return SchemaError("no value fulfils this schema", pointer)
        goal = next((inner for inner in needed if inner not in seen), needed[0])
        if goal in seen:
            message = "no value fulfils this schema: what it requires leads back to it, so a value would never end"
            return SchemaError(message, _pointer(goal, pointer))
        seen.add(goal)


def _pointer(goal: Goal, around: str) -> str:
    """Where a goal stands; that of the schema around it if it says no more than that nothing is allowed."""
    return next((claim.place.pointer for claim in goal if not isinstance(claim, AnyOf)), around)


def _needed(meaning: Meaning, goal: Goal) -> Iterator[Goal]:
    """The goals of the members and items that values of a goal must have."""
    followed = meaning.expansion.followed(goal)
    if followed != goal:
        yield followed
        return
    for alternative in meaning.alternatives(goal):
        if alternative.values is not None:
            continue
        if alternative.objects:
            members = meaning.object_shape(alternative.objects)
            yield from map(members.member_goal, members.required)
        if alternative.arrays:
            items = meaning.array_shape(alternative.arrays)
            yield from (items.item_goal(index) for index in range(min(items.minimum, items.horizon + 1)))
            yield from (fact.goal for fact in items.contains if fact.minimum)
