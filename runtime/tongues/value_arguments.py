"""Arguments one by one between marks: XML functions (Qwen3-Coder, Qwen 3.5, Nemotron 3, Seed, MiniMax M2), `<arg_key>`
pairs (GLM), DeepSeek's DSML. Texts stand as they are (in MiniCPM 5 some in CDATA), other values as JSON or as Python
prints them.

    >\\n<parameter=  city  >\\n      Paris  \\n</parameter>  \\n<parameter=  ...
    head + opener   key   middle  value  closer           opener
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import ANY_TEXT, NOTHING, both, choice, concat, text, without
from stemma.runtime.tongues.functions import (
    JSON_TYPES,
    Function,
    Member,
    Reader,
    Step,
    definitions,
    listed,
    members_of,
    resolved,
    type_of,
)
from stemma.runtime.tongues.marks import TAG, Marks, earliest, held
from stemma.runtime.tongues.nested_values import NestedValues
from stemma.runtime.tongues.python_values import PythonNotation, as_json, python_text
from stemma.runtime.tongues.raw_text import raw_text
from stemma.runtime.tongues.rules import Rules

BOUNDS = frozenset(("pattern", "format", "minLength", "maxLength"))
CONSTANTS = {"boolean": (True, False), "null": (None,)}


class Middle(NamedTuple):
    """What stands between a key and a value of this JSON type, and whether the value is written as Python prints it."""

    type: str
    text: str
    is_python: bool = False


class Wrap(NamedTuple):
    """What stands around a text that has one of these characters, as XML's CDATA does."""

    opens: str
    closes: str
    characters: str

    def around(self, value: str) -> str:
        """The text as it is written."""
        return f"{self.opens}{value}{self.closes}" if set(self.characters) & set(value) else value


@dataclass(frozen=True)
class ValueArguments:
    """The marks around keys and values. empty: what stands in place of all of it where there are no arguments.

    wrap: of texts that do not stand as they are; None if all do.
    """

    head: str
    opener: str
    middles: tuple[Middle, ...]
    closer: str
    empty: str
    wrap: Wrap | None = None

    def middle(self, kind: str) -> Middle:
        """Of a JSON type."""
        return next(middle for middle in self.middles if middle.type == kind)

    @property
    def end_mark(self) -> str:
        """What no text can hold: the closing tag, or all of the closer."""
        found = TAG.search(self.closer)
        return found[0] if found else self.closer

    # Grammar ----------------------------------------------------------------
    def grammar(self, function: Function, marks: Marks) -> ast.Grammar:
        rules = Rules()
        members = members_of(function)
        if function.text is not None:
            return self._of_text(members[0].name, rules.add(function.text.grammar()), rules, marks)
        nodes = [(concat([text(member.name), self._value(member, rules, marks)]), member.is_required)
                 for member in members]  # fmt: skip
        each = listed(rules, "members", nodes, marks.node(self.closer + self.opener))
        some = concat([marks.node(self.head + self.opener), each, marks.node(self.closer)]) if members else NOTHING
        needs_some = any(member.is_required for member in members)
        return rules.grammar(some if needs_some else choice([marks.node(self.empty), some]))

    def _of_text(self, name: str, node: ast.Node, rules: Rules, marks: Marks) -> ast.Grammar:
        """One text, as it stands."""
        before = self.head + self.opener + name + self.middle("string").text
        return rules.grammar(concat([marks.node(before), node, marks.node(self.closer)]))

    def _value(self, member: Member, rules: Rules, marks: Marks) -> ast.Node:
        """A middle, and a value of the types that it is for."""
        found: list[ast.Node] = []
        by_middle: dict[str, list[str]] = {}
        for kind in (kind for kind in JSON_TYPES if kind in member.types):
            middle = self.middle(kind)
            if kind == "string":
                found.append(concat([marks.node(middle.text), self._any_text(member.schema, marks)]))
            elif middle.is_python and kind in CONSTANTS:
                values = choice(text(python_text(value)) for value in CONSTANTS[kind] if _allows(member.schema, value))
                found.append(concat([marks.node(middle.text), values]))
            elif middle.is_python:
                schema = {**resolved(member.schema, member.schema), "type": kind, **definitions(member.schema)}
                found.append(concat([marks.node(middle.text), NestedValues(PythonNotation(), rules).value(schema)]))
            else:
                by_middle.setdefault(middle.text, []).append(kind)
        for middle_text, kinds in by_middle.items():
            schema = member.schema
            if set(kinds) != member.types:
                schema = {"allOf": [schema, {"type": kinds}], **definitions(schema)}
            found.append(
                concat([marks.node(middle_text), rules.add(JSONSchema(schema, white_space="spaced").grammar())])
            )
        return choice(found)

    def _any_text(self, schema: Mapping[str, Any], marks: Marks) -> ast.Node:
        """A text as it stands, or wrapped; of known texts and of free ones, only those are wrapped that have to be."""
        bare = raw_text(schema, self.end_mark)
        if self.wrap is None:
            return bare
        own = resolved(schema, schema)
        values = [own["const"]] if "const" in own else own.get("enum")
        if values is not None:
            kept = [value for value in values if isinstance(value, str) and self.end_mark not in value]
            return choice(marks.node(self.wrap.around(value)) for value in kept)
        inside = raw_text(schema, self.wrap.closes)
        if own.get("type") == "string" and not BOUNDS & own.keys():
            wrapping = concat([ANY_TEXT, choice(map(text, self.wrap.characters)), ANY_TEXT])
            bare, inside = without(bare, wrapping), both(inside, wrapping)
        else:
            bare = without(bare, concat([text(self.wrap.opens), ANY_TEXT]))
        return choice([bare, concat([marks.node(self.wrap.opens), inside, marks.node(self.wrap.closes)])])

    # Text ----------------------------------------------------------------
    def write(self, arguments: Mapping[str, Any]) -> str:
        if not arguments:
            return self.empty
        written = (f"{key}{self.middle(type_of(value)).text}{self._text(value)}" for key, value in arguments.items())
        return self.head + self.opener + (self.closer + self.opener).join(written) + self.closer

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return value if self.wrap is None else self.wrap.around(value)
        is_python = self.middle(type_of(value)).is_python
        return python_text(value) if is_python else json.dumps(value, ensure_ascii=False)

    def literals(self) -> tuple[str, ...]:
        return (
            self.head + self.opener,
            self.closer + self.opener,
            self.empty,
            *(middle.text for middle in self.middles),
        )

    def reader(self, function: Function) -> Reader:
        return ValueReader(self, {member.name: member for member in members_of(function)})


def _allows(schema: Mapping[str, Any], value: Any) -> bool:
    own = resolved(schema, schema)
    listed_values = [own["const"]] if "const" in own else own.get("enum")
    return listed_values is None or any(each is value for each in listed_values)


class ValueReader:
    """Reads keys and values; a text is given out as it comes, any other value when it is whole."""

    def __init__(self, form: ValueArguments, members: Mapping[str, Member]) -> None:
        self._form = form
        self._members = members
        self._state: Callable[[str], Step | None] = self._begin
        self._closer = form.closer
        self._num_values = 0
        self._may_be_text = False
        self._is_end = False
        self.is_done = False

    def read(self, buffer: str, is_end: bool) -> Step:
        self._is_end = is_end
        taken, told = 0, ""
        while not self.is_done and (step := self._state(buffer[taken:])) is not None:
            taken, told = taken + step.taken, told + step.json
        return Step(taken, told)

    def _begin(self, buffer: str) -> Step | None:
        first = self._form.head + self._form.opener
        if buffer.startswith(first):
            self._state = self._key
            return Step(len(first), "{")
        if (first.startswith(buffer) or self._form.empty.startswith(buffer)) and not self._is_end:
            return None
        self.is_done = True
        return Step(len(self._form.empty) if buffer.startswith(self._form.empty) else 0, "{}")

    def _key(self, buffer: str) -> Step | None:
        found = earliest(buffer, {middle.text for middle in self._form.middles})
        if found is None:
            return None
        at, middle_text = found
        key = buffer[:at]
        kinds = {middle.type for middle in self._form.middles if middle.text == middle_text}
        kinds &= self._members[key].types if key in self._members else frozenset(JSON_TYPES)
        is_text = kinds == {"string"}
        self._state = self._text if is_text else self._whole
        self._may_be_text = "string" in kinds
        comma, quote = ", " if self._num_values else "", '"' if is_text else ""
        self._num_values += 1
        return Step(at + len(middle_text), f"{comma}{json.dumps(key, ensure_ascii=False)}: {quote}")

    def _text(self, buffer: str) -> Step | None:
        """Where a text begins."""
        wrap = self._form.wrap
        if wrap is not None and buffer.startswith(wrap.opens):
            self._closer = wrap.closes + self._form.closer
            self._state = self._inside
            return Step(len(wrap.opens), "")
        if wrap is not None and wrap.opens.startswith(buffer) and not self._is_end:
            return None
        self._closer = self._form.closer
        self._state = self._inside
        return Step(0, "")

    def _inside(self, buffer: str) -> Step | None:
        closer = self._closer
        end = buffer.find(closer)
        if end >= 0:
            self._state = self._after
            return Step(end + len(closer), _escaped(buffer[:end]) + '"')
        sure = len(buffer) - held(buffer, (closer,))
        return Step(sure, _escaped(buffer[:sure])) if sure else None

    def _whole(self, buffer: str) -> Step | None:
        end = buffer.find(self._form.closer)
        if end < 0:
            return None
        self._state = self._after
        value, wrap = buffer[:end], self._form.wrap
        if wrap is not None and value.startswith(wrap.opens) and value.endswith(wrap.closes):
            written = json.dumps(value[len(wrap.opens) : -len(wrap.closes)], ensure_ascii=False)
        else:
            written = as_json(value, may_be_text=self._may_be_text)
        return Step(end + len(self._form.closer), written)

    def _after(self, buffer: str) -> Step | None:
        opener = self._form.opener
        if buffer.startswith(opener):
            self._state = self._key
            return Step(len(opener), "")
        if opener.startswith(buffer) and not self._is_end:
            return None
        self.is_done = True
        return Step(0, "}")


def _escaped(piece: str) -> str:
    return json.dumps(piece, ensure_ascii=False)[1:-1]
