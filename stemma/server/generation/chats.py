"""A chat's way to the engine, and what its answer says, whatever the dialect in which it is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stemma.runtime.engine import Completion, Generation, RequestOptions
from stemma.runtime.errors import StemmaError
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.parser import AnswerParser
from stemma.runtime.tongues.pieces import Answer, Piece, ToolCallArguments, ToolCallStart
from stemma.runtime.tongues.tongue import Standing
from stemma.server.generation.generations import constrain, errors_of_prompt_named, start, truncated
from stemma.server.generation.inputs import InputReader
from stemma.server.generation.options import sampling_options
from stemma.server.generation.service import Service
from stemma.server.generation.token_texts import TextOffsets
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.http.keys import Tenant
from stemma.server.outputs.constraints import OutputConstraint, ToolUse, chat_constraint, function_of, tool_use
from stemma.server.prompts.prompter import ChatPrompt, ChatPrompter, Ending, answer_key
from stemma.server.wire.chat import ChatRequest, Message
from stemma.server.wire.tools import CustomCall, FunctionCall, ToolCall


async def start_chat(
    context: RequestContext[Service, Any], body: ChatRequest, prompt_param: str
) -> tuple[ChatTurn, list[Generation]]:
    """Check a chat request and start its choices. prompt_param: the field that a wrong prompt is blamed on."""
    turn = await prepare_chat(context, body, prompt_param)
    return turn, start_turn(context, turn, prompt_param, max_tokens(body), context.service.config.default_max_tokens)


async def prepare_chat(context: RequestContext[Service, Any], body: ChatRequest, prompt_param: str) -> ChatTurn:
    """Check a chat request and write its prompt; nothing runs yet."""
    service = context.service
    context.reader.unused |= dict.fromkeys(without_effect(body, service.prompter))
    options = chat_options(body, context.tenant, service)
    tools = tool_use(body)
    with errors_of_prompt_named(prompt_param):
        prompt = await service.work(chat_prompt, service, body, tools, options["namespace"])
    if service.system_ends is not None and body.prompt_token_ids is None:
        given = body.messages, tools.offered, template_values(body), prompt.tokens
        place = await service.work(service.system_ends.find, *given)
        options["marks_at"] = [] if place is None else [place]
    standing = service.prompter.standing(prompt.tokens)
    constraint = chat_constraint(body, tools, service.prompter.tongue, standing)
    await constrain(context, options, constraint)
    return ChatTurn(service, body, prompt, tools, calls_first(constraint), standing, options)


def start_turn(
    context: RequestContext[Service, Any], turn: ChatTurn, prompt_param: str, limit: int | None, default_tokens: int
) -> list[Generation]:
    """The choices of a turn. limit: of tokens; without one, `default_tokens`, or what the context leaves."""
    with errors_of_prompt_named(prompt_param):
        return start(context, [turn.prompt.tokens], turn.body.n or 1, limit, default_tokens, turn.options)


def chat_options(body: ChatRequest, tenant: Tenant, service: Service) -> RequestOptions:
    """The engine's options, the greatest length left out. Raises ApiError."""
    options = sampling_options(body, tenant, service)
    options["shown_tokens"] = sorted({*options["shown_tokens"], *service.prompter.shown})
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
    """The prompt's tokens: those given, or those of the messages. Raises ApiError or PromptTooLong."""
    if body.prompt_token_ids is not None:
        if body.messages:
            raise bad_request("give messages or prompt_token_ids, not both", "prompt_token_ids")
        size = service.tokenizer.vocab_size
        if any(token >= size for token in body.prompt_token_ids):
            raise bad_request(f"prompt_token_ids are token ids below {size}", "prompt_token_ids")
        made = ChatPrompt(body.prompt_token_ids, body.prompt_token_ids)
    else:
        made = service.prompter.prompt(body.messages, tools.offered, namespace, template_values(body), ending(body))
    return ChatPrompt(*truncated(made, body, max_tokens(body), service))


def ending(body: ChatRequest) -> Ending:
    """How the prompt ends. Raises ApiError."""
    if not body.continue_final_message:
        return "closed" if body.add_generation_prompt is False else "prompt"
    if body.add_generation_prompt:
        raise bad_request("a last message that goes on has no generation prompt behind it", "add_generation_prompt")
    return "open"


def template_values(body: ChatRequest) -> dict[str, Any]:
    """What the template is told besides the chat: how much to think, under the names that templates have for it."""
    effort = body.reasoning_effort
    if effort is None:
        return body.chat_template_kwargs or {}
    thinks = effort != "none"
    told = {"enable_thinking": thinks, "thinking": thinks} | ({"reasoning_effort": effort} if thinks else {})
    return {**told, **(body.chat_template_kwargs or {})}


def without_effect(body: ChatRequest, prompter: ChatPrompter) -> list[str]:
    """Fields that this model's chat template does not look at. No effort at all is what a model does that has none."""
    if body.prompt_token_ids is not None:
        return [name for name in ("reasoning_effort", "chat_template_kwargs") if getattr(body, name)]
    read = prompter.names_read
    fields = [f"chat_template_kwargs.{name}" for name in body.chat_template_kwargs or {} if name not in read]
    thinks = body.reasoning_effort is not None and (body.reasoning_effort != "none" or prompter.tongue.reasoning)
    if thinks and not read.intersection(template_values(body)):
        fields.append("reasoning_effort")
    return fields


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A request that was started: what its answer depends on."""

    service: Service
    body: ChatRequest
    prompt: ChatPrompt
    tools: ToolUse
    calls_first: bool
    standing: Standing
    options: RequestOptions

    def choice(self) -> Choice:
        """A new choice, to be fed what it says."""
        functions = [function_of(tool) for tool in self.tools.callable]
        tongue = self.service.prompter.tongue
        parser = AnswerParser(tongue, functions, self.tools.max_calls, self.standing, calls_first=self.calls_first)
        return Choice(parser, frozenset(self.body.stop_token_ids or ()), self.tools.custom)

    def remember(self, choice: Choice, completion: Completion) -> None:
        """Know the answer again when it comes back, and have all of it in the cache by then.

        Its last tokens were never computed if nothing followed them: those that were forced, or one at the limit; nor
        those that stand in place of what was cut off.
        What was cut inside a call is not known again: the beginning of a call is no part of the answer.
        """
        is_next_message = self.body.prompt_token_ids is None and ending(self.body) == "prompt"
        if not is_next_message or self.body.skip_special_tokens is False or choice.parser.is_cut_in_call:
            return
        answer = choice.answer
        key = answer_key(answer.content, [(made.name, made.arguments) for made in answer.calls], answer.reasoning)
        prompter, tokens = self.service.prompter, completion.tokens
        namespace = self.options["namespace"]
        ran = prompter.remember(self.prompt, namespace, completion.text, key, tokens)
        said = ran[len(self.prompt.tokens) :]
        if tokens and (len(said) >= len(tokens) or said != list(tokens[: len(said)])):
            self.service.compute_later(ran, self.options, self.body.priority or 0)
        is_idle = self.service.limiter.num_inside <= 1  # but for this very answer
        if self.service.config.compute_ahead and prompter.tongue.changes_turns and is_idle:
            self.service.later(self._compute_next_beginning, answer, ran, self.service.idle.ticket())

    def _compute_next_beginning(self, answer: Answer, ran: Sequence[int], ticket: int) -> None:
        """Have in the cache what the next turn will begin with, where the template writes it otherwise than it ran."""
        calls = [
            ToolCall(id=made.id, custom=CustomCall(name=made.name, input=made.arguments))
            if made.name in self.tools.custom
            else ToolCall(id=made.id, function=FunctionCall(name=made.name, arguments=made.arguments))
            for made in answer.calls
        ]
        said = Message(role="assistant", content=answer.content, tool_calls=calls or None)
        said.reasoning_content = answer.reasoning or None
        namespace, values = self.options["namespace"], template_values(self.body)
        with suppress(ApiError, StemmaError):  # a template that takes no user there, a prompt that is too long
            begins = self.service.prompter.next_beginning(
                [*self.body.messages, said], self.tools.offered, namespace, values
            )
            if begins[: len(ran)] != list(ran):
                self.service.idle.compute(ticket, begins, self.options)


@dataclass(slots=True)
class Choice:
    """One choice, whole or on its way: the parser, and what came of it so far.

    stops: tokens that cut an answer off, as stop strings do. custom: names of tools that are given a text, which is
    what the pieces of their calls have in place of arguments.
    """

    parser: AnswerParser
    stops: Collection[int] = ()
    custom: Collection[str] = ()
    answer: Answer = field(default_factory=Answer)
    _inputs: dict[int, InputReader] = field(default_factory=dict)

    def take(self, text: str) -> list[Piece]:
        """What has become certain with more text."""
        return self._put(self.parser.push(text))

    def finish(self, completion: Completion) -> list[Piece]:
        """What was held back."""
        is_stopped = completion.stopped_by is not None or (completion.tokens and completion.tokens[-1] in self.stops)
        is_whole = completion.finish_reason == "stop" and not is_stopped
        return self._put(self.parser.finish() if is_whole else self.parser.cut())

    def _put(self, pieces: list[Piece]) -> list[Piece]:
        told = [each for piece in pieces if (each := self._told(piece)) is not None]
        for piece in told:
            self.answer.add(piece)
        return told

    def _told(self, piece: Piece) -> Piece | None:
        """A piece as clients are given it; None for nothing yet."""
        match piece:
            case ToolCallStart(number, _, name) if name in self.custom:
                self._inputs[number] = InputReader()
            case ToolCallArguments(number, text) if number in self._inputs:
                said = self._inputs[number].push(text)
                return ToolCallArguments(number, said) if said else None
        return piece

    def is_custom(self, number: int) -> bool:
        """Whether the call of this number is one of a tool that is given a text."""
        return number in self._inputs

    def num_reasoning(self, completion: Completion, offsets: TextOffsets) -> int:
        """Tokens of the thoughts. offsets: of a text in which the tongue's marks are shown."""
        end = self.parser.reasoning_len
        return sum(offsets.next(token) < end for token in completion.tokens) if end else 0

    def finish_reason(self, completion: Completion) -> str:
        """ "tool_calls" if the answer ended with calls that are whole, else the engine's."""
        has_whole_calls = bool(self.answer.calls) and not self.parser.is_cut_in_call
        return "tool_calls" if has_whole_calls and completion.finish_reason == "stop" else completion.finish_reason


def calls_first(constraint: OutputConstraint | None) -> bool:
    """Whether an answer under this constraint has its calls at its beginning, or none."""
    return constraint is not None and isinstance(constraint.spec, AnswerGrammar) and constraint.spec.otherwise != "text"
