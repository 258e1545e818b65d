"""Functions that may be called, and what their schemas say of single arguments."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from stemma.fsm.errors import FormError, LimitError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.lint import lint
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import EMPTY, NOTHING, choice, concat
from stemma.runtime.tongues.closed_schema import closed
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.rules import Rules

BESIDE_PROPERTIES = frozenset(
    ("allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "dependentRequired", "dependentSchemas",
     "minProperties", "maxProperties", "propertyNames", "dependencies")
)  # fmt: skip
DEFINITIONS = ("$defs", "definitions")
JSON_TYPES = ("string", "number", "boolean", "null", "array", "object")


@dataclass(frozen=True)
class Function:
    """A function with the schema of its arguments. text: what binds the text that is its only argument."""

    name: str
    arguments: JSONSchema
    text: ast.GrammarSpec | None = None

    @property
    def schema(self) -> Mapping[str, Any]:
        """The schema as a dictionary."""
        assert isinstance(self.arguments.schema, dict)
        return self.arguments.schema


def function_of(name: str, parameters: Mapping[str, Any]) -> Function:
    """A function whose arguments have this schema; what that leaves open is closed. Raises FormError."""
    kind = parameters.get("type", "object")
    if kind != "object":
        raise FormError(f"the parameters of {name} must be an object, not {kind!r:.40}")
    schema = {"type": "object", "properties": {}, **parameters}
    if not schema["properties"] and set(schema) == {"type", "properties"}:
        schema["additionalProperties"] = False
    return Function(name, JSONSchema(closed(schema)))


@lru_cache(maxsize=512)
def enforceable(function: Function) -> str | None:
    """What of a function's schema cannot be enforced, told; None if all of it can."""
    try:
        report = lint(function.arguments)
    except (FormError, LimitError) as error:
        return str(error)
    refused = (found for found in report.findings if found.status in ("refused", "malformed"))
    return next((f"{found.keyword} at {found.pointer or '/'}: {found.note}" for found in refused), None)


def widened(function: Function) -> Function:
    """The function whose arguments have the names that its schema lists, and any values."""
    schema = function.schema
    listed = schema.get("properties")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, dict) else []
    required = [name for name in names if name in (schema.get("required") or ())]
    wide: dict[str, Any] = {"type": "object", "properties": {name: {} for name in names}, "required": required}
    return Function(function.name, JSONSchema(wide | {"additionalProperties": not names}))


class Member(NamedTuple):
    """An argument: its name, its schema (with the definitions that it may refer to), whether it must be there."""

    name: str
    schema: dict[str, Any]
    is_required: bool

    @property
    def types(self) -> frozenset[str]:
        """The JSON types that it may have."""
        return types_of(self.schema)


class Step(NamedTuple):
    """What a reader took: so many characters, and the JSON text that they are."""

    taken: int
    json: str


class Reader(Protocol):
    """Turns a call's arguments, as they come, into the text of a JSON object."""

    @property
    def is_done(self) -> bool:
        """Whether the arguments are whole."""

    def read(self, buffer: str, is_end: bool) -> Step:
        """Take what is certain from the beginning of `buffer`, whose rest comes again; is_end: nothing follows it."""


class Arguments(Protocol):
    """A language in which arguments are written. Hashable: it is a part of grammars that are kept."""

    def grammar(self, function: Function, marks: Marks) -> ast.Grammar:
        """Of all arguments of a function. Raises FormError for a schema that it cannot say."""

    def write(self, arguments: Mapping[str, Any]) -> str:
        """As the template writes them."""

    def literals(self) -> tuple[str, ...]:
        """What the template writes in them."""

    def reader(self, function: Function) -> Reader:
        """For one call."""


def members_of(function: Function) -> list[Member]:
    """The arguments one by one. Raises FormError for a schema that says more than what each of them is."""
    root = dict(function.schema)
    if "$ref" in root:
        root = {**resolved(root, root), **definitions(root)}
    beside = BESIDE_PROPERTIES & root.keys()
    if beside:
        raise FormError(
            f"the parameters of {function.name} have {min(beside)!r} beside their properties; this model's calls name "
            "arguments one by one, so say it of the properties"
        )
    properties, required = root.get("properties", {}), root.get("required", [])
    if not isinstance(properties, dict) or not set(required) <= set(properties):
        raise FormError(f"the parameters of {function.name} require what is not among their properties")
    return [
        Member(name, {**part, **definitions(root)} if isinstance(part, dict) else {}, name in required)
        for name, part in properties.items()
    ]


def refuse_text(function: Function) -> None:
    """Raises FormError for a text that is bound by a grammar, where calls are written in a way that cannot hold one."""
    if function.text is not None:
        raise FormError(f"this model writes no calls that could hold a text of a grammar: give {function.name} none")


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """A schema behind its references within the document; an empty one, which says nothing, where that is not told."""
    found: Any = schema
    for _ in range(16):
        if not (isinstance(found, Mapping) and isinstance(found.get("$ref"), str)):
            break
        at: Any = root
        for step in found["$ref"].removeprefix("#").split("/")[1:]:
            at = at.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(at, Mapping) else None
        found = at
    return dict(found) if isinstance(found, Mapping) and "$ref" not in found else {}


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The JSON types that values of a schema may have, integers among the numbers."""
    return frozenset(_types(resolved(schema, schema), schema))


def _types(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[str]:
    if "const" in schema or "enum" in schema:
        for value in [schema["const"]] if "const" in schema else schema["enum"]:
            yield type_of(value)
    elif "type" in schema:
        for name in schema["type"] if isinstance(schema["type"], list) else [schema["type"]]:
            yield "number" if name == "integer" else name
    elif "anyOf" in schema or "oneOf" in schema:
        for part in schema.get("anyOf", schema.get("oneOf", ())):
            if isinstance(part, Mapping):
                yield from types_of({**part, **definitions(root)})
    else:
        yield from JSON_TYPES


def type_of(value: Any) -> str:
    """The JSON type of a value."""
    match value:
        case str():
            return "string"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case None:
            return "null"
        case list() | tuple():
            return "array"
    return "object"


def definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a part of a schema may refer to."""
    return {name: schema[name] for name in DEFINITIONS if name in schema}


def listed(rules: Rules, owner: Hashable, members: list[tuple[ast.Node, bool]], between: ast.Node) -> ast.Node:
    """Some of these members (node, whether it must be there), at least one, in their order, `between` two of them."""
    known: dict[tuple[int, bool], ast.Node] = {(len(members), True): EMPTY, (len(members), False): NOTHING}
    for at in range(len(members) - 1, -1, -1):
        node, is_required = members[at]
        for started in (True, False):
            this = concat([between if started else EMPTY, node, known[at + 1, True]])
            whole = this if is_required else choice([this, known[at + 1, started]])
            known[at, started] = rules.define((owner, at, started), whole)
    return known[0, False]
