"""What an answer is made of, as it comes. Plain values; nothing here knows how a model writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class TextPiece(NamedTuple):
    """More content."""

    text: str


class ReasoningPiece(NamedTuple):
    """More of what the model thinks before it answers."""

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


Piece = TextPiece | ReasoningPiece | ToolCallStart | ToolCallArguments


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
    reasoning: str = ""

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        match piece:
            case TextPiece(text):
                self.content += text
            case ReasoningPiece(text):
                self.reasoning += text
            case ToolCallStart(_, call_id, name):
                self.calls.append(ParsedToolCall(call_id, name))
            case ToolCallArguments(number, text):
                self.calls[number].arguments += text
