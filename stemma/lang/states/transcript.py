"""What a state has said and heard, as an immutable value, and the tokens that go to the model for it.

Generated tokens stand in it as ids and are never encoded again; text is encoded when it is needed:

tokens    |<-- base: up to the last generated token -->|<- text ->|<- what the template writes behind it ->|<- text ->|
          | turns ...            | answer, `covered`   | its rest | its end, new turns, prompt of an answer | prefix   |

No I/O, no engine: a transcript is copied by reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from stemma.runtime.errors import ModelError, StateError
from stemma.runtime.model import ChatTemplate, Tokenizer

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn, or a plain text, whose role is empty."""

    role: str
    content: str


class Encoder(NamedTuple):
    """A model's text: what turns a transcript into tokens."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate | None


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text or a chat so far.

    messages: turns, the last one open; a plain text is one message without a role.
    base: tokens up to and with the last generated one. answer: index of the message it is in.
    covered: characters of that message that `base` stands for.
    """

    messages: tuple[Message, ...] = ()
    base: tuple[int, ...] = ()
    answer: int | None = None
    covered: int = 0

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

    # Growing ----------------------------------------------------------------
    def with_turn(self, role: Role, text: str) -> Transcript:
        """A new turn; an answer that is open already goes on. Raises StateError behind plain text."""
        if self.is_plain:
            raise StateError(f"{role}() cannot follow plain text: begin the state with a role, or go on with text()")
        if role == "assistant" and self.is_answering:
            return self.with_text(text)
        return replace(self, messages=(*self.messages, Message(role, text)))

    def with_text(self, text: str) -> Transcript:
        """More text in the open turn; without turns, more plain text."""
        if not self.messages:
            return replace(self, messages=(Message("", text),))
        *before, last = self.messages
        return replace(self, messages=(*before, Message(last.role, last.content + text)))

    def answering(self) -> Transcript:
        """The same, ready for the model to speak: in the answer that is open, in a new one, or in plain text."""
        if self.is_plain or self.is_answering:
            return self
        return self.with_turn("assistant", "") if self.messages else self.with_text("")

    def with_generated(self, prompt: tuple[int, ...], tokens: tuple[int, ...], text: str, uncovered: str) -> Transcript:
        """What the model said, behind `prompt`: `tokens` stand for `text`, but for its end `uncovered`."""
        grown = self.answering().with_text(text)
        covered = len(grown.open_text) - len(uncovered)
        return Transcript(grown.messages, prompt + tokens, len(grown.messages) - 1, covered)

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
        messages: list[dict[str, Any]] = [message._asdict() for message in closed]
        if self.answer is None:
            return template.encode_chat(messages, add_generation_prompt=self.is_answering)
        rest = encoder.tokenizer.encode_continuation(self.messages[self.answer].content[self.covered :])
        after = template.encode_after(messages, self.answer, add_generation_prompt=self.is_answering)
        return [*self.base, *rest, *after]


class Kept(NamedTuple):
    """The tokens of a completion that stay in a transcript, and the end of its text that they do not stand for."""

    tokens: tuple[int, ...]
    uncovered: str


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
