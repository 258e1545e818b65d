"""What `stemma.llm_plugin` asks of a model: a prompt of `llm`'s to tokens and forms, an answer to what `llm` shows.

Calls and thoughts are read as the model's own template writes them; the functions are run by `llm`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import llm
from llm.parts import Message, ReasoningPart, StreamEvent, TextPart, ToolCallPart, ToolResultPart

from stemma.fsm.json_schema import JSONSchema
from stemma.lang.remote.connect import Remote
from stemma.runtime.engine import Completion, Engine, Generation, RequestOptions
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.errors import ModelError
from stemma.runtime.tongues.answer_grammar import MAX_CALLS, AnswerGrammar, behind_thoughts
from stemma.runtime.tongues.closed_schema import closed
from stemma.runtime.tongues.functions import Function, function_of
from stemma.runtime.tongues.history import for_template
from stemma.runtime.tongues.parser import AnswerParser
from stemma.runtime.tongues.pieces import Answer, Piece, ReasoningPiece, TextPiece
from stemma.runtime.tongues.tongue import Standing, Tongue, prompt_end

Backend = Engine | Remote


@dataclass(slots=True)
class LlmAnswer:
    """An answer under way."""

    generation: Generation
    parser: AnswerParser
    _answer: Answer = field(default_factory=Answer)

    def told(self, text: str) -> Iterator[str | StreamEvent]:
        """What more of its text tells."""
        yield from self._told(self.parser.push(text))

    def ended(self, completion: Completion, response: Any) -> Iterator[str | StreamEvent]:
        """What was held back; calls and costs are the response's to know."""
        is_whole = completion.finish_reason == "stop" and completion.stopped_by is None
        yield from self._told(self.parser.finish() if is_whole else self.parser.cut())
        calls = self._answer.calls[:-1] if self.parser.is_in_arguments else self._answer.calls
        for call in calls:
            arguments = json.loads(call.arguments or "{}")
            response.add_tool_call(llm.ToolCall(call.name, arguments, tool_call_id=call.id))
        usage = completion.usage
        response.set_usage(input=usage.prompt_tokens, output=usage.completion_tokens, details=usage._asdict())

    def _told(self, pieces: Sequence[Piece]) -> Iterator[str | StreamEvent]:
        for piece in pieces:
            self._answer.add(piece)
            match piece:
                case TextPiece(text):
                    yield text
                case ReasoningPiece(text):
                    yield StreamEvent(type="reasoning", chunk=text)


class Asked(NamedTuple):
    """Where a prompt leaves the model, and what it may call then."""

    tongue: Tongue
    functions: Sequence[Function]
    standing: Standing

    def grammar(self, schema: dict[str, Any] | None) -> GrammarSpec | None:
        """What the answer must match; None for anything."""
        form = None if not schema else JSONSchema(closed(schema))
        if self.functions:
            return AnswerGrammar(self.tongue, tuple(self.functions), MAX_CALLS, form or "text", self.standing)
        return None if form is None else behind_thoughts(form, self.tongue, self.standing)


def ask(backend: Backend, prompt: Any) -> LlmAnswer:
    """Start the answer to a prompt. Raises ModelError for a model without a chat template."""
    template, tongue = backend.chat_template, backend.tongue
    if template is None:
        raise ModelError("this model has no chat template")
    tools = [tool for tool in prompt.tools if isinstance(tool, llm.Tool)]
    given = for_template(messages_of(prompt.messages), [_told_of(tool) for tool in tools], tongue)
    tokens = template.encode_chat(given.messages, tools=given.tools, **given.values)
    functions = [function_of(tool.name, tool.input_schema or {}) for tool in tools]
    asked = Asked(tongue, functions, tongue.standing(prompt_end(tokens, backend.tokenizer)))
    options = _options(prompt)
    options["shown_tokens"] = [backend.tokenizer.special[text] for text in sorted(tongue.shown)]
    grammar = asked.grammar(prompt.schema)
    if grammar is not None:
        options["grammar"] = grammar
    calls_first = bool(functions and prompt.schema)
    parser = AnswerParser(tongue, functions, MAX_CALLS, asked.standing, calls_first=calls_first)
    return LlmAnswer(backend.submit(tokens, **options), parser)


def messages_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A chat of `llm`'s as OpenAI writes it. A system message that comes again is told once."""
    made: list[dict[str, Any]] = []
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        made += [
            {"role": "tool", "name": part.name, "tool_call_id": part.tool_call_id, "content": part.output}
            for part in results
        ]
        said = _said(message)
        if not results and said not in (made if message.role == "system" else ()):
            made.append(said)
    return made


def _said(message: Message) -> dict[str, Any]:
    text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    said: dict[str, Any] = {"role": message.role, "content": text}
    if thoughts := "".join(part.text for part in message.parts if isinstance(part, ReasoningPart)):
        said["reasoning_content"] = thoughts
    if calls := [part for part in message.parts if isinstance(part, ToolCallPart)]:
        said["tool_calls"] = [
            {"id": part.tool_call_id, "function": {"name": part.name, "arguments": json.dumps(part.arguments)}}
            for part in calls
        ]
    return said


def _told_of(tool: llm.Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema or {}}
    return {"type": "function", "function": function}


def _options(prompt: Any) -> RequestOptions:
    given = prompt.options
    options = RequestOptions(max_tokens=given.max_tokens, seed=given.seed)
    if given.temperature is not None:
        options["temperature"] = given.temperature
    if given.top_p is not None:
        options["top_p"] = given.top_p
    return options
