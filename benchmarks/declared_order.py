"""Puts the keys of an instance into the order in which a schema declares them, for engines that insist on it.

Follows references, branches and patterns as far as a reader would; knows nothing of any engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

DEPTH = 60


def arranged(value: Any, schema: Any) -> Any:
    """`value` with the keys of every object in declared order, undeclared ones last."""
    return _arranged(value, [schema], schema, 0)


def _arranged(value: Any, schemas: list[Any], root: Any, depth: int) -> Any:
    if depth > DEPTH or not isinstance(value, list | dict):
        return value
    known = [part for schema in schemas for part in _parts(schema, value, root, 0)]
    if isinstance(value, list):
        return [_arranged(item, list(_item_schemas(known, index)), root, depth + 1) for index, item in enumerate(value)]
    names = dict.fromkeys(name for part in known for name in part.get("properties") or ())
    keys = [name for name in names if name in value] + [name for name in value if name not in names]
    return {key: _arranged(value[key], list(_member_schemas(known, key)), root, depth + 1) for key in keys}


def _parts(schema: Any, value: Any, root: Any, depth: int) -> Iterator[dict[str, Any]]:
    """A schema and all that speak of the same value, but for branches that a constant rules out."""
    if not isinstance(schema, dict) or depth > DEPTH or _is_ruled_out(schema, value):
        return
    yield schema
    if isinstance(schema.get("$ref"), str):
        yield from _parts(_target(schema["$ref"], root), value, root, depth + 1)
    for keyword in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(keyword) or ():
            yield from _parts(part, value, root, depth + 1)
    for keyword in ("if", "then", "else"):
        yield from _parts(schema.get(keyword), value, root, depth + 1)
    for part in (schema.get("dependentSchemas") or {}).values():
        yield from _parts(part, value, root, depth + 1)


def _is_ruled_out(schema: dict[str, Any], value: Any) -> bool:
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return False
    for name, inner in properties.items():
        if name in value and isinstance(inner, dict):
            allowed = inner.get("enum", [inner["const"]] if "const" in inner else None)
            if isinstance(allowed, list) and value[name] not in allowed:
                return True
    return False


def _target(reference: str, root: Any) -> Any:
    here = root
    for part in reference.rpartition("#")[2].split("/"):
        if part:
            key = part.replace("~1", "/").replace("~0", "~")
            here = here.get(key) if isinstance(here, dict) else None
    return here


def _item_schemas(schemas: list[dict[str, Any]], index: int) -> Iterator[Any]:
    for schema in schemas:
        prefix = schema.get("prefixItems") or (schema["items"] if isinstance(schema.get("items"), list) else [])
        if index < len(prefix):
            yield prefix[index]
        else:
            yield schema.get("additionalItems" if isinstance(schema.get("items"), list) else "items")


def _member_schemas(schemas: list[dict[str, Any]], name: str) -> Iterator[Any]:
    for schema in schemas:
        properties = schema.get("properties") or {}
        own = [properties[name]] if name in properties else []
        own += [inner for source, inner in (schema.get("patternProperties") or {}).items() if _found(source, name)]
        yield from own or [schema.get("additionalProperties")]


def _found(source: str, name: str) -> bool:
    try:
        return re.search(source, name) is not None
    except re.error:
        return False
