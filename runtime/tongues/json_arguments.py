"""Arguments as a JSON object: Hermes and Qwen, Mistral, Llama 3, DeepSeek, Kimi, Granite, Command, gpt-oss and others.

They are streamed as they come: what the model writes is what the client is given.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stemma.fsm.languages.json_schema.options import WhiteSpace
from stemma.fsm.languages.json_schema.texts import spelled
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import concat, text
from stemma.runtime.tongues.functions import Function, Reader, Step
from stemma.runtime.tongues.marks import Marks


@dataclass(frozen=True)
class JsonArguments:
    """A JSON object, with white space as the template has it."""

    white_space: WhiteSpace = "spaced"
    is_ascii: bool = False

    def grammar(self, function: Function, marks: Marks) -> ast.Grammar:
        if function.text is not None:
            return self._of_text(function, function.text.grammar())
        return replace(function.arguments, white_space=self.white_space).grammar()

    def _of_text(self, function: Function, form: ast.Grammar) -> ast.Grammar:
        """An object with one text, of this grammar."""
        (name,) = function.schema["properties"]
        begin, _, end = self.write({name: "|"}).partition("|")

        def rule(of: Hashable) -> ast.Node:
            assert isinstance(of, tuple)
            return spelled(form.rule(of[1]), strictly=True)

        return ast.Grammar(concat([text(begin), spelled(form.start, strictly=True), text(end)]), rule)

    def write(self, arguments: Mapping[str, Any]) -> str:
        separators = (",", ":") if self.white_space == "compact" else None
        return json.dumps(arguments, ensure_ascii=self.is_ascii, separators=separators)

    def literals(self) -> tuple[str, ...]:
        return ()

    def reader(self, function: Function) -> Reader:
        return JsonReader()


class JsonReader:
    """Finds the end of a JSON object in text that comes piece by piece."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.is_done = False

    def read(self, buffer: str, is_end: bool) -> Step:
        end = self._end(buffer)
        return Step(end, buffer[:end])

    def _end(self, text: str) -> int:
        for at, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = char == "\\"
                self._in_string = char != '"'
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self.is_done = True
                    return at + 1
        return len(text)
