"""Schemas that lead back to themselves while they speak of one and the same value: they say nothing, and never end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stemma.fsm.errors import SchemaError
from stemma.fsm.languages.json_schema.document import Document, Place
from stemma.fsm.languages.json_schema.keywords import KEYWORDS

LISTS = ("allOf", "anyOf", "oneOf")
SINGLES = ("not", "if", "then", "else")
MAPS = ("dependentSchemas", "dependencies")
DYNAMIC = ("$dynamicRef", "$recursiveRef")
REFERENCES = frozenset(("$ref", *DYNAMIC))
IN_PLACE = frozenset((*REFERENCES, *LISTS, *SINGLES, *MAPS))


def loops(document: Document, places: Iterable[Place]) -> Iterator[SchemaError]:
    """One error for each loop through sound places, where it closes; depth first, without recursion.

    places: those that hold references: a document is a tree, so that no loop is without one.
    """
    is_done: dict[int, bool] = {}  # by identity: False while its successors are looked at
    for first in places:
        if id(first) in is_done:
            continue
        is_done[id(first)] = False
        path = [(first, _in_place(document, first))]
        while path:
            place, successors = path[-1]
            following = next(successors, None)
            if following is None:
                is_done[id(place)] = True
                path.pop()
            elif isinstance(following.schema, bool) or IN_PLACE.isdisjoint(following.schema):
                continue
            elif id(following) not in is_done:
                is_done[id(following)] = False
                path.append((following, _in_place(document, following)))
            elif not is_done[id(following)]:
                yield SchemaError("a reference that leads back to itself without reading anything", following.pointer)


def _in_place(document: Document, place: Place) -> Iterator[Place]:
    """The schemas that speak of the same value as a place, by its own keywords."""
    schema = place.schema
    assert isinstance(schema, dict), "only an object holds keywords"
    groups = place.groups
    if "reference" in groups and "$ref" in schema:
        yield document.resolve(place, schema["$ref"])
        if place.draft <= 7:
            return
    for keyword in DYNAMIC:
        if keyword in schema and KEYWORDS[keyword][1] <= place.draft <= KEYWORDS[keyword][2]:
            target = document.resolve_wherever(place, keyword)
            yield from () if target is None else (target,)
    for keyword, group in zip(LISTS, ("all_of", "any_of", "one_of"), strict=True):
        if group in groups:
            yield from (document.child(place, inner, keyword, str(at)) for at, inner in enumerate(schema[keyword]))
    for keyword in SINGLES:
        if keyword in schema and ("negation" if keyword == "not" else "condition") in groups:
            yield document.child(place, schema[keyword], keyword)
    if "dependencies" in groups:
        for keyword in MAPS:
            for name, inner in schema.get(keyword, {}).items():
                if isinstance(inner, dict):
                    yield document.child(place, inner, keyword, name)
