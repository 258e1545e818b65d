"""Reads the keywords that hold no schemas (types, bounds, lengths, patterns, formats) and how each can be violated.

Every malformed keyword is a `SchemaError` with its JSON pointer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from stemma.fsm.errors import LimitError, RegexError, SchemaError, UnsupportedSchema
from stemma.fsm.languages.json_schema.alternatives import kind_of, some_member
from stemma.fsm.languages.json_schema.document import Place
from stemma.fsm.languages.json_schema.facts import (
    TYPES,
    Alternative,
    Bound,
    Format,
    Kind,
    Kinds,
    Length,
    Multiple,
    NotNumber,
    NotText,
    NumberFact,
    Pattern,
    Required,
    TextFact,
    Unique,
)
from stemma.fsm.languages.json_schema.formats import FORMATS, SINCE
from stemma.fsm.languages.json_schema.keywords import KEYWORDS
from stemma.fsm.languages.json_schema.member_options import Absent
from stemma.fsm.languages.json_schema.options import SchemaOptions
from stemma.fsm.languages.json_schema.values import MAXIMUM_EXPONENT, exact, has_surrogate
from stemma.fsm.languages.regex.regex import search_language
from stemma.fsm.languages.regex.tree import Dialect
from stemma.fsm.languages.typed.language import typed_language
from stemma.fsm.syntax.ast import Node

OF_NUMBERS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
MAXIMUM_DEPTH_OF_VALUES = 500  # whoever goes through a value calls itself
OF_TEXTS = frozenset(("minLength", "maxLength", "pattern", "format", "x-stemma-format"))


def plain_facts(place: Place, schema: dict[str, Any], options: SchemaOptions) -> Alternative:
    """Everything that the keywords without schemas ask for."""
    apart = (different(place),) if unique(place, schema) else ()
    return Alternative(
        numbers=() if OF_NUMBERS.isdisjoint(schema) else tuple(number_facts(place, schema)),
        texts=() if OF_TEXTS.isdisjoint(schema) else tuple(text_facts(place, schema, options)),
        arrays=(*length_facts(place, schema, "Items"), *apart),
        objects=tuple(object_facts(place, schema)),
    )


def violations(place: Place, schema: dict[str, Any], options: SchemaOptions) -> Iterator[Alternative]:
    """One alternative for each way in which one of these keywords does not hold."""
    for number in number_facts(place, schema):
        yield Alternative(Kind.NUMBER, numbers=(violated_number(number),))
    for fact in text_facts(place, schema, options):
        yield from (Alternative(Kind.STRING, texts=(violated,)) for violated in violated_text(fact, place.draft))
    for length in length_facts(place, schema, "Items"):
        yield from (Alternative(Kind.ARRAY, arrays=(violated,)) for violated in violated_length(length))
    for other in length_facts(place, schema, "Properties"):
        yield from (Alternative(Kind.OBJECT, objects=(violated,)) for violated in violated_length(other))
    for name in required(place, schema):
        yield from some_member((Absent(name),))


def violated_number(fact: NumberFact) -> NumberFact:
    if isinstance(fact, Bound):
        return Bound(fact.value, not fact.is_lower, not fact.is_strict)
    assert isinstance(fact, Multiple), "no keyword says that a number is none"
    return Multiple(fact.of, not fact.positive)


def violated_text(fact: TextFact, draft: int) -> Sequence[TextFact]:
    if isinstance(fact, Pattern):
        return [Pattern(fact.source, False, fact.dialect)]
    if isinstance(fact, Format):
        return [Format(fact.name, False, fact.beside)] if SINCE.get(fact.name, draft) <= draft else []
    return violated_length(fact)


def violated_length(fact: TextFact) -> list[Length]:
    assert isinstance(fact, Length), "patterns and formats are violated by the caller"
    shorter = [Length(0, fact.minimum - 1)] if fact.minimum else []
    return shorter + ([Length(fact.maximum + 1, None)] if fact.maximum is not None else [])


# Numbers ---------------------------------------------------------------------------------------------------------


def number_facts(place: Place, schema: dict[str, Any]) -> list[NumberFact]:
    found: list[NumberFact] = []
    for keyword, exclusive, is_lower in (("minimum", "exclusiveMinimum", True), ("maximum", "exclusiveMaximum", False)):
        flag = schema.get(exclusive)
        if keyword in schema:
            found.append(Bound(_number(place, schema, keyword), is_lower, flag is True))
        if exclusive in schema and not isinstance(flag, bool):
            found.append(Bound(_number(place, schema, exclusive), is_lower, True))
    if "multipleOf" in schema:
        of = _number(place, schema, "multipleOf")
        if of <= 0:
            raise SchemaError("must be greater than 0", f"{place.pointer}/multipleOf")
        found.append(Multiple(of, True))
    return found


def _number(place: Place, schema: dict[str, Any], keyword: str) -> Any:
    value = exact(schema[keyword], f"{place.pointer}/{keyword}")
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 3 * MAXIMUM_EXPONENT:
        raise LimitError(f"{place.pointer}/{keyword}: a number of more than {MAXIMUM_EXPONENT} digits")
    return value


# Strings ---------------------------------------------------------------------------------------------------------


def text_facts(place: Place, schema: dict[str, Any], options: SchemaOptions) -> list[TextFact]:
    found: list[TextFact] = list(length_facts(place, schema, "Length"))
    beside: Pattern | None = None
    if "pattern" in schema:
        dialect = dialect_of(place, schema)
        beside = Pattern(checked_pattern(schema["pattern"], f"{place.pointer}/pattern", dialect), True, dialect)
        found.append(beside)
    if options.formats == "enforced" and "x-stemma-format" in schema:
        found.append(Format(typed_format(place, schema), True))
    elif options.formats == "enforced" and schema.get("format") in FORMATS:
        found.append(Format(schema["format"], True, beside))
    return found


def typed_format(place: Place, schema: dict[str, Any]) -> str:
    """The name of the language that is meant, more exactly than `format` says it."""
    name = schema["x-stemma-format"]
    if not isinstance(name, str):
        raise SchemaError("must be a string", f"{place.pointer}/x-stemma-format")
    try:
        typed_language(name)
    except ValueError as error:
        raise SchemaError(f"{name!r}: {error}", f"{place.pointer}/x-stemma-format") from error
    return name


def dialect_of(place: Place, schema: dict[str, Any]) -> Dialect:
    """How the pattern is read: as ECMA-262, but where `x-stemma-regex` says otherwise."""
    named = schema.get("x-stemma-regex", "ecma")
    if named not in ("ecma", "python", "rust"):
        raise SchemaError('must be "ecma", "python" or "rust"', f"{place.pointer}/x-stemma-regex")
    dialect: Dialect = named
    return dialect


def checked_pattern(source: Any, pointer: str, dialect: Dialect = "ecma") -> str:
    if not isinstance(source, str):
        raise SchemaError("must be a string", pointer)
    try:
        pattern_language(source, dialect)
    except RegexError as error:
        raise UnsupportedSchema(str(error), pointer) from error
    return source


@lru_cache(maxsize=4096)
def pattern_language(source: str, dialect: Dialect = "ecma") -> Node:
    """The texts in which a pattern is found."""
    return search_language(source, dialect)


# Arrays and objects ----------------------------------------------------------------------------------------------


def length_facts(place: Place, schema: dict[str, Any], of: str) -> list[Length]:
    lowest, highest = f"min{of}", f"max{of}"
    if lowest not in schema and highest not in schema:
        return []
    low, high = count(place, schema, lowest), count(place, schema, highest)
    return [] if not low and high is None else [Length(low or 0, high)]


def count(place: Place, schema: dict[str, Any], keyword: str) -> int | None:
    value = schema.get(keyword)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or int(value) != value:
        raise SchemaError("must be a non-negative integer", f"{place.pointer}/{keyword}")
    return int(value)


def unique(place: Place, schema: dict[str, Any]) -> bool:
    return schema.get("uniqueItems") is True


def different(place: Place) -> Unique:
    """What `uniqueItems` says at a place."""
    return Unique(f"{place.pointer}/uniqueItems")


def object_facts(place: Place, schema: dict[str, Any]) -> list[Length | Required]:
    names = required(place, schema)
    return [*length_facts(place, schema, "Properties"), *([Required(tuple(names))] if names else [])]


def required(place: Place, schema: dict[str, Any]) -> list[str]:
    names = schema.get("required", [])
    return [] if isinstance(names, bool) else strings(names, f"{place.pointer}/required")


def strings(values: Any, pointer: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SchemaError("must be a list of strings", pointer)
    if any(map(has_surrogate, values)):
        raise SchemaError("a lone surrogate is no character; write the whole one", pointer)
    return list(dict.fromkeys(values))


def mapping(place: Place, schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    value = schema.get(keyword, {})
    if not isinstance(value, dict):
        raise SchemaError("must be an object", f"{place.pointer}/{keyword}")
    if any(map(has_surrogate, value)):
        raise SchemaError("a lone surrogate is no character; write the whole one", f"{place.pointer}/{keyword}")
    return value


# Types and values ------------------------------------------------------------------------------------------------


def kinds(place: Place, schema: dict[str, Any]) -> Kinds:
    named = schema["type"]
    found = 0
    for name in named if isinstance(named, list) else [named]:
        if not isinstance(name, str) or name not in TYPES:
            raise SchemaError(
                f"unknown type {json.dumps(name)[:80]}, not of {', '.join(TYPES)}", f"{place.pointer}/type"
            )
        found |= TYPES[name]
    return found


def value_lists(place: Place, schema: dict[str, Any]) -> list[list[Any]]:
    """The values of `enum` and of `const`."""
    found: list[list[Any]] = []
    if "enum" in schema:
        if not isinstance(schema["enum"], list):
            raise SchemaError("must be a list", f"{place.pointer}/enum")
        found.append(schema["enum"])
    if "const" in schema and place.draft >= KEYWORDS["const"][1]:
        found.append([schema["const"]])
    for values in found:
        _check_values(values, place.pointer)
    return found


def _check_values(values: Any, pointer: str) -> None:
    inside, depth = [values], 0
    while inside:
        outside, inside, depth = inside, [], depth + 1
        if depth > MAXIMUM_DEPTH_OF_VALUES:
            raise LimitError(f"{pointer or '/'}: a value nested deeper than {MAXIMUM_DEPTH_OF_VALUES}")
        for value in outside:
            if isinstance(value, str) and has_surrogate(value):
                raise SchemaError("a lone surrogate is no character; write the whole one", pointer)
            if isinstance(value, float):
                exact(value, pointer)
            elif isinstance(value, dict):
                inside += [*value, *value.values()]
            elif isinstance(value, list):
                inside += value


def unequal(values: list[Any]) -> tuple[Alternative, list[Any]]:
    """What differs from all of the scalars among some values, and the others among them."""
    left = Kind.ALL
    for value in values:
        kind = kind_of(value)
        left &= ~kind if kind & (Kind.NULL | Kind.FALSE | Kind.TRUE) else Kind.ALL
    numbers = tuple(NotNumber(exact(value, "")) for value in values if kind_of(value) & Kind.NUMBER)
    texts = tuple(NotText(value) for value in values if isinstance(value, str))
    return Alternative(left, numbers, texts), [value for value in values if isinstance(value, (list, dict))]


def equal_to(value: Any) -> dict[str, Any]:
    """A schema without constants at its top that only one array or object fulfils."""
    if isinstance(value, list):
        items = [{"const": item} for item in value]
        return {"type": "array", "prefixItems": items, "minItems": len(value), "maxItems": len(value)}
    members = {name: {"const": item} for name, item in value.items()}
    return {"type": "object", "properties": members, "required": list(value), "additionalProperties": False}
