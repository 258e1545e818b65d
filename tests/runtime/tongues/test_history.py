"""Chats for templates: what a template does not do itself is done for it, in the form that the grammar asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.model.tiny import byte_tokenizer
from stemma.runtime.tongues.history import HERMES as HERMES_FORM
from stemma.runtime.tongues.history import for_template
from stemma.runtime.tongues.recognise import recognise
from stemma.runtime.tongues.tongue import IN_SYSTEM, Tongue
from tests.runtime.tongues.making import FIRST, template, tongue
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


def recognised(source: str, *marks: str) -> tuple[ChatTemplate, Tongue]:
    """On a vocabulary with these special tokens."""
    own = Tokenizer(byte_tokenizer(*marks), FIRST + len(marks))
    made = ChatTemplate(source, own)
    return made, recognise(made, own, [own.special["<|end|>"]])


def test_tools_go_by_the_name_that_the_template_has_for_them() -> None:
    """As SmolLM 3's, which has one for Python code, too, and tells Hermes' form without writing it."""
    source = (
        "{%- if python_tools %}<code>{{ python_tools | tojson }}</code>{% endif %}"
        "{%- if xml_tools %}{{ xml_tools | tojson }}" + HERMES_FORM + "{% endif %}" + MUTE
    )
    made, found = recognised(source)
    assert (found.calls.name, found.is_told, found.told_as, found.is_written) == ("hermes", True, "xml_tools", False)
    given = for_template(CHAT, TOOLS, found)
    assert (given.tools, given.values) == (None, {"xml_tools": TOOLS})
    text = made.render(given.messages, tools=given.tools, **given.values)
    assert text.count('"description": "d"') == 1
    assert text.count('<tool_call>\n{"name": "find", "arguments": {"a": 1}}\n</tool_call>') == 2
    assert for_template(CHAT, [], found).values == {}


def test_tools_are_a_field_of_the_system_message_where_the_template_has_them_there() -> None:
    """As Phi 4 mini's."""
    source = """\
{%- for message in messages %}
{%- if message.role == 'system' and 'tools' in message and message.tools is not none %}
{{- '<|system|>' + message.content + '<|tool|>' + message.tools + '<|/tool|>' + '<|end|>' }}
{%- else %}{{- '<|' + message.role + '|>' + message.content + '<|end|>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"""
    made, found = recognised(source, "<|tool_call|>", "<|/tool_call|>", "<|tool|>", "<|/tool|>")
    assert (found.is_told, found.told_as, found.is_written) == (True, IN_SYSTEM, False)
    told = json.dumps([TOOLS[0]["function"]])
    for chat, system in ((CHAT, ""), ([{"role": "system", "content": "Be brief."}, *CHAT], "Be brief.")):
        given = for_template(chat, TOOLS, found)
        text = made.render(given.messages, tools=given.tools, **given.values)
        assert text.startswith(f"<|system|>{system}<|tool|>{told}<|/tool|><|end|><|user|>Q")
        calls = '{"name": "find", "arguments": {"a": 1}}'
        assert f"<|assistant|><|tool_call|>[{calls}, {calls}]<|/tool_call|><|end|>" in text


def test_a_template_without_a_place_for_tools_is_refused_by_name() -> None:
    found = tongue(ALTERNATING)
    told = for_template([{"role": "assistant", "content": "Hi."}, *CHAT], TOOLS, found)
    assert told.messages[1]["content"].endswith("\n\nQ")
    with pytest.raises(ChatTemplateError, match="neither tells tools nor takes a system message"):
        for_template([{"role": "assistant", "content": "Hi."}], TOOLS, found)


def test_contents_are_parts_where_the_template_leaves_out_text() -> None:
    """As those of models that see."""
    source = """\
{%- for message in messages %}{{- '<|start|>' + message.role + '\\n' }}
{%- for part in message.content %}{% if part.type == 'text' %}{{- part.text }}{% endif %}{% endfor %}{{- '<|end|>' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}"""
    found = tongue(source)
    assert (found.has_parts, found.has_system, found.is_told) == (True, True, False)
    assert not tongue(MUTE).has_parts
    given = for_template(CHAT, TOOLS, found)
    assert given.messages[1]["content"] == [{"type": "text", "text": "Q"}]
    text = template(source).render(given.messages, tools=given.tools)
    assert text == template(MUTE).render(for_template(CHAT, TOOLS, tongue(MUTE)).messages)


def test_words_and_calls_are_two_messages_where_the_template_writes_only_either() -> None:
    """As DeepSeek R1's distillates, which write calls of messages whose content is null."""
    source = MUTE.replace(
        "{{- '<|start|>' + message.role",
        "{%- if message.role == 'assistant' and message.content is none %}{{- '<|start|>assistant\\n' }}"
        "{%- for call in message.tool_calls %}"
        "{{- '<|call|>' + call.function.name + '<|sep|>' + call.function.arguments + '<|/call|>' }}{% endfor %}"
        "{{- '<|end|>' }}{% else %}{{- '<|start|>' + message.role",
    ).replace("{% endfor %}\n{%- if add", "{% endif %}{% endfor %}\n{%- if add")
    found = tongue(source)
    assert (found.has_null_content, found.is_written, found.is_told) == (True, True, False)
    chat = [CHAT[0], {**CHAT[1], "content": "Let me."}, *CHAT[2:]]
    text = template(source).render(for_template(chat, [], found).messages)
    calls = '<|call|>find<|sep|>{"a": 1}<|/call|>' * 2
    assert f"<|start|>assistant\nLet me.<|end|><|start|>assistant\n{calls}<|end|><|start|>tool\none" in text
    assert "Let me." not in template(source).render(for_template(CHAT, [], found).messages)
