"""How tools are told to a model and how it calls them, as text: `<tool_call>` around a JSON object (the form of Hermes
and Qwen). A template that knows this form writes it itself; for any other one it is written here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from stemma.server.http.errors import bad_request
from stemma.server.wire.chat import Message, TextPart, Tool

CALL_BEGIN = "<tool_call>"
CALL_END = "</tool_call>"
INSTRUCTIONS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def content_text(content: str | list[TextPart] | None) -> str:
    """The text of a message's content; parts stand on lines of their own."""
    return content or "" if isinstance(content, str | None) else "\n".join(part.text for part in content)


def tool_values(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as templates and models read them."""
    return [msgspec.to_builtins(tool) | {"type": "function"} for tool in tools]


def template_messages(messages: Sequence[Message], *, native: bool) -> list[dict[str, Any]]:
    """Messages for a chat template. native: it writes tool calls and their results itself."""
    return [_native(message) if native else _plain(message) for message in messages]


def with_instructions(messages: Sequence[dict[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The tools as part of the system prompt."""
    text = INSTRUCTIONS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tool_values(tools)))
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _native(message: Message) -> dict[str, Any]:
    value = _base(message)
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        value["tool_call_id"] = message.tool_call_id
    return value


def _plain(message: Message) -> dict[str, Any]:
    value = _base(message)
    if message.tool_calls:
        calls = [
            f"{CALL_BEGIN}\n"
            f"{json.dumps({'name': call.function.name, 'arguments': _arguments(call)}, ensure_ascii=False)}\n{CALL_END}"
            for call in message.tool_calls
        ]
        value["content"] = "\n".join(filter(None, [value["content"], *calls]))
    if value["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{value['content']}\n</tool_response>"}
    return value


def _base(message: Message) -> dict[str, Any]:
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    value: dict[str, Any] = {"role": role, "content": content_text(message.content)}
    if message.name is not None:
        value["name"] = message.name
    return value


def _arguments(call: Any) -> Any:
    try:
        return msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        message = f"the arguments of {call.function.name} are no JSON: {error}"
        raise bad_request(message, "messages[].tool_calls[].function.arguments", "invalid_value") from error
