"""What a state has said and heard, as an immutable value, and the tokens that go to the model for it.

Generated tokens stand in it as ids and are never encoded again; text is encoded when it is needed:

tokens    |<-- base: up to the last generated token -->|<- text ->|<- what the template writes behind it ->|<- text ->|
          | turns ...            | answer, `covered`   | its rest | its end, new turns, prompt of an answer | prefix   |

No I/O, no engine: a transcript is copied by reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from stemma.lang.values.tools import Tool
from stemma.runtime.errors import ModelError, StateError
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.tongues.calls import Call
from stemma.runtime.tongues.history import for_template
from stemma.runtime.tongues.tongue import Tongue

Role = Literal["system", "user", "assistant", "tool"]


class WrittenCall(NamedTuple):
    """A call in an answer. arguments: as JSON text."""

    id: str
    name: str
    arguments: str


class Message(NamedTuple):
    """One turn, or a plain text, whose role is empty. calls: of an answer. call_id: whose result it is."""

    role: str
    content: str
    calls: tuple[WrittenCall, ...] = ()
    call_id: str = ""

    @property
    def value(self) -> dict[str, Any]:
        """As OpenAI writes it."""
        value: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            value["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.calls
            ]
        return value | ({"tool_call_id": self.call_id} if self.call_id else {})

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Message:
        """From what `value` is. Raises KeyError or TypeError for anything else."""
        calls = tuple(
            WrittenCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in value.get("tool_calls") or ()
        )
        return cls(value["role"], value["content"] or "", calls, value.get("tool_call_id") or "")


class Encoder(NamedTuple):
    """A model's text: what turns a transcript into tokens."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    tongue: Tongue


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text or a chat so far.

    messages: turns, the last one open; a plain text is one message without a role.
    base: tokens up to and with the last generated one. answer: index of the message it is in.
    covered: characters of that message that `base` stands for.
    tools: what the model is told that it may call.
    """

    messages: tuple[Message, ...] = ()
    base: tuple[int, ...] = ()
    answer: int | None = None
    covered: int = 0
    tools: tuple[Tool, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is text without turns."""
        return bool(self.messages) and not self.messages[0].role

    @property
    def is_answering(self) -> bool:
        """Whether the open turn is the model's."""
        return bool(self.messages) and self.messages[-1].role == "assistant"

    @property
    def open_text(self) -> str:
        """The text of the open turn."""
        return self.messages[-1].content if self.messages else ""

    @property
    def waiting(self) -> tuple[WrittenCall, ...]:
        """Calls of the last answer whose results are not there."""
        told = []
        for message in reversed(self.messages):
            if message.role != "tool":
                return tuple(call for call in message.calls if call.id not in told)
            told.append(message.call_id)
        return ()

    # Growing ----------------------------------------------------------------
    def with_tools(self, tools: Sequence[Tool]) -> Transcript:
        """With these functions that may be called. Raises StateError where the model has spoken without them."""
        if self.is_plain or self.base:
            raise StateError("tools() comes before the first answer, in a state with turns: prompts begin with them")
        return replace(self, tools=tuple(tools))

    def with_result(self, call_id: str, text: str) -> Transcript:
        """With what a call of the last answer resulted in. Raises StateError if none of these waits for it."""
        if call_id not in [call.id for call in self.waiting]:
            raise StateError(f"no call waits for this result; there wait {[call.name for call in self.waiting]}")
        return replace(self, messages=(*self.messages, Message("tool", text, call_id=call_id)))

    def with_turn(self, role: Role, text: str) -> Transcript:
        """A new turn; an answer that is open already goes on. Raises StateError behind plain text, or behind calls
        without results."""
        self._check_results()
        if self.is_plain:
            raise StateError(f"{role}() cannot follow plain text: begin the state with a role, or go on with text()")
        if role == "assistant" and self.is_answering:
            return self.with_text(text)
        return replace(self, messages=(*self.messages, Message(role, text)))

    def with_text(self, text: str) -> Transcript:
        """More text in the open turn; without turns, more plain text. Raises StateError behind calls."""
        self._check_results()
        if not self.messages:
            return replace(self, messages=(Message("", text),))
        *before, last = self.messages
        if last.role == "tool":
            raise StateError("a result is whole: go on with user(), or let the model speak")
        return replace(self, messages=(*before, Message(last.role, last.content + text)))

    def _check_results(self) -> None:
        if self.waiting:
            names = ", ".join(call.name for call in self.waiting)
            raise StateError(f"the model has called {names}: give its result with result() first")

    def answering(self) -> Transcript:
        """The same, ready for the model to speak: in the answer that is open, in a new one, or in plain text."""
        self._check_results()
        if self.is_plain or self.is_answering:
            return self
        return self.with_turn("assistant", "") if self.messages else self.with_text("")

    def with_generated(
        self, prompt: tuple[int, ...], tokens: tuple[int, ...], text: str, uncovered: str,
        calls: tuple[WrittenCall, ...] = (),
    ) -> Transcript:  # fmt: skip
        """What the model said, behind `prompt`: `tokens` stand for `text` and calls, but for the end `uncovered`."""
        grown = self.answering().with_text(text)
        covered = len(grown.open_text) - len(uncovered)
        messages = (*grown.messages[:-1], grown.messages[-1]._replace(calls=calls))
        return replace(self, messages=messages, base=prompt + tokens, answer=len(messages) - 1, covered=covered)

    # Encoding ----------------------------------------------------------------
    def encode(self, encoder: Encoder) -> tuple[int, ...]:
        """Its tokens. Raises ModelError for turns without a chat template, ChatTemplateError if that refuses them."""
        tokenizer = encoder.tokenizer
        if not self.messages:
            return ()
        if self.answer == len(self.messages) - 1:
            return (*self.base, *tokenizer.encode_continuation(self.open_text[self.covered :]))
        if self.is_plain:
            return tuple(tokenizer.encode_prompt(self.open_text))
        prefix = tokenizer.encode_continuation(self.open_text) if self.is_answering else []
        return (*self._encode_closed(encoder), *prefix)

    def _encode_closed(self, encoder: Encoder) -> list[int]:
        """Tokens up to where the open answer begins, or up to the end of the turns if none is open."""
        template = encoder.chat_template
        if template is None:
            raise ModelError("this model has no chat template: use text() and gen(), or an instruct model")
        closed = self.messages[:-1] if self.is_answering else self.messages
        messages = [message.value for message in closed]
        told = [tool.told for tool in self.tools]
        if self.answer is None:
            given = for_template(messages, told, encoder.tongue)
            return template.encode_chat(
                given.messages, add_generation_prompt=self.is_answering, tools=given.tools, **given.values
            )
        mark = template.absent_word([*messages, *told])
        messages[self.answer], behind = _marked(self.messages[self.answer], mark, encoder.tongue)
        given = for_template(messages, told, encoder.tongue)
        after = template.encode_after(
            given.messages, mark, behind, add_generation_prompt=self.is_answering, tools=given.tools, **given.values
        )
        rest = encoder.tokenizer.encode_continuation(self.messages[self.answer].content[self.covered :])
        return [*self.base, *rest, *after]


class Marked(NamedTuple):
    """An answer with a mark in it, and what the template writes of it behind the mark."""

    value: dict[str, Any]
    behind: str


def _marked(answer: Message, mark: str, tongue: Tongue) -> Marked:
    """In place of its words; where the template writes calls, in the last of them.

    <tool_call>\\n{"name": "f", "arguments": {"x": "MARK"}}\\n</tool_call>
                                              behind     ^^^^^^^^^^^^^^^^^
    """
    if not (answer.calls and tongue.is_written):
        return Marked({"role": answer.role, "content": mark}, "")
    calls = (*answer.calls[:-1], answer.calls[-1]._replace(arguments=json.dumps({"x": mark})))
    written = tongue.calls.write([Call(call.name, json.loads(call.arguments), call.id) for call in calls])
    return Marked(answer._replace(calls=calls).value, written.rpartition(mark)[2])


class Kept(NamedTuple):
    """The tokens of a completion that stay in a transcript, and the end of its text that they do not stand for."""

    tokens: tuple[int, ...]
    uncovered: str

    def closed(self, tokenizer: Tokenizer) -> Kept:
        """With tokens for that end, which is what ends calls where one that was repeated was cut off."""
        return Kept((*self.tokens, *tokenizer.encode_more_template(self.uncovered)), "")


def keep(
    tokens: tuple[int, ...], text: str, tokenizer: Tokenizer, shown: Mapping[int, str] = MappingProxyType({})
) -> Kept:
    """Leave out end tokens, and tokens behind a stop string; a token that a stop string cut is given back as text.

    shown: special tokens that stand in the text.
    """
    end = len(tokens)
    while end and tokenizer.token_bytes(tokens[end - 1]) is None and tokens[end - 1] not in shown:
        end -= 1
    pieces = [tokenizer.token_bytes(token) or shown.get(token, "").encode() for token in tokens[:end]]
    if b"".join(pieces).decode("utf-8", "replace") == text:
        return Kept(tokens[:end], "")
    wanted, covered = text.encode(), b""
    for index, piece in enumerate(pieces):
        if not wanted.startswith(covered + piece) or covered == wanted:
            return Kept(tokens[:index], wanted[len(covered) :].decode("utf-8", "replace"))
        covered += piece
    return Kept(tokens[:end], wanted[len(covered) :].decode("utf-8", "replace"))
