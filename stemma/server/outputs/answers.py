"""The text of an answer, as it comes, to content and tool calls. Knows nothing of HTTP or of any API's events."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from stemma.server.prompts.tool_text import CALL_BEGIN, CALL_END

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


class TextPiece(NamedTuple):
    """More content."""

    text: str


class ToolCallStart(NamedTuple):
    """The model calls a function."""

    number: int
    id: str
    name: str


class ToolCallArguments(NamedTuple):
    """More of a call's arguments, as JSON text."""

    number: int
    text: str


Piece = TextPiece | ToolCallStart | ToolCallArguments


@dataclass(slots=True)
class ParsedToolCall:
    """A whole call."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """Pieces put together."""

    content: str = ""
    calls: list[ParsedToolCall] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        match piece:
            case TextPiece(text):
                self.content += text
            case ToolCallStart(_, call_id, name):
                self.calls.append(ParsedToolCall(call_id, name))
            case ToolCallArguments(number, text):
                self.calls[number].arguments += text


class AnswerParser:
    """Turns text into pieces. Without functions all of it is content.

    before    text <tool_call> {"name": "f", "arguments": {...}} </tool_call> text
    state     TEXT             HEAD          |            BODY |TAIL         |TEXT

    What looks like a call and is none (an unknown function, no JSON) stays content; the beginning of a call, at which
    the answer was cut off, is none.
    """

    def __init__(
        self, functions: Collection[str] = (), max_calls: int | None = None, *, calls_first: bool = False
    ) -> None:
        """calls_first: an answer with calls begins with one; any other is content, whatever is in it."""
        self._functions = functions
        self._max_calls = max_calls
        self._buffer = ""
        self._state = self._first if calls_first else self._text
        self._num_calls = 0
        self._scanner = ObjectScanner()
        self.is_cut_in_call = False

    def push(self, text: str) -> list[Piece]:
        """What has become certain."""
        if not self._functions:
            return [TextPiece(text)] if text else []
        self._buffer += text
        return list(self._run())

    def finish(self) -> list[Piece]:
        """The rest of an answer that ended by itself."""
        rest, self._buffer = self._buffer, ""
        if self._state == self._head:
            rest = CALL_BEGIN + rest
        elif self._state not in (self._text, self._first) or (self._num_calls and not rest.strip()):
            rest = ""
        return [TextPiece(rest)] if rest else []

    def cut(self) -> list[Piece]:
        """The rest of an answer that was cut off, by a limit or a stop string."""
        num_begun = _num_begun(self._buffer) if self._state in (self._text, self._first) else 0
        self.is_cut_in_call = num_begun > 0 or self._state in (self._head, self._body)
        if self.is_cut_in_call and self._state != self._body:
            self._buffer = self._buffer[: len(self._buffer) - num_begun].rstrip() if num_begun else ""
            self._state = self._text
        return self.finish()

    @property
    def is_in_arguments(self) -> bool:
        """Whether a call has begun whose arguments are not whole."""
        return self._state == self._body

    def _run(self) -> Iterator[Piece]:
        before = None
        while before != (before := (self._state, len(self._buffer))):
            yield from self._state()

    def _first(self) -> Iterator[Piece]:
        if self._buffer.startswith(CALL_BEGIN):
            self._state = self._text
        elif not CALL_BEGIN.startswith(self._buffer):
            self._state = self._content
        return iter(())

    def _content(self) -> Iterator[Piece]:
        if self._buffer:
            yield TextPiece(self._take(len(self._buffer)))

    def _text(self) -> Iterator[Piece]:
        at = self._buffer.find(CALL_BEGIN)
        if at >= 0:
            text = self._take(at).rstrip()
            self._take(len(CALL_BEGIN))
            self._state = self._head
        else:
            text = self._take(len(self._buffer) - _num_held(self._buffer))
        if text:
            yield TextPiece(text)

    def _head(self) -> Iterator[Piece]:
        found = HEAD.match(self._buffer)
        if found and (name := msgspec.json.decode(found[1], type=str)) in self._functions:
            self._take(found.end())
            yield self._begin(name)
            self._scanner = ObjectScanner()
            self._state = self._body
            return
        end = self._buffer.find(CALL_END)
        if end >= 0:
            text = self._take(end)
            self._take(len(CALL_END))
            self._state = self._text
            yield from self._whole(text)

    def _body(self) -> Iterator[Piece]:
        text = self._take(self._scanner.scan(self._buffer))
        if self._scanner.is_done:
            self._state = self._tail
        if text:
            yield ToolCallArguments(self._num_calls - 1, text)

    def _tail(self) -> Iterator[Piece]:
        end = self._buffer.find(CALL_END)
        if end >= 0:
            self._take(end + len(CALL_END))
            self._state = self._drop if self._num_calls == self._max_calls else self._text
        return iter(())

    def _drop(self) -> Iterator[Piece]:
        self._buffer = ""
        return iter(())

    def _whole(self, text: str) -> Iterator[Piece]:
        """A call with its fields in another order, or no call at all."""
        try:
            value = json.loads(text)
            name, arguments = value["name"], value.get("arguments", value.get("parameters", {}))
            is_call = name in self._functions and isinstance(arguments, dict)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            is_call = False
        if not is_call:
            yield TextPiece(CALL_BEGIN + text + CALL_END)
            return
        yield self._begin(name)
        yield ToolCallArguments(self._num_calls - 1, json.dumps(arguments, ensure_ascii=False))
        if self._num_calls == self._max_calls:
            self._state = self._drop

    def _begin(self, name: str) -> ToolCallStart:
        self._num_calls += 1
        return ToolCallStart(self._num_calls - 1, f"call_{secrets.token_hex(12)}", name)

    def _take(self, length: int) -> str:
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken


class ObjectScanner:
    """Finds the end of a JSON object in text that comes piece by piece."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.is_done = False

    def scan(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
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


def _num_held(text: str) -> int:
    """Characters at the end that may become white space before a call, or the beginning of one."""
    body = text[: len(text) - _num_begun(text)]
    return len(text) - len(body.rstrip())


def _num_begun(text: str) -> int:
    """Characters at the end that may become the beginning of a call."""
    return next((n for n in range(len(CALL_BEGIN) - 1, 0, -1) if text.endswith(CALL_BEGIN[:n])), 0)
