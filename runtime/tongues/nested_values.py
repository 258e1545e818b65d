"""Values of a schema in a notation that is not JSON: Python's literals, or Gemma's own. Objects have what they
declare; what a notation cannot be bound to is refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from stemma.fsm.errors import FormError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import choice, concat, repeat, text
from stemma.runtime.tongues.functions import definitions, listed, resolved, types_of
from stemma.runtime.tongues.rules import Rules

NOT_SAID = frozenset(
    ("allOf", "not", "if", "patternProperties", "uniqueItems", "contains", "prefixItems", "dependentRequired",
     "dependentSchemas", "minProperties", "maxProperties", "propertyNames", "$dynamicRef")
)  # fmt: skip


class Notation(Protocol):
    """How values are written. comma: between members and between items."""

    comma: str

    def key(self, name: str) -> str:
        """What stands before a member's value."""

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Members in the order in which they are written."""

    def string(self, schema: Mapping[str, Any]) -> ast.Node:
        """The texts of a schema."""

    def literal(self, value: Any) -> ast.Node:
        """One value; of the constants, and of what a schema lists."""


class NestedValues:
    """Grammars of values, as parts of `rules`; each schema that is referred to is a rule."""

    def __init__(self, notation: Notation, rules: Rules) -> None:
        self._notation = notation
        self._rules = rules
        self._known: dict[str, ast.RuleRef] = {}
        self._num_lists = 0

    def object(self, schema: Mapping[str, Any]) -> ast.Node:
        """An object with the properties that it declares."""
        own, notation = resolved(schema, schema), self._notation
        properties, required = own.get("properties", {}), own.get("required", ())
        members = [
            (
                concat([text(notation.key(name)), self.value({**_dict(properties[name]), **definitions(schema)})]),
                name in required,
            )
            for name in notation.ordered(properties)
        ]
        self._num_lists += 1
        some = listed(self._rules, (id(self), self._num_lists), members, text(notation.comma))
        return concat([text("{"), some if required else repeat(some, 0, 1), text("}")])

    def value(self, schema: dict[str, Any]) -> ast.Node:
        """Any value of a schema. Raises FormError for a keyword that is not kept to."""
        name = schema.get("$ref")
        if not isinstance(name, str):
            return self._of(schema)
        if name not in self._known:
            self._known[name] = ast.RuleRef(("own", (id(self), name)))
            self._rules.define((id(self), name), self._of({**resolved(schema, schema), **definitions(schema)}))
        return self._known[name]

    def _of(self, schema: dict[str, Any]) -> ast.Node:
        if unsaid := NOT_SAID & schema.keys():
            raise FormError(f"{min(unsaid)!r} of a parameter cannot be said in this model's calls; leave it out")
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return choice(map(self._notation.literal, values))
        parts = schema.get("anyOf", schema.get("oneOf"))
        if parts and "type" not in schema:
            return choice(self.value({**_dict(part), **definitions(schema)}) for part in parts)
        return choice(self._of_type(kind, schema) for kind in sorted(types_of(schema)))

    def _of_type(self, kind: str, schema: dict[str, Any]) -> ast.Node:
        match kind:
            case "string":
                return self._notation.string(schema)
            case "null":
                return self._notation.literal(None)
            case "boolean":
                return choice([self._notation.literal(True), self._notation.literal(False)])
            case "object":
                return self.object(schema)
            case "array":
                return self._array(schema)
        number = {"allOf": [schema, {"type": "number"}], **definitions(schema)}
        return self._rules.add(JSONSchema(number).grammar())

    def _array(self, schema: dict[str, Any]) -> ast.Node:
        item = self.value({**_dict(schema.get("items", {"type": "string"})), **definitions(schema)})
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        another = concat([text(self._notation.comma), item])
        some = concat([item, repeat(another, max(least - 1, 0), None if most is None else max(most - 1, 0))])
        return concat([text("["), some if least else repeat(some, 0, 0 if most == 0 else 1), text("]")])


def _dict(schema: Any) -> dict[str, Any]:
    return schema if isinstance(schema, dict) else {}
