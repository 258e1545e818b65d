"""Looks at every schema that can be reached before anything is compiled: what is malformed or cannot be enforced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stemma.fsm.errors import LimitError, SchemaError
from stemma.fsm.json_schema import readers
from stemma.fsm.json_schema.document import MAXIMUM_DEPTH, MAXIMUM_PLACES, Document, Place
from stemma.fsm.json_schema.keywords import KEYWORDS, groups
from stemma.fsm.json_schema.meaning import Meaning

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


def problems(meaning: Meaning) -> Iterator[SchemaError]:
    """Everything that is malformed or cannot be enforced, by JSON pointer."""
    for place, wrong in reachable(meaning.expansion.document):
        yield from wrong
        schema = place.schema
        if isinstance(schema, dict):
            try:
                _check(place, schema, meaning)
            except SchemaError as error:
                yield error


def _check(place: Place, schema: dict[str, Any], meaning: Meaning) -> None:
    used = groups(schema, place.draft)
    if used == ["reference"]:
        return
    if "type" in used:
        readers.kinds(place, schema)
    if "values" in used:
        readers.value_lists(place, schema)
    if "members" in used:
        readers.mapping(place, schema, "properties")
        for source in readers.mapping(place, schema, "patternProperties"):
            readers.checked_pattern(source, f"{place.pointer}/patternProperties")
    readers.plain_facts(place, schema, meaning.options)
    for keyword in ("allOf", "anyOf", "oneOf"):
        if keyword in schema and (not isinstance(schema[keyword], list) or not schema[keyword]):
            raise SchemaError("must be a non-empty list of schemas", f"{place.pointer}/{keyword}")
    if "unique" in used and readers.unique(place, schema):
        for alternative in meaning.alternatives(meaning.expansion.goal(place, ())):
            if alternative.arrays:
                meaning.array_shape(alternative.arrays)  # raises where items have too many values
