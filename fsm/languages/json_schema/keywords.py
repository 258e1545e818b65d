"""Which keywords each draft knows, and the groups that are read together."""

from __future__ import annotations

from typing import Any

FIRST, LAST = 4, 2020

# keyword -> (group, first draft, last draft); what is not here is an annotation.
KEYWORDS: dict[str, tuple[str, int, int]] = {
    "$ref": ("reference", FIRST, LAST),
    "$dynamicRef": ("dynamic", 2020, LAST),
    "$recursiveRef": ("dynamic", 2019, 2019),
    "type": ("type", FIRST, LAST),
    "enum": ("values", FIRST, LAST),
    "const": ("values", 6, LAST),
    "minimum": ("bounds", FIRST, LAST),
    "maximum": ("bounds", FIRST, LAST),
    "exclusiveMinimum": ("bounds", FIRST, LAST),
    "exclusiveMaximum": ("bounds", FIRST, LAST),
    "multipleOf": ("multiple", FIRST, LAST),
    "minLength": ("text_length", FIRST, LAST),
    "maxLength": ("text_length", FIRST, LAST),
    "pattern": ("pattern", FIRST, LAST),
    "format": ("format", FIRST, LAST),
    "x-stemma-format": ("format", FIRST, LAST),
    "x-stemma-content": ("content", FIRST, LAST),
    "x-stemma-regex": ("pattern", FIRST, LAST),
    "prefixItems": ("items", 2020, LAST),
    "items": ("items", FIRST, LAST),
    "additionalItems": ("items", FIRST, 2019),
    "minItems": ("array_length", FIRST, LAST),
    "maxItems": ("array_length", FIRST, LAST),
    "uniqueItems": ("unique", FIRST, LAST),
    "contains": ("contains", 6, LAST),
    "properties": ("members", FIRST, LAST),
    "patternProperties": ("members", FIRST, LAST),
    "additionalProperties": ("members", FIRST, LAST),
    "required": ("required", FIRST, LAST),
    "minProperties": ("object_length", FIRST, LAST),
    "maxProperties": ("object_length", FIRST, LAST),
    "propertyNames": ("names", 6, LAST),
    "dependencies": ("dependencies", FIRST, LAST),
    "dependentRequired": ("dependencies", 2019, LAST),
    "dependentSchemas": ("dependencies", 2019, LAST),
    "allOf": ("all_of", FIRST, LAST),
    "anyOf": ("any_of", FIRST, LAST),
    "oneOf": ("one_of", FIRST, LAST),
    "not": ("negation", FIRST, LAST),
    "if": ("condition", 7, LAST),
    "unevaluatedProperties": ("unevaluated", 2019, LAST),
    "unevaluatedItems": ("unevaluated", 2019, LAST),
}


def groups(schema: dict[str, Any], draft: int) -> list[str]:
    """The groups of keywords that a schema uses, in the order of their first keywords; its own properties first."""
    if draft <= 7 and "$ref" in schema:
        return ["reference"]
    found: dict[str, None] = {"members": None} if "properties" in schema else {}
    for keyword in schema:
        known = KEYWORDS.get(keyword)
        if known is not None and known[1] <= draft <= known[2]:
            found[known[0]] = None
    return list(found)
