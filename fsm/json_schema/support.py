"""Looks at every schema that can be reached before anything is compiled: what is malformed or cannot be enforced, and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stemma.fsm.errors import LimitError, SchemaError, UnsupportedSchema
from stemma.fsm.json_schema import readers
from stemma.fsm.json_schema.document import MAXIMUM_DEPTH, MAXIMUM_PLACES, Document, Place
from stemma.fsm.json_schema.keywords import KEYWORDS, groups
from stemma.fsm.json_schema.options import SchemaOptions

IN_LISTS = {"allOf", "anyOf", "oneOf", "prefixItems", "items"}
IN_MAPS = {"properties", "patternProperties", "dependencies", "dependentSchemas"}
REFERENCES = {"$ref", "$dynamicRef", "$recursiveRef"}
BY_VALUE = {"type", "enum", "const", "required", "pattern", "format", "dependentRequired"}


def reachable(document: Document) -> Iterator[tuple[Place, list[SchemaError]]]:
    """Every place that the root can lead to, and what is wrong with it."""
    seen = {id(document.root)}
    todo = [(document.root, 0)]
    while todo:
        place, depth = todo.pop()
        if depth > MAXIMUM_DEPTH:
            raise LimitError(f"the schema is nested deeper than {MAXIMUM_DEPTH}; use $ref")
        wrong: list[SchemaError] = []
        for target, deeper in _targets(document, place, wrong):
            if id(target) not in seen:
                seen.add(id(target))
                todo.append((target, depth + 1 if deeper else depth))
        if len(seen) > MAXIMUM_PLACES:
            raise LimitError(f"the schema has more than {MAXIMUM_PLACES} subschemas")
        yield place, wrong


def _targets(document: Document, place: Place, wrong: list[SchemaError]) -> Iterator[tuple[Place, bool]]:
    """Where a place leads; a reference to elsewhere is no deeper."""
    schema = place.schema
    if isinstance(schema, bool):
        return
    only_reference = place.draft <= 7 and "$ref" in schema
    for keyword, value in schema.items():
        known = KEYWORDS.get(keyword)
        if keyword in ("then", "else"):
            known = KEYWORDS["if"] if "if" in schema else None
        if known is None or not known[1] <= place.draft <= known[2] or (only_reference and keyword != "$ref"):
            continue
        try:
            if keyword in REFERENCES:
                if keyword != "$ref":
                    document.survey()
                yield document.resolve(place, value), False
            elif keyword in IN_MAPS and isinstance(value, dict):
                for name, inner in value.items():
                    if isinstance(inner, dict | bool):
                        yield document.child(place, inner, keyword, name), True
            elif keyword in IN_LISTS and isinstance(value, list):
                for index, inner in enumerate(value):
                    yield document.child(place, inner, keyword, str(index)), True
            elif isinstance(value, dict) and keyword not in BY_VALUE:
                yield document.child(place, value, keyword), True
        except SchemaError as error:
            wrong.append(error)


def problems(document: Document, options: SchemaOptions) -> Iterator[SchemaError]:
    """Everything that is malformed or cannot be enforced, by JSON pointer."""
    for place, wrong in reachable(document):
        yield from wrong
        schema = place.schema
        if isinstance(schema, dict):
            try:
                _check(place, schema, options)
            except SchemaError as error:
                yield error


def _check(place: Place, schema: dict[str, Any], options: SchemaOptions) -> None:
    used = groups(schema, place.draft)
    if "type" in used:
        readers.kinds(place, schema)
    if "values" in used:
        readers.value_lists(place, schema)
    if "members" in used:
        readers.mapping(place, schema, "properties")
        for source in readers.mapping(place, schema, "patternProperties"):
            readers.checked_pattern(source, f"{place.pointer}/patternProperties")
    if used != ["reference"]:
        readers.plain_facts(place, schema, options)
    for keyword, value in schema.items():
        if keyword in ("allOf", "anyOf", "oneOf") and used != ["reference"] and (not isinstance(value, list) or not value):
            raise SchemaError("must be a non-empty list of schemas", f"{place.pointer}/{keyword}")
    if readers.unique(place, schema) and "unique" in used and not _few_values(place, schema):
        raise UnsupportedSchema(
            "that items differ can only be enforced where they have few possible values (enum, const, boolean); drop it, "
            "or pass on_unsupported='ignore'", f"{place.pointer}/uniqueItems")  # fmt: skip


def _few_values(place: Place, schema: dict[str, Any]) -> bool:
    """Whether `uniqueItems` can be enforced, as far as that can be seen here; the shape of the array decides."""
    maximum = readers.count(place, schema, "maxItems")
    if maximum is not None and maximum <= 1:
        return True
    return "items" in schema or "prefixItems" in schema
