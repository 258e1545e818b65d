"""Messages and tools as they come over the wire, as the values that chat templates and tongues read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stemma.server.wire.chat import Message, TextPart
from stemma.server.wire.tools import Tool


def content_text(content: str | list[TextPart] | None) -> str:
    """The text of a message's content; parts stand on lines of their own."""
    return content or "" if isinstance(content, str | None) else "\n".join(part.said for part in content)


def tool_values(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as templates and models read them."""
    return [{"function": msgspec.to_builtins(tool.told), "type": "function"} for tool in tools]


def message_values(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages with OpenAI's fields; what is empty is left out."""
    return [_message(message) for message in messages]


def _message(message: Message) -> dict[str, Any]:
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    value: dict[str, Any] = {"role": role, "content": content_text(message.content)}
    if message.name is not None:
        value["name"] = message.name
    if thoughts := message.reasoning_content or message.reasoning:
        value["reasoning_content"] = thoughts
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": call.id, "function": {"name": call.told.name, "arguments": call.told.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        value["tool_call_id"] = message.tool_call_id
    return value
