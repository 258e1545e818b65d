"""A request to /v1/responses as the chat request that means the same."""

from __future__ import annotations

from typing import Any

import msgspec

from stemma.server.http.errors import bad_request
from stemma.server.openai.wire import (
    InputCall,
    InputCallOutput,
    InputItem,
    InputMessage,
    InputReasoning,
    NamedChoice,
    ObjectFormat,
    OutputText,
    ResponsesRequest,
    SchemaFormat,
)
from stemma.server.prompts.tool_text import content_text
from stemma.server.wire import common
from stemma.server.wire.chat import (
    ChatRequest,
    FunctionCall,
    Message,
    NamedFunction,
    NamedToolChoice,
    TextPart,
    Tool,
    ToolCall,
)


def as_chat(body: ResponsesRequest) -> ChatRequest:
    """Raises ApiError."""
    if body.top_logprobs and "message.output_text.logprobs" not in (body.include or []):
        raise bad_request("top_logprobs needs include=['message.output_text.logprobs']", "top_logprobs")
    wants_logprobs = "message.output_text.logprobs" in (body.include or [])
    return ChatRequest(
        messages=messages_of(body),
        model=body.model,
        max_completion_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        logprobs=wants_logprobs or None,
        top_logprobs=body.top_logprobs if wants_logprobs else None,
        response_format=_format(body),
        tools=_tools(body),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls if body.tools else None,
        reasoning_effort=None if body.reasoning is None else body.reasoning.effort,
        seed=body.seed,
        cache_salt=body.cache_salt,
        priority=body.priority,
        next_use=body.next_use,
        stream=body.stream,
    )


def messages_of(body: ResponsesRequest) -> list[Message]:
    """The conversation. Calls in a row belong to the assistant message before them, thoughts to the one behind them."""
    messages = [] if body.instructions is None else [Message(role="system", content=body.instructions)]
    if isinstance(body.input, str):
        return [*messages, Message(role="user", content=body.input)]
    thoughts: str | None = None
    for index, value in enumerate(body.input):
        item = _item(value, index)
        match item:
            case InputReasoning():
                thoughts = "\n".join(part.text for part in item.content or ()) or None
            case InputMessage(role=role):
                messages.append(Message(role=role, content=_content(item, index)))
                if role == "assistant":
                    messages[-1].reasoning_content, thoughts = thoughts, None
            case InputCallOutput(call_id=call_id, output=output):
                messages.append(Message(role="tool", content=content_text(output), tool_call_id=call_id))
            case InputCall():
                call = ToolCall(id=item.call_id, function=FunctionCall(name=item.name, arguments=item.arguments))
                if not messages or messages[-1].role != "assistant" or thoughts:
                    messages.append(Message(role="assistant", reasoning_content=thoughts))
                    thoughts = None
                messages[-1].tool_calls = [*(messages[-1].tool_calls or []), call]
    return messages


def _item(value: dict[str, Any], index: int) -> InputItem:
    """Items without a type are messages."""
    try:
        item: InputItem = msgspec.convert({"type": "message", **value}, InputItem)
    except msgspec.ValidationError as error:
        raise bad_request(f"input[{index}]: {error}", f"input[{index}]", "invalid_value") from error
    return item


def _content(item: InputMessage, index: int) -> str:
    if isinstance(item.content, str):
        return item.content
    parts: list[OutputText] | list[TextPart]
    try:
        if item.role == "assistant":
            parts = msgspec.convert(item.content, list[OutputText])
        else:
            parts = msgspec.convert(item.content, list[TextPart])
    except msgspec.ValidationError as error:
        param = f"input[{index}].content"
        raise bad_request(f"{param}: {error}", param, "invalid_value") from error
    return "\n".join(part.text for part in parts)


def _format(body: ResponsesRequest) -> common.ResponseFormat | None:
    match body.text.format if body.text else None:
        case ObjectFormat():
            return common.JsonObjectFormat()
        case SchemaFormat() as given:
            spec = common.JsonSchemaSpec(name=given.name, description=given.description, schema=given.schema)
            return common.JsonSchemaFormat(json_schema=spec)
        case _:
            return None


def _tools(body: ResponsesRequest) -> list[Tool] | None:
    if not body.tools:
        return None
    return [
        Tool(function=common.FunctionSpec(name=tool.name, description=tool.description, parameters=tool.parameters))
        for tool in body.tools
    ]


def _tool_choice(body: ResponsesRequest) -> Any:
    if isinstance(body.tool_choice, NamedChoice):
        return NamedToolChoice(function=NamedFunction(name=body.tool_choice.name))
    return body.tool_choice
