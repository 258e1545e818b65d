"""Members of objects as pydantic reads them: under which name, along which path, with which names of a mapping's keys.

    first: str = Field(validation_alias=AliasPath("names", 0))        {"names": ["Ada", ...]}

What is generated is what is read: the shape of all paths together; names that would be read instead are kept out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from stemma.fsm.errors import FormError
from stemma.fsm.languages.typed.language import KEYWORD, named
from stemma.fsm.languages.typed.scalars import JSON, USUAL_PLACES, any_of, exact

Path = tuple[str | int, ...]
LONGEST_LIST = 32
MOST_NAMES = 200


class Member(NamedTuple):
    """A field: the paths by which it is read, the first that is there, its schema, and whether it must be there."""

    paths: tuple[Path, ...]
    schema: JSON
    is_required: bool


def paths_of(alias: Any, name: str, by_alias: bool, by_name: bool) -> tuple[Path, ...]:
    """The paths by which a field is read, from its `validation_alias` in a core schema."""
    if alias is None or not by_alias:
        return ((name,),)
    if isinstance(alias, str):
        found: list[Path] = [(alias,)]
    else:
        found = [tuple(path) for path in alias] if isinstance(alias[0], list) else [tuple(alias)]
    return tuple(dict.fromkeys((*found, (name,)) if by_name else found))


@dataclass
class _Node:
    """What is read at one path: a field's value, or below it."""

    schemas: list[JSON] = field(default_factory=list)
    below: dict[str | int, _Node] = field(default_factory=dict)
    is_required: bool = False


def shape(members: Iterable[Member]) -> tuple[dict[str, JSON], list[str], set[str]]:
    """Properties, the names that are required, and further names by which a field could be read."""
    root = _Node()
    others: set[str] = set()
    for member in members:
        chosen = next((path for path in member.paths if len(path) == 1), member.paths[0])
        others |= {str(path[0]) for path in member.paths}
        here = root
        for step in chosen:
            here = here.below.setdefault(step, _Node())
            here.is_required |= member.is_required
        here.schemas.append(member.schema)
    properties = {str(name): _schema(node) for name, node in root.below.items()}
    return properties, [str(name) for name, node in root.below.items() if node.is_required], others - properties.keys()


def _schema(node: _Node) -> JSON:
    """The schema of what stands at a path, read as a value, as an object or as a list."""
    own = list(node.schemas)
    if node.below:
        steps = node.below
        own.append(_list(steps) if all(isinstance(step, int) for step in steps) else _object(steps))
    return own[0] if len(own) == 1 else {"allOf": own}


def _object(steps: dict[str | int, _Node]) -> JSON:
    if any(isinstance(step, int) for step in steps):
        raise FormError("fields are read from one member both by name and by index; no value has both")
    required = [str(name) for name, node in steps.items() if node.is_required]
    return {"type": "object", "properties": {str(name): _schema(node) for name, node in steps.items()},
            "required": required}  # fmt: skip


def _list(steps: dict[str | int, _Node]) -> JSON:
    places = [step for step in steps if isinstance(step, int)]
    if min(places) < 0 or max(places) >= LONGEST_LIST:
        raise FormError(f"a field is read from a list at an index that is not between 0 and {LONGEST_LIST - 1}")
    items = [_schema(steps[index]) if index in steps else {} for index in range(max(places) + 1)]
    needed = max((index + 1 for index in places if steps[index].is_required), default=0)
    return {"type": "array", "prefixItems": items, "minItems": needed, "maxItems": len(items)}


# Names of the members of a mapping -------------------------------------------------------------------------------


class Keys(NamedTuple):
    """The names that stand for keys: a list of them, or a schema of strings."""

    texts: tuple[str, ...] | None
    schema: JSON


def keys(schema: JSON, definitions: dict[str, JSON]) -> Keys:
    """How the keys of a mapping are written as names of members."""
    if "$ref" in schema:
        return keys(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "x-stemma-names" in schema:
        return _listed(schema["x-stemma-names"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return _listed([value for value in values if isinstance(value, str)])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return _any_of([keys(branch, definitions) for branch in schema[keyword] if branch != {"type": "null"}])
    check_hashable(schema)
    kind = schema.get("type")
    if "x-stemma-content" in schema:
        raise FormError("JSON inside a name is not enforced")
    if kind == "string":
        return Keys(None, schema)
    if kind == "boolean":
        return Keys(("true", "false"), {})
    if kind in ("integer", "number"):
        return Keys(None, _number(schema, kind))
    if schema == {}:
        return Keys(None, {"type": "string"})
    raise FormError(f"a key that is {_article(kind)} has no name in JSON")


def check_hashable(schema: JSON) -> None:
    """Of what is only known by its format; the rest is known to `containers.py`."""
    if schema.get("format") == "name-email":
        raise FormError("values of NameEmail cannot be hashed, so that no set and no mapping takes them")


def _article(kind: Any) -> str:
    return f"an {kind}" if kind in ("object", "array") else "neither a text nor a number"


def _listed(texts: list[str]) -> Keys:
    if not texts:
        raise FormError("none of the keys can be written as a name in JSON so that it is read as that key")
    if len(texts) > MOST_NAMES:
        return Keys(None, {"type": "string", "enum": texts})
    return Keys(tuple(texts), {})


def _any_of(ways: list[Keys]) -> Keys:
    if all(way.texts is not None for way in ways):
        return _listed(list(dict.fromkeys(name for way in ways for name in way.texts or ())))
    return Keys(None, any_of([way.schema if way.texts is None else {"enum": list(way.texts)} for way in ways]))


def _number(schema: JSON, kind: str) -> JSON:
    step = exact(schema.get("multipleOf", 1 if kind == "integer" else Fraction(1, 10**USUAL_PLACES)))
    places = len(str(step.denominator)) - 1
    if step != Fraction(1, 10**places):
        raise FormError("keys that are multiples of a number are not enforced; list them")
    limits = {"ge": schema.get("minimum"), "le": schema.get("maximum")}
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if kind == "integer":
        least = [bound for bound in (limits["ge"], None if above is None else above + 1) if bound is not None]
        most = [bound for bound in (limits["le"], None if below is None else below - 1) if bound is not None]
        return {"type": "string", KEYWORD: named("integer", ge=max(least, default=None), le=min(most, default=None))}
    if above is not None:
        limits["ge"] = None
    if below is not None:
        limits["le"] = None
    return {"type": "string", KEYWORD: named("decimal", **limits, gt=above, lt=below, places=places)}
