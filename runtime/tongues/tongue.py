"""A tongue: all that a model's answers are written with. Made by `recognise`; plain values, hashable, of any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stemma.runtime.model import Tokenizer
from stemma.runtime.tongues.calls import CallForm
from stemma.runtime.tongues.marks import Marks

Standing = Literal["thinking", "answering", "either"]
"""Where a prompt leaves the model: inside its thoughts, behind them, or free to think first."""


IN_SYSTEM = "messages[0].tools"
"""In place of a value's name: tools are a field of the system message, as JSON text."""

PARTS = "parts"
"""In place of a field: thoughts are a part of the content."""


def text_parts(text: str) -> list[dict[str, Any]]:
    """A content as a list of parts."""
    return [{"type": "text", "text": text}]


def thoughtful(field: str, thoughts: str, content: str) -> dict[str, Any]:
    """Fields of a message with thoughts."""
    if field != PARTS:
        return {field: thoughts, "content": content}
    words = text_parts(content) if content else []
    return {"content": [{"type": "thinking", "thinking": thoughts}, *words]}


@dataclass(frozen=True)
class Reasoning:
    """What stands around thoughts. gap: between their end and the answer, as the template writes it.

    field: of a message, where the template looks for them, or PARTS; None if it leaves them out. excludes_words: beside
    calls, it takes either thoughts or words.
    """

    opens: str
    closes: str
    gap: str = ""
    field: str | None = "reasoning_content"
    excludes_words: bool = False


@dataclass(frozen=True)
class Tongue:
    """How a model is told of tools, and what its answers look like.

    is_told: the template tells tools, as the value told_as or IN_SYSTEM. is_written: it writes calls and their results;
    else calls are written here.
    writes_results: it writes results even so.
    opens, closes: what stands around the words of an answer. has_text_arguments: the template wants them as JSON text.
    has_short_ids: it takes ids of nine letters and digits only. has_system: it takes system messages.
    has_null_content: it writes calls only of messages whose content is null, so without words.
    has_parts: it takes contents as lists of parts, and leaves out those that are text.
    changes_turns: it writes earlier turns otherwise than they stood in the prompts of their answers.
    """

    calls: CallForm
    is_told: bool = False
    told_as: str = "tools"
    is_written: bool = False
    writes_results: bool = False
    reasoning: Reasoning | None = None
    opens: str = ""
    closes: str = ""
    marks: Marks = field(default_factory=Marks)
    has_text_arguments: bool = False
    has_short_ids: bool = False
    has_system: bool = True
    has_null_content: bool = False
    has_parts: bool = False
    changes_turns: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether an answer without calls is its text."""
        return self.reasoning is None and not self.opens and not self.closes

    @property
    def shown(self) -> frozenset[str]:
        """Special tokens that its answers are read by."""
        forms = (self.calls.first, self.calls.again or (), self.calls.last, *self.calls.variants)
        texts = [part for form in forms for part in form if isinstance(part, str)]
        texts += [self.opens, self.closes, *self.calls.arguments.literals()]
        if self.reasoning is not None:
            texts += [self.reasoning.opens, self.reasoning.closes, self.reasoning.gap]
        return frozenset(mark for text in texts for mark in self.marks.inside(text))

    def standing(self, prompt_end: str) -> Standing:
        """Where a prompt of this end leaves the model."""
        if self.reasoning is None:
            return "answering"
        end = prompt_end.rstrip()
        if end.endswith(self.reasoning.closes.strip()):
            return "answering"
        return "thinking" if end.endswith(self.reasoning.opens.strip()) else "either"


WINDOW = 48
"""Tokens at the end of a prompt that tell where it leaves the model."""


def prompt_end(prompt: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of a prompt's last tokens, special ones with their names."""
    names = tokenizer.special_names
    pieces = (names.get(token, "").encode() or tokenizer.token_bytes(token) or b"" for token in prompt[-WINDOW:])
    return b"".join(pieces).decode("utf-8", "replace")
