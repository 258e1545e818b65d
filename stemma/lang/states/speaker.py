"""A model's turn in a chat, by its tongue: special tokens that are shown, forms that bind behind the thoughts, tools
that may be called, and what was said told apart from what was thought."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from stemma.lang.backend import Backend
from stemma.lang.states.transcript import Transcript, WrittenCall
from stemma.lang.values.hearing import Ear, PlainEar, TongueEar
from stemma.lang.values.tools import Tool, ToolCall
from stemma.runtime.engine import Completion, RequestOptions
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.errors import IncompleteOutput, StateError
from stemma.runtime.tongues.answer_grammar import MAX_CALLS, AnswerGrammar, Otherwise
from stemma.runtime.tongues.parser import AnswerParser
from stemma.runtime.tongues.pieces import Answer
from stemma.runtime.tongues.tongue import Standing, Tongue, prompt_end

"""Calls of one answer, if nothing else is said: a model that repeats itself has an end."""


class Calling(NamedTuple):
    """What a turn may call, and whether it must."""

    tools: tuple[Tool, ...]
    max_calls: int
    is_required: bool


NOTHING = Calling((), MAX_CALLS, False)


@dataclass(frozen=True, slots=True)
class Speaker:
    """How one output is asked for and read. shown: special tokens in its text. tongue: None for plain words."""

    tongue: Tongue | None = None
    standing: Standing = "answering"
    shown: Mapping[int, str] = field(default_factory=dict)
    calling: Calling = NOTHING

    @classmethod
    def of(cls, llm: Backend, transcript: Transcript, prompt: Sequence[int]) -> Speaker:
        """Of a turn that begins; a text, and a turn that goes on, are plain words."""
        tongue = llm.tongue
        if transcript.is_plain or transcript.open_text or tongue.is_plain:
            return cls()
        return cls._of(llm, prompt)

    @classmethod
    def with_tools(cls, llm: Backend, transcript: Transcript, prompt: Sequence[int], calling: Calling) -> Speaker:
        """Of a turn that may call. Raises StateError without tools, and in a turn that goes on."""
        if not transcript.tools:
            raise StateError("there is nothing to call: offer functions with tools() first")
        if transcript.open_text:
            raise StateError("an answer calls at its beginning or not at all: this one has begun")
        return replace(cls._of(llm, prompt), calling=calling)

    @classmethod
    def _of(cls, llm: Backend, prompt: Sequence[int]) -> Speaker:
        shown = {llm.tokenizer.special[text]: text for text in llm.tongue.shown}
        return cls(llm.tongue, llm.tongue.standing(prompt_end(prompt, llm.tokenizer)), shown)

    def over(self, options: RequestOptions) -> RequestOptions:
        """These options, for a turn of this tongue."""
        if self.tongue is None:
            return options
        told: RequestOptions = {**options, "shown_tokens": list(self.shown)}
        grammar = told.get("grammar")
        if grammar is not None or self.calling.tools:
            functions = tuple(tool.function for tool in self.calling.tools)
            otherwise: GrammarSpec | Otherwise = "nothing" if self.calling.is_required else grammar or "text"
            told["grammar"] = AnswerGrammar(self.tongue, functions, self.calling.max_calls, otherwise, self.standing)
        return told

    def without_close(self, text: str) -> str:
        """An output without what closes its words, which the template writes itself behind an answer."""
        return text if self.tongue is None else text.removesuffix(self.tongue.closes)

    def ear(self) -> Ear:
        """For the text as it comes."""
        return PlainEar() if self.tongue is None else TongueEar(self._parser(self.tongue))

    def _parser(self, tongue: Tongue) -> AnswerParser:
        functions = [tool.function for tool in self.calling.tools]
        return AnswerParser(tongue, functions, self.calling.max_calls, self.standing)

    def heard(self, completion: Completion) -> Answer:
        """All that was said, thought and called. Raises IncompleteOutput for one that was cut inside a call."""
        if self.tongue is None:
            return Answer(completion.text)
        parser, answer = self._parser(self.tongue), Answer()
        is_whole = completion.finish_reason == "stop" and completion.stopped_by is None
        pieces = parser.push(completion.text)
        pieces += parser.finish() if is_whole or not self.calling.tools else parser.cut()
        for piece in pieces:
            answer.add(piece)
        if parser.is_cut_in_call:
            raise _cut(completion)
        return answer

    def calls(self, answer: Answer, completion: Completion) -> tuple[ToolCall, ...]:
        """The calls of what was heard, as values. Raises IncompleteOutput as `heard`."""
        tools = {tool.name: tool for tool in self.calling.tools}
        try:
            return tuple(
                ToolCall(call.id, call.name, json.loads(call.arguments), tools[call.name]) for call in answer.calls
            )
        except ValueError:
            raise _cut(completion) from None


def written(answer: Answer) -> tuple[WrittenCall, ...]:
    """The calls of what was heard, for a transcript."""
    return tuple(WrittenCall(call.id, call.name, call.arguments) for call in answer.calls)


def _cut(completion: Completion) -> IncompleteOutput:
    return IncompleteOutput(
        f"the output ended ({completion.finish_reason}) inside a call: raise max_tokens, leave out stop strings; there "
        f"are {len(completion.tokens)} tokens, {completion.text!r:.80}",
        completion.text,
    )
