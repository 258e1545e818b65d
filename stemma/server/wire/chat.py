"""A chat to continue: POST /v1/chat/completions as it comes over the wire, and what other dialects translate into."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from stemma.server.wire.common import Count, FunctionSpec, GenerationRequest, NumLogprobs, Wire

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


MAX_CALLS = 8
"""Calls in one answer, however many the client would take: a model that repeats itself has an end."""


class TextPart(Wire):
    """A piece of a message's content."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class FunctionCall(Wire):
    """A call that the model made; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCall(Wire):
    """One of an assistant message's calls."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"
    index: int | None = None


class Message(Wire):
    """One message. Fields of an answer that may come back as null or empty are taken as such."""

    role: Role
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    audio: None = None
    function_call: None = None


class Tool(Wire):
    """A function that is on offer."""

    function: FunctionSpec
    type: Literal["function"] = "function"


class NamedFunction(Wire):
    """A function by name."""

    name: str


class NamedToolChoice(Wire):
    """This function must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]

ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


class ChatRequest(GenerationRequest, kw_only=True):
    """A chat to continue."""

    messages: list[Message]
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None
    max_completion_tokens: Count | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: ReasoningEffort | None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
