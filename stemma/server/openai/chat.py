"""POST /v1/chat/completions: the answer to a chat, whole or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from stemma.runtime.engine import Completion, Delta, Generation
from stemma.server.generation.answering import reply
from stemma.server.generation.chats import ChatTurn, start_chat
from stemma.server.generation.generations import said
from stemma.server.generation.options import stream_options
from stemma.server.generation.reporting import logprob_entries, new_id, now, usage_report
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import Call
from stemma.server.outputs.answers import CallArguments, CallBegin, Piece, TextPiece
from stemma.server.wire.chat import ChatRequest


async def chat_completions(call: Call[Service, ChatRequest]) -> Response:
    """Answer a chat."""
    body = call.body
    streaming = stream_options(body)
    turn, generations = await start_chat(call, body, "messages")
    return await reply(call, ChatAnswer(turn, bool(streaming.include_usage)), generations)


@dataclass(slots=True)
class ChatAnswer:
    """Writes the answer to one request."""

    turn: ChatTurn
    include_usage: bool
    id: str = field(default_factory=lambda: new_id("chatcmpl-"))
    created: int = field(default_factory=now)

    # Whole ----------------------------------------------------------------
    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer as one object."""
        answer = self._head("chat.completion")
        answer["choices"] = [self._choice(index, completion) for index, completion in enumerate(completions)]
        answer["usage"] = usage_report([completion.usage for completion in completions], len(completions))
        if self.turn.body.return_token_ids:
            answer["prompt_token_ids"] = self.turn.prompt.tokens
        return answer

    def _head(self, kind: str) -> dict[str, Any]:
        fingerprint = self.turn.service.fingerprint
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.turn.service.model_name,
            "system_fingerprint": fingerprint,
        }

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        said = self.turn.choice()
        said.take(completion.text)
        said.finish(completion)
        self.turn.remember(said, completion)
        message: dict[str, Any] = {"role": "assistant", "content": said.answer.content, "refusal": None}
        if said.answer.calls or said.parser.is_cut_in_call:
            message["content"] = said.answer.content or None
        if said.answer.calls:
            message["tool_calls"] = [
                {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
                for made in said.answer.calls
            ]
        choice = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(completion.logprobs),
            "finish_reason": said.finish_reason(completion),
        }
        if self.turn.body.return_token_ids:
            choice["token_ids"] = completion.tokens
        return choice

    def _logprobs(self, logprobs: Sequence[Any]) -> dict[str, Any] | None:
        if not self.turn.body.logprobs:
            return None
        return {"content": logprob_entries(logprobs, self.turn.service.texts), "refusal": None}

    # Streamed ----------------------------------------------------------------
    async def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[dict[str, Any]]:
        """The answer in pieces."""
        choices = [self.turn.choice() for _ in generations]
        last: list[Completion | None] = [None] * len(generations)
        for index in range(len(generations)):
            chunk = self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
            if self.turn.body.return_token_ids and index == 0:
                chunk["prompt_token_ids"] = self.turn.prompt.tokens
            yield chunk
        async with aclosing(said(generations)) as items:
            async for index, what in items:
                choice = choices[index]
                if isinstance(what, Delta):
                    for chunk in self._delta_chunks(index, choice.take(what.text), what):
                        yield chunk
                    continue
                last[index] = what
                for piece in choice.finish(what):
                    yield self._chunk(index, _delta(piece))
                self.turn.remember(choice, what)
                yield self._chunk(index, {}, choice.finish_reason(what))
        if self.include_usage:
            usages = [completion.usage for completion in last if completion is not None]
            chunk = self._head("chat.completion.chunk")
            yield {**chunk, "choices": [], "usage": usage_report(usages, len(usages))}

    def _delta_chunks(self, index: int, pieces: Sequence[Piece], said: Delta) -> list[dict[str, Any]]:
        """A chunk for each piece; log-probabilities and token ids go with the first one, whatever it says."""
        deltas = [_delta(piece) for piece in pieces]
        has_extras = bool(said.tokens and self.turn.body.return_token_ids) or bool(said.logprobs)
        if not deltas and has_extras:
            deltas = [{}]
        chunks = [self._chunk(index, delta) for delta in deltas]
        if chunks:
            chunks[0]["choices"][0]["logprobs"] = self._logprobs(said.logprobs)
            if self.turn.body.return_token_ids:
                chunks[0]["choices"][0]["token_ids"] = said.tokens
        return chunks

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        chunk = self._head("chat.completion.chunk")
        chunk["choices"] = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}]
        if self.include_usage:
            chunk["usage"] = None
        return chunk


def _delta(piece: Piece) -> dict[str, Any]:
    match piece:
        case TextPiece(text):
            return {"content": text}
        case CallBegin(index, call_id, name):
            begun = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
            return {"tool_calls": [begun]}
        case CallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
