"""A JSON Schema whose objects have the properties they declare and no others, and whose integers fit a double, where
the schema leaves that open.

By the standard an object may have any further property and an integer any number of digits, and a model that may go on
will. What is generated stays valid: only schemas are changed whose closed form accepts less than they do.
"""

from __future__ import annotations

from typing import Any

from stemma.fsm.errors import LimitError

OPEN_WORLD = frozenset(
    ("allOf", "oneOf", "not", "if", "dependentSchemas", "dependencies", "maxContains", "unevaluatedProperties",
     "unevaluatedItems", "$dynamicRef", "$recursiveRef")
)  # fmt: skip
"""With one of these anywhere, closing an object could make a schema accept what it refused, or nothing at all."""

LEFT_ALONE = frozenset(
    (
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "anyOf",
        "$ref",
        "dependentRequired",
    )
)
NUMBERS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const"))
LARGEST = 2**53 - 1
"""Integers beyond are not the same everywhere (RFC 8259, section 6)."""

MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
LISTS = frozenset(("anyOf", "prefixItems"))
SCHEMAS = frozenset(("items", "additionalProperties", "contains", "additionalItems"))


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `additionalProperties: false` where nothing is said; the schema itself if that is not safe.

    Raises LimitError for a schema that is nested too deeply.
    """
    try:
        narrowed: dict[str, Any] = schema if _mentions(schema, OPEN_WORLD) else _closed(schema)
    except RecursionError:
        raise LimitError("the schema is nested too deeply") from None
    return narrowed


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    made = {key: _inside(key, value) for key, value in schema.items()}
    if schema.get("type") == "integer" and not NUMBERS & schema.keys():
        made |= {"minimum": -LARGEST, "maximum": LARGEST}
    declared, required = schema.get("properties"), schema.get("required", [])
    if not (isinstance(declared, dict) and declared and isinstance(required, list)) or LEFT_ALONE & schema.keys():
        return made
    return {**made, "additionalProperties": False} if all(name in declared for name in required) else made


def _inside(key: str, value: Any) -> Any:
    if key in MAPS and isinstance(value, dict):
        return {name: _closed(part) for name, part in value.items()}
    if key in LISTS and isinstance(value, list):
        return [_closed(part) for part in value]
    if key in SCHEMAS:
        return [_closed(part) for part in value] if isinstance(value, list) else _closed(value)
    return value


def _mentions(value: Any, keys: frozenset[str]) -> bool:
    if isinstance(value, dict):
        return bool(keys & value.keys()) or any(_mentions(part, keys) for part in value.values())
    return isinstance(value, list) and any(_mentions(part, keys) for part in value)
