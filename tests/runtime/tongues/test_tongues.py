"""Every tongue: its template is recognised, it writes what the template writes, and that reads back in any pieces."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.runtime.tongues.calls import Call
from stemma.runtime.tongues.parser import AnswerParser
from stemma.runtime.tongues.pieces import TextPiece
from tests.runtime.tongues.making import (
    FUNCTIONS,
    SCHEMAS,
    accepts,
    calls_grammar,
    matcher,
    parsed,
    said,
    shown,
    template,
    tokenizer,
    tongue,
    walk,
)
from tests.runtime.tongues.templates import CALLING

TEXTS = st.text('ab<>{}"=,:é \n/', max_size=8) | st.sampled_from(["</", "</tool_call", "<|", "]", "don't"])
ARGUMENTS = {
    "get_weather": st.fixed_dictionaries(
        {"city": TEXTS},
        optional={
            "days": st.integers(1, 99),
            "deep": st.fixed_dictionaries(
                {"a": st.booleans(), "b": st.lists(st.sampled_from(["p", "q r"]), max_size=2)}
            ),
        },
    ),
    "get": st.just({}),
    "go_now": st.fixed_dictionaries(
        {"on": st.booleans(), "why": st.sampled_from(["a b", "c"]), "n": st.sampled_from([None, 1, 25])}
    ),
}
CALLS = st.lists(
    st.sampled_from(list(SCHEMAS)).flatmap(lambda name: ARGUMENTS[name].map(lambda values: (name, values))),
    min_size=1, max_size=3,
)  # fmt: skip
EACH = pytest.mark.parametrize("name", CALLING)


def tools() -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}
        for name, schema in SCHEMAS.items()
    ]


def history(name: str, calls: list[tuple[str, dict[str, Any]]], ids: list[str]) -> str:
    """What the template writes of these calls."""
    found = tongue(CALLING[name])
    made = [
        {"id": each, "type": "function",
         "function": {"name": called,
                      "arguments": json.dumps(values, ensure_ascii=False) if found.has_text_arguments else values}}
        for each, (called, values) in zip(ids, calls, strict=True)
    ]  # fmt: skip
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": made}]
    return template(CALLING[name]).render(chat, tools=tools(), add_generation_prompt=False)


@EACH
def test_its_template_is_recognised(name: str) -> None:
    found = tongue(CALLING[name])
    assert found.is_told
    assert found.is_written
    one_only = name in ("llama", "harmony")
    assert (found.calls.again is None) == one_only


@EACH
@settings(max_examples=40, deadline=None)
@given(calls=CALLS, data=st.data())
def test_calls_read_back_in_any_pieces(name: str, calls: list, data: st.DataObject) -> None:
    found = tongue(CALLING[name])
    calls = calls[: 1 if found.calls.again is None else 3]
    mark = getattr(found.calls.arguments, "end_mark", None)
    if any(mark and mark in str(values.get("city")) for _, values in calls):
        return
    text = found.calls.write([Call(*each) for each in calls])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    answer = parsed(found, pieces)
    assert (answer.content, said(answer)) == ("", calls)
    whole = parsed(found, [text])
    assert [each.arguments for each in whole.calls] == [each.arguments for each in answer.calls]


@EACH
def test_no_piece_is_empty_wherever_an_answer_is_cut_off(name: str) -> None:
    found = tongue(CALLING[name])
    text = found.calls.write([Call("get_weather", {"city": "Oslo"}, "abcdefgh0")])
    for before in ("", "well "):
        for end in range(len(text)):
            parser = AnswerParser(found, FUNCTIONS, 4, "answering")
            pieces = [*parser.push(before + text[:end]), *parser.cut()]
            assert not [piece for piece in pieces if isinstance(piece, TextPiece) and not piece.text]


@EACH
def test_its_grammar_takes_what_its_template_writes(name: str) -> None:
    found = tongue(CALLING[name])
    calls = [
        ("get_weather", {"city": "Paris <3", "days": 3}),
        ("get", {}),
        ("go_now", {"on": True, "why": "c", "n": None}),
    ]
    for some in [calls[:1], calls[1:2], calls[2:]] + ([calls] if found.calls.again is not None else []):
        ids = [f"abcdefgh{at}" for at in range(len(some))]
        text = found.calls.write([Call(*each, ids[at]) for at, each in enumerate(some)])
        assert text in history(name, some, ids)
        assert accepts(calls_grammar(found), text)


@EACH
def test_what_its_grammar_allows_is_a_call_that_its_template_writes(name: str) -> None:
    """Random walks through the grammar."""
    found, chance = tongue(CALLING[name]), random.Random(3)
    for _ in range(4):
        text = walked(name, chance)
        answer = parsed(found, [text])
        assert answer.content == ""
        assert 1 <= len(answer.calls) <= 4
        assert parsed(found, list(text)).calls[-1].arguments == answer.calls[-1].arguments
        for call, values in said(answer):
            assert set(SCHEMAS[call].get("required", ())) <= set(values) <= set(SCHEMAS[call]["properties"])
        assert text in history(name, said(answer), [each.id for each in answer.calls])


def walked(name: str, chance: random.Random) -> str:
    """A text that the grammar allows, of letters that no template writes otherwise than the grammar."""
    found = tongue(CALLING[name])
    found = replace(found, calls=replace(found.calls, variants=()))  # what only models write, no template
    return shown(walk(matcher(calls_grammar(found)), tokenizer(), chance))


@EACH
def test_words_are_words_whatever_calls_look_like(name: str) -> None:
    found = tongue(CALLING[name])
    text = f"{found.opens}Hello <b>you</b> [x] (y){found.closes}"
    assert parsed(found, list(text)).content == "Hello <b>you</b> [x] (y)"
    assert accepts(calls_grammar(found, otherwise="text"), text)
