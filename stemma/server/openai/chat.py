"""POST /v1/chat/completions: the answer to a chat, whole or streamed."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from stemma.runtime.engine import Completion, Delta, Generation
from stemma.runtime.tongues.pieces import Piece, ReasoningPiece, TextPiece, ToolCallArguments, ToolCallStart
from stemma.server.generation.answering import reply
from stemma.server.generation.chats import ChatTurn, Choice, start_chat
from stemma.server.generation.generations import completed, outputs
from stemma.server.generation.options import stop_reason, stream_options
from stemma.server.generation.reporting import StreamUsage, logprob_entries, new_id, now, usage_report
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.replies import json_reply
from stemma.server.openai.stored_chats import ChatKeeper, keeper_of
from stemma.server.wire.chat import ChatRequest


async def chat_completions(context: RequestContext[Service, ChatRequest]) -> Response:
    """Answer a chat."""
    body = context.body
    streaming, keeper = stream_options(body), keeper_of(context)
    turn, generations = await start_chat(context, body, "messages")
    usage = StreamUsage(streaming, len(turn.prompt.tokens))
    answer = ChatAnswer(turn, usage, keeper)
    if keeper is None or body.stream:
        return await reply(context, answer, generations)
    made = answer.whole(await completed(generations))
    await keeper.keep(made)
    return json_reply(made)


@dataclass(slots=True)
class ChatAnswer:
    """Writes the answer to one request. keeper: who keeps it, before a stream's last choice says that it has ended."""

    turn: ChatTurn
    usage: StreamUsage
    keeper: ChatKeeper | None = None
    id: str = field(default_factory=lambda: new_id("chatcmpl-"))
    created: int = field(default_factory=now)
    _num_reasoning: int = 0

    # Whole ----------------------------------------------------------------
    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer as one object."""
        choices = [self.turn.choice() for _ in completions]
        for choice, completion in zip(choices, completions, strict=True):
            choice.take(completion.text)
            choice.finish(completion)
            self._ended(choice, completion)
        return self._whole(choices, completions)

    def _whole(self, choices: Sequence[Choice], completions: Sequence[Completion]) -> dict[str, Any]:
        answer = self._head("chat.completion")
        answer["choices"] = [self._choice(*each) for each in zip(itertools.count(), choices, completions, strict=False)]
        usages = [completion.usage for completion in completions]
        answer["usage"] = usage_report(usages, len(completions), self._num_reasoning)
        if self.turn.body.return_token_ids:
            answer["prompt_token_ids"] = self.turn.prompt.tokens
        return answer

    def _head(self, kind: str) -> dict[str, Any]:
        fingerprint = self.turn.service.fingerprint
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.turn.service.name_of(self.turn.body.model),
            "system_fingerprint": fingerprint,
        }

    def _choice(self, index: int, choice: Choice, completion: Completion) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.answer.content, "refusal": None}
        if choice.answer.calls or choice.parser.is_cut_in_call:
            message["content"] = choice.answer.content or None
        if choice.answer.reasoning:
            message["reasoning_content"] = choice.answer.reasoning
        if choice.answer.calls and self.turn.body.functions:
            (call,) = choice.answer.calls
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
        elif choice.answer.calls:
            message["tool_calls"] = [
                _call(call.id, call.name, call.arguments, choice.is_custom(number))
                for number, call in enumerate(choice.answer.calls)
            ]
        made = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(completion.logprobs),
            "finish_reason": self._reason(choice, completion),
            "stop_reason": stop_reason(completion, self.turn.body),
        }
        if self.turn.body.return_token_ids:
            made["token_ids"] = completion.tokens
        return made

    def _reason(self, choice: Choice, completion: Completion) -> str:
        reason = choice.finish_reason(completion)
        return "function_call" if reason == "tool_calls" and self.turn.body.functions else reason

    def _ended(self, choice: Choice, completion: Completion) -> None:
        """A choice is complete."""
        offsets = self.turn.service.texts.offsets(self.turn.options["shown_tokens"])
        self._num_reasoning += choice.num_reasoning(completion, offsets)
        self.turn.remember(choice, completion)

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
        async with aclosing(outputs(generations)) as items:
            async for index, what in items:
                choice = choices[index]
                if isinstance(what, Delta):
                    self.usage.num_completion += len(what.tokens)
                    for chunk in self._delta_chunks(index, choice, what):
                        yield chunk
                    continue
                last[index] = what
                for piece in choice.finish(what):
                    yield self._chunk(index, self._delta(piece, choice))
                self._ended(choice, what)
                whole = [completion for completion in last if completion is not None]
                if self.keeper is not None and len(whole) == len(choices):
                    await self.keeper.keep(self._whole(choices, whole))
                chunk = self._chunk(index, {}, self._reason(choice, what))
                chunk["choices"][0]["stop_reason"] = stop_reason(what, self.turn.body)
                yield chunk
        if self.usage.options.include_usage:
            usages = [completion.usage for completion in last if completion is not None]
            chunk = self._head("chat.completion.chunk")
            yield {**chunk, "choices": [], "usage": usage_report(usages, len(usages), self._num_reasoning)}

    def _delta_chunks(self, index: int, choice: Choice, delta: Delta) -> list[dict[str, Any]]:
        """A chunk for each piece; log-probabilities and token ids go with the first one, whatever it says."""
        deltas = [self._delta(piece, choice) for piece in choice.take(delta.text)]
        has_extras = bool(delta.tokens and self.turn.body.return_token_ids) or bool(delta.logprobs)
        if not deltas and has_extras:
            deltas = [{}]
        chunks = [self._chunk(index, told) for told in deltas]
        if chunks:
            chunks[0]["choices"][0]["logprobs"] = self._logprobs(delta.logprobs)
            if self.turn.body.return_token_ids:
                chunks[0]["choices"][0]["token_ids"] = delta.tokens
        return chunks

    def _delta(self, piece: Piece, choice: Choice) -> dict[str, Any]:
        match piece:
            case ToolCallStart(_, _, name) if self.turn.body.functions:
                return {"function_call": {"name": name, "arguments": ""}}
            case ToolCallArguments(_, text) if self.turn.body.functions:
                return {"function_call": {"arguments": text}}
        return _delta(piece, choice)

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        chunk = self._head("chat.completion.chunk")
        chunk["choices"] = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}]
        return chunk | self.usage.report()


def _delta(piece: Piece, choice: Choice) -> dict[str, Any]:
    match piece:
        case TextPiece(text):
            return {"content": text}
        case ReasoningPiece(text):
            return {"reasoning_content": text}
        case ToolCallStart(index, call_id, name):
            return {"tool_calls": [{"index": index, **_call(call_id, name, "", choice.is_custom(index))}]}
        case ToolCallArguments(index, text) if choice.is_custom(index):
            return {"tool_calls": [{"index": index, "custom": {"input": text}}]}
        case ToolCallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _call(call_id: str, name: str, said: str, is_custom: bool) -> dict[str, Any]:
    if is_custom:
        return {"id": call_id, "type": "custom", "custom": {"name": name, "input": said}}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": said}}
