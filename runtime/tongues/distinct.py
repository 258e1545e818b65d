"""Functions of which few calls are possible, call by call: the same call twice in one answer is of no use, and a small
model that may repeat one does so up to the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.tongues.functions import Function

MAX_TOLD_APART = 6
"""Calls of all functions together; a grammar has a rule for each set of those that were made."""

REMARKS = frozenset(("title", "description", "default", "examples", "$schema"))
OF_OBJECTS = REMARKS | {"type", "properties", "required", "additionalProperties"}
OF_VALUES = REMARKS | {"type", "enum", "const"}


class Callable(NamedTuple):
    """A function, or one of the calls of one. is_single: it is one call, which may be made once."""

    function: Function
    is_single: bool


def told_apart(functions: Sequence[Function]) -> list[Callable]:
    """The functions, with the calls of those that have few in their places."""
    found: list[Callable] = []
    num_single = 0
    for function in functions:
        calls = _calls(function)
        if calls is None or num_single + len(calls) > MAX_TOLD_APART:
            found.append(Callable(function, False))
            continue
        num_single += len(calls)
        found += [Callable(Function(function.name, _only(call)), True) for call in calls]
    return found


def _only(arguments: Mapping[str, Any]) -> JSONSchema:
    properties = {name: {"const": value} for name, value in arguments.items()}
    return JSONSchema(
        {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    )


def _calls(function: Function) -> list[dict[str, Any]] | None:
    """The arguments of every call that a function may have; None for too many, or where its schema says more."""
    schema = function.schema
    properties = schema.get("properties", {})
    if not schema.keys() <= OF_OBJECTS or schema.get("additionalProperties") is not False:
        return None
    if not isinstance(properties, dict) or not set(schema.get("required", ())) <= properties.keys():
        return None
    choices: list[list[tuple[str, Any] | None]] = []
    num_calls = 1
    for name, part in properties.items():
        values = _values(part)
        if values is None:
            return None
        absent = [] if name in schema.get("required", ()) else [None]
        choices.append([*absent, *((name, value) for value in values)])
        num_calls *= len(choices[-1])
        if num_calls > MAX_TOLD_APART:
            return None
    return [dict(filter(None, call)) for call in product(*choices)]


def _values(schema: Any) -> list[Any] | None:
    """The values of an argument, as far as they are listed or but two."""
    if not isinstance(schema, dict) or not schema.keys() <= OF_VALUES:
        return None
    if "const" not in schema and "enum" not in schema:
        listed: dict[Any, list[Any]] = {"boolean": [False, True], "null": [None]}
        return listed.get(schema.get("type")) if isinstance(schema.get("type"), str) else None
    values = [schema["const"]] if "const" in schema else list(schema["enum"])
    is_plain = all(isinstance(value, str) for value in values) and schema.get("type", "string") == "string"
    return values if is_plain and len(set(values)) == len(values) and not {"const", "enum"} <= schema.keys() else None
