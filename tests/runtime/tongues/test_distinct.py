"""The same call is not made twice in one answer, where few calls are possible."""

from __future__ import annotations

import random
from typing import Any

import pytest

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.calls import Call
from stemma.runtime.tongues.distinct import MAX_TOLD_APART, told_apart
from stemma.runtime.tongues.functions import Function
from tests.runtime.tongues.making import accepts, matcher, parsed, shown, tokenizer, tongue, walk
from tests.runtime.tongues.templates import CALLING


def function(name: str, properties: dict[str, Any], required: list[str]) -> Function:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Function(name, JSONSchema(schema))


GO = function("go", {}, [])
SWITCH = function("switch", {"on": {"type": "boolean"}}, ["on"])
PAINT = function("paint", {"how": {"enum": ["red", "blue"], "description": "A colour."}}, [])
SAY = function("say", {"what": {"type": "string", "maxLength": 2}}, ["what"])
TOOLS = [(GO,), (GO, SWITCH), (PAINT,), (GO, SAY), (SWITCH, PAINT, SAY)]
SEVERAL = {name: source for name, source in CALLING.items() if tongue(source).calls.again is not None}
PAIRS = [(name, TOOLS[at % len(TOOLS)]) for at, name in enumerate(SEVERAL)]
IDS = [f"{name}-{'+'.join(each.name for each in tools)}" for name, tools in PAIRS]


@pytest.mark.parametrize(("name", "functions"), PAIRS, ids=IDS)
def test_no_walk_makes_a_call_twice(name: str, functions: tuple[Function, ...]) -> None:
    found = tongue(SEVERAL[name])
    grammar = AnswerGrammar(found, functions, 4)
    few = {each.function.name for each in told_apart(functions) if each.is_single}
    for seed in range(8):
        text = shown(walk(matcher(grammar), tokenizer(), random.Random(seed)))
        calls = [(call.name, call.arguments) for call in parsed(found, [text], functions=functions).calls]
        assert 1 <= len(calls) <= 4
        of_few = [call for call in calls if call[0] in few]
        assert len(set(of_few)) == len(of_few), text


def test_a_call_that_was_made_is_no_longer_allowed_and_others_are() -> None:
    found = tongue(CALLING["hermes"])
    grammar = AnswerGrammar(found, (GO, SWITCH), 4)
    calls = [Call("go", {}), Call("switch", {"on": True}), Call("switch", {"on": False})]
    for chosen in (calls, calls[::-1], calls[1:], calls[:1]):
        assert accepts(grammar, found.calls.write(chosen))
        assert not accepts(grammar, found.calls.write([*chosen, chosen[0]]))
    assert accepts(AnswerGrammar(found, (SAY,), 4), found.calls.write([Call("say", {"what": "a"})] * 3))


def test_calls_are_told_apart_as_far_as_they_are_few() -> None:
    assert [each.is_single for each in told_apart([GO, SAY, SWITCH])] == [True, False, True, True]
    assert len(told_apart([PAINT])) == 3  # one without a colour
    many = function("many", {"n": {"enum": [f"{index}" for index in range(MAX_TOLD_APART + 1)]}}, ["n"])
    assert told_apart([many]) == [(many, False)]
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    open_ones: list[dict[str, Any]] = [{"type": "object"}, {**closed, "minProperties": 0}]
    for schema in open_ones:
        made = Function("f", JSONSchema(schema))
        assert told_apart([made]) == [(made, False)]


def test_numbers_that_are_equal_are_left_alone() -> None:
    """1 and 1.0 are one value, which texts are not."""
    made = function("f", {"n": {"enum": [1, 2]}}, ["n"])
    assert told_apart([made]) == [(made, False)]
