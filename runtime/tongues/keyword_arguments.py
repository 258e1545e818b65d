"""Arguments as Python's keywords, `(city='Paris', days=3)`: LFM2, Llama 4, SmolLM3's Python tools.

What a model wrote is read as literals, never run. A call's arguments are given out when they are whole.
"""

from __future__ import annotations

import ast as python
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import choice, concat, repeat, text
from stemma.runtime.tongues.functions import (
    JSON_TYPES,
    Function,
    Member,
    Reader,
    Step,
    definitions,
    listed,
    members_of,
    refuse_text,
    resolved,
)
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.nested_values import NestedValues
from stemma.runtime.tongues.python_values import PythonNotation, literal
from stemma.runtime.tongues.rules import Rules

CONSTANTS = (("boolean", True), ("boolean", False), ("null", None))


@dataclass(frozen=True)
class KeywordArguments:
    """Keywords in parentheses. is_json: lists and dictionaries are written as JSON."""

    is_json: bool = False

    def grammar(self, function: Function, marks: Marks) -> ast.Grammar:
        refuse_text(function)
        rules = Rules()
        members = [(concat([text(f"{member.name}="), self._value(member, rules)]), member.is_required)
                   for member in members_of(function)]  # fmt: skip
        each = listed(rules, "members", members, text(", "))
        needs_some = any(is_required for _, is_required in members)
        return rules.grammar(concat([text("("), each if needs_some else repeat(each, 0, 1), text(")")]))

    def _value(self, member: Member, rules: Rules) -> ast.Node:
        if not self.is_json:
            return NestedValues(PythonNotation(), rules).value(member.schema)
        own, notation = resolved(member.schema, member.schema), PythonNotation()
        listed_values = [own["const"]] if "const" in own else own.get("enum")
        if listed_values is not None:
            return choice(text(self._text(value)) for value in listed_values)
        found = [notation.string(member.schema)] if "string" in member.types else []
        found += [notation.literal(value) for kind, value in CONSTANTS if kind in member.types]
        kinds = [kind for kind in JSON_TYPES if kind in member.types and kind in ("number", "array", "object")]
        if kinds:
            schema = {"allOf": [member.schema, {"type": kinds}], **definitions(member.schema)}
            found.append(rules.add(JSONSchema(schema, white_space="spaced").grammar()))
        return choice(found)

    def write(self, arguments: Mapping[str, Any]) -> str:
        return "(" + ", ".join(f"{key}={self._text(value)}" for key, value in arguments.items()) + ")"

    def _text(self, value: Any) -> str:
        if self.is_json and isinstance(value, list | dict):
            return json.dumps(value, ensure_ascii=False)
        return repr(value)

    def literals(self) -> tuple[str, ...]:
        return ()

    def reader(self, function: Function) -> Reader:
        return KeywordReader()


class KeywordReader:
    """Waits for the parenthesis that ends the arguments."""

    def __init__(self) -> None:
        self.is_done = False

    def read(self, buffer: str, is_end: bool) -> Step:
        end = _end(buffer)
        if end is None:
            return Step(0, "")
        self.is_done = True
        return Step(end, _as_json(buffer[:end]))


def _end(text: str) -> int | None:
    """Behind the parenthesis that closes the first one."""
    depth, quote, is_escaped = 0, "", False
    for at, char in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif quote:
            is_escaped = char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if not depth:
                return at + 1
    return None


def _as_json(arguments: str) -> str:
    """Keywords as a JSON object; what cannot be read is told as one text, so that nothing is lost."""
    try:
        call = python.parse(f"f{arguments}", mode="eval").body
        if not isinstance(call, python.Call):
            raise ValueError("no call")
        values = {keyword.arg: literal(keyword.value) for keyword in call.keywords if keyword.arg is not None}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return json.dumps({"arguments": arguments}, ensure_ascii=False)
    return json.dumps(values, ensure_ascii=False)
