"""Calls of functions as a grammar: the text that `tool_text` tells models to write, with arguments of their schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

from stemma.fsm.errors import LimitError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import ANY_TEXT, choice, concat, repeat, text, without
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.server.prompts.tool_text import CALL_BEGIN, CALL_END

Otherwise = Literal["nothing", "text"]


@dataclass(frozen=True)
class Function:
    """A function with the schema of its arguments."""

    name: str
    arguments: JSONSchema


@dataclass(frozen=True)
class ToolCallsGrammar:
    """Up to `max_calls` calls; or instead of them `otherwise`: a form, free text (which calls may follow), or nothing.

    calls:      <tool_call> {"name": "f", "arguments": ...} </tool_call>  (a line break)  <tool_call> ...
    free text:  anything in which no call begins
    """

    functions: tuple[Function, ...]
    max_calls: int
    otherwise: GrammarSpec | Otherwise = "nothing"

    def grammar(self) -> ast.Grammar:
        """Raises FormError."""
        parts = [function.arguments.grammar() for function in self.functions]
        call = choice(
            concat(
                [
                    text(f'{CALL_BEGIN}\n{{"name": {json.dumps(function.name)}, "arguments": '),
                    renamed(part.start, at),
                    text(f"}}\n{CALL_END}"),
                ]
            )
            for at, (function, part) in enumerate(zip(self.functions, parts, strict=True))
        )
        calls = concat([call, repeat(concat([text("\n"), call]), 0, self.max_calls - 1)])
        if self.otherwise == "nothing":
            return ast.Grammar(calls, _rules_of(parts))
        if self.otherwise == "text":
            begins_one = concat([ANY_TEXT, text(CALL_BEGIN), ANY_TEXT])
            return ast.Grammar(concat([without(ANY_TEXT, begins_one), repeat(calls, 0, 1)]), _rules_of(parts))
        assert not isinstance(self.otherwise, str)
        parts.append(self.otherwise.grammar())
        return ast.Grammar(choice([calls, renamed(parts[-1].start, len(parts) - 1)]), _rules_of(parts))


def _rules_of(parts: list[ast.Grammar]) -> Callable[[Hashable], ast.Node]:
    """The rules of all parts: a rule's name is the number of its part and its name there."""

    def rule(name: Hashable) -> ast.Node:
        assert isinstance(name, tuple)
        at, inner = name
        try:
            return renamed(parts[at].rule(inner), at)
        except RecursionError:
            raise LimitError("a tool's schema is nested too deeply") from None

    return rule


def renamed(node: ast.Node, part: int) -> ast.Node:
    """The node with its calls turned into calls of that part's rules."""
    match node:
        case ast.RuleRef(rule):
            return ast.RuleRef((part, rule))
        case ast.Concatenation(parts):
            return ast.Concatenation(tuple(renamed(inner, part) for inner in parts))
        case ast.Choice(parts):
            return ast.Choice(tuple(renamed(inner, part) for inner in parts))
        case ast.Repeat(inner, minimum, maximum):
            return ast.Repeat(renamed(inner, part), minimum, maximum)
        case ast.Difference(left, right):
            return ast.Difference(renamed(left, part), renamed(right, part))
        case ast.Intersection(left, right):
            return ast.Intersection(renamed(left, part), renamed(right, part))
        case _:
            return node
