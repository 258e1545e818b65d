"""The last pass over a type's JSON Schema, when all definitions are known: what was noted on the way becomes keywords.

    x-stemma-keys     the keys of a mapping        -> propertyNames, or properties where they are few
    x-stemma-set      items of a set               -> uniqueItems where repetitions would leave too few
    x-stemma-tag      names of a union's tag       -> required in every choice: without it none is chosen
    x-stemma-others   names that are read too      -> forbidden where other members are allowed
    x-stemma-names    an Enum's values as keys     -> left out

Objects are closed unless the type says that other members are allowed.
"""

from __future__ import annotations

from typing import Any

from stemma.fsm.errors import FormError
from stemma.fsm.languages.typed.members import keys
from stemma.fsm.languages.typed.scalars import JSON

VALUES = frozenset(("const", "enum", "default", "examples", "discriminator"))
MAPS = frozenset(("properties", "patternProperties", "$defs"))
NOTES = frozenset(("x-stemma-keys", "x-stemma-set", "x-stemma-tag", "x-stemma-others", "x-stemma-names"))
MOST_ITEMS = 64


def finished(schema: JSON) -> JSON:
    definitions = schema.get("$defs", {})
    _require_tags(schema, definitions)
    found: JSON = _finished(schema, definitions)
    return found


def _finished(schema: Any, definitions: dict[str, JSON]) -> Any:
    if isinstance(schema, list):
        return [_finished(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: value if key in VALUES else _each(value, definitions) if key in MAPS else _finished(value, definitions)
            for key, value in schema.items() if key not in NOTES}  # fmt: skip
    if "x-stemma-keys" in schema:
        return _mapping(made, schema["x-stemma-keys"], definitions)
    if "x-stemma-set" in schema and made.get("minItems", 0) > 1:
        return _set(made, definitions)
    if made.get("type") == "object" and isinstance(made.get("properties"), dict):
        return _object(made, schema.get("x-stemma-others", ()))
    return made


def _each(value: Any, definitions: dict[str, JSON]) -> Any:
    return {name: _finished(inner, definitions) for name, inner in value.items()} if isinstance(value, dict) else value


def _object(schema: JSON, others: list[str]) -> JSON:
    rest = schema.setdefault("additionalProperties", False)
    if rest is not False and others:
        schema["properties"] = {**schema["properties"], **dict.fromkeys(others, False)}
    return schema


# Mappings and sets -----------------------------------------------------------------------------------------------


def _mapping(schema: JSON, key: JSON, definitions: dict[str, JSON]) -> JSON:
    names = keys(key, definitions)
    if names.texts is not None:
        value = schema.pop("additionalProperties", {})
        return {**schema, "properties": dict.fromkeys(names.texts, value), "additionalProperties": False}
    if schema.get("minProperties", 0) > 1:
        raise FormError("a mapping of at least two members may get one key twice; give a list of pairs, or few keys")
    schema.setdefault("additionalProperties", True)
    own = _finished(names.schema, definitions)
    constraints = {keyword: value for keyword, value in own.items() if keyword not in ("title", "default", "examples")}
    return schema if constraints == {"type": "string"} else {**schema, "propertyNames": constraints}


def _set(schema: JSON, definitions: dict[str, JSON]) -> JSON:
    kinds: set[str] = set()
    if not _are_few(schema["items"], definitions, kinds):
        raise FormError("a set of at least two items may get one of them twice; give a list, or items of few values")
    if {"boolean", "number"} <= kinds:
        raise FormError("a set of at least two items that may be true as well as 1, which are equal; give a list")
    return {**schema, "uniqueItems": True}


def _are_few(schema: JSON, definitions: dict[str, JSON], kinds: set[str]) -> bool:
    """Whether a schema has few values, each written in one way; notes of which kinds."""
    if "$ref" in schema:
        return _are_few(definitions[schema["$ref"].rpartition("/")[2]], definitions, kinds)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return all(_are_few(branch, definitions, kinds) for branch in schema[keyword])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        kinds |= {"boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "other"
                  for value in values}  # fmt: skip
        return len(values) <= MOST_ITEMS
    kind = schema.get("type")
    if kind in ("boolean", "null"):
        kinds.add(kind)
        return True
    if kind == "integer":
        kinds.add("number")
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        most = schema.get("maximum", schema.get("exclusiveMaximum"))
        return least is not None and most is not None and most - least < MOST_ITEMS
    return False


# Tags ------------------------------------------------------------------------------------------------------------


def _require_tags(schema: Any, definitions: dict[str, JSON]) -> None:
    """Makes the tag of every choice a required member, wherever it is defined."""
    if isinstance(schema, list):
        for item in schema:
            _require_tags(item, definitions)
    elif isinstance(schema, dict):
        for choice in schema.get("oneOf", ()) if "x-stemma-tag" in schema else ():
            _require(choice, schema["x-stemma-tag"], definitions, frozenset())
        for key, value in schema.items():
            if key not in VALUES:
                _require_tags(value, definitions)


def _require(choice: JSON, names: list[str], definitions: dict[str, JSON], seen: frozenset[str]) -> None:
    reference = choice.get("$ref")
    if reference is not None and reference not in seen:
        _require(definitions[reference.rpartition("/")[2]], names, definitions, seen | {reference})
    for keyword in ("anyOf", "oneOf", "allOf"):
        for branch in choice.get(keyword, ()):
            _require(branch, names, definitions, seen)
    properties = choice.get("properties", {})
    name = next((name for name in names if name in properties), None)
    if name is not None and name not in choice.get("required", ()):
        choice["required"] = [each for each in properties if each == name or each in choice.get("required", ())]
