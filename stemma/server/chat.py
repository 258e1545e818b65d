"""POST /v1/chat/completions: the request's way to the engine, and the answer's way back, whole or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from stemma.runtime.engine import Completion, Delta, Generation, RequestOptions
from stemma.server.answers import Answer, AnswerParser, CallArguments, CallBegin, Piece, TextPiece
from stemma.server.endpoint import Call
from stemma.server.errors import bad_request
from stemma.server.forms import ToolUse, chat_form, tool_use
from stemma.server.generating import completed, constrain, errors_of_prompt_named, said, start
from stemma.server.keys import Tenant
from stemma.server.options import sampling_options, stream_options
from stemma.server.prompts import ChatPrompt, answer_key
from stemma.server.replies import EventReply, chunk_events, json_reply
from stemma.server.reporting import logprob_entries, new_id, now, usage_report
from stemma.server.service import Service
from stemma.server.wire.chat import ChatRequest


async def chat_completions(call: Call[ChatRequest]) -> Response:
    """Answer a chat."""
    body = call.body
    streaming = stream_options(body)
    turn, generations = await start_chat(call, body, "messages")
    answer = ChatAnswer(turn)
    if body.stream:
        events = answer.events(generations, bool(streaming.include_usage))
        return EventReply(events, call.service.config)
    return json_reply(answer.whole(await completed(generations)))


async def start_chat(call: Call[Any], body: ChatRequest, prompt_param: str) -> tuple[ChatTurn, list[Generation]]:
    """Check a chat request and start its choices. prompt_param: the field that a wrong prompt is blamed on."""
    service = call.service
    service.check_model(body.model)
    options = chat_options(body, call.tenant)
    tools = tool_use(body)
    await constrain(service, options, chat_form(body, tools))
    with errors_of_prompt_named(prompt_param):
        prompt = await service.work(chat_prompt, service, body, tools, options["namespace"])
        default = service.config.default_max_tokens
        generations = start(call, [prompt.tokens], body.n or 1, max_tokens(body), default, options)
    return ChatTurn(service, body, prompt, tools, options["namespace"]), generations


def chat_options(body: ChatRequest, tenant: Tenant) -> RequestOptions:
    """The engine's options, the lengths left out. Raises ApiError."""
    options = sampling_options(body, tenant)
    if body.top_logprobs is not None and not body.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true", "top_logprobs")
    if body.logprobs:
        options["logprobs"] = body.top_logprobs or 0
    return options


def max_tokens(body: ChatRequest) -> int | None:
    """Raises ApiError if both names are given and differ."""
    if body.max_completion_tokens is None:
        return body.max_tokens
    if body.max_tokens not in (None, body.max_completion_tokens):
        raise bad_request("give max_completion_tokens or max_tokens, not both", "max_tokens")
    return body.max_completion_tokens


def chat_prompt(service: Service, body: ChatRequest, tools: ToolUse, namespace: str) -> ChatPrompt:
    """The prompt's tokens: those given, or those of the messages. Raises ApiError, PromptTooLong, ChatTemplateError."""
    if body.prompt_token_ids is not None:
        if body.messages:
            raise bad_request("give messages or prompt_token_ids, not both", "prompt_token_ids")
        return ChatPrompt(body.prompt_token_ids, body.prompt_token_ids)
    return service.prompter.prompt(body.messages, tools.offered, namespace, body.chat_template_kwargs)


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A request that was started: what its answer depends on."""

    service: Service
    body: ChatRequest
    prompt: ChatPrompt
    tools: ToolUse
    namespace: str

    def parser(self) -> AnswerParser:
        """For the text of one choice."""
        return AnswerParser(self.tools.names, self.tools.max_calls)

    def remember(self, answer: Answer, completion: Completion) -> None:
        """Know the answer again when it comes back, and have all of it in the cache by then.

        Its last tokens were never computed if nothing followed them: those that the form forced, or one at the limit.
        """
        if self.body.prompt_token_ids is not None:
            return
        key = answer_key(answer.content, [(made.name, made.arguments) for made in answer.calls])
        prompter, tokens = self.service.prompter, completion.tokens
        ran = prompter.remember(self.prompt, self.namespace, completion.text, key, tokens)
        if tokens and ran[-1] == tokens[-1]:
            self.service.compute_later(ran, self.namespace, self.body.priority or 0)


@dataclass(slots=True)
class ChatAnswer:
    """Writes the answer to one request."""

    turn: ChatTurn
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
        parser, answer = self.turn.parser(), Answer()
        for piece in [*parser.push(completion.text), *parser.finish()]:
            answer.add(piece)
        self.turn.remember(answer, completion)
        message: dict[str, Any] = {"role": "assistant", "content": answer.content or None, "refusal": None}
        if answer.calls:
            message["tool_calls"] = [
                {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
                for made in answer.calls
            ]
        else:
            message["content"] = answer.content
        choice = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(completion.logprobs),
            "finish_reason": finish_reason(completion, bool(answer.calls)),
        }
        if self.turn.body.return_token_ids:
            choice["token_ids"] = completion.tokens
        return choice

    def _logprobs(self, logprobs: Sequence[Any]) -> dict[str, Any] | None:
        if not self.turn.body.logprobs:
            return None
        return {"content": logprob_entries(logprobs, self.turn.service.texts), "refusal": None}

    # Streamed ----------------------------------------------------------------
    def events(self, generations: Sequence[Generation], include_usage: bool) -> AsyncGenerator[bytes]:
        """The answer in chunks."""
        return chunk_events(self._chunks(generations, include_usage))

    async def _chunks(self, generations: Sequence[Generation], include_usage: bool) -> AsyncGenerator[dict[str, Any]]:
        streams = [ChoiceStream(self.turn.parser()) for _ in generations]
        last: list[Completion | None] = [None] * len(generations)
        for index in range(len(generations)):
            chunk = self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, include_usage)
            if self.turn.body.return_token_ids and index == 0:
                chunk["prompt_token_ids"] = self.turn.prompt.tokens
            yield chunk
        async with aclosing(said(generations)) as items:
            async for index, what in items:
                if isinstance(what, Delta):
                    for chunk in self._delta_chunks(index, streams[index].take(what), what, include_usage):
                        yield chunk
                    continue
                last[index] = what
                for delta in streams[index].finish():
                    yield self._chunk(index, delta, include_usage)
                self.turn.remember(streams[index].answer, what)
                reason = finish_reason(what, bool(streams[index].answer.calls))
                yield self._chunk(index, {}, include_usage, reason)
        if include_usage:
            usages = [completion.usage for completion in last if completion is not None]
            chunk = self._head("chat.completion.chunk")
            yield {**chunk, "choices": [], "usage": usage_report(usages, len(usages))}

    def _delta_chunks(
        self, index: int, deltas: list[dict[str, Any]], said: Delta, include_usage: bool
    ) -> list[dict[str, Any]]:
        """A chunk for each delta; log-probabilities and token ids go with the first one, whatever it says."""
        has_extras = bool(said.tokens and self.turn.body.return_token_ids) or bool(said.logprobs)
        if not deltas and has_extras:
            deltas = [{}]
        chunks = [self._chunk(index, delta, include_usage) for delta in deltas]
        if chunks:
            chunks[0]["choices"][0]["logprobs"] = self._logprobs(said.logprobs)
            if self.turn.body.return_token_ids:
                chunks[0]["choices"][0]["token_ids"] = said.tokens
        return chunks

    def _chunk(
        self, index: int, delta: dict[str, Any], include_usage: bool, reason: str | None = None
    ) -> dict[str, Any]:
        chunk = self._head("chat.completion.chunk")
        chunk["choices"] = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}]
        if include_usage:
            chunk["usage"] = None
        return chunk


@dataclass(slots=True)
class ChoiceStream:
    """One choice on its way: the parser, and what came of it so far."""

    parser: AnswerParser
    answer: Answer = field(default_factory=Answer)

    def take(self, delta: Delta) -> list[dict[str, Any]]:
        """Chat deltas of more text."""
        return self._deltas(self.parser.push(delta.text))

    def finish(self) -> list[dict[str, Any]]:
        """Chat deltas of what was held back."""
        return self._deltas(self.parser.finish())

    def _deltas(self, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        for piece in pieces:
            self.answer.add(piece)
        return [_delta(piece) for piece in pieces]


def _delta(piece: Piece) -> dict[str, Any]:
    match piece:
        case TextPiece(text):
            return {"content": text}
        case CallBegin(index, call_id, name):
            begun = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
            return {"tool_calls": [begun]}
        case CallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def finish_reason(completion: Completion, has_calls: bool) -> str:
    """ "tool_calls" if the answer ended with calls, else the engine's."""
    return "tool_calls" if has_calls and completion.finish_reason == "stop" else completion.finish_reason
