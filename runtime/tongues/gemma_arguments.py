"""Arguments as Gemma 4 writes them, `{city:<|"|>Paris<|"|>,days:3}`: keys bare and sorted, texts between marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import concat, text
from stemma.runtime.tongues.functions import Function, Reader, Step, members_of, refuse_text
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.nested_values import NestedValues
from stemma.runtime.tongues.raw_text import raw_text
from stemma.runtime.tongues.rules import Rules

QUOTE = '<|"|>'


@dataclass(frozen=True)
class GemmaArguments:
    """null: how nothing is written."""

    null: str = "None"

    def grammar(self, function: Function, marks: Marks) -> ast.Grammar:
        refuse_text(function)
        members_of(function)  # refuses what is said beside the properties
        rules = Rules()
        return rules.grammar(NestedValues(_Notation(self, marks), rules).object(function.schema))

    def write(self, arguments: Mapping[str, Any]) -> str:
        return self.text(arguments)

    def text(self, value: Any) -> str:
        """A value of any type."""
        match value:
            case str():
                return f"{QUOTE}{value}{QUOTE}"
            case dict():
                return "{" + ",".join(f"{key}:{self.text(value[key])}" for key in _sorted(value)) + "}"
            case list():
                return "[" + ",".join(map(self.text, value)) + "]"
            case None:
                return self.null
        return json.dumps(value)

    def literals(self) -> tuple[str, ...]:
        return (QUOTE,)

    def reader(self, function: Function) -> Reader:
        return GemmaReader()


def _sorted(keys: Any) -> list[str]:
    return sorted(keys, key=str.lower)


class _Notation:
    """Gemma's own."""

    comma = ","

    def __init__(self, form: GemmaArguments, marks: Marks) -> None:
        self._form = form
        self._quote = marks.node(QUOTE)

    def key(self, name: str) -> str:
        return f"{name}:"

    def ordered(self, names: Iterable[str]) -> list[str]:
        return _sorted(names)

    def string(self, schema: Mapping[str, Any]) -> ast.Node:
        return concat([self._quote, raw_text(schema, QUOTE), self._quote])

    def literal(self, value: Any) -> ast.Node:
        if isinstance(value, str):
            return concat([self._quote, text(value), self._quote])
        return text(self._form.text(value))


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
