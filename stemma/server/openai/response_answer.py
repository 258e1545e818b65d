"""What a chat's answer is at /v1/responses: items, whole or as their events, put together the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.engine import Completion, Delta, Generation
from stemma.runtime.tongues.pieces import Piece, ReasoningPiece, TextPiece, ToolCallArguments, ToolCallStart
from stemma.server.generation.chats import ChatTurn, Choice
from stemma.server.generation.generations import outputs
from stemma.server.generation.reporting import logprob_entries, new_id, now, usage_report
from stemma.server.generation.token_texts import TextOffsets
from stemma.server.http.errors import ApiError, api_error
from stemma.server.http.replies import error_in_stream
from stemma.server.openai.wire import NamedChoice, ResponsesRequest, ResponseTool, conversation_id

CALLS = {
    "function_call": "response.function_call_arguments",
    "custom_tool_call": "response.custom_tool_call_input",
}
"""Kinds of items that are calls, and what the events of their texts begin with."""


@dataclass(slots=True)
class Item:
    """An item of the output, as far as it has come."""

    id: str
    kind: str
    call_id: str = ""
    name: str = ""
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    def report(self, status: str) -> dict[str, Any]:
        """As JSON values."""
        if self.kind == "function_call":
            return {
                "type": "function_call",
                "id": self.id,
                "call_id": self.call_id,
                "name": self.name,
                "arguments": self.text,
                "status": status,
            }
        if self.kind == "custom_tool_call":
            called = {"type": self.kind, "id": self.id, "call_id": self.call_id, "name": self.name}
            return {**called, "input": self.text, "status": status}
        content = [] if status == "in_progress" else [self.part()]
        if self.kind == "reasoning":
            return {"type": "reasoning", "id": self.id, "summary": [], "content": content, "status": status}
        return {"type": "message", "id": self.id, "role": "assistant", "status": status, "content": content}

    def part(self) -> dict[str, Any]:
        """The one part of a message, or of thoughts."""
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}


@dataclass(slots=True)
class ResponseAnswer:
    """Writes the answer to one request."""

    turn: ChatTurn
    body: ResponsesRequest
    id: str = field(default_factory=lambda: new_id("resp_"))
    created: int = field(default_factory=now)
    _items: list[Item] = field(default_factory=list)
    _scores: list[tuple[int, TokenLogprob]] = field(default_factory=list)  # not told yet, with their tokens' places
    _choice: Choice = field(init=False)
    _offsets: TextOffsets = field(init=False)
    _number: int = -1
    _num_reasoning: int = 0

    def __post_init__(self) -> None:
        self.id += self.turn.service.kept_by
        self._choice = self.turn.choice()
        self._offsets = self._new_offsets()

    def _new_offsets(self) -> TextOffsets:
        service = self.turn.service
        return service.texts.offsets(self.turn.options["shown_tokens"])

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer as one object: what its events say, put together."""
        (completion,) = completions
        output = Delta(completion.text, completion.tokens, completion.logprobs)
        for _ in (*self._delta_events(output), *self._end_events(completion)):
            pass
        self.turn.remember(self._choice, completion)
        return self._finished(completion)

    def _new_id(self, prefix: str) -> str:
        return new_id(prefix) + self.turn.service.kept_by

    def _take(self, piece: Piece) -> None:
        """Put a piece where it belongs."""
        match piece:
            case TextPiece(text) | ReasoningPiece(text):
                kind, prefix = ("message", "msg_") if isinstance(piece, TextPiece) else ("reasoning", "rs_")
                if not self._items or self._items[-1].kind != kind:
                    self._items.append(Item(self._new_id(prefix), kind))
                self._items[-1].text += text
            case ToolCallStart(number, call_id, name) if self._choice.is_custom(number):
                self._items.append(Item(self._new_id("ctc_"), "custom_tool_call", call_id, name))
            case ToolCallStart(_, call_id, name):
                self._items.append(Item(self._new_id("fc_"), "function_call", call_id, name))
            case ToolCallArguments(_, text):
                self._items[-1].text += text

    def _finished(self, completion: Completion) -> dict[str, Any]:
        status = _status(completion)
        is_whole = status == "completed"
        last = len(self._items) - 1
        ends = [self._end_status(completion) if at == last else "completed" for at in range(last + 1)]
        output = [item.report(end) for item, end in zip(self._items, ends, strict=True)]
        usage = usage_report([completion.usage], num_reasoning=self._num_reasoning)
        return {
            **self._response(status),
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "completed_at": now() if is_whole else None,
            "output": output,
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"] | {"cache_write_tokens": 0},
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": usage["completion_tokens_details"],
                "total_tokens": usage["total_tokens"],
                "stemma": usage["stemma"],
            },
        }

    def _response(self, status: str) -> dict[str, Any]:
        body = self.body
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": bool(body.background),
            "conversation": None if body.conversation is None else {"id": conversation_id(body)},
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": self.turn.service.name_of(self.turn.body.model),
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "service_tier": "default",
            "store": bool(body.store),
            "temperature": self.turn.options["temperature"],
            "text": body.text if body.text and body.text.format else {"format": {"type": "text"}},
            "tool_choice": _tool_choice(body.tool_choice),
            "tools": [_tool(tool) for tool in body.tools or []],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": self.turn.options["top_p"],
            "truncation": body.truncation or "disabled",
            "metadata": body.metadata or {},
            "usage": None,
            "user": body.user,
        }

    def _end_status(self, completion: Completion) -> str:
        """The status of the last item: a call whose arguments are whole is complete, whatever cut the answer off."""
        if self._items[-1].kind in CALLS:
            return "incomplete" if self._choice.parser.is_in_arguments else "completed"
        return _status(completion)

    # Streamed ----------------------------------------------------------------
    async def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[dict[str, Any]]:
        """The events in OpenAI's order. An error on the way is the last one: the status has been sent."""
        try:
            async with aclosing(self._events(generations)) as items:
                async for kind, value in items:
                    yield self._chunk(kind, value)
        except Exception as error:
            failure = _failure(error_in_stream(error, self.id))
            yield self._chunk("response.failed", {"response": {**self._response("failed"), "error": failure}})

    def cut_off(self, status: str, error: Exception | None = None) -> dict[str, Any]:
        """The response as it stands, when it begins or nobody waits for its end. error: why it failed."""
        ends = ["completed"] * (len(self._items) - 1) + ["incomplete"]
        output = [item.report(end) for item, end in zip(self._items, ends, strict=False)]
        failure = None if error is None else _failure(api_error(error))
        return {**self._response(status), "output": output, "error": failure}

    def _chunk(self, kind: str, value: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **value}

    async def _events(self, generations: Sequence[Generation]) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
        first = "queued" if self.body.background else "in_progress"
        yield "response.created", {"response": self._response(first)}
        if self.body.background:
            yield "response.queued", {"response": self._response(first)}
        yield "response.in_progress", {"response": self._response("in_progress")}
        async with aclosing(outputs(generations)) as items:
            async for _, what in items:
                for told in self._delta_events(what) if isinstance(what, Delta) else self._end_events(what):
                    yield told
                if isinstance(what, Completion):
                    yield f"response.{_status(what)}", {"response": self._finished(what)}
                    self.turn.remember(self._choice, what)

    def _delta_events(self, delta: Delta) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.turn.body.logprobs:
            self._scores += [(self._offsets.next(score.token), score) for score in delta.logprobs]
        for piece in self._choice.take(delta.text):
            yield from self._piece_events(piece)

    def _piece_events(self, piece: Piece) -> Iterator[tuple[str, dict[str, Any]]]:
        num_before = len(self._items)
        goes_on = isinstance(piece, ToolCallArguments) or (bool(self._items) and self._items[-1].kind == _kind(piece))
        if isinstance(piece, ToolCallStart) or not goes_on:
            yield from self._done_events("completed")
        self._take(piece)
        item, place = self._items[-1], len(self._items) - 1
        if len(self._items) > num_before:
            yield (
                "response.output_item.added",
                {"output_index": place, "item": item.report("in_progress") | _empty(item)},
            )
            if item.kind == "message":
                part = {**item.part(), "text": "", "logprobs": []}
                yield "response.content_part.added", {**_at(item, place), "part": part}
            elif item.kind == "reasoning":
                yield "response.content_part.added", {**_at(item, place), "part": {**item.part(), "text": ""}}
        match piece:
            case TextPiece(text):
                yield self._text_event(text, self._scores_before(len(item.text)))
            case ReasoningPiece(text):
                yield "response.reasoning_text.delta", {**_at(item, place), "delta": text}
            case ToolCallArguments(_, text):
                told = {"item_id": item.id, "output_index": place, "delta": text}
                yield f"{CALLS[item.kind]}.delta", told

    def _text_event(self, text: str, scores: Sequence[TokenLogprob]) -> tuple[str, dict[str, Any]]:
        item, place = self._items[-1], len(self._items) - 1
        entries = logprob_entries(scores, self.turn.service.texts)
        item.logprobs += entries
        return "response.output_text.delta", {**_at(item, place), "delta": text, "logprobs": entries}

    def _scores_before(self, text_len: int) -> list[TokenLogprob]:
        """Those of the tokens that begin in the first `text_len` characters behind the thoughts, and were not told: of
        the first message's text. What stands behind it in the answer is no text."""
        if sum(item.kind != "reasoning" for item in self._items) > 1:
            return []
        begin = self._choice.parser.reasoning_len
        self._scores = [score for score in self._scores if score[0] >= begin]
        num_told = sum(place < begin + text_len for place, _ in self._scores)
        told, self._scores = self._scores[:num_told], self._scores[num_told:]
        return [score for _, score in told]

    @property
    def _is_in_message(self) -> bool:
        return bool(self._items) and self._items[-1].kind == "message"

    def _done_events(self, status: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The end of the last item."""
        if not self._items:
            return
        item, place = self._items[-1], len(self._items) - 1
        if item.kind == "message":
            told = {**_at(item, place), "text": item.text, "logprobs": item.logprobs}
            yield "response.output_text.done", told
            yield "response.content_part.done", {**_at(item, place), "part": item.part()}
        elif item.kind == "reasoning":
            yield "response.reasoning_text.done", {**_at(item, place), "text": item.text}
            yield "response.content_part.done", {**_at(item, place), "part": item.part()}
        elif item.kind == "custom_tool_call":
            yield f"{CALLS[item.kind]}.done", {"item_id": item.id, "output_index": place, "input": item.text}
        else:
            told = {"item_id": item.id, "output_index": place, "name": item.name, "arguments": item.text}
            yield "response.function_call_arguments.done", told
        yield "response.output_item.done", {"output_index": place, "item": item.report(status)}

    def _end_events(self, completion: Completion) -> Iterator[tuple[str, dict[str, Any]]]:
        for piece in self._choice.finish(completion):
            yield from self._piece_events(piece)
        self._num_reasoning = self._choice.num_reasoning(completion, self._new_offsets())
        if not self._items or (self._items[-1].kind == "reasoning" and _status(completion) == "completed"):
            yield from self._piece_events(TextPiece(""))
        is_one = sum(item.kind != "reasoning" for item in self._items) == 1
        if is_one and self._is_in_message and self._scores:  # without text, such as an end token's
            yield self._text_event("", [score for _, score in self._scores])
        yield from self._done_events(self._end_status(completion))


def _failure(error: ApiError | None) -> dict[str, str]:
    """Why a response failed, with one of OpenAI's codes."""
    if error is None:
        return {"code": "server_error", "message": "the server failed; its log says why"}
    codes = {400: "invalid_prompt", 429: "rate_limit_exceeded"}
    return {"code": codes.get(error.status, "server_error"), "message": error.message}


def _status(completion: Completion) -> str:
    return "completed" if completion.finish_reason == "stop" else "incomplete"


def _kind(piece: Piece) -> str:
    """The kind of item that a piece belongs to."""
    match piece:
        case TextPiece():
            return "message"
        case ReasoningPiece():
            return "reasoning"
    return "function_call"


def _at(item: Item, place: int) -> dict[str, Any]:
    return {"item_id": item.id, "output_index": place, "content_index": 0}


def _empty(item: Item) -> dict[str, Any]:
    names = {"function_call": "arguments", "custom_tool_call": "input"}
    return {names[item.kind]: ""} if item.kind in names else {}


def _tool_choice(choice: str | NamedChoice | None) -> str | dict[str, Any]:
    match choice:
        case NamedChoice(type="allowed_tools", mode=mode, tools=list() as tools):
            named = [{"type": tool.type or "function", "name": tool.called} for tool in tools]
            return {"type": "allowed_tools", "mode": mode, "tools": named}
        case NamedChoice(name=name):
            return {"type": choice.type or "function", "name": name}
    return choice or "auto"


def _tool(tool: ResponseTool) -> dict[str, Any]:
    if tool.type == "custom":
        told = {"type": "text"} if tool.format is None else msgspec.to_builtins(tool.format)
        return {"type": "custom", "name": tool.name, "description": tool.description or "", "format": told}
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict is not False,
    }
