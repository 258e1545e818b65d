"""What POST /v1/messages answers: a message of content blocks, whole or as events. The whole one is what its events
say, put together."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pydantic_core

from stemma.runtime.engine import Completion, Delta, Generation
from stemma.runtime.tongues.pieces import Piece, ReasoningPiece, TextPiece, ToolCallArguments, ToolCallStart
from stemma.server.anthropic.prefixes import SECONDS, Kept
from stemma.server.anthropic.translation import sealed
from stemma.server.anthropic.wire import MessagesRequest
from stemma.server.generation.chats import ChatTurn, Choice
from stemma.server.generation.generations import outputs
from stemma.server.generation.reporting import new_id

Event = dict[str, Any]


@dataclass(slots=True)
class Blocks:
    """The content as it comes. shows_thoughts: unless they are left out, and only their signature tells them."""

    shows_thoughts: bool = True
    done: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[str, Any] | None = None
    _text: str = ""

    def take(self, piece: Piece) -> Iterator[Event]:
        """The events of a piece, those of the block's beginning before it."""
        kind = _kind(piece)
        if self._open is None or self._open["type"] != kind or isinstance(piece, ToolCallStart):
            yield from self.close()
            yield from self._begin(piece)
        match piece:
            case TextPiece(text):
                yield from self._more(text, {"type": "text_delta", "text": text})
            case ReasoningPiece(text) if self.shows_thoughts:
                yield from self._more(text, {"type": "thinking_delta", "thinking": text})
            case ReasoningPiece(text):
                self._text += text
            case ToolCallArguments(_, text):
                yield from self._more(text, {"type": "input_json_delta", "partial_json": text})

    def close(self) -> Iterator[Event]:
        """The end of the last block."""
        block, self._open = self._open, None
        if block is None:
            return
        match block["type"]:
            case "text":
                block["text"] = self._text
            case "tool_use":
                block["input"] = read_input(self._text)
            case "thinking":
                block["thinking"] = self._text if self.shows_thoughts else ""
                block["signature"] = _signature(self._text) if self.shows_thoughts else sealed(self._text)
                told = {"type": "signature_delta", "signature": block["signature"]}
                yield {"type": "content_block_delta", "index": len(self.done), "delta": told}
        yield {"type": "content_block_stop", "index": len(self.done)}
        self.done.append(block)
        self._text = ""

    def _begin(self, piece: Piece) -> Iterator[Event]:
        match piece:
            case ToolCallStart(_, call_id, name):
                self._open = {"type": "tool_use", "id": tool_id(call_id), "name": name, "input": {}}
            case ReasoningPiece():
                self._open = {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                self._open = {"type": "text", "text": ""}
        yield {"type": "content_block_start", "index": len(self.done), "content_block": dict(self._open)}

    def _more(self, text: str, delta: dict[str, Any]) -> Iterator[Event]:
        self._text += text
        yield {"type": "content_block_delta", "index": len(self.done), "delta": delta}


def _kind(piece: Piece) -> str:
    match piece:
        case TextPiece():
            return "text"
        case ReasoningPiece():
            return "thinking"
    return "tool_use"


def _signature(thoughts: str) -> str:
    """Clients send thoughts back only with a signature."""
    return base64.b64encode(hashlib.blake2b(thoughts.encode(), digest_size=24).digest()).decode()


def tool_id(call_id: str) -> str:
    """The id of a call under Anthropic's prefix, unless the model's template wants short ones."""
    return f"toolu_{call_id.removeprefix('call_')}" if call_id.startswith("call_") else call_id


def read_input(text: str) -> dict[str, Any]:
    """A call's arguments as values; of those that were cut off, what is there, as Anthropic's clients read it."""
    try:
        value = pydantic_core.from_json(text, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class MessageAnswer:
    """Writes the answer to one request.

    kept: prefixes that are kept from its end on. num_cached: tokens of the prompt that were cached when it began, for a
    stream's first event.
    """

    turn: ChatTurn
    body: MessagesRequest
    kept: Sequence[Kept]
    num_cached: int = 0
    id: str = field(default_factory=lambda: new_id("msg_"))
    _blocks: Blocks = field(init=False)
    _choice: Choice = field(init=False)

    def __post_init__(self) -> None:
        thinking = self.body.thinking
        self._blocks = Blocks(shows_thoughts=thinking is None or thinking.display != "omitted")
        self._choice = self.turn.choice()

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer as one object."""
        (completion,) = completions
        for piece in (*self._choice.take(completion.text), *self._choice.finish(completion)):
            for _ in self._blocks.take(piece):
                pass
        for _ in self._blocks.close():
            pass
        delta: dict[str, Any] = self._ended(completion)["delta"]
        return self._message() | delta | {"content": self._blocks.done, "usage": self._usage(completion)}

    async def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[Event]:
        """The events in Anthropic's order."""
        yield {"type": "message_start", "message": self._message()}
        yield {"type": "ping"}
        async with aclosing(outputs(generations)) as items:
            async for _, what in items:
                for piece in self._choice.take(what.text) if isinstance(what, Delta) else self._choice.finish(what):
                    for event in self._blocks.take(piece):
                        yield event
                if isinstance(what, Completion):
                    for event in self._blocks.close():
                        yield event
                    yield self._ended(what)
        yield {"type": "message_stop"}

    def _ended(self, completion: Completion) -> Event:
        """The answer is complete: the event that says so."""
        self.turn.remember(self._choice, completion)
        for one in self.kept:
            self.turn.service.later(self.turn.service.pins.follow, self.turn.service.engine, one.hint, self._priority)
        reason = self._stop_reason(completion)
        sequence = completion.stopped_by if reason == "stop_sequence" else None
        delta = {"container": None, "stop_details": None, "stop_reason": reason, "stop_sequence": sequence}
        usage = self._usage(completion)
        told = {name: usage[name] for name in usage if name not in ("cache_creation", "inference_geo", "service_tier")}
        return {"type": "message_delta", "delta": delta, "usage": told}

    @property
    def _priority(self) -> int:
        return self.body.priority or 0

    def _stop_reason(self, completion: Completion) -> str:
        match self._choice.finish_reason(completion):
            case "tool_calls":
                return "tool_use"
            case "length":
                is_asked = completion.usage.completion_tokens >= self.body.max_tokens
                return "max_tokens" if is_asked else "model_context_window_exceeded"
        return "end_turn" if completion.stopped_by is None else "stop_sequence"

    def _message(self) -> dict[str, Any]:
        """The message before anything is said."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.turn.service.name_of(self.turn.body.model),
            "content": [],
            "container": None,
            "diagnostics": None,
            "stop_details": None,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._counts(self.num_cached, 0, 0),
        }

    def _usage(self, completion: Completion) -> dict[str, Any]:
        offsets = self.turn.service.texts.offsets(self.turn.options["shown_tokens"])
        num_thinking = self._choice.num_reasoning(completion, offsets)
        return self._counts(completion.usage.cached_tokens, completion.usage.completion_tokens, num_thinking)

    def _counts(self, num_cached: int, num_said: int, num_thinking: int) -> dict[str, Any]:
        """The prompt is what was read from the cache, what is kept there on request from now on, and the rest."""
        written = dict.fromkeys(SECONDS.values(), 0)
        num_seen = num_cached
        for one in self.kept:
            written[one.hint.seconds] += max(0, one.num_tokens - num_seen)
            num_seen = max(num_seen, one.num_tokens)
        num_written = num_seen - num_cached
        return {
            "input_tokens": len(self.turn.prompt.tokens) - num_cached - num_written,
            "cache_creation_input_tokens": num_written,
            "cache_read_input_tokens": num_cached,
            "cache_creation": {
                "ephemeral_5m_input_tokens": int(written[SECONDS["5m"]]),
                "ephemeral_1h_input_tokens": int(written[SECONDS["1h"]]),
            },
            "output_tokens": num_said,
            "output_tokens_details": {"thinking_tokens": num_thinking},
            "inference_geo": None,
            "server_tool_use": None,
            "service_tier": "standard",
        }
