"""POST /v1/chat/completions: the request's way to the engine, and the answer's way back, whole or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from stemma.runtime.engine import Completion, Delta, Generation, RequestOptions
from stemma.server.answers import Answer, AnswerParser, CallArguments, CallBegin, Piece, TextPiece
from stemma.server.endpoint import Call
from stemma.server.errors import bad_request
from stemma.server.forms import Form, ToolUse, chat_form, tool_use
from stemma.server.generating import completed, constrain, errors_of_prompt_named, said, start
from stemma.server.keys import Tenant
from stemma.server.options import sampling_options, stream_options
from stemma.server.prompts import ChatPrompt, answer_key
from stemma.server.replies import EventReply, chunk_events, json_reply
from stemma.server.reporting import logprob_entries, new_id, now, usage_report
from stemma.server.service import Service
from stemma.server.tool_grammar import CallsForm
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
    form = chat_form(body, tools)
    await constrain(service, options, form)
    with errors_of_prompt_named(prompt_param):
        prompt = await service.work(chat_prompt, service, body, tools, options["namespace"])
        default = service.config.default_max_tokens
        generations = start(call, [prompt.tokens], body.n or 1, max_tokens(body), default, options)
    return ChatTurn(service, body, prompt, tools, calls_first(form), options["namespace"]), generations


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
    calls_first: bool
    namespace: str

    def choice(self) -> Choice:
        """For what one choice says."""
        parser = AnswerParser(self.tools.names, self.tools.max_calls, calls_first=self.calls_first)
        return Choice(parser, frozenset(self.body.stop_token_ids or ()))

    def remember(self, choice: Choice, completion: Completion) -> None:
        """Know the answer again when it comes back, and have all of it in the cache by then.

        Its last tokens were never computed if nothing followed them: those that the form forced, or one at the limit.
        What was cut inside a call is not known again: the beginning of a call is no part of the answer.
        """
        if self.body.prompt_token_ids is not None or choice.parser.is_cut_in_call:
            return
        answer = choice.answer
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
    def events(self, generations: Sequence[Generation], include_usage: bool) -> AsyncGenerator[bytes]:
        """The answer in chunks."""
        return chunk_events(self._chunks(generations, include_usage), self.id)

    async def _chunks(self, generations: Sequence[Generation], include_usage: bool) -> AsyncGenerator[dict[str, Any]]:
        choices = [self.turn.choice() for _ in generations]
        last: list[Completion | None] = [None] * len(generations)
        for index in range(len(generations)):
            chunk = self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, include_usage)
            if self.turn.body.return_token_ids and index == 0:
                chunk["prompt_token_ids"] = self.turn.prompt.tokens
            yield chunk
        async with aclosing(said(generations)) as items:
            async for index, what in items:
                choice = choices[index]
                if isinstance(what, Delta):
                    for chunk in self._delta_chunks(index, choice.take(what.text), what, include_usage):
                        yield chunk
                    continue
                last[index] = what
                for piece in choice.finish(what):
                    yield self._chunk(index, _delta(piece), include_usage)
                self.turn.remember(choice, what)
                yield self._chunk(index, {}, include_usage, choice.finish_reason(what))
        if include_usage:
            usages = [completion.usage for completion in last if completion is not None]
            chunk = self._head("chat.completion.chunk")
            yield {**chunk, "choices": [], "usage": usage_report(usages, len(usages))}

    def _delta_chunks(
        self, index: int, pieces: Sequence[Piece], said: Delta, include_usage: bool
    ) -> list[dict[str, Any]]:
        """A chunk for each piece; log-probabilities and token ids go with the first one, whatever it says."""
        deltas = [_delta(piece) for piece in pieces]
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
class Choice:
    """One choice, whole or on its way: the parser, and what came of it so far.

    stops: tokens that cut an answer off, as stop strings do.
    """

    parser: AnswerParser
    stops: Collection[int] = ()
    answer: Answer = field(default_factory=Answer)

    def take(self, text: str) -> list[Piece]:
        """What has become certain with more text."""
        return self._put(self.parser.push(text))

    def finish(self, completion: Completion) -> list[Piece]:
        """What was held back."""
        is_stopped = completion.stopped_by is not None or (completion.tokens and completion.tokens[-1] in self.stops)
        is_whole = completion.finish_reason == "stop" and not is_stopped
        return self._put(self.parser.finish() if is_whole else self.parser.cut())

    def _put(self, pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            self.answer.add(piece)
        return pieces

    def finish_reason(self, completion: Completion) -> str:
        """ "tool_calls" if the answer ended with calls that are whole, else the engine's."""
        has_whole_calls = bool(self.answer.calls) and not self.parser.is_cut_in_call
        return "tool_calls" if has_whole_calls and completion.finish_reason == "stop" else completion.finish_reason


def calls_first(form: Form | None) -> bool:
    """Whether an answer of this form has its calls at its beginning, or none."""
    return form is not None and isinstance(form.spec, CallsForm) and form.spec.otherwise != "text"


def _delta(piece: Piece) -> dict[str, Any]:
    match piece:
        case TextPiece(text):
            return {"content": text}
        case CallBegin(index, call_id, name):
            begun = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
            return {"tool_calls": [begun]}
        case CallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
