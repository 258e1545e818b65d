"""Requests of Ollama's clients as the chat requests that mean the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.ollama.wire import (
    OllamaChatRequest,
    OllamaMessage,
    OllamaOptions,
    OllamaRequest,
    OllamaTool,
    OllamaToolChoice,
)
from stemma.server.wire.chat import ChatRequest, Message, ReasoningEffort
from stemma.server.wire.common import JsonObjectFormat, JsonSchemaFormat, JsonSchemaSpec, ResponseFormat
from stemma.server.wire.tools import FunctionCall, NamedFunction, NamedToolChoice, Tool, ToolCall, ToolChoice

DEFAULTS: Mapping[str, float] = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}
"""Ollama's, where neither the request nor the model's files say anything."""


def model_of(context: RequestContext[Service, Any], name: str) -> str:
    """The name, of a model that is served here. Raises ApiError, in the words that Ollama's clients look for."""
    if not name:
        raise bad_request("model is required", "model", "missing_required_parameter")
    service = context.service
    try:
        service.check_model(name)
    except ApiError as error:
        there = " and ".join((service.model_name, *service.loras))
        error.message = f"model '{name}' not found: there is {there}"
        raise
    return name


def sampling_of(body: OllamaRequest, service: Service) -> dict[str, Any]:
    """Fields of a generation request: how to sample, and how long. Raises ApiError."""
    options = _options(body)
    given = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    own = {name: value for name, value in DEFAULTS.items() if name not in service.engine.recommended}
    return {
        "model": body.model,
        "stream": body.stream,
        **own,
        **{name: value for name, value in given.items() if value is not None},
        "repetition_penalty": options.repeat_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "seed": options.seed if options.seed is None or options.seed >= 0 else None,
        "stop": options.stop,
        "max_tokens": options.num_predict if options.num_predict is None or options.num_predict >= 0 else None,
        "response_format": _format(body.format),
        **{name: getattr(body, name) for name in ("cache_salt", "priority", "ttft_ms", "next_use", "drafts")},
    }


def _options(body: OllamaRequest) -> OllamaOptions:
    """The options, and in a chat what is said beside them."""
    options = body.options or OllamaOptions()
    if isinstance(body, OllamaChatRequest):
        beside = (("temperature", body.temperature), ("top_p", body.top_p), ("num_predict", body.max_output_tokens))
        for name, value in beside:
            if getattr(options, name) is None:
                setattr(options, name, value)
    return options


def as_chat(context: RequestContext[Service, Any], body: OllamaRequest, messages: Sequence[Message]) -> ChatRequest:
    """A chat of these messages. Raises ApiError."""
    return ChatRequest(
        **sampling_of(body, context.service),
        messages=list(messages),
        logprobs=body.logprobs or None,
        top_logprobs=body.top_logprobs if body.logprobs else None,
        reasoning_effort=_effort(context, body),
        tools=_tools(body.tools) if isinstance(body, OllamaChatRequest) else None,
        tool_choice=_tool_choice(body) if isinstance(body, OllamaChatRequest) else None,
    )


def _format(given: str | dict[str, Any] | None) -> ResponseFormat | None:
    match given:
        case None | "":
            return None
        case "json":
            return JsonObjectFormat()
        case dict():
            return JsonSchemaFormat(json_schema=JsonSchemaSpec(schema=given))
    raise bad_request('format is "json" or a JSON schema', "format", "invalid_value")


def _effort(context: RequestContext[Service, Any], body: OllamaRequest) -> ReasoningEffort | None:
    """How much to think: true is a medium effort, for models that know more than one."""
    if body.think is None:
        return None
    if body.think is False:
        return "none"
    if context.service.prompter.tongue.reasoning is None:
        raise bad_request(f'"{body.model}" does not support thinking', "think", "unsupported_parameter")
    return "medium" if body.think is True else "high" if body.think == "max" else body.think


def _tools(given: Sequence[OllamaTool] | None) -> list[Tool] | None:
    return [Tool(function=tool.function, type="function") for tool in given or ()] or None


def _tool_choice(body: OllamaChatRequest) -> ToolChoice | None:
    match body.tool_choice:
        case OllamaToolChoice(name=str() as name) | OllamaToolChoice(function=NamedFunction(name=name)):
            return NamedToolChoice(function=NamedFunction(name=name))
        case "none" | "auto" | "required" as word:
            return word
    return None


def messages_of(given: Sequence[OllamaMessage]) -> list[Message]:
    """A chat's messages. Calls that come back without ids are given the same ones each time, and results find theirs by
    their functions' names, in the order of the calls."""
    messages: list[Message] = []
    open_calls: list[ToolCall] = []
    for index, message in enumerate(given):
        match message.role:
            case "assistant":
                calls = [_call(each, f"call_{index}_{at}") for at, each in enumerate(message.tool_calls or ())]
                open_calls = calls.copy()
                said = Message(role="assistant", content=message.content or "", tool_calls=calls or None)
                said.reasoning_content = message.thinking or None
                messages.append(said)
            case "tool":
                call_id = message.tool_call_id or _answered(open_calls, message.tool_name)
                open_calls = [call for call in open_calls if call.id != call_id]
                content, name = message.content or "", message.tool_name
                messages.append(Message(role="tool", content=content, name=name, tool_call_id=call_id))
            case "system" | "user" as role:
                messages.append(Message(role=role, content=message.content or ""))
    return messages


def _call(call: Any, made_id: str) -> ToolCall:
    arguments = json.dumps(call.function.arguments or {}, ensure_ascii=False, separators=(",", ":"))
    return ToolCall(id=call.id or made_id, function=FunctionCall(name=call.function.name, arguments=arguments))


def _answered(open_calls: Sequence[ToolCall], name: str | None) -> str | None:
    """The id of the first call of that function, or of any, that has no result yet."""
    named = [call.id for call in open_calls if name in (None, call.told.name)]
    return next(iter([*named, *(call.id for call in open_calls)]), None)
