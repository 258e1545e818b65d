"""Sets, tuples and tagged unions: what their core schemas know of how many, how different and which.

Some of it can only be told when all definitions are known: it is noted under keywords of our own, for `finish.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stemma.fsm.errors import FormError
from stemma.fsm.languages.typed.members import check_hashable as check_format
from stemma.fsm.languages.typed.scalars import JSON

Core = Mapping[str, Any]
UNHASHABLE = frozenset(("list", "dict", "set", "typed-dict", "deque", "counter", "ordered-dict"))
PASSED = frozenset(
    ("nullable", "default", "function-after", "function-wrap", "function-before", "frozenset", "json-or-python",
     "lax-or-strict", "json")
)  # fmt: skip
MOST_IN_THE_MIDDLE = 8


def distinct(schema: JSON, core: Core, definitions: Core) -> JSON:
    """A set's items, which may be said twice: the repetition is dropped. Whether that leaves enough: `finish.py`."""
    check_hashable(core.get("items_schema"), definitions)
    check_format(schema["items"])
    found = {keyword: value for keyword, value in schema.items() if keyword != "uniqueItems"}
    if found["items"] == {}:
        found["items"] = {"type": ["string", "number", "boolean", "null"]}
    return {**found, "x-stemma-set": True}


def check_hashable(core: Core | None, definitions: Core) -> None:
    """Raises FormError for a type whose values no set and no mapping can hold."""
    for part in _parts(core, definitions, set()):
        if part["type"] == "any" and part is not core:
            raise FormError("values of any type cannot all be hashed, so that no set and no mapping takes them")
        cls = part.get("cls") if part["type"] in ("model", "dataclass") else None
        if part["type"] in UNHASHABLE or (cls is not None and cls.__hash__ is None):
            name = part["type"] if cls is None else cls.__name__
            raise FormError(f"values of {name} cannot be hashed, so that no set and no mapping takes them")


def _parts(core: Core | None, definitions: Core, seen: set[str]) -> Iterator[Core]:
    """A core schema and what its values are or consist of."""
    if core is None:
        return
    if core["type"] == "definition-ref":
        name = core["schema_ref"]
        if name not in seen:
            yield from _parts(definitions.get(name), definitions, seen | {name})
        return
    yield core
    if core["type"] in ("union", "tagged-union"):
        choices = core["choices"].values() if isinstance(core["choices"], dict) else core["choices"]
        for choice in choices:
            yield from _parts(choice[0] if isinstance(choice, tuple) else choice, definitions, seen)
    elif core["type"] == "tuple":
        for item in core["items_schema"]:
            yield from _parts(item, definitions, seen)
    elif core["type"] == "json" and "schema" not in core:
        yield {"type": "any"}
    elif core["type"] in PASSED:
        for key in ("schema", "json_schema", "lax_schema", "items_schema"):
            yield from _parts(core.get(key), definitions, seen)


def with_middle(items: list[JSON], index: int, core: Core) -> JSON:
    """A tuple with any number of items in the middle, up to a few."""
    before, middle, behind = items[:index], items[index], items[index + 1 :]
    least, most = core.get("min_length") or 0, core.get("max_length")
    ways = []
    for count in range(MOST_IN_THE_MIDDLE + 1):
        parts = [*before, *[middle] * count, *behind]
        if least <= len(parts) and (most is None or len(parts) <= most):
            ways.append({"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)})
    if not ways:
        raise FormError(f"a tuple of at least {least} items with more than {MOST_IN_THE_MIDDLE} in the middle")
    return {"anyOf": ways}


def names_of_tag(discriminator: Any) -> list[str] | None:
    """The names under which a union's tag is read; None where a Python function finds it."""
    if callable(discriminator):
        return None
    if isinstance(discriminator, str):
        return [discriminator]
    paths = discriminator if isinstance(discriminator[0], list) else [discriminator]
    return [path[0] for path in paths if len(path) == 1 and isinstance(path[0], str)]
