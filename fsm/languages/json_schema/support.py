"""Looks at every schema that can be reached before anything is compiled: what is malformed or cannot be enforced.

One light pass, for it is part of every time to first mask: a keyword costs one look-up, and only those that can be
wrong are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from stemma.fsm.errors import LimitError, SchemaError
from stemma.fsm.languages.json_schema import readers
from stemma.fsm.languages.json_schema.document import MAXIMUM_DEPTH, MAXIMUM_PLACES, Document, Place
from stemma.fsm.languages.json_schema.facts import TYPES
from stemma.fsm.languages.json_schema.keywords import KEYWORDS
from stemma.fsm.languages.json_schema.loops import REFERENCES, loops
from stemma.fsm.languages.json_schema.meaning import Meaning
from stemma.fsm.work import count_work

PLACE_WORK = 3
Schema = dict[str, Any]
Step = tuple[Place, bool]  # a place, and whether it lies deeper in the document
Check = Callable[[Document, Place, str, Any, list[Step]], None]


def reachable(document: Document) -> Iterator[tuple[Place, list[SchemaError]]]:
    """Every place that the root can lead to, and what is wrong with it."""
    seen = {id(document.root)}
    todo = [(document.root, 0)]
    while todo:
        count_work(PLACE_WORK)
        place, depth = todo.pop()
        if depth > MAXIMUM_DEPTH:
            raise LimitError(f"the schema is nested deeper than {MAXIMUM_DEPTH}; use $ref")
        steps, wrong = _checked(document, place)
        for target, deeper in steps:
            if id(target) not in seen:
                seen.add(id(target))
                todo.append((target, depth + 1 if deeper else 0))
        if len(seen) > MAXIMUM_PLACES:
            raise LimitError(f"the schema has more than {MAXIMUM_PLACES} subschemas")
        yield place, wrong


def problems(meaning: Meaning) -> Iterator[SchemaError]:
    """Everything that is malformed or cannot be enforced, by JSON pointer."""
    different: list[Place] = []
    referring: list[Place] = []
    is_sound = True
    document = meaning.expansion.document
    for place, wrong in reachable(document):
        yield from wrong
        is_sound = is_sound and not wrong
        if isinstance(place.schema, dict) and not wrong:
            if not REFERENCES.isdisjoint(place.schema):
                referring.append(place)
            if place.schema.get("uniqueItems") is True:
                different.append(place)
    if is_sound:
        yield from loops(document, referring)
    for place in different:
        error = _too_many_values(meaning, place)  # by a function: see tests/fsm/test_compiled.py on generators
        if error is not None:
            yield error


def _too_many_values(meaning: Meaning, place: Place) -> SchemaError | None:
    """Why that items differ cannot be enforced here, if it cannot."""
    try:
        for alternative in meaning.alternatives(meaning.expansion.goal(place, ())):
            if alternative.arrays:
                meaning.array_shape(alternative.arrays)  # raises where items have too many values
    except SchemaError as error:
        return error
    return None


def _checked(document: Document, place: Place) -> tuple[list[Step], list[SchemaError]]:
    """Where the keywords of a place lead (a reference to elsewhere is no deeper), and what is wrong with them."""
    schema, draft = place.schema, place.draft
    steps: list[Step] = []
    wrong: list[SchemaError] = []
    if isinstance(schema, bool):
        return steps, wrong
    only_reference = draft <= 7 and "$ref" in schema
    for keyword, value in schema.items():
        known = CHECKS.get(keyword)
        if known is None or (only_reference and keyword != "$ref"):
            continue
        if keyword == "type" and value.__class__ is str and value in TYPES:
            continue
        check, first, last = known
        if first <= draft <= last:
            try:
                check(document, place, keyword, value, steps)
            except SchemaError as error:
                wrong.append(error)
    return steps, wrong


def _reference(document: Document, place: Place, keyword: str, value: Any, steps: list[Step]) -> None:
    if keyword != "$ref":
        document.survey()
    steps.append((document.resolve(place, value), False))


def _one(document: Document, place: Place, keyword: str, value: Any, steps: list[Step]) -> None:
    if isinstance(value, list) and keyword == "items":
        _many(document, place, keyword, value, steps)
    elif not isinstance(value, bool):
        steps.append((document.child(place, value, keyword), True))


def _many(document: Document, place: Place, keyword: str, value: Any, steps: list[Step]) -> None:
    if not isinstance(value, list) or not value:
        raise SchemaError("must be a non-empty list of schemas", f"{place.pointer}/{keyword}")
    for index, inner in enumerate(value):
        steps.append((document.child(place, inner, keyword, str(index)), True))


def _named(document: Document, place: Place, keyword: str, value: Any, steps: list[Step]) -> None:
    assert isinstance(place.schema, dict), "only objects hold keywords"
    readers.mapping(place, place.schema, keyword)
    for name, inner in value.items():
        if keyword == "patternProperties":
            readers.checked_pattern(name, f"{place.pointer}/{keyword}")
        if keyword == "dependencies" and isinstance(inner, (str, list)):
            continue
        steps.append((document.child(place, inner, keyword, name), True))


def _read(reader: Callable[[Place, Schema], object]) -> Check:
    """A check that leads nowhere."""

    def check(document: Document, place: Place, keyword: str, value: Any, steps: list[Step]) -> None:
        assert isinstance(place.schema, dict), "only objects hold keywords"
        reader(place, place.schema)

    return check


def _counts(place: Place, schema: Schema) -> None:
    for keyword in COUNTS.intersection(schema):
        readers.count(place, schema, keyword)


def _pattern(place: Place, schema: Schema) -> None:
    readers.checked_pattern(schema["pattern"], f"{place.pointer}/pattern", readers.dialect_of(place, schema))


COUNTS = {
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
}
_CHECKS: dict[str, Check] = {
    **dict.fromkeys(("$ref", "$dynamicRef", "$recursiveRef"), _reference),
    **dict.fromkeys(
        (
            "items",
            "additionalItems",
            "contains",
            "additionalProperties",
            "propertyNames",
            "x-stemma-content",
            "not",
            "if",
        ),
        _one,
    ),
    **dict.fromkeys(("then", "else", "unevaluatedProperties", "unevaluatedItems"), _one),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _many),
    **dict.fromkeys(("properties", "patternProperties", "dependencies", "dependentSchemas"), _named),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _read(readers.number_facts)
    ),
    **dict.fromkeys(COUNTS & KEYWORDS.keys(), _read(_counts)),
    **dict.fromkeys(("enum", "const"), _read(readers.value_lists)),
    "type": _read(readers.kinds),
    "pattern": _read(_pattern),
    "x-stemma-format": _read(readers.typed_format),
    "required": _read(readers.required),
}
CHECKS = {  # with the first and the last draft
    keyword: (check, *KEYWORDS["if" if keyword in ("then", "else") else keyword][1:])
    for keyword, check in _CHECKS.items()
}
