"""Keywords that hold schemas as the goals that they ask for, whether a claim is to hold or not."""

from __future__ import annotations

from typing import Any

from stemma.fsm.errors import SchemaError
from stemma.fsm.languages.json_schema import readers
from stemma.fsm.languages.json_schema.expansion import Expansion
from stemma.fsm.languages.json_schema.facts import Contains, Items, Members
from stemma.fsm.languages.json_schema.goals import ANYTHING, Claim, Goal


def unevaluated_goals(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> tuple[Goal | None, Goal | None]:
    goals = [expansion.inside(claim, schema[keyword], keyword) if keyword in schema else None
             for keyword in ("unevaluatedProperties", "unevaluatedItems")]  # fmt: skip
    return goals[0], goals[1]


def referred(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> list[Goal]:
    """The goals of `$ref` and the dynamic references."""
    goals = []
    if "$ref" in schema:
        goals.append(expansion.goal(expansion.document.resolve(claim.place, schema["$ref"]), claim.scope))
    if claim.place.draft >= 2019:
        keyword = "$dynamicRef" if claim.place.draft >= 2020 else "$recursiveRef"
        if keyword in schema:
            target = expansion.document.resolve_dynamically(claim.place, keyword, claim.scope)
            goals.append(expansion.goal(target, claim.scope))
    return goals


def item_goals(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> tuple[Items, bool]:
    """The goals of `prefixItems` and `items`, in the old or the new form, and whether they speak of every item."""
    prefix, rest = schema.get("prefixItems") if claim.place.draft >= 2020 else None, "items"
    where = "prefixItems"
    if prefix is None and isinstance(schema.get("items"), list):
        prefix, rest, where = schema["items"], "additionalItems", "items"
    if prefix is not None and not isinstance(prefix, list):
        raise SchemaError("must be a list of schemas", f"{claim.place.pointer}/{where}")
    goals = tuple(expansion.inside(claim, item, where, str(index)) for index, item in enumerate(prefix or []))
    goal = expansion.inside(claim, schema[rest], rest) if rest in schema else ANYTHING
    return Items(goals, goal), rest in schema


def contained(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Contains:
    goal = expansion.inside(claim, schema["contains"], "contains")
    counted = claim.place.draft >= 2019
    minimum = readers.count(claim.place, schema, "minContains") if counted else None
    maximum = readers.count(claim.place, schema, "maxContains") if counted else None
    return Contains(goal, 1 if minimum is None else minimum, maximum)


def member_goals(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> Members:
    named = readers.mapping(claim.place, schema, "properties")
    matched = readers.mapping(claim.place, schema, "patternProperties")
    for source in matched:
        readers.checked_pattern(source, f"{claim.place.pointer}/patternProperties")
    rest = schema.get("additionalProperties", True)
    return Members(
        tuple((name, expansion.inside(claim, inner, "properties", name)) for name, inner in named.items()),
        tuple(
            (source, expansion.inside(claim, inner, "patternProperties", source)) for source, inner in matched.items()
        ),
        expansion.inside(claim, rest, "additionalProperties"),
    )


def depending(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> list[tuple[str, list[str] | Goal]]:
    """What each name brings with it: other names, or a goal for the whole object."""
    found: list[tuple[str, list[str] | Goal]] = []
    for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
        if keyword != "dependencies" and claim.place.draft < 2019:
            continue
        for name, needed in readers.mapping(claim.place, schema, keyword).items():
            if isinstance(needed, str):
                needed = [needed]
            if isinstance(needed, list):
                found.append((name, readers.strings(needed, f"{claim.place.pointer}/{keyword}")))
            else:
                found.append((name, expansion.inside(claim, needed, keyword, name)))
    return found


def branches(expansion: Expansion, claim: Claim, schema: dict[str, Any], keyword: str) -> list[Goal]:
    inner = schema[keyword]
    if not isinstance(inner, list) or not inner:
        raise SchemaError("must be a non-empty list of schemas", f"{claim.place.pointer}/{keyword}")
    return [expansion.inside(claim, branch, keyword, str(index)) for index, branch in enumerate(inner)]


def condition_goals(expansion: Expansion, claim: Claim, schema: dict[str, Any]) -> tuple[Goal, Goal, Goal]:
    test, then, otherwise = (
        expansion.inside(claim, schema.get(keyword, True), keyword) for keyword in ("if", "then", "else")
    )
    return test, then, otherwise
