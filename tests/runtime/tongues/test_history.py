"""Chats for templates: what a template does not do itself is done for it, in the form that the grammar asks for."""

from __future__ import annotations

from typing import Any

import pytest

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.tongues.history import for_template
from tests.runtime.tongues.making import template, tongue
from tests.runtime.tongues.templates import ALTERNATING, DEEPSEEK, HERMES, MISTRAL_LIST, MUTE, SHOWING

TOOLS = [{"type": "function", "function": {"name": "find", "description": "d", "parameters": {"type": "object"}}}]
CALL = {"id": "call_123456789012", "function": {"name": "find", "arguments": '{"a": 1}'}}
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "", "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
    {"role": "tool", "tool_call_id": "call_123456789012", "content": "one"},
    {"role": "tool", "tool_call_id": "call_2", "content": "two"},
    {"role": "user", "content": "And?"},
]


def test_a_template_that_writes_no_calls_is_told_no_tools() -> None:
    """So the prompt never teaches one form while the grammar asks for another."""
    source, found = MUTE, tongue(MUTE)
    assert (found.calls.name, found.is_told, found.is_written) == ("hermes", False, False)
    made = for_template(CHAT, TOOLS, found)
    assert made.tools is None
    text = template(source).render(made.messages, tools=made.tools)
    assert text.count('{"name": <function-name>, "arguments": <args-json-object>}') == 1
    assert text.count('<tool_call>\n{"name": "find", "arguments": {"a": 1}}\n</tool_call>') == 2
    assert "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>" in text


def test_a_form_that_was_taught_is_known_by_its_tokens_where_the_template_tells_tools() -> None:
    """As LFM2's first templates do, which write no calls."""
    found = tongue(SHOWING)
    assert (found.calls.name, found.is_told, found.is_written) == ("keywords", True, False)
    made = for_template(CHAT, TOOLS, found)
    assert made.tools == TOOLS
    assert made.messages[1]["content"] == "<|tool_call_start|>[find(a=1), find(a=1)]<|tool_call_end|>"
    assert [message["content"] for message in made.messages[2:4]] == ["one", "two"]
    assert [message["role"] for message in made.messages[2:4]] == ["tool", "tool"]


def test_roles_that_must_alternate_do() -> None:
    made = for_template(CHAT, TOOLS, tongue(ALTERNATING))
    assert [message["role"] for message in made.messages] == ["user", "assistant", "user", "user"]
    made = for_template(CHAT[:4], TOOLS, tongue(ALTERNATING))
    text = template(ALTERNATING).render(made.messages)
    assert text.index("# Tools") < text.index("Q<|end|>")


def test_a_template_that_tells_its_tools_is_given_them() -> None:
    made = for_template(CHAT, TOOLS, tongue(HERMES))
    assert made.tools == TOOLS
    assert made.messages[1]["tool_calls"][0]["function"] == {"name": "find", "arguments": {"a": 1}}
    assert made.messages[2]["name"] == "find"


def test_arguments_are_text_where_the_template_wants_text() -> None:
    made = for_template(CHAT, TOOLS, tongue(DEEPSEEK))
    assert made.messages[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_ids_are_short_where_the_template_refuses_others_and_the_same_each_time() -> None:
    made = for_template(CHAT, TOOLS, tongue(MISTRAL_LIST))
    call_id = made.messages[1]["tool_calls"][0]["id"]
    assert len(call_id) == 9
    assert made.messages[2]["tool_call_id"] == call_id
    assert call_id in template(MISTRAL_LIST).render(made.messages, tools=made.tools)


def test_arguments_that_are_no_json_are_refused_by_the_functions_name() -> None:
    broken = {"id": "1", "function": {"name": "find", "arguments": "{"}}
    with pytest.raises(ChatTemplateError, match="arguments of find are no JSON"):
        for_template([{"role": "assistant", "content": "", "tool_calls": [broken]}], [], tongue(HERMES))
