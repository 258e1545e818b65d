"""Whether a schema surely has a value, told at a glance: most do, and need no expansion to say so.

"No" only means "not at a glance": `meaning` then asks in earnest.
"""

from __future__ import annotations

from typing import Any

from stemma.fsm.languages.json_schema.alternatives import kind_of
from stemma.fsm.languages.json_schema.document import Document, Place
from stemma.fsm.languages.json_schema.facts import TYPES
from stemma.fsm.languages.json_schema.keywords import KEYWORDS

COMBINED = frozenset(
    ("$ref", "$dynamicRef", "$recursiveRef", "enum", "const", "allOf", "anyOf", "oneOf", "not", "if")
)  # what may speak of values of any kind, besides `type`
OF_TEXTS = frozenset(("minLength", "maxLength", "format"))  # each by itself leaves texts
NARROW_TEXTS = frozenset(("pattern", "x-stemma-format", "x-stemma-content"))
MAXIMUM_NESTING = 150  # of looks
FEW_ITEMS = 64  # more may be more than the limits allow
OF_ITEMS = frozenset(("uniqueItems", "prefixItems", "additionalItems", "unevaluatedItems"))
LOWER, UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
OF_REQUIRED = frozenset(
    ("patternProperties", "propertyNames", "maxProperties", "dependencies", "dependentRequired", "dependentSchemas",
     "unevaluatedProperties")
)  # fmt: skip


class Glance:
    """Remembers what it has seen of one document's places."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.known: dict[int, bool] = {}
        self.nesting = 0

    def has_value(self, place: Place) -> bool:
        """Whether some value surely fulfils the schema at a place."""
        found = self.known.get(id(place))
        if found is None:
            self.known[id(place)] = False  # what asks for itself is not told at a glance
            self.nesting += 1
            if self.nesting <= MAXIMUM_NESTING:
                self.known[id(place)] = self._has_value(place)
            self.nesting -= 1
            found = self.known[id(place)]
        return found

    def _has_value(self, place: Place) -> bool:
        schema = place.schema
        if isinstance(schema, bool):
            return schema
        if place.only_type in TYPES:
            return True
        if "$ref" in schema and (place.draft <= 7 or KEYWORDS.keys() & schema.keys() == {"$ref"}):
            return self.has_value(self.document.resolve(place, schema["$ref"]))
        named = schema.get("type")
        if not COMBINED.isdisjoint(schema):
            if place.groups == ["any_of"] and isinstance(schema["anyOf"], list):
                return any(self.has_value(self.document.child(place, branch, "anyOf", str(index)))
                           for index, branch in enumerate(schema["anyOf"]))  # fmt: skip
            return _is_plain_enumeration(schema, named)
        if named is None:
            return True  # null, of which no other keyword speaks
        if isinstance(named, list):
            return any(self._has_value_of(place, schema, name) for name in named)
        return self._has_value_of(place, schema, named)

    def _has_value_of(self, place: Place, schema: dict[str, Any], name: Any) -> bool:
        if name == "string":
            own = OF_TEXTS.intersection(schema)
            is_plain = len(own) < 2 or (len(own) == 2 and "format" not in own and _is_range(schema, "Length"))
            return is_plain and schema.keys().isdisjoint(NARROW_TEXTS)
        if name in ("integer", "number"):
            bounds = sum(any(keyword in schema for keyword in side) for side in (LOWER, UPPER))
            return bounds == 0 or ("multipleOf" not in schema and (bounds == 1 or _is_interval(schema, name)))
        if name == "array":
            return "contains" not in schema and ("minItems" not in schema or self._has_items(place, schema))
        if name == "object":
            return "minProperties" not in schema and self._has_required(place, schema)
        return name in ("null", "boolean")

    def _has_items(self, place: Place, schema: dict[str, Any]) -> bool:
        """Whether there are as many items as are asked for, where all are alike."""
        items = schema.get("items", True)
        if not OF_ITEMS.isdisjoint(schema) or isinstance(items, list) or not _is_range(schema, "Items"):
            return False
        if schema["minItems"] > FEW_ITEMS:
            return False
        return self.has_value(self.document.child(place, items, "items"))

    def _has_required(self, place: Place, schema: dict[str, Any]) -> bool:
        required = schema.get("required", [])
        if not required:
            return True
        if not isinstance(required, list) or not OF_REQUIRED.isdisjoint(schema):
            return False
        properties = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        return all(
            self.has_value(self.document.child(place, properties[name], "properties", name))
            if name in properties
            else rest is True
            for name in required
        )


def _is_range(schema: dict[str, Any], of: str) -> bool:
    """Whether the largest size is no less than the smallest."""
    low, high = schema.get(f"min{of}", 0), schema.get(f"max{of}")
    return low.__class__ is int and (high is None or (high.__class__ is int and low <= high))


def _is_interval(schema: dict[str, Any], name: Any) -> bool:
    """Whether a lower and an upper bound are far enough apart."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low.__class__ not in (int, float) or high.__class__ not in (int, float):
        return False  # one of them is exclusive
    if "exclusiveMinimum" in schema or "exclusiveMaximum" in schema:
        return False
    return bool(low < high if name == "number" else low + 1 < high)


def _is_plain_enumeration(schema: dict[str, Any], named: Any) -> bool:
    """Whether the schema only lists values, and one of them is of a type that it allows."""
    values = schema.get("enum")
    if not isinstance(values, list) or not schema.keys() <= ENUMERATION:
        return False
    if named is None:
        return bool(values)
    kinds = 0
    for name in named if isinstance(named, list) else [named]:
        kinds |= TYPES.get(name, 0)
    return any(kind_of(value) & kinds for value in values)


ENUMERATION = frozenset(("enum", "type", "title", "description", "default", "examples", "$comment"))
