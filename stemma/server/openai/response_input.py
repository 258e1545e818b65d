"""A request to /v1/responses as the chat request that means the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from stemma.server.http.decoding import BodyReader
from stemma.server.http.errors import bad_request
from stemma.server.openai.wire import (
    InputCall,
    InputCallOutput,
    InputCustomCall,
    InputCustomOutput,
    InputItem,
    InputMessage,
    InputReasoning,
    NamedChoice,
    ObjectFormat,
    ResponsesRequest,
    SchemaFormat,
)
from stemma.server.prompts.tool_text import content_text
from stemma.server.wire import common
from stemma.server.wire.chat import ChatRequest, Message
from stemma.server.wire.tools import (
    AllowedTools,
    CustomCall,
    FunctionCall,
    NamedFunction,
    NamedToolChoice,
    Tool,
    ToolCall,
)


def as_chat(body: ResponsesRequest, reader: BodyReader, before: Sequence[dict[str, Any]] = ()) -> ChatRequest:
    """before: items that the input goes on from. Raises ApiError."""
    if body.top_logprobs and "message.output_text.logprobs" not in (body.include or []):
        raise bad_request("top_logprobs needs include=['message.output_text.logprobs']", "top_logprobs")
    wants_logprobs = "message.output_text.logprobs" in (body.include or [])
    return ChatRequest(
        **{name: getattr(body, name) for name in common.SamplingRequest.__struct_fields__},
        messages=messages_of(body, reader, before),
        max_completion_tokens=body.max_output_tokens,
        logprobs=wants_logprobs or None,
        top_logprobs=body.top_logprobs if wants_logprobs else None,
        response_format=_format(body),
        tools=_tools(body),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls,
        reasoning_effort=None if body.reasoning is None else body.reasoning.effort,
        chat_template_kwargs=body.chat_template_kwargs,
    )


def messages_of(body: ResponsesRequest, reader: BodyReader, before: Sequence[dict[str, Any]] = ()) -> list[Message]:
    """The conversation. Calls in a row belong to the assistant message before them, thoughts to the one behind them."""
    messages = [] if body.instructions is None else [Message(role="system", content=body.instructions)]
    thoughts: str | None = None
    given = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input or []
    known = BodyReader()  # what is kept was looked at when it came
    for item in (*checked_items(before, "input", known), *checked_items(given, "input", reader)):
        match item:
            case InputReasoning():
                thoughts = "\n".join(part.text for part in item.content or ()) or None
            case InputMessage(role=role):
                messages.append(Message(role=role, content=content_text(item.content)))
                if role == "assistant":
                    messages[-1].reasoning_content, thoughts = thoughts, None
            case InputCallOutput(call_id=call_id, output=output) | InputCustomOutput(call_id=call_id, output=output):
                messages.append(Message(role="tool", content=content_text(output), tool_call_id=call_id))
            case InputCall() | InputCustomCall():
                call = _call(item)
                if not messages or messages[-1].role != "assistant" or thoughts:
                    messages.append(Message(role="assistant", reasoning_content=thoughts))
                    thoughts = None
                messages[-1].tool_calls = [*(messages[-1].tool_calls or []), call]
    return messages


def _call(item: InputCall | InputCustomCall) -> ToolCall:
    if isinstance(item, InputCall):
        return ToolCall(id=item.call_id, function=FunctionCall(name=item.name, arguments=item.arguments))
    return ToolCall(id=item.call_id, custom=CustomCall(name=item.name, input=item.input))


def checked_items(values: Sequence[dict[str, Any]], param: str, reader: BodyReader) -> list[InputItem]:
    """Items of a field of the request; those without a type are messages. Raises ApiError."""
    return [
        reader.convert(
            {**value, "type": value.get("type") or "message"}, cast(type[InputItem], InputItem), f"{param}[{index}]"
        )
        for index, value in enumerate(values)
    ]


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
    return [tool.told for tool in body.tools] if body.tools else None


def _tool_choice(body: ResponsesRequest) -> Any:
    match body.tool_choice:
        case NamedChoice(type="allowed_tools", mode=str() as mode, tools=list() as tools):
            return NamedToolChoice(allowed_tools=AllowedTools(mode=mode, tools=tools))
        case NamedChoice(name=str() as name):
            return NamedToolChoice(function=NamedFunction(name=name))
    return body.tool_choice
