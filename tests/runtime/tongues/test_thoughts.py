"""Thoughts: found, told apart from the answer in any pieces, and never bound by what binds the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.calls import Call
from stemma.runtime.tongues.history import for_template
from stemma.runtime.tongues.parser import AnswerParser
from stemma.runtime.tongues.pieces import Answer
from stemma.runtime.tongues.repeats import RepeatWatch
from stemma.runtime.tongues.tongue import Reasoning
from tests.runtime.tongues.making import accepts, calls_grammar, parsed, said, template, tongue
from tests.runtime.tongues.templates import COMMAND, HARMONY, HERMES, MISTRAL, MUTE, OPENED, PAIRED

OBJECT = JSONSchema(
    {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
)
THINKING = {
    "marks of the template": (HERMES, Reasoning("<think>", "</think>", "\n\n")),
    "opened by the prompt": (OPENED, Reasoning("<think>", "</think>", "\n\n", None)),
    "other marks": (COMMAND, Reasoning("<|think|>", "<|/think|>", "")),
    "another channel": (
        HARMONY, Reasoning("<|channel|>analysis<|message|>", "<|eom|>", "<|start|>assistant", "thinking")
    ),
    "empty ones": (PAIRED, Reasoning("<think>", "</think>", "", None)),
}  # fmt: skip


@pytest.mark.parametrize("name", THINKING)
def test_what_stands_around_thoughts_is_found(name: str) -> None:
    source, expected = THINKING[name]
    assert tongue(source).reasoning == expected


@pytest.mark.parametrize("source", [MISTRAL, MUTE])
def test_a_template_without_thoughts_has_none(source: str) -> None:
    assert tongue(source).reasoning is None


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("<|start|>assistant\n", "either"),
        ("assistant\n<think>\n", "thinking"),
        ("<think>\n\n</think>\n\n", "answering"),
    ],
)
def test_where_a_prompt_leaves_the_model(end: str, expected: str) -> None:
    assert tongue(HERMES).standing(end) == expected
    assert tongue(MISTRAL).standing(end) == "answering"


@pytest.mark.parametrize("name", THINKING)
@given(data=st.data())
def test_thoughts_are_told_apart_in_any_pieces(name: str, data: st.DataObject) -> None:
    found = tongue(THINKING[name][0])
    assert found.reasoning is not None
    thoughts = data.draw(st.text("ab <>\n", max_size=8)).strip()
    words = data.draw(st.sampled_from(["Hello", "a < b", "It is so.\nYes"]))
    marks = found.reasoning
    text = f"{marks.opens}\n{thoughts}\n{marks.closes}{marks.gap}{found.opens}{words}{found.closes}"
    begun = data.draw(st.booleans())
    text = text.removeprefix(found.reasoning.opens) if begun else text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    answer = parsed(found, pieces, "thinking" if begun else "either", ())
    assert (answer.reasoning, answer.content, answer.calls) == (thoughts, words, [])


@pytest.mark.parametrize("name", THINKING)
def test_calls_and_forms_begin_behind_thoughts(name: str) -> None:
    found = tongue(THINKING[name][0])
    assert found.reasoning is not None
    thoughts = f"{found.reasoning.opens}Hm. {{}}{found.reasoning.closes}{found.reasoning.gap}"
    call = found.calls.write([Call("get", {})])
    form = f'{found.opens}{{"a":1}}{found.closes}'
    required = calls_grammar(found, standing="either")
    assert accepts(required, thoughts + call)
    assert accepts(required, call)
    assert not accepts(required, thoughts)
    inside = calls_grammar(found, standing="thinking")
    assert accepts(inside, thoughts.removeprefix(found.reasoning.opens) + call)
    assert not accepts(inside, call)
    bound = AnswerGrammar(found, otherwise=OBJECT, standing="either")
    assert accepts(bound, thoughts + form)
    assert accepts(bound, form)
    assert not accepts(bound, thoughts + found.opens + "{}" + found.closes)
    answer = parsed(found, list(thoughts + call), "either")
    assert (answer.reasoning, said(answer)) == ("Hm. {}", [("get", {})])


@pytest.mark.parametrize("name", THINKING)
@given(data=st.data())
def test_a_call_inside_thoughts_is_no_call(name: str, data: st.DataObject) -> None:
    found = tongue(THINKING[name][0])
    assert found.reasoning is not None
    call = found.calls.write([Call("get", {})])
    said_behind = data.draw(st.sampled_from(["call", "words"]))
    rest = call if said_behind == "call" else f"{found.opens}Hello{found.closes}"
    text = f"{found.reasoning.opens}\nI say {call}.\n{found.reasoning.closes}{found.reasoning.gap}{rest}"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    answer = parsed(found, [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)], "either")
    assert answer.reasoning == f"I say {call}."
    assert said(answer) == ([("get", {})] if said_behind == "call" else [])
    assert answer.content == ("" if said_behind == "call" else "Hello")
    watch = RepeatWatch.of(calls_grammar(found, standing="either"))
    assert (watch is None) == (found.calls.again is None)
    assert watch is None or watch.push(text) is None, "a thought is not repeated by a call"


def test_thoughts_that_are_cut_off_are_thoughts() -> None:
    parser, answer = AnswerParser(tongue(HERMES), (), None, "either"), Answer()
    for piece in [*parser.push("<think>\nLet me see </thi"), *parser.cut()]:
        answer.add(piece)
    assert (answer.reasoning, answer.content) == ("Let me see </thi", "")


@pytest.mark.parametrize(("source", "field"), [(HERMES, "reasoning_content"), (HARMONY, "thinking")])
def test_history_has_thoughts_where_the_template_looks_for_them(source: str, field: str) -> None:
    chat = [
        {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "reasoning_content": "Because."}
    ]  # fmt: skip
    given_to_it = for_template(chat, [], tongue(source))
    assert given_to_it.messages[1][field] == "Because."
    assert "Because." in template(source).render(given_to_it.messages, add_generation_prompt=False)
