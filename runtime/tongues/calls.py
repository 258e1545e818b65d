"""How a model's calls are written: what stands before, between and behind their arguments, and the language of these.

first          arguments  again              arguments  last
<tool_call>..  {...}      ..</tool_call>...  {...}      ..</tool_call>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import EMPTY, choice, concat, optional, repeat
from stemma.runtime.tongues import slots
from stemma.runtime.tongues.distinct import Callable, told_apart
from stemma.runtime.tongues.functions import Arguments, Function
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.rules import Rules
from stemma.runtime.tongues.slots import Slot, Slots


class Call(NamedTuple):
    """A call as values."""

    name: str
    arguments: Mapping[str, Any]
    id: str = "000000000"


@dataclass(frozen=True)
class CallForm:
    """The calls of one answer.

    first: from what begins the first call to its arguments. variants: other ways in which the model begins one.
    again: from the end of one call's arguments to the next one's; None if an answer has one call only.
    last: what is behind the last call's arguments. gap: what the template has between words and calls.
    counts_from: the number of the first call, where calls are counted.
    """

    name: str
    arguments: Arguments
    first: Slots
    again: Slots | None
    last: Slots
    gap: str = ""
    variants: tuple[Slots, ...] = ()
    counts_from: int = 0

    @property
    def begins(self) -> str:
        """The literal text with which the first call begins."""
        return self.first[0] if self.first and isinstance(self.first[0], str) else ""

    def mark(self, marks: Marks) -> str:
        """What tells a call from words: a special token or a tag; else all that stands before the name."""
        return marks.first(self.begins)

    @property
    def has_late_ids(self) -> bool:
        """Whether a call's id stands behind its arguments."""
        return Slot.ID not in self.first and (Slot.ID in self.last or Slot.ID in (self.again or ()))

    @property
    def has_ids(self) -> bool:
        """Whether a call's id is a part of it."""
        return Slot.ID in self.first or self.has_late_ids

    def write(self, calls: Sequence[Call]) -> str:
        """As the template writes them, in one answer."""
        text = ""
        for number, call in enumerate(calls):
            before = self.first if number == 0 else self.again
            assert before is not None, "an answer of this model has one call"
            call_id = calls[number - 1].id if number and self.has_late_ids else call.id
            text += slots.write(before, call.name, call_id, number + self.counts_from)
            text += self.arguments.write(call.arguments)
        return text + slots.write(self.last, "", calls[-1].id, len(calls) + self.counts_from)

    def node(self, functions: Sequence[Function], max_calls: int, marks: Marks, rules: Rules) -> ast.Node:
        """One call or more, up to a maximum. Where few calls are possible, none is made twice."""
        told = told_apart(functions)
        if self.again is not None and max_calls > 1 and any(each.is_single for each in told):
            return self._each_once(told, self.again, max_calls, marks, rules)
        arguments = [rules.add(self.arguments.grammar(function, marks)) for function in functions]

        def calls(before: Slots, number: int) -> ast.Node:
            """A call of each function."""
            return choice(
                concat([slots.node(before, function.name, number, marks), given])
                for function, given in zip(functions, arguments, strict=True)
            )

        first = choice(calls(before, self.counts_from) for before in (self.first, *self.variants))
        last = slots.node(self.last, "", 0, marks)
        if self.again is None or max_calls == 1:
            return concat([first, last])
        if Slot.NUMBER not in self.again:
            return concat([first, repeat(calls(self.again, 0), 0, max_calls - 1), last])
        more = concat([])
        for number in range(max_calls - 1, 0, -1):
            more = optional(concat([calls(self.again, number + self.counts_from), more]))
        return concat([first, more, last])

    def _each_once(
        self, told: Sequence[Callable], again: Slots, max_calls: int, marks: Marks, rules: Rules
    ) -> ast.Node:
        """Such calls, where a single one is not made a second time."""
        arguments = [rules.add(self.arguments.grammar(each.function, marks)) for each in told]

        def calls(before: Slots, index: int, made: frozenset[int]) -> ast.Node:
            """The call of this index, one that was not made, and what may follow it."""
            ways = []
            for at, each in enumerate(told):
                if at not in made:
                    call = [slots.node(before, each.function.name, index + self.counts_from, marks), arguments[at]]
                    ways.append(concat([*call, more(index + 1, made | {at} if each.is_single else made)]))
            return choice(ways)

        @cache
        def more(index: int, made: frozenset[int]) -> ast.Node:
            if index == max_calls or len(made) == len(told):
                return EMPTY
            return rules.define(("more", index, made), optional(calls(again, index, made)))

        first = choice(calls(before, 0, frozenset()) for before in (self.first, *self.variants))
        return concat([first, slots.node(self.last, "", 0, marks)])
