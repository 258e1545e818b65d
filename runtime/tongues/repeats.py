"""An answer that makes a call a second time ends before it: the same call twice is of no use, and a small model that
has begun to repeat one goes on up to the limit.

    <tool_call>{"name": "f", "arguments": {"x": 1}  }</tool_call>\\n<tool_call>{"name": "f", "arguments": {"x": 1}
    certain --------------------------------------| held back: it may become the same call                      | it is
    told    --------------------------------------| }</tool_call>

Where few calls are possible the grammar itself has none twice (`stemma.runtime.tongues.distinct`).
"""

from __future__ import annotations

from stemma.runtime.tongues import slots
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.parser import MadeCall, parser_of
from stemma.runtime.tongues.slots import Found


class RepeatWatch:
    """Follows the text of one answer until it repeats a call: the same function, and the same text of its arguments."""

    def __init__(self, grammar: AnswerGrammar) -> None:
        self._grammar = grammar
        self._parser = parser_of(grammar)
        self._text = ""
        self._num_whole = 0
        self._num_new = 1  # calls that are known not to repeat one; the first cannot

    @classmethod
    def of(cls, grammar: object) -> RepeatWatch | None:
        """For an answer of this grammar; None where it makes one call at most."""
        if not isinstance(grammar, AnswerGrammar) or not grammar.functions or grammar.max_calls == 1:
            return None
        return None if grammar.tongue.calls.again is None else cls(grammar)

    def push(self, text: str) -> str | None:
        """More text. If a call in it repeats one: all of the answer's text, which ends with the call before."""
        self._text += text
        self._parser.push(text)
        calls = self._parser.calls
        num_whole = len(calls) - self._parser.is_in_arguments
        for index in range(self._num_whole, num_whole):
            if any(_is_same(made, calls[index]) for made in calls[:index]):
                return self._ended(index)
        self._num_whole = num_whole
        self._num_new = max(self._num_new, num_whole)
        if len(calls) > self._num_new and not any(_may_become(calls[-1], made) for made in calls[:-1]):
            self._num_new = len(calls)
        return None

    @property
    def num_held(self) -> int:
        """Characters at the end that go if a call is repeated."""
        calls = self._parser.calls
        if len(calls) > self._num_new:
            return len(self._text) - calls[-2].end
        return len(self._text) - calls[-1].end if calls and self._parser.is_between else 0

    def _ended(self, index: int) -> str:
        """The text without the call of this index and those behind it, with what stands behind a last call."""
        form = self._grammar.tongue.calls
        assert form.again is not None
        end, number = self._parser.calls[index - 1].end, index + form.counts_from
        names = [function.name for function in self._grammar.functions]
        found = slots.read(form.again, self._text[end:], names, number)
        assert isinstance(found, Found)
        return self._text[:end] + slots.write(form.last, "", found.id, number)


def _is_same(one: MadeCall, other: MadeCall) -> bool:
    return (one.name, one.arguments) == (other.name, other.arguments)


def _may_become(begun: MadeCall, made: MadeCall) -> bool:
    return begun.name == made.name and made.arguments.startswith(begun.arguments)
