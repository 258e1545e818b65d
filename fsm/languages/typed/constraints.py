"""Constraints that pydantic checks after the fact, by functions of its own: they are no less known than a schema's.

`Annotated[Base64Bytes, MaxLen(8)]`, `Annotated[int | float, Gt(3)]`: the function stands in the core schema with what
it checks; that is put on the JSON schema of what it is about, or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from stemma.fsm.errors import FormError
from stemma.fsm.languages.typed.language import KEYWORD, TYPED_LENGTHS
from stemma.fsm.languages.typed.scalars import JSON, exact

ITS_OWN = "pydantic._internal._validators"
LENGTHS = {"array": ("minItems", "maxItems"), "object": ("minProperties", "maxProperties"),
           "string": ("minLength", "maxLength")}  # fmt: skip
KNOWN = frozenset(("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "max_digits", "decimal_places"))
BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def function_of(core: Mapping[str, Any]) -> Callable[..., Any]:
    """The Python function of a core schema."""
    settings = core["function"]
    found: Callable[..., Any] = settings["function"] if isinstance(settings, dict) else settings
    return found


def checked(core: Mapping[str, Any]) -> dict[str, Any]:
    """What a function of pydantic's own checks, by the name of the constraint; nothing if it is another function."""
    function = function_of(core)
    if isinstance(function, partial) and function.func.__module__ == ITS_OWN:
        settings = {**function.keywords, **(function.args[0] if function.args else {})}
        return {name: value for name, value in settings.items() if name in KNOWN}
    return {}


def constrained(schema: JSON, constraint: str, value: Any) -> JSON:
    """A JSON schema whose values also fulfil a constraint. Raises FormError where that cannot be said."""
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return {**schema, keyword: [constrained(branch, constraint, value) for branch in schema[keyword]]}
    kind = schema.get("type")
    if constraint in ("min_length", "max_length") and kind in LENGTHS:
        return _of_length(schema, kind, constraint == "max_length", value)
    if constraint in BOUNDS and kind in ("integer", "number"):
        keyword = BOUNDS[constraint]
        closer = max if constraint in ("gt", "ge") else min
        return {**schema, keyword: closer(schema.get(keyword, value), value, key=exact)}
    if constraint == "multiple_of" and kind in ("integer", "number") and "multipleOf" not in schema:
        return {**schema, "multipleOf": value}
    raise FormError(f"the constraint {constraint}={value!r} cannot be said of this type")


def _of_length(schema: JSON, kind: str, is_most: bool, value: int) -> JSON:
    name = schema.get(KEYWORD, "")
    if name.partition(";")[0] in TYPED_LENGTHS:
        return {**schema, KEYWORD: f"{name};{'max' if is_most else 'min'}={value}"}
    keyword = LENGTHS[kind][is_most]
    return {**schema, keyword: (min if is_most else max)(schema.get(keyword, value), value)}
