"""Whole objects against the facts of a shape, for constants and samples, which are not written member by member."""

from __future__ import annotations

from typing import Any

from stemma.fsm.languages.json_schema.member_options import Absent, MemberOption
from stemma.fsm.languages.json_schema.objects import ObjectShape


def fulfils(value: dict[str, Any], shape: ObjectShape) -> bool:
    """Whether an object is one of the shape's."""
    check = shape.context.check
    if len(value) < shape.minimum or (shape.maximum is not None and len(value) > shape.maximum):
        return False
    if any(name not in value for name in shape.required):
        return False
    if not all(check(name, goal) for goal in shape.name_goals for name in value):
        return False
    if not all(check(item, shape.member_goal(name)) for name, item in value.items()):
        return False
    return all(any(_is_the_case(option, value, shape) for option in fact.options) for fact in shape.some)


def _is_the_case(option: MemberOption, value: dict[str, Any], shape: ObjectShape) -> bool:
    if isinstance(option, Absent):
        return option.name not in value
    for name, item in value.items():
        goal = shape.named_option(option, name)
        if goal is not None and shape.context.check(item, goal):
            return True
    return False
