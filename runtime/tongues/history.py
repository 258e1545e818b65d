"""Chats as a template takes them: tools told, calls and their results written, thoughts where the template looks for
them. What the template does not do itself is done here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from stemma.runtime.errors import ChatTemplateError
from stemma.runtime.tongues.calls import Call
from stemma.runtime.tongues.slots import SHORT_ID_LEN
from stemma.runtime.tongues.tongue import IN_SYSTEM, Tongue, text_parts, thoughtful

Message = Mapping[str, Any]
INSTRUCTIONS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

{how}"""
HERMES = """For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""


class TemplateInput(NamedTuple):
    """What a template is given. tools: None where it is told none. values: tools under other names."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    values: Mapping[str, Any] = MappingProxyType({})


def for_template(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], tongue: Tongue) -> TemplateInput:
    """messages: OpenAI's, with contents that are text, and arguments of `tool_calls` as JSON text.

    Raises ChatTemplateError for arguments that are no JSON, and for tools that the template has no place for.
    """
    given = _for_template(messages, tools, tongue)
    if not tongue.has_parts:
        return given
    return given._replace(messages=[{**message, "content": _parts(message["content"])} for message in given.messages])


def _parts(content: Any) -> Any:
    return text_parts(content) if isinstance(content, str) else content


def _for_template(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], tongue: Tongue) -> TemplateInput:
    named = _with_names(messages)
    written = _native_messages(named, tongue) if tongue.is_written else _plain(named, tongue)
    if tools and not tongue.is_told:
        return TemplateInput(_instructed(written, tools, tongue), None)
    told = [dict(tool) for tool in tools]
    if not told or tongue.told_as == "tools":
        return TemplateInput(written, told or None)
    if tongue.told_as == IN_SYSTEM:
        return TemplateInput(_in_system(written, told), None)
    return TemplateInput(written, None, {tongue.told_as: told})


def _in_system(messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tools as a field of the system message, as JSON text without what OpenAI wraps each in."""
    field = {"tools": json.dumps([tool["function"] for tool in tools], ensure_ascii=False)}
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], **field}, *messages[1:]]
    return [{"role": "system", "content": "", **field}, *messages]


def _with_names(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Results with the names of their functions, which some templates write."""
    names: dict[str, str] = {}
    made = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
        name = names.get(message.get("tool_call_id") or "")
        is_unnamed = message["role"] == "tool" and name is not None and not message.get("name")
        made.append({**message, "name": name} if is_unnamed else dict(message))
    return made


def _native_messages(messages: Sequence[dict[str, Any]], tongue: Tongue) -> list[dict[str, Any]]:
    """Messages as the template takes them; words and calls one after the other if it takes only either."""
    made = []
    for message in messages:
        value = _native(message, tongue)
        if tongue.has_null_content and value.get("tool_calls"):
            words = {name: field for name, field in value.items() if name != "tool_calls"}
            made += [words] if value["content"] else []
            value["content"] = None
        made.append(value)
    return made


def _native(message: Mapping[str, Any], tongue: Tongue) -> dict[str, Any]:
    value = _with_thoughts(message, tongue)
    if calls := value.pop("tool_calls", None):
        value["tool_calls"] = [
            {"id": _id(call["id"], tongue), "type": "function", "function": _function(call, tongue)} for call in calls
        ]
    if value.get("tool_call_id") is not None:
        value["tool_call_id"] = _id(value["tool_call_id"], tongue)
    return value


def _with_thoughts(message: Mapping[str, Any], tongue: Tongue) -> dict[str, Any]:
    """The message with its thoughts where the template looks for them."""
    value = dict(message)
    thoughts = value.get("reasoning_content")
    field = tongue.reasoning.field if tongue.reasoning else None
    if thoughts and field is not None:
        del value["reasoning_content"]
        assert tongue.reasoning is not None
        if tongue.reasoning.excludes_words and value.get("tool_calls") and value["content"]:
            thoughts, value["content"] = f"{thoughts}\n\n{value['content']}", ""
        value |= thoughtful(field, thoughts, value["content"])
    return value


def _function(call: Mapping[str, Any], tongue: Tongue) -> dict[str, Any]:
    function = call["function"]
    arguments = read_arguments(function["name"], function["arguments"])
    return {"name": function["name"], "arguments": function["arguments"] if tongue.has_text_arguments else arguments}


def _id(call_id: str, tongue: Tongue) -> str:
    """The id, or a short one that is the same each time."""
    is_short = len(call_id) == SHORT_ID_LEN and call_id.isalnum()
    if not tongue.has_short_ids or is_short:
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:SHORT_ID_LEN]


def _plain(messages: Sequence[dict[str, Any]], tongue: Tongue) -> list[dict[str, Any]]:
    """Calls as text of their answers, results as what a user says; results in a row are one message."""
    made: list[dict[str, Any]] = []
    is_result = False
    for message in messages:
        value = _with_thoughts(message, tongue)
        if calls := value.pop("tool_calls", None):
            text = tongue.calls.write([_call(call) for call in calls])
            value["content"] = tongue.calls.gap.join(filter(None, [value["content"], text]))
        if value["role"] != "tool" or (tongue.is_told and tongue.writes_results):
            made.append(value)
            is_result = False
            continue
        result = f"<tool_response>\n{value['content']}\n</tool_response>"
        if is_result:
            made[-1]["content"] += f"\n{result}"
        else:
            made.append({"role": "user", "content": result})
        is_result = True
    return made


def _call(call: Mapping[str, Any]) -> Call:
    function = call["function"]
    return Call(function["name"], read_arguments(function["name"], function["arguments"]), call["id"])


def read_arguments(name: str, text: str) -> Any:
    """Arguments that came as JSON text. Raises ChatTemplateError."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ChatTemplateError(f"the arguments of {name} are no JSON: {error}") from error


def _instructed(
    messages: Sequence[dict[str, Any]], tools: Sequence[Mapping[str, Any]], tongue: Tongue
) -> list[dict[str, Any]]:
    """The tools as part of the system prompt; of the first question, for a template that takes no system prompt.

    Raises ChatTemplateError if there is neither.
    """
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = INSTRUCTIONS.format(tools=listed, how=_how(tongue))
    if not tongue.has_system:
        at = next((index for index, message in enumerate(messages) if message["role"] == "user"), None)
        if at is None:
            raise ChatTemplateError(
                "this model's chat template neither tells tools nor takes a system message: put a user's message before"
            )
        return [
            *messages[:at],
            {**messages[at], "content": f"{text}\n\n{messages[at]['content']}"},
            *messages[at + 1 :],
        ]
    first = messages[0] if messages else {"role": "", "content": ""}
    if first["role"] == "system":
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _how(tongue: Tongue) -> str:
    """How calls are written."""
    if tongue.calls.name == "hermes":
        return HERMES
    example = tongue.calls.write([Call("function-name", {"argument": "value"})])
    return f"Call a function like this, with its own name and arguments:\n{example}"
