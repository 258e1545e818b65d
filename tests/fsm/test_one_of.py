"""`oneOf` whose branches overlap: exactly one holds, whatever the number of branches, and no product is made for it."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import jsonschema_rs
import pytest

from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax.recogniser import Recogniser

OPEN: dict[str, Any] = {
    "names alone": lambda name: {"required": [name]},
    "typed members": lambda name: {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]},
    "one member in common": lambda name: {
        "properties": {name: {"type": "integer"}, "q": {"type": "string"}}, "required": [name]
    },
    "optional members": lambda name: {"properties": {name: {"enum": [0, "x"]}}, "minProperties": 1},
}  # fmt: skip


def check(schema: Any, values: list[Any], **options: Any) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema)
    grammar = JSONSchema(schema, property_order="any", **options).grammar()
    recogniser = Recogniser(grammar.rule)
    found = {json.dumps(value, separators=(",", ":")): validator.is_valid(value) for value in values}
    assert {text: recogniser.matches(grammar.start, text) for text in found} == found


@pytest.mark.parametrize("kind", OPEN)
@pytest.mark.parametrize("count", [3, 8, 12])
def test_exactly_one_of_many_open_objects(kind: str, count: int) -> None:
    names = [f"p{index}" for index in range(count)]
    values: list[Any] = [{}, {"z": 1}, {"q": 1}]
    values += [{name: value} for name in names for value in (0, "x")]
    values += [{one: a, other: b} for one, other in combinations(names[:4], 2) for a in (0, "s") for b in (0, "s")]
    values += [{names[1]: 0, "q": "x", "z": 1}, {names[1]: 0, "q": 1}, dict.fromkeys(names, "s") | {names[0]: 0}]
    check({"type": "object", "oneOf": list(map(OPEN[kind], names))}, values)


def test_many_branches_about_one_member_leave_no_choice_out() -> None:
    """Nine branches speak of one member, and each value fulfils other ones of them."""
    branches = [{"required": ["m"], "properties": {"m": {"enum": [i, i + 1, "x"]}}} for i in range(9)]
    check({"type": "object", "oneOf": branches}, [{"m": value} for value in [*range(11), "x", "y"]] + [{}])


def test_choices_between_members_are_conditions_and_no_product() -> None:
    """3^9 alternatives, written out; as conditions on one object nine."""
    branches = [[{"type": "object", "required": [f"{i}{j}"]} for j in range(3)] for i in range(9)]
    full = {f"{i}0": 1 for i in range(9)}
    check({"allOf": [{"anyOf": part} for part in branches]}, [full, full | {"01": 1}, {"00": 1}, full | {"z": 1}, {}])


def test_unevaluated_members_over_many_branches() -> None:
    branches = [{"properties": {"k": {"const": i}, f"p{i}": {"type": "integer"}}, "required": ["k"]} for i in range(12)]
    schema = {"type": "object", "anyOf": branches, "unevaluatedProperties": False}
    check(schema, [{"k": 3}, {"k": 3, "p3": 1}, {"k": 3, "p4": 1}, {"p3": 1}, {"k": 11, "p11": 0}, {"k": 12}])
