"""Arguments as Gemma 4 writes them, `{city:<|"|>Paris<|"|>,days:3}`: keys bare and sorted, texts between marks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemma.fsm.errors import FormError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import choice, concat, repeat, text
from stemma.runtime.tongues.functions import (
    Function,
    Reader,
    Step,
    definitions,
    listed,
    members_of,
    resolved,
    types_of,
)
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.raw_text import raw_text
from stemma.runtime.tongues.rules import Rules

QUOTE = '<|"|>'
SCALARS = ("number", "boolean", "null")
NOT_SAID = frozenset(
    ("allOf", "not", "if", "patternProperties", "uniqueItems", "contains", "prefixItems", "dependentRequired",
     "dependentSchemas", "minProperties", "maxProperties", "propertyNames", "$dynamicRef")
)  # fmt: skip


@dataclass(frozen=True)
class GemmaArguments:
    """null: how nothing is written."""

    null: str = "None"

    def grammar(self, function: Function, marks: Marks) -> ast.Grammar:
        members_of(function)  # refuses what is said beside the properties
        writer = _Writer(self.null, marks)
        return writer.rules.grammar(writer.object(dict(function.schema)))

    def write(self, arguments: Mapping[str, Any]) -> str:
        return self._text(arguments)

    def _text(self, value: Any) -> str:
        match value:
            case str():
                return f"{QUOTE}{value}{QUOTE}"
            case dict():
                return "{" + ",".join(f"{key}:{self._text(value[key])}" for key in _sorted(value)) + "}"
            case list():
                return "[" + ",".join(map(self._text, value)) + "]"
            case None:
                return self.null
        return json.dumps(value)

    def literals(self) -> tuple[str, ...]:
        return (QUOTE,)

    def reader(self, function: Function) -> Reader:
        return GemmaReader()


def _sorted(keys: Any) -> list[str]:
    return sorted(keys, key=str.lower)


class _Writer:
    """Grammars of values, each schema that is referred to as a rule."""

    def __init__(self, null: str, marks: Marks) -> None:
        self.rules = Rules()
        self._null = null
        self._quote = marks.node(QUOTE)
        self._known: dict[str, ast.RuleRef] = {}
        self._num_lists = 0

    def object(self, schema: Mapping[str, Any]) -> ast.Node:
        """An object with the properties that it declares."""
        own = resolved(schema, schema)
        properties, required = own.get("properties", {}), own.get("required", ())
        members = [
            (
                concat([text(f"{name}:"), self._value({**_dict(properties[name]), **definitions(schema)})]),
                name in required,
            )
            for name in _sorted(properties)
        ]
        self._num_lists += 1
        some = listed(self.rules, self._num_lists, members, text(","))
        return concat([text("{"), some if required else repeat(some, 0, 1), text("}")])

    def _value(self, schema: dict[str, Any]) -> ast.Node:
        name = schema.get("$ref")
        if not isinstance(name, str):
            return self._of(schema)
        if name not in self._known:
            self._known[name] = ast.RuleRef(("own", name))
            self.rules.define(name, self._of({**resolved(schema, schema), **definitions(schema)}))
        return self._known[name]

    def _of(self, schema: dict[str, Any]) -> ast.Node:
        if unsaid := NOT_SAID & schema.keys():
            raise FormError(f"{min(unsaid)!r} of a parameter cannot be said in this model's calls; leave it out")
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return choice(self._literal(value) for value in values)
        parts = schema.get("anyOf", schema.get("oneOf"))
        if parts and "type" not in schema:
            return choice(self._value({**_dict(part), **definitions(schema)}) for part in parts)
        return choice(self._of_type(kind, schema) for kind in sorted(types_of(schema)))

    def _of_type(self, kind: str, schema: dict[str, Any]) -> ast.Node:
        match kind:
            case "string":
                return concat([self._quote, raw_text(schema, QUOTE), self._quote])
            case "null":
                return text(self._null)
            case "object":
                return self.object(schema)
            case "array":
                item = self._value({**_dict(schema.get("items", {"type": "string"})), **definitions(schema)})
                least, most = schema.get("minItems", 0), schema.get("maxItems")
                more = repeat(concat([text(","), item]), max(least - 1, 0), None if most is None else max(most - 1, 0))
                some = concat([item, more])
                return concat([text("["), some if least else repeat(some, 0, 0 if most == 0 else 1), text("]")])
        scalar = {"allOf": [schema, {"type": kind}], **definitions(schema)}
        return self.rules.add(JSONSchema(scalar).grammar())

    def _literal(self, value: Any) -> ast.Node:
        if isinstance(value, str):
            return concat([self._quote, text(value), self._quote])
        return text(GemmaArguments(self._null).write(value))


def _dict(schema: Any) -> dict[str, Any]:
    return schema if isinstance(schema, dict) else {}


class GemmaReader:
    """Waits for the brace that ends the arguments."""

    def __init__(self) -> None:
        self.is_done = False

    def read(self, buffer: str, is_end: bool) -> Step:
        depth, at = 0, 0
        while at < len(buffer):
            if buffer.startswith(QUOTE, at):
                end = buffer.find(QUOTE, at + len(QUOTE))
                if end < 0:
                    break
                at = end + len(QUOTE)
                continue
            depth += (buffer[at] in "{[") - (buffer[at] in "}]")
            at += 1
            if not depth:
                self.is_done = True
                return Step(at, json.dumps(_Parser(buffer[:at]).value(), ensure_ascii=False))
        return Step(0, "")


class _Parser:
    """Reads one value of text that a reader found whole."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self) -> Any:
        if self._text.startswith(QUOTE, self._at):
            end = self._text.index(QUOTE, self._at + len(QUOTE))
            begin, self._at = self._at + len(QUOTE), end + len(QUOTE)
            return self._text[begin:end]
        if self._next("{"):
            members: dict[str, Any] = {}
            while not self._next("}"):
                self._next(",")
                key = self._until(":")
                self._at += 1
                members[key] = self.value()
            return members
        if self._next("["):
            items: list[Any] = []
            while not self._next("]"):
                self._next(",")
                items.append(self.value())
            return items
        return _scalar(self._until(",", "}", "]"))

    def _next(self, mark: str) -> bool:
        is_next = self._text.startswith(mark, self._at)
        self._at += len(mark) * is_next
        return is_next

    def _until(self, *marks: str) -> str:
        ends = [end for mark in marks if (end := self._text.find(mark, self._at)) >= 0]
        begin, self._at = self._at, min(ends, default=len(self._text))
        return self._text[begin : self._at]


def _scalar(text: str) -> Any:
    try:
        return json.loads({"None": "null", "True": "true", "False": "false"}.get(text, text))
    except ValueError:
        return text
