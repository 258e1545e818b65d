"""The text of an answer, as it comes, to thoughts, words and calls. Special tokens that are marks stand in the text."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from stemma.runtime.tongues import slots
from stemma.runtime.tongues.answer_grammar import AnswerGrammar, is_only_first
from stemma.runtime.tongues.functions import Function, Reader
from stemma.runtime.tongues.marks import earliest, held
from stemma.runtime.tongues.pieces import Piece, ReasoningPiece, TextPiece, ToolCallArguments, ToolCallStart
from stemma.runtime.tongues.slots import Found, Slots, Unsure
from stemma.runtime.tongues.tongue import Standing, Tongue


class MadeCall(NamedTuple):
    """A call as far as it was read: its function, the JSON text of its arguments. end: of what was read of it, in the
    text."""

    name: str
    arguments: str
    end: int


class AnswerParser:
    """Turns text into pieces, the same however it is cut.

    <think> ... </think>  words  <tool_call>{"name": "f", "arguments":  {...}      }</tool_call>
    BEGIN   THINKING      TEXT   HEAD                                   ARGUMENTS  BETWEEN

    What looks like a call and is none stays content; the beginning of a call, at which the answer was cut off, is none.
    """

    def __init__(
        self, tongue: Tongue, functions: Sequence[Function] = (), max_calls: int | None = None,
        standing: Standing = "answering", *, calls_first: bool = False,
    ) -> None:  # fmt: skip
        """calls_first: an answer with calls begins with one; any other is content, whatever is in it."""
        self._tongue = tongue
        self._functions = {function.name: function for function in functions}
        self._max_calls = max_calls
        mark = tongue.calls.mark(tongue.marks)
        self._is_first_only = calls_first or is_only_first(mark, tongue)
        starts = (tongue.calls.first, *tongue.calls.variants) if functions else ()
        self._starts = tuple(text for start in starts for text in _beginnings(start, list(self._functions)))
        self._marks = (mark,) if functions and mark else ()
        self._buffer = ""
        self._num_taken = 0
        self._state: Callable[[], Iterator[Piece]] = {
            "thinking": self._thinking, "either": self._begin, "answering": self._start
        }[standing]  # fmt: skip
        self._reader: Reader | None = None
        self._is_late = False  # the last call waits for its id
        self._is_end = False
        self.calls: list[MadeCall] = []
        """Those that have begun; all but the last are whole, and the last one unless `is_in_arguments`."""
        self.is_cut_in_call = False
        self.reasoning_len = 0
        """Characters of the text that are thoughts, with what stands around them."""

    def push(self, text: str) -> list[Piece]:
        """What has become certain."""
        self._buffer += text
        return list(self._run())

    def finish(self) -> list[Piece]:
        """The rest of an answer that ended by itself."""
        self._is_end = True
        pieces = list(self._run())
        rest = self._take(len(self._buffer))
        if self._state == self._thinking:
            pieces += self._thought(rest)
        elif self._state in (self._begin, self._behind, self._start, self._text, self._head):
            pieces += [TextPiece(rest)] if rest and not (self.calls and not rest.strip()) else []
        return pieces + list(self._told_late(""))

    def cut(self) -> list[Piece]:
        """The rest of an answer that was cut off, by a limit or a stop string."""
        num_begun = self._num_begun()
        self.is_cut_in_call = num_begun > 0 or self._state in (self._head, self._arguments)
        if num_begun:
            self._buffer = self._buffer[:-num_begun].rstrip()
        elif self._state == self._head:
            self._buffer = ""
        return list(self._told_late("")) if self.is_in_arguments else self.finish()

    @property
    def is_in_arguments(self) -> bool:
        """Whether a call has begun whose arguments are not whole."""
        return self._state == self._arguments

    @property
    def is_between(self) -> bool:
        """Whether the last call is whole, and it is not known whether another follows."""
        return self._state == self._between

    def _num_begun(self) -> int:
        """Characters at the end that may become the beginning of a call."""
        if self._state == self._text:
            return held(self._buffer, self._marks)
        if self._state == self._start:
            return len(self._buffer) if any(start.startswith(self._buffer) for start in self._starts) else 0
        if self._state == self._between:
            last = slots.read(self._tongue.calls.last, self._buffer, (), 0)
            return len(self._buffer) - last.end if isinstance(last, Found) else 0
        return 0

    def _run(self) -> Iterator[Piece]:
        before = None
        while before != (before := (self._state, len(self._buffer), len(self.calls))):
            yield from self._state()

    def _take(self, length: int) -> str:
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        self._num_taken += length
        return taken

    # Thoughts ----------------------------------------------------------------
    def _begin(self) -> Iterator[Piece]:
        reasoning = self._tongue.reasoning
        assert reasoning is not None
        opens, said = reasoning.opens.strip(), self._buffer.lstrip()
        if said.startswith(opens):
            self._take(len(self._buffer) - len(said) + len(opens))
            self._state = self._thinking
        elif not opens.startswith(said):
            self._state = self._start
        return iter(())

    def _thinking(self) -> Iterator[Piece]:
        reasoning = self._tongue.reasoning
        assert reasoning is not None
        closes = reasoning.closes.strip()
        if not self.reasoning_len:
            self._take(len(self._buffer) - len(self._buffer.lstrip()))
        end = self._buffer.find(closes)
        if end >= 0:
            yield from self._thought(self._take(end).rstrip())
            self._take(len(closes))
            self.reasoning_len = self._num_taken
            self._state = self._behind
            return
        sure = self._buffer[: len(self._buffer) - held(self._buffer, (closes,))].rstrip()
        yield from self._thought(self._take(len(sure)))

    def _thought(self, text: str) -> list[Piece]:
        if not text:
            return []
        self.reasoning_len = self._num_taken
        return [ReasoningPiece(text)]

    def _behind(self) -> Iterator[Piece]:
        """Between the thoughts and the answer."""
        reasoning = self._tongue.reasoning
        assert reasoning is not None
        gap, said = reasoning.gap.strip(), self._buffer.lstrip()
        if said.startswith(gap) and said:
            self._take(len(self._buffer) - len(said) + len(gap))
            self._state = self._start
        elif said and not gap.startswith(said):
            self._state = self._start
        self.reasoning_len = self._num_taken
        return iter(())

    # Words ----------------------------------------------------------------
    def _start(self) -> Iterator[Piece]:
        """Where words or calls begin."""
        opens = self._tongue.opens
        if opens and self._buffer.startswith(opens):
            self._take(len(opens))
            self._state = self._text
        elif any(self._buffer.startswith(mark) for mark in self._firsts):
            self._state = self._head
        elif not any(begin.startswith(self._buffer) for begin in (opens, *self._firsts) if begin):
            self._state = self._text
        return iter(())

    @property
    def _firsts(self) -> tuple[str, ...]:
        """What calls begin with at the start of an answer."""
        return self._starts if self._is_first_only else (*self._marks, *self._starts)

    def _text(self) -> Iterator[Piece]:
        marks = () if self._is_first_only else self._marks
        closes = self._tongue.closes.strip()
        found = earliest(self._buffer, (*marks, closes))
        if found is None:
            text = self._take(len(self._buffer) - self._num_held(marks, closes))
        else:
            at, mark = found
            text = self._take(at)
            if mark in marks:
                text, self._state = text.rstrip(), self._head
            else:
                self._take(len(mark))
                self._state = self._start
        if text:
            yield TextPiece(text)

    def _num_held(self, marks: Sequence[str], closes: str) -> int:
        """Characters at the end that may become white space before a mark, or the beginning of one."""
        begun = held(self._buffer, [mark for mark in (*marks, closes) if mark])
        if not (marks or closes):
            return begun
        body = self._buffer[: len(self._buffer) - begun]
        return len(self._buffer) - len(body.rstrip())

    # Calls ----------------------------------------------------------------
    def _head(self) -> Iterator[Piece]:
        calls = self._tongue.calls
        found = [slots.read(form, self._buffer, self._functions, calls.counts_from) for form in
                 (calls.first, *calls.variants)]  # fmt: skip
        known = next((each for each in found if isinstance(each, Found)), None)
        if known is not None:
            yield from self._called(known)
        elif self._is_end or not any(isinstance(each, Unsure) for each in found):
            mark = next((mark for mark in self._firsts if self._buffer.startswith(mark)), self._buffer)
            self._state = self._text
            if text := self._take(len(mark)):  # none, if the answer was cut off here
                yield TextPiece(text)

    def _called(self, found: Found) -> Iterator[Piece]:
        """A call begins."""
        self._take(found.end)
        self._reader = self._tongue.calls.arguments.reader(self._functions[found.name])
        self._state = self._arguments
        self.calls.append(MadeCall(found.name, "", self._num_taken))
        self._is_late = self._tongue.calls.has_late_ids
        if not self._is_late:
            yield ToolCallStart(len(self.calls) - 1, found.id or self._new_id(), found.name)

    def _arguments(self) -> Iterator[Piece]:
        assert self._reader is not None
        step = self._reader.read(self._buffer, self._is_end)
        self._take(step.taken)
        if self._reader.is_done:
            self._state = self._between
        name, arguments, _ = self.calls[-1]
        self.calls[-1] = MadeCall(name, arguments + step.json, self._num_taken)
        if step.json and not self._is_late:
            yield ToolCallArguments(len(self.calls) - 1, step.json)

    def _between(self) -> Iterator[Piece]:
        calls = self._tongue.calls
        number = len(self.calls) + calls.counts_from
        again: Found | Unsure | None = None
        if calls.again is not None and len(self.calls) != self._max_calls:
            again = slots.read(calls.again, self._buffer, self._functions, number)
        if isinstance(again, Unsure) and not self._is_end:
            return
        if isinstance(again, Found):
            yield from self._told_late(again.id)
            yield from self._called(again)
            return
        last = slots.read(calls.last, self._buffer, (), number)
        if isinstance(last, Unsure) and not self._is_end:
            return
        yield from self._told_late(last.id if isinstance(last, Found) else "")
        self._state = self._drop

    def _told_late(self, call_id: str) -> Iterator[Piece]:
        """A call that waited for its id."""
        if self._is_late:
            self._is_late = False
            name, arguments, _ = self.calls[-1]
            yield ToolCallStart(len(self.calls) - 1, call_id or self._new_id(), name)
            if arguments:
                yield ToolCallArguments(len(self.calls) - 1, arguments)

    def _drop(self) -> Iterator[Piece]:
        """What stands behind calls says nothing."""
        self._take(len(self._buffer))
        return iter(())

    def _new_id(self) -> str:
        short = self._tongue.has_short_ids or self._tongue.calls.has_ids
        return secrets.token_hex(5)[:9] if short else f"call_{secrets.token_hex(12)}"


def parser_of(grammar: AnswerGrammar) -> AnswerParser:
    """For answers that this grammar bound."""
    calls_first = grammar.otherwise != "text"
    return AnswerParser(grammar.tongue, grammar.functions, grammar.max_calls, grammar.standing, calls_first=calls_first)


def _beginnings(form: Slots, names: Sequence[str]) -> Sequence[str]:
    """The texts that a call may begin with."""
    return [form[0]] if isinstance(form[0], str) else names
