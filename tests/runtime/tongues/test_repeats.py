"""An answer ends before a call that it has made already, in every tongue that has several calls."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.calls import Call
from stemma.runtime.tongues.functions import Function
from stemma.runtime.tongues.json_arguments import JsonArguments
from stemma.runtime.tongues.repeats import RepeatWatch
from stemma.runtime.tongues.value_arguments import ValueArguments
from tests.runtime.tongues.making import parsed, tongue
from tests.runtime.tongues.templates import CALLING

SCHEMA = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
SAY = Function("say", JSONSchema({**SCHEMA, "additionalProperties": False}))
SAYING = Function("saying", SAY.arguments)
SEVERAL = [name for name, source in CALLING.items() if tongue(source).calls.again is not None]
STREAMED = [
    name for name in SEVERAL if isinstance(tongue(CALLING[name]).calls.arguments, JsonArguments | ValueArguments)
]
ONE, OTHER, LONGER = Call("say", {"what": "ab"}), Call("saying", {"what": "ab"}), Call("say", {"what": "abc"})


def follow(name: str, calls: list[Call], piece_len: int) -> tuple[list[str], str | None]:
    """What was certain after each piece of an answer with these calls, and its text if it was ended."""
    found = tongue(CALLING[name])
    watch = RepeatWatch.of(AnswerGrammar(found, (SAY, SAYING), 8, "text"))
    assert watch is not None
    text, certain = found.calls.write(calls), []
    for at in range(0, len(text), piece_len):
        pushed = text[: at + piece_len]
        if (ended := watch.push(text[at : at + piece_len])) is not None:
            return certain, ended
        certain.append(pushed[: len(pushed) - watch.num_held])
    return certain, None


@pytest.mark.parametrize("piece_len", [1, 3, 1000])
@pytest.mark.parametrize("name", SEVERAL)
def test_it_ends_with_the_calls_before_as_the_template_writes_them(name: str, piece_len: int) -> None:
    form = tongue(CALLING[name]).calls
    for calls in ([ONE], [ONE, OTHER], [LONGER, ONE], [ONE, LONGER, OTHER]):
        for again in (calls[0], calls[-1]):
            certain, ended = follow(name, [*calls, again], piece_len)
            assert ended == form.write(calls), (calls, again)
            assert all(ended.startswith(each) for each in certain), "what was told stays"
            assert follow(name, calls, piece_len)[1] is None


@pytest.mark.parametrize("name", STREAMED)
def test_what_cannot_become_a_repeat_is_told_as_it_comes(name: str) -> None:
    certain, ended = follow(name, [Call("say", {"what": "a" * 9}), Call("say", {"what": "b" * 9})], 1)
    assert ended is None
    grown = [new[len(old) :] for old, new in pairwise(certain) if len(new) > len(old)]
    assert grown.count("b") >= 8, "but for what a text may end with"
    begun = next(text for text in certain if text.endswith("b"))
    assert len(parsed(tongue(CALLING[name]), [begun], functions=(SAY, SAYING)).calls) == 2


def test_answers_of_one_call_and_other_grammars_are_not_followed() -> None:
    found = tongue(CALLING[SEVERAL[0]])
    others: list[Any] = [AnswerGrammar(found, (SAY,), 1), AnswerGrammar(found, (), 8, "text"), SAY.arguments, None]
    assert [RepeatWatch.of(each) for each in others] == [None] * len(others)
